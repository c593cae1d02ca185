/*
 * hop.c
 *	  pipeline.hop(), cumulate(), session() and count_window() in a continuous
 *	  view's query: recognised, not executed.
 *
 * To PostgreSQL hop() and cumulate() are functions that return a set: executed,
 * they would make a row per window of each event.  The operator wants each event
 * once and knows the windows it is in.  session() and count_window() cannot be
 * executed at all: what they are depends on other events.  So where a query groups
 * by such a window the call is taken out of the stage query, wherever it stands: in
 * a select list at or below the split level, or in FROM beside the stream.  Above,
 * the window is a column of the closed rows.
 *
 * That is the same as long as nothing else looks at single windows before they
 * are grouped.  What does - a condition in WHERE, an aggregate's argument - still
 * has the call, or a column that leads to it, when all is taken out that can be;
 * then the query is refused.  In queries without such a window hop() and cumulate()
 * are nothing special and are executed; session() and count_window() are refused.
 *
 * tumble() is an ordinary function, but in FROM it would make a join of every event
 * with a row; so there it is taken out, too, unless something looks at it.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

#include "plan/hop.h"
#include "plan/refuse.h"
#include "plan/window_key.h"

/* Looking for windows in an expression. */
typedef struct CqHopSearch
{
	const CqPath *path;
	const CqPlan *plan;
} CqHopSearch;

static bool meets_all(Node *jointree, int rti, bool *found);
static bool window_walker(Node *node, CqHopSearch *search);
static bool collect_sets_walker(Node *node, List **calls);
static bool is_tumble(const Node *expr);
static void strip_outputs(Query *query, const Bitmapset *used);
static void strip_from(Query *query, bool (*is_ours)(const Node *), const Bitmapset *outputs,
					   bool is_stage);
static void strip_aliases(Query *query, int rti);
static bool contains_hop_walker(Node *node, void *context);
static bool ungrouped_walker(Node *node, void *context);

bool
cq_is_hop(const Node *expr)
{
	const char *name;

	if (expr == NULL || !IsA(expr, FuncExpr))
		return false;
	name = cq_window_function_name(((const FuncExpr *) expr)->funcid);
	return name != NULL && (strcmp(name, "hop") == 0 || strcmp(name, "cumulate") == 0 ||
							strcmp(name, "session") == 0 || strcmp(name, "count_window") == 0);
}

static bool
is_tumble(const Node *expr)
{
	const char *name = NULL;

	if (IsA(expr, FuncExpr))
		name = cq_window_function_name(((const FuncExpr *) expr)->funcid);
	return name != NULL && strcmp(name, "tumble") == 0;
}

bool
cq_hop_is_kind(CqWindowKind kind)
{
	return kind == CQ_WINDOW_HOP || kind == CQ_WINDOW_CUMULATE || kind == CQ_WINDOW_SESSION ||
		   kind == CQ_WINDOW_COUNT;
}

FuncExpr *
cq_call_in_from(const Query *query, int rti)
{
	RangeTblEntry *rte = rt_fetch(rti, query->rtable);
	RangeTblFunction *function;
	FuncExpr *call;
	bool found = false;

	if (rte->rtekind != RTE_FUNCTION || rte->funcordinality || list_length(rte->functions) != 1)
		return NULL;
	function = linitial_node(RangeTblFunction, rte->functions);
	if (!IsA(function->funcexpr, FuncExpr))
		return NULL;
	call = (FuncExpr *) function->funcexpr;
	if (!cq_is_hop((Node *) call) && (call->funcretset || type_is_rowtype(call->funcresulttype)))
		return NULL;
	return meets_all((Node *) query->jointree, rti, &found) ? call : NULL;
}

/*
 * Does every row of the join's result have the entry's row in it, and is there
 * one for each of them?  So it is with inner joins, whose conditions concern
 * events as a whole, and with a LEFT JOIN to the entry without a condition.
 */
static bool
meets_all(Node *jointree, int rti, bool *found)
{
	JoinExpr *join;
	bool result;

	if (IsA(jointree, RangeTblRef))
	{
		*found = castNode(RangeTblRef, jointree)->rtindex == rti;
		return *found;
	}
	if (IsA(jointree, FromExpr))
	{
		ListCell *lc;

		foreach (lc, castNode(FromExpr, jointree)->fromlist)
		{
			result = meets_all(lfirst(lc), rti, found);
			if (*found)
				return result;
		}
		return false;
	}
	join = castNode(JoinExpr, jointree);
	result = meets_all(join->larg, rti, found);
	if (*found)
		return result && (join->jointype == JOIN_INNER || join->jointype == JOIN_LEFT);
	result = meets_all(join->rarg, rti, found);
	if (join->jointype == JOIN_LEFT && IsA(join->rarg, RangeTblRef))
		return result && (join->quals == NULL ||
						  (IsA(join->quals, Const) && !castNode(Const, join->quals)->constisnull &&
						   DatumGetBool(castNode(Const, join->quals)->constvalue)));
	return result && join->jointype == JOIN_INNER;
}

bool
cq_hop_is_window(const CqPath *path, const CqPlan *plan, Node *expr, CqKeyRole *role)
{
	CqWindow window;

	return (cq_hop_is_kind(plan->window.kind) || plan->window.processing) &&
		   cq_window_recognise(path, path->split, expr, false, &window, role) &&
		   cq_window_equal(&window, &plan->window);
}

bool
cq_hop_is_in(const CqPath *path, const CqPlan *plan, Node *expr)
{
	CqHopSearch search = {path, plan};

	return window_walker(expr, &search);
}

/* In sub-queries columns of the level would look otherwise; there they are not to be expected. */
static bool
window_walker(Node *node, CqHopSearch *search)
{
	CqKeyRole role;

	if (node == NULL)
		return false;
	if ((IsA(node, Var) || IsA(node, FuncExpr)) &&
		cq_hop_is_window(search->path, search->plan, node, &role))
		return true;
	if (IsA(node, Query))
		return cq_hop_is_kind(search->plan->window.kind) || search->plan->window.processing;
	return expression_tree_walker(node, window_walker, search);
}

/* Functions of one select list that return sets go on in step, their first rows together. */
void
cq_hop_check_step(const CqPath *path)
{
	int level;

	for (level = path->split; level < path->nlevels; level++)
	{
		List *calls = NIL;
		ListCell *lc;

		collect_sets_walker((Node *) path->levels[level].query->targetList, &calls);
		if (list_length(calls) < 2)
			continue;
		foreach (lc, calls)
		{
			if (cq_is_hop(lfirst(lc)))
				cq_refuse(path->view_name,
						  psprintf("pipeline.%s() beside another function that returns a set",
								   cq_window_function_name(lfirst_node(FuncExpr, lc)->funcid)),
						  "In a select list each window would be paired with one row of the other "
						  "function.",
						  "Call the other function in FROM, where it is joined with all windows.");
		}
	}
}

/* All different calls that return sets, not those in sub-queries. */
static bool
collect_sets_walker(Node *node, List **calls)
{
	if (node == NULL || IsA(node, Query))
		return false;
	if ((IsA(node, FuncExpr) && castNode(FuncExpr, node)->funcretset) ||
		(IsA(node, OpExpr) && castNode(OpExpr, node)->opretset))
		*calls = list_append_unique(*calls, node);
	return expression_tree_walker(node, collect_sets_walker, calls);
}

/* From the top downwards, as only outputs that the level above uses matter. */
void
cq_hop_strip(const CqPath *path, const CqPlan *plan, Query *stage, int from)
{
	bool hops = cq_hop_is_kind(plan->window.kind);
	Bitmapset *outputs = NULL;
	int level;

	for (level = from; level < path->nlevels; level++)
	{
		Query *query = cq_path_descend(path, stage, from, level);

		if (hops && level > from)
			strip_outputs(query, outputs);
		strip_from(query, hops ? cq_is_hop : is_tumble, outputs, level == from);
		outputs = cq_path_used(query, path->levels[level].rti, outputs, level == from);
	}
}

static void
strip_outputs(Query *query, const Bitmapset *used)
{
	ListCell *lc;

	foreach (lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Node *expr = (Node *) tle->expr;

		if (!bms_is_member(tle->resno - FirstLowInvalidHeapAttributeNumber, used) &&
			contains_hop_walker(expr, NULL))
			tle->expr =
				(Expr *) makeNullConst(exprType(expr), exprTypmod(expr), exprCollation(expr));
	}
	query->hasTargetSRFs = expression_returns_set((Node *) query->targetList);
}

/* Calls in FROM: a row without columns takes their place. */
static void
strip_from(Query *query, bool (*is_ours)(const Node *), const Bitmapset *outputs, bool is_stage)
{
	int rti = 0;
	ListCell *lc;

	foreach (lc, query->rtable)
	{
		RangeTblEntry *row;
		FuncExpr *call;

		rti++;
		call = cq_call_in_from(query, rti);
		if (call == NULL || !is_ours((Node *) call) ||
			!bms_is_empty(cq_path_used(query, rti, outputs, is_stage)))
			continue;
		strip_aliases(query, rti);
		row = makeNode(RangeTblEntry);
		row->rtekind = RTE_RESULT;
		row->eref = makeAlias("*RESULT*", NIL);
		lfirst(lc) = row;
	}
}

/* Joins list the columns of what they join, used or not. */
static void
strip_aliases(Query *query, int rti)
{
	ListCell *lc;
	ListCell *lv;

	foreach (lc, query->rtable)
	{
		foreach (lv, lfirst_node(RangeTblEntry, lc)->joinaliasvars)
		{
			Var *var = lfirst(lv);

			if (var != NULL && IsA(var, Var) && var->varno == rti)
				lfirst(lv) = makeNullConst(var->vartype, var->vartypmod, var->varcollid);
		}
	}
}

void
cq_hop_check_rest(const CqPath *path, const CqPlan *plan)
{
	if (!contains_hop_walker((Node *) plan->stage, NULL) &&
		!contains_hop_walker((Node *) plan->close, NULL))
		return;
	if (plan->window.kind == CQ_WINDOW_COUNT)
		cq_refuse(path->view_name,
				  "pipeline.count_window() in more places than among its keys",
				  "An event is taken in once for all of its windows.",
				  "Use the window's number in HAVING or in an outer query, where it is known.");
	if (plan->window.kind == CQ_WINDOW_SESSION)
		cq_refuse(path->view_name,
				  "a session in more places than among its keys",
				  "When an event is taken in, it is not known yet how long its session will be.",
				  "Use the session in HAVING or in an outer query, where it is known.");
	cq_refuse(path->view_name,
			  plan->window.kind == CQ_WINDOW_CUMULATE
				  ? "a cumulating window in more places than among its keys"
				  : "a hopping window in more places than among its keys",
			  "An event is taken in once for all of its windows, so nothing can be computed "
			  "for it and one of them.",
			  "Use the window in HAVING or in an outer query, where it is known.");
}

void
cq_hop_refuse_above(Query *close, const char *view_name)
{
	if (contains_hop_walker((Node *) close, NULL))
		cq_refuse(view_name,
				  "pipeline.hop() or pipeline.session() beside a join of streams",
				  "A row is in several windows, and is joined in one of them at a time.",
				  "Make the windows in the select list of a sub-query over the stream, and compare "
				  "them in the join's condition.");
}

void
cq_hop_refuse_ungrouped(const CqPath *path)
{
	(void) ungrouped_walker((Node *) path->top, (void *) path->view_name);
}

static bool
ungrouped_walker(Node *node, void *view_name)
{
	const char *name;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, ungrouped_walker, view_name, 0);
	if (IsA(node, FuncExpr))
	{
		name = cq_window_function_name(castNode(FuncExpr, node)->funcid);
		if (name != NULL && strcmp(name, "session") == 0)
			cq_refuse(view_name,
					  "pipeline.session() without grouping by it",
					  "A session is known when it is complete.",
					  "Put the call into GROUP BY, with the columns that tell whose session it "
					  "is.");
		if (name != NULL && strcmp(name, "count_window") == 0)
			cq_refuse(view_name,
					  "pipeline.count_window() without grouping by it",
					  "What is counted are the events of a group.",
					  "Put the call into GROUP BY, with the columns that tell whose events are "
					  "counted.");
	}
	return expression_tree_walker(node, ungrouped_walker, view_name);
}

static bool
contains_hop_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, contains_hop_walker, context, 0);
	return cq_is_hop(node) || expression_tree_walker(node, contains_hop_walker, context);
}
