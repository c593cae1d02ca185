/*
 * stage.c
 *	  Running stage queries over batches.
 *
 * The executor is started once per checkpoint and rewound for each batch (see
 * stage_plan.c).  It is driven row by row here, without a DestReceiver, since
 * each row has to be looked at anyway.
 *
 * Rows must reach the consumer in the order of their events, and a plan is free
 * to return them otherwise: a merge join sorts, a hash join over a hashed
 * stream or one that spills returns them in the order of hash values.  Plans
 * that keep the order are recognised by their shape; the others' rows are set
 * aside and sorted.  A hash join's table is complete when the first row comes
 * out, and can spill only while it is being built; so that is settled before
 * any row is passed on.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "executor/instrument.h"
#include "storage/itemptr.h"
#include "tcop/dest.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "plan/prepared.h"
#include "plan/rowlist.h"
#include "plan/stage.h"
#include "plan/stage_plan.h"
#include "source/scan.h"

/*
 * How much dearer a plan may be by the planner's reckoning and still be
 * preferred to one that reads a table again for each batch: most batches are
 * smaller than what is reckoned with, and sorted tables are kept.
 */
#define REREADING_COST 20

struct CqStage
{
	CqPrepared *prepared;
	QueryDesc *desc;
	PlanState *scan;	  /* of the stream; NULL if the plan has none */
	const CqBatch *batch; /* what the scan reads */
};

static CqPrepared *prepare_for_batches(const CqPlan *plan, bool hash_joins, MemoryContext context);
static Cost plan_cost(const CqPrepared *prepared);
static void executor_start(CqStage *stage);
static void run_plan(CqStage *stage, CqRowConsumer consume, void *arg, CqStageCounts *counts,
					 int64 *events);
static TupleTableSlot *next_row(CqStage *stage);
static int row_ordinal(TupleTableSlot *row);
static int64 give_directly(CqStage *stage, TupleTableSlot *row, CqRowConsumer consume, void *arg,
						   CqStageCounts *counts);
static int64 give_sorted(CqStage *stage, TupleTableSlot *row, CqRowConsumer consume, void *arg,
						 CqStageCounts *counts);

CqPrepared *
cq_stage_prepare(const CqPlan *plan, MemoryContext context)
{
	CqPrepared *prepared = prepare_for_batches(plan, true, context);
	CqPrepared *other;

	if (!cq_stage_plan_rereads(prepared))
		return prepared;
	other = prepare_for_batches(plan, false, context);
	if (plan_cost(other) > plan_cost(prepared) * REREADING_COST)
	{
		MemoryContextDelete(other->context);
		return prepared;
	}
	MemoryContextDelete(prepared->context);
	return other;
}

CqStage *
cq_stage_begin(CqPrepared *prepared)
{
	CqStage *stage = palloc0(sizeof(CqStage));

	stage->prepared = prepared;
	stage->desc = CreateQueryDesc(prepared->stmt,
								  "continuous query",
								  GetActiveSnapshot(),
								  InvalidSnapshot,
								  None_Receiver,
								  NULL,
								  NULL,
								  0);
	cq_scan_bind(prepared->stream, &stage->batch);
	PG_TRY();
	{
		executor_start(stage);
	}
	PG_FINALLY();
	{
		cq_scan_bind(InvalidOid, NULL);
	}
	PG_END_TRY();
	return stage;
}

void
cq_stage_run(CqStage *stage, const CqBatch *batch, CqRowConsumer consume, void *arg,
			 CqStageCounts *counts)
{
	double filtered_before = 0;
	int64 events = 0;

	memset(counts, 0, sizeof(CqStageCounts));
	if (stage->scan != NULL)
	{
		int settings = cq_prepared_settings_enter();

		filtered_before = stage->scan->instrument->nfiltered1;
		stage->batch = batch;
		run_plan(stage, consume, arg, counts, &events);
		stage->batch = NULL;
		cq_prepared_settings_leave(settings);
	}

	/* without joins there is nothing else that can drop an event */
	counts->filtered = batch->nevents - events;
	if (stage->prepared->has_joins && stage->scan != NULL)
		counts->filtered =
			Min(counts->filtered, (int64) (stage->scan->instrument->nfiltered1 - filtered_before));
	counts->unmatched = batch->nevents - events - counts->filtered;
}

void
cq_stage_end(CqStage *stage)
{
	ExecutorFinish(stage->desc);
	ExecutorEnd(stage->desc);
	FreeQueryDesc(stage->desc);
	pfree(stage);
}

bool
cq_error_is_of_record(int sqlstate)
{
	/* the whole class ... */
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_CASE_NOT_FOUND:
		case ERRCODE_CARDINALITY_VIOLATION:
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_EXTERNAL_ROUTINE_EXCEPTION:
		case ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION:
		case ERRCODE_PLPGSQL_ERROR:
			return true;
		default:
			break;
	}
	/* ... or single ones: limits that a value runs into, not the server */
	return sqlstate == ERRCODE_PROGRAM_LIMIT_EXCEEDED || sqlstate == ERRCODE_STATEMENT_TOO_COMPLEX;
}

static CqPrepared *
prepare_for_batches(const CqPlan *plan, bool hash_joins, MemoryContext context)
{
	static const CqBatch *no_batch = NULL;
	CqPrepared *prepared;
	MemoryContext old;

	/* a plan for whole batches, not for what a SELECT would find in the stream */
	cq_scan_bind(plan->stream, &no_batch);
	PG_TRY();
	{
		prepared = cq_prepared_create(plan, plan->stage, hash_joins, context);
	}
	PG_FINALLY();
	{
		cq_scan_bind(InvalidOid, NULL);
	}
	PG_END_TRY();
	prepared->stream = plan->stream;
	prepared->has_joins = plan->stage_has_joins;
	old = MemoryContextSwitchTo(prepared->context);
	cq_stage_plan_mark(prepared);
	MemoryContextSwitchTo(old);
	return prepared;
}

static Cost
plan_cost(const CqPrepared *prepared)
{
	return prepared->stmt->planTree->total_cost;
}

static void
executor_start(CqStage *stage)
{
	int settings = cq_prepared_settings_enter();

	/* nodes over tables shall be able to start over without reading them again */
	ExecutorStart(stage->desc, EXEC_FLAG_REWIND);
	cq_prepared_settings_leave(settings);
	stage->scan = cq_stage_plan_scan(stage->desc->planstate, stage->prepared->rescan_param);
	if ((stage->scan != NULL) != stage->prepared->has_scan)
		elog(ERROR, "stage plan has lost its scan");
	if (stage->scan != NULL)
	{
		/*
		 * The scan counts the rows that it filters out if it has something to
		 * count in.  Nothing else is to be measured, so skip the wrapper that
		 * would do it.
		 */
		MemoryContext old = MemoryContextSwitchTo(stage->desc->estate->es_query_cxt);

		stage->scan->instrument = InstrAlloc(1, 0, false);
		stage->scan->ExecProcNode = stage->scan->ExecProcNodeReal;
		MemoryContextSwitchTo(old);
	}
}

/* Start over with another batch and give out all rows; *events is how many events have one. */
static void
run_plan(CqStage *stage, CqRowConsumer consume, void *arg, CqStageCounts *counts, int64 *events)
{
	PlanState *top = stage->desc->planstate;
	MemoryContext old = MemoryContextSwitchTo(stage->desc->estate->es_query_cxt);
	TupleTableSlot *row;

	top->chgParam = bms_add_member(top->chgParam, stage->prepared->rescan_param);
	ExecReScan(top);
	MemoryContextSwitchTo(old);

	row = next_row(stage);
	if (stage->prepared->keeps_order && !cq_stage_plan_spilled(top, stage->prepared->rescan_param))
		*events = give_directly(stage, row, consume, arg, counts);
	else
		*events = give_sorted(stage, row, consume, arg, counts);
}

static TupleTableSlot *
next_row(CqStage *stage)
{
	EState *estate = stage->desc->estate;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	TupleTableSlot *row;

	ResetPerTupleExprContext(estate);
	row = ExecProcNode(stage->desc->planstate);
	MemoryContextSwitchTo(old);
	return TupIsNull(row) ? NULL : row;
}

static int
row_ordinal(TupleTableSlot *row)
{
	bool isnull;
	Datum tid = slot_getattr(row, 1, &isnull);

	if (isnull)
		elog(ERROR, "row of a stage query has no ordinal");
	return cq_ordinal_from_tid((ItemPointer) DatumGetPointer(tid));
}

static int64
give_directly(CqStage *stage, TupleTableSlot *row, CqRowConsumer consume, void *arg,
			  CqStageCounts *counts)
{
	int64 events = 0;
	int last = -1;

	for (; row != NULL; row = next_row(stage))
	{
		int ordinal = row_ordinal(row);

		if (ordinal < last)
			elog(ERROR, "stage plan returned event %d after event %d", ordinal, last);
		if (ordinal > last)
			events++;
		last = ordinal;
		counts->rows++;
		consume(arg, ordinal, row);
	}
	return events;
}

static int64
give_sorted(CqStage *stage, TupleTableSlot *row, CqRowConsumer consume, void *arg,
			CqStageCounts *counts)
{
	CqRowList *list = cq_row_list_create(stage->desc->tupDesc);
	int64 events;

	for (; row != NULL; row = next_row(stage))
		cq_row_list_add(list, row_ordinal(row), row);
	cq_row_list_give(list, consume, arg);
	counts->rows = cq_row_list_count(list);
	events = cq_row_list_events(list);
	cq_row_list_free(list);
	return events;
}
