/*
 * classify.h
 *	  Deciding how a query is kept: its shape, window and emission.
 */
#pragma once

#include "postgres.h"

#include "compat.h"
#include "plan/path.h"
#include "plan/plan.h"

/*
 * Set plan->shape, window, emit and rows_why, or refuse the query.  emit: what
 * the user asked for, or -1.  corrected_by: the option by which late events
 * change rows, or NULL.  *clauses is what the split level's rows are grouped by
 * (of SortGroupClause *).
 */
extern void cq_classify(const CqPath *path, int emit, const char *corrected_by, CqPlan *plan,
						List **clauses);

/* A path without stateful levels, whose rows are kept for the given windows. */
extern void cq_classify_rows(const CqPath *path, const CqWindow *window, CqPlan *plan);

extern void cq_refuse_two_windows(const char *view_name, const CqWindow *a,
								  const CqWindow *b) CQ_NORETURN;
