/*
 * verify.c
 *	  Is the state in memory what the chunks say (invariant S2)?
 *
 * All chunks are read as if they were being loaded, but compared instead: each
 * group in memory must be, byte for byte, the newest version of it on disk, and
 * known to be in that chunk; each group on disk must be in memory, or be found
 * by its bucket; and what memory knows about chunks must be so.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "operator/shape.h"

typedef struct Place
{
	ItemPointerData tid; /* hash key */
	CqChunkNumber number;
	bool found;
} Place;

/* Passed through the scan. */
typedef struct VerifyScan
{
	CqOperator *operator;
	CqVerification check;
} VerifyScan;

static HTAB *places_collect(CqOperator *operator);
static void visit_chunk(void *arg, CqChunkData *chunk);
static bool is_closed(const CqState *state, TimestampTz start);
static void finish(CqOperator *operator, CqVerification * check);
static bool group_equals(CqOperator *operator, CqPane * pane, CqGroup *group, CqReader entry);
static void normalise(CqOperator *operator, CqPane * pane, StringInfo bytes);

char *
cq_operator_verify(CqOperator *operator, Relation chunks)
{
	CqState *state = operator->state;
	VerifyScan scan = {.operator= operator};
	int encoding = cq_client_encoding_pin();
	int i;

	if (!state->current || state->touched_groups > 0)
		return pstrdup("memory has changes that are not committed");
	if (!cq_chunklog_is_current(operator->log, chunks))
		return pstrdup("the chunk table was rewritten");
	PG_TRY();
	{
		scan.check.places = places_collect(operator);
		for (i = 0; i < state->npanes; i++)
			operator->ops->verify_begin(state->panes[i]);
		cq_chunklog_scan(operator->log,
						 chunks,
						 operator->ops->newest_first,
						 NULL,
						 visit_chunk,
						 &scan);
		finish(operator, & scan.check);
	}
	PG_FINALLY();
	{
		cq_client_encoding_restore(encoding);
	}
	PG_END_TRY();
	return scan.check.problem;
}

void
cq_verify_fail(CqVerification *check, char *problem)
{
	if (check->problem == NULL)
		check->problem = problem;
}

static HTAB *
places_collect(CqOperator *operator)
{
	HASHCTL control = {.keysize = sizeof(ItemPointerData),
					   .entrysize = sizeof(Place),
					   .hcxt = CurrentMemoryContext};
	HTAB *places =
		hash_create("pipeline chunks", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CqChunkNumber number;
	ItemPointerData tid;

	for (number = 1; cq_chunklog_place(operator->log, number, &tid); number++)
	{
		Place *place;

		CHECK_FOR_INTERRUPTS();
		if (!ItemPointerIsValid(&tid))
			continue;
		place = hash_search(places, &tid, HASH_ENTER, NULL);
		place->number = number;
		place->found = false;
	}
	return places;
}

static void
visit_chunk(void *arg, CqChunkData *chunk)
{
	VerifyScan *scan = arg;
	CqOperator *operator= scan->operator;
	CqVerification *check = &scan->check;
	Place *place = hash_search(check->places, &chunk->tids[0], HASH_FIND, NULL);
	CqPane *pane = cq_operator_pane(operator, chunk->pane);

	if (check->problem)
		return;
	if (place == NULL)
		cq_verify_fail(check,
					   psprintf("the chunk with number " INT64_FORMAT " of the table is not known",
								chunk->seq));
	else if (pane == NULL && is_closed(operator->state, chunk->pane))
		place->found = true; /* its chunks go with the next save */
	else if (pane == NULL)
		cq_verify_fail(check,
					   psprintf("chunk %u belongs to a window that is not open", place->number));
	else if (cq_chunklog_list(operator->log, place->number) != &pane->chunks)
		cq_verify_fail(check,
					   psprintf("chunk %u is taken for one of another window", place->number));
	else
	{
		place->found = true;
		chunk->number = place->number;
		operator->ops->verify(operator, pane, chunk, check);
	}
}

static bool
is_closed(const CqState *state, TimestampTz start)
{
	const CqPane *pane;

	for (pane = state->closed; pane; pane = pane->next)
		if (pane->start == start)
			return true;
	return false;
}

static void
finish(CqOperator *operator, CqVerification * check)
{
	CqState *state = operator->state;
	HASH_SEQ_STATUS sequence;
	Place *place;
	int i;

	hash_seq_init(&sequence, check->places);
	while ((place = hash_seq_search(&sequence)) != NULL)
		if (!place->found)
			cq_verify_fail(check, psprintf("chunk %u is not in the table", place->number));
	for (i = 0; i < state->npanes; i++)
		operator->ops->verify_end(operator, state->panes[i], check);
	if (check->ngroups != state->ngroups)
		cq_verify_fail(check,
					   psprintf("there are " INT64_FORMAT " groups or rows, not " INT64_FORMAT,
								check->ngroups,
								state->ngroups));
}

/* ------------------------------------------------------------------------
 * Groups
 * ------------------------------------------------------------------------
 */

void
cq_groups_verify_begin(CqPane *pane)
{
	CqGroupScan scan;
	CqGroup *group;

	cq_group_scan_begin(&scan, &pane->groups, 0, 0);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		group->flags &= ~CQ_GROUP_SEEN;
	}
}

void
cq_groups_verify(CqOperator *operator, CqPane * pane, CqChunkData *chunk, CqVerification *check)
{
	CqReader entry;
	uint32 hash;
	uint32 live = 0;
	uint32 known = cq_chunklog_live(operator->log, chunk->number);

	while (cq_chunk_next(chunk, &hash, &entry) && check->problem == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(operator->scratch);
		CqReader whole = entry;
		CqGroupRow row;
		CqGroup *group;
		CqChunkNumber bucket;
		const char *problem = NULL;
		int kind;

		MemoryContextReset(operator->scratch);
		kind = cq_group_get_key(operator, & entry, &row);
		group = cq_group_find_saved(operator, pane, kind, entry);
		bucket = cq_bucket_chunk(pane, hash);
		if (hash != operator->kinds[kind].codec->hash)
			problem = "has an entry with a wrong hash";
		else if (operator->sessions && cq_session_is_over(operator, entry))
			problem = NULL;
		else if (chunk->is_bucket && bucket != chunk->number)
			problem = "has a group that is not found by its bucket";
		else if (group == NULL && chunk->is_bucket)
			live++;
		else if (group == NULL && !(pane->buckets && cq_bucket_covers(pane, hash)))
			problem = "has a group that is not in memory";
		else if (group && !(group->flags & CQ_GROUP_SEEN))
		{
			group->flags |= CQ_GROUP_SEEN;
			live++;
			if (group->chunk != chunk->number)
				problem = "has a newer version of a group than the one that memory knows of";
			else if (!group_equals(operator, pane, group, whole))
				problem = "has a group that is different in memory";
		}
		MemoryContextSwitchTo(old);
		if (problem)
			cq_verify_fail(check, psprintf("chunk %u %s", chunk->number, problem));
	}
	check->ngroups += live;

	/* a bucket is kept although nothing in it may be of use: see cq_bucket_load() */
	if (live != known && !(chunk->is_bucket && live == 0 && known == 1))
		cq_verify_fail(check,
					   psprintf("chunk %u has %u entries that are of use, not %u",
								chunk->number,
								live,
								known));
}

static bool
group_equals(CqOperator *operator, CqPane * pane, CqGroup *group, CqReader entry)
{
	StringInfoData ours;
	StringInfoData theirs;

	initStringInfo(&ours);
	cq_group_put(operator, pane, group, &ours);
	if (ours.len == entry.end - entry.at && memcmp(ours.data, entry.at, ours.len) == 0)
		return true;
	if (operator->aggregates->flat)
		return false;
	/* an aggregate may write a state that it has read in another way */
	initStringInfo(&theirs);
	appendBinaryStringInfo(&theirs, entry.at, (int) (entry.end - entry.at));
	normalise(operator, pane, &ours);
	normalise(operator, pane, &theirs);
	return ours.len == theirs.len && memcmp(ours.data, theirs.data, ours.len) == 0;
}

/* Read an entry and write it again. */
static void
normalise(CqOperator *operator, CqPane * pane, StringInfo bytes)
{
	CqReader reader = {.at = bytes->data, .end = bytes->data + bytes->len};
	CqGroupRow row;
	CqGroup *group = cq_group_probe(operator, cq_group_get_key(operator, & reader, &row));

	cq_group_get(operator, pane, group, &row, &reader);
	resetStringInfo(bytes);
	cq_group_put(operator, pane, group, bytes);
}

void
cq_groups_verify_end(CqOperator *operator, CqPane * pane, CqVerification *check)
{
	CqGroupScan scan;
	CqGroup *group;

	cq_group_scan_begin(&scan, &pane->groups, 0, 0);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (!(group->flags & CQ_GROUP_SEEN))
			cq_verify_fail(check, pstrdup("memory has a group that is in no chunk"));
	}
}
