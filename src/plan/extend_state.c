/*
 * extend_state.c
 *	  Can state that a view has be that of its query with more columns?
 *
 * Where the query groups, the keys must be the same, and each aggregate that was kept
 * one of those that are now; others may come to them.  Where rows are kept, so must be
 * all that the new query needs of them.
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"

#include "plan/extend.h"
#include "plan/window_key.h"

static void input_compare(const CqPlan *from, const CqPlan *to, const char *view_name,
						  CqConversion *conversion);
static bool same_keys(const CqPlan *a, const CqPlan *b);
static void aggregates_compare(const CqPlan *from, const CqPlan *to, CqConversion *conversion);
static Aggref *resolved(const CqPlan *plan, int number);
static Node *resolve_mutator(Node *node, void *stage);
static bool same_rows(const CqPlan *a, const CqPlan *b);

CqConversion *
cq_extend_state(const CqPlan *from, const CqPlan *to, const char *view_name)
{
	CqConversion *conversions = palloc0(sizeof(CqConversion) * to->ninputs);
	bool same = from->ninputs == to->ninputs && from->nstreams == to->nstreams;
	int i;

	for (i = 0; same && i < from->nstreams; i++)
		same = from->streams[i].relid == to->streams[i].relid;
	if (!same)
		cq_extend_refuse(view_name, "The new query reads its streams in other places.");
	for (i = 0; i < to->ninputs; i++)
		input_compare(from->inputs[i], to->inputs[i], view_name, &conversions[i]);
	return conversions;
}

static void
input_compare(const CqPlan *from, const CqPlan *to, const char *view_name, CqConversion *conversion)
{
	conversion->from = from;
	conversion->to = to;
	conversion->missed = -1;
	if (from->shape == CQ_SHAPE_AGGREGATE && to->shape == CQ_SHAPE_ROWS)
		cq_extend_refuse(view_name,
						 psprintf("Its events are not kept, and would have to be because of %s.",
								  to->rows_why));
	if (from->retracts && from->naggregates != to->naggregates)
		cq_extend_refuse(
			view_name,
			"Rows that it has taken in may be taken back, which a new aggregate has not "
			"got.");
	if (from->shape != to->shape || from->emit != to->emit || from->replaced != to->replaced ||
		from->shows_open != to->shows_open || from->retracts != to->retracts ||
		from->window.kind != to->window.kind ||
		(from->window.kind != CQ_WINDOW_NONE && !cq_window_equal(&from->window, &to->window)))
		cq_extend_refuse(view_name, "Its rows would be kept in another way.");
	if (from->sliced != to->sliced)
		cq_extend_refuse(view_name,
						 "Its windows are made of slices, and a new aggregate has no combine "
						 "function.");
	if (from->shape == CQ_SHAPE_APPEND)
		conversion->same = true;
	else if (from->shape == CQ_SHAPE_ROWS)
	{
		conversion->same = same_rows(from, to);
		if (!conversion->same)
			cq_extend_refuse(
				view_name,
				"It keeps the rows of its windows, and a new column needs something of "
				"them that is not kept.");
	}
	else
	{
		if (!same_keys(from, to))
			cq_extend_refuse(view_name, "The new query groups by something else.");
		aggregates_compare(from, to, conversion);
	}
}

static bool
same_keys(const CqPlan *a, const CqPlan *b)
{
	int i;

	if (a->nkeys != b->nkeys)
		return false;
	for (i = 0; i < a->nkeys; i++)
		if (a->keys[i].role != b->keys[i].role || a->keys[i].type != b->keys[i].type ||
			a->keys[i].collation != b->keys[i].collation ||
			a->keys[i].equality_operator != b->keys[i].equality_operator)
			return false;
	return true;
}

static void
aggregates_compare(const CqPlan *from, const CqPlan *to, CqConversion *conversion)
{
	int nfound = 0;
	int i;
	int j;

	conversion->origin = palloc(sizeof(int) * Max(to->naggregates, 1));
	for (i = 0; i < to->naggregates; i++)
	{
		Aggref *aggref = resolved(to, i);

		conversion->origin[i] = -1;
		for (j = 0; j < from->naggregates && conversion->origin[i] < 0; j++)
			if (equal(aggref, resolved(from, j)))
				conversion->origin[i] = j;
		if (conversion->origin[i] >= 0)
			nfound++;
		else if (cq_extend_mark_number((Node *) aggref) > 0)
			conversion->missed = i;
	}
	if (nfound != from->naggregates)
		elog(ERROR, "aggregates of the old query are missing in the new one");
	conversion->same = nfound == to->naggregates;
	if (!conversion->same && conversion->missed < 0 && to->window.kind != CQ_WINDOW_NONE)
		elog(ERROR, "nothing tells which windows have a new aggregate");
	for (i = 0; i < to->naggregates; i++)
		conversion->same = conversion->same && conversion->origin[i] == i;
}

/* As it was over the columns of the stream, so that it can be compared. */
static Aggref *
resolved(const CqPlan *plan, int number)
{
	return castNode(Aggref, resolve_mutator((Node *) plan->aggregates[number].aggref, plan->stage));
}

static Node *
resolve_mutator(Node *node, void *stage)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && castNode(Var, node)->varno == OUTER_VAR)
		return copyObject((Node *) list_nth_node(TargetEntry,
												 ((Query *) stage)->targetList,
												 castNode(Var, node)->varattno - 1)
							  ->expr);
	return expression_tree_mutator(node, resolve_mutator, stage);
}

/* What is kept of a row, and which rows are. */
static bool
same_rows(const CqPlan *a, const CqPlan *b)
{
	ListCell *lc;
	ListCell *other;

	if (list_length(a->stage->targetList) != list_length(b->stage->targetList) ||
		(a->top == NULL) != (b->top == NULL) || (a->top && a->top->limit != b->top->limit))
		return false;
	for_each_from(lc, a->stage->targetList, 1)
	{
		other = list_nth_cell(b->stage->targetList, foreach_current_index(lc));
		if (!equal(lfirst_node(TargetEntry, lc)->expr, lfirst_node(TargetEntry, other)->expr))
			return false;
	}
	return true;
}
