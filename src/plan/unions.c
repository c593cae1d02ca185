/*
 * unions.c
 *	  UNION ALL of streams, taken apart into its branches.
 *
 * What stands above a UNION ALL does not see which branch a row is from, so the
 * query is as many queries, one per branch, whose rows go into one operator:
 *
 *	  SELECT w, count(*) FROM (SELECT ... FROM a UNION ALL SELECT ... FROM b) u GROUP BY w
 *	  a stage query over a and another one over b fill the same groups
 *
 * All that an operator can do is then possible over several streams, and costs
 * what it costs over one.  A branch with a state of its own - groups, DISTINCT -
 * is another thing: see inputs.c.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"

#include "plan/inputs.h"
#include "plan/path.h"
#include "plan/unions.h"
#include "source/stream.h"

static Query **union_find(Query **tree);
static bool stands_alone(const Query *query);
static bool is_union_all(const Query *query);
static bool leaves_find(Node *node, List **leaves);
static bool is_plain_branch(const Query *query);
static Query *branch_with_types(const Query *query, int rti);
static Expr *column_coerce(Expr *expr, Oid type, Oid collation);

List *
cq_union_branches(const Query *tree, bool *sort_dropped)
{
	Query *top = copyObject(unconstify(Query *, tree));
	Query **place = union_find(&top);
	Query *whole;
	List *leaves = NIL;
	List *branches = NIL;
	ListCell *lc;

	check_stack_depth();
	if (place == NULL || !leaves_find((*place)->setOperations, &leaves))
		return NIL;
	whole = *place;
	*sort_dropped = *sort_dropped || whole->sortClause != NIL;
	foreach (lc, leaves)
	{
		Query *branch = branch_with_types(whole, lfirst_int(lc));
		List *further = NIL;

		if (branch == NULL || !is_plain_branch(branch))
			return NIL;
		*place = branch;
		if (list_length(cq_path_streams((Node *) top)) > 1)
		{
			/* a union within the union, say */
			further = cq_union_branches(top, sort_dropped);
			if (further == NIL)
				return NIL;
		}
		else
			further = list_make1(copyObject(top));
		branches = list_concat(branches, further);
	}
	return branches;
}

/* Where the union stands, if the way down to it is the only one to streams. */
static Query **
union_find(Query **tree)
{
	Query *query = *tree;
	RangeTblEntry *next = NULL;
	ListCell *lc;

	check_stack_depth();
	if (is_union_all(query))
		return tree;
	if (query->setOperations != NULL)
		return NULL;
	foreach (lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind != RTE_SUBQUERY || cq_path_streams((Node *) rte->subquery) == NIL)
			continue;
		if (next != NULL || rte->lateral)
			return NULL;
		next = rte;
	}
	/* the same streams elsewhere on this level: in a sub-query of an expression, or by name */
	if (next == NULL || list_length(cq_path_streams((Node *) query)) !=
							list_length(cq_path_streams((Node *) next->subquery)))
		return NULL;
	return union_find(&next->subquery);
}

/* A LIMIT is refused by whoever plans it as a set operation. */
static bool
is_union_all(const Query *query)
{
	return query->setOperations != NULL && query->limitCount == NULL &&
		   query->limitOffset == NULL && query->cteList == NIL;
}

static bool
leaves_find(Node *node, List **leaves)
{
	SetOperationStmt *operation = (SetOperationStmt *) node;

	check_stack_depth();
	if (IsA(node, RangeTblRef))
	{
		*leaves = lappend_int(*leaves, castNode(RangeTblRef, node)->rtindex);
		return true;
	}
	return operation->op == SETOP_UNION && operation->all && leaves_find(operation->larg, leaves) &&
		   leaves_find(operation->rarg, leaves);
}

/* Does a branch pass rows on one by one?  If it reads no stream, inputs.c says what is wrong. */
static bool
is_plain_branch(const Query *query)
{
	return cq_path_streams((Node *) query) != NIL && stands_alone(query);
}

/* At its top; what is below is looked at when it is planned. */
static bool
stands_alone(const Query *query)
{
	return !cq_level_aggregates(query) && query->distinctClause == NIL && !query->hasWindowFuncs &&
		   query->limitCount == NULL && query->limitOffset == NULL &&
		   !cq_inputs_refer_outside(unconstify(Query *, query));
}

/* A branch with the columns of the union, as the planner would convert them; NULL if it cannot. */
static Query *
branch_with_types(const Query *query, int rti)
{
	SetOperationStmt *operation = castNode(SetOperationStmt, query->setOperations);
	Query *branch = copyObject(rt_fetch(rti, query->rtable)->subquery);
	ListCell *name = list_head(query->targetList);
	ListCell *type = list_head(operation->colTypes);
	ListCell *collation = list_head(operation->colCollations);
	ListCell *lc;

	/* a union of its own: its branches are converted to what this one has */
	if (branch->setOperations != NULL)
	{
		castNode(SetOperationStmt, branch->setOperations)->colTypes =
			copyObject(operation->colTypes);
		castNode(SetOperationStmt, branch->setOperations)->colCollations =
			copyObject(operation->colCollations);
		return branch;
	}
	foreach (lc, branch->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (entry->resjunk)
			continue;
		entry->expr = column_coerce(entry->expr, lfirst_oid(type), lfirst_oid(collation));
		if (entry->expr == NULL)
			return NULL;
		entry->resname = pstrdup(lfirst_node(TargetEntry, name)->resname);
		name = lnext(query->targetList, name);
		type = lnext(operation->colTypes, type);
		collation = lnext(operation->colCollations, collation);
	}
	return branch;
}

/* NULL if there is no such conversion. */
static Expr *
column_coerce(Expr *expr, Oid type, Oid collation)
{
	Node *node = (Node *) expr;

	if (exprType(node) != type)
		node = coerce_to_target_type(NULL,
									 node,
									 exprType(node),
									 type,
									 -1,
									 COERCION_IMPLICIT,
									 COERCE_IMPLICIT_CAST,
									 -1);
	if (node != NULL && exprCollation(node) != collation)
		node = (Node *)
			makeRelabelType((Expr *) node, type, exprTypmod(node), collation, COERCE_IMPLICIT_CAST);
	return (Expr *) node;
}
