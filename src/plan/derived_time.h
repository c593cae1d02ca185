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

/* Is this expression of a level the event time of what the query reads? */
extern bool cq_is_event_time(const CqPath *path, int level, Node *expr);

/* How the event time of a stream or of a view's rows is written, for messages. */
extern char *cq_event_time_name(const CqStream *stream);
