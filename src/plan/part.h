/*
 * part.h
 *	  Planning the part of a query that reads one stream once.
 */
#pragma once

#include "postgres.h"

#include "plan/path.h"
#include "plan/plan.h"

/*
 * The plan of an input, from its path: a query whose rows leave when windows
 * close.  rows_of: it has no state of its own, and its rows are kept for these
 * windows; else NULL.  divided: see cq_plan_query().
 */
extern CqPlan *cq_part_plan(const CqPath *path, const CqWindow *rows_of, bool divided);
