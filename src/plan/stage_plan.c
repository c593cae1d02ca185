/*
 * stage_plan.c
 *	  Making a stage query's plan rewindable, and finding out what it does to
 *	  the order of events.
 *
 * Between two batches only those nodes must forget what they have that contain
 * the scan of the stream; hash tables, sorts and caches over joined tables are
 * to stay.  The executor knows this from the parameters that nodes depend on:
 * the scan and all nodes above it are made to depend on one more parameter,
 * which nothing ever reads, and a rescan says that it changed.  (A recursive
 * query tells its working table's scan in the same way.)
 *
 * A hash join that would have to build its table again for each batch is
 * rarely worth having; without hash joins there are indexes, and sorted tables,
 * which are kept.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/hashjoin.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "nodes/plannodes.h"
#include "parser/parsetree.h"

#include "plan/stage_plan.h"

/* What a row takes in a hash table besides its data: headers and its place in a bucket. */
#define HASH_ROW_OVERHEAD (MAXALIGN(SizeofMinimalTupleHeader) + HJTUPLE_OVERHEAD + sizeof(void *))

static bool mark_node(Plan *plan, CqPrepared *prepared);
static bool is_stream_scan(Plan *plan, CqPrepared *prepared);
static int mark_list(List *plans, CqPrepared *prepared);
static bool keeps_order(Plan *plan, bool in_outer);
static bool join_rereads(Plan *plan, CqPrepared *prepared);
static bool is_on_path(PlanState *node, int rescan_param);

void
cq_stage_plan_mark(CqPrepared *prepared)
{
	PlannedStmt *stmt = prepared->stmt;

	prepared->rescan_param = list_length(stmt->paramExecTypes);
	stmt->paramExecTypes = lappend_oid(stmt->paramExecTypes, INT4OID);
	prepared->keeps_order = true;
	prepared->has_scan = mark_node(stmt->planTree, prepared);
}

bool
cq_stage_plan_rereads(CqPrepared *prepared)
{
	int settings = cq_prepared_settings_enter();
	bool result = join_rereads(prepared->stmt->planTree, prepared);

	cq_prepared_settings_leave(settings);
	return result;
}

PlanState *
cq_stage_plan_scan(PlanState *node, int rescan_param)
{
	PlanState *found = NULL;
	PlanState **children;
	int n = 0;
	int i;

	if (node == NULL || !is_on_path(node, rescan_param))
		return NULL;
	switch (nodeTag(node))
	{
		case T_AppendState:
			children = ((AppendState *) node)->appendplans;
			n = ((AppendState *) node)->as_nplans;
			break;
		case T_MergeAppendState:
			children = ((MergeAppendState *) node)->mergeplans;
			n = ((MergeAppendState *) node)->ms_nplans;
			break;
		case T_SubqueryScanState:
			children = &((SubqueryScanState *) node)->subplan;
			n = 1;
			break;
		case T_ForeignScanState:
			return node;
		default:
			found = cq_stage_plan_scan(outerPlanState(node), rescan_param);
			return found != NULL ? found : cq_stage_plan_scan(innerPlanState(node), rescan_param);
	}
	for (i = 0; i < n && found == NULL; i++)
		found = cq_stage_plan_scan(children[i], rescan_param);
	return found;
}

bool
cq_stage_plan_spilled(PlanState *node, int rescan_param)
{
	if (node == NULL || !is_on_path(node, rescan_param))
		return false;
	if (IsA(node, SubqueryScanState))
		return cq_stage_plan_spilled(((SubqueryScanState *) node)->subplan, rescan_param);
	if (IsA(node, HashJoinState))
	{
		HashJoinTable table = ((HashJoinState *) node)->hj_HashTable;

		if (table != NULL && table->nbatch > 1)
			return true;
	}
	return cq_stage_plan_spilled(outerPlanState(node), rescan_param);
}

/* Returns whether the stream's scan is in this subtree, which then depends on the parameter. */
static bool
mark_node(Plan *plan, CqPrepared *prepared)
{
	bool in_outer;
	int found;

	if (plan == NULL)
		return false;
	in_outer = mark_node(outerPlan(plan), prepared);
	found = in_outer + mark_node(innerPlan(plan), prepared);
	if (IsA(plan, Append))
		found += mark_list(((Append *) plan)->appendplans, prepared);
	else if (IsA(plan, MergeAppend))
		found += mark_list(((MergeAppend *) plan)->mergeplans, prepared);
	else if (IsA(plan, SubqueryScan))
		found += mark_node(((SubqueryScan *) plan)->subplan, prepared);
	else if (is_stream_scan(plan, prepared))
		found++;
	if (found == 0)
		return false;
	if (found > 1)
		elog(ERROR, "stage plan scans the stream more than once");
	plan->extParam = bms_add_member(plan->extParam, prepared->rescan_param);
	plan->allParam = bms_add_member(plan->allParam, prepared->rescan_param);
	prepared->keeps_order &= keeps_order(plan, in_outer);
	return true;
}

static bool
is_stream_scan(Plan *plan, CqPrepared *prepared)
{
	return IsA(plan, ForeignScan) && ((ForeignScan *) plan)->scan.scanrelid > 0 &&
		   rt_fetch(((ForeignScan *) plan)->scan.scanrelid, prepared->stmt->rtable)->relid ==
			   prepared->stream;
}

static int
mark_list(List *plans, CqPrepared *prepared)
{
	int found = 0;
	ListCell *lc;

	foreach (lc, plans)
		found += mark_node(lfirst(lc), prepared);
	return found;
}

/*
 * Does a node that has the stream below it pass rows on in their order?  Hash
 * joins do as long as their table fits into memory, see cq_stage_plan_spilled().
 */
static bool
keeps_order(Plan *plan, bool in_outer)
{
	switch (nodeTag(plan))
	{
		case T_ForeignScan:
		case T_SubqueryScan:
			return true;
		case T_Result:
		case T_ProjectSet:
		case T_NestLoop:
		case T_HashJoin:
			return in_outer;
		default:
			return false;
	}
}

/*
 * A hash table of events is made anew for each batch, with a scan of the table
 * on the other side; and so is one of a table that does not fit into memory.
 */
static bool
join_rereads(Plan *plan, CqPrepared *prepared)
{
	if (plan == NULL || !bms_is_member(prepared->rescan_param, plan->allParam))
		return false;
	if (IsA(plan, SubqueryScan))
		return join_rereads(((SubqueryScan *) plan)->subplan, prepared);
	if (IsA(plan, HashJoin))
	{
		Plan *hash = innerPlan(plan);
		double row_bytes = MAXALIGN(hash->plan_width) + HASH_ROW_OVERHEAD;

		if (bms_is_member(prepared->rescan_param, hash->allParam) ||
			hash->plan_rows * row_bytes > (double) get_hash_memory_limit())
			return true;
	}
	return join_rereads(outerPlan(plan), prepared) || join_rereads(innerPlan(plan), prepared);
}

static bool
is_on_path(PlanState *node, int rescan_param)
{
	return bms_is_member(rescan_param, node->plan->allParam);
}
