/*
 * scan.c
 *	  The foreign-data wrappers' routines: what plans do with streams.
 *
 * Two ways to scan.  In a worker, a plan reads the batch that was bound: events
 * that were decoded and settled before the plan began (batch.h), handed out as
 * they are, each row's ctid carrying the event's place in the batch.  Nothing
 * about an event may depend on what a plan pulls.  Elsewhere, a local stream
 * gives the rows that it still keeps, a Kafka stream what its topic holds
 * (direct/).
 *
 * Events never change, so there is INSERT and no other way to write: into a local
 * stream's tables, or to a topic when the transaction commits.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "infer/import.h"
#include "source/direct/direct.h"
#include "source/direct/insert.h"
#include "source/local/fdw.h"
#include "source/options.h"
#include "source/scan.h"
#include "source/stream.h"

/* What a plan takes a local stream without storage to have. */
#define STREAM_ROWS 10000

typedef struct StreamScan
{
	const CqBatch **batch; /* bound; NULL = reads what the stream holds */
	TupleTableSlot *slot;  /* for the batch's rows */
	int next;
	CqLocalRead *read;
	CqDirectRead *direct; /* a Kafka stream's records */
} StreamScan;

static Oid bound_relid = InvalidOid;
static const CqBatch **bound_batch = NULL;
static double bound_rows = 0;

static FdwRoutine *make_routine(void);
static CqStreamKind stream_kind(Oid relid);
static bool reads_directly(Oid relid);
static void get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid relid);
static void get_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid);
static ForeignScan *get_plan(PlannerInfo *root, RelOptInfo *rel, Oid relid, ForeignPath *path,
							 List *tlist, List *clauses, Plan *outer_plan);
static void begin_scan(ForeignScanState *node, int eflags);
static TupleTableSlot *iterate_scan(ForeignScanState *node);
static bool next_event(StreamScan *scan, TupleTableSlot *slot);
static void rescan(ForeignScanState *node);
static void end_scan(ForeignScanState *node);
static void explain_scan(ForeignScanState *node, ExplainState *es);
static int is_updatable_local(Relation rel);
static int is_updatable_kafka(Relation rel);
static void refuse_change(PlannerInfo *root, Index rti, RangeTblEntry *rte, Relation rel);
static void refuse_truncate(List *rels, DropBehavior behavior, bool restart_seqs);
static List *refuse_import(ImportForeignSchemaStmt *stmt, Oid server);
static void begin_modify_local(ModifyTableState *mtstate, ResultRelInfo *rri, List *fdw_private,
							   int subplan, int eflags);
static void begin_insert_local(ModifyTableState *mtstate, ResultRelInfo *rri);
static void begin_modify_kafka(ModifyTableState *mtstate, ResultRelInfo *rri, List *fdw_private,
							   int subplan, int eflags);
static void begin_insert_kafka(ModifyTableState *mtstate, ResultRelInfo *rri);
static int batch_size(ResultRelInfo *rri);
static TupleTableSlot *insert_row_local(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
										TupleTableSlot *plan_slot);
static TupleTableSlot **insert_batch(EState *estate, ResultRelInfo *rri, TupleTableSlot **slots,
									 TupleTableSlot **plan_slots, int *nslots);
static void end_modify_local(EState *estate, ResultRelInfo *rri);
static TupleTableSlot *insert_row_kafka(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
										TupleTableSlot *plan_slot);
static void end_modify_kafka(EState *estate, ResultRelInfo *rri);

PG_FUNCTION_INFO_V1(cq_kafka_handler);
PG_FUNCTION_INFO_V1(cq_local_handler);

void
cq_scan_bind(Oid relid, const CqBatch **batch, double rows)
{
	bound_relid = relid;
	bound_batch = batch;
	bound_rows = rows;
}

void
cq_scan_unbind(void)
{
	cq_scan_bind(InvalidOid, NULL, 0);
}

Datum
cq_kafka_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = make_routine();

	routine->IsForeignRelUpdatable = is_updatable_kafka;
	routine->ImportForeignSchema = cq_import_topics;
	routine->BeginForeignModify = begin_modify_kafka;
	routine->BeginForeignInsert = begin_insert_kafka;
	routine->ExecForeignInsert = insert_row_kafka;
	routine->EndForeignModify = end_modify_kafka;
	routine->EndForeignInsert = end_modify_kafka;
	PG_RETURN_POINTER(routine);
}

Datum
cq_local_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = make_routine();

	routine->IsForeignRelUpdatable = is_updatable_local;
	routine->ImportForeignSchema = refuse_import;
	routine->BeginForeignModify = begin_modify_local;
	routine->BeginForeignInsert = begin_insert_local;
	routine->ExecForeignInsert = insert_row_local;
	routine->EndForeignModify = end_modify_local;
	routine->EndForeignInsert = end_modify_local;
	routine->ExecForeignBatchInsert = insert_batch;
	routine->GetForeignModifyBatchSize = batch_size;
	PG_RETURN_POINTER(routine);
}

static FdwRoutine *
make_routine(void)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = get_rel_size;
	routine->GetForeignPaths = get_paths;
	routine->GetForeignPlan = get_plan;
	routine->BeginForeignScan = begin_scan;
	routine->IterateForeignScan = iterate_scan;
	routine->ReScanForeignScan = rescan;
	routine->EndForeignScan = end_scan;
	routine->ExplainForeignScan = explain_scan;

	routine->AddForeignUpdateTargets = refuse_change;
	routine->ExecForeignTruncate = refuse_truncate;
	return routine;
}

/* The wrapper's routines tell, without reading the definition. */
static CqStreamKind
stream_kind(Oid relid)
{
	FdwRoutine *routine = GetFdwRoutineByRelId(relid);

	if (routine->IsForeignRelUpdatable == is_updatable_kafka)
		return CQ_STREAM_KAFKA;
	return CQ_STREAM_LOCAL;
}

/* A worker's plan reads what is bound. */
static bool
reads_directly(Oid relid)
{
	return relid != bound_relid && stream_kind(relid) == CQ_STREAM_KAFKA;
}

static void
get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	double pages = 0;
	double rows;

	if (reads_directly(relid))
	{
		cq_direct_size(root, rel, relid);
		return;
	}
	if (relid != bound_relid && cq_local_read_estimate(relid, &rows, &pages))
	{
		rel->pages = (BlockNumber) pages;
		rel->tuples = rows;
		rel->rows = clamp_row_est(
			rows * clauselist_selectivity(root, rel->baserestrictinfo, 0, JOIN_INNER, NULL));
		return;
	}
	/* filters do not count: what passes them decides how often joined tables are looked into */
	rel->tuples = relid == bound_relid ? bound_rows : STREAM_ROWS;
	rel->rows = rel->tuples;
}

static void
get_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	Cost startup = rel->baserestrictcost.startup;
	Cost total;

	if (reads_directly(relid))
	{
		cq_direct_paths(root, rel);
		return;
	}
	total = startup + rel->pages * seq_page_cost +
			rel->tuples * (cpu_tuple_cost + rel->baserestrictcost.per_tuple);

	add_path(rel,
			 (Path *)
				 cq_compat_foreign_path(root, rel, rel->rows, startup, total, rel->lateral_relids));
}

static ForeignScan *
get_plan(PlannerInfo *root, RelOptInfo *rel, Oid relid, ForeignPath *path, List *tlist,
		 List *clauses, Plan *outer_plan)
{
	if (reads_directly(relid))
		return cq_direct_plan(root, rel, tlist, clauses, outer_plan);
	return make_foreignscan(tlist,
							extract_actual_clauses(clauses, false),
							rel->relid,
							NIL,
							NIL,
							NIL,
							NIL,
							outer_plan);
}

static void
begin_scan(ForeignScanState *node, int eflags)
{
	Relation rel = node->ss.ss_currentRelation;
	StreamScan *scan;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	scan = palloc0(sizeof(StreamScan));
	node->fdw_state = scan;
	if (RelationGetRelid(rel) == bound_relid)
	{
		scan->batch = bound_batch;
		scan->slot = ExecInitExtraTupleSlot(node->ss.ps.state,
											node->ss.ss_ScanTupleSlot->tts_tupleDescriptor,
											&TTSOpsVirtual);
	}
	else if (stream_kind(RelationGetRelid(rel)) == CQ_STREAM_LOCAL)
		scan->read = cq_local_read_begin(rel, node->ss.ps.state);
	else
		scan->direct = cq_direct_begin(node);
}

static TupleTableSlot *
iterate_scan(ForeignScanState *node)
{
	StreamScan *scan = node->fdw_state;

	if (likely(scan->slot != NULL))
	{
		if (!next_event(scan, scan->slot))
			ExecClearTuple(scan->slot);
		return scan->slot;
	}
	if (scan->direct)
		cq_direct_next(scan->direct, node->ss.ss_ScanTupleSlot);
	else
		cq_local_read_next(scan->read, node->ss.ss_ScanTupleSlot);
	return node->ss.ss_ScanTupleSlot;
}

/*
 * Values stay where they are, and so do the arrays of them: the slot is lent
 * those of the batch's row.  A virtual slot does not free its arrays, copies of
 * it read them only, and nobody materialises a scan's own slot, which alone
 * would write to them.
 */
static inline bool
next_event(StreamScan *scan, TupleTableSlot *slot)
{
	const CqBatch *batch = *scan->batch;
	Size first;

	if (batch == NULL || scan->next >= batch->nevents)
		return false;
	Assert(batch->natts == slot->tts_tupleDescriptor->natts);
	Assert(TTS_IS_VIRTUAL(slot) && TTS_FIXED(slot) && !TTS_SHOULDFREE(slot));
	first = (Size) scan->next * batch->natts;
	slot->tts_values = &batch->values[first];
	slot->tts_isnull = &batch->nulls[first];
	slot->tts_flags &= ~TTS_FLAG_EMPTY;
	slot->tts_nvalid = batch->natts;
	cq_ordinal_to_tid(scan->next++, &slot->tts_tid);
	return true;
}

static void
rescan(ForeignScanState *node)
{
	StreamScan *scan = node->fdw_state;

	scan->next = 0;
	if (scan->read)
		cq_local_read_restart(scan->read);
	if (scan->direct)
		cq_direct_restart(scan->direct);
}

static void
end_scan(ForeignScanState *node)
{
	StreamScan *scan = node->fdw_state;

	if (scan && scan->read)
		cq_local_read_end(scan->read);
	if (scan && scan->direct)
		cq_direct_end(scan->direct);
}

static void
explain_scan(ForeignScanState *node, ExplainState *es)
{
	Oid relid = RelationGetRelid(node->ss.ss_currentRelation);
	StreamScan *scan = node->fdw_state;
	ListCell *lc;

	if (stream_kind(relid) == CQ_STREAM_LOCAL)
	{
		ExplainPropertyText("Stream", "local", es);
		return;
	}
	ExplainPropertyText("Stream", "Kafka", es);
	foreach (lc, GetForeignTable(relid)->options)
		if (strcmp(lfirst_node(DefElem, lc)->defname, "topic") == 0)
			ExplainPropertyText("Topic", defGetString(lfirst_node(DefElem, lc)), es);
	if (relid != bound_relid)
		cq_direct_explain(node, scan ? scan->direct : NULL, es);
}

static int
is_updatable_local(Relation rel)
{
	return 1 << CMD_INSERT;
}

static int
is_updatable_kafka(Relation rel)
{
	return 1 << CMD_INSERT;
}

/* Called while UPDATE or DELETE is planned. */
static void
refuse_change(PlannerInfo *root, Index rti, RangeTblEntry *rte, Relation rel)
{
	const char *verb = root->parse->commandType == CMD_DELETE ? "delete from" : "update";

	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("cannot %s stream \"%s\"", verb, RelationGetRelationName(rel)),
			errdetail("Events of a stream cannot be changed."),
			errhint("Insert another event that says what is different now."));
}

static void
refuse_truncate(List *rels, DropBehavior behavior, bool restart_seqs)
{
	Relation rel = linitial(rels);

	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("cannot truncate stream \"%s\"", RelationGetRelationName(rel)),
			errdetail("Events of a stream cannot be changed."),
			stream_kind(RelationGetRelid(rel)) == CQ_STREAM_LOCAL
				? errhint("A local stream drops rows by itself once every view has read them and "
						  "they are older than its option \"retention\".")
				: 0);
}

static List *
refuse_import(ImportForeignSchemaStmt *stmt, Oid server)
{
	ereport(ERROR,
			errcode(ERRCODE_FDW_NO_SCHEMAS),
			errmsg("cannot import streams from server \"%s\"", stmt->server_name),
			errdetail("Local streams are in this database: there is nothing to import."),
			errhint("Name a server of the wrapper pipeline_kafka, or define a local stream with "
					"CREATE FOREIGN TABLE."));
	return NIL;
}

static void
begin_modify_local(ModifyTableState *mtstate, ResultRelInfo *rri, List *fdw_private, int subplan,
				   int eflags)
{
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		cq_local_insert_begin(mtstate->ps.state, rri);
}

/* COPY, and rows routed to a partition. */
static void
begin_insert_local(ModifyTableState *mtstate, ResultRelInfo *rri)
{
	if (rri->ri_FdwState == NULL)
		cq_local_insert_begin(mtstate->ps.state, rri);
}

static void
begin_modify_kafka(ModifyTableState *mtstate, ResultRelInfo *rri, List *fdw_private, int subplan,
				   int eflags)
{
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		cq_direct_insert_begin(mtstate->ps.state, rri);
}

static void
begin_insert_kafka(ModifyTableState *mtstate, ResultRelInfo *rri)
{
	if (rri->ri_FdwState == NULL)
		cq_direct_insert_begin(mtstate->ps.state, rri);
}

/* One by one where each row must have its number and be checked before the next is computed. */
static int
batch_size(ResultRelInfo *rri)
{
	TriggerDesc *triggers = rri->ri_TrigDesc;

	if (rri->ri_projectReturning || rri->ri_WithCheckOptions ||
		(triggers && (triggers->trig_insert_before_row || triggers->trig_insert_after_row)))
		return 1;
	return CQ_LOCAL_INSERT_BATCH;
}

static TupleTableSlot *
insert_row_local(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
				 TupleTableSlot *plan_slot)
{
	cq_local_insert_rows(estate, rri, &slot, 1);
	return slot;
}

static TupleTableSlot **
insert_batch(EState *estate, ResultRelInfo *rri, TupleTableSlot **slots,
			 TupleTableSlot **plan_slots, int *nslots)
{
	cq_local_insert_rows(estate, rri, slots, *nslots);
	return slots;
}

static void
end_modify_local(EState *estate, ResultRelInfo *rri)
{
	cq_local_insert_end(rri);
}

static TupleTableSlot *
insert_row_kafka(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
				 TupleTableSlot *plan_slot)
{
	cq_direct_insert_row(estate, rri, slot);
	return slot;
}

static void
end_modify_kafka(EState *estate, ResultRelInfo *rri)
{
	cq_direct_insert_end(rri);
}
