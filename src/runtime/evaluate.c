/*
 * evaluate.c
 *	  One batch through a view's stage plan into its operator or result table.
 */
#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "runtime/run.h"

typedef struct Consumer
{
	CqRun *run;
	CqViewRun *view;
} Consumer;

static void watermarks_set(CqRun *run, const CqViewRun *view);
static void row_consume(void *arg, int ordinal, TupleTableSlot *row);
static CqOutcome row_fold(CqRun *run, CqViewRun *view, int ordinal, TupleTableSlot *row,
						  CqMissed *missed);
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
	CqStageCounts counts = {0};
	Consumer consumer = {run, view};
	CqIdentity saved;

	if (run->batch.nevents == 0)
		return;
	view->last_late_ordinal = -1;
	view->last_untimed_ordinal = -1;
	watermarks_set(run, view);
	saved = cq_run_as_owner(run);
	if (view->stage == NULL && !run->care->careful)
		view->stage = cq_stage_begin(view->stage_prepared);
	run->phase = CQ_PHASE_EVALUATE;
	if (run->care->careful)
		cq_stage_run_carefully(view->stage_prepared,
							   &run->batch,
							   row_consume,
							   event_failed,
							   &consumer,
							   &counts);
	else
		cq_stage_run(view->stage, &run->batch, row_consume, &consumer, &counts);
	cq_run_as_system(saved);
	run->phase = CQ_PHASE_OTHER;
	view->checkpoint.counters.filtered += counts.filtered;
	view->checkpoint.counters.unmatched += counts.unmatched;
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
	CqRun *run = consumer->run;
	CqViewRun *view = consumer->view;
	CqMissed missed;

	if (view->op == NULL)
		row_append(run, view, ordinal, row);
	else if (row_fold(run, view, ordinal, row, &missed) == CQ_NO_TIME)
		event_untimed(run, view, ordinal);
	else if (missed.n > 0)
		cq_late_event(run, view, ordinal, &missed);
}

/* Windows that have to close before the event are not the event's fault if they cannot. */
static CqOutcome
row_fold(CqRun *run, CqViewRun *view, int ordinal, TupleTableSlot *row, CqMissed *missed)
{
	const CqEvent *event = &run->batch.events[ordinal];
	CqOutcome outcome = cq_operator_consume(view->op, row, event, missed);

	if (outcome != CQ_CLOSE_FIRST)
		return outcome;
	run->phase = CQ_PHASE_FINISH;
	cq_view_run_freeze(run, view, event->watermark);
	run->phase = CQ_PHASE_EVALUATE;
	outcome = cq_operator_consume(view->op, row, event, missed);
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

	if (view->last_untimed_ordinal == ordinal)
		return;
	view->last_untimed_ordinal = ordinal;
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

	run->care->failed = true;
	cq_dead_letter(run,
				   consumer->view,
				   &run->source->records[run->batch.events[ordinal].record],
				   error->sqlerrcode,
				   error->message);
}
