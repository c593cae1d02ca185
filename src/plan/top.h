/*
 * top.h
 *	  Recognising queries that keep only the first rows of each window.
 */
#pragma once

#include "postgres.h"

#include "plan/path.h"
#include "plan/plan.h"

/*
 * Which of the rows that the split level reads can be forgotten as soon as they
 * are seen, because the level above throws them away by their rank; NULL if
 * nothing is known.  The columns that decide become outputs of plan->stage.
 */
extern CqTop *cq_top_recognise(const CqPath *path, CqPlan *plan);

/*
 * The same of the groups of a window, when it closes; their columns are those of
 * plan->closed_desc.  plan->close must be complete.
 */
extern CqTop *cq_top_recognise_groups(const CqPath *path, const CqPlan *plan);
