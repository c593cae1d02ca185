/*
 * classify.c
 *	  Deciding how a query is kept.
 *
 * The split level is windowed if a window of the event time is among what its
 * rows are grouped by: GROUP BY, the outputs of DISTINCT, or every PARTITION BY
 * where window functions run over single rows.
 *
 * All that stands at and above a windowed split level is computed when a window
 * closes, from the rows of the windows that close just then.  It is allowed if
 * that gives what it would give over the rows of all windows together, that is
 * if nothing combines rows of different windows: a window must be among the
 * columns of each GROUP BY, PARTITION BY and DISTINCT on the way up.  Joins
 * combine rows with those of tables only.
 *
 * Without a window the operator's groups are the result table, and what stands
 * above is evaluated when the view is read; so anything goes there.
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"
#include "parser/parse_agg.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "operator/operator.h"
#include "plan/changing.h"
#include "plan/classify.h"
#include "plan/hop.h"
#include "plan/refuse.h"
#include "plan/split.h"
#include "plan/window_key.h"

static bool window_find(const CqPath *path, CqPlan *plan, const List *clauses);
static void check_session(const CqPath *path, const CqPlan *plan, bool grouped, List **clauses);
static void check_counts(const CqPath *path, const CqPlan *plan, bool grouped);
static void check_single_rows(const CqPath *path, const CqPlan *plan);
static void check_single_sessions(const CqPath *path, bool grouped);
static void check_late_parts(const CqPath *path, const CqWindow *window);
static List *raw_clauses(const Query *level);
static void refuse_lateness(const CqPath *path, const char *corrected_by);
static void check_changing(const CqPath *path, int emit, const char *corrected_by,
						   const CqPlan *plan);
static void classify_emit(const CqPath *path, int emit, bool windowed, CqPlan *plan);
static void classify_shape(const CqPath *path, bool grouped, bool windowed, CqPlan *plan);
static char *why_not_incremental(const Query *level, bool sliced);
static bool can_be_sliced(const Query *level);
static bool groups_are_disjoint(const CqPath *path, const List *clauses);
static char *why_not_combined(const Query *level);
static void refuse_divided(const CqPath *path, const CqPlan *plan) CQ_NORETURN;
static void refuse_raw(const CqPath *path) CQ_NORETURN;
static void check_local(const CqPath *path, const CqPlan *plan, bool distinct_is_split);
static void check_grouping_sets(const CqPath *path, const CqPlan *plan, int level);
static void require_window(const CqPath *path, const CqPlan *plan, int level, const List *clauses,
						   bool same_keys, const char *what);

void
cq_classify(const CqPath *path, int emit, const char *corrected_by, CqPlan *plan, List **clauses)
{
	Query *level;
	bool distinct;
	bool grouped;
	bool windowed;
	bool changing;

	*clauses = NIL;
	plan->corrected_by = corrected_by;
	if (path->split < 0)
	{
		plan->shape = CQ_SHAPE_APPEND;
		plan->emit = CQ_EMIT_WINDOW_CLOSE;
		if (emit != -1)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("option \"emit\" has no meaning for continuous view \"%s\"",
						   path->view_name),
					errdetail(
						"The query neither groups nor has windows: each row is final as soon as "
						"its event is processed."),
					errhint("Leave the option out."));
		refuse_lateness(path, corrected_by);
		cq_refuse_limit(path, 0);
		cq_changing_refuse_append(path);
		return;
	}
	level = path->levels[path->split].query;
	distinct = !cq_level_aggregates(level) && !level->hasWindowFuncs && !level->hasDistinctOn;
	grouped = distinct || cq_level_aggregates(level);
	if (grouped)
		*clauses = distinct ? level->distinctClause : level->groupClause;
	windowed = window_find(path, plan, grouped ? *clauses : raw_clauses(level));
	if (!grouped && !windowed)
		refuse_raw(path);
	if (!cq_window_has_late(&plan->window))
		refuse_lateness(path, corrected_by);
	changing = windowed && (corrected_by || emit == CQ_EMIT_CHANGES);
	if (path->definition->feed && path->definition->feed->mode != CQ_FEED_ROWS)
		cq_changing_check(path, windowed, changing, plan);
	/* what can be put together may be in several parts when the number of workers was altered */
	plan->disjoint = plan->divided && groups_are_disjoint(path, *clauses) &&
					 (!windowed || why_not_combined(level) != NULL);
	classify_shape(path, grouped, windowed, plan);
	if (changing)
		check_changing(path, emit, corrected_by, plan);
	if (plan->window.kind == CQ_WINDOW_SESSION)
		check_session(path, plan, grouped, clauses);
	if (plan->window.kind == CQ_WINDOW_COUNT)
		check_counts(path, plan, grouped);
	if (plan->window.processing && plan->divided)
		cq_refuse(path->view_name,
				  "several workers with windows of processing time",
				  "Each worker would close them by the time at which it takes events in itself.",
				  "Leave the option \"workers\" out.");
	if (cq_window_overlaps(&plan->window))
	{
		cq_hop_check_step(path);
		/* rows that change belong to groups of one window */
		plan->sliced = !changing && (plan->shape == CQ_SHAPE_ROWS || can_be_sliced(level));
		if (plan->sliced && plan->divided)
			check_late_parts(path, &plan->window);
	}
	classify_emit(path, emit, windowed, plan);
	if (changing)
	{
		plan->emit = CQ_EMIT_CHANGES;
		plan->shows_open = emit == CQ_EMIT_CHANGES;
		plan->replaced = plan->shape == CQ_SHAPE_ROWS;
	}
	if (plan->divided && !windowed && !plan->disjoint)
		refuse_divided(path, plan);
	cq_refuse_limit(path, windowed ? 0 : path->split + 1);
	if (plan->window.kind == CQ_WINDOW_COUNT)
	{
		if (!changing || plan->replaced)
			check_single_rows(path, plan);
	}
	else if (windowed)
		check_local(path, plan, distinct);
	if (plan->window.kind == CQ_WINDOW_SESSION && plan->replaced)
		check_single_sessions(path, grouped);
}

void
cq_classify_rows(const CqPath *path, const CqWindow *window, CqPlan *plan)
{
	plan->shape = CQ_SHAPE_ROWS;
	plan->emit = CQ_EMIT_WINDOW_CLOSE;
	plan->window = *window;
	plan->rows_why = "a join of streams";
	plan->sliced = cq_window_overlaps(window);
	if (path->definition->feed && path->definition->feed->mode != CQ_FEED_ROWS)
		cq_changing_check(path, true, false, plan);
	if (window->kind == CQ_WINDOW_SESSION)
		cq_refuse(path->view_name,
				  "pipeline.session() without grouping by it",
				  "Rows are joined by whose session they belong to.",
				  "Put the call into GROUP BY of each sub-query, with the columns that tell whose "
				  "session it is.");
	if (plan->sliced)
		cq_hop_check_step(path);
	if (plan->sliced && plan->divided)
		check_late_parts(path, window);
	cq_refuse_limit(path, 0);
}

/* A slice must have an instant for each of its windows, see operator/slices.c. */
static void
check_late_parts(const CqPath *path, const CqWindow *window)
{
	int64 rest = window->size_us % window->slide_us;
	int64 slice = rest == 0 ? window->slide_us : Min(rest, window->slide_us - rest);

	if (slice <= window->size_us / window->slide_us)
		cq_refuse(path->view_name,
				  "several workers with so many windows in so little time",
				  psprintf("Bounds of windows are only " INT64_FORMAT " microseconds apart.",
						   slice),
				  "Make the slide longer, the size a multiple of it, or leave the option "
				  "\"workers\" out.");
}

static void
check_counts(const CqPath *path, const CqPlan *plan, bool grouped)
{
	if (plan->divided)
		cq_refuse(path->view_name,
				  "several workers with count windows",
				  "Events are counted in the order in which they come, and those of several "
				  "partitions have none in common.",
				  "Leave the option \"workers\" out.");
	if (!grouped)
		cq_refuse(path->view_name,
				  psprintf("%s over count windows", plan->rows_why),
				  "Whose events are counted is said by GROUP BY.",
				  "Group by the window and by whose events are counted.");
	if (path->levels[path->split].query->groupingSets != NIL)
		cq_refuse(path->view_name,
				  "GROUPING SETS, ROLLUP or CUBE over count windows",
				  "Each set of keys would count events of its own.",
				  "Make one view per set of keys.");
}

/*
 * Windows of one number are complete at another time in each group, so nothing
 * above may look at more than one row.
 */
static void
check_single_rows(const CqPath *path, const CqPlan *plan)
{
	int level;

	for (level = path->split; level >= 0; level--)
	{
		Query *query = path->levels[level].query;
		bool above = level < path->split;

		if ((above && cq_level_aggregates(query)) || query->hasWindowFuncs ||
			query->hasDistinctOn ||
			(query->distinctClause != NIL && (above || cq_level_aggregates(query))))
			cq_refuse(
				path->view_name,
				"grouping, DISTINCT or window functions above count windows",
				"Each group's window is complete at another time, and only then is its row at "
				"hand.",
				plan->shape == CQ_SHAPE_ROWS
					? "Do this step in ordinary SQL over the view."
					: "Create the view with emit = 'changes', or do this step in ordinary SQL over "
					  "the view.");
	}
}

/* Sessions that change are given out one by one: others may have the same range. */
static void
check_single_sessions(const CqPath *path, bool grouped)
{
	int level;

	for (level = path->split; level >= 0; level--)
	{
		Query *query = path->levels[level].query;
		bool above = level < path->split;

		if ((above && (cq_level_aggregates(query) || query->hasWindowFuncs ||
					   query->hasDistinctOn || query->distinctClause != NIL)) ||
			(grouped && (query->hasWindowFuncs || query->hasDistinctOn)) ||
			(cq_level_aggregates(query) && query->distinctClause != NIL))
			cq_refuse(path->view_name,
					  "grouping, DISTINCT or window functions above sessions that change and keep "
					  "their rows",
					  "Sessions of several groups may have the same range, and change one by one.",
					  "Do this step in ordinary SQL over the view.");
	}
}

/* Whose sessions they are must be the same for all that is done with the rows. */
static void
check_session(const CqPath *path, const CqPlan *plan, bool grouped, List **clauses)
{
	Query *level = path->levels[path->split].query;
	ListCell *lc;

	if (level->groupingSets != NIL)
		cq_refuse(path->view_name,
				  "GROUPING SETS, ROLLUP or CUBE over sessions",
				  "Each set of keys would have sessions of its own.",
				  "Make one view per set of keys.");
	if (grouped)
		return;
	*clauses = level->distinctClause;
	if (!level->hasWindowFuncs)
		return;
	*clauses = linitial_node(WindowClause, level->windowClause)->partitionClause;
	foreach (lc, level->windowClause)
		if (level->distinctClause != NIL ||
			list_difference(lfirst_node(WindowClause, lc)->partitionClause, *clauses) != NIL ||
			list_difference(*clauses, lfirst_node(WindowClause, lc)->partitionClause) != NIL)
			cq_refuse(path->view_name,
					  "window functions over sessions of several kinds",
					  "Each PARTITION BY says whose sessions they are.",
					  "Use the same PARTITION BY in all of them, and DISTINCT in an outer query.");
}

/* The one window among these clauses. */
static bool
window_find(const CqPath *path, CqPlan *plan, const List *clauses)
{
	Query *level = path->levels[path->split].query;
	bool identified = false;
	ListCell *lc;

	foreach (lc, clauses)
	{
		Node *expr = get_sortgroupclause_expr(lfirst(lc), level->targetList);
		CqWindow window;
		CqKeyRole role;

		if (!cq_window_recognise(path, path->split, expr, true, &window, &role))
			continue;
		if (plan->window.kind == CQ_WINDOW_NONE)
			plan->window = window;
		else if (!cq_window_equal(&plan->window, &window))
			cq_refuse_two_windows(path->view_name, &plan->window, &window);
		identified = identified || cq_window_role_identifies(&window, role, true);
	}
	if (plan->window.kind != CQ_WINDOW_NONE && !identified)
		cq_refuse(path->view_name,
				  "the start of a cumulating window without its end",
				  "All windows of a period begin together, and their rows would be put together.",
				  "Use the window itself, or its end.");
	return plan->window.kind != CQ_WINDOW_NONE;
}

void
cq_refuse_two_windows(const char *view_name, const CqWindow *a, const CqWindow *b)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("continuous view \"%s\" has two different windows", view_name),
			errdetail("One has %s, the other %s.", cq_window_describe(a), cq_window_describe(b)),
			errhint("Make one view for each, or group by the smaller window only and combine its "
					"rows when reading the view."));
}

/* What window functions and DISTINCT ON over single rows divide them by. */
static List *
raw_clauses(const Query *level)
{
	List *clauses = list_copy(level->distinctClause);
	ListCell *lc;

	foreach (lc, level->windowClause)
		clauses = list_concat(clauses, lfirst_node(WindowClause, lc)->partitionClause);
	return clauses;
}

/* Without a window nothing is late. */
static void
refuse_lateness(const CqPath *path, const char *corrected_by)
{
	if (corrected_by)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("option \"%s\" has no meaning for continuous view \"%s\"",
					   corrected_by,
					   path->view_name),
				errdetail("The query has no windows of event time, so no event comes too late."),
				errhint("Leave the option out."));
}

/*
 * Where rows of windows change, the result table has the groups, each at its
 * place, and what stands above them is evaluated on read, as without windows.
 * Where rows are kept it has what the close query made of those of a window; that is
 * run again when there are more, and what is different replaced.
 */
static void
check_changing(const CqPath *path, int emit, const char *corrected_by, const CqPlan *plan)
{
	const char *what =
		emit == CQ_EMIT_CHANGES ? "emit = 'changes'" : psprintf("%s above 0", corrected_by);

	if (plan->divided)
		cq_refuse(path->view_name,
				  psprintf("%s with windows and several workers", what),
				  "Two workers would keep the same row.",
				  "Leave the option \"workers\" out.");
}

static void
classify_emit(const CqPath *path, int emit, bool windowed, CqPlan *plan)
{
	plan->emit = windowed ? CQ_EMIT_WINDOW_CLOSE : CQ_EMIT_CHANGES;
	if (!windowed && emit == CQ_EMIT_WINDOW_CLOSE)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("continuous view \"%s\" has no window that could close", path->view_name),
				errdetail(
					"Without a window of the event time among its grouping keys a group is never "
					"complete."),
				errhint("Group by pipeline.tumble(event_time, size), or leave the option \"emit\" "
						"out."));
}

static void
classify_shape(const CqPath *path, bool grouped, bool windowed, CqPlan *plan)
{
	Query *level = path->levels[path->split].query;
	char *why = NULL;

	plan->shape = CQ_SHAPE_ROWS;
	if (!grouped)
		plan->rows_why = level->hasWindowFuncs ? "window functions" : "DISTINCT ON";
	else if (level->groupingSets != NIL)
	{
		if (!windowed)
			cq_refuse(path->view_name,
					  "GROUPING SETS, ROLLUP or CUBE without a window",
					  "Groups of several kinds cannot be kept incrementally.",
					  "Make one view per set of keys, or group by all keys and sum up when reading "
					  "the view.");
		plan->rows_why = "grouping sets";
	}
	else if ((why = why_not_incremental(level, cq_hop_is_kind(plan->window.kind))) != NULL)
	{
		if (!windowed)
			cq_refuse(
				path->view_name,
				psprintf("%s without a window", why),
				"It cannot be kept incrementally, so all rows would have to be kept for ever.",
				"Group by a window of the event time, for instance "
				"pipeline.tumble(event_time, '1 hour'), or use another aggregate.");
		plan->rows_why = why;
	}
	else if (windowed &&
			 (plan->window.kind == CQ_WINDOW_SESSION || (plan->divided && !plan->disjoint)) &&
			 (why = why_not_combined(level)) != NULL)
		plan->rows_why = plan->divided ? psprintf("%s over several workers", why) : why;
	else
		plan->shape = CQ_SHAPE_AGGREGATE;
}

/*
 * Are all events of a group in one partition?  They are if the columns that
 * decide about an event's partition are among the group's keys.
 */
static bool
groups_are_disjoint(const CqPath *path, const List *clauses)
{
	Query *level = path->levels[path->split].query;
	List *columns = NIL;
	ListCell *lc;

	foreach (lc, clauses)
		columns =
			lappend_int(columns,
						cq_stream_column(path,
										 path->split,
										 get_sortgroupclause_expr(lfirst(lc), level->targetList)));
	foreach (lc, path->definition->partition_key)
	{
		if (!list_member_int(columns, lfirst_int(lc)))
			return false;
	}
	return path->definition->partition_key != NIL;
}

/*
 * The first aggregate that needs its rows, for messages; NULL if there is none.
 * The values that one with DISTINCT has seen cannot be combined from slices.
 */
static char *
why_not_incremental(const Query *level, bool sliced)
{
	ListCell *lc;

	foreach (lc, cq_split_collect_aggregates(level))
	{
		Aggref *aggref = lfirst_node(Aggref, lc);
		char *name = get_func_name(aggref->aggfnoid);
		const char *why = NULL;

		if (AGGKIND_IS_ORDERED_SET(aggref->aggkind))
			return psprintf("aggregate %s() WITHIN GROUP", name);
		if (aggref->aggdistinct != NIL && (sliced || !cq_aggregate_is_incremental(aggref, &why)))
			return psprintf("aggregate %s(DISTINCT ...)", name);
		if (aggref->aggorder != NIL)
			return psprintf("aggregate %s(... ORDER BY ...)", name);
		if (!cq_aggregate_is_incremental(aggref, &why))
			return psprintf("aggregate %s()", name);
	}
	return NULL;
}

/* Can the aggregates of a window be made up from those of its slices? */
static bool
can_be_sliced(const Query *level)
{
	return why_not_combined(level) == NULL;
}

/* The first aggregate whose states cannot be put together: it has no combine function. */
static char *
why_not_combined(const Query *level)
{
	ListCell *lc;

	foreach (lc, cq_split_collect_aggregates(level))
	{
		Aggref *aggref = lfirst_node(Aggref, lc);

		if (!cq_aggregate_is_combinable(aggref))
			return psprintf("aggregate %s()", get_func_name(aggref->aggfnoid));
	}
	return NULL;
}

static void
refuse_divided(const CqPath *path, const CqPlan *plan)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("continuous view \"%s\" cannot have several workers", path->view_name),
			errdetail("It has no window, and the events of a group may be in several partitions: "
					  "two workers would keep the same row."),
			errhint("If all events with the same values of some GROUP BY columns are in one "
					"partition, say so in the option \"partition_key\" of stream \"%s\".",
					path->definition->name));
}

static void
refuse_raw(const CqPath *path)
{
	Query *level = path->levels[path->split].query;

	if (level->hasWindowFuncs)
		cq_refuse(
			path->view_name,
			"window functions over single events without a window",
			"Each later event could change the rows of all earlier ones.",
			"Put a window of the event time into each PARTITION BY, for instance PARTITION BY "
			"pipeline.tumble(event_time, '1 hour').");
	cq_refuse(path->view_name,
			  "DISTINCT ON without a window",
			  "Keeping the first row per key for ever is not supported yet.",
			  "Put a window of the event time among the DISTINCT ON expressions.");
}

/* See the head of this file. */
static void
check_local(const CqPath *path, const CqPlan *plan, bool distinct_is_split)
{
	int level;

	for (level = path->split; level >= 0; level--)
	{
		Query *query = path->levels[level].query;
		ListCell *lc;

		if (query->groupingSets != NIL)
			check_grouping_sets(path, plan, level);
		else if (cq_level_aggregates(query))
			require_window(path, plan, level, query->groupClause, level == path->split, "GROUP BY");
		foreach (lc, query->windowClause)
			require_window(path,
						   plan,
						   level,
						   lfirst_node(WindowClause, lc)->partitionClause,
						   level == path->split && !cq_level_aggregates(query),
						   "PARTITION BY");
		if (query->distinctClause != NIL && !(level == path->split && distinct_is_split))
			require_window(path, plan, level, query->distinctClause, false, "DISTINCT");
	}
}

static void
check_grouping_sets(const CqPath *path, const CqPlan *plan, int level)
{
	Query *query = path->levels[level].query;
	ListCell *lc;

	foreach (lc, expand_grouping_sets(query->groupingSets, query->groupDistinct, -1))
	{
		List *clauses = NIL;
		ListCell *lr;

		foreach (lr, (List *) lfirst(lc))
			clauses = lappend(clauses, get_sortgroupref_clause(lfirst_int(lr), query->groupClause));
		require_window(path, plan, level, clauses, false, "grouping set");
	}
}

static void
require_window(const CqPath *path, const CqPlan *plan, int level, const List *clauses,
			   bool same_keys, const char *what)
{
	Query *query = path->levels[level].query;
	ListCell *lc;

	foreach (lc, clauses)
	{
		if (cq_window_identifies(path,
								 level,
								 get_sortgroupclause_expr(lfirst(lc), query->targetList),
								 &plan->window,
								 same_keys))
			return;
	}
	cq_refuse(
		path->view_name,
		psprintf("a %s without the window", what),
		"It would combine rows of different windows, but when a window closes only its own rows "
		"are at hand.",
		"Add the window to it, or do this step in ordinary SQL over the view.");
}
