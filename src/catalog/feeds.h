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

/* What a feed has of the view that fills it. */
typedef enum CqFeedMode
{
	CQ_FEED_ROWS,	 /* its rows, which never change */
	CQ_FEED_CHANGES, /* of rows that change: each change, as the row taken back and the new one */
	CQ_FEED_FINAL	 /* of rows that change: those of windows that do not any more */
} CqFeedMode;

typedef struct CqFeed
{
	Oid relation;
	int64 view;		 /* that reads it */
	int64 source;	 /* that fills it */
	Oid source_view; /* the user's view; InvalidOid if it is gone */
	CqDerivedTime time;
	CqFeedMode mode;
} CqFeed;

/* Columns of a feed behind those of the view; sink/feed_log.c says which. */
static inline int
cq_feed_own_columns(const CqFeed *feed)
{
	return feed->mode == CQ_FEED_ROWS ? 3 : 4;
}

/* Each in the current memory context; lists are of CqFeed *, in a fixed order. */
extern List *cq_feeds_of_view(int64 view);
extern List *cq_feeds_of_source(int64 source);
extern CqFeed *cq_feed_of_stream(Oid relation); /* NULL if the stream is no feed */

extern void cq_feed_insert(const CqFeed *feed);
extern void cq_feed_set_mode(CqFeed *feed, CqFeedMode mode);
