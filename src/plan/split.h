/*
 * split.h
 *	  Splitting a query into stage query, operator and close query, one way per
 *	  shape.
 */
#pragma once

#include "postgres.h"

#include "plan/path.h"
#include "plan/plan.h"

/*
 * Each fills in the plan's stage and what the shape needs besides;
 * plan->window and plan->emit must be set.  Returns whether an ORDER BY was
 * dropped.
 */

/* Nothing stateful: the stage's rows are the view's. */
extern bool cq_split_append(const CqPath *path, CqPlan *plan);

/* clauses: the SortGroupClauses of the split level's grouping, or of its DISTINCT. */
extern bool cq_split_aggregate(const CqPath *path, CqPlan *plan, List *clauses);

/* The window's rows are kept; the close query does all the rest. */
extern bool cq_split_rows(const CqPath *path, CqPlan *plan, List *clauses);

/* All aggregates of a level (of Aggref *), each once, written from the level itself. */
extern List *cq_split_collect_aggregates(const Query *level);
