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
 *
 * Groups of a window are ranked in the same way, at the level that groups or at
 * the one above.  There it saves handing them all to the close query.  A limit
 * of one is also written
 *
 *	  SELECT ... FROM (SELECT ..., max(x) OVER (PARTITION BY w) AS top FROM ...) t WHERE x = top
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_opfamily_d.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "plan/hop.h"
#include "plan/surgery.h"
#include "plan/top.h"
#include "plan/window_key.h"
#include "state/codec.h"

/* Comparing with that many ranks would cost more than it saves. */
#define LARGEST_LIMIT 1000

/* Groups being ranked in a close query. */
typedef struct Ranking
{
	Query *groups; /* the level that reads closed rows */
	Query *level;  /* the one that ranks them: the same, or the one above */
	int rti;	   /* of the groups in that */
	Query *above;
	int above_rti;
	WindowFunc *function;
	AttrNumber attno; /* its output */
	WindowClause *clause;
} Ranking;

static WindowFunc *only_window_function(Query *level, AttrNumber *attno);
static int64 limit_above(Query *above, int varno, AttrNumber attno);
static int64 limit_of_condition(Node *condition, int varno, AttrNumber attno);
static bool constant_value(const Const *constant, int64 *value);
static bool build_partition(const CqPath *path, CqPlan *plan, WindowClause *clause, CqTop *top);
static bool build_sort(const CqPath *path, CqPlan *plan, WindowClause *clause, CqTop *top);
static bool ranks_only(const Query *level, int rti);
static int closed_column(const Ranking *ranking, Node *expr);
static bool groups_partition(const CqPlan *plan, const Ranking *ranking, CqTop *top);
static bool groups_rank(const Ranking *ranking, CqTop *top);
static bool groups_extreme(const Ranking *ranking, CqTop *top);
static bool equals_output(const Ranking *ranking, Node *condition, Oid opfamily, Node *expr);

static inline bool
is_ranking(const WindowFunc *function)
{
	return function->winfnoid == F_RANK_ || function->winfnoid == F_ROW_NUMBER;
}

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
	if (function == NULL || !is_ranking(function))
		return NULL;
	limit =
		limit_above(path->levels[path->split - 1].query, path->levels[path->split - 1].rti, attno);
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

/* The level's window function if it has one only, which is an output as it is. */
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
	return function;
}

/* The smallest limit that a level puts on an output of the one below; -1 if none. */
static int64
limit_above(Query *above, int varno, AttrNumber attno)
{
	int64 limit = -1;
	ListCell *lc;

	foreach (lc, make_ands_implicit((Expr *) above->jointree->quals))
	{
		int64 found = limit_of_condition(lfirst(lc), varno, attno);

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

		if (cq_window_identifies(path, path->split, expr, &plan->window, true))
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

/*
 * Everything is read from the close query, where what the groups hold is
 * columns already.  A condition on groups (HAVING) would have to be met first.
 */
CqTop *
cq_top_recognise_groups(const CqPath *path, const CqPlan *plan)
{
	Ranking ranking = {0};
	int at = path->split;
	CqTop *top = palloc0(sizeof(CqTop));
	bool is_top;

	ranking.groups = ranking.level = cq_path_descend(path, plan->close, 0, at);
	if (!ranking.groups->hasWindowFuncs && at > 0)
		ranking.level = cq_path_descend(path, plan->close, 0, --at);
	if (at == 0 || ranking.groups->jointree->quals != NULL ||
		ranking.groups->distinctClause != NIL ||
		(ranking.level != ranking.groups && !ranks_only(ranking.level, path->levels[at].rti)) ||
		ranking.level->distinctClause != NIL || list_length(ranking.level->windowClause) != 1)
		return NULL;
	ranking.rti = path->levels[at].rti;
	ranking.above = cq_path_descend(path, plan->close, 0, at - 1);
	ranking.above_rti = path->levels[at - 1].rti;
	ranking.function = only_window_function(ranking.level, &ranking.attno);
	ranking.clause = linitial_node(WindowClause, ranking.level->windowClause);
	if (ranking.function == NULL || !groups_partition(plan, &ranking, top))
		return NULL;
	is_top =
		is_ranking(ranking.function) ? groups_rank(&ranking, top) : groups_extreme(&ranking, top);
	return is_top ? top : NULL;
}

/* Does a level do nothing to the rows of a sub-query but rank them? */
static bool
ranks_only(const Query *level, int rti)
{
	List *from = level->jointree->fromlist;

	return !cq_level_aggregates(level) && level->setOperations == NULL &&
		   level->jointree->quals == NULL && list_length(from) == 1 &&
		   IsA(linitial(from), RangeTblRef) && linitial_node(RangeTblRef, from)->rtindex == rti;
}

/* Which column of the closed rows (counted from 1) an expression of the level is; 0 if none. */
static int
closed_column(const Ranking *ranking, Node *expr)
{
	Var *var = (Var *) expr;

	if (expr == NULL || !IsA(expr, Var) || var->varlevelsup != 0)
		return 0;
	if (ranking->level != ranking->groups)
	{
		if (var->varno != ranking->rti || var->varattno <= 0)
			return 0;
		var = (Var *) get_tle_by_resno(ranking->groups->targetList, var->varattno)->expr;
		if (!IsA(var, Var) || var->varlevelsup != 0)
			return 0;
	}
	return Max(var->varattno, 0);
}

/* The window is that of all the groups at hand. */
static bool
groups_partition(const CqPlan *plan, const Ranking *ranking, CqTop *top)
{
	List *clauses = ranking->clause->partitionClause;
	ListCell *lc;

	top->partition = palloc0(sizeof(CqKey) * (list_length(clauses) + 1));
	foreach (lc, clauses)
	{
		Node *expr = get_sortgroupclause_expr(lfirst(lc), ranking->level->targetList);
		int column = closed_column(ranking, expr);

		if (column == 0 || column > plan->nkeys)
			return false;
		if (plan->keys[column - 1].role != CQ_KEY_VALUE)
			continue;
		top->partition[top->npartition] = plan->keys[column - 1];
		top->partition[top->npartition++].stage_column = column - 1;
	}
	return true;
}

static bool
groups_rank(const Ranking *ranking, CqTop *top)
{
	List *clauses = ranking->clause->orderClause;
	ListCell *lc;

	top->limit = limit_above(ranking->above, ranking->above_rti, ranking->attno);
	if (top->limit < 0 || top->limit > LARGEST_LIMIT || clauses == NIL)
		return false;
	top->ties = ranking->function->winfnoid == F_RANK_;
	top->sort = palloc0(sizeof(CqTopKey) * list_length(clauses));
	foreach (lc, clauses)
	{
		SortGroupClause *order = lfirst_node(SortGroupClause, lc);
		Node *expr = get_sortgroupclause_expr(order, ranking->level->targetList);
		int column = closed_column(ranking, expr);
		CqTopKey *key = &top->sort[top->nsort++];

		if (column == 0)
			return false;
		key->stage_column = column - 1;
		key->sort_operator = order->sortop;
		key->collation = exprCollation(expr);
		key->nulls_first = order->nulls_first;
	}
	return true;
}

/*
 * max() or min() over the whole partition, and above only the rows that have
 * it.  Those with NULL are dropped above in any case.
 */
static bool
groups_extreme(const Ranking *ranking, CqTop *top)
{
	WindowFunc *function = ranking->function;
	Node *argument = list_length(function->args) == 1 ? linitial(function->args) : NULL;
	int column = closed_column(ranking, argument);
	CqTopKey *key = palloc0(sizeof(CqTopKey));
	HeapTuple tuple;
	Oid opfamily;
	ListCell *lc;

	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(function->winfnoid));
	if (!HeapTupleIsValid(tuple))
		return false;
	key->sort_operator = ((Form_pg_aggregate) GETSTRUCT(tuple))->aggsortop;
	ReleaseSysCache(tuple);
	if (column == 0 || function->aggfilter != NULL || ranking->clause->orderClause != NIL ||
		ranking->clause->frameOptions != FRAMEOPTION_DEFAULTS || !OidIsValid(key->sort_operator) ||
		!cq_compat_ordering_family(key->sort_operator, &opfamily))
		return false;
	key->stage_column = column - 1;
	key->collation = function->inputcollid;
	top->limit = 1;
	top->ties = true;
	top->nsort = 1;
	top->sort = key;
	foreach (lc, make_ands_implicit((Expr *) ranking->above->jointree->quals))
	{
		if (equals_output(ranking, lfirst(lc), opfamily, argument))
			return true;
	}
	return false;
}

/* Is the condition that the function's output equals that of its argument? */
static bool
equals_output(const Ranking *ranking, Node *condition, Oid opfamily, Node *argument)
{
	OpExpr *op = (OpExpr *) condition;
	Var *sides[2];
	int i;

	if (!IsA(condition, OpExpr) || list_length(op->args) != 2 ||
		op->inputcollid != ranking->function->inputcollid ||
		get_op_opfamily_strategy(op->opno, opfamily) != BTEqualStrategyNumber)
		return false;
	for (i = 0; i < 2; i++)
	{
		sides[i] = list_nth(op->args, i);
		if (!IsA(sides[i], Var) || sides[i]->varno != ranking->above_rti ||
			sides[i]->varlevelsup != 0 || sides[i]->varattno <= 0)
			return false;
	}
	i = sides[0]->varattno == ranking->attno ? 1 : 0;
	return sides[1 - i]->varattno == ranking->attno &&
		   equal(get_tle_by_resno(ranking->level->targetList, sides[i]->varattno)->expr, argument);
}
