/*
 * retention.h
 *	  What the view option "retention" needs of a view: rows with a time, and an
 *	  index on it.
 */
#pragma once

#include "postgres.h"

#include "catalog/rows.h"
#include "plan/plan.h"

/* Error, with a hint, if the rows of a view do not tell how old they are. */
extern void cq_retention_check(const CqPlan *plan, const char *view_name);

/* Make the index by which runtime/retention.c finds old rows. */
extern void cq_retention_create_index(const CqView *view, const CqPlan *plan);

/* The option was set, or taken away. */
extern void cq_retention_altered(const CqView *view, const CqViewOptions *options);
