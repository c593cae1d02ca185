/*
 * limits.h
 *	  How many continuous views there may be.
 */
#pragma once

#include "postgres.h"

/*
 * Error if "more" tasks (a view, and each worker that it has beyond the first, are
 * one each) are more than the role, the database or the server may have.
 */
extern void cq_limits_check(Oid owner, int more, const char *view_name);

/* Error if a role that has been given a view has more tasks now than it may have. */
extern void cq_limits_check_owner(Oid owner, const char *view_name);

/* Warn if the server has fewer worker processes than views need, with some more of them. */
extern void cq_limits_warn_of_workers(int more);
