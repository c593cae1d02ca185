/*
 * backfill.h
 *	  Creating a view that takes in rows of a query before its stream.
 */
#pragma once

#include "postgres.h"

#include "catalog/rows.h"

/*
 * Has the view begun to read its stream, so that it is known where?  A view that does not
 * run need not have.
 */
extern bool cq_backfill_is_ready(const CqView *view);

/*
 * Create a view with the same query beside it that takes in the rows of a query, and
 * then the stream from where this one began.  Returns it.
 */
extern Oid cq_backfill_create(const CqView *view, const char *query);
