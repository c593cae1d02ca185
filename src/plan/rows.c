/*
 * rows.c
 *	  Splitting a query whose rows are kept, or passed on as they are.
 *
 * Rows are kept where a window's answer cannot be worked up event by event:
 * the split level then stays as it is, aggregates, window functions and all,
 * and only reads its columns from the kept rows.  A query without any state
 * is all stage.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"

#include "plan/refuse.h"
#include "plan/split.h"
#include "plan/surgery.h"
#include "plan/top.h"

typedef struct CqColumns
{
	const CqPath *path;
	Query *stage;
	int depth; /* sub-queries below the split level */
} CqColumns;

static Node *columns_mutator(Node *node, CqColumns *columns);

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
cq_split_rows(const CqPath *path, CqPlan *plan)
{
	CqColumns columns = {path, NULL, 0};
	Query *level;
	bool sort_dropped;

	plan->stage = columns.stage = cq_surgery_stage(path, path->split, &sort_dropped);
	plan->close = copyObject(path->top);
	level = cq_path_descend(path, plan->close, 0, path->split);
	level->targetList = (List *) columns_mutator((Node *) level->targetList, &columns);
	level->havingQual = columns_mutator(level->havingQual, &columns);
	plan->top = cq_top_recognise(path, plan);
	plan->closed_desc = cq_surgery_stage_desc(plan->stage);
	cq_surgery_read_closed(level, plan->closed_desc, CQ_EMIT_WINDOW_CLOSE, NULL);
	return sort_dropped;
}

/* Have the stage give out each column that the level refers to, and read it from there. */
static Node *
columns_mutator(Node *node, CqColumns *columns)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var *var = copyObject((Var *) node);
		int column;

		if ((int) var->varlevelsup != columns->depth)
			return (Node *) var;
		var->varlevelsup = 0;
		column = cq_surgery_add_output(columns->path, columns->stage, (Node *) var, "a column");
		return (Node *)
			makeVar(1, column, var->vartype, var->vartypmod, var->varcollid, columns->depth);
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
