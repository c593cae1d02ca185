/*
 * count_rows.c
 *	  Count windows that keep their rows, for queries that cannot be kept as
 *	  aggregates' states.
 *
 * What a count window is, is count.c's rule.  Here a group has the list of its rows
 * from the first one of its first window that was not given out, each with its number
 * among the group's events.  A window is complete when the group has had the event
 * that ends it, and is given out at the end of the checkpoint.  Rows that no further
 * window has are forgotten then, but for the last one: its number says how many events
 * there were.
 *
 * Where rows change each window that is open is given out, too, when it has got rows.
 * It is known by the number of its first row among all, which is never used again,
 * as the last row of all is the last of its group.
 *
 * All is in the worker's own memory.  In the chunks there are the rows, those of use
 * and those that have been forgotten and are in a chunk with others; what is
 * forgotten follows from the number of the group's last one.
 *
 * Invariants
 *	N3. Chunks have every row of each window that was not given out, and the last of
 *		each group.
 *	N4. A row that is of use is in the chunk that it names, or in none yet.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "compat.h"
#include "operator/kept_log.h"

/* Rows of complete windows that may wait for the end of a checkpoint. */
#define WAITING_BYTES_MAX (16 * 1024 * 1024)

/* A row that a group has; the tuple follows. */
typedef struct KeptRow
{
	CqKeptEntry entry;
	struct CountGroup *group;
	struct KeptRow *next; /* in its group */
	int64 number;		  /* of the group's event */
	int64 id;			  /* among all rows */
} KeptRow;

#define ROW_TUPLE(row) ((MinimalTuple) ((char *) (row) + MAXALIGN(sizeof(KeptRow))))

typedef struct CountGroup
{
	struct CountGroup *next; /* of those whose keys have this hash */
	struct CountGroup *next_touched;
	bool is_touched;
	bool is_behind; /* its open windows were not shown as they are */
	int64 events;
	int64 next_window; /* the first that was not given out */
	KeptRow *rows;
	KeptRow *last_row;
	uint32 key_size;
	/* the key follows */
} CountGroup;

/* What a chunk has of a row. */
typedef struct Entry
{
	int64 number;
	int64 id;
	bool is_behind; /* the group was, when the row was saved */
	Datum *values;
	bool *nulls;
} Entry;

#define GROUP_KEY(group) ((char *) (group) + MAXALIGN(sizeof(CountGroup)))

typedef struct HashChain
{
	uint32 hash;
	char status;
	CountGroup *groups;
} HashChain;

#define SH_PREFIX			 groups
#define SH_ELEMENT_TYPE		 HashChain
#define SH_KEY_TYPE			 uint32
#define SH_KEY				 hash
#define SH_HASH_KEY(tb, key) murmurhash32(key)
#define SH_EQUAL(tb, a, b)	 ((a) == (b))
#define SH_SCOPE			 static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct CqCountRows
{
	int64 size;
	int64 slide;
	MemoryContext context; /* of groups and rows */
	CqKeyCodec *codec;
	groups_hash *groups;
	CountGroup *touched; /* since the last checkpoint */
	Size waiting_bytes;	 /* of rows since then */
	bool any_complete;	 /* since then, has a window become complete? */
	CqKeptLog log;
};

static void create(CqOperator *operator, const CqPlan * plan);
static void init_pane(CqOperator *operator, CqPane * pane);
static void fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls);
static CountGroup *group_find(CqCountRows *own);
static CountGroup *group_create(CqCountRows *own);
static KeptRow *row_create(CqOperator *operator, CountGroup * group, const Datum *values,
						   const bool *nulls);
static void row_insert(CountGroup *group, KeptRow *row);
static inline bool is_complete(const CqCountRows *own, const CountGroup *group, int64 window);
static int64 first_open(const CqCountRows *own, const CountGroup *group);
static int complete_put(CqOperator *operator, CountGroup * group, Tuplestorestate *rows);
static KeptRow *window_put(CqOperator *operator, CountGroup * group, int64 window,
						   Tuplestorestate *rows);
static void group_forget(CqOperator *operator, CountGroup * group);
static int group_replace(CqOperator *operator, CountGroup * group, bool refresh,
						 CqReplaceWindow give_out, void *arg);
static void window_replace(CqOperator *operator, CountGroup * group, int64 window,
						   CqReplaceWindow give_out, void *arg);
static void behind_replace(CqOperator *operator, CqReplaceWindow give_out, void *arg);
static void touched_end(CqCountRows *own);
static void save(CqOperator *operator, CqPane * pane);
static void row_put(CqOperator *operator, const CqKeptEntry * entry);
static void entry_read(CqOperator *operator, CqReader * reader, Entry *entry);
static void rewrite(CqOperator *operator, CqPane * pane, CqChunkData *chunk);
static void load(CqOperator *operator, CqPane * pane, CqChunkData *chunk);
static void verify_begin(CqPane *pane);
static void verify(CqOperator *operator, CqPane * pane, CqChunkData *chunk, CqVerification *check);
static void verify_end(CqOperator *operator, CqPane * pane, CqVerification *check);

const CqShapeOps cq_shape_count_rows = {
	.newest_first = false,
	.create = create,
	.init_pane = init_pane,
	.fold = fold,
	.save = save,
	.rewrite = rewrite,
	.load = load,
	.verify_begin = verify_begin,
	.verify = verify,
	.verify_end = verify_end,
};

static void
create(CqOperator *operator, const CqPlan * plan)
{
	CqCountRows *own = palloc0(sizeof(CqCountRows));

	cq_shape_rows.create(operator, plan);
	own->size = plan->window.size_events;
	own->slide = plan->window.slide_events;
	own->context =
		AllocSetContextCreate(operator->context, "pipeline count windows", ALLOCSET_DEFAULT_SIZES);
	own->codec = cq_kept_log_codec(operator, plan);
	own->groups = groups_create(operator->context, 256, NULL);
	cq_kept_log_init(&own->log);
	operator->count_rows = own;
}

static void
init_pane(CqOperator *operator, CqPane * pane)
{
}

/* ------------------------------------------------------------------------
 * Events in
 * ------------------------------------------------------------------------
 */

static void
fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls)
{
	CqCountRows *own = operator->count_rows;
	CountGroup *group;
	KeptRow *row;

	cq_key_pack(own->codec, values, nulls);
	group = group_find(own);
	if (group == NULL)
		group = group_create(own);
	row = row_create(operator, group, values + 1, nulls + 1);
	row->number = ++group->events;
	row->id = operator->state->next_gid++;
	row_insert(group, row);
	cq_kept_log_add(&own->log, &row->entry);
	own->waiting_bytes += ROW_TUPLE(row)->t_len;
	if (!group->is_touched)
	{
		group->is_touched = true;
		group->next_touched = own->touched;
		own->touched = group;
	}
	own->any_complete = own->any_complete || is_complete(own, group, group->next_window);
	operator->state->ngroups++;
	operator->state->touched_groups++;
	operator->state->changed = true;
}

/* The group of the key packed last; NULL if there is none. */
static CountGroup *
group_find(CqCountRows *own)
{
	HashChain *chain = groups_lookup(own->groups, own->codec->hash);
	CountGroup *group;

	for (group = chain ? chain->groups : NULL; group; group = group->next)
		if (cq_key_equals(own->codec, GROUP_KEY(group), group->key_size))
			return group;
	return NULL;
}

static CountGroup *
group_create(CqCountRows *own)
{
	CqKeyCodec *codec = own->codec;
	CountGroup *group =
		MemoryContextAllocZero(own->context,
							   MAXALIGN(sizeof(CountGroup)) + CQ_KEY_LENGTH(codec->size));
	HashChain *chain;
	bool was_there;

	group->next_window = 1;
	group->key_size = codec->size;
	memcpy(GROUP_KEY(group), codec->bytes, CQ_KEY_LENGTH(codec->size));
	chain = groups_insert(own->groups, codec->hash, &was_there);
	group->next = was_there ? chain->groups : NULL;
	chain->groups = group;
	return group;
}

static KeptRow *
row_create(CqOperator *operator, CountGroup * group, const Datum *values, const bool *nulls)
{
	TupleDesc desc = operator->stored_desc;
	MinimalTuple tuple;
	KeptRow *row;
	int i;

	for (i = 0; i < desc->natts; i++)
	{
		Datum value = values[i];

		/* rows outlive what they point to: TOAST tables, expanded objects */
		if (!nulls[i] && TupleDescAttr(desc, i)->attlen == -1 &&
			VARATT_IS_EXTERNAL(DatumGetPointer(value)))
			value = PointerGetDatum(PG_DETOAST_DATUM(value));
		operator->values[i] = value;
		operator->nulls[i] = nulls[i];
	}
	tuple = cq_compat_form_minimal_tuple(desc, operator->values, operator->nulls);
	row =
		MemoryContextAlloc(operator->count_rows->context, MAXALIGN(sizeof(KeptRow)) + tuple->t_len);
	memset(row, 0, sizeof(KeptRow));
	row->group = group;
	memcpy(ROW_TUPLE(row), tuple, tuple->t_len);
	pfree(tuple);
	return row;
}

/* Rows come in order, but for those that were written again in between. */
static void
row_insert(CountGroup *group, KeptRow *row)
{
	KeptRow **link = &group->rows;

	if (group->last_row && group->last_row->number < row->number)
		link = &group->last_row->next;
	else
		while (*link && (*link)->number < row->number)
			link = &(*link)->next;
	row->next = *link;
	*link = row;
	if (row->next == NULL)
		group->last_row = row;
}

/* Has the group had the event that ends a window? */
static inline bool
is_complete(const CqCountRows *own, const CountGroup *group, int64 window)
{
	return (window - 1) * own->slide + own->size <= group->events;
}

static int64
first_open(const CqCountRows *own, const CountGroup *group)
{
	return group->events < own->size ? 1 : (group->events - own->size) / own->slide + 2;
}

/* ------------------------------------------------------------------------
 * Windows out
 * ------------------------------------------------------------------------
 */

TimestampTz
cq_count_rows_first_end(const CqOperator *operator)
{
	return operator->count_rows->any_complete ? DT_NOBEGIN : DT_NOEND;
}

bool
cq_count_rows_are_many(const CqOperator *operator)
{
	return operator->count_rows->waiting_bytes> WAITING_BYTES_MAX;
}

int
cq_count_rows_close(CqOperator *operator, Tuplestorestate * rows)
{
	CqCountRows *own = operator->count_rows;
	int closed = 0;
	CountGroup *group;

	for (group = own->touched; group; group = group->next_touched)
	{
		CHECK_FOR_INTERRUPTS();
		closed += complete_put(operator, group, rows);
		group_forget(operator, group);
	}
	touched_end(own);
	return closed;
}

static int
complete_put(CqOperator *operator, CountGroup * group, Tuplestorestate *rows)
{
	int closed = 0;

	for (; is_complete(operator->count_rows, group, group->next_window); group->next_window++)
	{
		(void) window_put(operator, group, group->next_window, rows);
		closed++;
	}
	return closed;
}

/* The rows that a window has; returns the first. */
static KeptRow *
window_put(CqOperator *operator, CountGroup * group, int64 window, Tuplestorestate *rows)
{
	int64 before = (window - 1) * operator->count_rows->slide;
	int n = operator->stored_desc->natts;
	KeptRow *first = NULL;
	KeptRow *row;

	Assert(operator->nkeys == 1);
	operator->values[0] = Int64GetDatum(window);
	operator->nulls[0] = false;
	for (row = group->rows; row && row->number <= before + operator->count_rows->size;
		 row = row->next)
	{
		if (row->number <= before)
			continue;
		if (first == NULL)
			first = row;
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ROW_TUPLE(row), operator->slot, false);
		slot_getallattrs(operator->slot);
		memcpy(&operator->values[1], operator->slot->tts_values, n * sizeof(Datum));
		memcpy(&operator->nulls[1], operator->slot->tts_isnull, n * sizeof(bool));
		tuplestore_putvalues(rows, operator->closed_desc, operator->values, operator->nulls);
	}
	ExecClearTuple(operator->slot);
	return first;
}

/* Rows that no window will have any more, but for the last. */
static void
group_forget(CqOperator *operator, CountGroup * group)
{
	int64 before = (group->next_window - 1) * operator->count_rows->slide;

	while (group->rows != group->last_row && group->rows->number <= before)
	{
		KeptRow *row = group->rows;

		group->rows = row->next;
		cq_kept_log_let_go(operator, & operator->count_rows->log, &row->entry);
	}
}

static void
touched_end(CqCountRows *own)
{
	while (own->touched)
	{
		CountGroup *group = own->touched;

		own->touched = group->next_touched;
		group->is_touched = false;
	}
	own->waiting_bytes = 0;
	own->any_complete = false;
}

int
cq_count_rows_replace(CqOperator *operator, bool refresh, CqReplaceWindow give_out, void *arg)
{
	CqCountRows *own = operator->count_rows;
	int closed = 0;
	CountGroup *group;

	for (group = own->touched; group; group = group->next_touched)
	{
		CHECK_FOR_INTERRUPTS();
		closed += group_replace(operator, group, refresh, give_out, arg);
		group_forget(operator, group);
	}
	touched_end(own);
	if (refresh && operator->state->panes[0]->behind)
		behind_replace(operator, give_out, arg);
	return closed;
}

static int
group_replace(CqOperator *operator, CountGroup * group, bool refresh, CqReplaceWindow give_out,
			  void *arg)
{
	CqCountRows *own = operator->count_rows;
	int closed = 0;
	int64 window;

	for (; is_complete(own, group, group->next_window); group->next_window++)
	{
		window_replace(operator, group, group->next_window, give_out, arg);
		closed++;
	}
	group->is_behind = !refresh;
	if (!refresh)
		operator->state->panes[0]->behind = true;
	for (window = group->next_window; refresh && (window - 1) * own->slide < group->events;
		 window++)
		window_replace(operator, group, window, give_out, arg);
	return closed;
}

static void
window_replace(CqOperator *operator, CountGroup * group, int64 window, CqReplaceWindow give_out,
			   void *arg)
{
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);
	KeptRow *first = window_put(operator, group, window, rows);

	Assert(first != NULL);
	give_out(arg, first->id, first->entry.chunk == 0, rows);
	tuplestore_end(rows);
}

/* What was put off. */
static void
behind_replace(CqOperator *operator, CqReplaceWindow give_out, void *arg)
{
	groups_iterator iterator;
	HashChain *chain;
	CountGroup *group;

	groups_start_iterate(operator->count_rows->groups, &iterator);
	while ((chain = groups_iterate(operator->count_rows->groups, &iterator)) != NULL)
		for (group = chain->groups; group; group = group->next)
			if (group->is_behind)
				(void) group_replace(operator, group, true, give_out, arg);
	operator->state->panes[0]->behind = false;
}

/* ------------------------------------------------------------------------
 * To disk and back
 * ------------------------------------------------------------------------
 */

static void
save(CqOperator *operator, CqPane * pane)
{
	cq_kept_log_save(operator, pane, &operator->count_rows->log, row_put);
}

static void
row_put(CqOperator *operator, const CqKeptEntry * entry)
{
	const KeptRow *row = (const KeptRow *) entry;
	char is_behind = row->group->is_behind;

	ExecStoreMinimalTuple(ROW_TUPLE(row), operator->slot, false);
	slot_getallattrs(operator->slot);
	resetStringInfo(&operator->bytes);
	appendBinaryStringInfo(&operator->bytes, (char *) &row->number, sizeof(row->number));
	appendBinaryStringInfo(&operator->bytes, (char *) &row->id, sizeof(row->id));
	appendStringInfoChar(&operator->bytes, is_behind);
	cq_codec_put_row(operator->codecs,
					 operator->stored_desc->natts,
					 &operator->bytes,
					 operator->slot->tts_values,
					 operator->slot->tts_isnull);
	ExecClearTuple(operator->slot);
}

/* An entry, its values behind a place for the ordinal. */
static void
entry_read(CqOperator *operator, CqReader * reader, Entry *entry)
{
	int natts = operator->stored_desc->natts;

	memcpy(&entry->number, cq_reader_take(reader, sizeof(int64)), sizeof(int64));
	memcpy(&entry->id, cq_reader_take(reader, sizeof(int64)), sizeof(int64));
	entry->is_behind = *(const char *) cq_reader_take(reader, 1) != 0;
	entry->values = palloc((natts + 1) * sizeof(Datum));
	entry->nulls = palloc((natts + 1) * sizeof(bool));
	cq_codec_get_row(operator->codecs, natts, reader, entry->values + 1, entry->nulls + 1);
	if (reader->at != reader->end)
		cq_reader_damaged();
	cq_key_pack(operator->count_rows->codec, entry->values, entry->nulls);
}

static void
rewrite(CqOperator *operator, CqPane * pane, CqChunkData *chunk)
{
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	uint32 live = cq_chunklog_live(operator->log, chunk->number);
	CqChunkNumber from = chunk->number;
	CqReader reader;
	uint32 hash;

	while (live > 0 && cq_chunk_next(chunk, &hash, &reader))
	{
		CqReader whole = reader;
		Entry entry;
		CountGroup *group;
		KeptRow *row;

		entry_read(operator, & reader, &entry);
		group = group_find(operator->count_rows);
		for (row = group ? group->rows : NULL; row && row->number != entry.number; row = row->next)
			;
		if (row && row->entry.chunk == from)
		{
			row->entry.chunk = cq_chunklog_append(operator->log,
												  &pane->chunks,
												  chunk->pane,
												  0,
												  whole.at,
												  whole.end - whole.at);
			cq_chunklog_release(operator->log, from);
			live--;
		}
		MemoryContextReset(operator->scratch);
	}
	if (live > 0)
		cq_reader_damaged();
	MemoryContextSwitchTo(old);
}

static void
load(CqOperator *operator, CqPane * pane, CqChunkData *chunk)
{
	CqChunkNumber number = cq_chunklog_register(operator->log, chunk, &pane->chunks);
	CqReader reader;
	uint32 hash;

	cq_chunklog_registered(operator->log, number, chunk->nentries);
	while (cq_chunk_next(chunk, &hash, &reader))
	{
		MemoryContext old = MemoryContextSwitchTo(operator->scratch);
		CountGroup *group;
		KeptRow *row;
		Entry entry;

		entry_read(operator, & reader, &entry);
		group = group_find(operator->count_rows);
		if (group == NULL)
			group = group_create(operator->count_rows);
		row = row_create(operator, group, entry.values + 1, entry.nulls + 1);
		row->number = entry.number;
		row->id = entry.id;
		row->entry.chunk = number;
		row_insert(group, row);
		if (row == group->last_row)
		{
			group->events = row->number;
			group->is_behind = entry.is_behind;
		}
		operator->state->next_gid = Max(operator->state->next_gid, row->id + 1);
		operator->state->ngroups++;
		operator->rows++;
		MemoryContextSwitchTo(old);
		MemoryContextReset(operator->scratch);
	}
}

void
cq_count_rows_loaded(CqOperator *operator)
{
	CqCountRows *own = operator->count_rows;
	groups_iterator iterator;
	HashChain *chain;
	CountGroup *group;

	groups_start_iterate(own->groups, &iterator);
	while ((chain = groups_iterate(own->groups, &iterator)) != NULL)
		for (group = chain->groups; group; group = group->next)
		{
			CHECK_FOR_INTERRUPTS();
			group->next_window = first_open(own, group);
			group_forget(operator, group);
			if (group->is_behind)
				operator->state->panes[0]->behind = true;
		}
}

/* ------------------------------------------------------------------------
 * Verification: as many rows of each chunk in memory as the chunk has that are of use
 * ------------------------------------------------------------------------
 */

static void
verify_begin(CqPane *pane)
{
}

static void
verify(CqOperator *operator, CqPane * pane, CqChunkData *chunk, CqVerification *check)
{
	CqCountRows *own = operator->count_rows;
	uint32 found = 0;
	groups_iterator iterator;
	HashChain *chain;
	CountGroup *group;
	KeptRow *row;

	groups_start_iterate(own->groups, &iterator);
	while ((chain = groups_iterate(own->groups, &iterator)) != NULL)
		for (group = chain->groups; group; group = group->next)
			for (row = group->rows; row; row = row->next)
				found += row->entry.chunk == chunk->number;
	cq_kept_log_verify(operator, & own->log, chunk, found, check);
}

static void
verify_end(CqOperator *operator, CqPane * pane, CqVerification *check)
{
	cq_kept_log_verify_end(&operator->count_rows->log, check);
}
