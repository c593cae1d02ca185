/*
 * surgery.c
 *	  Taking a query apart at its split level: the tools.
 *
 * The lower part keeps the split level's range table and jointree untouched
 * and loses everything else; the upper part keeps everything else and gets a
 * new range table with one entry.  So no expression has to be moved between
 * range tables, and nothing can change its meaning with respect to NULLs.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "storage/lockdefs.h"
#include "utils/acl.h"

#include "compat.h"
#include "plan/refuse.h"
#include "plan/surgery.h"

/* Rows that a close query is expected to read: enough to prefer hashing. */
#define CLOSED_ROWS_ESTIMATE 10000

static void level_drop_sort(Query *query, bool *sort_dropped);
static RangeTblEntry *closed_rows_entry(TupleDesc desc);
static RangeTblEntry *result_table_entry(TupleDesc desc);
static bool is_referenced(const Query *level, Index ref);

Query *
cq_surgery_stage(const CqPath *path, int from, bool *sort_dropped)
{
	Query *stage = copyObject(path->levels[from].query);
	Expr *ordinal;
	int level;

	*sort_dropped = false;
	for (level = from + 1; level < path->nlevels; level++)
		level_drop_sort(cq_path_descend(path, stage, from, level), sort_dropped);

	stage->groupClause = NIL;
	stage->groupDistinct = false;
	stage->groupingSets = NIL;
	stage->havingQual = NULL;
	stage->hasAggs = false;
	stage->windowClause = NIL;
	stage->hasWindowFuncs = false;
	stage->distinctClause = NIL;
	stage->hasDistinctOn = false;
	stage->sortClause = NIL;
	stage->limitCount = NULL;
	stage->limitOffset = NULL;
	stage->constraintDeps = NIL;
	stage->canSetTag = true;

	ordinal = cq_path_thread_ordinal(path, stage, from);
	stage->targetList = list_make1(makeTargetEntry(ordinal, 1, pstrdup("pipeline_ordinal"), false));
	stage->hasTargetSRFs = false;
	return stage;
}

int
cq_surgery_add_output(const CqPath *path, Query *stage, Node *expr, const char *what)
{
	int n = list_length(stage->targetList);
	ListCell *lc;

	/* not the ordinal: who asks for the stream's ctid is refused by cq_path_columns() */
	for_each_from(lc, stage->targetList, 1)
	{
		if (equal(lfirst_node(TargetEntry, lc)->expr, expr))
			return foreach_current_index(lc);
	}
	cq_refuse_pseudo_type(path, expr, what);
	stage->targetList =
		lappend(stage->targetList,
				makeTargetEntry((Expr *) copyObject(expr),
								n + 1,
								cq_surgery_name(stage, expr, psprintf("column%d", n)),
								false));
	if (expression_returns_set(expr))
		stage->hasTargetSRFs = true;
	return n;
}

TupleDesc
cq_surgery_stage_desc(const Query *stage)
{
	TupleDesc desc = CreateTemplateTupleDesc(list_length(stage->targetList) - 1);
	int i;

	for (i = 1; i <= desc->natts; i++)
	{
		TargetEntry *tle = list_nth_node(TargetEntry, stage->targetList, i);
		Node *expr = (Node *) tle->expr;

		TupleDescInitEntry(desc, i, tle->resname, exprType(expr), exprTypmod(expr), 0);
		TupleDescInitEntryCollation(desc, i, exprCollation(expr));
	}
	return desc;
}

char *
cq_surgery_name(Query *query, Node *expr, const char *otherwise)
{
	Var *var = (Var *) expr;

	if (!IsA(expr, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return pstrdup(otherwise);
	return get_rte_attribute_name(rt_fetch(var->varno, query->rtable), var->varattno);
}

void
cq_surgery_read_closed(Query *level, TupleDesc desc, CqEmit emit, Node *quals)
{
	RangeTblRef *ref = makeNode(RangeTblRef);
	RangeTblEntry *rte;

	ref->rtindex = 1;
	cq_compat_query_clear_permissions(level);
	if (emit == CQ_EMIT_WINDOW_CLOSE)
	{
		rte = closed_rows_entry(desc);
		level->rtable = list_make1(rte);
	}
	else
	{
		rte = result_table_entry(desc);
		level->rtable = list_make1(rte);
		cq_compat_rte_require_select(level, rte, desc->natts);
	}
	level->jointree = makeFromExpr(list_make1(ref), quals);
	level->constraintDeps = NIL;
}

void
cq_surgery_tidy(Query *level)
{
	List *kept = NIL;
	ListCell *lc;

	foreach (lc, level->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->ressortgroupref != 0 && !is_referenced(level, tle->ressortgroupref))
			tle->ressortgroupref = 0;
		if (tle->resjunk && tle->ressortgroupref == 0)
			continue;
		kept = lappend(kept, tle);
		tle->resno = list_length(kept);
	}
	level->targetList = kept;
	level->hasTargetSRFs = expression_returns_set((Node *) kept);
}

/* An inner ORDER BY orders nothing that is looked at. */
static void
level_drop_sort(Query *query, bool *sort_dropped)
{
	if (query->sortClause == NIL)
		return;
	*sort_dropped = true;
	query->sortClause = NIL;
	cq_surgery_tidy(query);
}

static RangeTblEntry *
closed_rows_entry(TupleDesc desc)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	List *names = NIL;
	int i;

	rte->rtekind = RTE_NAMEDTUPLESTORE;
	rte->enrname = pstrdup(CQ_CLOSED_ROWS);
	rte->enrtuples = CLOSED_ROWS_ESTIMATE;
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		rte->coltypes = lappend_oid(rte->coltypes, att->atttypid);
		rte->coltypmods = lappend_int(rte->coltypmods, att->atttypmod);
		rte->colcollations = lappend_oid(rte->colcollations, att->attcollation);
		names = lappend(names, makeString(pstrdup(NameStr(att->attname))));
	}
	rte->eref = makeAlias(CQ_CLOSED_ROWS, names);
	rte->inFromCl = true;
	return rte;
}

/* Stands for the result table until that exists: see cq_plan_upper_query(). */
static RangeTblEntry *
result_table_entry(TupleDesc desc)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	List *names = NIL;
	int i;

	for (i = 1; i <= desc->natts; i++)
		names = lappend(names, makeString(psprintf("c%d", i)));
	names = lappend(names, makeString(pstrdup("_gid")));
	rte->rtekind = RTE_RELATION;
	rte->relkind = RELKIND_RELATION;
	rte->rellockmode = AccessShareLock;
	rte->eref = makeAlias(CQ_CLOSED_ROWS, names);
	rte->inh = true;
	rte->inFromCl = true;
	return rte;
}

static bool
is_referenced(const Query *level, Index ref)
{
	ListCell *lc;

	if (get_sortgroupref_clause_noerr(ref, level->groupClause) != NULL ||
		get_sortgroupref_clause_noerr(ref, level->sortClause) != NULL ||
		get_sortgroupref_clause_noerr(ref, level->distinctClause) != NULL)
		return true;
	foreach (lc, level->windowClause)
	{
		WindowClause *window = lfirst_node(WindowClause, lc);

		if (get_sortgroupref_clause_noerr(ref, window->partitionClause) != NULL ||
			get_sortgroupref_clause_noerr(ref, window->orderClause) != NULL)
			return true;
	}
	return false;
}
