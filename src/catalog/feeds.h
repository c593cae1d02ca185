/*
 * feeds.h
 *	  Which views read which others, and through which hidden stream.
 */
#pragma once

#include "postgres.h"

#include "access/attnum.h"
#include "nodes/pg_list.h"

/* What the column that tells a row's event time is. */
typedef enum CqTimeRole
{
	CQ_TIME_NONE,  /* there is none: rows have no event time */
	CQ_TIME_EVENT, /* the event time itself */
	CQ_TIME_RANGE, /* the window; event time is its last microsecond, here and below */
	CQ_TIME_START, /* the window's start */
	CQ_TIME_END	   /* its end */
} CqTimeRole;

/* How a view's rows get their event time. */
typedef struct CqDerivedTime
{
	AttrNumber column; /* of the view */
	CqTimeRole role;
	int64 window_us; /* size of each window; 0 = not all of one size, or none */
} CqDerivedTime;

typedef struct CqFeed
{
	Oid relation;
	int64 view;		 /* that reads it */
	int64 source;	 /* that fills it */
	Oid source_view; /* the user's view; InvalidOid if it is gone */
	CqDerivedTime time;
} CqFeed;

/* Columns of a feed behind those of the view. */
#define CQ_FEED_OWN_COLUMNS 3

/* Each in the current memory context; lists are of CqFeed *, in a fixed order. */
extern List *cq_feeds_of_view(int64 view);
extern List *cq_feeds_of_source(int64 source);
extern CqFeed *cq_feed_of_stream(Oid relation); /* NULL if the stream is no feed */

extern void cq_feed_insert(const CqFeed *feed);
