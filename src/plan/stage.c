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
 *
 * A query with joins has two plans.  The one for bulk reads joined tables once
 * per checkpoint and keeps them in hash tables; for a few events that would cost
 * far more than looking the rows up.  So small batches run by a plan made for
 * them, until a large one comes; from then on the tables are there.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "parser/parsetree.h"
#include "storage/itemptr.h"
#include "tcop/dest.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

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

/*
 * Events that plans are to expect per batch.  Bulk: enough that joined tables
 * are hashed, once per checkpoint, and not the stream.
 */
#define BULK_ROWS 10000
#define DRIP_ROWS 20

#define DRIP_LARGEST_BATCH 64
#define WHOLE_TABLE_ROWS   10000 /* reading a smaller one is not worth a warning */

/* A plan being executed. */
typedef struct Execution
{
	CqPrepared *prepared;
	QueryDesc *desc; /* NULL = not started */
	PlanState *scan; /* of the stream; NULL if the plan has none */
} Execution;

struct CqStage
{
	MemoryContext context;
	Execution bulk;
	Execution drip;
	const CqBatch *batch; /* what the scans read */
};

static CqPrepared *prepare_bulk(const CqPlan *plan, MemoryContext context);
static CqPrepared *prepare(const CqPlan *plan, bool hash_joins, double rows, MemoryContext context);
static Cost plan_cost(const CqPrepared *prepared);
static void collect_whole_tables(Plan *plan, const CqPrepared *prepared, List **tables);
static double table_rows(Oid relid);
static Execution *choose_plan(CqStage *stage, const CqBatch *batch);
static void execution_start(CqStage *stage, Execution *execution);
static void executor_start(Execution *execution);
static void execution_end(Execution *execution);
static void run_plan(Execution *execution, CqRowConsumer consume, void *arg, CqStageCounts *counts,
					 int64 *events);
static TupleTableSlot *next_row(Execution *execution);
static int row_ordinal(TupleTableSlot *row);
static int64 give_directly(Execution *execution, TupleTableSlot *row, CqRowConsumer consume,
						   void *arg, CqStageCounts *counts);
static int64 give_sorted(Execution *execution, TupleTableSlot *row, CqRowConsumer consume,
						 void *arg, CqStageCounts *counts);

CqPrepared *
cq_stage_prepare(const CqPlan *plan, MemoryContext context)
{
	CqPrepared *prepared = prepare_bulk(plan, context);

	if (plan->stage_has_joins && prepared->has_scan)
		prepared->drip = prepare(plan, true, DRIP_ROWS, prepared->context);
	return prepared;
}

List *
cq_stage_whole_tables(const CqPrepared *prepared)
{
	List *tables = NIL;

	if (prepared->drip != NULL)
		collect_whole_tables(prepared->drip->stmt->planTree, prepared->drip, &tables);
	return tables;
}

CqStage *
cq_stage_begin(CqPrepared *prepared)
{
	CqStage *stage = palloc0(sizeof(CqStage));

	stage->context = CurrentMemoryContext;
	stage->bulk.prepared = prepared;
	stage->drip.prepared = prepared->drip;
	return stage;
}

void
cq_stage_run(CqStage *stage, const CqBatch *batch, CqRowConsumer consume, void *arg,
			 CqStageCounts *counts)
{
	Execution *execution = choose_plan(stage, batch);
	double filtered_before = 0;
	int64 events = 0;

	memset(counts, 0, sizeof(CqStageCounts));
	if (execution->desc == NULL)
		execution_start(stage, execution);
	if (execution->scan != NULL)
	{
		int settings = cq_prepared_settings_enter();

		filtered_before = execution->scan->instrument->nfiltered1;
		stage->batch = batch;
		run_plan(execution, consume, arg, counts, &events);
		stage->batch = NULL;
		cq_prepared_settings_leave(settings);
	}

	/* without joins there is nothing else that can drop an event */
	counts->filtered = batch->nevents - events;
	if (execution->prepared->has_joins && execution->scan != NULL)
		counts->filtered = Min(counts->filtered,
							   (int64) (execution->scan->instrument->nfiltered1 - filtered_before));
	counts->unmatched = batch->nevents - events - counts->filtered;
}

void
cq_stage_end(CqStage *stage)
{
	execution_end(&stage->drip);
	execution_end(&stage->bulk);
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
prepare_bulk(const CqPlan *plan, MemoryContext context)
{
	CqPrepared *prepared = prepare(plan, true, BULK_ROWS, context);
	CqPrepared *other;

	if (!cq_stage_plan_rereads(prepared))
		return prepared;
	other = prepare(plan, false, BULK_ROWS, context);
	if (plan_cost(other) > plan_cost(prepared) * REREADING_COST)
	{
		MemoryContextDelete(other->context);
		return prepared;
	}
	MemoryContextDelete(prepared->context);
	return other;
}

static CqPrepared *
prepare(const CqPlan *plan, bool hash_joins, double rows, MemoryContext context)
{
	static const CqBatch *no_batch = NULL;
	CqPrepared *prepared;
	MemoryContext old;

	/* a plan for batches, not for what a SELECT would find in the stream */
	cq_scan_bind(plan->stream, &no_batch, rows);
	PG_TRY();
	{
		prepared = cq_prepared_create(plan, plan->stage, hash_joins, context);
	}
	PG_FINALLY();
	{
		cq_scan_unbind();
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

/* Joins are made of nodes with one or two inputs; a table in an Append is none that is large. */
static void
collect_whole_tables(Plan *plan, const CqPrepared *prepared, List **tables)
{
	if (plan == NULL)
		return;
	if (IsA(plan, SubqueryScan))
		collect_whole_tables(((SubqueryScan *) plan)->subplan, prepared, tables);
	if (IsA(plan, SeqScan))
	{
		RangeTblEntry *rte = rt_fetch(((Scan *) plan)->scanrelid, prepared->stmt->rtable);

		if (table_rows(rte->relid) >= WHOLE_TABLE_ROWS)
			*tables = list_append_unique_oid(*tables, rte->relid);
	}
	collect_whole_tables(outerPlan(plan), prepared, tables);
	collect_whole_tables(innerPlan(plan), prepared, tables);
}

/* As far as VACUUM and ANALYZE know. */
static double
table_rows(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	double rows = 0;

	if (HeapTupleIsValid(tuple))
	{
		rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	return rows;
}

/* Once tables are in memory there is no reason to look into them by index. */
static Execution *
choose_plan(CqStage *stage, const CqBatch *batch)
{
	if (stage->drip.prepared != NULL && stage->bulk.desc == NULL &&
		batch->nevents <= DRIP_LARGEST_BATCH)
		return &stage->drip;
	return &stage->bulk;
}

static void
execution_start(CqStage *stage, Execution *execution)
{
	CqPrepared *prepared = execution->prepared;
	MemoryContext old = MemoryContextSwitchTo(stage->context);

	execution->desc = CreateQueryDesc(prepared->stmt,
									  "continuous query",
									  GetActiveSnapshot(),
									  InvalidSnapshot,
									  None_Receiver,
									  NULL,
									  NULL,
									  0);
	cq_scan_bind(prepared->stream, &stage->batch, 0);
	PG_TRY();
	{
		executor_start(execution);
	}
	PG_FINALLY();
	{
		cq_scan_unbind();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
}

static void
executor_start(Execution *execution)
{
	int settings = cq_prepared_settings_enter();

	/* nodes over tables shall be able to start over without reading them again */
	ExecutorStart(execution->desc, EXEC_FLAG_REWIND);
	cq_prepared_settings_leave(settings);
	execution->scan =
		cq_stage_plan_scan(execution->desc->planstate, execution->prepared->rescan_param);
	if ((execution->scan != NULL) != execution->prepared->has_scan)
		elog(ERROR, "stage plan has lost its scan");
	if (execution->scan != NULL)
	{
		/*
		 * The scan counts the rows that it filters out if it has something to
		 * count in.  Nothing else is to be measured, so skip the wrapper that
		 * would do it.
		 */
		MemoryContext old = MemoryContextSwitchTo(execution->desc->estate->es_query_cxt);

		execution->scan->instrument = InstrAlloc(1, 0, false);
		execution->scan->ExecProcNode = execution->scan->ExecProcNodeReal;
		MemoryContextSwitchTo(old);
	}
}

static void
execution_end(Execution *execution)
{
	if (execution->desc == NULL)
		return;
	ExecutorFinish(execution->desc);
	ExecutorEnd(execution->desc);
	FreeQueryDesc(execution->desc);
	execution->desc = NULL;
}

/* Start over with another batch and give out all rows; *events is how many events have one. */
static void
run_plan(Execution *execution, CqRowConsumer consume, void *arg, CqStageCounts *counts,
		 int64 *events)
{
	PlanState *top = execution->desc->planstate;
	MemoryContext old = MemoryContextSwitchTo(execution->desc->estate->es_query_cxt);
	TupleTableSlot *row;

	top->chgParam = bms_add_member(top->chgParam, execution->prepared->rescan_param);
	ExecReScan(top);
	MemoryContextSwitchTo(old);

	row = next_row(execution);
	if (execution->prepared->keeps_order &&
		!cq_stage_plan_spilled(top, execution->prepared->rescan_param))
		*events = give_directly(execution, row, consume, arg, counts);
	else
		*events = give_sorted(execution, row, consume, arg, counts);
}

static TupleTableSlot *
next_row(Execution *execution)
{
	EState *estate = execution->desc->estate;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	TupleTableSlot *row;

	ResetPerTupleExprContext(estate);
	row = ExecProcNode(execution->desc->planstate);
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
give_directly(Execution *execution, TupleTableSlot *row, CqRowConsumer consume, void *arg,
			  CqStageCounts *counts)
{
	int64 events = 0;
	int last = -1;

	for (; row != NULL; row = next_row(execution))
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
give_sorted(Execution *execution, TupleTableSlot *row, CqRowConsumer consume, void *arg,
			CqStageCounts *counts)
{
	CqRowList *list = cq_row_list_create(execution->desc->tupDesc);
	int64 events;

	for (; row != NULL; row = next_row(execution))
		cq_row_list_add(list, row_ordinal(row), row);
	cq_row_list_give(list, consume, arg);
	counts->rows = cq_row_list_count(list);
	events = cq_row_list_events(list);
	cq_row_list_free(list);
	return events;
}
