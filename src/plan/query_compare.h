/*
 * query_compare.h
 *	  Is a query another one with columns added behind?
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"

/*
 * One level of both, as analysed and not rewritten; what sub-queries and WITH queries
 * have is not looked at, but that there are as many.  NULL: without its further columns
 * the wanted one is the old one.  Otherwise what is different, as a sentence.  is_top: it
 * is not a sub-query, whose ORDER BY may matter.
 */
extern const char *cq_query_difference(const Query *old, const Query *wanted, bool is_top);

/* Output columns. */
extern int cq_query_columns(const Query *query);
