/*
 * derived_time.h
 *	  The event time of rows that a continuous view gives out.
 */
#pragma once

#include "postgres.h"

#include "plan/path.h"
#include "plan/plan.h"

/* Which of the view's columns tells it; call before the query is split. */
extern void cq_derive_time(const CqPath *path, CqPlan *plan);

/* The same where a column is known to be the window of its row, or a bound of it. */
extern void cq_derive_time_of_window(CqPlan *plan, AttrNumber column, CqKeyRole role);

/*
 * By which column of its table a row of the view is known to be old: the event
 * time, or a bound of the window.
 */
typedef struct CqRowTime
{
	AttrNumber column;
	Oid range_type; /* of the column, whose upper bound counts; InvalidOid = it is a time */
	Oid type;		/* of that: timestamptz or timestamp */
	int64 span_us;	/* a start of windows that are no longer than this; else 0 */
} CqRowTime;

/* False if rows have no time, or do not show it. */
extern bool cq_row_time(const CqPlan *plan, CqRowTime *time);

/* Is this expression of a level the event time of what the query reads? */
extern bool cq_is_event_time(const CqPath *path, int level, Node *expr);

/* How the event time of a stream or of a view's rows is written, for messages. */
extern char *cq_event_time_name(const CqStream *stream);
