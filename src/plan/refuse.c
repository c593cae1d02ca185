/*
 * refuse.c
 *	  What a continuous view's query may not contain.
 *
 * A query is refused when its answer could not be kept equal to "the query run
 * over the events so far": because it would give another answer when asked
 * again (volatile functions, the clock), because a window would be treated as
 * if it were the whole stream (LIMIT), or because it is not built yet.
 *
 * The clock is refused only next to columns of the stream, where it makes the
 * answer depend on when an event happened to be processed.  Which columns these
 * are is followed through sub-queries and joins.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "compat.h"
#include "plan/refuse.h"
#include "plan/window_key.h"

/* Search for the current time and for columns of the stream in one expression. */
typedef struct CqClock
{
	const CqPath *path;
	int level;
	Query *query; /* stands for the level */
	int depth;	  /* sub-queries below the level */
	bool has_clock;
	bool has_stream;
} CqClock;

static bool unsupported_walker(Node *node, const char *view_name);
static void unsupported_query(Query *query, const char *view_name);
static bool volatile_walker(Node *node, const char *view_name);
static bool is_volatile(Oid function, void *view_name);
static bool clock_walker(Node *node, CqClock *clock);
static bool facts_walker(Node *node, CqClock *clock);
static void facts_of_var(Var *var, CqClock *clock);
static bool clock_value_walker(Node *node, void *context);
static bool reads_clock(Oid function, void *context);
static bool lent_rights_walker(Node *node, const char *view_name);
static void check_lent_rights(RangeTblEntry *rte, Oid lender, const char *view_name);

void
cq_refuse(const char *view_name, const char *what, const char *detail, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("continuous view \"%s\" cannot use %s", view_name, what),
			detail != NULL ? errdetail("%s", detail) : 0,
			errhint("%s", hint));
}

void
cq_refuse_unsupported(Query *tree, const char *view_name)
{
	unsupported_walker((Node *) tree, view_name);
}

void
cq_refuse_volatile(Query *rewritten, const char *view_name)
{
	volatile_walker((Node *) rewritten, view_name);
}

void
cq_refuse_clock(const CqPath *path, int first, int last)
{
	for (; first <= last; first++)
		cq_refuse_clock_in(path, first, path->levels[first].query);
}

void
cq_refuse_clock_in(const CqPath *path, int level, Query *query)
{
	CqClock clock = {path, level, query, 0, false, false};
	int rti = 0;
	ListCell *lc;

	/* LATERAL: what stands beside the stream may refer to it */
	foreach (lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (++rti == path->levels[level].rti)
			continue;
		clock_walker((Node *) rte->subquery, &clock);
		clock_walker((Node *) rte->functions, &clock);
		clock_walker((Node *) rte->values_lists, &clock);
	}
	clock_walker((Node *) query->targetList, &clock);
	clock_walker((Node *) query->jointree, &clock);
	clock_walker(query->havingQual, &clock);
}

void
cq_refuse_any_clock(Query *query, const char *view_name)
{
	if (cq_reads_clock((Node *) query))
		cq_refuse(view_name,
				  "the current time where inputs are combined",
				  "The result would depend on when a window happens to be closed.",
				  "Compare with the current time when reading the view.");
}

void
cq_refuse_lent_rights(Query *upper, const char *view_name)
{
	lent_rights_walker((Node *) upper, view_name);
}

void
cq_refuse_limit(const CqPath *path, int first)
{
	for (; first < path->nlevels; first++)
	{
		Query *query = path->levels[first].query;

		if (query->limitCount != NULL || query->limitOffset != NULL)
			cq_refuse_any_limit(path->view_name);
	}
}

void
cq_refuse_any_limit(const char *view_name)
{
	cq_refuse(view_name,
			  "LIMIT or OFFSET",
			  "It would apply to each window or batch on its own, not to the query's whole answer.",
			  "For the first rows of each window, filter on row_number() OVER (PARTITION BY "
			  "window ORDER BY ...) in an outer query; otherwise use LIMIT when reading the "
			  "view.");
}

void
cq_refuse_pseudo_type(const CqPath *path, Node *expr, const char *what)
{
	Oid type = exprType(expr);

	if (get_typtype(type) == TYPTYPE_PSEUDO)
		cq_refuse(path->view_name,
				  psprintf("%s of type %s", what, format_type_be(type)),
				  "Values of this type cannot be stored.",
				  "Use the parts of the value, or a type that a column can have.");
}

static bool
unsupported_walker(Node *node, const char *view_name)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		unsupported_query((Query *) node, view_name);
		return query_tree_walker((Query *) node, unsupported_walker, (void *) view_name, 0);
	}
	return expression_tree_walker(node, unsupported_walker, (void *) view_name);
}

static void
unsupported_query(Query *query, const char *view_name)
{
	ListCell *lc;

	if (query->commandType != CMD_SELECT)
		cq_refuse(view_name,
				  "a statement that changes data",
				  "A continuous view's query is a SELECT, in its WITH queries too.",
				  "Change data elsewhere, for instance in a trigger.");
	if (query->rowMarks != NIL)
		cq_refuse(view_name,
				  "FOR UPDATE or FOR SHARE",
				  "Rows would stay locked for as long as a checkpoint takes.",
				  "Leave the clause out.");
	foreach (lc, query->rtable)
	{
		if (lfirst_node(RangeTblEntry, lc)->tablesample != NULL)
			cq_refuse(view_name,
					  "TABLESAMPLE",
					  "The sample would be another one for each batch of events.",
					  "Sample the view's rows when reading it.");
	}
}

static bool
volatile_walker(Node *node, const char *view_name)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, volatile_walker, (void *) view_name, 0);
	if (IsA(node, NextValueExpr))
		is_volatile(F_NEXTVAL, (void *) view_name);
	check_functions_in_node(node, is_volatile, (void *) view_name);
	return expression_tree_walker(node, volatile_walker, (void *) view_name);
}

static bool
is_volatile(Oid function, void *view_name)
{
	if (func_volatile(function) == PROVOLATILE_VOLATILE &&
		cq_window_function_name(function) == NULL)
		cq_refuse(view_name,
				  psprintf("volatile function %s()", get_func_name(function)),
				  "An event that is processed again after a restart would give another result.",
				  "Call it when reading the view, or declare the function STABLE or IMMUTABLE if "
				  "it is.");
	return false;
}

/* Conditions joined by AND, OR and NOT are looked at one by one. */
static bool
clock_walker(Node *node, CqClock *clock)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		clock->depth++;
		query_tree_walker((Query *) node, clock_walker, clock, QTW_IGNORE_JOINALIASES);
		clock->depth--;
		return false;
	}
	if (IsA(node, List) || IsA(node, TargetEntry) || IsA(node, FromExpr) || IsA(node, JoinExpr) ||
		IsA(node, BoolExpr) || IsA(node, SubLink) || IsA(node, CommonTableExpr) ||
		IsA(node, RangeTblFunction))
		return expression_tree_walker(node, clock_walker, clock);

	clock->has_clock = clock->has_stream = false;
	facts_walker(node, clock);
	if (clock->has_clock && clock->has_stream)
		cq_refuse(
			clock->path->view_name,
			"the current time together with columns of the stream",
			"The result would depend on when an event happens to be processed, and rows would "
			"not disappear as time goes by.",
			"Compare with the current time when reading the view, or group by a window of the "
			"event time.");
	return false;
}

static bool
facts_walker(Node *node, CqClock *clock)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		clock->depth++;
		query_tree_walker((Query *) node, facts_walker, clock, QTW_IGNORE_JOINALIASES);
		clock->depth--;
		return false;
	}
	if (IsA(node, Var))
	{
		if ((int) castNode(Var, node)->varlevelsup == clock->depth)
			facts_of_var((Var *) node, clock);
		return false;
	}
	if (IsA(node, SQLValueFunction))
		clock->has_clock |= castNode(SQLValueFunction, node)->op <= SVFOP_LOCALTIMESTAMP_N;
	else if (check_functions_in_node(node, reads_clock, NULL))
		clock->has_clock = true;
	return expression_tree_walker(node, facts_walker, clock);
}

/* A column is what it is computed from, on the levels below. */
static void
facts_of_var(Var *var, CqClock *clock)
{
	CqClock saved = *clock;
	RangeTblEntry *rte = rt_fetch(var->varno, clock->query->rtable);

	if (rte->rtekind == RTE_JOIN && var->varattno > 0)
	{
		clock->depth = 0;
		facts_walker(list_nth(rte->joinaliasvars, var->varattno - 1), clock);
		clock->depth = saved.depth;
	}
	else if (var->varno == clock->path->levels[clock->level].rti)
	{
		TargetEntry *tle = NULL;

		if (clock->level < clock->path->nlevels - 1)
			tle = get_tle_by_resno(rte->subquery->targetList, var->varattno);
		if (tle == NULL)
		{
			clock->has_stream = true;
			return;
		}
		clock->level++;
		clock->query = clock->path->levels[clock->level].query;
		clock->depth = 0;
		facts_walker((Node *) tle->expr, clock);
		clock->level = saved.level;
		clock->query = saved.query;
		clock->depth = saved.depth;
	}
	else if (rte->rtekind == RTE_SUBQUERY)
	{
		TargetEntry *tle = get_tle_by_resno(rte->subquery->targetList, var->varattno);

		clock->has_clock |= tle != NULL && cq_reads_clock((Node *) tle->expr);
	}
}

/* Is the expression computed from the current time at hand? */
static bool
clock_value_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SQLValueFunction))
		return castNode(SQLValueFunction, node)->op <= SVFOP_LOCALTIMESTAMP_N;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, clock_value_walker, context, 0);
	return check_functions_in_node(node, reads_clock, NULL) ||
		   expression_tree_walker(node, clock_value_walker, context);
}

bool
cq_reads_clock(Node *node)
{
	return clock_value_walker(node, NULL);
}

static bool
reads_clock(Oid function, void *context)
{
	switch (function)
	{
		case F_NOW:
		case F_TRANSACTION_TIMESTAMP:
		case F_STATEMENT_TIMESTAMP:
		case F_CLOCK_TIMESTAMP:
		case F_TIMEOFDAY:
		case F_AGE_TIMESTAMP:
		case F_AGE_TIMESTAMPTZ:
			return true;
		default:
			return false;
	}
}

static bool
lent_rights_walker(Node *node, const char *view_name)
{
	Query *query = (Query *) node;
	ListCell *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, lent_rights_walker, (void *) view_name);
	foreach (lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);
		Oid lender;

		if (rte->rtekind != RTE_RELATION || !OidIsValid(rte->relid))
			continue;
		lender = cq_compat_rte_check_as_user(query, rte);
		if (OidIsValid(lender) && lender != GetUserId())
			check_lent_rights(rte, lender, view_name);
	}
	return query_tree_walker(query, lent_rights_walker, (void *) view_name, 0);
}

/* A view's rule knows one role only, so what another view lends is lost in it. */
static void
check_lent_rights(RangeTblEntry *rte, Oid lender, const char *view_name)
{
	if (pg_class_aclcheck(rte->relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
		check_enable_rls(rte->relid, GetUserId(), true) == RLS_NONE &&
		check_enable_rls(rte->relid, lender, true) == RLS_NONE)
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("continuous view \"%s\" cannot read relation \"%s\" with the rights of a view "
				   "in between",
				   view_name,
				   get_rel_name(rte->relid)),
			errdetail("What stands above the groups of a view without windows is read with the "
					  "rights of the continuous view's owner."),
			errhint("Grant SELECT on the relation to the owner, or join it when reading the "
					"continuous view."));
}
