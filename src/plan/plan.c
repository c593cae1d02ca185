/*
 * plan.c
 *	  How a continuous view's query is carried out: the steps of planning.
 *
 *	  query -> normalised -> path to the stream -> shape -> stage, close query
 *
 * Everything is decided on the query as it was analysed, not on its text, so
 * renaming what it reads changes nothing.  The same query gives the same plan,
 * at CREATE and in each worker: operator state and result table rely on it.
 * What depends on statistics is decided later, when the stage is prepared.
 */
#include "postgres.h"

#include "access/attmap.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planmain.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteDefine.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "plan/changing.h"
#include "plan/classify.h"
#include "plan/derived_time.h"
#include "plan/hop.h"
#include "plan/inputs.h"
#include "plan/normalise.h"
#include "plan/part.h"
#include "plan/path.h"
#include "plan/plan.h"
#include "plan/prepared.h"
#include "plan/proctime.h"
#include "plan/refuse.h"
#include "plan/split.h"
#include "plan/surgery.h"
#include "plan/unions.h"
#include "plan/window_key.h"
#include "sink/output.h"

static void check_whole(Query *tree, const char *view_name, List *views, CqPlan *plan);
static void plan_one(Query *tree, int emit, const char *corrected_by, const char *view_name,
					 CqPlan *plan);
static void plan_union(List *branches, bool sort_dropped, int emit, const char *corrected_by,
					   const char *view_name, CqPlan *plan);
static CqPlan *branch_like(const CqPlan *plan);
static void check_branch(CqPlan *plan, const CqPlan *branch, const char *view_name);
static bool same_stage_rows(const Query *a, const Query *b);
static void streams_take(CqPlan *plan, const char *view_name);
static void stream_take(CqPlan *plan, const CqPlan *stage, const char *view_name);
static void stage_is_own(CqPlan *plan);
static void plan_several(Query *tree, int emit, const char *corrected_by, const char *view_name,
						 CqPlan *plan);
static bool fill(const CqPath *path, CqPlan *plan, List *clauses);
static bool split(const CqPath *path, CqPlan *plan, List *clauses);
static void check_clock(const CqPath *path, const CqPlan *plan);
static void close_drop_sort(Query *close);
static bool other_relation_walker(Node *node, const Oid *stream);
static void views_to_check(CqPlan *plan, List *views);
static void stage_check_views(Query *stage, List *views);
static void notices_build(const CqPath *path, CqPlan *plan, bool sort_dropped);
static void notice_sort(const char *view_name, CqPlan *plan, bool sort_dropped);
static bool placeholder_walker(Node *node, Oid *result_table);
static void placeholder_arrange(Query *level, int rtindex);

CqPlan *
cq_plan_query(const Query *query, int emit, const char *corrected_by, bool divided,
			  const List *feeds, const char *view_name)
{
	CqPlan *plan = palloc0(sizeof(CqPlan));
	List *views;
	Query *tree = cq_normalise(query, feeds, &views);
	List *branches = NIL;
	bool sort_dropped = false;

	cq_refuse_unsupported(tree, view_name);
	check_whole(tree, view_name, views, plan);
	plan->result_desc = ExecCleanTypeFromTL(tree->targetList);
	plan->divided = divided;
	cq_path_refuse_hidden(tree, view_name);
	if (cq_inputs_are_several(tree))
		branches = cq_union_branches(tree, &sort_dropped);
	if (branches != NIL)
		plan_union(branches, sort_dropped, emit, corrected_by, view_name, plan);
	else if (cq_inputs_are_several(tree))
		plan_several(tree, emit, corrected_by, view_name, plan);
	else
		plan_one(tree, emit, corrected_by, view_name, plan);
	views_to_check(plan, views);
	streams_take(plan, view_name);
	return plan;
}

int
cq_plan_stream_number(const CqPlan *plan, Oid stream)
{
	int i;

	for (i = 0; i < plan->nstreams; i++)
		if (plan->streams[i].relid == stream)
			return i;
	elog(ERROR, "stream %u is not one of the plan's", stream);
	return -1;
}

/* In the order in which the stages name them. */
static void
streams_take(CqPlan *plan, const char *view_name)
{
	int i;
	int j;

	plan->streams = palloc0(sizeof(CqPlanStream) * CQ_MAX_STREAMS);
	for (i = 0; i < plan->ninputs; i++)
		for (j = 0; j < plan->inputs[i]->nstages; j++)
			stream_take(plan, plan->inputs[i]->stages[j], view_name);
	if (plan->nstreams == 1)
		return;
	if (plan->divided)
		cq_refuse(view_name,
				  "several workers where it reads several streams",
				  "The workers of a view divide the partitions of one stream.",
				  "Leave the option \"workers\" out.");
}

static void
stream_take(CqPlan *plan, const CqPlan *stage, const char *view_name)
{
	CqPlanStream *stream = plan->streams;

	while (stream < plan->streams + plan->nstreams && stream->relid != stage->stream)
		stream++;
	if (stream == plan->streams + CQ_MAX_STREAMS)
		cq_refuse(view_name,
				  psprintf("more than %d streams", CQ_MAX_STREAMS),
				  NULL,
				  "Make several continuous views, and one that reads them.");
	if (stream == plan->streams + plan->nstreams)
		plan->nstreams++;
	stream->relid = stage->stream;
	stream->columns = bms_add_members(stream->columns, stage->columns);
}

/* One operator, whose rows come from several stages: see unions.c. */
static void
plan_union(List *branches, bool sort_dropped, int emit, const char *corrected_by,
		   const char *view_name, CqPlan *plan)
{
	StringInfoData names;
	ListCell *lc;

	initStringInfo(&names);
	plan->nstages = list_length(branches);
	plan->stages = palloc(sizeof(CqPlan *) * plan->nstages);
	foreach (lc, branches)
	{
		int i = foreach_current_index(lc);
		CqPlan *branch = i == 0 ? plan : branch_like(plan);

		plan_one(lfirst_node(Query, lc), emit, corrected_by, view_name, branch);
		plan->stages[i] = branch;
		check_branch(plan, branch, view_name);
		if (branch->time.column != plan->time.column || branch->time.role != plan->time.role)
			plan->time = (CqDerivedTime){0};
		if (branch->row_time.column != plan->row_time.column ||
			branch->row_time.role != plan->row_time.role)
			plan->row_time = (CqDerivedTime){0};
		appendStringInfo(&names,
						 "%s\"%s\"",
						 i == 0 ? "" : ", ",
						 cq_stream_load(branch->stream)->name);
	}
	plan->notices =
		lappend(plan->notices,
				psprintf("branches of the UNION ALL are read as one: streams %s", names.data));
	if (list_length(plan->notices) == 2)
		notice_sort(view_name, plan, sort_dropped);
}

/* What was settled for the whole query. */
static CqPlan *
branch_like(const CqPlan *plan)
{
	CqPlan *branch = palloc0(sizeof(CqPlan));

	branch->relations = plan->relations;
	branch->inval_items = plan->inval_items;
	branch->result_desc = plan->result_desc;
	branch->divided = plan->divided;
	return branch;
}

/* What a branch reads may decide how its rows are kept. */
static void
check_branch(CqPlan *plan, const CqPlan *branch, const char *view_name)
{
	bool same = branch->shape == plan->shape && branch->emit == plan->emit &&
				branch->nkeys == plan->nkeys && branch->naggregates == plan->naggregates &&
				branch->nsets == plan->nsets && branch->retracts == plan->retracts &&
				branch->sliced == plan->sliced && same_stage_rows(branch->stage, plan->stage);
	int i;

	if (plan->window.kind != CQ_WINDOW_NONE && branch->window.kind != CQ_WINDOW_NONE &&
		!cq_window_equal(&plan->window, &branch->window))
		cq_refuse_two_windows(view_name, &plan->window, &branch->window);
	for (i = 0; same && i < plan->nkeys; i++)
		same = branch->keys[i].role == plan->keys[i].role &&
			   branch->keys[i].stage_column == plan->keys[i].stage_column &&
			   branch->keys[i].equality_operator == plan->keys[i].equality_operator;
	for (i = 0; same && i < plan->naggregates; i++)
		same = equal(branch->aggregates[i].aggref, plan->aggregates[i].aggref) &&
			   branch->aggregates[i].filter_column == plan->aggregates[i].filter_column;
	if (!same)
		cq_refuse(view_name,
				  "a UNION ALL whose branches would be kept in different ways",
				  psprintf("Those that read \"%s\" and \"%s\" are.",
						   get_rel_name(plan->stream),
						   get_rel_name(branch->stream)),
				  "Give each branch columns of the same types, and a window of its stream's event "
				  "time in the same place.");
	plan->disjoint = plan->disjoint && branch->disjoint;
}

/* Besides the ordinal. */
static bool
same_stage_rows(const Query *a, const Query *b)
{
	ListCell *lc;
	ListCell *other;

	if (list_length(a->targetList) != list_length(b->targetList))
		return false;
	forboth (lc, a->targetList, other, b->targetList)
		if (exprType((Node *) lfirst_node(TargetEntry, lc)->expr) !=
			exprType((Node *) lfirst_node(TargetEntry, other)->expr))
			return false;
	return true;
}

static void
plan_one(Query *tree, int emit, const char *corrected_by, const char *view_name, CqPlan *plan)
{
	CqPath *path = cq_path_find(tree, view_name);
	List *clauses;
	bool sort_dropped;

	cq_classify(path, emit, corrected_by, plan, &clauses);
	cq_derive_time(path, plan);
	sort_dropped = fill(path, plan, clauses);
	if (plan->upper != NULL)
		cq_refuse_lent_rights(plan->upper, view_name);
	plan->closed_name = pstrdup(CQ_CLOSED_ROWS);
	plan->ninputs = 1;
	plan->inputs = palloc(sizeof(CqPlan *));
	plan->inputs[0] = plan;
	stage_is_own(plan);
	notices_build(path, plan, sort_dropped);
}

static void
plan_several(Query *tree, int emit, const char *corrected_by, const char *view_name, CqPlan *plan)
{
	bool sort_dropped = tree->sortClause != NIL && !tree->hasDistinctOn;
	int i;

	cq_inputs_plan(tree, emit, corrected_by, plan->divided, view_name, plan);
	cq_proctime_check_several(plan, view_name);
	if (sort_dropped && plan->close->setOperations == NULL)
		close_drop_sort(plan->close);
	for (i = 0; i < plan->ninputs; i++)
	{
		plan->inputs[i]->relations = plan->relations;
		plan->inputs[i]->inval_items = plan->inval_items;
	}
	plan->notices =
		list_make1(psprintf("continuous view \"%s\" has %s over %s: rows appear when a window is "
							"complete",
							view_name,
							cq_window_describe(&plan->window),
							plan->ninputs == 1 ? "one input, used several times"
											   : psprintf("%d inputs", plan->ninputs)));
	notice_sort(view_name, plan, sort_dropped);
}

CqPlan *
cq_part_plan(const CqPath *path, const CqWindow *rows_of, bool divided)
{
	CqPlan *plan = palloc0(sizeof(CqPlan));
	List *clauses = NIL;

	plan->divided = divided;
	if (rows_of != NULL)
		cq_classify_rows(path, rows_of, plan);
	else
		cq_classify(path, CQ_EMIT_DEFAULT, NULL, plan, &clauses);
	if (plan->emit != CQ_EMIT_WINDOW_CLOSE)
		cq_refuse(path->view_name,
				  psprintf("stream \"%s\" without a window", path->definition->name),
				  "It is combined with what is read of streams elsewhere in the query; that is "
				  "done when a window is complete.",
				  "Group by a window of the event time in each sub-query, or make one continuous "
				  "view per sub-query and combine the views in ordinary SQL.");
	(void) fill(path, plan, clauses);
	stage_is_own(plan);
	return plan;
}

/* The rows of an operator come from one stage, unless there is a union. */
static void
stage_is_own(CqPlan *plan)
{
	if (plan->nstages > 0)
		return;
	plan->nstages = 1;
	plan->stages = palloc(sizeof(CqPlan *));
	plan->stages[0] = plan;
}

/* What follows from shape, window and emission; was there an ORDER BY that is dropped? */
static bool
fill(const CqPath *path, CqPlan *plan, List *clauses)
{
	bool sort_dropped;

	plan->stream = path->stream;
	sort_dropped = split(path, plan, clauses);
	if (plan->window.kind != CQ_WINDOW_NONE)
		cq_hop_strip(path, plan, plan->stage, path->split);
	if (cq_hop_is_kind(plan->window.kind))
		cq_hop_check_rest(path, plan);
	else
		cq_hop_refuse_ungrouped(path);
	cq_proctime_check(path, plan);
	check_clock(path, plan);
	plan->columns = cq_path_columns(path, plan->stage, Max(path->split, 0));
	plan->stage_has_joins = other_relation_walker((Node *) plan->stage, &plan->stream);
	if (plan->retracts)
		cq_changing_check_stage(path, plan);
	return sort_dropped;
}

Query *
cq_plan_stored_query(Oid query_view)
{
	Relation view = relation_open(query_view, AccessShareLock);
	Query *query = cq_view_definition(view);

	relation_close(view, NoLock);
	return query;
}

Query *
cq_plan_upper_query(const CqPlan *plan, Oid result_table)
{
	Query *upper = copyObject(plan->upper);

	Assert(plan->emit == CQ_EMIT_CHANGES && !plan->replaced);
	placeholder_walker((Node *) upper, &result_table);
	/* whose rights count is settled by who owns the view it becomes */
	setRuleCheckAsUser((Node *) upper, InvalidOid);
	return upper;
}

/* What concerns the whole query, after rewriting: views of tables and row security too. */
static void
check_whole(Query *tree, const char *view_name, List *views, CqPlan *plan)
{
	Query *rewritten = cq_rewrite(copyObject(tree));
	bool has_row_security;
	ListCell *lc;

	cq_refuse_volatile(rewritten, view_name);
	extract_query_dependencies((Node *) rewritten,
							   &plan->relations,
							   &plan->inval_items,
							   &has_row_security);
	foreach (lc, views)
		plan->relations = lappend_oid(plan->relations, ((CqExpandedView *) lfirst(lc))->rte->relid);
}

static bool
split(const CqPath *path, CqPlan *plan, List *clauses)
{
	bool sort_dropped = false;

	switch (plan->shape)
	{
		case CQ_SHAPE_APPEND:
			sort_dropped = cq_split_append(path, plan);
			break;
		case CQ_SHAPE_AGGREGATE:
			sort_dropped = cq_split_aggregate(path, plan, clauses);
			break;
		case CQ_SHAPE_ROWS:
			sort_dropped = cq_split_rows(path, plan, clauses);
			break;
	}
	if (plan->close != NULL && plan->close->sortClause != NIL && !plan->close->hasDistinctOn)
	{
		close_drop_sort(plan->close);
		sort_dropped = true;
	}
	return sort_dropped;
}

/* What is evaluated on read may look at the clock; what is evaluated once may not. */
static void
check_clock(const CqPath *path, const CqPlan *plan)
{
	int last = path->nlevels - 1;

	if (plan->emit == CQ_EMIT_CHANGES && !plan->replaced)
	{
		cq_refuse_clock_in(path, path->split, plan->stage);
		cq_refuse_clock(path, path->split + 1, last);
	}
	else
		cq_refuse_clock(path, 0, last);
}

static void
close_drop_sort(Query *close)
{
	close->sortClause = NIL;
	cq_surgery_tidy(close);
}

/* Does the tree read any relation besides the stream? */
static bool
other_relation_walker(Node *node, const Oid *stream)
{
	ListCell *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, other_relation_walker, (void *) stream);
	foreach (lc, castNode(Query, node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION && rte->relid != *stream)
			return true;
	}
	return query_tree_walker((Query *) node, other_relation_walker, (void *) stream, 0);
}

/* Have the stages' executors check the right to read the views that were expanded. */
static void
views_to_check(CqPlan *plan, List *views)
{
	int i;
	int j;

	for (i = 0; i < plan->ninputs; i++)
		for (j = 0; j < plan->inputs[i]->nstages; j++)
			stage_check_views(plan->inputs[i]->stages[j]->stage, views);
}

static void
stage_check_views(Query *stage, List *views)
{
	ListCell *lc;

	foreach (lc, views)
	{
		CqExpandedView *view = lfirst(lc);

		cq_compat_query_append_rte(stage, copyObject(view->rte), view->permissions);
	}
}

static void
notices_build(const CqPath *path, CqPlan *plan, bool sort_dropped)
{
	const CqStream *stream = path->definition;
	char *notice;

	if (plan->shape == CQ_SHAPE_APPEND)
		notice =
			psprintf("continuous view \"%s\" has no groups and no windows: it gets its rows as "
					 "events arrive, and they never change",
					 path->view_name);
	else if (plan->window.kind == CQ_WINDOW_NONE)
		notice = psprintf("continuous view \"%s\" has no window: its groups are kept for ever, "
						  "incrementally, and change as events arrive",
						  path->view_name);
	else if (plan->window.kind == CQ_WINDOW_COUNT)
		notice = psprintf("continuous view \"%s\" has %s, in the order in which they come: rows "
						  "appear %s, and a group is kept for ever",
						  path->view_name,
						  cq_window_describe(&plan->window),
						  cq_plan_when_rows_appear(plan));
	else if (plan->window.processing)
		notice = psprintf("continuous view \"%s\" has %s, the time at which events are taken in: "
						  "rows appear %s, by the clock, and would be others if events came again",
						  path->view_name,
						  cq_window_describe(&plan->window),
						  cq_plan_when_rows_appear(plan));
	else
		notice =
			psprintf("continuous view \"%s\" has %s over %s \"%s\": rows appear %s, %s",
					 path->view_name,
					 cq_window_describe(&plan->window),
					 psprintf(stream->feed ? "%s of continuous view" : "column \"%s\" of stream",
							  cq_event_time_name(stream)),
					 stream->name,
					 cq_plan_when_rows_appear(plan),
					 plan->shape == CQ_SHAPE_AGGREGATE
						 ? "and aggregates are kept incrementally until then"
						 : psprintf("and events are kept until then, because of %s",
									plan->rows_why));
	plan->notices = list_make1(notice);
	notice_sort(path->view_name, plan, sort_dropped);
}

static void
notice_sort(const char *view_name, CqPlan *plan, bool sort_dropped)
{
	if (sort_dropped)
		plan->notices =
			lappend(plan->notices,
					psprintf("ORDER BY is ignored in continuous view \"%s\": sort when reading it",
							 view_name));
}

const char *
cq_plan_when_rows_appear(const CqPlan *plan)
{
	const char *corrected_by = plan->corrected_by;
	bool applied = corrected_by && strcmp(corrected_by, "keep_closed") == 0;

	if (plan->window.kind == CQ_WINDOW_COUNT)
		return plan->shows_open ? "as events arrive, and change until their window is complete"
								: "with the last event of their window";
	if (plan->shows_open && applied)
		return "as events arrive, and change until their window closes, and when late rows are "
			   "applied";
	if (plan->shows_open)
		return corrected_by ? "as events arrive, and change for a while after their window closed"
							: "as events arrive, and change until their window closes";
	if (applied)
		return "when their window closes, and change when late rows are applied";
	return corrected_by ? "when their window closes, and change when late events are admitted"
						: "when their window closes";
}

/* Point the placeholder in an upper query at the result table. */
static bool
placeholder_walker(Node *node, Oid *result_table)
{
	ListCell *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, placeholder_walker, result_table);
	foreach (lc, castNode(Query, node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind != RTE_RELATION || OidIsValid(rte->relid))
			continue;
		rte->relid = *result_table;
		rte->eref->aliasname = get_rel_name(*result_table);
		cq_compat_rte_set_relid(castNode(Query, node), rte);
		placeholder_arrange(castNode(Query, node), foreach_current_index(lc) + 1);
	}
	return query_tree_walker((Query *) node, placeholder_walker, result_table, 0);
}

/* The table's columns stand in another order if some were added later. */
static void
placeholder_arrange(Query *level, int rtindex)
{
	Relation table = relation_open(rt_fetch(rtindex, level->rtable)->relid, AccessShareLock);
	TupleDesc desc = RelationGetDescr(table);
	AttrNumber *places = cq_result_places(desc);
	List *names = NIL;
	bool whole_row;
	AttrMap *map;
	Node *mapped;
	int i;

	relation_close(table, NoLock);
	if (places == NULL)
		return;
	map = make_attrmap(desc->natts);
	for (i = 0; i < desc->natts; i++)
	{
		map->attnums[i] = places[i] + 1;
		names = lappend(names, makeString(pstrdup(NameStr(TupleDescAttr(desc, i)->attname))));
	}
	mapped = map_variable_attnos((Node *) level, rtindex, 0, map, InvalidOid, &whole_row);
	*level = *castNode(Query, mapped);
	rt_fetch(rtindex, level->rtable)->eref->colnames = names;
	free_attrmap(map);
}
