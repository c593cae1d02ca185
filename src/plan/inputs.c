/*
 * inputs.c
 *	  Queries that read streams in several places.
 *
 * The tree is taken apart at its roots: the largest sub-queries in FROM that
 * read a stream once and nothing of what stands around them.  Each is planned
 * as if it were a view of its own - stage, operator, close query - and its
 * close query takes its place in the tree, reading closed rows under a name of
 * its own.  What remains is the view's close query, run when a window is
 * complete for all inputs.  That it gives what the query says, although it only
 * sees the rows of the windows that close just then, is checked in local.c.
 *
 *	  SELECT ... FROM (SELECT ... FROM persons GROUP BY id, w) p
 *	             JOIN (SELECT ... FROM auctions GROUP BY seller, w) a ON ... p.w = a.w
 *	  two roots, two inputs
 *
 * A root without state of its own has its rows kept: of which window they are is
 * what the tree above compares with the other inputs' windows.  A stream that
 * stands in a join itself is made a root by wrapping it.
 *
 * Roots that are the same share one input, as those of a WITH query that is
 * used twice do.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"

#include "compat.h"
#include "plan/classify.h"
#include "plan/derived_time.h"
#include "plan/hop.h"
#include "plan/inputs.h"
#include "plan/normalise.h"
#include "plan/part.h"
#include "plan/refuse.h"
#include "plan/surgery.h"
#include "plan/window_key.h"
#include "source/stream.h"

/* Sets of attribute numbers begin with those of system columns; this is the whole row. */
#define CQ_ATTRIBUTE_OFFSET (-FirstLowInvalidHeapAttributeNumber)

/* Looking for the windows that an input's rows are compared by. */
typedef struct CqWindowSearch
{
	const CqRoot *root;
	CqWindow *window;
} CqWindowSearch;

static void refuse_options(int emit, const char *corrected_by, const char *view_name);
static bool roots_walker(Node *node, CqInputs *inputs);
static void roots_of_level(CqInputs *inputs, Query *query);
static void stream_wrap(Query *query, RangeTblEntry *rte);
static bool refers_outside_walker(Node *node, int *depth);
static void root_add(CqInputs *inputs, Query *query, int rti);
static CqPath *path_above(const CqInputs *inputs, Query *query, int rti, const CqPath *path);
static void inputs_plan(CqInputs *inputs);
static void outputs_prune(const CqInputs *inputs, int input);
static void window_unite(CqInputs *inputs, const CqWindow *window);
static CqWindow window_of_rows(const CqInputs *inputs, int input);
static void refuse_no_window(const CqInputs *inputs, int input) CQ_NORETURN;
static bool window_walker(Node *node, CqWindowSearch *search);
static Query *close_build(CqInputs *inputs);
static bool rename_walker(Node *node, const char *name);
static void derive_time(const CqInputs *inputs, CqPlan *plan);

bool
cq_inputs_are_several(Query *tree)
{
	return list_length(cq_path_streams((Node *) tree)) > 1;
}

void
cq_inputs_plan(Query *tree, int emit, const char *corrected_by, bool divided, const char *view_name,
			   CqPlan *plan)
{
	CqInputs inputs = {.view_name = view_name, .divided = divided, .tree = tree};

	refuse_options(emit, corrected_by, view_name);
	roots_walker((Node *) tree, &inputs);
	inputs_plan(&inputs);
	cq_local_check(&inputs);
	plan->shape = inputs.plans[0]->shape;
	plan->emit = CQ_EMIT_WINDOW_CLOSE;
	plan->window = inputs.window;
	plan->stream = inputs.plans[0]->stream;
	derive_time(&inputs, plan);
	plan->close = close_build(&inputs);
	plan->ninputs = inputs.ninputs;
	plan->inputs = inputs.plans;
}

static void
refuse_options(int emit, const char *corrected_by, const char *view_name)
{
	const char *what = "emit = 'changes' where streams are read in several places";

	if (corrected_by)
		what = psprintf("%s above 0 where streams are read in several places", corrected_by);
	if (corrected_by || emit == CQ_EMIT_CHANGES)
		cq_refuse(view_name,
				  what,
				  "The rows of such a view are known when a window is complete for all inputs, and "
				  "its state is gone then.",
				  "Leave the option out: rows appear when their window closes.");
}

CqRoot *
cq_inputs_root(const CqInputs *inputs, const Query *query, int rti)
{
	ListCell *lc;

	foreach (lc, inputs->roots)
	{
		CqRoot *root = lfirst(lc);

		if (root->query == query && root->rti == rti)
			return root;
	}
	return NULL;
}

/* ------------------------------------------------------------------------
 * Roots
 * ------------------------------------------------------------------------
 */

/* Outer levels first; what is below a root is none of ours. */
static bool
roots_walker(Node *node, CqInputs *inputs)
{
	Query *query = (Query *) node;
	int rti = 0;
	ListCell *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, roots_walker, inputs);
	check_stack_depth();
	if (cq_path_streams(node) == NIL)
		return false;
	if (query->cteList != NIL)
		cq_refuse(inputs->view_name,
				  "a recursive WITH query over a stream",
				  NULL,
				  "Read the stream in the main query.");
	cq_compat_flatten_groups(query);
	roots_of_level(inputs, query);
	/* expressions, then the sub-queries in FROM that are no roots */
	query_tree_walker(query, roots_walker, inputs, QTW_IGNORE_RANGE_TABLE);
	foreach (lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (cq_inputs_root(inputs, query, ++rti) == NULL && rte->rtekind == RTE_SUBQUERY)
			roots_walker((Node *) rte->subquery, inputs);
	}
	return false;
}

static void
roots_of_level(CqInputs *inputs, Query *query)
{
	int rti = 0;
	ListCell *lc;

	foreach (lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		rti++;
		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE &&
			cq_is_stream(rte->relid))
			stream_wrap(query, rte);
		if (rte->rtekind != RTE_SUBQUERY ||
			list_length(cq_path_streams((Node *) rte->subquery)) != 1 ||
			cq_inputs_refer_outside(rte->subquery))
			continue;
		rte->lateral = false;
		root_add(inputs, query, rti);
	}
}

/* Make a sub-query of a reference to a stream: all of its columns, and nothing else. */
static void
stream_wrap(Query *query, RangeTblEntry *rte)
{
	const CqStream *stream = cq_stream_load(rte->relid);
	RangeTblEntry *inner = copyObject(rte);
	RangeTblRef *ref = makeNode(RangeTblRef);
	Query *wrapped = makeNode(Query);
	int i;

	wrapped->commandType = CMD_SELECT;
	wrapped->canSetTag = true;
	cq_compat_query_append_rte(wrapped, inner, cq_compat_rte_permissions(query, rte));
	ref->rtindex = 1;
	wrapped->jointree = makeFromExpr(list_make1(ref), NULL);
	for (i = 0; i < stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &stream->columns[i];
		Expr *value;

		if (column->dropped)
			value = (Expr *) makeNullConst(INT4OID, -1, InvalidOid);
		else
			value = (Expr *) makeVar(1, i + 1, column->type, column->typmod, column->collation, 0);
		wrapped->targetList = lappend(wrapped->targetList,
									  makeTargetEntry(value,
													  i + 1,
													  pstrdup(column->dropped ? "" : column->name),
													  false));
	}
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = wrapped;
	rte->relid = InvalidOid;
	rte->relkind = 0;
	rte->rellockmode = 0;
	rte->inh = false;
	cq_compat_rte_clear_permissions(rte);
}

bool
cq_inputs_refer_outside(Query *query)
{
	int depth = 0;

	return query_tree_walker(query, refers_outside_walker, &depth, 0);
}

static bool
refers_outside_walker(Node *node, int *depth)
{
	bool result;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return (int) castNode(Var, node)->varlevelsup > *depth;
	if (IsA(node, Aggref) && (int) castNode(Aggref, node)->agglevelsup > *depth)
		return true;
	if (!IsA(node, Query))
		return expression_tree_walker(node, refers_outside_walker, depth);
	(*depth)++;
	result = query_tree_walker((Query *) node, refers_outside_walker, depth, 0);
	(*depth)--;
	return result;
}

static void
root_add(CqInputs *inputs, Query *query, int rti)
{
	Query *own = rt_fetch(rti, query->rtable)->subquery;
	CqRoot *root = palloc0(sizeof(CqRoot));
	int input;

	root->query = query;
	root->rti = rti;
	for (input = 0; input < inputs->ninputs; input++)
		if (equal(inputs->paths[input]->top, own))
			break;
	root->input = input;
	if (input == inputs->ninputs)
	{
		Size size = sizeof(CqPath *) * (input + 1);
		CqPath *path = cq_path_find(own, inputs->view_name);

		inputs->paths = inputs->paths ? repalloc(inputs->paths, size) : palloc(size);
		inputs->paths[inputs->ninputs++] = path;
	}
	root->above = path_above(inputs, query, rti, inputs->paths[input]);
	inputs->roots = lappend(inputs->roots, root);
}

/* The path of an input, begun one level further up. */
static CqPath *
path_above(const CqInputs *inputs, Query *query, int rti, const CqPath *path)
{
	CqPath *above = palloc(sizeof(CqPath));

	*above = *path;
	above->top = query;
	above->nlevels = path->nlevels + 1;
	above->levels = palloc(sizeof(CqLevel) * above->nlevels);
	above->levels[0].query = query;
	above->levels[0].rti = rti;
	memcpy(&above->levels[1], path->levels, sizeof(CqLevel) * path->nlevels);
	return above;
}

/* ------------------------------------------------------------------------
 * Inputs
 * ------------------------------------------------------------------------
 */

/* Those with a window of their own first: it is the one that the others' rows are kept for. */
static void
inputs_plan(CqInputs *inputs)
{
	int i;

	inputs->plans = palloc0(sizeof(CqPlan *) * inputs->ninputs);
	for (i = 0; i < inputs->ninputs; i++)
	{
		if (inputs->paths[i]->split < 0)
			continue;
		inputs->plans[i] = cq_part_plan(inputs->paths[i], NULL, inputs->divided);
		window_unite(inputs, &inputs->plans[i]->window);
	}
	for (i = 0; i < inputs->ninputs; i++)
	{
		CqWindow window;

		if (inputs->plans[i] != NULL)
			continue;
		outputs_prune(inputs, i);
		window = window_of_rows(inputs, i);
		window_unite(inputs, &window);
		inputs->paths[i]->split = 0;
		inputs->plans[i] = cq_part_plan(inputs->paths[i], &window, inputs->divided);
	}
	for (i = 0; i < inputs->ninputs; i++)
		inputs->plans[i]->closed_name =
			i == 0 ? pstrdup(CQ_CLOSED_ROWS) : psprintf(CQ_CLOSED_ROWS "_%d", i + 1);
}

/*
 * Rows are kept with all columns that the sub-query gives: those that nobody
 * uses must not count.  What stands in a set operation is used as a whole.
 */
static void
outputs_prune(const CqInputs *inputs, int input)
{
	Query *query = inputs->paths[input]->top;
	Bitmapset *all = NULL;
	Bitmapset *used = NULL;
	ListCell *lc;

	foreach (lc, inputs->roots)
	{
		const CqRoot *root = lfirst(lc);

		if (root->input != input)
			continue;
		if (root->query->setOperations != NULL)
			return;
		all = bms_add_range(NULL, 0, list_length(root->query->targetList) + CQ_ATTRIBUTE_OFFSET);
		used = bms_add_members(used, cq_path_used(root->query, root->rti, all, false));
	}
	if (bms_is_member(CQ_ATTRIBUTE_OFFSET, used))
		cq_refuse(inputs->view_name,
				  "a whole-row reference to a stream or to a sub-query that reads one",
				  NULL,
				  "Name the columns instead.");
	if (!bms_is_empty(used) && bms_next_member(used, -1) < CQ_ATTRIBUTE_OFFSET)
		cq_refuse(inputs->view_name,
				  "a system column of the stream",
				  "Events have no place in a table.",
				  "Columns with the option \"metadata\" give an event's partition and offset.");
	foreach (lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Node *expr = (Node *) tle->expr;

		if (!bms_is_member(tle->resno + CQ_ATTRIBUTE_OFFSET, used) && !expression_returns_set(expr))
			tle->expr =
				(Expr *) makeNullConst(exprType(expr), exprTypmod(expr), exprCollation(expr));
	}
}

static void
window_unite(CqInputs *inputs, const CqWindow *window)
{
	if (window->kind == CQ_WINDOW_COUNT)
		cq_refuse(
			inputs->view_name,
			"count windows where streams are read in several places",
			"Each group's window is complete at another time, and only then is its row at hand.",
			"Make one continuous view for each and combine the views in ordinary SQL.");
	if (inputs->window.kind == CQ_WINDOW_NONE)
		inputs->window = *window;
	else if (!cq_window_equal(&inputs->window, window))
		cq_refuse_two_windows(inputs->view_name, &inputs->window, window);
}

/* There is none: say where to write one, in the query's own terms. */
static void
refuse_no_window(const CqInputs *inputs, int input)
{
	const CqStream *stream = inputs->paths[input]->definition;
	bool in_set = false;
	const char *hint;
	ListCell *lc;

	foreach (lc, inputs->roots)
	{
		const CqRoot *root = lfirst(lc);

		in_set |= root->input == input && root->query->setOperations != NULL;
	}
	if (stream->feed && stream->feed->time.role != CQ_TIME_NONE)
		hint =
			psprintf("Compare windows of the event times of both views' rows, here pipeline.tumble"
					 "(%s, '1 minute'), with = in the join, or select them in each branch of a set "
					 "operation; otherwise combine the views in ordinary SQL.",
					 cq_event_time_name(stream));
	else if (in_set)
		hint =
			"Select windows of the event times in each branch, for instance pipeline.tumble(at, '1 "
			"minute'), or use UNION ALL without LIMIT; otherwise make one continuous view for each "
			"and combine the views in ordinary SQL.";
	else
		hint =
			"Compare windows of both event times, for instance pipeline.tumble(a.at, '1 minute') = "
			"pipeline.tumble(b.at, '1 minute'), or select them in each branch of a set operation; "
			"otherwise make one continuous view for each and combine the views in ordinary SQL.";
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("continuous view \"%s\" combines %s without a window of %s \"%s\"",
				   inputs->view_name,
				   stream->feed ? "views" : "streams",
				   stream->feed ? "continuous view" : "stream",
				   stream->name),
			errdetail("Its events would have to be kept for ever."),
			errhint("%s", hint));
}

/* Which window do the rows of an input belong to, by what it gives or is compared with? */
static CqWindow
window_of_rows(const CqInputs *inputs, int input)
{
	const CqPath *path = inputs->paths[input];
	CqWindow window = {0};
	CqKeyRole role;
	ListCell *lc;

	foreach (lc, path->top->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (cq_window_recognise(path, 0, (Node *) tle->expr, false, &window, &role))
			return window;
	}
	foreach (lc, inputs->roots)
	{
		const CqRoot *root = lfirst(lc);
		CqWindowSearch search = {root, &window};

		if (root->input == input &&
			query_tree_walker(root->query, window_walker, &search, QTW_IGNORE_RANGE_TABLE))
			return window;
	}
	refuse_no_window(inputs, input);
}

static bool
window_walker(Node *node, CqWindowSearch *search)
{
	CqKeyRole role;

	if (node == NULL || IsA(node, Query))
		return false;
	if (IsA(node, FuncExpr) &&
		cq_window_recognise(search->root->above, 0, node, false, search->window, &role))
		return true;
	return expression_tree_walker(node, window_walker, search);
}

/* The tree with each root reading closed rows.  Of its own ORDER BY nothing is seen. */
static Query *
close_build(CqInputs *inputs)
{
	Query *tree = inputs->tree;
	ListCell *lc;

	foreach (lc, inputs->roots)
	{
		CqRoot *root = lfirst(lc);
		CqPlan *plan = inputs->plans[root->input];
		Query *close = copyObject(plan->close);

		rename_walker((Node *) close, plan->closed_name);
		rt_fetch(root->rti, root->query->rtable)->subquery = close;
	}
	cq_hop_refuse_above(tree, inputs->view_name);
	cq_refuse_any_clock(tree, inputs->view_name);
	return tree;
}

static bool
rename_walker(Node *node, const char *name)
{
	ListCell *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, rename_walker, (void *) name);
	foreach (lc, castNode(Query, node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			rte->enrname = pstrdup(name);
	}
	return query_tree_walker((Query *) node, rename_walker, (void *) name, 0);
}

static void
derive_time(const CqInputs *inputs, CqPlan *plan)
{
	ListCell *lc;

	foreach (lc, inputs->tree->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		CqKeyRole role;

		if (!entry->resjunk && cq_local_is_window(inputs, entry->resno, &role))
			cq_derive_time_of_window(plan, entry->resno, role);
	}
}
