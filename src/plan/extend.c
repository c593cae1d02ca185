/*
 * extend.c
 *	  A continuous view's query gets more columns.
 *
 * The new query must be the old one, level by level, with further columns behind
 * (query_compare.c).  So which rows there are, and in which windows and groups
 * they are counted, stays as it was, and what is kept of them can be kept on.
 *
 * An aggregate that is new would be over a part of the events in groups that there are
 * already.  Where there are windows such a value is never shown.  In their groups
 * the query itself tells so: a column with new aggregates is stored as
 *
 *		CASE WHEN count(*) FILTER (WHERE pipeline.before_alter(2)) = 0 THEN <column> END
 *
 * where before_alter() is false for every event.  So over all events this is the
 * column; but the state of that count begins with one in groups that are there when
 * the view is altered (operator/convert.c).  It goes the way of all counts: is added up
 * when windows are made of slices, sessions of several, parts of those of several
 * workers; is saved, dumped and replayed.  Each alteration has a number of its own.
 *
 * Without windows groups are for ever, and a new aggregate counts from the alteration
 * on.  Columns of rows that are given out are null in any case.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_func.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "plan/extend.h"
#include "plan/normalise.h"
#include "plan/query_compare.h"
#include "plan/split.h"
#include "source/stream.h"

typedef struct Extension
{
	const char *view_name;
	bool marks;
	int number; /* of the alteration */
	Oid function;
} Extension;

/* A level of the query, and those around it. */
typedef struct Level
{
	const Query *query;
	const struct Level *around;
	List *with_marks; /* of Bitmapset *: of its WITH queries, those columns that may be missing */
} Level;

/* An aggregate, and since which alteration it is there; 0 = it always was. */
typedef struct Known
{
	Aggref *aggref;
	int number;
} Known;

static bool last_number_walker(Node *node, int *last);
static Bitmapset *level_extend(Extension *extension, const Query *old, Query *wanted,
							   const Level *around);
static Bitmapset **parts_extend(Extension *extension, const Query *old, Query *wanted,
								Level *level);
static Bitmapset *union_marks(const Query *query, Bitmapset **marks);
static bool is_split(const Level *level);
static bool is_stateful(const Level *level);
static bool is_stateful_below(const Level *level);
static bool reads_stream(const Level *level);
static bool level_of(const Level *level, const RangeTblEntry *rte, Level *below);
static const CommonTableExpr *with_query(const Level *level, const RangeTblEntry *rte,
										 const Level **owner);
static Bitmapset *with_marks(const Level *level, const RangeTblEntry *rte);
static Bitmapset *split_mark(Extension *extension, const Query *old, Query *wanted);
static List *known_aggregates(const Query *old);
static int mark_needed(const Extension *extension, List *known, Node *expr);
static void check_marked(const Extension *extension, const TargetEntry *tle);
static void refuse_under_window(const Extension *extension) CQ_NORETURN;
static void check_windows(const Extension *extension, const Query *query, Bitmapset *marks);
static Bitmapset *above_mark(const Extension *extension, const Query *old, Query *wanted,
							 Bitmapset **marks);
static bool reads_marked(const Query *query, Node *expr, Bitmapset **marks);
static Expr *marked(const Extension *extension, Expr *expr, int number);
static Aggref *missed_count(Oid function, int number);
static Oid mark_function(void);

void
cq_extend_refuse(const char *view_name, const char *detail)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("continuous view \"%s\" cannot be altered to this query", view_name),
			errdetail_internal("%s", detail),
			errhint("Create another view with the query: it begins with what its stream holds, and "
					"CALL pipeline.replay() rebuilds it from there at any time."));
}

Query *
cq_extend_query(const Query *old, const Query *wanted, bool marks, const char *view_name)
{
	Extension extension = {.view_name = view_name, .marks = marks, .function = mark_function()};
	Query *result = copyObject(unconstify(Query *, wanted));

	(void) last_number_walker((Node *) old, &extension.number);
	extension.number++;
	(void) level_extend(&extension, old, result, NULL);
	return result;
}

static bool
last_number_walker(Node *node, int *last)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, last_number_walker, last, 0);
	if (IsA(node, Aggref))
		*last = Max(*last, cq_extend_mark_number(node));
	return expression_tree_walker(node, last_number_walker, last);
}

/* Returns the columns that are null where events may be missing. */
static Bitmapset *
level_extend(Extension *extension, const Query *old, Query *wanted, const Level *around)
{
	Level level = {.query = wanted, .around = around};
	const char *difference = cq_query_difference(old, wanted, around == NULL);
	Bitmapset **marks;
	ListCell *lc;
	int n = 0;

	check_stack_depth();
	if (difference)
		cq_extend_refuse(extension->view_name, difference);
	foreach (lc, wanted->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		/* somebody may give back what is stored */
		tle->expr = (Expr *) cq_extend_unmarked((Node *) tle->expr, NULL);
	}
	foreach (lc, wanted->targetList)
		if (!lfirst_node(TargetEntry, lc)->resjunk && ++n > cq_query_columns(old) &&
			expression_returns_set((Node *) lfirst_node(TargetEntry, lc)->expr))
			cq_extend_refuse(extension->view_name,
							 "A function that returns a set changes which rows there are.");
	marks = parts_extend(extension, old, wanted, &level);
	if (!extension->marks)
		return NULL;
	if (wanted->setOperations)
		return union_marks(wanted, marks);
	if (is_split(&level))
		return split_mark(extension, old, wanted);
	return above_mark(extension, old, wanted, marks);
}

/* Those of the sub-queries, by number in the range table. */
static Bitmapset **
parts_extend(Extension *extension, const Query *old, Query *wanted, Level *level)
{
	Bitmapset **marks = palloc0(sizeof(Bitmapset *) * (list_length(wanted->rtable) + 1));
	ListCell *lc;
	ListCell *other;

	forboth (lc, old->cteList, other, wanted->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, other);
		Node *query = lfirst_node(CommonTableExpr, lc)->ctequery;

		level->with_marks = lappend(level->with_marks,
									level_extend(extension,
												 castNode(Query, query),
												 castNode(Query, cte->ctequery),
												 level));
	}
	forboth (lc, old->rtable, other, wanted->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, other);
		int number = foreach_current_index(lc) + 1;

		if (rte->rtekind == RTE_SUBQUERY)
			marks[number] = level_extend(extension,
										 lfirst_node(RangeTblEntry, lc)->subquery,
										 rte->subquery,
										 level);
		else if (rte->rtekind == RTE_CTE)
			marks[number] = with_marks(level, rte);
	}
	return marks;
}

static Bitmapset *
union_marks(const Query *query, Bitmapset **marks)
{
	Bitmapset *all = NULL;
	int i;

	for (i = 1; i <= list_length(query->rtable); i++)
		all = bms_add_members(all, marks[i]);
	return all;
}

/* ------------------------------------------------------------------------
 * Where groups are kept
 * ------------------------------------------------------------------------
 */

/* The lowest level that puts rows of streams together. */
static bool
is_split(const Level *level)
{
	return is_stateful(level) && !is_stateful_below(level);
}

static bool
is_stateful(const Level *level)
{
	const Query *query = level->query;

	return query->hasAggs || query->groupClause != NIL || query->groupingSets != NIL ||
		   query->distinctClause != NIL || query->hasWindowFuncs || is_stateful_below(level);
}

static bool
is_stateful_below(const Level *level)
{
	ListCell *lc;

	foreach (lc, level->query->rtable)
	{
		Level below;

		if (level_of(level, lfirst_node(RangeTblEntry, lc), &below) && reads_stream(&below) &&
			is_stateful(&below))
			return true;
	}
	return false;
}

static bool
reads_stream(const Level *level)
{
	ListCell *lc;

	foreach (lc, level->query->rtable)
	{
		const RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);
		Level below;

		if (level_of(level, rte, &below)
				? reads_stream(&below)
				: rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE &&
					  cq_is_stream(rte->relid))
			return true;
	}
	return false;
}

/* The query that an entry of the range table stands for; false if it is none. */
static bool
level_of(const Level *level, const RangeTblEntry *rte, Level *below)
{
	Relation view;

	check_stack_depth();
	*below = (Level){.around = level};
	if (rte->rtekind == RTE_SUBQUERY)
		below->query = rte->subquery;
	else if (rte->rtekind == RTE_CTE)
		below->query = castNode(Query, with_query(level, rte, &below->around)->ctequery);
	else if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW)
	{
		view = relation_open(rte->relid, AccessShareLock);
		below->query = cq_view_definition(view);
		below->around = NULL;
		relation_close(view, NoLock);
	}
	return below->query != NULL;
}

static const CommonTableExpr *
with_query(const Level *level, const RangeTblEntry *rte, const Level **owner)
{
	ListCell *lc;
	Index i;

	for (i = 0; i < rte->ctelevelsup; i++)
		level = level->around;
	*owner = level;
	foreach (lc, level->query->cteList)
		if (strcmp(lfirst_node(CommonTableExpr, lc)->ctename, rte->ctename) == 0)
			return lfirst_node(CommonTableExpr, lc);
	elog(ERROR, "WITH query \"%s\" is missing", rte->ctename);
	return NULL;
}

static Bitmapset *
with_marks(const Level *level, const RangeTblEntry *rte)
{
	const CommonTableExpr *cte = with_query(level, rte, &level);
	ListCell *lc;
	ListCell *marks;

	forboth (lc, level->query->cteList, marks, level->with_marks)
		if (lfirst(lc) == cte)
			return lfirst(marks);
	return NULL;
}

/*
 * Columns that were marked stay so; others are if they have an aggregate that is new,
 * or one that is marked elsewhere.  Whoever was there at one alteration was there at
 * those before, or came after them: the last one's mark is enough.
 */
static Bitmapset *
split_mark(Extension *extension, const Query *old, Query *wanted)
{
	List *known = known_aggregates(old);
	int ncolumns = cq_query_columns(old);
	Bitmapset *result = NULL;
	int n = 0;
	ListCell *lc;

	foreach (lc, wanted->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		int number = 0;

		if (!tle->resjunk && ++n <= ncolumns)
			(void) cq_extend_unmarked((Node *) list_nth_node(TargetEntry, old->targetList, n - 1)
										  ->expr,
									  &number);
		else
		{
			number = mark_needed(extension, known, (Node *) tle->expr);
			if (number > 0)
				check_marked(extension, tle);
		}
		if (number == 0)
			continue;
		tle->expr = marked(extension, tle->expr, number);
		result = bms_add_member(result, tle->resno);
	}
	check_windows(extension, wanted, result);
	return result;
}

static List *
known_aggregates(const Query *old)
{
	List *all = cq_split_collect_aggregates(old);
	List *known = NIL;
	ListCell *lc;
	ListCell *tl;

	foreach (lc, all)
	{
		Known *one = palloc0(sizeof(Known));
		Query having = {.havingQual = old->havingQual};

		one->aggref = lfirst_node(Aggref, lc);
		one->number = list_member(cq_split_collect_aggregates(&having), one->aggref) ? 0 : -1;
		foreach (tl, old->targetList)
		{
			Query output = {.targetList = list_make1(lfirst(tl))};
			int number;

			if (!list_member(cq_split_collect_aggregates(&output), one->aggref))
				continue;
			(void) cq_extend_unmarked((Node *) lfirst_node(TargetEntry, tl)->expr, &number);
			one->number = one->number < 0 ? number : Min(one->number, number);
		}
		known = lappend(known, one);
	}
	return known;
}

static int
mark_needed(const Extension *extension, List *known, Node *expr)
{
	TargetEntry *tle = makeTargetEntry((Expr *) expr, 1, NULL, false);
	Query output = {.targetList = list_make1(tle)};
	int number = 0;
	ListCell *lc;
	ListCell *lk;

	foreach (lc, cq_split_collect_aggregates(&output))
	{
		int since = extension->number;

		foreach (lk, known)
			if (equal(((Known *) lfirst(lk))->aggref, lfirst(lc)))
				since = ((Known *) lfirst(lk))->number;
		number = Max(number, since);
	}
	return number;
}

/* Where rows are compared by it, rows without it would count. */
static void
check_marked(const Extension *extension, const TargetEntry *tle)
{
	if (contain_window_function((Node *) tle->expr) || tle->resjunk)
		refuse_under_window(extension);
}

static void
check_windows(const Extension *extension, const Query *query, Bitmapset *marks)
{
	ListCell *lc;
	ListCell *clause;

	foreach (lc, query->windowClause)
	{
		const WindowClause *window = lfirst_node(WindowClause, lc);

		foreach (clause, window->partitionClause)
			if (bms_is_member(get_sortgroupclause_tle(lfirst(clause), query->targetList)->resno,
							  marks))
				refuse_under_window(extension);
		foreach (clause, window->orderClause)
			if (bms_is_member(get_sortgroupclause_tle(lfirst(clause), query->targetList)->resno,
							  marks))
				refuse_under_window(extension);
	}
}

static void
refuse_under_window(const Extension *extension)
{
	cq_extend_refuse(extension->view_name,
					 "An aggregate that was added cannot be under a window function: in windows "
					 "that are open, groups without it would be counted.");
}

/*
 * Above, what reads a marked column must be null where that is; what was there already
 * is.
 */
static Bitmapset *
above_mark(const Extension *extension, const Query *old, Query *wanted, Bitmapset **marks)
{
	int ncolumns = cq_query_columns(old);
	Bitmapset *result = NULL;
	int n = 0;
	ListCell *lc;

	foreach (lc, wanted->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		bool is_new = tle->resjunk || ++n > ncolumns;

		if (!reads_marked(wanted, (Node *) tle->expr, marks))
			continue;
		if (is_new && (tle->resjunk || contain_nonstrict_functions((Node *) tle->expr)))
			cq_extend_refuse(
				extension->view_name,
				"What is made of a new aggregate outside of its sub-query must be null "
				"where that is: CASE, coalesce(), aggregates and window functions may "
				"not be.");
		if (!tle->resjunk)
			result = bms_add_member(result, tle->resno);
	}
	check_windows(extension, wanted, result);
	return result;
}

static bool
reads_marked(const Query *query, Node *expr, Bitmapset **marks)
{
	Query *copy = copyObject(unconstify(Query *, query));
	List *vars = pull_vars_of_level(cq_compat_flatten_joins(copy, copyObject(expr)), 0);
	ListCell *lc;

	foreach (lc, vars)
	{
		const Var *var = lfirst(lc);

		if (IsA(var, Var) && var->varno <= list_length(query->rtable) &&
			(bms_is_member(var->varattno, marks[var->varno]) ||
			 (var->varattno == 0 && !bms_is_empty(marks[var->varno]))))
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------------
 * Marks
 * ------------------------------------------------------------------------
 */

static Expr *
marked(const Extension *extension, Expr *expr, int number)
{
	CaseExpr *result = makeNode(CaseExpr);
	CaseWhen *when = makeNode(CaseWhen);
	OpExpr *is_zero = makeNode(OpExpr);
	Const *zero = makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(0), false, true);

	is_zero->opno =
		OpernameGetOprid(list_make2(makeString(pstrdup("pg_catalog")), makeString(pstrdup("="))),
						 INT8OID,
						 INT4OID);
	is_zero->opfuncid = get_opcode(is_zero->opno);
	is_zero->opresulttype = BOOLOID;
	is_zero->args = list_make2(missed_count(extension->function, number), zero);
	is_zero->location = -1;
	when->expr = (Expr *) is_zero;
	when->result = expr;
	when->location = -1;
	result->casetype = exprType((Node *) expr);
	result->casecollid = exprCollation((Node *) expr);
	result->args = list_make1(when);
	result->defresult =
		(Expr *) makeNullConst(result->casetype, exprTypmod((Node *) expr), result->casecollid);
	result->location = -1;
	return (Expr *) result;
}

static Aggref *
missed_count(Oid function, int number)
{
	Aggref *count = makeNode(Aggref);
	Const *argument =
		makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(number), false, true);

	count->aggfnoid = F_COUNT_;
	count->aggtype = INT8OID;
	count->aggstar = true;
	count->aggkind = AGGKIND_NORMAL;
	count->aggsplit = AGGSPLIT_SIMPLE;
	count->aggno = count->aggtransno = -1;
	count->location = -1;
	count->aggfilter = (Expr *) makeFuncExpr(function,
											 BOOLOID,
											 list_make1(argument),
											 InvalidOid,
											 InvalidOid,
											 COERCE_EXPLICIT_CALL);
	return count;
}

Node *
cq_extend_unmarked(Node *expr, int *number)
{
	CaseExpr *expression = (CaseExpr *) expr;
	CaseWhen *when;
	int found;

	if (number)
		*number = 0;
	if (!IsA(expr, CaseExpr) || expression->arg || list_length(expression->args) != 1)
		return expr;
	when = linitial_node(CaseWhen, expression->args);
	if (!IsA(when->expr, OpExpr))
		return expr;
	found = cq_extend_mark_number(linitial(((OpExpr *) when->expr)->args));
	if (found == 0)
		return expr;
	if (number)
		*number = found;
	return (Node *) when->result;
}

int
cq_extend_mark_number(Node *expr)
{
	const Aggref *aggref = (const Aggref *) expr;
	const FuncExpr *filter;

	if (!IsA(expr, Aggref) || aggref->aggfnoid != F_COUNT_ || aggref->aggfilter == NULL ||
		!IsA(aggref->aggfilter, FuncExpr))
		return 0;
	filter = (const FuncExpr *) aggref->aggfilter;
	if (filter->funcid != mark_function() || !IsA(linitial(filter->args), Const))
		return 0;
	return DatumGetInt32(linitial_node(Const, filter->args)->constvalue);
}

static Oid
mark_function(void)
{
	Oid type = INT4OID;

	return LookupFuncName(list_make2(makeString(pstrdup("pipeline")),
									 makeString(pstrdup("before_alter"))),
						  1,
						  &type,
						  false);
}
