/*
 * checkpoints.c
 *	  Rows of pipeline_data.checkpoints: how far each task is.
 *
 * A row is written by its task's worker alone, once per checkpoint, in the
 * transaction that also writes results and state.  The worker remembers where
 * its row is and takes exactly that version (compare-and-set), which keeps a
 * second worker of the same task, should there ever be one, from committing.
 *
 * Invariant
 *	C1. Between load and write, the version at checkpoint->tid is the newest one
 *		that this worker knows.  If it is not the newest there is, cq_checkpoint_lock
 *		raises CQ_ERRCODE_FENCED.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/rows.h"
#include "catalog/tables.h"
#include "errors.h"

#define PACK_VERSION 3

enum
{
	COL_TASK = 1,
	COL_OWNER_EPOCH,
	COL_SEQ,
	COL_CLOSED_TO,
	COL_NEXT_GID,
	COL_EVENTS_IN,
	COL_FILTERED,
	COL_UNMATCHED,
	COL_LATE,
	COL_DEAD_LETTERS,
	COL_RETRIED,
	COL_SKIPPED,
	COL_LOST,
	COL_ROWS_OUT,
	COL_BYTES_IN,
	COL_WINDOWS_CLOSED,
	COL_ROWS_EXPIRED,
	COL_CHECKPOINT_US,
	COL_COMMITTED_AT,
	COL_PARTITIONS,
	COL_FROZEN_TO,
	COL_TOLD_WINDOWS,
	COL_TOLD_UPTO,
	COL_ROWS_KEPT,
	COL_STATE_DIGEST,
	COL_COUNT = COL_STATE_DIGEST
};

PG_FUNCTION_INFO_V1(cq_partitions);

static bool checkpoint_lock(CqCheckpoint *checkpoint);
static bool row_is_ours(Relation rel, const CqCheckpoint *checkpoint);
static HeapTuple checkpoint_form(Relation rel, const CqCheckpoint *checkpoint);
static void checkpoint_from_row(Relation rel, HeapTuple row, CqCheckpoint *checkpoint);
static bytea *partitions_pack(const CqPartition *partitions, int npartitions, TimestampTz mark);
static CqPartition *partitions_unpack(bytea *packed, int *npartitions, TimestampTz *mark);
static Datum interval_datum(int64 us);

void
cq_checkpoint_insert(int64 task)
{
	Relation rel = cq_table_open("checkpoints", RowExclusiveLock);
	CqCheckpoint first = {0};

	first.task = task;
	first.closed_to = DT_NOBEGIN;
	first.frozen_to = DT_NOBEGIN;
	first.stream_mark = DT_NOBEGIN;
	first.told_upto = DT_NOBEGIN;
	first.next_gid = 1;
	first.has_digest = true;
	CatalogTupleInsert(rel, checkpoint_form(rel, &first));
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

bool
cq_checkpoint_load(int64 task, CqCheckpoint *checkpoint)
{
	Relation rel = cq_table_open("checkpoints", AccessShareLock);
	HeapTuple row = cq_table_find(rel, COL_TASK, Int64GetDatum(task));

	if (HeapTupleIsValid(row))
		checkpoint_from_row(rel, row, checkpoint);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(row);
}

bool
cq_checkpoint_take(int64 task, CqCheckpoint *checkpoint)
{
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		InvalidateCatalogSnapshot();
		if (!cq_checkpoint_load(task, checkpoint))
			return false;
		if (checkpoint_lock(checkpoint))
			return true;
	}
}

void
cq_checkpoint_lock(CqCheckpoint *checkpoint)
{
	if (!checkpoint_lock(checkpoint))
		ereport(ERROR,
				errcode(CQ_ERRCODE_FENCED),
				errmsg("position of task %lld was changed by somebody else",
					   (long long) checkpoint->task));
}

/* False if the row is not the one that was loaded any more. */
static bool
checkpoint_lock(CqCheckpoint *checkpoint)
{
	Relation rel = cq_table_open("checkpoints", RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TM_FailureData failure;
	TM_Result result;
	bool same;
	bool isnull;

	if (!row_is_ours(rel, checkpoint))
	{
		HeapTuple row = cq_table_find(rel, COL_TASK, Int64GetDatum(checkpoint->task));

		if (HeapTupleIsValid(row))
			checkpoint->tid = row->t_self;
	}
	result = table_tuple_lock(rel,
							  &checkpoint->tid,
							  GetActiveSnapshot(),
							  slot,
							  GetCurrentCommandId(false),
							  LockTupleNoKeyExclusive,
							  LockWaitBlock,
							  0,
							  &failure);
	same = result == TM_Ok &&
		   DatumGetInt64(slot_getattr(slot, COL_TASK, &isnull)) == checkpoint->task &&
		   DatumGetInt64(slot_getattr(slot, COL_SEQ, &isnull)) == checkpoint->seq;
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return same;
}

/*
 * Is the row still at its place?  VACUUM FULL moves it, and then there may be
 * nothing at all where it was.
 */
static bool
row_is_ours(Relation rel, const CqCheckpoint *checkpoint)
{
	ItemPointerData tid = checkpoint->tid;
	TupleTableSlot *slot;
	bool ours;
	bool isnull;

	if (ItemPointerGetBlockNumber(&tid) >= RelationGetNumberOfBlocks(rel))
		return false;
	slot = table_slot_create(rel, NULL);
	ours = table_tuple_fetch_row_version(rel, &tid, GetActiveSnapshot(), slot) &&
		   DatumGetInt64(slot_getattr(slot, COL_TASK, &isnull)) == checkpoint->task;
	ExecDropSingleTupleTableSlot(slot);
	return ours;
}

void
cq_checkpoint_write(CqCheckpoint *checkpoint)
{
	Relation rel = cq_table_open("checkpoints", RowExclusiveLock);
	HeapTuple row;

	checkpoint->seq++;
	row = checkpoint_form(rel, checkpoint);
	CatalogTupleUpdate(rel, &checkpoint->tid, row);
	checkpoint->tid = row->t_self;
	heap_freetuple(row);
	table_close(rel, NoLock);
}

static HeapTuple
checkpoint_form(Relation rel, const CqCheckpoint *checkpoint)
{
	const CqCounters *counters = &checkpoint->counters;
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT] = {false};

	values[COL_TASK - 1] = Int64GetDatum(checkpoint->task);
	values[COL_OWNER_EPOCH - 1] = Int64GetDatum(checkpoint->owner_epoch);
	values[COL_SEQ - 1] = Int64GetDatum(checkpoint->seq);
	values[COL_CLOSED_TO - 1] = TimestampTzGetDatum(checkpoint->closed_to);
	nulls[COL_CLOSED_TO - 1] = TIMESTAMP_IS_NOBEGIN(checkpoint->closed_to);
	values[COL_NEXT_GID - 1] = Int64GetDatum(checkpoint->next_gid);
	values[COL_EVENTS_IN - 1] = Int64GetDatum(counters->events_in);
	values[COL_FILTERED - 1] = Int64GetDatum(counters->filtered);
	values[COL_UNMATCHED - 1] = Int64GetDatum(counters->unmatched);
	values[COL_LATE - 1] = Int64GetDatum(counters->late);
	values[COL_DEAD_LETTERS - 1] = Int64GetDatum(counters->dead_letters);
	values[COL_RETRIED - 1] = Int64GetDatum(counters->retried);
	values[COL_SKIPPED - 1] = Int64GetDatum(counters->skipped);
	values[COL_LOST - 1] = Int64GetDatum(counters->lost);
	values[COL_ROWS_OUT - 1] = Int64GetDatum(counters->rows_out);
	values[COL_BYTES_IN - 1] = Int64GetDatum(counters->bytes_in);
	values[COL_WINDOWS_CLOSED - 1] = Int64GetDatum(counters->windows_closed);
	values[COL_ROWS_EXPIRED - 1] = Int64GetDatum(counters->rows_expired);
	values[COL_CHECKPOINT_US - 1] = Int64GetDatum(counters->checkpoint_us);
	values[COL_COMMITTED_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[COL_PARTITIONS - 1] = PointerGetDatum(
		partitions_pack(checkpoint->partitions, checkpoint->npartitions, checkpoint->stream_mark));
	values[COL_FROZEN_TO - 1] = TimestampTzGetDatum(checkpoint->frozen_to);
	nulls[COL_FROZEN_TO - 1] = TIMESTAMP_IS_NOBEGIN(checkpoint->frozen_to);
	values[COL_TOLD_WINDOWS - 1] = Int64GetDatum(checkpoint->told_windows);
	values[COL_TOLD_UPTO - 1] = TimestampTzGetDatum(checkpoint->told_upto);
	nulls[COL_TOLD_UPTO - 1] = TIMESTAMP_IS_NOBEGIN(checkpoint->told_upto);
	values[COL_ROWS_KEPT - 1] = Int64GetDatum(counters->rows_kept);
	values[COL_STATE_DIGEST - 1] = Int64GetDatum((int64) checkpoint->state_digest);
	nulls[COL_STATE_DIGEST - 1] = !checkpoint->has_digest;
	return heap_form_tuple(RelationGetDescr(rel), values, nulls);
}

static void
checkpoint_from_row(Relation rel, HeapTuple row, CqCheckpoint *checkpoint)
{
	CqCounters *counters = &checkpoint->counters;
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT];

	heap_deform_tuple(row, RelationGetDescr(rel), values, nulls);
	checkpoint->task = DatumGetInt64(values[COL_TASK - 1]);
	checkpoint->owner_epoch = DatumGetInt64(values[COL_OWNER_EPOCH - 1]);
	checkpoint->seq = DatumGetInt64(values[COL_SEQ - 1]);
	checkpoint->closed_to =
		nulls[COL_CLOSED_TO - 1] ? DT_NOBEGIN : DatumGetTimestampTz(values[COL_CLOSED_TO - 1]);
	checkpoint->next_gid = DatumGetInt64(values[COL_NEXT_GID - 1]);
	counters->events_in = DatumGetInt64(values[COL_EVENTS_IN - 1]);
	counters->filtered = DatumGetInt64(values[COL_FILTERED - 1]);
	counters->unmatched = DatumGetInt64(values[COL_UNMATCHED - 1]);
	counters->late = DatumGetInt64(values[COL_LATE - 1]);
	counters->dead_letters = DatumGetInt64(values[COL_DEAD_LETTERS - 1]);
	counters->retried = DatumGetInt64(values[COL_RETRIED - 1]);
	counters->skipped = DatumGetInt64(values[COL_SKIPPED - 1]);
	counters->lost = DatumGetInt64(values[COL_LOST - 1]);
	counters->rows_out = DatumGetInt64(values[COL_ROWS_OUT - 1]);
	counters->bytes_in = DatumGetInt64(values[COL_BYTES_IN - 1]);
	counters->windows_closed = DatumGetInt64(values[COL_WINDOWS_CLOSED - 1]);
	counters->rows_expired = DatumGetInt64(values[COL_ROWS_EXPIRED - 1]);
	counters->checkpoint_us = DatumGetInt64(values[COL_CHECKPOINT_US - 1]);
	checkpoint->partitions = partitions_unpack(DatumGetByteaPP(values[COL_PARTITIONS - 1]),
											   &checkpoint->npartitions,
											   &checkpoint->stream_mark);
	checkpoint->frozen_to =
		nulls[COL_FROZEN_TO - 1] ? DT_NOBEGIN : DatumGetTimestampTz(values[COL_FROZEN_TO - 1]);
	checkpoint->told_windows = DatumGetInt64(values[COL_TOLD_WINDOWS - 1]);
	checkpoint->told_upto =
		nulls[COL_TOLD_UPTO - 1] ? DT_NOBEGIN : DatumGetTimestampTz(values[COL_TOLD_UPTO - 1]);
	counters->rows_kept = DatumGetInt64(values[COL_ROWS_KEPT - 1]);
	checkpoint->has_digest = !nulls[COL_STATE_DIGEST - 1];
	checkpoint->state_digest =
		checkpoint->has_digest ? (uint64) DatumGetInt64(values[COL_STATE_DIGEST - 1]) : 0;
	checkpoint->tid = row->t_self;
}

void
cq_counters_add(CqCounters *counters, const CqCounters *more)
{
	counters->events_in += more->events_in;
	counters->filtered += more->filtered;
	counters->unmatched += more->unmatched;
	counters->late += more->late;
	counters->dead_letters += more->dead_letters;
	counters->retried += more->retried;
	counters->skipped += more->skipped;
	counters->lost += more->lost;
	counters->rows_out += more->rows_out;
	counters->bytes_in += more->bytes_in;
	counters->windows_closed += more->windows_closed;
	counters->rows_expired += more->rows_expired;
	counters->checkpoint_us += more->checkpoint_us;
	counters->rows_kept += more->rows_kept;
}

static bytea *
partitions_pack(const CqPartition *partitions, int npartitions, TimestampTz mark)
{
	StringInfoData buf;
	int i;

	pq_begintypsend(&buf);
	pq_sendint8(&buf, PACK_VERSION);
	pq_sendint64(&buf, mark);
	pq_sendint32(&buf, npartitions);
	for (i = 0; i < npartitions; i++)
	{
		const CqPartition *p = &partitions[i];
		int cursor_len = p->cursor ? (int) strlen(p->cursor) : -1;

		pq_sendint32(&buf, p->stream);
		pq_sendint32(&buf, p->id);
		pq_sendint64(&buf, p->next_offset);
		pq_sendint64(&buf, p->start_offset);
		pq_sendint32(&buf, p->leader_epoch);
		pq_sendint64(&buf, p->anchor_offset);
		pq_sendint64(&buf, (int64) p->anchor_hash);
		pq_sendint64(&buf, p->max_event_time);
		pq_sendint64(&buf, p->max_disorder_us);
		pq_sendint64(&buf, p->out_of_orderness_us);
		pq_sendint32(&buf, cursor_len);
		if (cursor_len >= 0)
			pq_sendbytes(&buf, p->cursor, cursor_len);
	}
	return pq_endtypsend(&buf);
}

static CqPartition *
partitions_unpack(bytea *packed, int *npartitions, TimestampTz *mark)
{
	StringInfoData buf;
	CqPartition *partitions;
	int version;
	int i;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
	version = pq_getmsgbyte(&buf);
	if (version != PACK_VERSION)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("position has format %d, which this version of pipeline_ext does not know",
					   version));
	*mark = pq_getmsgint64(&buf);
	*npartitions = (int) pq_getmsgint(&buf, 4);
	partitions = palloc0(sizeof(CqPartition) * Max(*npartitions, 1));
	for (i = 0; i < *npartitions; i++)
	{
		CqPartition *p = &partitions[i];
		int cursor_len;

		p->stream = (int32) pq_getmsgint(&buf, 4);
		p->id = (int32) pq_getmsgint(&buf, 4);
		p->next_offset = pq_getmsgint64(&buf);
		p->start_offset = pq_getmsgint64(&buf);
		p->leader_epoch = (int32) pq_getmsgint(&buf, 4);
		p->anchor_offset = pq_getmsgint64(&buf);
		p->anchor_hash = (uint64) pq_getmsgint64(&buf);
		p->max_event_time = pq_getmsgint64(&buf);
		p->max_disorder_us = pq_getmsgint64(&buf);
		p->out_of_orderness_us = pq_getmsgint64(&buf);
		cursor_len = (int) pq_getmsgint(&buf, 4);
		if (cursor_len >= 0)
			p->cursor = pnstrdup(pq_getmsgbytes(&buf, cursor_len), cursor_len);
		p->end_offset = CQ_OFFSET_UNKNOWN;
	}
	pfree(buf.data);
	return partitions;
}

static Datum
interval_datum(int64 us)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = us;
	return IntervalPGetDatum(interval);
}

/* SQL: the packed partitions of a checkpoint, a row each. */
Datum
cq_partitions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CqPartition *partitions;
	TimestampTz mark;
	int npartitions;
	int i;

	InitMaterializedSRF(fcinfo, 0);
	partitions = partitions_unpack(PG_GETARG_BYTEA_PP(0), &npartitions, &mark);
	for (i = 0; i < npartitions; i++)
	{
		CqPartition *p = &partitions[i];
		Datum values[8];
		bool nulls[8] = {false};

		values[0] = Int32GetDatum(p->stream);
		values[1] = Int32GetDatum(p->id);
		values[2] = Int64GetDatum(p->next_offset);
		values[3] = Int64GetDatum(p->start_offset);
		values[4] = p->cursor ? CStringGetTextDatum(p->cursor) : (Datum) 0;
		nulls[4] = p->cursor == NULL;
		values[5] = TimestampTzGetDatum(p->max_event_time);
		nulls[5] = TIMESTAMP_IS_NOBEGIN(p->max_event_time);
		values[6] = interval_datum(p->max_disorder_us);
		values[7] = interval_datum(p->out_of_orderness_us);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
