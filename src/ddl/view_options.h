/*
 * view_options.h
 *	  The "pipeline." options in a WITH or SET clause.
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"

#include "catalog/rows.h"
#include "plan/plan.h"

/* Part a list of DefElem into those of namespace "pipeline" and the others. */
extern void cq_view_options_split(List *options, List **ours, List **others);

/*
 * Our options as "name=value" strings, "continuous" left out.  *continuous is
 * what that one says: -1 = not given, else 0 or 1.
 */
extern List *cq_view_options_strings(List *ours, int *continuous);

/* Refuse options of plain views that a continuous view cannot have. */
extern void cq_view_options_check_others(List *others, const char *view_name);

/* Refuse options that have no meaning for what was planned. */
extern void cq_view_options_check_plan(const CqViewOptions *options, const CqPlan *plan,
									   const char *view_name);

/* The value of an option in a list of "name=value" strings, NULL if it is not there. */
extern const char *cq_view_options_value(List *given, const char *name);
