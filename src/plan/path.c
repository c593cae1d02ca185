/*
 * path.c
 *	  The way from a query's top level down to its stream.
 *
 * A stream may stand where each of its events can be passed through on its
 * own: in FROM, below inner joins and on the preserved side of outer joins, in
 * nested sub-queries.  Everywhere else - the nullable side of an outer join, a
 * set operation, an expression's sub-query - a row depends on all events at
 * once, or on there being none, and the query is refused.
 *
 * An event is known through all levels by its ordinal, which travels as the
 * stream's ctid.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "plan/normalise.h"
#include "plan/path.h"
#include "plan/refuse.h"
#include "source/stream.h"

/* Columns of one range table entry that a level uses. */
typedef struct CqUse
{
	Query *query;
	int rti;
	int depth;
	Bitmapset *attributes; /* offset by FirstLowInvalidHeapAttributeNumber */
} CqUse;

/* The member that stands for a whole-row reference. */
#define WHOLE_ROW (InvalidAttrNumber - FirstLowInvalidHeapAttributeNumber)

static Oid the_stream(Query *top, const char *view_name);
static bool streams_walker(Node *node, List **streams);
static bool hidden_walker(Node *node, const char *view_name);
static void look_into_view(Oid relid, const char *view_name);
static void refuse_hidden(RangeTblEntry *rte, const char *view_name);
static int stream_entry(Query *query, const char *view_name);
static void check_position(Query *query, int rti, const char *view_name);
static bool position_preserved(Node *jointree, int rti, bool preserved, bool *found);
static bool level_is_stateful(const Query *query);
static bool use_walker(Node *node, CqUse *use);
static void use_var(Var *var, CqUse *use);
static Query *level_for_use(Query *query, const Bitmapset *outputs, bool is_stage);
static Bitmapset *stream_columns(const CqPath *path, const Bitmapset *used);

CqPath *
cq_path_find(Query *top, const char *view_name)
{
	CqPath *path = palloc0(sizeof(CqPath));
	Query *query = top;

	path->view_name = view_name;
	path->top = top;
	path->stream = the_stream(top, view_name);
	path->definition = cq_stream_load(path->stream);
	path->split = -1;
	path->levels = palloc(sizeof(CqLevel));
	for (;;)
	{
		int rti = stream_entry(query, view_name);
		RangeTblEntry *rte = rt_fetch(rti, query->rtable);

		check_position(query, rti, view_name);
		cq_compat_flatten_groups(query);
		path->levels = repalloc(path->levels, sizeof(CqLevel) * (path->nlevels + 1));
		path->levels[path->nlevels].query = query;
		path->levels[path->nlevels].rti = rti;
		if (level_is_stateful(query))
			path->split = path->nlevels;
		path->nlevels++;
		if (rte->rtekind == RTE_RELATION)
			break;
		query = rte->subquery;
	}
	return path;
}

Query *
cq_path_descend(const CqPath *path, Query *copy, int from, int level)
{
	for (; from < level; from++)
		copy = rt_fetch(path->levels[from].rti, copy->rtable)->subquery;
	return copy;
}

bool
cq_level_aggregates(const Query *query)
{
	return query->hasAggs || query->groupClause != NIL || query->groupingSets != NIL ||
		   query->havingQual != NULL;
}

Node *
cq_path_flatten(Query *query, Node *expr)
{
	return cq_compat_flatten_joins(query, expr);
}

Expr *
cq_path_thread_ordinal(const CqPath *path, Query *copy, int from)
{
	int last = path->nlevels - 1;
	AttrNumber attno = SelfItemPointerAttributeNumber;
	int level;

	for (level = last; level > from; level--)
	{
		Query *query = cq_path_descend(path, copy, from, level);
		Query *parent = cq_path_descend(path, copy, from, level - 1);
		RangeTblEntry *rte = rt_fetch(path->levels[level - 1].rti, parent->rtable);
		Var *var = makeVar(path->levels[level].rti, attno, TIDOID, -1, InvalidOid, 0);

		attno = list_length(query->targetList) + 1;
		query->targetList =
			lappend(query->targetList,
					makeTargetEntry((Expr *) var, attno, pstrdup("pipeline_ordinal"), false));
		while (list_length(rte->eref->colnames) < attno - 1)
			rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup("?column?")));
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup("pipeline_ordinal")));
	}
	return (Expr *) makeVar(path->levels[from].rti, attno, TIDOID, -1, InvalidOid, 0);
}

/*
 * From the top of the stage downwards: of each level only those outputs count
 * that the level above uses.  The planner drops the others, too.
 */
Bitmapset *
cq_path_columns(const CqPath *path, Query *stage, int from)
{
	Bitmapset *outputs = NULL;
	int level;

	for (level = from; level < path->nlevels; level++)
	{
		Query *query = cq_path_descend(path, stage, from, level);

		outputs = cq_path_used(query, path->levels[level].rti, outputs, level == from);
		if (bms_is_member(WHOLE_ROW, outputs) && level < path->nlevels - 1)
			cq_refuse(path->view_name,
					  "a whole-row reference to a sub-query that reads the stream",
					  NULL,
					  "Name the columns instead.");
	}
	return stream_columns(path, outputs);
}

Bitmapset *
cq_path_used(Query *query, int rti, const Bitmapset *outputs, bool is_stage)
{
	CqUse use = {query, rti, 0, NULL};

	query_tree_walker(level_for_use(query, outputs, is_stage),
					  use_walker,
					  &use,
					  QTW_IGNORE_JOINALIASES);
	return use.attributes;
}

static Oid
the_stream(Query *top, const char *view_name)
{
	List *streams = cq_path_streams((Node *) top);

	if (streams == NIL)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("query of continuous view \"%s\" reads no stream", view_name),
				errdetail(
					"A stream is a foreign table of wrapper pipeline_kafka or pipeline_local."),
				errhint(
					"Over ordinary tables and other views, use CREATE VIEW or CREATE MATERIALIZED "
					"VIEW."));
	/* with more of them, inputs.c takes the query apart first */
	Assert(list_length(streams) == 1);
	return linitial_oid(streams);
}

List *
cq_path_streams(Node *tree)
{
	List *streams = NIL;

	streams_walker(tree, &streams);
	return streams;
}

static bool
streams_walker(Node *node, List **streams)
{
	ListCell *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, streams_walker, streams);
	foreach (lc, castNode(Query, node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE &&
			cq_is_stream(rte->relid))
			*streams = lappend_oid(*streams, rte->relid);
	}
	return query_tree_walker((Query *) node, streams_walker, streams, 0);
}

void
cq_path_refuse_hidden(Query *tree, const char *view_name)
{
	hidden_walker((Node *) tree, view_name);
}

static bool
hidden_walker(Node *node, const char *view_name)
{
	ListCell *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, hidden_walker, (void *) view_name);
	foreach (lc, castNode(Query, node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind != RTE_RELATION)
			continue;
		if (rte->relkind == RELKIND_VIEW)
			look_into_view(rte->relid, view_name);
		else if (rte->inh && has_subclass(rte->relid))
			refuse_hidden(rte, view_name);
	}
	return query_tree_walker((Query *) node, hidden_walker, (void *) view_name, 0);
}

/* Views over streams are part of the tree by now; others are not. */
static void
look_into_view(Oid relid, const char *view_name)
{
	Relation view = relation_open(relid, AccessShareLock);

	(void) hidden_walker((Node *) cq_view_definition(view), view_name);
	relation_close(view, NoLock);
}

/* Of a table whose children are gone PostgreSQL does not know that at once; it reads it alone. */
static void
refuse_hidden(RangeTblEntry *rte, const char *view_name)
{
	List *family = find_all_inheritors(rte->relid, AccessShareLock, NULL);
	ListCell *lc;

	if (list_length(family) == 1)
		rte->inh = false;
	else if (rte->relkind == RELKIND_FOREIGN_TABLE)
		cq_refuse(view_name,
				  psprintf("stream \"%s\"", get_rel_name(rte->relid)),
				  "Other tables inherit from it.",
				  "Write ONLY before its name.");
	for_each_from(lc, family, 1)
	{
		if (cq_is_stream(lfirst_oid(lc)))
			cq_refuse(view_name,
					  psprintf("table \"%s\"", get_rel_name(rte->relid)),
					  psprintf("Stream \"%s\" is a partition or a child of it.",
							   get_rel_name(lfirst_oid(lc))),
					  "Read the stream itself.");
	}
}

/* The range table entry that is the stream or has it below. */
static int
stream_entry(Query *query, const char *view_name)
{
	int rti = 0;
	ListCell *lc;

	if (query->setOperations != NULL)
		cq_refuse(
			view_name,
			"UNION, INTERSECT or EXCEPT over a stream",
			"Rows of a branch that reads no stream are no events, and would have to be given out "
			"once, before all others.",
			"Make a continuous view of the stream alone and combine it with the rest in "
			"ordinary SQL.");
	foreach (lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		rti++;
		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE &&
			cq_is_stream(rte->relid))
			return rti;
		if (rte->rtekind != RTE_SUBQUERY || !cq_reads_stream((Node *) rte->subquery))
			continue;
		if (rte->lateral && contain_vars_of_level((Node *) rte->subquery, 1))
			cq_refuse(view_name,
					  "a LATERAL sub-query that reads the stream",
					  "It would have to be run again over all events for each row beside it.",
					  "Read the stream outside, and put what is to be looked up into the LATERAL "
					  "sub-query.");
		return rti;
	}
	if (query->cteList != NIL)
		cq_refuse(view_name,
				  "a recursive WITH query over a stream",
				  NULL,
				  "Read the stream in the main query.");
	cq_refuse(view_name,
			  "a stream in a sub-query of an expression",
			  "The answer could change with each event, for all rows before it.",
			  "Read the stream in FROM.");
}

static void
check_position(Query *query, int rti, const char *view_name)
{
	bool found = false;

	if (position_preserved((Node *) query->jointree, rti, true, &found))
		return;
	Assert(found);
	cq_refuse(view_name,
			  "a stream on the nullable side of an outer join",
			  "Rows without a match could only be given out after the last event.",
			  "Put the stream on the other side of the join: stream LEFT JOIN table.");
}

/* Is the entry not on the nullable side of any outer join? */
static bool
position_preserved(Node *jointree, int rti, bool preserved, bool *found)
{
	if (IsA(jointree, RangeTblRef))
	{
		*found = castNode(RangeTblRef, jointree)->rtindex == rti;
		return *found && preserved;
	}
	if (IsA(jointree, FromExpr))
	{
		ListCell *lc;

		foreach (lc, castNode(FromExpr, jointree)->fromlist)
		{
			bool result = position_preserved(lfirst(lc), rti, preserved, found);

			if (*found)
				return result;
		}
		return false;
	}
	else
	{
		JoinExpr *join = castNode(JoinExpr, jointree);
		bool left = join->jointype == JOIN_INNER || join->jointype == JOIN_LEFT;
		bool right = join->jointype == JOIN_INNER || join->jointype == JOIN_RIGHT;
		bool result = position_preserved(join->larg, rti, preserved && left, found);

		if (*found)
			return result;
		return position_preserved(join->rarg, rti, preserved && right, found);
	}
}

static bool
level_is_stateful(const Query *query)
{
	return cq_level_aggregates(query) || query->distinctClause != NIL || query->hasWindowFuncs;
}

/*
 * A stand-in for the level without the outputs that nobody uses.  Of the stage
 * query's own only the ordinal does not count, and so not on the levels below.
 */
static Query *
level_for_use(Query *query, const Bitmapset *outputs, bool is_stage)
{
	Query *result = palloc(sizeof(Query));
	ListCell *lc;

	*result = *query;
	result->targetList = NIL;
	foreach (lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		int member = tle->resno - FirstLowInvalidHeapAttributeNumber;

		if ((is_stage && tle->resno > 1) || bms_is_member(member, outputs) ||
			expression_returns_set((Node *) tle->expr))
			result->targetList = lappend(result->targetList, tle);
	}
	return result;
}

static bool
use_walker(Node *node, CqUse *use)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		if ((int) castNode(Var, node)->varlevelsup == use->depth)
			use_var((Var *) node, use);
		return false;
	}
	if (IsA(node, Query))
	{
		use->depth++;
		query_tree_walker((Query *) node, use_walker, use, QTW_IGNORE_JOINALIASES);
		use->depth--;
		return false;
	}
	return expression_tree_walker(node, use_walker, use);
}

static void
use_var(Var *var, CqUse *use)
{
	RangeTblEntry *rte = rt_fetch(var->varno, use->query->rtable);

	if (var->varno == use->rti)
		use->attributes =
			bms_add_member(use->attributes, var->varattno - FirstLowInvalidHeapAttributeNumber);
	else if (rte->rtekind == RTE_JOIN)
	{
		int depth = use->depth;

		/* what a join's column stands for is written from the join's own level */
		use->depth = 0;
		if (var->varattno == InvalidAttrNumber)
			use_walker((Node *) rte->joinaliasvars, use);
		else
			use_walker(list_nth(rte->joinaliasvars, var->varattno - 1), use);
		use->depth = depth;
	}
}

static Bitmapset *
stream_columns(const CqPath *path, const Bitmapset *used)
{
	Bitmapset *columns = NULL;
	bool whole_row = bms_is_member(WHOLE_ROW, used);
	int member = -1;
	int i;

	if (whole_row && path->definition->feed)
		cq_refuse(path->view_name,
				  "a whole-row reference to a continuous view",
				  NULL,
				  "Name the columns instead.");
	for (i = 0; whole_row && i < path->definition->ncolumns; i++)
	{
		if (!path->definition->columns[i].dropped)
			columns = bms_add_member(columns, i + 1);
	}
	while ((member = bms_next_member(used, member)) >= 0)
	{
		AttrNumber attno = member + FirstLowInvalidHeapAttributeNumber;

		if (member == WHOLE_ROW)
			continue;
		if (attno < 0)
			cq_refuse(path->view_name,
					  "a system column of the stream",
					  "Events have no place in a table.",
					  "Columns with the option \"metadata\" give an event's partition and offset.");
		columns = bms_add_member(columns, attno);
	}
	if (path->definition->event_time != 0)
		columns = bms_add_member(columns, path->definition->event_time);
	return columns;
}
