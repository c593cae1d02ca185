/*
 * compat.c
 *	  Differences of PostgreSQL's versions that take more than a few lines: see
 *	  compat.h.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"

#include "compat.h"

#if CQ_COMPAT_GROUP_ENTRIES

typedef struct Grouping
{
	RangeTblEntry *entry;
	int rtindex;
	int depth;
} Grouping;

static bool groups_walker(Node *node, void *context);
static void groups_restore(Query *query);
static Node *groups_mutator(Node *node, Grouping *grouping);
static Node *grouped_column(const Node *node, const Grouping *grouping);

void
cq_compat_restore_groups(Query *query)
{
	(void) groups_walker((Node *) query, NULL);
}

static bool
groups_walker(Node *node, void *context)
{
	Query *query = (Query *) node;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, groups_walker, context);
	if (query->groupingSets != NIL && query->groupClause != NIL && !query->hasGroupRTE)
		groups_restore(query);
	return query_tree_walker(query, groups_walker, context, 0);
}

static void
groups_restore(Query *query)
{
	RangeTblEntry *entry = makeNode(RangeTblEntry);
	Grouping grouping = {entry, list_length(query->rtable) + 1, 0};
	ListCell *lc;

	entry->rtekind = RTE_GROUP;
	entry->eref = makeAlias("*GROUP*", NIL);
	foreach (lc, query->groupClause)
	{
		TargetEntry *tle =
			get_sortgroupclause_tle(lfirst_node(SortGroupClause, lc), query->targetList);

		entry->groupexprs = lappend(entry->groupexprs, copyObject(tle->expr));
		entry->eref->colnames =
			lappend(entry->eref->colnames,
					makeString(pstrdup(tle->resname ? tle->resname : "?column?")));
	}
	query->targetList = (List *) groups_mutator((Node *) query->targetList, &grouping);
	query->havingQual = groups_mutator(query->havingQual, &grouping);
	query->rtable = lappend(query->rtable, entry);
	query->hasGroupRTE = true;
}

/* Arguments of the level's own aggregates are from before the grouping. */
static Node *
groups_mutator(Node *node, Grouping *grouping)
{
	Node *column;

	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref) && (int) castNode(Aggref, node)->agglevelsup == grouping->depth)
	{
		Aggref *aggref = copyObject(castNode(Aggref, node));

		aggref->aggdirectargs = (List *) groups_mutator((Node *) aggref->aggdirectargs, grouping);
		return (Node *) aggref;
	}
	if (IsA(node, Aggref) && (int) castNode(Aggref, node)->agglevelsup > grouping->depth)
		return node;
	if (IsA(node, GroupingFunc) &&
		(int) castNode(GroupingFunc, node)->agglevelsup >= grouping->depth)
		return node;
	column = grouped_column(node, grouping);
	if (column)
		return column;
	if (IsA(node, Query))
	{
		Query *result;

		grouping->depth++;
		result = query_tree_mutator((Query *) node, groups_mutator, grouping, 0);
		grouping->depth--;
		return (Node *) result;
	}
	return expression_tree_mutator(node, groups_mutator, grouping);
}

/* Further down only plain columns can be told. */
static Node *
grouped_column(const Node *node, const Grouping *grouping)
{
	ListCell *lc;

	foreach (lc, grouping->entry->groupexprs)
	{
		Node *expr = lfirst(lc);
		Var *var;

		if (grouping->depth > 0)
		{
			if (!IsA(expr, Var) || !IsA(node, Var))
				continue;
			var = copyObject((Var *) expr);
			var->varlevelsup += grouping->depth;
			expr = (Node *) var;
		}
		if (!equal(node, expr))
			continue;
		var = makeVar(grouping->rtindex,
					  foreach_current_index(lc) + 1,
					  exprType(expr),
					  exprTypmod(expr),
					  exprCollation(expr),
					  grouping->depth);
		var->varnullingrels = bms_make_singleton(grouping->rtindex);
		return (Node *) var;
	}
	return NULL;
}

#else

void
cq_compat_restore_groups(Query *query)
{
}

#endif
