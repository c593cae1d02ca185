/*
 * surgery.h
 *	  Taking a query apart at its split level: the tools.
 */
#pragma once

#include "postgres.h"

#include "access/tupdesc.h"

#include "plan/path.h"
#include "plan/plan.h"

/*
 * A copy of the query from this level down, with all taken out that would
 * combine rows: what is left gives one row, or several, per event.  Its only
 * output is the ordinal.  *sort_dropped: was there an ORDER BY further down?
 */
extern Query *cq_surgery_stage(const CqPath *path, int from, bool *sort_dropped);

/*
 * Make an expression an output of a stage query, unless it is one; returns its
 * number, counted from 0 (the ordinal's).
 */
extern int cq_surgery_add_output(const CqPath *path, Query *stage, Node *expr, const char *what);

/* Row type of closed rows that are stage rows without the ordinal. */
extern TupleDesc cq_surgery_stage_desc(const Query *stage);

/* A good name for an expression written from a query. */
extern char *cq_surgery_name(Query *query, Node *expr, const char *otherwise);

/*
 * Make a level read closed rows in place of its FROM and WHERE: those of an
 * operator, or the rows of the result table (placeholder).
 */
extern void cq_surgery_read_closed(Query *level, TupleDesc desc, CqEmit emit, Node *quals);

/* Take out sort keys and the like that nothing refers to any more. */
extern void cq_surgery_tidy(Query *level);
