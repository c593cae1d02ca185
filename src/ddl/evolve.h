/*
 * evolve.h
 *	  A continuous view gets more columns.
 */
#pragma once

#include "postgres.h"

#include "catalog/rows.h"

/*
 * Have a view's query be this one, which is its own with columns behind: from where it is
 * now on, when this transaction commits.  The current user is who wrote the query.
 */
extern void cq_evolve(CqView *view, const char *query);
