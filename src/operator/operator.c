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
 * region gives (region.c).  What is built from the plan is in the operator's
 * context, and so are transition values that are not flat; their size is
 * measured now and then, and taken out of the region's account.
 *
 * When memory gets short, a save gives up what is on disk anyway, or writes it
 * so that it can be found there: panes that were not used for longest first.
 * In between, a checkpoint ends early when little is left; and if even that is
 * too late, it is undone and repeated with fewer events.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "errors.h"
#include "operator/shape.h"
#include "window/window.h"

#define ROWS_PER_RESET 16
#define ROWS_PER_CHECK 1024

/* Parts of its limit that a view should have left: after a save, and to go on with a checkpoint. */
#define ROOM_AFTER_SAVE 4
#define ROOM_TO_GO_ON	8

static uint64 identity(const CqPlan *plan);
static uint64 layout(CqOperator *operator, uint64 identity, const CqPlan *plan);
static void copy_window(CqOperator *operator, const CqWindow * window);
static void load(CqOperator *operator, Relation chunks, int64 epoch);
static void set_layouts(CqOperator *operator);
static void seed_keys(CqOperator *operator);
static bool load_wanted(void *arg, int64 start);
static void load_chunk(void *arg, CqChunkData *chunk);
static CqPane *pane_to_load(CqOperator *operator, int64 start);
static bool pane_bounds(CqOperator *operator, int64 start, CqPane *pane);
static CqOutcome pane_find(CqOperator *operator, const CqEvent * event, CqMissed *missed);
static CqOutcome consume_in_each(CqOperator *operator, TupleTableSlot * row, const CqEvent *event,
								 CqMissed *missed);
static CqOutcome consume_in_session(CqOperator *operator, TupleTableSlot * row,
									const CqEvent *event, CqMissed *missed);
static inline void fold(CqOperator *operator, CqPane * pane, TupleTableSlot *row);
static CqPane *pane_open(CqOperator *operator, int place, TimestampTz start, TimestampTz end);
static void bounds_copy(CqPane *pane, const CqPane *bounds);
static bool window_is_late(CqOperator *operator, TimestampTz end, TimestampTz watermark);
static void save(CqOperator *operator, Relation chunks);
static void drop_closed(CqOperator *operator);
static void rewrite(CqOperator *operator, CqPane * pane, CqChunkNumber *victims, int nvictims);
static void evict(CqOperator *operator, CqEvict first, CqEvict last);
static bool enough_given_up(CqOperator *operator, CqEvict how);
static void give_up_everything(CqOperator *operator);
static int compare_uses(const void *a, const void *b);
static Size left_of_limit(const CqRegionRoom *region, int keep, Size soon_free);
static Size room(CqOperator *operator, const CqRegionRoom * region);
static void private_memory_check(CqOperator *operator);
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
	CqOperator *operator= palloc0(sizeof(CqOperator));
	static uint64 instances = 0;
	uint64 whose;
	int encoding;

	if (plan->shape == CQ_SHAPE_APPEND)
		elog(ERROR, "a query without state needs no operator");
	if (plan->shape == CQ_SHAPE_AGGREGATE)
		operator->ops = & cq_shape_aggregate;
	else if (plan->window.kind == CQ_WINDOW_SESSION)
		operator->ops = & cq_shape_session_rows;
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
	operator->changes = plan->emit == CQ_EMIT_CHANGES;
	operator->allowed_lateness_us = allowed_lateness_us;
	operator->keep_closed_us = keep_closed_us;
	operator->fold_upto = DT_NOEND;
	operator->shows_open = plan->shows_open;
	operator->shown_to = closed_to;
	operator->closed_to = cq_before(closed_to, keep_closed_us);
	operator->passing = key == NULL;
	operator->load_after = after;
	operator->load_upto = upto;
	operator->closed_desc = CreateTupleDescCopy(plan->closed_desc);
	initStringInfo(&operator->bytes);
	operator->ops->create(operator, plan);
	if (operator->sliced)
		cq_slices_create(operator);
	whose = identity(plan);
	operator->state = cq_state_attach(key,
									  layout(operator, whose, plan),
									  epoch,
									  operator->aggregates ? operator->aggregates->flat
															: operator->session_rows == NULL,
									  chunks->rd_rel->relfilenode);
	operator->log = cq_chunklog_create(&operator->state->chunks, whose, own);
	seed_keys(operator);

	encoding = cq_client_encoding_pin();
	PG_TRY();
	{
		operator->reused = operator->state->current;
		if (!operator->reused)
			load(operator, chunks, epoch);
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
	operator->current = cq_has_one_pane(operator) ? operator->state->panes[0] : NULL;
	if (operator->sessions && !operator->session_rows)
		cq_sessions_begin(operator);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(own, context);
	return operator;
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
	if (operator->window.kind != CQ_WINDOW_NONE && operator->counts == NULL)
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
		private_memory_check(operator);
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
		: pane_open(operator, place, missed->start, missed->end);
	operator->current->last_used = ++ operator->state->uses;
	return CQ_COUNTED;
}

/* What a window that has a pane to itself, though it overlaps with others, is known by. */
static inline TimestampTz
own_start(const CqOperator *operator, TimestampTz end)
{
	bool hops = operator->window.kind == CQ_WINDOW_HOP;

	return end - (hops ? operator->window.size_us : operator->window.slide_us);
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
		TimestampTz start = own_start(operator, end);
		int place = cq_pane_search_start(operator, start);
		CqPane *pane;

		CHECK_FOR_INTERRUPTS();
		if (end > operator->fold_upto)
			break;
		if (place < operator->state->npanes && operator->state->panes[place]->start == start)
			pane = operator->state->panes[place];
		else
			pane = pane_open(operator, place, start, end);
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

	Assert(operator->changes && operator->window.kind != CQ_WINDOW_NONE);
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

int
cq_pane_search(CqOperator *operator, TimestampTz time)
{
	int low = 0;
	int high = operator->state->npanes;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (operator->state->panes[middle]->end <= time)
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
	int high = operator->state->npanes;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (operator->state->panes[middle]->start<start)
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
	CqPane *pane = cq_state_create_pane(operator->state, start, end);

	if (pane == NULL)
		cq_operator_full(operator);
	operator->ops->init_pane(operator, pane);
	return pane;
}

void
cq_pane_insert(CqOperator *operator, int place, CqPane *pane)
{
	if (!cq_state_insert_pane(operator->state, place, pane))
		cq_operator_full(operator);
}

void
cq_pane_free(CqOperator *operator, CqPane * pane)
{
	cq_state_free_pane(operator->state, pane);
}

void
cq_panes_close(CqOperator *operator, int n)
{
	int i;

	for (i = 0; i < n; i++)
	{
		CqPane *pane = operator->state->panes[i];

		if (pane->top_instance == operator->instance)
			cq_top_seen_free(pane->top);
		pane->top_instance = 0;
	}
	cq_state_close_panes(operator->state, n);
	operator->current = NULL;
}

CqPane *
cq_pane_like(CqOperator *operator, const CqPane * other)
{
	CqPane *pane = cq_operator_pane(operator, other->start);

	if (pane)
		return pane;
	pane =
		pane_open(operator, cq_pane_search_start(operator, other->start), other->start, other->end);
	bounds_copy(pane, other);
	return pane;
}

static void
bounds_copy(CqPane *pane, const CqPane *bounds)
{
	pane->first_end = bounds->first_end;
	pane->last_end = bounds->last_end;
	pane->number = bounds->number;
	pane->is_late_part = bounds->is_late_part;
}

CqPane *
cq_operator_pane(CqOperator *operator, int64 start)
{
	CqState *state = operator->state;
	int place;

	if (cq_has_one_pane(operator))
		return start == 0 ? state->panes[0] : NULL;
	place = cq_pane_search_start(operator, start);
	return place < state->npanes && state->panes[place]->start == start ? state->panes[place]
																		: NULL;
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
 * Memory
 * ------------------------------------------------------------------------
 */

/* What is left of a view's limit when parts of it are kept, and what is to be free soon is free. */
static Size
left_of_limit(const CqRegionRoom *region, int keep, Size soon_free)
{
	Size used = region->used - soon_free + region->limit / CQ_KEEP_PARTS * keep;

	return region->limit - Min(used, region->limit);
}

/* Bytes that groups and rows may still take, once this checkpoint has committed. */
static Size
room(CqOperator *operator, const CqRegionRoom * region)
{
	return left_of_limit(region,
						 CQ_KEEP_FOR_TABLES + CQ_KEEP_FOR_TOUCHED,
						 operator->state->touched.bytes) +
		   (operator->current ? operator->current->arena.spare : 0);
}

bool
cq_operator_has_room(CqOperator *operator)
{
	CqRegionRoom region;

	cq_region_room(operator->state->store, &region);
	return room(operator, & region) >= region.limit / ROOM_AFTER_SAVE;
}

Size
cq_operator_room(CqOperator *operator)
{
	CqRegionRoom region;

	cq_region_room(operator->state->store, &region);
	return left_of_limit(&region, CQ_KEEP_FOR_TABLES + CQ_KEEP_FOR_TOUCHED, 0);
}

void
cq_operator_give_way(CqOperator *operator)
{
	operator->gives_way = true;
	cq_operator_save(operator, operator->relation);
	cq_state_forget_undo(operator->state);
	operator->gives_way = false;
}

bool
cq_operator_wants_save(CqOperator *operator)
{
	CqRegionRoom region;

	if (operator->counts && cq_counts_are_many(operator))
		return true;
	if (!cq_can_evict(operator))
		return false;
	cq_region_room(operator->state->store, &region);
	return room(operator, & region) < region.limit / ROOM_TO_GO_ON ||
		   left_of_limit(&region, CQ_KEEP_FOR_TABLES, 0) < region.limit / CQ_KEEP_PARTS;
}

bool
cq_operator_must_shrink(CqOperator *operator)
{
	CqRegionRoom region;

	cq_region_room(operator->state->store, &region);
	/* once it has given up all it could, it need not try again until it has grown */
	return cq_can_evict(operator) && region.held > region.limit &&
		   region.held > operator->shrunk_to;
}

void
cq_operator_full(CqOperator *operator)
{
	CqRegionRoom region;
	bool own_fault;
	int code = CQ_ERRCODE_STATE_FULL;

	cq_region_room(operator->state->store, &region);
	if (operator->loading)
		region.limit = Max(region.limit, region.most);
	own_fault =
		left_of_limit(&region, CQ_KEEP_FOR_TABLES + CQ_KEEP_FOR_TOUCHED, 0) < CQ_EXTENT_SIZE;
	if (!own_fault)
		code = ERRCODE_OUT_OF_MEMORY; /* others will give back what is too much: try again */
	else if (operator->loading || !cq_can_evict(operator))
		code = CQ_ERRCODE_STOP; /* nothing can be given up */
	ereport(ERROR,
			errcode(code),
			errmsg("operator state does not fit into memory"),
			errdetail(INT64_FORMAT
					  " groups or rows hold %zu kB of the %zu kB that the view may have%s.",
					  operator->state->ngroups,
					  region.held / 1024,
					  region.limit / 1024,
					  cq_can_evict(operator)
						  ? ""
						  : ", and the values of its aggregates cannot be kept on disk"),
			errhint("Increase \"pipeline.state_memory\", or let the query keep fewer groups "
					"or shorter windows."));
}

/* Take what is not in the region out of its account. */
static void
private_memory_check(CqOperator *operator)
{
	Size bytes;

	if (operator->state->flat &&(operator->top == NULL || operator->kinds))
	{
		operator->next_check = PG_UINT64_MAX;
		return;
	}
	/* measuring visits every context, of which there may be one per group */
	bytes = MemoryContextMemAllocated(operator->context, true);
	operator->next_check = operator->rows + Max(ROWS_PER_CHECK, operator->state->ngroups / 8);
	if (!cq_region_reserve(operator->state->store, bytes))
		cq_operator_full(operator);
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
	if (operator->sessions)
		return cq_sessions_first_end(operator);
	if (operator->changes)
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
	if (operator->counts)
		return DT_NOBEGIN;
	if (operator->sessions)
		return cq_sessions_last_end(operator);
	return operator->state->panes[operator->state->npanes - 1]->last_end;
}

void
cq_operator_leave(CqOperator *operator, TimestampTz watermark)
{
	TimestampTz to = cq_before(watermark, operator->keep_closed_us);
	int n = 0;

	while (n < operator->state->npanes && operator->state->panes[n]->end <= to)
		n++;
	if (n > 0)
		cq_panes_close(operator, n);
	operator->shown_to = Max(operator->shown_to, watermark);
	operator->closed_to = Max(operator->closed_to, to);
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

/* ------------------------------------------------------------------------
 * To disk and back
 * ------------------------------------------------------------------------
 */

void
cq_operator_save(CqOperator *operator, Relation chunks)
{
	int encoding = cq_client_encoding_pin();

	operator->state->current = false;
	PG_TRY();
	{
		save(operator, chunks);
	}
	PG_FINALLY();
	{
		cq_client_encoding_restore(encoding);
	}
	PG_END_TRY();
	private_memory_check(operator);
}

/*
 * What is given up goes first: a group that changed is written to its bucket
 * then, and not to the log as well.
 */
static void
save(CqOperator *operator, Relation chunks)
{
	CqState *state = operator->state;
	CqChunkNumber *victims = NULL;
	int nvictims = 0;
	int i;

	operator->relation = chunks;
	cq_chunklog_begin(operator->log, chunks);
	drop_closed(operator);
	if (operator->ops->rewrite)
		nvictims = cq_chunklog_victims(operator->log, &victims);
	if (cq_can_evict(operator) && !cq_operator_has_room(operator))
		evict(operator, CQ_EVICT_COLD, CQ_EVICT_RECENT);
	for (i = 0; i < state->npanes; i++)
	{
		CqPane *pane = state->panes[i];

		CHECK_FOR_INTERRUPTS();
		operator->ops->save(operator, pane);
		rewrite(operator, pane, victims, nvictims);
		cq_chunklog_flush(operator->log);
	}
	if (cq_can_evict(operator) && !enough_given_up(operator, CQ_EVICT_ALL))
		give_up_everything(operator);
	cq_chunklog_end(operator->log);
}

static void
drop_closed(CqOperator *operator)
{
	CqPane *pane;

	for (pane = operator->state->closed; pane; pane = pane->next)
		cq_chunklog_drop(operator->log, &pane->chunks);
}

/* Write the live entries of those victims again that are the pane's. */
static void
rewrite(CqOperator *operator, CqPane * pane, CqChunkNumber *victims, int nvictims)
{
	CqChunkNumber number;
	CqChunkData chunk;
	int i;

	for (i = 0; i < nvictims; i++)
	{
		if (cq_chunklog_list(operator->log, victims[i]) != &pane->chunks)
			continue;
		CHECK_FOR_INTERRUPTS();
		number = victims[i];
		cq_chunklog_fetch(operator->log, operator->relation, number, &chunk);
		operator->ops->rewrite(operator, pane, &chunk);
	}
}

/* Give memory up, in one way and then another: of the panes not used for longest first. */
static void
evict(CqOperator *operator, CqEvict first, CqEvict last)
{
	CqState *state = operator->state;
	CqPane **panes = palloc(Max(state->npanes, 1) * sizeof(CqPane *));
	int npanes = state->npanes;
	CqEvict how;
	int i;

	/* what can be made again goes first */
	if (operator->sliced)
		cq_slices_forget(operator);
	memcpy(panes, state->panes, npanes * sizeof(CqPane *));
	qsort(panes, npanes, sizeof(CqPane *), compare_uses);
	for (how = first; how <= last; how++)
		for (i = 0; i < npanes && !enough_given_up(operator, how); i++)
		{
			CHECK_FOR_INTERRUPTS();
			operator->ops->evict(operator, panes[i], how);
		}
	pfree(panes);
}

static bool
enough_given_up(CqOperator *operator, CqEvict how)
{
	CqRegionRoom region;

	if (how != CQ_EVICT_ALL)
		return cq_operator_has_room(operator);
	if (operator->gives_way)
		return false;
	cq_region_room(operator->state->store, &region);
	return !cq_operator_must_shrink(operator) &&
		   left_of_limit(&region, CQ_KEEP_FOR_TABLES, operator->state->touched.bytes) >=
			   region.limit / CQ_KEEP_PARTS;
}

/*
 * What pieces were freed in a pane is of use only there.  When others need the
 * memory - other views, or what must be remembered of what is on disk - panes
 * are emptied, so that all of theirs goes back.
 */
static void
give_up_everything(CqOperator *operator)
{
	CqRegionRoom region;

	evict(operator, CQ_EVICT_ALL, CQ_EVICT_ALL);
	cq_region_room(operator->state->store, &region);
	operator->shrunk_to = region.held;
}

static int
compare_uses(const void *a, const void *b)
{
	const CqPane *x = *(CqPane *const *) a;
	const CqPane *y = *(CqPane *const *) b;

	return x->last_used < y->last_used ? -1 : x->last_used > y->last_used;
}

int64
cq_operator_committed(CqOperator *operator, int64 epoch)
{
	int64 saved = operator->state->touched_groups;

	cq_state_committed(operator->state, epoch);
	operator->relation = NULL;
	if (!cq_has_one_pane(operator))
		operator->current = NULL;
	return saved;
}

static void
load(CqOperator *operator, Relation chunks, int64 epoch)
{
	CqState *state = operator->state;

	operator->relation = chunks;
	operator->loading = true;
	if (operator->nkinds> 0)
	{
		/* rows that find no room stay on disk, groups of the log cannot */
		cq_region_set_loading(state->store, true);
		set_layouts(operator);
	}
	if (cq_has_one_pane(operator))
		operator->current = pane_open(operator, 0, 0, DT_NOEND);
	cq_chunklog_scan(operator->log,
					 chunks,
					 operator->ops->newest_first,
					 operator->load_after == DT_NOBEGIN && operator->load_upto == DT_NOEND
						 ? NULL
						 : load_wanted,
					 load_chunk,
					 operator);
	if (operator->session_rows)
		cq_session_rows_loaded(operator);
	private_memory_check(operator);
	state->chunks.filenumber = chunks->rd_rel->relfilenode;
	(void) cq_operator_committed(operator, epoch);
	cq_region_set_loading(state->store, false);
	operator->loading = false;
}

static bool
load_wanted(void *arg, int64 start)
{
	CqOperator *operator= arg;
	CqPane bounds = {0};

	/* what is wrong with a window that is not found is said when it is loaded */
	return !pane_bounds(operator, start, &bounds) ||
		   (bounds.first_end > operator->load_after && bounds.first_end <= operator->load_upto);
}

static void
set_layouts(CqOperator *operator)
{
	CqGroupLayout *layouts = palloc(operator->nkinds * sizeof(CqGroupLayout));
	int i;

	for (i = 0; i < operator->nkinds; i++)
		layouts[i] = operator->kinds[i].layout;
	if (!cq_state_set_layouts(operator->state, layouts, operator->nkinds))
		cq_operator_full(operator);
	pfree(layouts);
}

/* All hashes of a view are made in the same way, which the chunks say if there are any. */
static void
seed_keys(CqOperator *operator)
{
	int i;

	for (i = 0; i < operator->nkinds; i++)
		cq_key_seed(operator->kinds[i].codec, operator->state->chunks.seed);
}

static void
load_chunk(void *arg, CqChunkData *chunk)
{
	CqOperator *operator= arg;
	CqPane *pane = operator->current;

	seed_keys(operator);
	if (pane == NULL || pane->start != chunk->pane)
	{
		pane = pane_to_load(operator, chunk->pane);
		operator->current = pane;
	}
	operator->ops->load(operator, pane, chunk);
	if (operator->rows >= operator->next_check)
		private_memory_check(operator);
}

/* The pane that a saved chunk belongs to, by the start of its window. */
static CqPane *
pane_to_load(CqOperator *operator, int64 start)
{
	CqPane *pane = cq_operator_pane(operator, start);
	CqPane bounds = {0};

	if (pane)
		return pane;
	if (cq_has_one_pane(operator))
		cq_reader_damaged();
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
	pane = pane_open(operator, cq_pane_search_start(operator, start), bounds.start, bounds.end);
	bounds_copy(pane, &bounds);
	return pane;
}

static bool
pane_bounds(CqOperator *operator, int64 start, CqPane *pane)
{
	const CqWindow *window = &operator->window;
	TimestampTz first_start;
	TimestampTz last_end;

	if (operator->sliced)
		return cq_slices_place(operator, start, pane);
	if (operator->overlapping)
	{
		/* hopping: the last of them begins then; cumulating: the first ends a step later */
		if (!cq_window_span(window, start, &first_start, &pane->end, &last_end))
			return false;
		if (window->kind == CQ_WINDOW_HOP)
			pane->end = last_end;
		pane->start = own_start(operator, pane->end);
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
	CqState *state = operator->state;
	CqRegionRoom region;

	cq_region_room(state->store, &region);
	stats->groups = state->ngroups;
	if (operator->sliced)
		stats->open_windows = cq_slices_open_windows(operator);
	else if (operator->sessions)
		stats->open_windows = state->ngroups;
	else
		stats->open_windows = cq_has_one_pane(operator) ? 0 : state->npanes;
	stats->memory_bytes = region.used;
	stats->chunk_bytes = state->chunks.stored;
	stats->live_chunk_bytes = state->chunks.live;
	stats->deleted_chunk_bytes = state->chunks.deleted;
	stats->evictions = state->evictions;
	stats->loads = state->loads;
	stats->reused = operator->reused;
}

void
cq_operator_vacuumed(CqOperator *operator)
{
	operator->state->chunks.deleted = 0;
}
