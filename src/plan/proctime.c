/*
 * proctime.c
 *	  pipeline.proctime() in a continuous view's query.
 *
 * It is the time at which an event was taken in, so it means something where
 * events are at hand, in the stage query; there it is executed, once per row.  That
 * holds for select lists.  In a condition the planner might move it to where a
 * joined table is read, and what stands in FROM or in a sub-query by itself is
 * computed once for many events; so it is refused there.  As the function is
 * volatile, a column that is computed by it may be used anywhere.
 *
 * Windows of processing time are the operator's business, as all windows are; what
 * is left of their calls in a stage is computed in vain, or not at all.
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"

#include "plan/proctime.h"
#include "plan/refuse.h"
#include "plan/window_key.h"

static bool contains_walker(Node *node, void *context);
static bool sub_query_walker(Node *node, const char *view_name);
static void check_level(const CqPath *path, int level, Query *query);
static void refuse_place(const char *view_name) CQ_NORETURN;

bool
cq_is_proctime(const Node *expr)
{
	const char *name;

	if (expr == NULL || !IsA(expr, FuncExpr))
		return false;
	name = cq_window_function_name(((const FuncExpr *) expr)->funcid);
	return name != NULL && strcmp(name, "proctime") == 0;
}

void
cq_proctime_check(const CqPath *path, const CqPlan *plan)
{
	int from = Max(path->split, 0);
	int level;

	if (!contains_walker((Node *) path->top, NULL))
		return;
	if (contains_walker((Node *) plan->close, NULL) || contains_walker((Node *) plan->upper, NULL))
		cq_refuse(path->view_name,
				  "pipeline.proctime() above the level that groups",
				  "It is the time at which an event is taken in, and there are no events there.",
				  "Use it in an aggregate, as in max(pipeline.proctime()), or among the columns "
				  "of a sub-query over the stream.");
	for (level = from; level < path->nlevels; level++)
		check_level(path, level, cq_path_descend(path, plan->stage, from, level));
}

void
cq_proctime_check_several(const CqPlan *plan, const char *view_name)
{
	if (!plan->window.processing && !contains_walker((Node *) plan->close, NULL))
		return;
	cq_refuse(view_name,
			  "windows of processing time where streams are read in several places",
			  "Which window an event is in is known to one input at a time.",
			  "Use windows of the event time, or make one view for each.");
}

static bool
contains_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, contains_walker, context, 0);
	return cq_is_proctime(node) || expression_tree_walker(node, contains_walker, context);
}

static void
check_level(const CqPath *path, int level, Query *query)
{
	int rti = 0;
	ListCell *lc;

	foreach (lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		/* the level below has its turn; a join lists the columns of what it joins */
		if (++rti == path->levels[level].rti || rte->rtekind == RTE_JOIN)
			continue;
		if (contains_walker((Node *) rte->subquery, NULL) ||
			contains_walker((Node *) rte->functions, NULL) ||
			contains_walker((Node *) rte->values_lists, NULL))
			refuse_place(path->view_name);
	}
	if (contains_walker((Node *) query->jointree, NULL) ||
		contains_walker((Node *) query->cteList, NULL))
		refuse_place(path->view_name);
	(void) sub_query_walker((Node *) query->targetList, path->view_name);
}

static bool
sub_query_walker(Node *node, const char *view_name)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		if (contains_walker(node, NULL))
			refuse_place(view_name);
		return false;
	}
	return expression_tree_walker(node, sub_query_walker, (void *) view_name);
}

static void
refuse_place(const char *view_name)
{
	cq_refuse(view_name,
			  "pipeline.proctime() in a condition, in FROM or in a sub-query by itself",
			  "There it would not be computed for each event.",
			  "Compute it in the select list of a sub-query over the stream, and use that column.");
}
