/*
 * top.c
 *	  Recognising queries that keep only the first rows of each window.
 *
 *	  SELECT ... FROM (SELECT ..., rank() OVER (PARTITION BY w ORDER BY x DESC) AS r FROM s) t
 *	  WHERE r <= 3
 *
 * The rank of a row only grows while more rows come, so one that is beyond the
 * limit already will not be in the answer, and neither does it count for the
 * ranks of those that are.  It need not be kept until the window closes; the
 * close query does the exact work over what is left.
 *
 * That holds if the level computes this one window function and nothing else
 * over its rows, and if the level above has the limit among the conditions that
 * all must be true.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_opfamily_d.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "plan/hop.h"
#include "plan/surgery.h"
#include "plan/top.h"
#include "plan/window_key.h"
#include "state/codec.h"

/* Comparing with that many ranks would cost more than it saves. */
#define LARGEST_LIMIT 1000

static WindowFunc *only_window_function(Query *level, AttrNumber *attno);
static int64 limit_above(const CqPath *path, AttrNumber attno);
static int64 limit_of_condition(Node *condition, int varno, AttrNumber attno);
static bool constant_value(const Const *constant, int64 *value);
static bool build_partition(const CqPath *path, CqPlan *plan, WindowClause *clause, CqTop *top);
static bool build_sort(const CqPath *path, CqPlan *plan, WindowClause *clause, CqTop *top);

CqTop *
cq_top_recognise(const CqPath *path, CqPlan *plan)
{
	Query *level = path->levels[path->split].query;
	AttrNumber attno = InvalidAttrNumber;
	WindowFunc *function;
	WindowClause *clause;
	CqTop *top;
	int64 limit;

	if (path->split == 0 || cq_level_aggregates(level) || level->distinctClause != NIL ||
		list_length(level->windowClause) != 1)
		return NULL;
	function = only_window_function(level, &attno);
	if (function == NULL)
		return NULL;
	limit = limit_above(path, attno);
	clause = linitial_node(WindowClause, level->windowClause);
	if (limit < 0 || limit > LARGEST_LIMIT || clause->orderClause == NIL)
		return NULL;

	top = palloc0(sizeof(CqTop));
	top->limit = limit;
	top->ties = function->winfnoid == F_RANK_;
	if (!build_partition(path, plan, clause, top) || !build_sort(path, plan, clause, top))
		return NULL;
	return top;
}

/* The level's window function if it has one only, which ranks and is an output as it is. */
static WindowFunc *
only_window_function(Query *level, AttrNumber *attno)
{
	WindowFunc *function = NULL;
	ListCell *lc;

	foreach (lc, level->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!contain_windowfuncs((Node *) tle->expr))
			continue;
		if (function != NULL || !IsA(tle->expr, WindowFunc))
			return NULL;
		function = (WindowFunc *) tle->expr;
		*attno = tle->resno;
	}
	if (function != NULL && function->winfnoid != F_RANK_ && function->winfnoid != F_ROW_NUMBER)
		return NULL;
	return function;
}

/* The smallest limit that the level above puts on an output of the split level; -1 if none. */
static int64
limit_above(const CqPath *path, AttrNumber attno)
{
	const CqLevel *above = &path->levels[path->split - 1];
	int64 limit = -1;
	ListCell *lc;

	foreach (lc, make_ands_implicit((Expr *) above->query->jointree->quals))
	{
		int64 found = limit_of_condition(lfirst(lc), above->rti, attno);

		if (found >= 0 && (limit < 0 || found < limit))
			limit = found;
	}
	return limit;
}

/* N if the condition is "column <= N", in whatever way it is written; -1 if not. */
static int64
limit_of_condition(Node *condition, int varno, AttrNumber attno)
{
	OpExpr *op = (OpExpr *) condition;
	Oid opno;
	Node *left;
	Node *right;
	int64 value;
	int strategy;

	if (!IsA(condition, OpExpr) || list_length(op->args) != 2)
		return -1;
	opno = op->opno;
	left = linitial(op->args);
	right = lsecond(op->args);
	if (IsA(left, Const))
	{
		opno = get_commutator(opno);
		left = lsecond(op->args);
		right = linitial(op->args);
	}
	if (!IsA(left, Var) || !IsA(right, Const) || !OidIsValid(opno))
		return -1;
	if (((Var *) left)->varlevelsup != 0 || ((Var *) left)->varno != varno ||
		((Var *) left)->varattno != attno || !constant_value((Const *) right, &value))
		return -1;
	strategy = get_op_opfamily_strategy(opno, INTEGER_BTREE_FAM_OID);
	if (strategy == BTEqualStrategyNumber || strategy == BTLessEqualStrategyNumber)
		return Max(value, 0);
	if (strategy == BTLessStrategyNumber)
		return value > 0 ? value - 1 : 0;
	return -1;
}

static bool
constant_value(const Const *constant, int64 *value)
{
	if (constant->constisnull)
		return false;
	switch (constant->consttype)
	{
		case INT2OID:
			*value = DatumGetInt16(constant->constvalue);
			return true;
		case INT4OID:
			*value = DatumGetInt32(constant->constvalue);
			return true;
		case INT8OID:
			*value = DatumGetInt64(constant->constvalue);
			return true;
		default:
			return false;
	}
}

/* The window is what a pane is; the other columns become stage columns. */
static bool
build_partition(const CqPath *path, CqPlan *plan, WindowClause *clause, CqTop *top)
{
	Query *level = path->levels[path->split].query;
	ListCell *lc;

	top->partition = palloc0(sizeof(CqKey) * (list_length(clause->partitionClause) + 1));
	foreach (lc, clause->partitionClause)
	{
		SortGroupClause *group = lfirst_node(SortGroupClause, lc);
		Node *expr = get_sortgroupclause_expr(group, level->targetList);
		const char *why;
		CqKey *key;

		if (cq_window_identifies(path, path->split, expr, &plan->window))
			continue;
		if (!cq_codec_supports(exprType(expr), &why) || cq_hop_is_in(path, plan, expr))
			return false;
		key = &top->partition[top->npartition++];
		key->role = CQ_KEY_VALUE;
		key->type = exprType(expr);
		key->typmod = exprTypmod(expr);
		key->collation = exprCollation(expr);
		key->equality_operator = group->eqop;
		key->stage_column = cq_surgery_add_output(path, plan->stage, expr, "a partition key");
	}
	return true;
}

/* What is equal for all rows of a hopping window is not to be had of the stage. */
static bool
build_sort(const CqPath *path, CqPlan *plan, WindowClause *clause, CqTop *top)
{
	Query *level = path->levels[path->split].query;
	ListCell *lc;

	top->sort = palloc0(sizeof(CqTopKey) * list_length(clause->orderClause));
	foreach (lc, clause->orderClause)
	{
		SortGroupClause *order = lfirst_node(SortGroupClause, lc);
		Node *expr = get_sortgroupclause_expr(order, level->targetList);
		CqTopKey *key = &top->sort[top->nsort++];

		if (cq_hop_is_in(path, plan, expr))
			return false;
		key->stage_column = cq_surgery_add_output(path, plan->stage, expr, "a sort key");
		key->sort_operator = order->sortop;
		key->collation = exprCollation(expr);
		key->nulls_first = order->nulls_first;
	}
	return true;
}
