/*
 * rows.c
 *	  Splitting a query whose rows are kept, or passed on as they are.
 *
 * Rows are kept where a window's answer cannot be worked up event by event:
 * the split level then stays as it is, aggregates, window functions and all,
 * and only reads its columns from the kept rows.  The columns of windows that
 * overlap, or are of processing time, are not among what is kept, as a row may be in
 * several of them and does not say in which; they stand before the others in the
 * rows that are given out for a window.  A query without any state is all stage.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"

#include "plan/hop.h"
#include "plan/proctime.h"
#include "plan/refuse.h"
#include "plan/split.h"
#include "plan/surgery.h"
#include "plan/top.h"

typedef struct CqColumns
{
	const CqPath *path;
	CqPlan *plan;
	Query *stage;
	int depth; /* sub-queries below the split level */
} CqColumns;

static Node *columns_mutator(Node *node, CqColumns *columns);
static Node *stage_column(Node *expr, CqColumns *columns);
static Node *window_column(Node *node, CqColumns *columns);
static void windows_add(CqPlan *plan);
static void session_keys_add(const CqPath *path, CqPlan *plan, List *clauses);
static TupleDesc closed_desc_build(const CqPlan *plan);

bool
cq_split_append(const CqPath *path, CqPlan *plan)
{
	bool sort_dropped;
	Query *top = path->top;
	ListCell *lc;

	plan->stage = cq_surgery_stage(path, 0, &sort_dropped);
	foreach (lc, top->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->resjunk)
			continue;
		plan->stage->targetList = lappend(plan->stage->targetList,
										  makeTargetEntry(copyObject(tle->expr),
														  list_length(plan->stage->targetList) + 1,
														  pstrdup(tle->resname),
														  false));
	}
	plan->stage->hasTargetSRFs = expression_returns_set((Node *) plan->stage->targetList);
	return sort_dropped || top->sortClause != NIL;
}

bool
cq_split_rows(const CqPath *path, CqPlan *plan, List *clauses)
{
	CqColumns columns = {.path = path, .plan = plan};
	Query *level;
	bool sort_dropped;

	plan->stage = columns.stage = cq_surgery_stage(path, path->split, &sort_dropped);
	if (cq_hop_is_kind(plan->window.kind) || plan->window.processing)
		windows_add(plan);
	if (plan->window.kind == CQ_WINDOW_SESSION || plan->window.kind == CQ_WINDOW_COUNT)
		session_keys_add(path, plan, clauses);
	plan->close = copyObject(path->top);
	level = cq_path_descend(path, plan->close, 0, path->split);
	level->targetList = (List *) columns_mutator((Node *) level->targetList, &columns);
	level->havingQual = columns_mutator(level->havingQual, &columns);
	level->hasTargetSRFs = expression_returns_set((Node *) level->targetList);
	if (plan->window.kind != CQ_WINDOW_SESSION && plan->window.kind != CQ_WINDOW_COUNT)
		plan->top = cq_top_recognise(path, plan);
	plan->closed_desc = closed_desc_build(plan);
	cq_surgery_read_closed(level, plan->closed_desc, CQ_EMIT_WINDOW_CLOSE, NULL);
	return sort_dropped;
}

/* Have the stage give out each column that the level refers to, and read it from there. */
static Node *
columns_mutator(Node *node, CqColumns *columns)
{
	Node *window;

	if (node == NULL)
		return NULL;
	window = window_column(node, columns);
	if (window != NULL)
		return window;
	if (columns->depth == 0 && cq_is_proctime(node))
		return stage_column(node, columns);
	if (IsA(node, Var))
	{
		Var *var = copyObject((Var *) node);

		if ((int) var->varlevelsup != columns->depth)
			return (Node *) var;
		var->varlevelsup = 0;
		return stage_column((Node *) var, columns);
	}
	if (IsA(node, Query))
	{
		Node *result;

		columns->depth++;
		result = (Node *) query_tree_mutator((Query *) node, columns_mutator, columns, 0);
		columns->depth--;
		return result;
	}
	return expression_tree_mutator(node, columns_mutator, columns);
}

/* What events have, given out by the stage and read from there. */
static Node *
stage_column(Node *expr, CqColumns *columns)
{
	int column = cq_surgery_add_output(columns->path, columns->stage, expr, "a column");

	return (Node *) makeVar(1,
							columns->plan->nkeys + column,
							exprType(expr),
							exprTypmod(expr),
							exprCollation(expr),
							columns->depth);
}

/*
 * The column that a hopping window, its start or its end is read from; NULL if
 * the node is none of these.
 */
static Node *
window_column(Node *node, CqColumns *columns)
{
	Node *ours = node;
	CqKeyRole role;

	if (!IsA(node, Var) && (!IsA(node, FuncExpr) || columns->depth > 0))
		return NULL;
	if (IsA(node, Var))
	{
		if ((int) castNode(Var, node)->varlevelsup != columns->depth)
			return NULL;
		ours = copyObject(node);
		castNode(Var, ours)->varlevelsup = 0;
	}
	if (!cq_hop_is_window(columns->path, columns->plan, ours, &role))
		return NULL;
	return (Node *) makeVar(1,
							role == CQ_KEY_WINDOW_NUMBER ? 1 : role - CQ_KEY_WINDOW_RANGE + 1,
							exprType(ours),
							exprTypmod(ours),
							exprCollation(ours),
							columns->depth);
}

/*
 * A hopping window and its bounds, or the number of a count window: the first columns of
 * the rows given out for it.
 */
static void
windows_add(CqPlan *plan)
{
	Oid time = plan->window.time_type;
	Oid range = time == TIMESTAMPOID ? TSRANGEOID : TSTZRANGEOID;
	int i;

	if (plan->window.kind == CQ_WINDOW_COUNT)
	{
		plan->nkeys = 1;
		plan->keys = palloc0(sizeof(CqKey));
		plan->keys[0].role = CQ_KEY_WINDOW_NUMBER;
		plan->keys[0].type = INT8OID;
		plan->keys[0].typmod = -1;
		plan->keys[0].stage_column = -1;
		return;
	}
	plan->nkeys = CQ_KEY_WINDOW_END - CQ_KEY_WINDOW_RANGE + 1;
	plan->keys = palloc0(sizeof(CqKey) * plan->nkeys);
	for (i = 0; i < plan->nkeys; i++)
	{
		plan->keys[i].role = CQ_KEY_WINDOW_RANGE + i;
		plan->keys[i].type = plan->keys[i].role == CQ_KEY_WINDOW_RANGE ? range : time;
		plan->keys[i].typmod = -1;
		plan->keys[i].stage_column = -1;
	}
}

/* Whose session it is: all that rows are divided by besides the window. */
static void
session_keys_add(const CqPath *path, CqPlan *plan, List *clauses)
{
	Query *level = path->levels[path->split].query;
	ListCell *lc;

	plan->session_keys = palloc0(sizeof(CqKey) * (list_length(clauses) + 1));
	foreach (lc, clauses)
	{
		Node *expr = get_sortgroupclause_expr(lfirst(lc), level->targetList);
		CqKey *key = &plan->session_keys[plan->nsession_keys];
		CqKeyRole role;

		if (cq_hop_is_window(path, plan, expr, &role))
			continue;
		key->role = CQ_KEY_VALUE;
		key->type = exprType(expr);
		key->typmod = exprTypmod(expr);
		key->collation = exprCollation(expr);
		key->equality_operator = lfirst_node(SortGroupClause, lc)->eqop;
		key->stage_column = cq_surgery_add_output(path, plan->stage, expr, "a grouping key");
		plan->nsession_keys++;
	}
}

static TupleDesc
closed_desc_build(const CqPlan *plan)
{
	static const char *const names[] = {"window", "window_start", "window_end"}; /* or its number */
	TupleDesc stored = cq_surgery_stage_desc(plan->stage);
	TupleDesc desc = CreateTemplateTupleDesc(plan->nkeys + stored->natts);
	int i;

	for (i = 0; i < plan->nkeys; i++)
		TupleDescInitEntry(desc, i + 1, names[i], plan->keys[i].type, plan->keys[i].typmod, 0);
	for (i = 0; i < stored->natts; i++)
		TupleDescCopyEntry(desc, plan->nkeys + i + 1, stored, i + 1);
	return desc;
}
