/*
 * changing.c
 *	  Reading a continuous view whose rows change.
 *
 * Each change of such a row reaches the reader as two events: the row as it was is
 * taken back, the row as it is now is added (sink/feed_log.c).  Both are computed
 * from the groups of the view below by its upper query, and taken up by the
 * reader's stage; so that what is taken back is what was added, row for row,
 *
 *	 - the upper query must make its rows of one group each: nothing in it may
 *	   look at another group, or at a table, which may have changed meanwhile;
 *	 - neither that query nor the stage may depend on anything but the row: not on
 *	   the clock, on tables, or on functions that may.
 *
 * A reader without windows takes rows back from its groups' states, so its
 * aggregates must have an inverse; and it counts the rows of each group, as one
 * without rows is none.
 *
 * A window closes once.  So a reader with windows gets the rows of windows below
 * when they have become final, each once, as if they had never changed: nothing is
 * taken back, and any query will do.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "operator/operator.h"
#include "plan/changing.h"
#include "plan/refuse.h"
#include "plan/split.h"
#include "plan/surgery.h"
#include "plan/window_key.h"

static void check_windows(const CqPath *path, bool changing);
static void check_aggregates(const CqPath *path);
static char *source_name(const CqPath *path);
static const char *what_combines(const Query *query);
static const char *what_is_unsteady(Query *query);
static bool unsteady_walker(Node *node, void *name);
static bool is_unsteady(Oid function, void *name);

void
cq_changing_check(const CqPath *path, bool windowed, bool changing, CqPlan *plan)
{
	plan->retracts = !windowed;
	if (windowed)
		check_windows(path, changing);
	else
		check_aggregates(path);
}

static void
check_windows(const CqPath *path, bool changing)
{
	const CqFeed *feed = path->definition->feed;

	if (feed->time.role == CQ_TIME_NONE)
		cq_refuse(path->view_name,
				  psprintf("windows over %s, whose rows change", source_name(path)),
				  "Nothing says when a row of it is final, so no window would ever be complete.",
				  "Read a view with windows that shows its window, or leave the window out.");
	if (changing)
		cq_refuse(path->view_name,
				  psprintf("windows that change over %s, whose rows change", source_name(path)),
				  "Windows get the rows that are final.",
				  "Leave emit, allowed_lateness and keep_closed out, or group by the column of "
				  "the window as it is.");
}

static void
check_aggregates(const CqPath *path)
{
	ListCell *lc;

	foreach (lc, cq_split_collect_aggregates(path->levels[path->split].query))
	{
		Aggref *aggref = lfirst_node(Aggref, lc);
		const char *why;

		if (!cq_aggregate_can_retract(aggref, &why))
			cq_refuse(
				path->view_name,
				psprintf("aggregate %s() over %s, whose rows change",
						 get_func_name(aggref->aggfnoid),
						 source_name(path)),
				psprintf("What an earlier state of a row has given it cannot be taken back: "
						 "%s.",
						 why),
				aggref->aggdistinct
					? "Make a view that groups by its argument, too, and read that."
					: "Use count(), or sum() or avg() of other types than float, or aggregate "
					  "in ordinary SQL over the view.");
	}
}

/* A filter alone needs no state when it is read, either. */
void
cq_changing_refuse_append(const CqPath *path)
{
	const CqFeed *feed = path->definition->feed;

	if (feed && feed->mode != CQ_FEED_ROWS)
		cq_refuse(path->view_name,
				  psprintf("%s without grouping its rows, which change", source_name(path)),
				  "Rows of a view without groups are never taken back.",
				  "Create an ordinary view over it: CREATE VIEW ... AS SELECT ...");
}

void
cq_changing_check_stage(const CqPath *path, const CqPlan *plan)
{
	const char *what = what_is_unsteady(plan->stage);

	if (plan->stage_has_joins)
		cq_refuse(path->view_name,
				  psprintf("a table beside %s, whose rows change", source_name(path)),
				  "What was joined with a row when it came may not be there any more when the "
				  "row is taken back.",
				  "Join the table in ordinary SQL over this view, or in the view below.");
	if (what)
		cq_refuse(path->view_name,
				  psprintf("%s over %s, whose rows change", what, source_name(path)),
				  "It may have another result when a row is taken back than when it came.",
				  "Use it when reading the view, or declare the function IMMUTABLE if it is.");
}

static char *
source_name(const CqPath *path)
{
	return psprintf("continuous view \"%s\"", path->definition->name);
}

int
cq_changing_count_rows(List **aggregates)
{
	Aggref *count = makeNode(Aggref);
	ListCell *lc;

	foreach (lc, *aggregates)
	{
		const Aggref *aggref = lfirst_node(Aggref, lc);

		if (aggref->aggfnoid == F_COUNT_ && aggref->aggfilter == NULL)
			return foreach_current_index(lc);
	}
	count->aggfnoid = F_COUNT_;
	count->aggtype = INT8OID;
	count->aggtranstype = INT8OID;
	count->aggstar = true;
	count->aggkind = AGGKIND_NORMAL;
	count->aggsplit = AGGSPLIT_SIMPLE;
	count->aggno = -1;
	count->aggtransno = -1;
	count->location = -1;
	*aggregates = lappend(*aggregates, count);
	return list_length(*aggregates) - 1;
}

const char *
cq_changing_why_hidden(const CqPlan *plan)
{
	const char *what = NULL;
	Query *query = plan->upper;

	if (plan->replaced)
		return "Its windows keep their events, and all rows of a window are made anew when one comes.";

	for (;;)
	{
		const RangeTblEntry *rte;

		what = what_combines(query);
		if (what)
			return psprintf("What changes of its rows cannot be told, because of %s.", what);
		rte = linitial_node(RangeTblEntry, query->rtable);
		if (rte->rtekind != RTE_SUBQUERY)
			break;
		query = rte->subquery;
	}
	what = what_is_unsteady(plan->upper);
	if (what)
		return psprintf("Its rows may change without an event, because of %s.", what);
	return NULL;
}

/* What makes rows of a level depend on more than one row below it? */
static const char *
what_combines(const Query *query)
{
	const RangeTblEntry *rte;

	if (query->hasAggs || query->groupClause || query->groupingSets || query->havingQual)
		return "what is aggregated above its groups";
	if (query->hasWindowFuncs)
		return "window functions above its groups";
	if (query->distinctClause)
		return "DISTINCT above its groups";
	if (query->limitCount || query->limitOffset)
		return "LIMIT or OFFSET";
	if (query->setOperations || query->cteList || list_length(query->rtable) != 1)
		return "what its groups are combined with";
	if (query->hasSubLinks)
		return "a sub-query above its groups";
	rte = linitial_node(RangeTblEntry, query->rtable);
	if (rte->rtekind != RTE_SUBQUERY && (rte->rtekind != RTE_RELATION || OidIsValid(rte->relid)))
		return "what its groups are combined with";
	return NULL;
}

/*
 * Built-in functions that are STABLE depend on settings, which are fixed for a
 * continuous view, or on the clock.
 */
static const char *
what_is_unsteady(Query *query)
{
	char *name = NULL;

	if (cq_reads_clock((Node *) query))
		return "the current time";
	if (unsteady_walker((Node *) query, &name))
		return psprintf("STABLE function %s()", name);
	return NULL;
}

static bool
unsteady_walker(Node *node, void *name)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, unsteady_walker, name, 0);
	return check_functions_in_node(node, is_unsteady, name) ||
		   expression_tree_walker(node, unsteady_walker, name);
}

static bool
is_unsteady(Oid function, void *name)
{
	if (function < FirstNormalObjectId || func_volatile(function) == PROVOLATILE_IMMUTABLE ||
		cq_window_function_name(function) != NULL)
		return false;
	*(char **) name = get_func_name(function);
	return true;
}

Query *
cq_changing_rows_query(const CqPlan *plan)
{
	Query *query = copyObject(plan->upper);
	Query *level = query;

	while (linitial_node(RangeTblEntry, level->rtable)->rtekind == RTE_SUBQUERY)
		level = linitial_node(RangeTblEntry, level->rtable)->subquery;
	cq_surgery_read_closed(level, plan->closed_desc, CQ_EMIT_WINDOW_CLOSE, level->jointree->quals);
	return query;
}
