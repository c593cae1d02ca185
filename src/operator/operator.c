/*
 * operator.c
 *	  What all operators do: find the pane of an event, judge lateness, close
 *	  windows.
 *
 * Panes are kept in an array in order of their windows, so the one of an event
 * is found by comparing times; the window's bounds are only computed when it
 * is seen first.  Events come nearly in order, so mostly the pane is the one
 * used last.
 *
 * Sessions are not panes, as each group has its own: see session.c.  Neither are
 * count windows, see count.c.
 *
 * Hopping and cumulating windows overlap.  Usually panes are slices of them, which
 * slices.c knows about; if their states cannot be combined, each window has a pane,
 * and an event goes into several.  Cumulating windows begin together: the pane of
 * one is known by the start of the window's last step.
 *
 * Invariants
 *	O1. No two panes overlap, unless windows do and there is a pane to each; and
 *		none whose last window ends at or before closed_to is opened.
 *	O2. Between saves, the state is the chunk table plus the rows consumed; after
 *		a save the two are equal.
 *	O3. After an error the operator is thrown away; the state may stay, see
 *		state.c.
 *
 * Memory: what is remembered is in shared memory (CqState), bounded by what the
 * region gives (region.c); room.c says what happens when it gets short.  What is
 * built from the plan is in the operator's context, and so are transition values
 * that are not flat.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "operator/shape.h"
#include "window/window.h"

#define ROWS_PER_RESET 16

static uint64 identity(const CqPlan *plan);
static bool is_flat(const CqOperator *operator);
static uint64 layout(CqOperator *operator, uint64 identity, const CqPlan *plan);
static bool has_late_parts(const CqState *state);
static void copy_window(CqOperator *operator, const CqWindow * window);
static CqOutcome pane_find(CqOperator *operator, const CqEvent * event, CqMissed *missed);
static CqOutcome consume_in_each(CqOperator *operator, TupleTableSlot * row, const CqEvent *event,
								 CqMissed *missed);
static CqOutcome consume_in_session(CqOperator *operator, TupleTableSlot * row,
									const CqEvent *event, CqMissed *missed);
static inline void fold(CqOperator *operator, CqPane * pane, TupleTableSlot *row);
static bool window_is_late(CqOperator *operator, TimestampTz end, TimestampTz watermark);
static bool has_window_to(CqOperator *operator, const CqEvent * event, TimestampTz end);
static TimestampTz first_end_to_show(CqOperator *operator);

CqOperator *
cq_operator_create(const CqPlan *plan, const CqStoreKey *key, int64 epoch, Relation chunks,
				   int64 allowed_lateness_us, int64 keep_closed_us, TimestampTz closed_to,
				   MemoryContext context)
{
	return cq_operator_load(plan,
							key,
							epoch,
							chunks,
							allowed_lateness_us,
							keep_closed_us,
							closed_to,
							DT_NOBEGIN,
							DT_NOEND,
							context);
}

CqOperator *
cq_operator_load(const CqPlan *plan, const CqStoreKey *key, int64 epoch, Relation chunks,
				 int64 allowed_lateness_us, int64 keep_closed_us, TimestampTz closed_to,
				 TimestampTz after, TimestampTz upto, MemoryContext context)
{
	/* the transaction's until it is complete, so that an error leaves nothing behind */
	MemoryContext own =
		AllocSetContextCreate(CurTransactionContext, "pipeline operator", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(own);
	CqOperator *operator= cq_operator_shape(plan, own);
	int encoding;

	operator->allowed_lateness_us = allowed_lateness_us;
	operator->keep_closed_us = keep_closed_us;
	operator->shown_to = closed_to;
	operator->closed_to = cq_before(closed_to, keep_closed_us);
	operator->passing = key == NULL;
	operator->load_after = after;
	operator->load_upto = upto;
	if (operator->sliced)
		cq_slices_create(operator);
	operator->state = cq_state_attach(key,
									  layout(operator, operator->identity, plan),
									  epoch,
									  is_flat(operator),
									  chunks->rd_rel->relfilenode);
	operator->log = cq_chunklog_create(&operator->state->chunks, operator->identity, own);
	cq_operator_seed_keys(operator);

	encoding = cq_client_encoding_pin();
	PG_TRY();
	{
		operator->reused = operator->state->current;
		if (!operator->reused)
			cq_operator_read(operator, chunks, epoch);
#ifdef USE_ASSERT_CHECKING
		else
		{
			/* it may be what an abort left: see state.c */
			char *difference = cq_operator_verify(operator, chunks);

			if (difference)
				elog(PANIC, "operator state differs from its chunks: %s", difference);
		}
#endif
	}
	PG_FINALLY();
	{
		cq_client_encoding_restore(encoding);
	}
	PG_END_TRY();
	operator->late_parts = plan->divided || has_late_parts(operator->state);
	operator->current = cq_has_one_pane(operator) ? operator->state->panes[0] : NULL;
	if (operator->sessions && !operator->session_rows)
		cq_sessions_begin(operator);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(own, context);
	return operator;
}

CqOperator *
cq_operator_shape(const CqPlan *plan, MemoryContext own)
{
	MemoryContext old = MemoryContextSwitchTo(own);
	CqOperator *operator= palloc0(sizeof(CqOperator));
	static uint64 instances = 0;

	if (plan->shape == CQ_SHAPE_APPEND)
		elog(ERROR, "a query without state needs no operator");
	if (plan->shape == CQ_SHAPE_AGGREGATE)
		operator->ops = & cq_shape_aggregate;
	else if (plan->window.kind == CQ_WINDOW_SESSION)
		operator->ops = & cq_shape_session_rows;
	else if (plan->window.kind == CQ_WINDOW_COUNT)
		operator->ops = & cq_shape_count_rows;
	else
		operator->ops = & cq_shape_rows;
	operator->context = own;
	operator->instance =((uint64) MyProcPid << 32) | ++instances;
	operator->scratch =
		AllocSetContextCreate(own, "pipeline operator scratch", ALLOCSET_DEFAULT_SIZES);
	operator->emitting = AllocSetContextCreate(own, "pipeline closing pane", ALLOCSET_SMALL_SIZES);
	copy_window(operator, & plan->window);
	operator->sliced = plan->sliced;
	operator->divided = plan->divided;
	operator->overlapping = cq_window_overlaps(&plan->window) && !plan->sliced;
	operator->sessions = plan->window.kind == CQ_WINDOW_SESSION;
	operator->changes = plan->emit == CQ_EMIT_CHANGES && !plan->replaced;
	operator->replaces = plan->replaced;
	operator->fold_upto = DT_NOEND;
	operator->live_offset = - 1;
	operator->shows_open = plan->shows_open;
	operator->closed_desc = CreateTupleDescCopy(plan->closed_desc);
	initStringInfo(&operator->bytes);
	operator->ops->create(operator, plan);
	operator->identity = identity(plan);
	MemoryContextSwitchTo(old);
	return operator;
}

/* From a time when there were several operators. */
static bool
has_late_parts(const CqState *state)
{
	int i;

	for (i = 0; i < state->npanes; i++)
		if (state->panes[i]->is_late_part)
			return true;
	return false;
}

/* Is all that is remembered in the state, and nothing in memory of the operator's own? */
static bool
is_flat(const CqOperator *operator)
{
	if (operator->aggregates)
		return operator->aggregates->flat;
	return operator->session_rows == NULL && operator->count_rows == NULL;
}

/* A number that stands for everything which determines what the state in memory means. */
static uint64
layout(CqOperator *operator, uint64 whose, const CqPlan *plan)
{
	StringInfoData text;
	int i;

	initStringInfo(&text);
	appendBinaryStringInfo(&text, (char *) &whose, sizeof(whose));
	for (i = 0; i < plan->nkeys && plan->shape == CQ_SHAPE_AGGREGATE; i++)
		appendStringInfo(&text,
						 "%u %u %u,",
						 plan->keys[i].type,
						 plan->keys[i].collation,
						 plan->keys[i].equality_operator);
	for (i = 0; i < operator->nkinds; i++)
		appendStringInfo(&text,
						 "%u %u,",
						 operator->kinds[i].layout.states_offset,
						 operator->kinds[i].layout.key_offset);
	return hash_bytes_extended((unsigned char *) text.data, text.len, 0);
}

void
cq_operator_begin(CqOperator *operator, Relation chunks)
{
	/* before anything is looked for on disk; the lock that the caller has keeps it so */
	cq_chunklog_check(operator->log, chunks);
	operator->relation = chunks;
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

bool
cq_operator_is_empty(const CqOperator *operator)
{
	return operator->state->ngroups ==
		0 &&(cq_has_one_pane(operator) || operator->state->npanes == 0);
}

bool
cq_operator_suits(const CqOperator *operator, const CqPlan * plan)
{
	return cq_operator_is_empty(operator) || operator->identity == identity(plan);
}

void
cq_operator_destroy(CqOperator *operator)
{
	if (operator->passing)
		cq_state_discard(operator->state);
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
	if (plan->window.kind == CQ_WINDOW_SESSION && plan->shape == CQ_SHAPE_ROWS)
		appendStringInfoString(&text, "ranges;");
	if (plan->window.processing)
		appendStringInfoString(&text, "processing;");
	if (plan->window.kind == CQ_WINDOW_COUNT)
		appendStringInfo(&text,
						 INT64_FORMAT " " INT64_FORMAT ";",
						 plan->window.size_events,
						 plan->window.slide_events);
	if (cq_window_overlaps(&plan->window))
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
	operator->retracting = event->retracts;
	if (operator->window.kind != CQ_WINDOW_NONE && operator->window.kind != CQ_WINDOW_COUNT)
	{
		if (!event->has_time)
			return CQ_NO_TIME;
		if (operator->sessions)
			return consume_in_session(operator, row, event, missed);
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
	if (missed->n > 0)
		operator->current = NULL; /* the next event may be late for others */
	return CQ_COUNTED;
}

static CqOutcome
consume_in_session(CqOperator *operator, TupleTableSlot * row, const CqEvent *event,
				   CqMissed *missed)
{
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	CqOutcome outcome;

	slot_getallattrs(row);
	if (operator->session_rows)
		outcome =
			cq_session_rows_consume(operator, row->tts_values, row->tts_isnull, event, missed);
	else
		outcome = cq_sessions_find(operator, row->tts_values, row->tts_isnull, event, missed);
	MemoryContextSwitchTo(old);
	if (outcome == CQ_COUNTED)
		fold(operator, operator->current, row);
	return outcome;
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
	if (operator->rows >= operator->next_check)
		cq_operator_check_private(operator);
}

/* Make the pane of an event the current one, opening it if need be, unless the event is late. */
static CqOutcome
pane_find(CqOperator *operator, const CqEvent * event, CqMissed *missed)
{
	int place = cq_pane_search(operator, event->time);
	bool found =
		place < operator->state->npanes && operator->state->panes[place]->start <= event->time;

	if (found)
	{
		missed->start = operator->state->panes[place]->start;
		missed->end = operator->state->panes[place]->end;
	}
	else if (!cq_window_find(&operator->window, event->time, &missed->start, &missed->end))
		return CQ_NO_TIME;
	if (missed->end <= operator->closed_to ||
					   window_is_late(operator, missed->end, event->watermark))
	{
		missed->n = 1;
		return CQ_LATE;
	}
	operator->current = found ? operator->state->panes[place]
		: cq_pane_open(operator, place, missed->start, missed->end);
	operator->current->last_used = ++ operator->state->uses;
	return CQ_COUNTED;
}

/* Fold a row into each of its windows that it is not late for. */
static CqOutcome
consume_in_each(CqOperator *operator, TupleTableSlot * row, const CqEvent *event, CqMissed *missed)
{
	TimestampTz watermark =
		Max(cq_before(event->watermark, operator->allowed_lateness_us), operator->closed_to);
	int64 windows;
	int64 i;

	if (!cq_hop_missed(operator, event->time, watermark, missed, &windows))
		return CQ_NO_TIME;
	for (i = missed->n; i < windows; i++)
	{
		TimestampTz end = missed->end + i * missed->end_slide_us;
		TimestampTz start = cq_pane_own_start(operator, end);
		int place = cq_pane_search_start(operator, start);
		CqPane *pane;

		CHECK_FOR_INTERRUPTS();
		if (end > operator->fold_upto)
			break;
		if (place < operator->state->npanes && operator->state->panes[place]->start == start)
			pane = operator->state->panes[place];
		else
			pane = cq_pane_open(operator, place, start, end);
		fold(operator, pane, row);
	}
	return missed->n == windows ? CQ_LATE : CQ_COUNTED;
}

/* The event is taken for one that came in time, before anything closed. */
bool
cq_operator_apply(CqOperator *operator, TupleTableSlot * row, const CqEvent *event,
				  TimestampTz upto)
{
	CqEvent timely = *event;
	CqOutcome outcome;
	CqMissed missed;

	Assert((operator->changes || operator->replaces) && operator->window.kind != CQ_WINDOW_NONE);
	timely.watermark = DT_NOBEGIN;
	if (!has_window_to(operator, event, upto))
		return false;
	operator->fold_upto = upto;
	outcome = cq_operator_consume(operator, row, &timely, &missed);
	operator->fold_upto = DT_NOEND;
	return outcome == CQ_COUNTED;
}

/* Does one of the event's windows end then? */
static bool
has_window_to(CqOperator *operator, const CqEvent * event, TimestampTz end)
{
	CqMissed first;
	int64 windows = 1;

	if (!event->has_time)
		return false;
	first.end_slide_us = 1;
	if (operator->overlapping
			? !cq_hop_missed(operator, event->time, DT_NOBEGIN, &first, &windows)
			: !cq_window_find(&operator->window, event->time, &first.start, &first.end))
		return false;
	return end >= first.end && (end - first.end) % first.end_slide_us == 0 &&
		   (end - first.end) / first.end_slide_us < windows;
}

TimestampTz
cq_operator_kept_from(CqOperator *operator)
{
	return operator->closed_to;
}

/* Was a window complete, and its time of grace over, at this watermark? */
static bool
window_is_late(CqOperator *operator, TimestampTz end, TimestampTz watermark)
{
	/* no overflow: both are timestamps or the infinities */
	return watermark >= end &&
		   (uint64) watermark - (uint64) end >= (uint64) operator->allowed_lateness_us;
}

/* ------------------------------------------------------------------------
 * Windows out
 * ------------------------------------------------------------------------
 */

TimestampTz
cq_operator_first_end(CqOperator *operator)
{
	if (operator->window.kind == CQ_WINDOW_NONE || operator->state->npanes == 0)
		return DT_NOEND;
	if (operator->counts)
		return cq_counts_first_end(operator);
	if (operator->count_rows)
		return cq_count_rows_first_end(operator);
	if (operator->sessions)
		return cq_sessions_first_end(operator);
	if (operator->changes || operator->replaces)
		return first_end_to_show(operator);
	return operator->sliced ? cq_slices_first_end(operator) : operator->state->panes[0]->end;
}

/* What is complete is kept for a while, but nothing happens to it unless events come. */
static TimestampTz
first_end_to_show(CqOperator *operator)
{
	int place = cq_pane_search(operator, operator->shown_to);

	return place < operator->state->npanes ? operator->state->panes[place]->end : DT_NOEND;
}

TimestampTz
cq_operator_last_end(CqOperator *operator)
{
	if (operator->window.kind == CQ_WINDOW_NONE || operator->state->npanes == 0)
		return DT_NOBEGIN;
	if (operator->window.kind == CQ_WINDOW_COUNT)
		return DT_NOBEGIN;
	if (operator->sessions)
		return cq_sessions_last_end(operator);
	return operator->state->panes[operator->state->npanes - 1]->last_end;
}

void
cq_operator_leave(CqOperator *operator, TimestampTz watermark, Tuplestorestate *rows)
{
	TimestampTz to = cq_before(watermark, operator->keep_closed_us);
	int n = 0;

	if (operator->session_rows)
		cq_session_rows_leave(operator, to);
	else if (operator->sessions)
		cq_sessions_leave(operator, to, rows);
	for (; n < operator->state->npanes && operator->state->panes[n]->end <= to; n++)
	{
		CqPane *pane = operator->state->panes[n];
		TimestampTz start = cq_pane_window_start(operator, pane);

		if (rows == NULL)
			continue;
		/* what final functions do to the states is not taken back by an abort */
		operator->state->current = false;
		operator->ops->emit(operator, pane, start, pane->end, rows);
	}
	if (n > 0)
		cq_panes_close(operator, n);
	operator->shown_to = Max(operator->shown_to, watermark);
	operator->closed_to = Max(operator->closed_to, to);
}

bool
cq_operator_keeps(const CqOperator *operator)
{
	if (operator->sessions)
		return operator->state->ngroups> 0;
	return !cq_has_one_pane(operator) && operator->state->npanes> 0;
}

int
cq_operator_close(CqOperator *operator, TimestampTz watermark, Tuplestorestate *rows)
{
	CqState *state = operator->state;
	int n = 0;

	if (operator->window.kind == CQ_WINDOW_NONE)
		return 0;
	if (operator->session_rows)
		return cq_session_rows_close(operator, watermark, rows);
	if (operator->counts)
		return cq_counts_close(operator, rows);
	if (operator->count_rows)
		return cq_count_rows_close(operator, rows);
	if (operator->sessions)
		return cq_sessions_close(operator, watermark, rows);
	if (operator->sliced)
		return cq_slices_close(operator, watermark, rows);
	for (; n < state->npanes && state->panes[n]->end <= watermark; n++)
	{
		CqPane *pane = state->panes[n];

		CHECK_FOR_INTERRUPTS();
		operator->ops->emit(operator, pane, cq_pane_window_start(operator, pane), pane->end, rows);
	}
	cq_panes_close(operator, n);
	operator->current = NULL;
	operator->closed_to = Max(operator->closed_to, watermark);
	return n;
}

TimestampTz
cq_pane_window_start(const CqOperator *operator, const CqPane * pane)
{
	return operator->overlapping ? cq_window_start(&operator->window, pane->end) : pane->start;
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
			case CQ_KEY_WINDOW_NUMBER:
			case CQ_KEY_VALUE:
				break;
		}
	}
	MemoryContextSwitchTo(old);
}

void
cq_operator_stats(CqOperator *operator, CqOperatorStats * stats)
{
	CqState *state = operator->state;
	CqRegionRoom region;

	cq_region_room(state->store, &region);
	stats->groups = state->ngroups;
	if (operator->sliced)
		stats->open_windows = cq_slices_open_windows(operator);
	else if (operator->session_rows)
		stats->open_windows = cq_session_rows_open(operator);
	else if (operator->sessions)
		stats->open_windows = state->ngroups;
	else
		stats->open_windows = cq_has_one_pane(operator) ? 0 : state->npanes;
	stats->memory_bytes = region.used;
	stats->chunk_bytes = state->chunks.stored;
	stats->live_chunk_bytes = state->chunks.live;
	stats->deleted_chunk_bytes = state->chunks.deleted;
	stats->chunk_digest = state->chunks.digest;
	stats->evictions = state->evictions;
	stats->loads = state->loads;
	stats->reused = operator->reused;
}
