/*
 * group_saved.c
 *	  Groups to the entries of chunks and back.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "operator/shape.h"

/* Beside the number of a group's row in its entry. */
#define ROW_MISSING (INT64CONST(1) << 62) /* there is none yet */
#define ROW_BEHIND	(INT64CONST(1) << 61) /* the group has changed since it was written */

static void row_put(CqOperator *operator, const CqGroupRow * row, StringInfo out);
static bool shows_incomplete(const CqOperator *operator);
static void kept_put(CqOperator *operator, CqPane * pane, CqGroup *group, StringInfo out);
static void kept_get(CqOperator *operator, CqPane * pane, CqGroup *group, CqReader *entry);
static uint32 load_log(CqOperator *operator, CqPane * pane, CqChunkData *chunk,
					   CqChunkNumber number);

void
cq_group_put(CqOperator *operator, CqPane * pane, CqGroup *group, StringInfo out)
{
	if (operator->nkinds> 1)
		appendStringInfoCharMacro(out, (char) group->kind);
	if (cq_groups_have_rows(operator) && group->kind == 0)
		row_put(operator, cq_group_row(group), out);
	cq_key_put(operator->kinds[group->kind].codec,
			   out,
			   cq_group_key(operator, group),
			   group->key_size);
	kept_put(operator, pane, group, out);
}

static void
row_put(CqOperator *operator, const CqGroupRow * row, StringInfo out)
{
	int64 word = row->gid;

	if (cq_groups_tell_rows(operator))
		word |= (row->exists ? 0 : ROW_MISSING) | (row->behind ? ROW_BEHIND : 0);
	appendBinaryStringInfo(out, (char *) &word, sizeof(word));
}

/* What is saved of a group besides its key. */
static void
kept_put(CqOperator *operator, CqPane * pane, CqGroup *group, StringInfo out)
{
	if (operator->counts)
	{
		cq_counts_put(operator, pane, group, out);
		return;
	}
	if (group->kind > 0 || operator->aggregates->all_fast)
	{
		appendBinaryStringInfo(out,
							   cq_group_kept(operator, group),
							   (int) operator->kinds[group->kind].layout.states_size);
		return;
	}
	appendBinaryStringInfo(out, cq_group_kept(operator, group), (int) operator->states_skip);
	cq_aggregates_put(operator->aggregates,
					  cq_group_states(operator, group),
					  cq_pane_memory(operator, pane),
					  out);
}

int
cq_group_get_key(CqOperator *operator, CqReader * entry, CqGroupRow *row)
{
	uint8 kind = 0;

	if (operator->nkinds> 1)
		kind = *(uint8 *) cq_reader_take(entry, sizeof(kind));
	if (kind >= operator->nkinds)
		cq_reader_damaged();
	if (cq_groups_have_rows(operator) && kind == 0)
	{
		int64 word;

		memset(row, 0, sizeof(CqGroupRow));
		memcpy(&word, cq_reader_take(entry, sizeof(word)), sizeof(word));
		row->gid = word & ~(ROW_MISSING | ROW_BEHIND);
		row->exists = (word & ROW_MISSING) == 0;
		row->behind = (word & ROW_BEHIND) != 0;
		ItemPointerSetInvalid(&row->tid);
	}
	cq_key_get(operator->kinds[kind].codec, entry);
	return kind;
}

void
cq_group_get(CqOperator *operator, CqPane * pane, CqGroup *group, const CqGroupRow *row,
			 CqReader *entry)
{
	if (cq_groups_have_rows(operator) && group->kind == 0)
	{
		*cq_group_row(group) = *row;
		if (!cq_groups_tell_rows(operator))
			cq_group_row(group)->exists = pane->end <= operator->shown_to;
		operator->state->next_gid = Max(operator->state->next_gid, row->gid + 1);
	}
	kept_get(operator, pane, group, entry);
	if (cq_groups_have_rows(operator) && group->kind == 0 && cq_groups_tell_rows(operator) &&
		shows_incomplete(operator) && cq_group_is_behind(operator, group))
		pane->behind = true;
	if (entry->at != entry->end)
		cq_reader_damaged();
}

static bool
shows_incomplete(const CqOperator *operator)
{
	return operator->shows_open || operator->window.kind == CQ_WINDOW_NONE;
}

static void
kept_get(CqOperator *operator, CqPane * pane, CqGroup *group, CqReader *entry)
{
	Size size = operator->kinds[group->kind].layout.states_size;

	if (operator->counts)
		cq_counts_get(operator, pane, group, entry);
	else if (group->kind > 0 || operator->aggregates->all_fast)
		memcpy(cq_group_kept(operator, group), cq_reader_take(entry, size), size);
	else
	{
		size = operator->states_skip;
		memcpy(cq_group_kept(operator, group), cq_reader_take(entry, size), size);
		cq_aggregates_get(operator->aggregates,
						  cq_group_states(operator, group),
						  cq_pane_memory(operator, pane),
						  entry);
	}
}

/* Values cannot be freed one by one, so those that are left go through bytes to other memory. */
void
cq_groups_renew_memory(CqOperator *operator, CqPane * pane)
{
	ExprContext *before = pane->memory;
	MemoryContext old = MemoryContextSwitchTo(operator->context);
	ExprContext *fresh = cq_aggregates_memory(operator->aggregates);
	CqGroupScan scan;
	CqGroup *group;

	MemoryContextSwitchTo(operator->scratch);
	cq_group_scan_begin(&scan, &pane->groups, 0, 0);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		CqReader reader;

		CHECK_FOR_INTERRUPTS();
		if (group->flags & CQ_GROUP_GONE)
			continue;
		resetStringInfo(&operator->bytes);
		pane->memory = before;
		kept_put(operator, pane, group, &operator->bytes);
		reader.at = operator->bytes.data;
		reader.end = operator->bytes.data + operator->bytes.len;
		pane->memory = fresh;
		kept_get(operator, pane, group, &reader);
		MemoryContextReset(operator->scratch);
	}
	pane->memory = fresh;
	MemoryContextSwitchTo(old);
	cq_aggregates_free_memory(before);
}

void
cq_groups_save(CqOperator *operator, CqPane * pane)
{
	int64 number = cq_pane_number(operator, pane);
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	CqTouched *touched;
	int n = 0;

	for (touched = pane->touched; touched; touched = touched->next)
	{
		CqGroup *group = touched->group;
		CqChunkNumber obsolete = group->chunk;

		if (group->flags & CQ_GROUP_GONE)
			continue;
		if (group->flags & CQ_GROUP_IN_BUCKET)
		{
			/* it was written there just now */
			group->flags &= ~(CQ_GROUP_DIRTY | CQ_GROUP_NEW);
			continue;
		}
		resetStringInfo(&operator->bytes);
		cq_group_put(operator, pane, group, &operator->bytes);
		group->chunk = cq_chunklog_append(operator->log,
										  &pane->chunks,
										  number,
										  group->hash,
										  operator->bytes.data,
										  operator->bytes.len);
		if (obsolete)
			cq_chunklog_release(operator->log, obsolete);
		group->flags &= ~(CQ_GROUP_DIRTY | CQ_GROUP_NEW);
		if (++n % 64 == 0)
		{
			CHECK_FOR_INTERRUPTS();
			MemoryContextReset(operator->scratch);
		}
	}
	pane->touched = NULL;
	for (touched = pane->gone; touched; touched = touched->next)
		if (touched->group->chunk)
		{
			cq_chunklog_release(operator->log, touched->group->chunk);
			touched->group->chunk = 0;
		}
	cq_groups_drop_empty(operator, pane);
	MemoryContextSwitchTo(old);
	MemoryContextReset(operator->scratch);
}

void
cq_groups_rewrite(CqOperator *operator, CqPane * pane, CqChunkData *chunk)
{
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	uint32 live = cq_chunklog_live(operator->log, chunk->number);
	CqChunkNumber from = chunk->number;
	CqReader entry;
	uint32 hash;

	while (live > 0 && cq_chunk_next(chunk, &hash, &entry))
	{
		CqReader whole = entry;
		CqGroupRow row;
		int kind = cq_group_get_key(operator, & entry, &row);
		CqGroup *group = cq_group_find_saved(operator, pane, kind, entry);

		if (group == NULL || group->chunk != from)
			continue;
		group->chunk = cq_chunklog_append(operator->log,
										  &pane->chunks,
										  chunk->pane,
										  hash,
										  whole.at,
										  whole.end - whole.at);
		cq_chunklog_release(operator->log, from);
		live--;
	}
	if (live > 0)
		cq_reader_damaged();
	MemoryContextSwitchTo(old);
	MemoryContextReset(operator->scratch);
}

void
cq_groups_load(CqOperator *operator, CqPane * pane, CqChunkData *chunk)
{
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);

	if (chunk->is_bucket)
		cq_bucket_load(operator, pane, chunk);
	else
	{
		CqChunkNumber number = cq_chunklog_register(operator->log, chunk, &pane->chunks);

		cq_chunklog_registered(operator->log, number, load_log(operator, pane, chunk, number));
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(operator->scratch);
}

/* Take in the entries of a log chunk that are not obsolete; returns how many. */
static uint32
load_log(CqOperator *operator, CqPane * pane, CqChunkData *chunk, CqChunkNumber number)
{
	CqReader entry;
	uint32 hash;
	uint32 live = 0;

	while (cq_chunk_next(chunk, &hash, &entry))
	{
		CqGroupRow row;
		CqGroup *group;
		int kind = cq_group_get_key(operator, & entry, &row);

		if (hash != operator->kinds[kind].codec->hash)
			cq_reader_damaged();
		if (operator->sessions && cq_session_is_over(operator, entry))
			continue;
		if ((pane->buckets && cq_bucket_covers(pane, hash)) ||
			cq_group_find_saved(operator, pane, kind, entry))
			continue;
		group = cq_group_create(operator, pane, kind);
		group->chunk = number;
		cq_group_get(operator, pane, group, &row, &entry);
		pane->ngroups++;
		operator->state->ngroups++;
		operator->rows++;
		live++;
	}
	return live;
}
