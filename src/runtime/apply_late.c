/*
 * apply_late.c
 *	  pipeline.apply_late(): stored late rows go into windows that are still kept.
 *
 * Only the worker can change a view's state, as its memory and the places of the
 * view's rows are its own.  So the function leaves a request in the task's row, in
 * the caller's transaction: if that rolls back nothing was asked for, and what
 * the caller did to the late table before counts.  The worker carries it out in its
 * next checkpoints, some rows in each: a row is deleted from the late table and
 * folded into its windows in one transaction, so whatever happens it is in
 * one of the two, and never in both.  When the late table has been gone through the
 * request is cleared in the same transaction; wait_for() waits for that.
 *
 * The rows take the way of events: they become a batch that the stage plan reads,
 * with joined tables as they are now.  Only the operator knows the difference: it
 * takes them although their windows are complete, and only into those windows
 * that they were late for.  What a row's late_windows say beyond the windows that are
 * kept stays in the late table.
 *
 * How far the table has been gone through is in memory only; a new worker begins
 * at its start again and finds what is left.  Rows that come in meanwhile lie
 * behind the end that was noted, or are taken along.  A row that another
 * transaction is deleting is left alone, and looked for once more after a while.
 *
 * When a row cannot be applied, because a transition function fails on it, say, the
 * request is withdrawn (recover.c): all rows that were not applied are still there.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rangetypes.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "clock.h"
#include "runtime/late.h"
#include "settings.h"
#include "window/proctime.h"

/* At most so much is read in one checkpoint, and applied when memory is short. */
#define STEP_BYTES	(16 * 1024 * 1024)
#define STEP_LOOKED 100000
#define SHORT_ROWS	64
#define PAUSE_US	(INT64CONST(100) * 1000)

/* Late rows of one stream. */
typedef struct LateEvents
{
	CqViewRun *view;
	CqBatch batch;
	TimestampTz *upto; /* by event: the last of the windows that it is late for ends then */
} LateEvents;

/* Those of one checkpoint. */
typedef struct LateBatch
{
	MemoryContext context;
	int nrows;
	int capacity;
	LateEvents *streams; /* by number */
} LateBatch;

static void pass_begin(CqViewRun *view);
static void pass_end(CqViewRun *view);
static int step_rows(const CqRun *run, const CqViewRun *view);
static LateBatch *batch_create(const CqRun *run, CqViewRun *view, int capacity);
static bool batch_fill(CqRun *run, CqViewRun *view, LateBatch *batch);
static bool is_large(const LateBatch *batch);
static void row_take(CqRun *run, CqViewRun *view, LateBatch *batch, TupleTableSlot *slot);
static bool windows_split(Datum late_windows, TimestampTz kept_from, TimestampTz *upto,
						  Datum *rest);
static bool window_end(TypeCacheEntry *type, Datum window, TimestampTz *end);
static bool row_delete(CqViewRun *view, ItemPointer tid);
static int stream_of_row(const CqViewRun *view, TupleTableSlot *slot);
static void event_add(const CqRun *run, LateEvents *events, const Datum *values, const bool *nulls,
					  TimestampTz upto);
static Datum value_copy(Form_pg_attribute att, Datum value);
static void batch_fold(CqViewRun *view, LateBatch *batch);
static void stage_fold(CqViewRun *view, CqStageRun *stage, LateEvents *events);
static void row_fold(void *arg, int ordinal, TupleTableSlot *row);

bool
cq_apply_late_due(const CqViewRun *view, long *wait_ms)
{
	int64 left_us;

	if (view->task.apply_late == 0)
		return false;
	left_us = view->late_pass.not_before_us - cq_clock_us();
	if (left_us <= 0)
		return true;
	*wait_ms = Min(*wait_ms, left_us / 1000 + 1);
	return false;
}

void
cq_apply_late_step(CqRun *run, CqViewRun *view)
{
	CqRunIdentity saved;
	LateBatch *batch;
	bool done;

	/* the option "late" was altered meanwhile: nobody wants late rows any more */
	if (view->late_rel == NULL)
	{
		pass_end(view);
		return;
	}
	pass_begin(view);
	run->phase = CQ_PHASE_APPLY;
	saved = cq_run_as_owner(run);
	batch = batch_create(run, view, step_rows(run, view));
	done = batch_fill(run, view, batch);
	run->applying = batch->nrows;
	if (batch->nrows > 0)
		batch_fold(view, batch);
	MemoryContextDelete(batch->context);
	cq_run_as_system(saved);
	run->phase = CQ_PHASE_OTHER;
	if (!done)
		return;
	if (view->late_pass.skipped)
	{
		view->late_pass.request = 0;
		view->late_pass.not_before_us = cq_clock_us() + PAUSE_US;
		return;
	}
	pass_end(view);
	run->care->late_rows = 0;
}

/* From the start of the table, unless a pass is under way and rows are where they were. */
static void
pass_begin(CqViewRun *view)
{
	CqLatePass *pass = &view->late_pass;
	Oid file = view->late_rel->rd_rel->relfilenode;

	if (pass->request == view->task.apply_late && pass->file == file)
		return;
	pass->request = view->task.apply_late;
	pass->file = file;
	pass->end = RelationGetNumberOfBlocks(view->late_rel);
	pass->skipped = false;
	ItemPointerSet(&pass->next, 0, FirstOffsetNumber);
}

/* While another session asks once more this request cannot be cleared: later, then. */
static void
pass_end(CqViewRun *view)
{
	if (cq_task_clear_apply_late(view->view.id, view->task.apply_late))
		view->task.apply_late = 0;
	else
		view->late_pass.not_before_us = cq_clock_us() + PAUSE_US;
	view->late_pass.request = 0;
}

static int
step_rows(const CqRun *run, const CqViewRun *view)
{
	int rows = run->care->late_rows > 0 ? run->care->late_rows : cq_batch_size;

	return cq_operator_wants_save(view->op) ? Min(rows, SHORT_ROWS) : rows;
}

static LateBatch *
batch_create(const CqRun *run, CqViewRun *view, int capacity)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pipeline late rows", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	LateBatch *batch = palloc0(sizeof(LateBatch));
	int i;

	batch->context = context;
	batch->capacity = capacity;
	batch->streams = palloc0(sizeof(LateEvents) * view->nstreams);
	for (i = 0; i < view->nstreams; i++)
	{
		LateEvents *events = &batch->streams[i];
		int natts = run->source->parts[i]->stream->ncolumns;
		Size values = (Size) capacity * Max(natts, 1);

		events->view = view;
		events->batch.context = context;
		events->batch.stream = i;
		events->batch.natts = natts;
		events->batch.events = palloc0(sizeof(CqEvent) * capacity);
		events->batch.values = palloc(sizeof(Datum) * values);
		events->batch.nulls = palloc(sizeof(bool) * values);
		events->upto = palloc(sizeof(TimestampTz) * capacity);
	}
	MemoryContextSwitchTo(old);
	return batch;
}

/* Take rows out of the late table until there are enough; was that all? */
static bool
batch_fill(CqRun *run, CqViewRun *view, LateBatch *batch)
{
	CqLatePass *pass = &view->late_pass;
	TupleTableSlot *slot;
	TableScanDesc scan;
	ItemPointerData last;
	bool more = true;
	int looked = 0;

	if (pass->end == 0)
		return true;
	ItemPointerSet(&last, pass->end - 1, MaxOffsetNumber);
	slot = table_slot_create(view->late_rel, NULL);
	scan = table_beginscan_tidrange(view->late_rel, GetActiveSnapshot(), &pass->next, &last);
	while (batch->nrows < batch->capacity && looked++ < STEP_LOOKED && !is_large(batch))
	{
		CHECK_FOR_INTERRUPTS();
		more = table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot);
		if (!more)
			break;
		ItemPointerSet(&pass->next,
					   ItemPointerGetBlockNumber(&slot->tts_tid),
					   ItemPointerGetOffsetNumber(&slot->tts_tid) + 1);
		row_take(run, view, batch, slot);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return !more;
}

static bool
is_large(const LateBatch *batch)
{
	return batch->nrows > 0 && MemoryContextMemAllocated(batch->context, false) > STEP_BYTES;
}

/* The columns are those of cq_late_event(). */
static void
row_take(CqRun *run, CqViewRun *view, LateBatch *batch, TupleTableSlot *slot)
{
	int windows = view->late_layout->ours[CQ_LATE_WINDOWS];
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	TimestampTz upto;
	Datum rest;

	slot_getallattrs(slot);
	if (!slot->tts_isnull[windows] &&
		windows_split(slot->tts_values[windows], cq_operator_kept_from(view->op), &upto, &rest))
	{
		LateEvents *events = &batch->streams[stream_of_row(view, slot)];
		int before = events->batch.nevents;

		/* copied first: what is stored out of line goes with the row */
		event_add(run, events, slot->tts_values, slot->tts_isnull, upto);
		if (!row_delete(view, &slot->tts_tid))
			events->batch.nevents--;
		else
			batch->nrows++;
		if (rest != (Datum) 0 && events->batch.nevents > before)
		{
			slot->tts_values[windows] = rest;
			cq_output_insert(view->late, slot->tts_values, slot->tts_isnull);
		}
	}
	MemoryContextSwitchTo(old);
}

/* Number of the stream whose event a late row is. */
static int
stream_of_row(const CqViewRun *view, TupleTableSlot *slot)
{
	const CqLateLayout *layout = view->late_layout;
	int column;
	ListCell *lc;

	if (view->nstreams == 1)
		return 0;
	column = layout->column_places[layout->whose];
	foreach (lc, view->view.streams)
		if (!slot->tts_isnull[column] &&
			DatumGetObjectId(slot->tts_values[column]) == lfirst_oid(lc))
			return foreach_current_index(lc);
	ereport(ERROR,
			errcode(ERRCODE_DATA_EXCEPTION),
			errmsg("a late row of continuous view \"%s\" is of no stream that the view reads",
				   view->name),
			errhint("Somebody changed it. Delete it from the table of late rows."));
}

/*
 * Of the windows that a row is late for, in order of their ends: when does the last
 * one end, and which of them are not kept any longer?  False if there is none
 * that is kept.
 */
static bool
windows_split(Datum late_windows, TimestampTz kept_from, TimestampTz *upto, Datum *rest)
{
	ArrayType *array = DatumGetArrayTypeP(late_windows);
	TypeCacheEntry *type = lookup_type_cache(ARR_ELEMTYPE(array), TYPECACHE_RANGE_INFO);
	Datum *windows;
	bool *nulls;
	int n;
	int gone = 0;
	int i;

	deconstruct_array(array,
					  type->type_id,
					  type->typlen,
					  type->typbyval,
					  type->typalign,
					  &windows,
					  &nulls,
					  &n);
	*upto = DT_NOBEGIN;
	for (i = 0; i < n; i++)
	{
		TimestampTz end;

		if (nulls[i] || !window_end(type, windows[i], &end))
			return false;
		if (end <= kept_from)
			windows[gone++] = windows[i];
		else
			*upto = Max(*upto, end);
	}
	*rest = (Datum) 0;
	if (gone > 0 && gone < n)
		*rest = PointerGetDatum(construct_array(windows,
												gone,
												type->type_id,
												type->typlen,
												type->typbyval,
												type->typalign));
	return gone < n;
}

static bool
window_end(TypeCacheEntry *type, Datum window, TimestampTz *end)
{
	RangeBound lower;
	RangeBound upper;
	bool empty;

	range_deserialize(type, DatumGetRangeTypeP(window), &lower, &upper, &empty);
	if (empty || upper.infinite)
		return false;
	*end = DatumGetTimestampTz(upper.val);
	return true;
}

/* False if somebody else has changed it, or is about to; nobody is waited for. */
static bool
row_delete(CqViewRun *view, ItemPointer tid)
{
	TM_FailureData failure;

	switch (table_tuple_delete(view->late_rel,
							   tid,
							   GetCurrentCommandId(true),
							   GetActiveSnapshot(),
							   InvalidSnapshot,
							   false,
							   &failure,
							   false))
	{
		case TM_Ok:
			return true;
		case TM_Deleted:
			return false;
		case TM_Updated:
		case TM_BeingModified:
		case TM_WouldBlock:
			view->late_pass.skipped = true;
			return false;
		case TM_Invisible:
		case TM_SelfModified:
			break;
	}
	elog(ERROR, "late row is not there any more");
	return false;
}

static void
event_add(const CqRun *run, LateEvents *events, const Datum *values, const bool *nulls,
		  TimestampTz upto)
{
	const CqViewRun *view = events->view;
	TupleDesc desc = RelationGetDescr(view->late_rel);
	CqBatch *batch = &events->batch;
	CqEvent *event = &batch->events[batch->nevents];
	Datum *row = &batch->values[(Size) batch->nevents * batch->natts];
	bool *row_nulls = &batch->nulls[(Size) batch->nevents * batch->natts];
	AttrNumber time = run->source->parts[batch->stream]->stream->event_time;
	int i;

	memset(row_nulls, true, sizeof(bool) * batch->natts);
	for (i = 0; i < batch->natts; i++)
	{
		int place = cq_late_place(view->late_layout, events->batch.stream, i);

		if (place < 0)
			continue;
		row_nulls[i] = nulls[place];
		row[i] = nulls[place] ? (Datum) 0 : value_copy(TupleDescAttr(desc, place), values[place]);
	}
	event->has_time = time != 0 && !row_nulls[time - 1];
	event->time = event->has_time ? DatumGetTimestampTz(row[time - 1]) : 0;
	events->upto[batch->nevents++] = upto;
}

static Datum
value_copy(Form_pg_attribute att, Datum value)
{
	if (att->attlen == -1 && VARATT_IS_EXTERNAL(DatumGetPointer(value)))
		return PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	return datumCopy(value, att->attbyval, att->attlen);
}

/* Rows are taken in now. */
static void
batch_fold(CqViewRun *view, LateBatch *batch)
{
	const CqInput *input = &view->inputs[0];
	int i;

	Assert(view->ninputs == 1);
	view->arrival = Max(view->arrival, cq_clock_now());
	cq_proctime_set(view->arrival);
	for (i = 0; i < input->nstages; i++)
		stage_fold(view, &input->stages[i], &batch->streams[input->stages[i].stream]);
	cq_proctime_set(DT_NOBEGIN);
}

/* What joins nothing any more counts as an event that did. */
static void
stage_fold(CqViewRun *view, CqStageRun *stage, LateEvents *events)
{
	CqStageCounts counts = {0};

	if (events->batch.nevents == 0)
		return;
	if (stage->stage == NULL)
		stage->stage = cq_stage_begin(stage->prepared);
	cq_stage_run(stage->stage, &events->batch, row_fold, events, &counts);
	view->checkpoint.counters.filtered += counts.filtered;
	view->checkpoint.counters.unmatched += counts.unmatched;
}

static void
row_fold(void *arg, int ordinal, TupleTableSlot *row)
{
	LateEvents *events = arg;

	if (!cq_operator_apply(events->view->op,
						   row,
						   &events->batch.events[ordinal],
						   events->upto[ordinal]))
		ereport(ERROR,
				errcode(ERRCODE_DATA_EXCEPTION),
				errmsg("a late row of continuous view \"%s\" is not of the windows that it names",
					   events->view->name),
				errhint("Somebody changed it. Delete it from the table of late rows."));
}
