/*
 * changing.h
 *	  Reading a continuous view whose rows change.
 */
#pragma once

#include "postgres.h"

#include "plan/path.h"
#include "plan/plan.h"

/*
 * The path ends at a view whose rows change: decide whether rows are taken back
 * (plan->retracts), or refuse the query.  windowed: by plan->window; changing: its
 * own rows of windows are to change.
 */
extern void cq_changing_check(const CqPath *path, bool windowed, bool changing, CqPlan *plan);

/* Refuse a path without groups or windows that ends at such a view. */
extern void cq_changing_refuse_append(const CqPath *path);

/* Refuse a stage that may make something else of a row when the row is taken back. */
extern void cq_changing_check_stage(const CqPath *path, const CqPlan *plan);

/* Have count(*) among the aggregates; returns its place. */
extern int cq_changing_count_rows(List **aggregates);

/*
 * May a view whose rows change be read by another one?  NULL if so, else a
 * sentence that says why not.
 */
extern const char *cq_changing_why_hidden(const CqPlan *plan);

/* The upper query of a plan, reading rows of groups as a close query does. */
extern Query *cq_changing_rows_query(const CqPlan *plan);
