/*
 * evaluate.c
 *	  One batch through a view's stage plan into its operator or result table.
 */
#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "plan/rowlist.h"
#include "runtime/run.h"
#include "window/proctime.h"

typedef struct Consumer
{
	CqRun *run;
	CqViewRun *view;
	CqInput *input;
	CqRowList *rows; /* to be put in order */
} Consumer;

typedef struct Failures
{
	CqRun *run;
	CqViewRun *view;
	Bitmapset **failing; /* ordinals */
} Failures;

static bool is_careful(const CqRun *run);
static int stages_of_batch(const CqRun *run, const CqViewRun *view);
static void input_evaluate(CqRun *run, CqViewRun *view, CqInput *input);
static void row_set_aside(void *arg, int ordinal, TupleTableSlot *row);
static void stage_evaluate(Consumer *consumer, CqStageRun *stage, CqRowConsumer take);
static int64 not_taken(const CqRun *run, const CqViewRun *view);
static void failing_remove(CqRun *run, CqViewRun *view);
static void row_ignore(void *arg, int ordinal, TupleTableSlot *row);
static void event_failing(void *arg, int ordinal, ErrorData *error);
static void arrival_set(CqRun *run, CqViewRun *view);
static void watermarks_set(CqRun *run, const CqViewRun *view);
static void row_consume(void *arg, int ordinal, TupleTableSlot *row);
static inline void row_take(Consumer *consumer, int ordinal, TupleTableSlot *row);
static CqOutcome row_fold(Consumer *consumer, int ordinal, TupleTableSlot *row, CqMissed *missed);
static void row_append(const CqRun *run, CqViewRun *view, int ordinal, TupleTableSlot *row);
static void event_untimed(CqRun *run, CqViewRun *view, int ordinal);
static void event_failed(void *arg, int ordinal, ErrorData *error);

/*
 * While careful, errors of the stage plan are pinned on their events in flight;
 * one of a transition function cannot be undone in memory, so it aborts the
 * checkpoint and the worker tries again with fewer events.
 */
void
cq_evaluate(CqRun *run, CqViewRun *view)
{
	CqRunIdentity saved;
	int64 events_before = run->batch.nevents;
	int64 began_us;
	int i;

	if (run->batch.nevents == 0)
		return;
	began_us = cq_measure_evaluate_begin(view);
	view->late_events = NULL;
	view->untimed_events = NULL;
	view->taken = NULL;
	arrival_set(run, view);
	watermarks_set(run, view);
	saved = cq_run_as_owner(run);
	run->phase = CQ_PHASE_EVALUATE;
	if (stages_of_batch(run, view) > 1)
	{
		if (is_careful(run))
			failing_remove(run, view);
		view->taken = MemoryContextAllocZero(run->batch.context, events_before * sizeof(bool));
	}
	for (i = 0; i < view->ninputs; i++)
		input_evaluate(run, view, &view->inputs[i]);
	cq_run_as_system(saved);
	run->phase = CQ_PHASE_OTHER;
	cq_proctime_set(DT_NOBEGIN);
	if (view->plan->window.processing)
		view->watermark = view->arrival;
	if (view->taken)
		view->checkpoint.counters.filtered += not_taken(run, view);
	cq_measure_evaluate_end(view, began_us);
}

/* Of dead letters one is likely to be bad still. */
static bool
is_careful(const CqRun *run)
{
	return run->care->careful || run->retrying > 0;
}

/* How many stages read the stream that the batch is of? */
static int
stages_of_batch(const CqRun *run, const CqViewRun *view)
{
	int n = 0;
	int i;
	int j;

	for (i = 0; i < view->ninputs; i++)
		for (j = 0; j < view->inputs[i].nstages; j++)
			n += view->inputs[i].stages[j].stream == run->batch.stream;
	return n;
}

/*
 * An operator takes rows in the order of their events: what several stages give
 * of one batch is put in order first.
 */
static void
input_evaluate(CqRun *run, CqViewRun *view, CqInput *input)
{
	Consumer consumer = {run, view, input};
	int n = 0;
	int i;

	for (i = 0; i < input->nstages; i++)
		n += input->stages[i].stream == run->batch.stream;
	for (i = 0; i < input->nstages; i++)
	{
		CqStageRun *stage = &input->stages[i];

		if (stage->stream != run->batch.stream)
			continue;
		stage_evaluate(&consumer, stage, n > 1 ? row_set_aside : row_consume);
	}
	if (consumer.rows == NULL)
		return;
	cq_row_list_give(consumer.rows, row_consume, &consumer);
	cq_row_list_free(consumer.rows);
}

static void
row_set_aside(void *arg, int ordinal, TupleTableSlot *row)
{
	Consumer *consumer = arg;

	if (consumer->rows == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(consumer->run->batch.context);

		consumer->rows = cq_row_list_create(row->tts_tupleDescriptor);
		MemoryContextSwitchTo(old);
	}
	cq_row_list_add(consumer->rows, ordinal, row);
}

/* With several stages: an event is filtered out if it gives no row in any of them. */
static void
stage_evaluate(Consumer *consumer, CqStageRun *stage, CqRowConsumer take)
{
	CqRun *run = consumer->run;
	CqViewRun *view = consumer->view;
	CqStageCounts counts = {0};

	if (run->batch.nevents == 0)
		return;
	if (is_careful(run))
		cq_stage_run_carefully(stage->prepared, &run->batch, take, event_failed, consumer, &counts);
	else
	{
		if (stage->stage == NULL)
			stage->stage = cq_stage_begin(stage->prepared);
		cq_stage_run(stage->stage, &run->batch, take, consumer, &counts);
	}
	if (view->taken)
		return;
	view->checkpoint.counters.filtered += counts.filtered;
	view->checkpoint.counters.unmatched += counts.unmatched;
}

static int64
not_taken(const CqRun *run, const CqViewRun *view)
{
	int64 n = 0;
	int i;

	for (i = 0; i < run->batch.nevents; i++)
		n += !view->taken[i];
	return n;
}

/*
 * An event that cannot be evaluated in one input must not get into another: it
 * is a dead letter of the view.  So stages are tried first, and the events that
 * fail are taken out of the batch, which no other view of the task shares.
 */
static void
failing_remove(CqRun *run, CqViewRun *view)
{
	CqBatch *batch = &run->batch;
	Size natts = batch->natts;
	Bitmapset *failing = NULL;
	Failures failures = {run, view, &failing};
	CqStageCounts counts;
	int kept = 0;
	int i;
	int j;

	Assert(list_length(run->views) == 1 || run->retrying > 0);
	for (i = 0; i < view->ninputs; i++)
		for (j = 0; j < view->inputs[i].nstages; j++)
			if (view->inputs[i].stages[j].stream == batch->stream)
				cq_stage_run_carefully(view->inputs[i].stages[j].prepared,
									   batch,
									   row_ignore,
									   event_failing,
									   &failures,
									   &counts);
	for (i = 0; i < batch->nevents; i++)
	{
		if (bms_is_member(i, failing))
			continue;
		if (kept < i)
		{
			batch->events[kept] = batch->events[i];
			memcpy(batch->values + kept * natts, batch->values + i * natts, natts * sizeof(Datum));
			memcpy(batch->nulls + kept * natts, batch->nulls + i * natts, natts * sizeof(bool));
		}
		kept++;
	}
	batch->nevents = kept;
}

static void
row_ignore(void *arg, int ordinal, TupleTableSlot *row)
{
}

static void
event_failing(void *arg, int ordinal, ErrorData *error)
{
	Failures *failures = arg;
	Consumer consumer = {failures->run, failures->view};
	MemoryContext old;

	if (bms_is_member(ordinal, *failures->failing))
		return;
	event_failed(&consumer, ordinal, error);
	old = MemoryContextSwitchTo(failures->run->batch.context);
	*failures->failing = bms_add_member(*failures->failing, ordinal);
	MemoryContextSwitchTo(old);
}

/*
 * When the events at hand were taken in, by a clock that never goes back, not even
 * behind windows of processing time that were closed: so no event is late for one.
 */
static void
arrival_set(CqRun *run, CqViewRun *view)
{
	view->arrival = Max(view->arrival, run->batch.events[0].arrival);
	if (view->plan->window.processing)
		view->arrival = Max(view->arrival, view->watermark);
	cq_proctime_set(view->arrival);
}

/*
 * Intake gave events the stream's watermark before them, which never falls; for
 * a view that is ahead of the stream its own counts until the stream is there.
 * The views that come after this one are at least as far ahead.
 *
 * Where a view has several workers an event is late for what this one has frozen,
 * and for nothing else: there is no other view in the task.
 */
static void
watermarks_set(CqRun *run, const CqViewRun *view)
{
	CqBatch *batch = &run->batch;
	int i;

	if (view->plan->window.processing)
		return;
	if (view->shard)
	{
		for (i = 0; i < batch->nevents; i++)
			batch->events[i].watermark = view->checkpoint.frozen_to;
		return;
	}
	for (i = 0; i < batch->nevents && batch->events[i].watermark < view->watermark; i++)
		batch->events[i].watermark = view->watermark;
}

static void
row_consume(void *arg, int ordinal, TupleTableSlot *row)
{
	Consumer *consumer = arg;
	CqViewTimes *times = &consumer->view->times;
	instr_time began;

	if (!times->timing || !cq_measure_row_is_timed(times))
	{
		row_take(consumer, ordinal, row);
		return;
	}
	INSTR_TIME_SET_CURRENT(began);
	row_take(consumer, ordinal, row);
	cq_measure_row(times, began);
}

static inline void
row_take(Consumer *consumer, int ordinal, TupleTableSlot *row)
{
	CqRun *run = consumer->run;
	CqViewRun *view = consumer->view;
	CqMissed missed;

	if (view->taken)
		view->taken[ordinal] = true;
	if (consumer->input->op == NULL)
		row_append(run, view, ordinal, row);
	else if (row_fold(consumer, ordinal, row, &missed) == CQ_NO_TIME)
		event_untimed(run, view, ordinal);
	else if (missed.n > 0)
		cq_late_event(run, view, ordinal, &missed);
}

/* Windows that have to close before the event are not the event's fault if they cannot. */
static CqOutcome
row_fold(Consumer *consumer, int ordinal, TupleTableSlot *row, CqMissed *missed)
{
	CqRun *run = consumer->run;
	CqOperator *op = consumer->input->op;
	const CqEvent *event = &run->batch.events[ordinal];
	const CqViewRun *view = consumer->view;
	CqEvent taken_in;
	CqOutcome outcome;

	if (view->plan->window.processing)
	{
		taken_in = *event;
		taken_in.time = view->arrival;
		taken_in.has_time = true;
		taken_in.watermark = view->watermark;
		event = &taken_in;
	}
	outcome = cq_operator_consume(op, row, event, missed);
	if (outcome != CQ_CLOSE_FIRST)
		return outcome;
	run->phase = CQ_PHASE_FINISH;
	cq_view_run_freeze(run, consumer->view, consumer->input, event->watermark);
	run->phase = CQ_PHASE_EVALUATE;
	outcome = cq_operator_consume(op, row, event, missed);
	Assert(outcome != CQ_CLOSE_FIRST);
	return outcome;
}

/* The result row is the stage row without the ordinal. */
static void
row_append(const CqRun *run, CqViewRun *view, int ordinal, TupleTableSlot *row)
{
	slot_getallattrs(row);
	cq_view_run_give_out(view,
						 row->tts_values + 1,
						 row->tts_isnull + 1,
						 run->batch.events[ordinal].watermark);
}

static void
event_untimed(CqRun *run, CqViewRun *view, int ordinal)
{
	const CqEvent *event = &run->batch.events[ordinal];
	const CqRecord *record = &run->source->records[event->record];

	if (!cq_event_is_new(run, &view->untimed_events, ordinal))
		return;
	if (event->has_time)
		cq_dead_letter(run,
					   view,
					   record,
					   ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
					   "the window of the event is out of range");
	else
		cq_dead_letter(run,
					   view,
					   record,
					   ERRCODE_NULL_VALUE_NOT_ALLOWED,
					   "event time is null or infinite");
}

static void
event_failed(void *arg, int ordinal, ErrorData *error)
{
	Consumer *consumer = arg;
	CqRun *run = consumer->run;

	if (run->retrying == 0)
		run->care->failed = true;
	cq_dead_letter(run,
				   consumer->view,
				   &run->source->records[run->batch.events[ordinal].record],
				   error->sqlerrcode,
				   error->message);
}
