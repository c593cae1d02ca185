/*
 * normalise.c
 *	  Bring a view's query into the form that the rest of the planner reads.
 *
 * The query is split before it is rewritten: the parts are rewritten each on
 * its own when they are planned, so that views and row security of the joined
 * tables are applied then, and the definition of the user's view can be stored
 * in a rule.  What the split has to see through is expanded here instead:
 * ordinary views that read a stream, and WITH queries.
 *
 * Nothing here changes what the query means.  A WITH query that is referenced
 * twice is computed twice; volatile functions, which would tell the
 * difference, are refused later.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

#include "catalog/feeds.h"
#include "compat.h"
#include "plan/normalise.h"
#include "source/stream.h"

/* A WITH query being put in place of its references. */
typedef struct CqInline
{
	const CommonTableExpr *cte;
	int depth; /* query levels below the one that the WITH belongs to */
} CqInline;

/* Views being replaced by what they read. */
typedef struct CqExpansion
{
	List *feeds; /* of CqFeed *: continuous views that are read like streams */
	List *views; /* of CqExpandedView * */
} CqExpansion;

static bool reads_stream_walker(Node *node, List *feeds);
static bool view_reads_stream(Oid relid, List *feeds);
static CqFeed *feed_of(Oid relid, const List *feeds);
static bool expand_views_walker(Node *node, CqExpansion *expansion);
static void view_remember(Query *query, const RangeTblEntry *rte, CqExpansion *expansion);
static void feed_put(Query *query, RangeTblEntry *rte, const CqFeed *feed);
static void view_expand(RangeTblEntry *rte);
static bool inline_all_walker(Node *node, void *context);
static void ctes_inline(Query *query);
static bool inline_cte_walker(Node *node, CqInline *context);

Query *
cq_normalise(const Query *query, const List *feeds, List **views)
{
	Query *tree = copyObject((Query *) query);
	CqExpansion expansion = {unconstify(List *, feeds), NIL};

	expand_views_walker((Node *) tree, &expansion);
	inline_all_walker((Node *) tree, NULL);
	*views = expansion.views;
	return tree;
}

bool
cq_reads_stream(Node *tree)
{
	return reads_stream_walker(tree, NIL);
}

Query *
cq_view_definition(Relation view)
{
	Query *query = copyObject(get_view_query(view));

	if (CQ_COMPAT_RULE_ENTRIES > 0)
	{
		OffsetVarNodes((Node *) query, -CQ_COMPAT_RULE_ENTRIES, 0);
		query->rtable = list_copy_tail(query->rtable, CQ_COMPAT_RULE_ENTRIES);
	}
	return query;
}

static bool
reads_stream_walker(Node *node, List *feeds)
{
	ListCell *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, reads_stream_walker, feeds);

	check_stack_depth();
	foreach (lc, castNode(Query, node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind != RTE_RELATION)
			continue;
		if (rte->relkind == RELKIND_FOREIGN_TABLE && cq_is_stream(rte->relid))
			return true;
		if (rte->relkind == RELKIND_VIEW && view_reads_stream(rte->relid, feeds))
			return true;
	}
	return query_tree_walker((Query *) node, reads_stream_walker, feeds, 0);
}

/* Or one of these feeds, of views that stand for it. */
static bool
view_reads_stream(Oid relid, List *feeds)
{
	Relation view;
	bool result;

	if (feed_of(relid, feeds))
		return true;
	view = relation_open(relid, AccessShareLock);
	result = reads_stream_walker((Node *) cq_view_definition(view), feeds);
	relation_close(view, NoLock);
	return result;
}

static CqFeed *
feed_of(Oid relid, const List *feeds)
{
	ListCell *lc;

	foreach (lc, feeds)
		if (((CqFeed *) lfirst(lc))->source_view == relid)
			return lfirst(lc);
	return NULL;
}

static bool
expand_views_walker(Node *node, CqExpansion *expansion)
{
	ListCell *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, expand_views_walker, expansion);

	foreach (lc, castNode(Query, node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);
		CqFeed *feed;

		if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_VIEW ||
			!view_reads_stream(rte->relid, expansion->feeds))
			continue;
		view_remember((Query *) node, rte, expansion);
		feed = feed_of(rte->relid, expansion->feeds);
		if (feed)
			feed_put((Query *) node, rte, feed);
		else
			view_expand(rte);
	}
	/* goes into the sub-queries that have just been put there, too */
	return query_tree_walker((Query *) node, expand_views_walker, expansion, 0);
}

static void
view_remember(Query *query, const RangeTblEntry *rte, CqExpansion *expansion)
{
	CqExpandedView *expanded = palloc0(sizeof(CqExpandedView));

	expanded->rte = copyObject(unconstify(RangeTblEntry *, rte));
	expanded->permissions = cq_compat_rte_permissions(query, unconstify(RangeTblEntry *, rte));
	expansion->views = lappend(expansion->views, expanded);
}

/* The feed's columns begin with those of the view.  It belongs to whoever reads it. */
static void
feed_put(Query *query, RangeTblEntry *rte, const CqFeed *feed)
{
	int i;

	rte->relid = feed->relation;
	rte->relkind = RELKIND_FOREIGN_TABLE;
	rte->inh = false;
	for (i = 0; i < cq_feed_own_columns(feed); i++)
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup("?column?")));
	cq_compat_rte_clear_permissions(rte);
	cq_compat_rte_require_select(query, rte, list_length(rte->eref->colnames));
}

/* Make a sub-query of a reference to a view, as the rewriter would. */
static void
view_expand(RangeTblEntry *rte)
{
	Relation view = relation_open(rte->relid, AccessShareLock);
	int ncolumns = 0;
	ListCell *lc;

	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = cq_view_definition(view);
	rte->security_barrier = RelationIsSecurityView(view);
	rte->relid = InvalidOid;
	rte->relkind = 0;
	rte->rellockmode = 0;
	rte->inh = false;
	cq_compat_rte_clear_permissions(rte);

	/* the view may have got columns since the query was written */
	foreach (lc, rte->subquery->targetList)
		ncolumns += !lfirst_node(TargetEntry, lc)->resjunk;
	while (list_length(rte->eref->colnames) < ncolumns)
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup("?column?")));
	relation_close(view, NoLock);
}

/* Outer levels first, so that a WITH query comes with what it refers to further out. */
static bool
inline_all_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, inline_all_walker, context);
	ctes_inline((Query *) node);
	return query_tree_walker((Query *) node, inline_all_walker, context, 0);
}

/*
 * Put the WITH queries of one level where they are referenced.  They stand in
 * the order of their dependencies, so the later ones have been completed when
 * their turn comes.  Recursive ones and changes of data stay.
 */
static void
ctes_inline(Query *query)
{
	List *kept = NIL;
	ListCell *lc;

	foreach (lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);
		CqInline context = {cte, -1};

		if (cte->cterecursive || castNode(Query, cte->ctequery)->commandType != CMD_SELECT)
			kept = lappend(kept, cte);
		else
			inline_cte_walker((Node *) query, &context);
	}
	query->cteList = kept;
	if (kept == NIL)
		query->hasRecursive = false;
}

static bool
inline_cte_walker(Node *node, CqInline *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		/* entries after their contents: what is put in is not searched again */
		context->depth++;
		query_tree_walker((Query *) node, inline_cte_walker, context, QTW_EXAMINE_RTES_AFTER);
		context->depth--;
		return false;
	}
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind != RTE_CTE || (int) rte->ctelevelsup != context->depth ||
			strcmp(rte->ctename, context->cte->ctename) != 0)
			return false;
		rte->rtekind = RTE_SUBQUERY;
		rte->subquery = copyObject(castNode(Query, context->cte->ctequery));
		/* a WITH query is a level below its own; so is the sub-query, below this one */
		IncrementVarSublevelsUp((Node *) rte->subquery, context->depth, 1);
		rte->security_barrier = false;
		rte->ctename = NULL;
		rte->ctelevelsup = 0;
		rte->coltypes = NIL;
		rte->coltypmods = NIL;
		rte->colcollations = NIL;
		return false;
	}
	return expression_tree_walker(node, inline_cte_walker, context);
}
