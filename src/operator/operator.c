/*
 * operator.c
 *	  What all operators do: find the pane of an event, judge lateness, close
 *	  windows, save and load.
 *
 * Panes are kept in an array in order of their windows, so the one of an event
 * is found by comparing times; the window's bounds are only computed when it
 * is seen first.  Events come nearly in order, so mostly the pane is the one
 * used last.
 *
 * Hopping windows overlap.  Usually panes are slices of them, which slices.c
 * knows about; if their states cannot be combined, each window has a pane, and
 * an event goes into several.
 *
 * Invariants
 *	O1. No two panes overlap, unless windows do and there is a pane to each; and
 *		none whose last window ends at or before closed_to is opened.
 *	O2. Between saves, memory is the chunk table plus the rows consumed; after
 *		a save the two are equal.
 *	O3. An error in the middle of anything leaves the operator unusable; its
 *		owner throws it away and creates it anew from the chunk table.
 *
 * Memory: operator context > one context per pane > transition values.  The
 * size of all of it is measured now and then and held against
 * pipeline.state_memory.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "errors.h"
#include "operator/shape.h"
#include "settings.h"
#include "window/window.h"

#define ARENA_FIRST_BLOCK (4 * 1024)
#define ARENA_LAST_BLOCK  (256 * 1024)
#define ROWS_PER_RESET	  16
#define ROWS_PER_CHECK	  1024
#define BYTES_PER_CHECK	  (2 * 1024 * 1024)

static uint64 identity(const CqPlan *plan);
static void copy_window(CqOperator *operator, const CqWindow * window);
static void load(CqOperator *operator, Relation chunks);
static bool load_wanted(void *arg, int64 start);
static CqLoaded load_entry(void *arg, int64 start, CqReader *entry);
static CqPane *pane_to_load(CqOperator *operator, int64 start);
static bool pane_bounds(CqOperator *operator, int64 start, CqPane *pane);
static CqOutcome pane_find(CqOperator *operator, const CqEvent * event, CqMissed *missed);
static CqOutcome consume_in_each(CqOperator *operator, TupleTableSlot * row, const CqEvent *event,
								 CqMissed *missed);
static inline void fold(CqOperator *operator, CqPane * pane, TupleTableSlot *row);
static CqPane *pane_open(CqOperator *operator, int place, TimestampTz start, TimestampTz end);
static bool window_is_late(CqOperator *operator, TimestampTz end, TimestampTz watermark);
static void rewrite_entry(void *arg, int64 start, CqEntry *entry);
static void save(CqOperator *operator, Relation chunks);
static void check_memory(CqOperator *operator);

CqOperator *
cq_operator_create(const CqPlan *plan, Relation chunks, int64 allowed_lateness_us,
				   TimestampTz closed_to, MemoryContext context)
{
	return cq_operator_load(plan,
							chunks,
							allowed_lateness_us,
							closed_to,
							DT_NOBEGIN,
							DT_NOEND,
							context);
}

CqOperator *
cq_operator_load(const CqPlan *plan, Relation chunks, int64 allowed_lateness_us,
				 TimestampTz closed_to, TimestampTz after, TimestampTz upto, MemoryContext context)
{
	/* the transaction's until it is complete, so that an error leaves nothing behind */
	MemoryContext own =
		AllocSetContextCreate(CurTransactionContext, "pipeline operator", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(own);
	CqOperator *operator= palloc0(sizeof(CqOperator));
	int encoding;

	if (plan->shape == CQ_SHAPE_APPEND)
		elog(ERROR, "a query without state needs no operator");
	operator->ops = plan->shape == CQ_SHAPE_ROWS ? &cq_shape_rows : & cq_shape_aggregate;
	operator->context = own;
	operator->scratch =
		AllocSetContextCreate(own, "pipeline operator scratch", ALLOCSET_DEFAULT_SIZES);
	copy_window(operator, & plan->window);
	operator->sliced = plan->sliced;
	operator->overlapping = plan->window.kind == CQ_WINDOW_HOP && !plan->sliced;
	operator->changes = plan->emit == CQ_EMIT_CHANGES;
	operator->allowed_lateness_us = allowed_lateness_us;
	operator->closed_to = closed_to;
	operator->load_after = after;
	operator->load_upto = upto;
	operator->closed_desc = CreateTupleDescCopy(plan->closed_desc);
	operator->panes_capacity = 16;
	operator->panes = palloc(operator->panes_capacity * sizeof(CqPane *));
	operator->next_check = ROWS_PER_CHECK;
	operator->next_gid = 1;
	operator->ops->create(operator, plan);
	if (operator->sliced)
		cq_slices_create(operator);
	operator->log = cq_chunklog_create(identity(plan), own);

	encoding = cq_client_encoding_pin();
	PG_TRY();
	{
		load(operator, chunks);
	}
	PG_FINALLY();
	{
		cq_client_encoding_restore(encoding);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(own, context);
	return operator;
}

void
cq_operator_check(const CqPlan *plan)
{
	int i;

	if (plan->shape == CQ_SHAPE_AGGREGATE)
	{
		for (i = 0; i < plan->nkeys; i++)
			if (plan->keys[i].role == CQ_KEY_VALUE)
				cq_codec_check(plan->keys[i].type);
	}
	else if (plan->shape == CQ_SHAPE_ROWS)
	{
		for (i = plan->nkeys; i < plan->closed_desc->natts; i++)
			cq_codec_check(TupleDescAttr(plan->closed_desc, i)->atttypid);
	}
}

void
cq_operator_destroy(CqOperator *operator)
{
	MemoryContextDelete(operator->context);
}

static void
copy_window(CqOperator *operator, const CqWindow * window)
{
	operator->window = * window;
	if (window->unit)
		operator->window.unit = pstrdup(window->unit);
	if (window->zone)
		operator->window.zone = pstrdup(window->zone);
}

/*
 * A number that stands for everything which determines what saved entries
 * mean.  Types and aggregates go in by name, as OIDs do not outlive a dump.
 */
static uint64
identity(const CqPlan *plan)
{
	StringInfoData text;
	int i;

	initStringInfo(&text);
	appendStringInfo(&text, "%d %d;", (int) plan->shape, (int) plan->emit);
	appendStringInfo(&text,
					 "%d %u " INT64_FORMAT " " INT64_FORMAT " %s %s;",
					 (int) plan->window.kind,
					 plan->window.time_type,
					 plan->window.size_us,
					 plan->window.origin_us,
					 plan->window.unit ? plan->window.unit : "",
					 plan->window.zone ? plan->window.zone : "");
	if (plan->window.kind == CQ_WINDOW_HOP)
		appendStringInfo(&text, INT64_FORMAT " %d;", plan->window.slide_us, (int) plan->sliced);
	if (plan->shape == CQ_SHAPE_ROWS)
	{
		for (i = plan->nkeys; i < plan->closed_desc->natts; i++)
			appendStringInfo(&text,
							 "%s;",
							 format_type_extended(TupleDescAttr(plan->closed_desc, i)->atttypid,
												  -1,
												  FORMAT_TYPE_FORCE_QUALIFY));
	}
	else
	{
		for (i = 0; i < plan->nkeys; i++)
			appendStringInfo(&text,
							 "%d %s;",
							 (int) plan->keys[i].role,
							 format_type_extended(plan->keys[i].type,
												  -1,
												  FORMAT_TYPE_FORCE_QUALIFY));
		cq_aggregates_describe(plan, &text);
	}
	return hash_bytes_extended((unsigned char *) text.data, text.len, 0);
}

/* ------------------------------------------------------------------------
 * Events in
 * ------------------------------------------------------------------------
 */

CqOutcome
cq_operator_consume(CqOperator *operator, TupleTableSlot * row, const CqEvent *event,
					CqMissed *missed)
{
	CqPane *pane = operator->current;

	missed->n = 0;
	if (operator->window.kind != CQ_WINDOW_NONE)
	{
		if (!event->has_time)
			return CQ_NO_TIME;
		if (operator->overlapping)
			return consume_in_each(operator, row, event, missed);
		if (pane == NULL || event->time < pane->start || event->time >= pane->end ||
			window_is_late(operator, pane->first_end, event->watermark))
		{
			CqOutcome outcome = operator->sliced ? cq_slices_find(operator, event, missed)
												 : pane_find(operator, event, missed);

			if (outcome != CQ_COUNTED)
				return outcome;
			pane = operator->current;
		}
	}
	fold(operator, pane, row);
	return CQ_COUNTED;
}

static inline void
fold(CqOperator *operator, CqPane * pane, TupleTableSlot *row)
{
	MemoryContext old;

	slot_getallattrs(row);
	if (++operator->rows % ROWS_PER_RESET == 0)
		MemoryContextReset(operator->scratch);
	old = MemoryContextSwitchTo(operator->scratch);
	operator->ops->fold(operator, pane, row->tts_values, row->tts_isnull);
	MemoryContextSwitchTo(old);
	if (operator->rows >= operator->next_check || operator->unchecked> BYTES_PER_CHECK)
		check_memory(operator);
}

/* Make the pane of an event the current one, opening it if need be, unless the event is late. */
static CqOutcome
pane_find(CqOperator *operator, const CqEvent * event, CqMissed *missed)
{
	int place = cq_pane_search(operator, event->time);
	bool found = place < operator->npanes && operator->panes[place]->start <= event->time;

	if (found)
	{
		missed->start = operator->panes[place]->start;
		missed->end = operator->panes[place]->end;
	}
	else if (!cq_window_find(&operator->window, event->time, &missed->start, &missed->end))
		return CQ_NO_TIME;
	if (missed->end <= operator->closed_to ||
					   window_is_late(operator, missed->end, event->watermark))
	{
		missed->n = 1;
		return CQ_LATE;
	}
	operator->current = found ? operator->panes[place]
		: pane_open(operator, place, missed->start, missed->end);
	return CQ_COUNTED;
}

/* Fold a row into each of its windows that it is not late for. */
static CqOutcome
consume_in_each(CqOperator *operator, TupleTableSlot * row, const CqEvent *event, CqMissed *missed)
{
	TimestampTz watermark = Max(event->watermark, operator->closed_to);
	int64 windows;
	int64 i;

	if (!cq_hop_missed(operator, event->time, watermark, missed, &windows))
		return CQ_NO_TIME;
	for (i = missed->n; i < windows; i++)
	{
		TimestampTz start = missed->start + i * missed->slide_us;
		int place = cq_pane_search_start(operator, start);
		CqPane *pane;

		CHECK_FOR_INTERRUPTS();
		if (place < operator->npanes && operator->panes[place]->start == start)
			pane = operator->panes[place];
		else
			pane = pane_open(operator, place, start, missed->end + i * missed->slide_us);
		fold(operator, pane, row);
	}
	return missed->n == windows ? CQ_LATE : CQ_COUNTED;
}

int
cq_pane_search(CqOperator *operator, TimestampTz time)
{
	int low = 0;
	int high = operator->npanes;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (operator->panes[middle]->end <= time)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int
cq_pane_search_start(CqOperator *operator, TimestampTz start)
{
	int low = 0;
	int high = operator->npanes;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (operator->panes[middle]->start<start)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static CqPane *
pane_open(CqOperator *operator, int place, TimestampTz start, TimestampTz end)
{
	CqPane *pane = cq_pane_create(operator, start, end);

	cq_pane_insert(operator, place, pane);
	return pane;
}

CqPane *
cq_pane_create(CqOperator *operator, TimestampTz start, TimestampTz end)
{
	MemoryContext context =
		AllocSetContextCreate(operator->context, "pipeline pane", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CqPane *pane = palloc0(sizeof(CqPane));

	pane->start = start;
	pane->end = end;
	pane->first_end = end;
	pane->last_end = end;
	pane->context = context;
	pane->arena.block_size = ARENA_FIRST_BLOCK;
	dlist_init(&pane->chunks);
	operator->ops->init_pane(operator, pane);
	MemoryContextSwitchTo(old);
	return pane;
}

void
cq_pane_insert(CqOperator *operator, int place, CqPane *pane)
{
	if (operator->npanes == operator->panes_capacity)
	{
		operator->panes_capacity *= 2;
		operator->panes =
			repalloc_huge(operator->panes, operator->panes_capacity * sizeof(CqPane *));
	}
	memmove(&operator->panes[place + 1],
			&operator->panes[place],
			(operator->npanes - place) * sizeof(CqPane *));
	operator->panes[place] = pane;
	operator->npanes++;
	Assert(place == 0 || operator->overlapping || operator->panes[place - 1]->end <= pane->start);
	Assert(
		place ==
		operator->npanes - 1 || operator->overlapping || operator->panes[place + 1]->start >=
		pane->end);
}

void
cq_pane_free(CqOperator *operator, CqPane * pane)
{
	operator->groups -= pane->ngroups;
	operator->ops->free_pane(pane);
	MemoryContextDelete(pane->context);
}

/* Was a window complete, and its time of grace over, at this watermark? */
static bool
window_is_late(CqOperator *operator, TimestampTz end, TimestampTz watermark)
{
	/* no overflow: both are timestamps or the infinities */
	return watermark >= end &&
		   (uint64) watermark - (uint64) end >= (uint64) operator->allowed_lateness_us;
}

void *
cq_pane_alloc(CqOperator *operator, CqPane * pane, Size n)
{
	CqArena *arena = &pane->arena;
	void *result;

	n = MAXALIGN(n);
	if (n > arena->left)
	{
		if (n > arena->block_size / 4)
		{
			/* too large to share a block */
			operator->unchecked += n;
			return MemoryContextAllocHuge(pane->context, n);
		}
		arena->at = MemoryContextAlloc(pane->context, arena->block_size);
		arena->left = arena->block_size;
		operator->unchecked += arena->block_size;
		arena->block_size = Min(arena->block_size * 2, ARENA_LAST_BLOCK);
	}
	result = arena->at;
	arena->at += n;
	arena->left -= n;
	return result;
}

static void
check_memory(CqOperator *operator)
{
	Size bytes = MemoryContextMemAllocated(operator->context, true);

	if (bytes > (Size) cq_state_memory_kb * 1024 && operator->sliced)
	{
		/* what can be made again goes first */
		cq_slices_forget(operator);
		bytes = MemoryContextMemAllocated(operator->context, true);
	}

	/* measuring visits every context, of which there may be one per group */
	operator->next_check = operator->rows + Max(ROWS_PER_CHECK, operator->groups / 8);
	operator->unchecked = 0;
	if (bytes > (Size) cq_state_memory_kb * 1024)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("operator state does not fit into memory"),
				errdetail("The state of " INT64_FORMAT " groups in %d panes takes %zu kB; "
						  "the limit is %d kB.",
						  operator->groups,
						  operator->npanes,
						  bytes / 1024,
						  cq_state_memory_kb),
				errhint("Increase \"pipeline.state_memory\", or let the query keep fewer groups "
						"or shorter windows."));
}

/* ------------------------------------------------------------------------
 * Windows out
 * ------------------------------------------------------------------------
 */

TimestampTz
cq_operator_first_end(CqOperator *operator)
{
	if (operator->window.kind == CQ_WINDOW_NONE || operator->npanes == 0)
		return DT_NOEND;
	return operator->sliced ? cq_slices_first_end(operator) : operator->panes[0]->end;
}

TimestampTz
cq_operator_last_end(CqOperator *operator)
{
	if (operator->window.kind == CQ_WINDOW_NONE || operator->npanes == 0)
		return DT_NOBEGIN;
	return operator->panes[operator->npanes - 1]->last_end;
}

int
cq_operator_close(CqOperator *operator, TimestampTz watermark, Tuplestorestate *rows)
{
	int n = 0;

	if (operator->window.kind == CQ_WINDOW_NONE)
		return 0;
	if (operator->sliced)
		return cq_slices_close(operator, watermark, rows);
	for (; n < operator->npanes && operator->panes[n]->end <= watermark; n++)
	{
		CHECK_FOR_INTERRUPTS();
		operator->ops->emit(operator,
							operator->panes[n],
							operator->panes[n]->start,
							operator->panes[n]->end,
							rows);
	}
	cq_panes_drop(operator, n);
	operator->closed_to = Max(operator->closed_to, watermark);
	return n;
}

void
cq_panes_drop(CqOperator *operator, int n)
{
	int i;

	for (i = 0; i < n; i++)
	{
		CqPane *pane = operator->panes[i];

		cq_chunklog_drop(operator->log, &pane->chunks);
		cq_pane_free(operator, pane);
	}
	operator->npanes -= n;
	memmove(operator->panes, &operator->panes[n], operator->npanes * sizeof(CqPane *));
	operator->current = NULL;
}

CqPane *
cq_pane_at(CqOperator *operator, TimestampTz start, TimestampTz end)
{
	int place = cq_pane_search_start(operator, start);

	if (place < operator->npanes && operator->panes[place]->start == start)
		return operator->panes[place];
	return pane_open(operator, place, start, end);
}

void
cq_window_values(CqOperator *operator, MemoryContext context, TimestampTz start, TimestampTz end)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	int i;

	for (i = 0; i < operator->nkeys; i++)
	{
		operator->nulls[i] = false;
		switch (operator->keys[i].role)
		{
			case CQ_KEY_WINDOW_RANGE:
				operator->values[i] = cq_window_range(operator->window.time_type, start, end);
				break;
			case CQ_KEY_WINDOW_START:
				operator->values[i] =
					TimestampTzGetDatum(cq_window_label(&operator->window, start));
				break;
			case CQ_KEY_WINDOW_END:
				operator->values[i] = TimestampTzGetDatum(end);
				break;
			case CQ_KEY_VALUE:
				break;
		}
	}
	MemoryContextSwitchTo(old);
}

/* ------------------------------------------------------------------------
 * To disk and back
 * ------------------------------------------------------------------------
 */

void
cq_operator_save(CqOperator *operator, Relation chunks)
{
	int encoding = cq_client_encoding_pin();

	PG_TRY();
	{
		save(operator, chunks);
	}
	PG_FINALLY();
	{
		cq_client_encoding_restore(encoding);
	}
	PG_END_TRY();
	check_memory(operator);
}

static void
save(CqOperator *operator, Relation chunks)
{
	int i;

	cq_chunklog_begin(operator->log, chunks);
	if (operator->ops->rewrite)
		cq_chunklog_clean(operator->log, rewrite_entry, operator);
	for (i = 0; i < operator->npanes; i++)
	{
		CHECK_FOR_INTERRUPTS();
		operator->ops->save(operator, operator->panes[i]);
		cq_chunklog_flush(operator->log);
	}
	cq_chunklog_end(operator->log);
}

static void
rewrite_entry(void *arg, int64 start, CqEntry *entry)
{
	CqOperator *operator= arg;
	CqPane *pane = operator->current;

	if (pane == NULL || pane->start != start)
	{
		pane = operator->panes[cq_pane_search_start(operator, start)];
		operator->current = pane;
	}
	Assert(pane->start == start);
	operator->ops->rewrite(pane, entry);
}

static void
load(CqOperator *operator, Relation chunks)
{
	if (operator->window.kind == CQ_WINDOW_NONE)
		operator->current = pane_open(operator, 0, 0, DT_NOEND);
	cq_chunklog_load(operator->log,
					 chunks,
					 operator->ops->newest_first,
					 operator->load_after == DT_NOBEGIN && operator->load_upto == DT_NOEND
						 ? NULL
						 : load_wanted,
					 load_entry,
					 operator,
					 operator->scratch);
	check_memory(operator);
}

static bool
load_wanted(void *arg, int64 start)
{
	CqOperator *operator= arg;
	TimestampTz window_start;
	TimestampTz window_end;

	/* what is wrong with a window that is not found is said when it is loaded */
	return !cq_window_find(&operator->window, start, &window_start, &window_end) ||
		   (window_end > operator->load_after && window_end <= operator->load_upto);
}

static CqLoaded
load_entry(void *arg, int64 start, CqReader *entry)
{
	CqOperator *operator= arg;
	CqPane *pane = operator->current;
	CqLoaded loaded;

	if (pane == NULL || pane->start != start)
	{
		pane = pane_to_load(operator, start);
		operator->current = pane;
	}
	loaded = operator->ops->load(operator, pane, entry);
	loaded.chunks = &pane->chunks;
	if (entry->at != entry->end)
		cq_reader_damaged();
	if (++operator->rows >= operator->next_check || operator->unchecked> BYTES_PER_CHECK)
		check_memory(operator);
	return loaded;
}

/* The pane that a saved entry belongs to, by the start of its window or slice. */
static CqPane *
pane_to_load(CqOperator *operator, int64 start)
{
	CqPane bounds = {0};
	CqPane *pane;
	int place;

	if (operator->window.kind == CQ_WINDOW_NONE)
	{
		if (start != 0)
			cq_reader_damaged();
		return operator->panes[0];
	}
	place = cq_pane_search_start(operator, start);
	if (place < operator->npanes && operator->panes[place]->start == start)
		return operator->panes[place];

	if (!pane_bounds(operator, start, &bounds) || bounds.start != start)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("operator state has a window that does not begin where windows begin"),
				errdetail("Its start is " INT64_FORMAT ".", start),
				errhint("The rules of the window's time zone may have changed."));
	if (bounds.last_end <= operator->closed_to)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("operator state has a window that was closed"),
				errdetail("The window's start is " INT64_FORMAT
						  ", windows are closed up to " INT64_FORMAT ".",
						  start,
						  operator->closed_to));
	pane = pane_open(operator, place, bounds.start, bounds.end);
	pane->first_end = bounds.first_end;
	pane->last_end = bounds.last_end;
	pane->number = bounds.number;
	return pane;
}

/* Where the pane that begins at a time lies; false if none can begin there. */
static bool
pane_bounds(CqOperator *operator, int64 start, CqPane *pane)
{
	const CqWindow *window = &operator->window;
	int64 first;

	if (operator->sliced)
		return cq_slices_place(operator, start, pane);
	if (operator->overlapping)
	{
		if (!cq_hop_windows(start,
							window->size_us,
							window->slide_us,
							window->origin_us,
							&first,
							&pane->start))
			return false;
		pane->end = pane->start + window->size_us;
	}
	else if (!cq_window_find(window, start, &pane->start, &pane->end))
		return false;
	pane->first_end = pane->last_end = pane->end;
	return true;
}

/*
 * Binary output and input functions convert text to the client's encoding and
 * from it.  What they write for us stays in the database's.
 */
int
cq_client_encoding_pin(void)
{
	int encoding = pg_get_client_encoding();

	if (encoding == GetDatabaseEncoding())
		return -1;
	SetClientEncoding(GetDatabaseEncoding());
	return encoding;
}

void
cq_client_encoding_restore(int encoding)
{
	if (encoding >= 0)
		SetClientEncoding(encoding);
}

void
cq_operator_stats(CqOperator *operator, CqOperatorStats * stats)
{
	int i;

	stats->groups = operator->groups;
	stats->open_windows = operator->window.kind == CQ_WINDOW_NONE ? 0 : operator->npanes;
	if (operator->sliced)
	{
		/* not what is combined and can be made again */
		stats->groups = 0;
		for (i = 0; i < operator->npanes; i++)
			stats->groups += operator->panes[i]->ngroups;
		stats->open_windows = cq_slices_open_windows(operator);
	}
	stats->memory_bytes = MemoryContextMemAllocated(operator->context, true);
	cq_chunklog_sizes(operator->log, &stats->chunk_bytes, &stats->live_chunk_bytes);
}
