/*
 * plan.c
 *	  Planning to read a Kafka stream directly.
 *
 * What conditions say about partition, offset and timestamp goes into the plan as
 * expressions and is evaluated when a scan is started or restarted, so parameters
 * count: also those of a nested loop, for which there are paths of their own.
 *
 * Nothing is known of a topic's size while planning, as asking for it would take
 * longer than planning.  So topics are taken to be large: a join then rather looks
 * single records up than reads everything.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"

#include "compat.h"
#include "source/direct/conditions.h"
#include "source/direct/direct.h"

#define TOPIC_RECORDS 1000000
#define CONNECT_COST  1000 /* once; in pages read in order, like all costs */
#define SEEK_COST	  100
#define RECORD_COST	  (3 * cpu_tuple_cost) /* fetched and decoded */

static List *reduce_clauses(const CqStream *stream, RelOptInfo *rel, List *clauses);
static List *parameter_sets(PlannerInfo *root, RelOptInfo *rel, const CqStream *stream);
static List *add_parameters(List *sets, RelOptInfo *rel, const CqStream *stream,
							RestrictInfo *clause);
static bool is_column(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *class,
					  EquivalenceMember *member, void *column);
static void add_parameterised(PlannerInfo *root, RelOptInfo *rel, const CqStream *stream,
							  Relids required);
static Cost reading_cost(const RelOptInfo *rel, double fetched, int nclauses);
static List *needed_columns(const RelOptInfo *rel, List *clauses, int natts);

void
cq_direct_size(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	CqStream *stream = cq_stream_load(relid);
	List *parts = reduce_clauses(stream, rel, rel->baserestrictinfo);
	double fetched;

	if (rel->tuples <= 0)
		rel->tuples = TOPIC_RECORDS;
	fetched = rel->tuples * cq_condition_share(stream, rel->relid, parts, rel->tuples);
	rel->rows =
		rel->tuples * clauselist_selectivity(root, rel->baserestrictinfo, 0, JOIN_INNER, NULL);
	rel->rows = clamp_row_est(Min(rel->rows, fetched));
	rel->fdw_private = stream;
}

static List *
reduce_clauses(const CqStream *stream, RelOptInfo *rel, List *clauses)
{
	List *parts = NIL;
	ListCell *lc;

	foreach (lc, clauses)
	{
		RestrictInfo *clause = lfirst_node(RestrictInfo, lc);
		Expr *part;

		if (clause->pseudoconstant)
			continue;
		part = cq_condition_reduce(stream, rel->relid, clause->clause);
		if (part != NULL)
			parts = lappend(parts, part);
	}
	return parts;
}

void
cq_direct_paths(PlannerInfo *root, RelOptInfo *rel)
{
	const CqStream *stream = rel->fdw_private;
	List *parts = reduce_clauses(stream, rel, rel->baserestrictinfo);
	double fetched = rel->tuples * cq_condition_share(stream, rel->relid, parts, rel->tuples);
	Cost startup = CONNECT_COST + rel->baserestrictcost.startup;
	Cost total = startup + reading_cost(rel, fetched, 0);
	ListCell *lc;

	add_path(rel,
			 (Path *)
				 cq_compat_foreign_path(root, rel, rel->rows, startup, total, rel->lateral_relids));
	foreach (lc, parameter_sets(root, rel, stream))
		add_parameterised(root, rel, stream, lfirst(lc));
}

static Cost
reading_cost(const RelOptInfo *rel, double fetched, int nclauses)
{
	return SEEK_COST +
		   fetched * (RECORD_COST + rel->baserestrictcost.per_tuple + nclauses * cpu_operator_cost);
}

/* Relations whose columns, in join clauses, say where records are (a list of Relids). */
static List *
parameter_sets(PlannerInfo *root, RelOptInfo *rel, const CqStream *stream)
{
	List *sets = NIL;
	ListCell *lc;
	int i;

	foreach (lc, rel->joininfo)
	{
		RestrictInfo *clause = lfirst_node(RestrictInfo, lc);

		if (join_clause_is_movable_to(clause, rel))
			sets = add_parameters(sets, rel, stream, clause);
	}
	for (i = 0; rel->has_eclass_joins && i < stream->ncolumns; i++)
	{
		if (stream->columns[i].metadata == CQ_METADATA_NONE)
			continue;
		foreach (lc,
				 generate_implied_equalities_for_column(root,
														rel,
														is_column,
														&stream->columns[i].attnum,
														rel->lateral_referencers))
			sets = add_parameters(sets, rel, stream, lfirst_node(RestrictInfo, lc));
	}
	return sets;
}

static List *
add_parameters(List *sets, RelOptInfo *rel, const CqStream *stream, RestrictInfo *clause)
{
	Relids required;
	ListCell *lc;

	if (cq_condition_reduce(stream, rel->relid, clause->clause) == NULL)
		return sets;
	required = bms_union(clause->clause_relids, rel->lateral_relids);
	required = bms_del_member(required, rel->relid);
	foreach (lc, sets)
		if (bms_equal(lfirst(lc), required))
			return sets;
	return bms_is_empty(required) ? sets : lappend(sets, required);
}

static bool
is_column(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *class, EquivalenceMember *member,
		  void *column)
{
	Var *var = (Var *) member->em_expr;

	return IsA(var, Var) && var->varno == rel->relid && var->varattno == *(AttrNumber *) column;
}

static void
add_parameterised(PlannerInfo *root, RelOptInfo *rel, const CqStream *stream, Relids required)
{
	ParamPathInfo *info = get_baserel_parampathinfo(root, rel, required);
	List *parts = list_concat(reduce_clauses(stream, rel, rel->baserestrictinfo),
							  reduce_clauses(stream, rel, info->ppi_clauses));
	double fetched = rel->tuples * cq_condition_share(stream, rel->relid, parts, rel->tuples);
	Cost startup = SEEK_COST + rel->baserestrictcost.startup;

	add_path(rel,
			 (Path *) cq_compat_foreign_path(root,
											 rel,
											 clamp_row_est(Min(info->ppi_rows, fetched)),
											 startup,
											 startup + reading_cost(rel,
																	fetched,
																	list_length(info->ppi_clauses)),
											 required));
}

ForeignScan *
cq_direct_plan(PlannerInfo *root, RelOptInfo *rel, List *tlist, List *clauses, Plan *outer_plan)
{
	const CqStream *stream = rel->fdw_private;
	List *parts = reduce_clauses(stream, rel, clauses);
	List *conditions = extract_actual_clauses(clauses, false);

	return make_foreignscan(tlist,
							conditions,
							rel->relid,
							parts,
							needed_columns(rel, conditions, stream->ncolumns),
							NIL,
							NIL,
							outer_plan);
}

/* A list that is not empty, so a number that no column has stands for none. */
static List *
needed_columns(const RelOptInfo *rel, List *clauses, int natts)
{
	Bitmapset *attributes = NULL;
	List *columns = list_make1_int(0);
	int i;

	pull_varattnos((Node *) rel->reltarget->exprs, rel->relid, &attributes);
	pull_varattnos((Node *) clauses, rel->relid, &attributes);
	if (bms_is_member(-FirstLowInvalidHeapAttributeNumber, attributes))
		return NIL;
	for (i = 1; i <= natts; i++)
		if (bms_is_member(i - FirstLowInvalidHeapAttributeNumber, attributes))
			columns = lappend_int(columns, i);
	return columns;
}
