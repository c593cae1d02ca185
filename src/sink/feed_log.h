/*
 * feed_log.h
 *	  Rows that a view gives out, written for another view that reads it.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

#include "catalog/feeds.h"
#include "plan/plan.h"

typedef struct CqFeedLog CqFeedLog;

/* Find the feed's storage; plan is that of the view that fills it. */
extern CqFeedLog *cq_feed_log_create(const CqFeed *feed, const CqPlan *plan);

/*
 * Lock what takes new rows, without waiting: false if another session is in the
 * way.  If the feed is gone, what follows does nothing.
 */
extern bool cq_feed_log_lock(CqFeedLog *log);

/*
 * For one transaction: rows, of the view's columns, and how far its watermark
 * is.  mark is the watermark before the row, DT_NOBEGIN where that says nothing.
 * retracts: the row is taken back.  A mark, with a watermark or DT_NOBEGIN, is
 * written after the last row of the transaction.
 */
extern void cq_feed_log_begin(CqFeedLog *log);
extern void cq_feed_log_row(CqFeedLog *log, const Datum *values, const bool *nulls, bool retracts,
							TimestampTz mark);
extern void cq_feed_log_mark(CqFeedLog *log, TimestampTz watermark);
extern void cq_feed_log_end(CqFeedLog *log);

/* Is a row's event time known, and before a watermark? */
extern bool cq_feed_log_is_before(const CqFeedLog *log, const Datum *values, const bool *nulls,
								  TimestampTz watermark);

extern CqFeedMode cq_feed_log_mode(const CqFeedLog *log);

/* After end, before the transaction does: give the relation back. */
extern void cq_feed_log_close(CqFeedLog *log);
