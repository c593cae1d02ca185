/*
 * local.c
 *	  Does a query over several windowed inputs ask about one window at a time?
 *
 * When a window closes, the close query sees the rows of the windows that close
 * just then.  It gives what it would give over the rows of all windows if rows
 * of different ones never meet, which is so if
 *
 *	- each join of two inputs, of whatever kind, has an equality of their windows
 *	  among its conditions;
 *	- no input stands where rows without a match would have to wait for the last
 *	  window: on the nullable side of a join with what reads no stream;
 *	- a window is among the columns of each GROUP BY, grouping set, PARTITION BY
 *	  and DISTINCT, and of each set operation's output;
 *	- a sub-query in an expression, and one under LATERAL, compares its window with
 *	  one of the rows that it is evaluated for.  Then it is about one window, and
 *	  the rest need not hold in it: it may aggregate, sort and LIMIT as it likes.
 *
 * Windows are followed through sub-queries, as columns, ends or starts of
 * ranges.  Below an outer join a window may be null; one that can be does not
 * count, unless coalesce() (or USING) puts the other side's in its place.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_agg.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "plan/inputs.h"
#include "plan/normalise.h"
#include "plan/path.h"
#include "plan/refuse.h"
#include "plan/window_key.h"

/* Part of a level's FROM, as far as it reads streams: in which rows a window is not null. */
typedef enum CqSideKind
{
	CQ_SIDE_ENTRY, /* one range table entry */
	CQ_SIDE_ANY,   /* joined such that all parts are in each row */
	CQ_SIDE_BOTH   /* FULL JOIN of two parts */
} CqSideKind;

typedef struct CqSide
{
	CqSideKind kind;
	int rti;
	List *parts; /* of CqSide * */
} CqSide;

/* A level being checked, and those around it. */
typedef struct CqFrame
{
	const CqInputs *inputs;
	Query *query;
	const struct CqFrame *up;
	CqSide *from; /* NULL: not looked at yet, or a set operation */
} CqFrame;

/* An expression that is a window, and the entries that it comes from. */
typedef struct CqFound
{
	CqKeyRole role;
	Bitmapset *entries;
} CqFound;

static bool entry_reads(const CqFrame *frame, int rti);
static void check_query(CqFrame *frame, bool local);
static void check_set_operation(CqFrame *frame, bool local);
static void check_level(CqFrame *frame, bool local);
static bool compares_outside(CqFrame *frame, List *conditions);
static void check_groups(CqFrame *frame);
static void require_window(CqFrame *frame, const List *clauses, const char *what);
static void check_entries(CqFrame *frame);
static bool subqueries_walker(Node *node, CqFrame *frame);
static void check_sublink(CqFrame *frame, SubLink *link);
static bool tests_window(CqFrame *frame, SubLink *link, CqFrame *below);
static CqSide *side_of(CqFrame *frame, Node *jointree, List *conditions);
static CqSide *side_of_list(CqFrame *frame, List *nodes, List *conditions);
static CqSide *side_of_outer(CqFrame *frame, JoinExpr *join, List *conditions);
static bool is_lateral_of(CqFrame *frame, const CqSide *a, const CqSide *b);
static bool is_equality(const Node *node);
static bool connected(const CqFrame *frame, const CqSide *a, const CqSide *b, List *conditions);
static bool window_of_side(const CqFrame *frame, const CqSide *side, Node *expr, CqKeyRole *role);
static bool window_outside(const CqFrame *frame, Node *expr, CqKeyRole *role);
static bool is_sure(const CqSide *side, const Bitmapset *entries);
static bool window_find(const CqFrame *frame, Node *expr, CqFound *found);
static bool window_find_coalesce(const CqFrame *frame, CoalesceExpr *expr, CqFound *found);
static bool window_of_entry(const CqFrame *frame, int rti, AttrNumber attno, CqKeyRole *role);
static bool window_of_output(const CqFrame *frame, Query *query, AttrNumber resno, CqKeyRole *role);
static void refuse_join(const CqInputs *inputs) CQ_NORETURN;

void
cq_local_check(const CqInputs *inputs)
{
	CqFrame frame = {.inputs = inputs, .query = inputs->tree};

	check_query(&frame, false);
}

bool
cq_local_is_window(const CqInputs *inputs, AttrNumber resno, CqKeyRole *role)
{
	CqFrame none = {.inputs = inputs};

	return window_of_output(&none, inputs->tree, resno, role);
}

static bool
entry_reads(const CqFrame *frame, int rti)
{
	RangeTblEntry *rte = rt_fetch(rti, frame->query->rtable);

	return rte->rtekind == RTE_SUBQUERY && cq_reads_stream((Node *) rte->subquery);
}

/* local: whatever the query does, it is about one window, or need not be. */
static void
check_query(CqFrame *frame, bool local)
{
	check_stack_depth();
	if (frame->query->setOperations != NULL)
		check_set_operation(frame, local);
	else
		check_level(frame, local);
}

static void
check_set_operation(CqFrame *frame, bool local)
{
	const CqInputs *inputs = frame->inputs;
	Query *query = frame->query;
	CqKeyRole role;
	int rti = 0;
	ListCell *lc;

	foreach (lc, query->rtable)
	{
		if (!entry_reads(frame, ++rti))
			cq_refuse(inputs->view_name,
					  "UNION, INTERSECT or EXCEPT of a stream with something else",
					  "What reads no stream belongs to no window, and would come again with each.",
					  "Make a continuous view of the stream alone and combine it with the rest in "
					  "ordinary SQL.");
	}
	check_entries(frame);
	if (local)
		return;
	if (query->limitCount != NULL || query->limitOffset != NULL)
		cq_refuse_any_limit(inputs->view_name);
	foreach (lc, query->targetList)
	{
		if (window_of_output(frame, query, lfirst_node(TargetEntry, lc)->resno, &role) &&
			cq_window_role_identifies(&inputs->window, role, false))
			return;
	}
	cq_refuse(inputs->view_name,
			  "UNION, INTERSECT or EXCEPT without the window",
			  "It would combine rows of different windows, but when a window closes only its own "
			  "rows are at hand.",
			  "Select the window in all branches, or do this step in ordinary SQL over a view for "
			  "each branch.");
}

static void
check_level(CqFrame *frame, bool local)
{
	Query *query = frame->query;

	frame->from = side_of(frame, (Node *) query->jointree, NIL);
	if (frame->up != NULL && !local)
		local = compares_outside(frame, make_ands_implicit((Expr *) query->jointree->quals));
	check_entries(frame);
	query_tree_walker(query, subqueries_walker, frame, QTW_IGNORE_RANGE_TABLE);
	/* rows without any input are there whether a window closes or not */
	if (frame->from == NULL && !local)
		cq_refuse(frame->inputs->view_name,
				  "a stream only in sub-queries of expressions",
				  "The rows that it is asked for would come again with each window.",
				  "Read the stream in FROM.");
	if (!local)
		check_groups(frame);
}

/* Is a window of the level compared with one of a row that the query is evaluated for? */
static bool
compares_outside(CqFrame *frame, List *conditions)
{
	ListCell *lc;

	if (frame->from == NULL)
		return false;
	foreach (lc, conditions)
	{
		OpExpr *op = lfirst(lc);
		CqKeyRole ours;
		CqKeyRole theirs;

		if (!is_equality((Node *) op))
			continue;
		if ((window_of_side(frame, frame->from, linitial(op->args), &ours) &&
			 window_outside(frame, lsecond(op->args), &theirs) && ours == theirs) ||
			(window_of_side(frame, frame->from, lsecond(op->args), &ours) &&
			 window_outside(frame, linitial(op->args), &theirs) && ours == theirs))
			return true;
	}
	return false;
}

static void
check_groups(CqFrame *frame)
{
	Query *query = frame->query;
	ListCell *lc;

	foreach (lc,
			 query->groupingSets == NIL
				 ? NIL
				 : expand_grouping_sets(query->groupingSets, query->groupDistinct, -1))
	{
		List *clauses = NIL;
		ListCell *lr;

		foreach (lr, (List *) lfirst(lc))
			clauses = lappend(clauses, get_sortgroupref_clause(lfirst_int(lr), query->groupClause));
		require_window(frame, clauses, "grouping set");
	}
	if (query->groupingSets == NIL && cq_level_aggregates(query))
		require_window(frame, query->groupClause, "GROUP BY");
	foreach (lc, query->windowClause)
		require_window(frame, lfirst_node(WindowClause, lc)->partitionClause, "PARTITION BY");
	if (query->distinctClause != NIL)
		require_window(frame, query->distinctClause, "DISTINCT");
	if (query->limitCount != NULL || query->limitOffset != NULL)
		cq_refuse_any_limit(frame->inputs->view_name);
}

static void
require_window(CqFrame *frame, const List *clauses, const char *what)
{
	CqKeyRole role;
	ListCell *lc;

	foreach (lc, clauses)
	{
		Node *expr = get_sortgroupclause_expr(lfirst(lc), frame->query->targetList);

		if (window_of_side(frame, frame->from, expr, &role))
			return;
	}
	cq_refuse(
		frame->inputs->view_name,
		psprintf("a %s without the window", what),
		"It would combine rows of different windows, but when a window closes only its own rows "
		"are at hand.",
		"Add the window to it, or do this step in ordinary SQL over the view.");
}

/* Sub-queries in FROM that are no inputs themselves. */
static void
check_entries(CqFrame *frame)
{
	int rti = 0;
	ListCell *lc;

	foreach (lc, frame->query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);
		CqFrame below = {frame->inputs, rte->subquery, frame, NULL};

		if (entry_reads(frame, ++rti) && cq_inputs_root(frame->inputs, frame->query, rti) == NULL)
			check_query(&below, false);
	}
}

static bool
subqueries_walker(Node *node, CqFrame *frame)
{
	if (node == NULL || IsA(node, Query))
		return false;
	if (IsA(node, SubLink) && cq_reads_stream(castNode(SubLink, node)->subselect))
		check_sublink(frame, (SubLink *) node);
	return expression_tree_walker(node, subqueries_walker, frame);
}

static void
check_sublink(CqFrame *frame, SubLink *link)
{
	CqFrame below = {frame->inputs, (Query *) link->subselect, frame, NULL};
	bool compared = false;

	check_query(&below, link->subLinkType != ANY_SUBLINK);
	if (link->subLinkType == ANY_SUBLINK)
		compared = tests_window(frame, link, &below);
	if (!compared && below.query->setOperations == NULL)
		compared =
			compares_outside(&below, make_ands_implicit((Expr *) below.query->jointree->quals));
	if (!compared)
		cq_refuse(frame->inputs->view_name,
				  "a sub-query over a stream that does not compare its window",
				  "When a window closes only its own rows are at hand; the sub-query would be "
				  "evaluated over these.",
				  "Compare the window with the one of the row outside, in the sub-query's WHERE, "
				  "or make a continuous view of the sub-query and combine the views in ordinary "
				  "SQL.");
}

/* x IN (SELECT ...): a window on the left, and one in the same place on the right? */
static bool
tests_window(CqFrame *frame, SubLink *link, CqFrame *below)
{
	List *tests = IsA(link->testexpr, BoolExpr) ? castNode(BoolExpr, link->testexpr)->args
												: list_make1(link->testexpr);
	ListCell *lc;

	if (frame->from == NULL ||
		(IsA(link->testexpr, BoolExpr) && castNode(BoolExpr, link->testexpr)->boolop != AND_EXPR))
		return false;
	foreach (lc, tests)
	{
		OpExpr *op = lfirst(lc);
		CqKeyRole ours;
		CqKeyRole theirs;

		if (is_equality((Node *) op) && IsA(lsecond(op->args), Param) &&
			window_of_side(frame, frame->from, linitial(op->args), &ours) &&
			window_of_output(below,
							 below->query,
							 castNode(Param, lsecond(op->args))->paramid,
							 &theirs) &&
			ours == theirs)
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------------
 * FROM
 * ------------------------------------------------------------------------
 */

/*
 * Check the joins of a part of FROM; NULL if it reads no stream.  conditions
 * hold for all rows of the part that matter to what is above.
 */
static CqSide *
side_of(CqFrame *frame, Node *jointree, List *conditions)
{
	JoinExpr *join;

	if (IsA(jointree, RangeTblRef))
	{
		CqSide *side;

		if (!entry_reads(frame, castNode(RangeTblRef, jointree)->rtindex))
			return NULL;
		side = palloc0(sizeof(CqSide));
		side->rti = castNode(RangeTblRef, jointree)->rtindex;
		return side;
	}
	if (IsA(jointree, FromExpr))
	{
		FromExpr *from = (FromExpr *) jointree;

		return side_of_list(frame,
							from->fromlist,
							list_concat_copy(conditions, make_ands_implicit((Expr *) from->quals)));
	}
	join = castNode(JoinExpr, jointree);
	conditions = list_concat_copy(join->jointype == JOIN_INNER ? conditions : NIL,
								  make_ands_implicit((Expr *) join->quals));
	if (join->jointype == JOIN_INNER)
		return side_of_list(frame, list_make2(join->larg, join->rarg), conditions);
	return side_of_outer(frame, join, conditions);
}

/* Join what is connected with the first part until nothing is left. */
static CqSide *
side_of_list(CqFrame *frame, List *nodes, List *conditions)
{
	CqSide *all = palloc0(sizeof(CqSide));
	List *rest = NIL;
	bool grown = true;
	ListCell *lc;

	all->kind = CQ_SIDE_ANY;
	foreach (lc, nodes)
	{
		CqSide *side = side_of(frame, lfirst(lc), conditions);

		if (side != NULL)
			rest = lappend(rest, side);
	}
	if (rest == NIL)
		return NULL;
	all->parts = list_make1(linitial(rest));
	rest = list_delete_first(rest);
	while (rest != NIL && grown)
	{
		grown = false;
		foreach (lc, rest)
		{
			CqSide *side = lfirst(lc);

			if (!connected(frame, all, side, conditions) && !is_lateral_of(frame, all, side))
				continue;
			all->parts = lappend(all->parts, side);
			rest = foreach_delete_current(rest, lc);
			grown = true;
		}
	}
	if (rest != NIL)
		refuse_join(frame->inputs);
	return all;
}

static CqSide *
side_of_outer(CqFrame *frame, JoinExpr *join, List *conditions)
{
	CqSide *left = side_of(frame, join->larg, NIL);
	CqSide *right = side_of(frame, join->rarg, NIL);
	CqSide *both;

	if (left == NULL && right == NULL)
		return NULL;
	if ((left == NULL && join->jointype != JOIN_RIGHT) ||
		(right == NULL && join->jointype != JOIN_LEFT))
		cq_refuse(frame->inputs->view_name,
				  "a stream on the nullable side of an outer join",
				  "Rows without a match could only be given out after the last event.",
				  "Put the stream on the other side of the join: stream LEFT JOIN table.");
	if (left != NULL && right != NULL && !connected(frame, left, right, conditions) &&
		!is_lateral_of(frame, left, right))
		refuse_join(frame->inputs);
	if (join->jointype == JOIN_LEFT)
		return left;
	if (join->jointype == JOIN_RIGHT)
		return right;
	both = palloc0(sizeof(CqSide));
	both->kind = CQ_SIDE_BOTH;
	both->parts = list_make2(left, right);
	return both;
}

static bool
connected(const CqFrame *frame, const CqSide *a, const CqSide *b, List *conditions)
{
	ListCell *lc;

	foreach (lc, conditions)
	{
		OpExpr *op = lfirst(lc);
		CqKeyRole x;
		CqKeyRole y;

		if (!is_equality((Node *) op))
			continue;
		if ((window_of_side(frame, a, linitial(op->args), &x) &&
			 window_of_side(frame, b, lsecond(op->args), &y) && x == y) ||
			(window_of_side(frame, b, linitial(op->args), &x) &&
			 window_of_side(frame, a, lsecond(op->args), &y) && x == y))
			return true;
	}
	return false;
}

/* Does a sub-query under LATERAL compare its window with that of the other part? */
static bool
is_lateral_of(CqFrame *frame, const CqSide *a, const CqSide *b)
{
	CqFrame around = *frame;
	CqFrame below = {.inputs = frame->inputs, .up = &around};
	RangeTblEntry *rte;

	if (b->kind != CQ_SIDE_ENTRY)
		return false;
	rte = rt_fetch(b->rti, frame->query->rtable);
	if (!rte->lateral || rte->subquery->setOperations != NULL)
		return false;
	around.from = unconstify(CqSide *, a);
	below.query = rte->subquery;
	below.from = side_of(&below, (Node *) rte->subquery->jointree, NIL);
	return compares_outside(&below, make_ands_implicit((Expr *) rte->subquery->jointree->quals));
}

static bool
is_equality(const Node *node)
{
	if (!IsA(node, OpExpr))
		return false;
	switch (get_opcode(((const OpExpr *) node)->opno))
	{
		case F_RANGE_EQ:
		case F_TIMESTAMP_EQ:
		case F_TIMESTAMPTZ_EQ:
			return true;
		default:
			return false;
	}
}

/* ------------------------------------------------------------------------
 * Windows
 * ------------------------------------------------------------------------
 */

/* Is an expression the window of each row of this part of FROM? */
static bool
window_of_side(const CqFrame *frame, const CqSide *side, Node *expr, CqKeyRole *role)
{
	CqFound found = {0};

	if (!window_find(frame, expr, &found) || !is_sure(side, found.entries) ||
		!cq_window_role_identifies(&frame->inputs->window, found.role, false))
		return false;
	*role = found.role;
	return true;
}

/* The same of a level further out. */
static bool
window_outside(const CqFrame *frame, Node *expr, CqKeyRole *role)
{
	int depth = 0;

	while ((frame = frame->up) != NULL)
	{
		Node *copy;

		if (contain_vars_of_level(expr, depth))
			return false;
		depth++;
		if (frame->from == NULL || !contain_vars_of_level(expr, depth))
			continue;
		copy = copyObject(expr);
		IncrementVarSublevelsUp(copy, -depth, depth);
		return window_of_side(frame, frame->from, copy, role);
	}
	return false;
}

/* Is one of these entries' windows in each row of the part? */
static bool
is_sure(const CqSide *side, const Bitmapset *entries)
{
	bool all = side->kind == CQ_SIDE_BOTH;
	ListCell *lc;

	if (side->kind == CQ_SIDE_ENTRY)
		return bms_is_member(side->rti, entries);
	foreach (lc, side->parts)
	{
		if (is_sure(lfirst(lc), entries) != all)
			return !all;
	}
	return all;
}

static bool
window_find(const CqFrame *frame, Node *expr, CqFound *found)
{
	ListCell *lc;

	while (IsA(expr, RelabelType))
		expr = (Node *) castNode(RelabelType, expr)->arg;
	if (IsA(expr, Var) && castNode(Var, expr)->varlevelsup == 0)
		expr = cq_path_flatten(frame->query, expr);
	if (IsA(expr, RelabelType))
		return window_find(frame, expr, found);
	if (IsA(expr, CoalesceExpr))
		return window_find_coalesce(frame, (CoalesceExpr *) expr, found);
	if (IsA(expr, Var))
	{
		Var *var = (Var *) expr;

		if (var->varlevelsup != 0 || var->varattno <= 0 || !entry_reads(frame, var->varno))
			return false;
		found->entries = bms_make_singleton(var->varno);
		return window_of_entry(frame, var->varno, var->varattno, &found->role);
	}
	if (!IsA(expr, FuncExpr))
		return false;
	foreach (lc, frame->inputs->roots)
	{
		CqRoot *root = lfirst(lc);
		CqWindow window;

		if (root->query == frame->query &&
			cq_window_recognise(root->above, 0, expr, false, &window, &found->role) &&
			cq_window_equal(&window, &frame->inputs->window))
		{
			found->entries = bms_make_singleton(root->rti);
			return true;
		}
	}
	if (castNode(FuncExpr, expr)->funcid != F_LOWER_ANYRANGE &&
		castNode(FuncExpr, expr)->funcid != F_UPPER_ANYRANGE)
		return false;
	if (!window_find(frame, linitial(castNode(FuncExpr, expr)->args), found) ||
		found->role != CQ_KEY_WINDOW_RANGE)
		return false;
	found->role = castNode(FuncExpr, expr)->funcid == F_LOWER_ANYRANGE ? CQ_KEY_WINDOW_START
																	   : CQ_KEY_WINDOW_END;
	return true;
}

static bool
window_find_coalesce(const CqFrame *frame, CoalesceExpr *expr, CqFound *found)
{
	ListCell *lc;

	foreach (lc, expr->args)
	{
		CqFound one = {0};

		if (!window_find(frame, lfirst(lc), &one) ||
			(foreach_current_index(lc) > 0 && one.role != found->role))
			return false;
		found->role = one.role;
		found->entries = bms_add_members(found->entries, one.entries);
	}
	return true;
}

static bool
window_of_entry(const CqFrame *frame, int rti, AttrNumber attno, CqKeyRole *role)
{
	CqRoot *root = cq_inputs_root(frame->inputs, frame->query, rti);
	Query *query = rt_fetch(rti, frame->query->rtable)->subquery;
	CqWindow window;
	TargetEntry *tle;

	if (root == NULL)
		return window_of_output(frame, query, attno, role);
	tle = get_tle_by_resno(query->targetList, attno);
	return tle != NULL &&
		   cq_window_recognise(frame->inputs->paths[root->input],
							   0,
							   (Node *) tle->expr,
							   false,
							   &window,
							   role) &&
		   cq_window_equal(&window, &frame->inputs->window);
}

/* Is an output of a sub-query a window, in all of its branches? */
static bool
window_of_output(const CqFrame *frame, Query *query, AttrNumber resno, CqKeyRole *role)
{
	CqFrame below = {frame->inputs, query, frame, NULL};
	TargetEntry *tle;
	int rti;

	if (query->setOperations == NULL)
	{
		tle = get_tle_by_resno(query->targetList, resno);
		below.from = side_of(&below, (Node *) query->jointree, NIL);
		return tle != NULL && below.from != NULL &&
			   window_of_side(&below, below.from, (Node *) tle->expr, role);
	}
	for (rti = 1; rti <= list_length(query->rtable); rti++)
	{
		CqKeyRole one;

		if (!entry_reads(&below, rti) || !window_of_entry(&below, rti, resno, &one) ||
			(rti > 1 && one != *role))
			return false;
		*role = one;
	}
	return true;
}

static void
refuse_join(const CqInputs *inputs)
{
	cq_refuse(inputs->view_name,
			  "a join of streams that does not compare their windows",
			  "When a window closes only its own rows are at hand, so rows of different windows "
			  "would never meet.",
			  "Add the equality of both windows to the join's condition, for instance ON a.k = b.k "
			  "AND a.w = b.w, or join one continuous view per stream in ordinary SQL.");
}
