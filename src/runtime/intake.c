/*
 * intake.c
 *	  From polled records to a batch of events: decode, event time, watermark.
 *
 * What is settled here is settled in the order of the records and before any
 * plan runs, so it depends on neither what a plan pulls nor on where a batch
 * ends (P3).  A record that cannot be decoded never becomes an event.
 *
 * Input functions may throw.  A batch is decoded inside one subtransaction; a
 * throw ends it, the record that was being decoded is set aside, and decoding
 * goes on behind it in another one.  These subtransactions only read, so they
 * get no transaction id.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "catalog/feeds.h"
#include "clock.h"
#include "plan/stage.h"
#include "runtime/run.h"

/* Values of an event's row. */
#define ROW_VALUES(batch, i) (&(batch)->values[(Size) (i) * (batch)->natts])
#define ROW_NULLS(batch, i)	 (&(batch)->nulls[(Size) (i) * (batch)->natts])

static void batch_reset(CqRun *run, int stream, int capacity);
static const CqStream *batch_stream(const CqRun *run);
static void records_count(CqRun *run, int n);
static int decode_until_error(CqRun *run, int from, int to, TimestampTz now);
static void decode_range(CqRun *run, int from, int to, TimestampTz now, volatile int *at);
static bool feed_row(CqRun *run, const CqRecord *record);
static bool feed_gives_changes(const CqRun *run);
static bool feed_retracts(const CqRun *run, const CqRecord *record);
static void record_take(CqRun *run, int index, TimestampTz now);
static bool event_settle(CqRun *run, CqEvent *event, const CqRecord *record, TimestampTz now);
static void record_undecodable(CqRun *run, const CqRecord *record, int sqlstate,
							   const char *message);
static void record_refuse(CqRun *run, const CqRecord *record, int sqlstate, const char *message);
static const CqCondemned *record_condemned(const CqRun *run, const CqRecord *record);

int
cq_intake(CqRun *run, int max)
{
	CqSource *source = run->source;
	TimestampTz now = cq_clock_now();
	int64 began_us = cq_clock_us();
	CqRunIdentity saved;
	int n;
	int at = 0;

	run->batch.nevents = 0;
	n = source->ops->poll(source, max);
	if (n == 0)
	{
		cq_measure_batch(run, n, max, began_us);
		return 0;
	}
	batch_reset(run, source->partitions[source->records[0].partition].stream, n);
	saved = cq_run_as_owner(run);
	while (at < n)
		at = decode_until_error(run, at, n, now);
	cq_run_as_system(saved);
	records_count(run, n);
	cq_measure_batch(run, n, max, began_us);
	return n;
}

static void
batch_reset(CqRun *run, int stream, int capacity)
{
	CqBatch *batch = &run->batch;
	MemoryContext old;

	MemoryContextReset(batch->context);
	old = MemoryContextSwitchTo(batch->context);
	batch->nevents = 0;
	batch->stream = stream;
	batch->natts = run->source->parts[stream]->stream->ncolumns;
	batch->events = palloc(sizeof(CqEvent) * capacity);
	batch->values = palloc(sizeof(Datum) * capacity * Max(batch->natts, 1));
	batch->nulls = palloc(sizeof(bool) * capacity * Max(batch->natts, 1));
	MemoryContextSwitchTo(old);
}

static const CqStream *
batch_stream(const CqRun *run)
{
	return run->source->parts[run->batch.stream]->stream;
}

static void
records_count(CqRun *run, int n)
{
	CqSource *source = run->source;
	int64 bytes = 0;
	ListCell *lc;
	int i;

	for (i = 0; i < n; i++)
	{
		CqPartition *p = &source->partitions[source->records[i].partition];

		bytes += source->records[i].payload_len;
		p->last_record_at = source->records[i].timestamp;
		/* a partition that has records, good or bad, is neither idle nor on its way to it */
		p->idle = false;
		p->caught_up_since_us = p->idle_due_us = 0;
	}
	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		view->checkpoint.counters.events_in += n;
		view->checkpoint.counters.bytes_in += bytes;
	}
}

/* Returns the index of the first record that was not dealt with. */
static int
decode_until_error(CqRun *run, int from, int to, TimestampTz now)
{
	MemoryContext old_context = CurrentMemoryContext;
	ResourceOwner old_owner = CurrentResourceOwner;
	volatile int at = from;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(run->batch.context);
	PG_TRY();
	{
		decode_range(run, from, to, now, &at);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old_context);
		CurrentResourceOwner = old_owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(run->batch.context);
		error = CopyErrorData();
		if (!cq_error_is_of_record(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old_context);
		CurrentResourceOwner = old_owner;
		record_undecodable(run,
						   &run->source->records[at],
						   error->sqlerrcode,
						   cq_decode_thrown(error));
		at++;
	}
	PG_END_TRY();
	return at;
}

static void
decode_range(CqRun *run, int from, int to, TimestampTz now, volatile int *at)
{
	int i;

	for (i = from; i < to; i++)
	{
		*at = i;
		if ((i & 1023) == 1023)
			CHECK_FOR_INTERRUPTS();
		record_take(run, i, now);
	}
	*at = to;
}

static void
record_take(CqRun *run, int index, TimestampTz now)
{
	const CqRecord *record = &run->source->records[index];
	CqBatch *batch = &run->batch;
	CqEvent *event = &batch->events[batch->nevents];
	const CqCondemned *condemned;
	CqDecodeError error;

	if (batch_stream(run)->feed && !feed_row(run, record))
		return;
	if (!cq_decoder_decode(run->decoders[batch->stream],
						   record,
						   ROW_VALUES(batch, batch->nevents),
						   ROW_NULLS(batch, batch->nevents),
						   &error))
	{
		record_undecodable(run, record, error.sqlstate, error.message);
		return;
	}
	event->record = index;
	event->partition = record->partition;
	event->offset = record->offset;
	event->arrival = now;
	event->retracts = feed_retracts(run, record);
	if (!event_settle(run, event, record, now))
		return;
	condemned = record_condemned(run, record);
	/* what it leaves behind would be taken back some day, though it was never there */
	if (condemned && feed_gives_changes(run))
		cq_stop_at(run, record, condemned->sqlstate);
	if (condemned)
		record_refuse(run, record, condemned->sqlstate, condemned->message);
	else
		batch->nevents++;
}

/*
 * What another view gave out brings its watermark along, on marks between the
 * rows or on rows; it stands for the highest event time seen.  False: only a mark,
 * not an event.
 */
static bool
feed_row(CqRun *run, const CqRecord *record)
{
	int mark = run->batch.natts - 2;
	ListCell *lc;

	if (!record->nulls[mark])
		cq_watermark_see(&run->watermark,
						 run->source,
						 record->partition,
						 DatumGetTimestampTz(record->values[mark]));
	if (!DatumGetBool(record->values[mark + 1]))
	{
		if (feed_gives_changes(run))
			run->amid_changes |= 1U << run->batch.stream;
		return true;
	}
	run->amid_changes &= ~(1U << run->batch.stream);
	foreach (lc, run->views)
		((CqViewRun *) lfirst(lc))->checkpoint.counters.events_in--;
	return false;
}

static bool
feed_gives_changes(const CqRun *run)
{
	const CqFeed *feed = batch_stream(run)->feed;

	return feed && feed->mode == CQ_FEED_CHANGES;
}

static bool
feed_retracts(const CqRun *run, const CqRecord *record)
{
	return feed_gives_changes(run) && DatumGetBool(record->values[run->batch.natts - 4]);
}

/* Views that read other columns may think otherwise of the record. */
static void
record_undecodable(CqRun *run, const CqRecord *record, int sqlstate, const char *message)
{
	if (run->same_columns)
		record_refuse(run, record, sqlstate, message);
	else
		cq_dispute(run, record);
}

/* A record that is no event of any view. */
static void
record_refuse(CqRun *run, const CqRecord *record, int sqlstate, const char *message)
{
	ListCell *lc;

	foreach (lc, run->views)
		cq_dead_letter(run, lfirst(lc), record, sqlstate, message);
}

/*
 * Give the event its time and the stream's watermark before it, then move the
 * watermark.  False if it is from the future: set aside, not moving anything.
 */
static bool
event_settle(CqRun *run, CqEvent *event, const CqRecord *record, TimestampTz now)
{
	CqBatch *batch = &run->batch;
	const CqStream *stream = batch_stream(run);
	AttrNumber column = stream->event_time;
	TimestampTz limit = now;

	event->watermark = run->watermark.mark;
	event->has_time = false;
	if (column == 0)
		return true;
	if (ROW_NULLS(batch, batch->nevents)[column - 1])
		return true;
	event->time = DatumGetTimestampTz(ROW_VALUES(batch, batch->nevents)[column - 1]);
	if (TIMESTAMP_NOT_FINITE(event->time))
		return true;
	if (record->timestamp != DT_NOBEGIN)
		limit = Min(limit, record->timestamp);
	if (stream->max_ahead_us >= 0 && event->time > limit &&
		event->time - limit > stream->max_ahead_us)
	{
		record_refuse(run,
					  record,
					  ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
					  "event time is too far in the future");
		return false;
	}
	event->has_time = true;
	if (stream->feed == NULL)
		cq_watermark_see(&run->watermark, run->source, record->partition, event->time);
	return true;
}

static const CqCondemned *
record_condemned(const CqRun *run, const CqRecord *record)
{
	ListCell *lc;

	foreach (lc, run->care->condemned)
	{
		CqCondemned *condemned = lfirst(lc);

		if (condemned->offset == record->offset &&
			condemned->partition == run->source->partitions[record->partition].id &&
			condemned->stream == batch_stream(run)->relid)
			return condemned;
	}
	return NULL;
}
