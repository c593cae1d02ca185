/*
 * query_compare.c
 *	  Is a query another one with columns added behind?
 *
 * Both are brought into a form in which they are equal if they are: the further
 * columns are left out, and what only they need - windows of window functions, outputs
 * to sort by; so is what says nothing about rows: names, rights, and the columns that
 * joins show, which are more if there are more below.
 *
 * References to grouping and sorting expressions are numbered anew where the ORDER BY of
 * the whole query is left out, which says nothing.  Otherwise they need not be: they are
 * counted in the order ORDER BY, GROUP BY, DISTINCT, windows, and only the last get
 * more by further columns.
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"

#include "compat.h"
#include "plan/extend.h"
#include "plan/query_compare.h"

/* Window functions are being numbered anew. */
typedef struct Renumbering
{
	int *numbers; /* by what they were; 0 = not used */
	bool collect;
} Renumbering;

static Query *comparable(const Query *query, int ncolumns, bool is_top);
static bool sort_drop(Query *query);
static void refs_renumber(Query *query);
static void clauses_renumber(List *clauses, int *numbers, int *next);
static bool queries_walker(Node *node, void *context);
static void blank_entries(Query *query);
static void blank_with(Query *query);
static void outputs_cut(Query *query, int ncolumns);
static bool windows_walker(Node *node, Renumbering *renumbering);
static void windows_cut(Query *query);
static bool is_used(const Query *query, Index ref);
static int compare_refs(const ListCell *a, const ListCell *b);
static void union_cut(Node *node, int ncolumns);
static const char *outputs_difference(const Query *old, const Query *wanted);

int
cq_query_columns(const Query *query)
{
	ListCell *lc;
	int n = 0;

	foreach (lc, query->targetList)
		n += !lfirst_node(TargetEntry, lc)->resjunk;
	return n;
}

const char *
cq_query_difference(const Query *old, const Query *wanted, bool is_top)
{
	int ncolumns = cq_query_columns(old);
	Query *a;
	Query *b;

	if (cq_query_columns(wanted) < ncolumns)
		return "The new query leaves columns out: those that there are must come first, as they "
			   "are.";
	a = comparable(old, ncolumns, is_top);
	b = comparable(wanted, ncolumns, is_top);
	if (!equal(a->rtable, b->rtable) || !equal(a->cteList, b->cteList) ||
		!equal(a->jointree->fromlist, b->jointree->fromlist))
		return "The new query reads other relations, or joins them otherwise.  A column of another "
			   "table can be had by a sub-query in the place of an expression.";
	if (!equal(a->jointree->quals, b->jointree->quals))
		return "The new query has another WHERE condition.";
	if (!equal(a->groupClause, b->groupClause) || !equal(a->groupingSets, b->groupingSets) ||
		a->groupDistinct != b->groupDistinct)
		return "The new query groups by something else.";
	if (!equal(a->distinctClause, b->distinctClause) || !equal(a->setOperations, b->setOperations))
		return "Another column changes which rows are equal, and so which there are.";
	if (outputs_difference(a, b))
		return outputs_difference(a, b);
	if (!equal(a->havingQual, b->havingQual))
		return "The new query has another HAVING condition.";
	if (!equal(a, b))
		return "The new query sorts, limits or divides rows otherwise.";
	return NULL;
}

static const char *
outputs_difference(const Query *old, const Query *wanted)
{
	ListCell *lc;
	ListCell *other;

	forboth (lc, old->targetList, other, wanted->targetList)
	{
		if (equal(lfirst(lc), lfirst(other)))
			continue;
		if (lfirst_node(TargetEntry, lc)->resjunk || lfirst_node(TargetEntry, other)->resjunk)
			return "The new query groups or sorts by something else.";
		return psprintf("Column %d of the new query is another expression than before, or of "
						"another type.",
						foreach_current_index(lc) + 1);
	}
	if (list_length(old->targetList) != list_length(wanted->targetList))
		return "The new query groups or sorts by something else.";
	return NULL;
}

static Query *
comparable(const Query *query, int ncolumns, bool is_top)
{
	Query *copy = copyObject(unconstify(Query *, query));
	bool renumber = is_top && sort_drop(copy);
	ListCell *lc;

	cq_compat_flatten_groups(copy);
	foreach (lc, copy->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		tle->expr = (Expr *) cq_extend_unmarked((Node *) tle->expr, NULL);
	}
	outputs_cut(copy, ncolumns);
	windows_cut(copy);
	if (renumber)
		refs_renumber(copy);
	outputs_cut(copy, ncolumns);
	copy->targetList = (List *) cq_compat_flatten_joins(copy, (Node *) copy->targetList);
	copy->havingQual = cq_compat_flatten_joins(copy, copy->havingQual);
	copy->jointree = (FromExpr *) cq_compat_flatten_joins(copy, (Node *) copy->jointree);
	foreach (lc, copy->targetList)
	{
		lfirst_node(TargetEntry, lc)->resname = NULL;
		lfirst_node(TargetEntry, lc)->resno = foreach_current_index(lc) + 1;
	}
	union_cut(copy->setOperations, ncolumns);
	blank_with(copy);
	blank_entries(copy);
	(void) queries_walker((Node *) copy, NULL);
	copy->hasAggs = copy->hasWindowFuncs = copy->hasTargetSRFs = copy->hasSubLinks = false;
	copy->constraintDeps = NIL;
	return copy;
}

/* The order in which rows of a view are computed does not matter, unless it chooses some. */
static bool
sort_drop(Query *query)
{
	if (query->limitCount || query->limitOffset || query->hasDistinctOn ||
		query->groupingSets != NIL)
		return false;
	query->sortClause = NIL;
	return true;
}

static void
refs_renumber(Query *query)
{
	int *numbers;
	int most = 0;
	int next = 0;
	ListCell *lc;

	foreach (lc, query->targetList)
		most = Max(most, (int) lfirst_node(TargetEntry, lc)->ressortgroupref);
	numbers = palloc0(sizeof(int) * (most + 1));
	clauses_renumber(query->groupClause, numbers, &next);
	clauses_renumber(query->distinctClause, numbers, &next);
	foreach (lc, query->windowClause)
	{
		clauses_renumber(lfirst_node(WindowClause, lc)->partitionClause, numbers, &next);
		clauses_renumber(lfirst_node(WindowClause, lc)->orderClause, numbers, &next);
	}
	foreach (lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		tle->ressortgroupref = (Index) numbers[tle->ressortgroupref];
	}
}

static void
clauses_renumber(List *clauses, int *numbers, int *next)
{
	ListCell *lc;

	foreach (lc, clauses)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);

		if (numbers[clause->tleSortGroupRef] == 0)
			numbers[clause->tleSortGroupRef] = ++*next;
		clause->tleSortGroupRef = (Index) numbers[clause->tleSortGroupRef];
	}
}

/* What storing a query does to it, and to its sub-queries in expressions. */
static bool
queries_walker(Node *node, void *context)
{
	Query *query = (Query *) node;
	ListCell *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, queries_walker, context);
	cq_compat_query_clear_permissions(query);
	foreach (lc, query->rtable)
		cq_compat_rte_clear_permissions(lfirst_node(RangeTblEntry, lc));
	query->querySource = QSRC_ORIGINAL;
	query->canSetTag = true;
	query->stmt_location = query->stmt_len = 0;
	return query_tree_walker(query, queries_walker, context, 0);
}

/* What an entry of the range table is, and nothing about its columns. */
static void
blank_entries(Query *query)
{
	ListCell *lc;

	cq_compat_query_clear_permissions(query);
	foreach (lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		cq_compat_rte_clear_permissions(rte);
		rte->alias = rte->eref = NULL;
		rte->subquery = NULL;
		rte->joinaliasvars = rte->joinleftcols = rte->joinrightcols = NIL;
		rte->join_using_alias = NULL;
		if (rte->rtekind == RTE_CTE)
			rte->coltypes = rte->coltypmods = rte->colcollations = NIL;
	}
}

static void
blank_with(Query *query)
{
	ListCell *lc;

	foreach (lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		cte->ctequery = NULL;
		cte->aliascolnames = cte->ctecolnames = NIL;
		cte->ctecoltypes = cte->ctecoltypmods = cte->ctecolcollations = NIL;
		cte->cterefcount = 0;
	}
}

/*
 * The first columns, then what else is grouped or sorted by, which may have been columns,
 * in order.
 */
static void
outputs_cut(Query *query, int ncolumns)
{
	List *kept = NIL;
	List *others = NIL;
	int n = 0;
	ListCell *lc;

	foreach (lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->ressortgroupref != 0 && !is_used(query, tle->ressortgroupref))
			tle->ressortgroupref = 0;
		if (!tle->resjunk && n++ < ncolumns)
			kept = lappend(kept, tle);
		else if (tle->ressortgroupref != 0)
		{
			tle->resjunk = true;
			tle->resorigtbl = InvalidOid;
			tle->resorigcol = 0;
			others = lappend(others, tle);
		}
	}
	list_sort(others, compare_refs);
	query->targetList = list_concat(kept, others);
}

static int
compare_refs(const ListCell *a, const ListCell *b)
{
	Index x = lfirst_node(TargetEntry, a)->ressortgroupref;
	Index y = lfirst_node(TargetEntry, b)->ressortgroupref;

	return (x > y) - (x < y);
}

static bool
is_used(const Query *query, Index ref)
{
	ListCell *lc;

	if (get_sortgroupref_clause_noerr(ref, query->groupClause) ||
		get_sortgroupref_clause_noerr(ref, query->distinctClause) ||
		get_sortgroupref_clause_noerr(ref, query->sortClause))
		return true;
	foreach (lc, query->windowClause)
	{
		const WindowClause *window = lfirst_node(WindowClause, lc);

		if (get_sortgroupref_clause_noerr(ref, window->partitionClause) ||
			get_sortgroupref_clause_noerr(ref, window->orderClause))
			return true;
	}
	return false;
}

/* Those windows that the outputs use, numbered in order. */
static void
windows_cut(Query *query)
{
	Renumbering renumbering = {.collect = true};
	List *kept = NIL;
	Index most = 0;
	ListCell *lc;

	foreach (lc, query->windowClause)
		most = Max(most, lfirst_node(WindowClause, lc)->winref);
	renumbering.numbers = palloc0(sizeof(int) * (most + 1));
	windows_walker((Node *) query->targetList, &renumbering);
	foreach (lc, query->windowClause)
	{
		WindowClause *window = lfirst_node(WindowClause, lc);

		if (renumbering.numbers[window->winref] == 0)
			continue;
		kept = lappend(kept, window);
		renumbering.numbers[window->winref] = list_length(kept);
		window->winref = list_length(kept);
		window->name = window->refname = NULL;
		window->copiedOrder = false;
	}
	query->windowClause = kept;
	renumbering.collect = false;
	windows_walker((Node *) query->targetList, &renumbering);
}

/* Window functions of sub-queries belong to those. */
static bool
windows_walker(Node *node, Renumbering *renumbering)
{
	if (node == NULL || IsA(node, Query))
		return false;
	if (IsA(node, WindowFunc))
	{
		WindowFunc *function = (WindowFunc *) node;

		if (renumbering->collect)
			renumbering->numbers[function->winref] = 1;
		else
			function->winref = (Index) renumbering->numbers[function->winref];
	}
	return expression_tree_walker(node, windows_walker, renumbering);
}

static void
union_cut(Node *node, int ncolumns)
{
	SetOperationStmt *operation = (SetOperationStmt *) node;

	if (node == NULL || !IsA(node, SetOperationStmt))
		return;
	operation->colTypes = list_truncate(operation->colTypes, ncolumns);
	operation->colTypmods = list_truncate(operation->colTypmods, ncolumns);
	operation->colCollations = list_truncate(operation->colCollations, ncolumns);
	union_cut(operation->larg, ncolumns);
	union_cut(operation->rarg, ncolumns);
}
