/*
 * history.h
 *	  Rows of a query as the history of a stream, for a view that takes them in
 *	  before the stream's records.
 */
#pragma once

#include "postgres.h"

#include "catalog/rows.h"

/*
 * Make a hidden local stream, part of the view, with the rows of a query (text, of
 * one SELECT).  Its columns are matched with those of the view's stream by name, and
 * assigned to them.  The query runs with the rights of the view's owner.  Returns
 * the stream and how many rows there are; the caller says in the catalog that the
 * view takes them in.
 */
extern Oid cq_history_create(const CqView *view, const char *query, int64 *rows);
