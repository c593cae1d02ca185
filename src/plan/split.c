/*
 * split.c
 *	  Splitting a query whose groups are kept as aggregates' states.
 *
 * The stage computes what goes into the groups: keys, arguments and filters of
 * the aggregates.  The operator gives back keys and results.  At the split
 * level each occurrence of a grouping expression or an aggregate then becomes a
 * column of those rows, in sub-queries of expressions too, and nothing else may
 * refer to what was below: that is what SQL's rule about GROUP BY says, except
 * for columns that depend on a primary key in it, which are refused.
 *
 * HAVING becomes WHERE.  A SELECT DISTINCT without aggregates is a grouping by
 * all outputs.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "plan/changing.h"
#include "plan/refuse.h"
#include "plan/split.h"
#include "plan/surgery.h"
#include "plan/top.h"
#include "plan/window_key.h"

/* Putting closed rows in place of groups and aggregates. */
typedef struct CqReplace
{
	const CqPath *path;
	Query *level;	  /* as it was */
	List *keys;		  /* of Node *, in the order of the closed rows */
	List *aggregates; /* of Aggref *, behind them */
	TupleDesc desc;
	int depth; /* sub-queries below the level */
} CqReplace;

typedef struct CqCollect
{
	List *aggregates;
	int depth;
} CqCollect;

static void keys_build(const CqPath *path, CqPlan *plan, List *clauses, List *keys);
static void aggregates_build(const CqPath *path, CqPlan *plan, List *aggregates);
static Aggref *aggregate_over_stage(const CqPath *path, CqPlan *plan, CqAggregate *aggregate);
static void set_join(CqPlan *plan, CqAggregate *aggregate);
static Node *stage_var(const CqPath *path, Query *stage, Node *expr, const char *what, int *column);
static TupleDesc closed_desc_build(const CqPath *path, const CqPlan *plan, List *keys,
								   List *aggregates);
static Query *finish_build(const CqPath *path, CqPlan *plan, List *keys, List *aggregates);
static Node *replace_mutator(Node *node, CqReplace *replace);
static Node *replacement(Node *node, CqReplace *replace);
static bool equal_below(Node *node, const void *ours, int depth);
static void refuse_dependent_column(Var *var, CqReplace *replace) CQ_NORETURN;
static bool collect_walker(Node *node, CqCollect *collect);

bool
cq_split_aggregate(const CqPath *path, CqPlan *plan, List *clauses)
{
	Query *level = path->levels[path->split].query;
	List *aggregates = cq_split_collect_aggregates(level);
	List *keys = NIL;
	bool sort_dropped;
	Query *finish;
	ListCell *lc;

	if (plan->retracts)
		plan->live = cq_changing_count_rows(&aggregates);
	foreach (lc, clauses)
		keys = lappend(keys, get_sortgroupclause_expr(lfirst(lc), level->targetList));
	plan->stage = cq_surgery_stage(path, path->split, &sort_dropped);
	keys_build(path, plan, clauses, keys);
	aggregates_build(path, plan, aggregates);
	plan->closed_desc = closed_desc_build(path, plan, keys, aggregates);
	finish = finish_build(path, plan, keys, aggregates);
	if (plan->emit == CQ_EMIT_WINDOW_CLOSE)
	{
		plan->close = finish;
		/* each group has sessions of its own, and windows of its own count */
		if (plan->window.kind != CQ_WINDOW_SESSION && plan->window.kind != CQ_WINDOW_COUNT)
			plan->top = cq_top_recognise_groups(path, plan);
	}
	else
		plan->upper = finish;
	return sort_dropped;
}

List *
cq_split_collect_aggregates(const Query *level)
{
	CqCollect collect = {NIL, 0};

	collect_walker((Node *) level->targetList, &collect);
	collect_walker(level->havingQual, &collect);
	return collect.aggregates;
}

static void
keys_build(const CqPath *path, CqPlan *plan, List *clauses, List *keys)
{
	ListCell *lc;
	ListCell *lk;

	plan->keys = palloc0(sizeof(CqKey) * (list_length(clauses) + 1));
	forboth (lc, clauses, lk, keys)
	{
		Node *expr = lfirst(lk);
		CqKey *key = &plan->keys[plan->nkeys++];
		CqWindow window;

		key->type = exprType(expr);
		key->typmod = exprTypmod(expr);
		key->collation = exprCollation(expr);
		key->equality_operator = lfirst_node(SortGroupClause, lc)->eqop;
		if (cq_window_recognise(path, path->split, expr, false, &window, &key->role))
			key->stage_column = -1;
		else
		{
			key->role = CQ_KEY_VALUE;
			key->stage_column = cq_surgery_add_output(path, plan->stage, expr, "a grouping key");
		}
	}
}

static void
aggregates_build(const CqPath *path, CqPlan *plan, List *aggregates)
{
	ListCell *lc;

	plan->aggregates = palloc0(sizeof(CqAggregate) * (list_length(aggregates) + 1));
	plan->sets = palloc0(sizeof(CqDistinctSet) * (list_length(aggregates) + 1));
	foreach (lc, aggregates)
	{
		CqAggregate *aggregate = &plan->aggregates[plan->naggregates++];

		aggregate->aggref = copyObject(lfirst_node(Aggref, lc));
		aggregate->aggref = aggregate_over_stage(path, plan, aggregate);
		aggregate->set = -1;
		if (aggregate->aggref->aggdistinct != NIL)
			set_join(plan, aggregate);
	}
}

/* Have an aggregate with DISTINCT share the set of its argument's values. */
static void
set_join(CqPlan *plan, CqAggregate *aggregate)
{
	Aggref *aggref = aggregate->aggref;
	Oid equality = linitial_node(SortGroupClause, aggref->aggdistinct)->eqop;
	CqDistinctSet *set;
	int i;

	for (i = 0; i < plan->nsets; i++)
	{
		set = &plan->sets[i];
		if (set->stage_column == aggregate->arg_columns[0] && set->equality_operator == equality &&
			set->collation == aggref->inputcollid && set->naggregates < CQ_SET_AGGREGATES)
			break;
	}
	set = &plan->sets[i];
	if (i == plan->nsets)
	{
		set->stage_column = aggregate->arg_columns[0];
		set->type = exprType((Node *) linitial_node(TargetEntry, aggref->args)->expr);
		set->collation = aggref->inputcollid;
		set->equality_operator = equality;
		plan->nsets++;
	}
	aggregate->set = i;
	aggregate->set_bit = set->naggregates++;
}

/* Have the stage compute an aggregate's arguments and filter, and read them from there. */
static Aggref *
aggregate_over_stage(const CqPath *path, CqPlan *plan, CqAggregate *aggregate)
{
	Aggref *aggref = aggregate->aggref;
	ListCell *lc;

	aggregate->arg_columns = palloc0(sizeof(int) * (list_length(aggref->args) + 1));
	foreach (lc, aggref->args)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		tle->expr = (Expr *) stage_var(path,
									   plan->stage,
									   (Node *) tle->expr,
									   "an aggregate's argument",
									   &aggregate->arg_columns[aggregate->nargs++]);
	}
	aggregate->filter_column = -1;
	if (aggref->aggfilter != NULL)
		aggref->aggfilter = (Expr *) stage_var(path,
											   plan->stage,
											   (Node *) aggref->aggfilter,
											   "a filter",
											   &aggregate->filter_column);
	return aggref;
}

static Node *
stage_var(const CqPath *path, Query *stage, Node *expr, const char *what, int *column)
{
	*column = cq_surgery_add_output(path, stage, expr, what);
	return (Node *)
		makeVar(OUTER_VAR, *column + 1, exprType(expr), exprTypmod(expr), exprCollation(expr), 0);
}

static TupleDesc
closed_desc_build(const CqPath *path, const CqPlan *plan, List *keys, List *aggregates)
{
	TupleDesc desc = CreateTemplateTupleDesc(list_length(keys) + list_length(aggregates));
	Query *level = path->levels[path->split].query;
	int attno = 0;
	ListCell *lc;

	foreach (lc, keys)
	{
		TargetEntry *tle = tlist_member(lfirst(lc), level->targetList);
		char *name = cq_surgery_name(level, lfirst(lc), psprintf("key%d", attno + 1));

		if (tle != NULL && tle->resname != NULL)
			name = tle->resname;
		TupleDescInitEntry(desc, ++attno, name, exprType(lfirst(lc)), exprTypmod(lfirst(lc)), 0);
		TupleDescInitEntryCollation(desc, attno, exprCollation(lfirst(lc)));
	}
	foreach (lc, aggregates)
	{
		Aggref *aggref = lfirst_node(Aggref, lc);

		cq_refuse_pseudo_type(path, (Node *) aggref, "an aggregate");
		TupleDescInitEntry(desc,
						   ++attno,
						   get_func_name(aggref->aggfnoid),
						   aggref->aggtype,
						   exprTypmod((Node *) aggref),
						   0);
		TupleDescInitEntryCollation(desc, attno, aggref->aggcollid);
	}
	return desc;
}

/* The whole query, its split level reading closed rows. */
static Query *
finish_build(const CqPath *path, CqPlan *plan, List *keys, List *aggregates)
{
	Query *finish = copyObject(path->top);
	Query *level = cq_path_descend(path, finish, 0, path->split);
	CqReplace replace =
		{path, path->levels[path->split].query, keys, aggregates, plan->closed_desc, 0};
	Node *quals = replace_mutator(level->havingQual, &replace);

	level->targetList = (List *) replace_mutator((Node *) level->targetList, &replace);
	if (!cq_level_aggregates(level))
	{
		level->distinctClause = NIL;
		level->hasDistinctOn = false;
	}
	level->groupClause = NIL;
	level->groupDistinct = false;
	level->havingQual = NULL;
	level->hasAggs = false;
	cq_surgery_read_closed(level, plan->closed_desc, plan->emit, quals);
	cq_surgery_tidy(level);
	return finish;
}

static Node *
replace_mutator(Node *node, CqReplace *replace)
{
	Node *result;

	if (node == NULL)
		return NULL;
	result = replacement(node, replace);
	if (result != NULL)
		return result;
	if (IsA(node, GroupingFunc) &&
		(int) castNode(GroupingFunc, node)->agglevelsup == replace->depth)
		return (Node *)
			makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(0), false, true);
	if (IsA(node, Var) && (int) castNode(Var, node)->varlevelsup == replace->depth)
		refuse_dependent_column((Var *) node, replace);
	if (IsA(node, Query))
	{
		replace->depth++;
		result = (Node *) query_tree_mutator((Query *) node, replace_mutator, replace, 0);
		replace->depth--;
		return result;
	}
	return expression_tree_mutator(node, replace_mutator, replace);
}

/* The column that an expression has become, NULL if it is none. */
static Node *
replacement(Node *node, CqReplace *replace)
{
	AttrNumber attno = 0;
	ListCell *lc;

	if (IsA(node, Const) || IsA(node, List) || IsA(node, TargetEntry))
		return NULL;
	foreach (lc, replace->keys)
	{
		attno++;
		if (equal_below(node, lfirst(lc), replace->depth))
			break;
	}
	if (lc == NULL && IsA(node, Aggref))
	{
		foreach (lc, replace->aggregates)
		{
			attno++;
			if (equal_below(node, lfirst(lc), replace->depth))
				break;
		}
	}
	if (lc == NULL)
		return NULL;
	return (Node *) makeVar(1,
							attno,
							TupleDescAttr(replace->desc, attno - 1)->atttypid,
							TupleDescAttr(replace->desc, attno - 1)->atttypmod,
							TupleDescAttr(replace->desc, attno - 1)->attcollation,
							replace->depth);
}

/* Is it our expression, as it is written some sub-queries further down? */
static bool
equal_below(Node *node, const void *ours, int depth)
{
	Node *copy;

	if (nodeTag(node) != nodeTag(ours))
		return false;
	if (depth == 0)
		return equal(node, ours);
	copy = copyObjectImpl(ours);
	IncrementVarSublevelsUp(copy, depth, 0);
	return equal(node, copy);
}

static void
refuse_dependent_column(Var *var, CqReplace *replace)
{
	RangeTblEntry *rte = rt_fetch(var->varno, replace->level->rtable);
	const char *name = var->varattno > 0 ? get_rte_attribute_name(rte, var->varattno) : "*";

	cq_refuse(replace->path->view_name,
			  psprintf("column \"%s.%s\" without grouping by it", rte->eref->aliasname, name),
			  "That it depends on a primary key among the grouping keys may change as events come.",
			  "Add the column to GROUP BY.");
}

static bool
collect_walker(Node *node, CqCollect *collect)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		collect->depth++;
		query_tree_walker((Query *) node, collect_walker, collect, 0);
		collect->depth--;
		return false;
	}
	if (IsA(node, Aggref) && (int) castNode(Aggref, node)->agglevelsup == collect->depth)
	{
		Node *copy = copyObject(node);

		IncrementVarSublevelsUp(copy, -collect->depth, 0);
		collect->aggregates = list_append_unique(collect->aggregates, copy);
		return false;
	}
	return expression_tree_walker(node, collect_walker, collect);
}
