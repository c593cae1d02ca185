/*
 * feed_log.c
 *	  Rows that a view gives out, written for another view that reads it.
 *
 * A feed is a local stream without a user: a foreign table in pipeline_data, a
 * part of the view that reads it, with the columns of the view that fills it and
 * a few more at the end:
 *
 *		retracts		this row takes back an earlier one that is equal to it; only
 *						where the rows of the view that fills it change
 *		event time		of the row; null if it has none.  A column of the view that is it
 *						already stands for it when rows are read
 *		mark			a watermark: rows with an earlier event time that come after
 *						this row are late; null = nothing new
 *		is_mark			this is no row, only a mark
 *
 * The worker of the view that fills it writes rows and marks in the transaction
 * that makes them that view's, and the worker of the reader reads them as it
 * reads any local stream, by the order of transactions.  Exactly-once is thereby
 * that of a local stream.  Each reader has a feed of its own, because it begins
 * with the rows that there are when it is created; what it has read is trimmed
 * away.
 *
 * Event time and watermark, "derived time"
 *	D1. A row of a window has the window's last microsecond as event time.  It is
 *		written in the transaction that moves the watermark past the window's
 *		end, before that transaction's mark, so it is never late; and as the reader's
 *		windows close by marks alone, its results do not depend on how closings
 *		were divided into transactions.
 *	D2. A session closes when the watermark has passed its end, not when it has
 *		reached it; its mark is therefore a microsecond less than the watermark.
 *	D3. A row of a view that only filters keeps its event time, and carries the
 *		watermark before its event: what is late for the reader is a function of
 *		the events, too.
 *
 * Rows that change
 *	D4. What readers without windows get of a transaction is the rows of all groups
 *		that changed in it, as they were, to be taken back, and then as they are
 *		now; and then a mark.  Added up, all rows before a mark are the rows of the
 *		view after some transaction of its worker's.
 *	D5. Readers with windows get rows of windows that are given up, in the
 *		transaction that does it.  Nothing can change those any more, and their
 *		mark is how far windows were given up: D1 holds.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "catalog/tables.h"
#include "sink/feed_log.h"
#include "sink/output.h"
#include "source/local/layout.h"
#include "source/local/local.h"
#include "window/window.h"

struct CqFeedLog
{
	Oid relation;
	CqLocalLayout layout;
	CqDerivedTime time;
	Oid range_type; /* CQ_TIME_RANGE */
	bool is_session;
	CqFeedMode mode;
	int own;	  /* columns before those that are always there */
	int ncolumns; /* of the view */

	/* of one transaction */
	Relation table;
	CqOutput *output;
	bool amid; /* rows were written that changed together, and no mark since */
	TimestampTz now;
	Datum *values;
	bool *nulls;
};

static void row_begin(CqFeedLog *log);
static void row_write(CqFeedLog *log);
static bool row_time(const CqFeedLog *log, const Datum *values, const bool *nulls,
					 TimestampTz *time);

CqFeedLog *
cq_feed_log_create(const CqFeed *feed, const CqPlan *plan)
{
	CqFeedLog *log = palloc0(sizeof(CqFeedLog));
	int natts = cq_relation_natts(feed->relation);

	log->relation = feed->relation;
	cq_local_layout_load(feed->relation, &log->layout);
	log->time = feed->time;
	log->is_session = plan->window.kind == CQ_WINDOW_SESSION;
	/* the view may have got more since */
	log->ncolumns = natts - cq_feed_own_columns(feed);
	log->mode = feed->mode;
	log->own = CQ_LOCAL_FIXED_COLUMNS + log->ncolumns + (feed->mode == CQ_FEED_ROWS ? 0 : 1);
	if (feed->time.role == CQ_TIME_RANGE)
		log->range_type = TupleDescAttr(plan->result_desc, feed->time.column - 1)->atttypid;
	log->values = palloc(sizeof(Datum) * (natts + CQ_LOCAL_FIXED_COLUMNS));
	log->nulls = palloc(sizeof(bool) * (natts + CQ_LOCAL_FIXED_COLUMNS));
	return log;
}

bool
cq_feed_log_lock(CqFeedLog *log)
{
	Oid table;

	log->table = NULL;
	if (!ConditionalLockRelationOid(log->relation, AccessShareLock))
		return false;
	/* with its lock it stays, or is gone */
	if (get_rel_name(log->relation) == NULL)
		return true;
	table = log->layout.tables[cq_local_current_table(&log->layout)];
	if (!ConditionalLockRelationOid(table, RowExclusiveLock))
		return false;
	log->table = table_open(table, NoLock);
	return true;
}

void
cq_feed_log_begin(CqFeedLog *log)
{
	if (log->table == NULL)
		return;
	log->output = cq_output_begin(log->table);
	log->now = GetCurrentTimestamp();
	log->amid = false;
}

CqFeedMode
cq_feed_log_mode(const CqFeedLog *log)
{
	return log->mode;
}

bool
cq_feed_log_is_before(const CqFeedLog *log, const Datum *values, const bool *nulls,
					  TimestampTz watermark)
{
	TimestampTz time;

	/* D2 */
	return !TIMESTAMP_IS_NOBEGIN(watermark) && row_time(log, values, nulls, &time) &&
		   time < (log->is_session ? watermark - 1 : watermark);
}

void
cq_feed_log_row(CqFeedLog *log, const Datum *values, const bool *nulls, bool retracts,
				TimestampTz mark)
{
	Datum *own = log->values + log->own;
	bool *own_nulls = log->nulls + log->own;
	TimestampTz time;

	if (log->output == NULL)
		return;
	row_begin(log);
	memcpy(log->values + CQ_LOCAL_FIXED_COLUMNS, values, sizeof(Datum) * log->ncolumns);
	memcpy(log->nulls + CQ_LOCAL_FIXED_COLUMNS, nulls, sizeof(bool) * log->ncolumns);
	if (log->mode != CQ_FEED_ROWS)
	{
		own[-1] = BoolGetDatum(retracts);
		own_nulls[-1] = false;
	}
	own_nulls[0] = !row_time(log, values, nulls, &time);
	if (!own_nulls[0])
		own[0] = TimestampTzGetDatum(time);
	own[1] = TimestampTzGetDatum(mark);
	own_nulls[1] = TIMESTAMP_NOT_FINITE(mark);
	own[2] = BoolGetDatum(false);
	own_nulls[2] = false;
	log->amid = log->mode == CQ_FEED_CHANGES;
	row_write(log);
}

void
cq_feed_log_mark(CqFeedLog *log, TimestampTz watermark)
{
	Datum *own = log->values + log->own;
	bool *own_nulls = log->nulls + log->own;

	bool is_news = log->time.role != CQ_TIME_NONE && !TIMESTAMP_NOT_FINITE(watermark);

	if (log->output == NULL || (!is_news && !log->amid))
		return;
	row_begin(log);
	memset(log->nulls + CQ_LOCAL_FIXED_COLUMNS, true, sizeof(bool) * log->ncolumns);
	if (log->mode != CQ_FEED_ROWS)
		own_nulls[-1] = true;
	own_nulls[0] = true;
	/* D2 */
	own[1] = TimestampTzGetDatum(log->is_session ? watermark - 1 : watermark);
	own_nulls[1] = !is_news;
	log->amid = false;
	own[2] = BoolGetDatum(true);
	own_nulls[2] = false;
	row_write(log);
}

/* As an INSERT into a local stream would, see local/insert.c. */
static void
row_begin(CqFeedLog *log)
{
	memset(log->nulls, false, sizeof(bool) * CQ_LOCAL_FIXED_COLUMNS);
	log->values[CQ_LOCAL_ERA - 1] = Int32GetDatum(log->layout.era);
	log->values[CQ_LOCAL_XID - 1] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	log->values[CQ_LOCAL_SEQ - 1] = Int64GetDatum(nextval_internal(log->layout.sequence, false));
	log->values[CQ_LOCAL_INSERTED_AT - 1] = TimestampTzGetDatum(log->now);
}

static void
row_write(CqFeedLog *log)
{
	cq_output_insert(log->output, log->values, log->nulls);
}

static bool
row_time(const CqFeedLog *log, const Datum *values, const bool *nulls, TimestampTz *time)
{
	int column = log->time.column - 1;
	TimestampTz start;

	if (log->time.role == CQ_TIME_NONE || nulls[column])
		return false;
	if (log->time.role == CQ_TIME_RANGE)
		cq_window_range_bounds(log->range_type, values[column], &start, time);
	else
		*time = DatumGetTimestampTz(values[column]);
	if (log->time.role == CQ_TIME_EVENT || TIMESTAMP_NOT_FINITE(*time))
		return true;
	/* D1 */
	*time += (log->time.role == CQ_TIME_START ? log->time.window_us : 0) - 1;
	return true;
}

void
cq_feed_log_end(CqFeedLog *log)
{
	if (log->output == NULL)
		return;
	if (cq_output_end(log->output) > 0)
		cq_local_inserted(log->relation);
	log->output = NULL;
}

void
cq_feed_log_close(CqFeedLog *log)
{
	cq_feed_log_end(log);
	if (log->table)
		table_close(log->table, NoLock);
	log->table = NULL;
}
