/*
 * evaluate.c
 *	  One batch through the stage plan into the operator or the result table.
 */
#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "runtime/run.h"

static void row_consume(void *arg, int ordinal, TupleTableSlot *row);
static void row_append(CqRun *run, TupleTableSlot *row);
static void event_untimed(CqRun *run, int ordinal);
static void event_failed(void *arg, int ordinal, ErrorData *error);

/*
 * While careful, errors of the stage plan are pinned on their events in flight;
 * one of a transition function cannot be undone in memory, so it aborts the
 * checkpoint and the worker tries again with fewer events.
 */
void
cq_evaluate(CqRun *run)
{
	CqStageCounts counts = {0};
	CqIdentity saved;

	if (run->batch.nevents == 0)
		return;
	run->phase = CQ_PHASE_EVALUATE;
	saved = cq_run_as_owner(run);
	if (run->care->careful)
		cq_stage_run_carefully(run->stage_prepared,
							   &run->batch,
							   row_consume,
							   event_failed,
							   run,
							   &counts);
	else
		cq_stage_run(run->stage, &run->batch, row_consume, run, &counts);
	cq_run_as_system(saved);
	run->phase = CQ_PHASE_OTHER;
	run->checkpoint.counters.filtered += counts.filtered;
	run->checkpoint.counters.unmatched += counts.unmatched;
}

static void
row_consume(void *arg, int ordinal, TupleTableSlot *row)
{
	CqRun *run = arg;
	TimestampTz window_start;
	TimestampTz window_end;

	if (run->op == NULL)
	{
		row_append(run, row);
		return;
	}
	switch (
		cq_operator_consume(run->op, row, &run->batch.events[ordinal], &window_start, &window_end))
	{
		case CQ_COUNTED:
			break;
		case CQ_LATE:
			cq_late_event(run, ordinal, window_start, window_end);
			break;
		case CQ_NO_TIME:
			event_untimed(run, ordinal);
			break;
	}
}

/* The result row is the stage row without the ordinal. */
static void
row_append(CqRun *run, TupleTableSlot *row)
{
	slot_getallattrs(row);
	cq_output_insert(run->output, row->tts_values + 1, row->tts_isnull + 1);
}

static void
event_untimed(CqRun *run, int ordinal)
{
	const CqEvent *event = &run->batch.events[ordinal];
	const CqRecord *record = &run->source->records[event->record];

	if (run->last_untimed_ordinal == ordinal)
		return;
	run->last_untimed_ordinal = ordinal;
	if (event->has_time)
		cq_dead_letter(run,
					   record,
					   ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
					   "the window of the event is out of range");
	else
		cq_dead_letter(run,
					   record,
					   ERRCODE_NULL_VALUE_NOT_ALLOWED,
					   "event time is null or infinite");
}

static void
event_failed(void *arg, int ordinal, ErrorData *error)
{
	CqRun *run = arg;

	run->care->failed = true;
	cq_dead_letter(run,
				   &run->source->records[run->batch.events[ordinal].record],
				   error->sqlerrcode,
				   error->message);
}
