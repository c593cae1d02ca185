/*
 * local_source.c
 *	  A local stream as a source: reading by differences of snapshots.
 *
 * A reader's position is a snapshot "old": the rows of all transactions that
 * had ended in it are read.  To go on, it takes a snapshot "new" and reads the
 * rows of the transactions that had ended in new and not in old; then new is
 * the position.  A slow transaction's rows are read when it has committed,
 * whatever numbers its rows have; an unrelated long transaction is merely one
 * more id in the snapshots.  Aborted transactions and subtransactions are no
 * concern: their rows are invisible like everywhere.
 *
 * A difference may be larger than a batch, or than a checkpoint, so a position
 * can also be inside one: old, new and the last row read.  For that, a
 * difference has an order that is the same in every later transaction: that of
 * the index, (transaction id, sequence number), which also needs no sort.  With
 * one writer at a time it is the order of insertion, as is the order of
 * sequence numbers alone; with several neither says anything about time.
 *
 * New is made from the transaction's active snapshot, under which the rows are
 * fetched too; when the difference is continued in a later transaction, what
 * had ended in new has ended all the more.
 *
 * Invariants
 *	L1. A row is handed out in exactly one difference: its transaction had not
 *		ended in old and had in new, and the next old is this new.
 *	L2. Rows behind a saved position are not removed (trim.c).
 *	L3. An era is left only when all its rows were read; they are final by then
 *		(storage.c), so its last difference reads all that is left.
 *
 * What can change unnoticed by this process - commits of other sessions - is
 * known by a counter in shared memory that every transaction with an id bumps
 * when it ends.  It is read outside of transactions, hence before the snapshot
 * of the next poll is taken, so that "nothing ended since" errs on the safe
 * side only.  COMMIT PREPARED bumps it too but sets no latch: its rows are seen
 * when the worker next looks, at the latest after its longest wait.
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "compat.h"
#include "source/local/layout.h"
#include "source/local/merge.h"
#include "source/local/position.h"
#include "source/source.h"

/* A poll ends early with this much in memory. */
#define POLL_BYTES (8 * 1024 * 1024)

/* Longest that a transaction may have inserted without its keeping the stream from being idle. */
#define WRITER_CHECK_US (100 * 1000)

typedef struct LocalSource
{
	CqSource base;
	CqPartition partition;
	MemoryContext position_context; /* holds position */
	MemoryContext poll_context;		/* holds records */
	CqLocalPosition position;		/* taken over so far */
	char *opened_at;				/* position at opening */

	/* of the last poll */
	uint64 *xids; /* of the records */
	int npolled;
	bool exhausted; /* nothing of the difference is left behind them */

	/* as of outside of transactions last, and when the difference began */
	uint64 completions; /* of transactions, in the whole cluster */
	int64 marks;		/* tickets of mark_end() given out */
	uint64 completions_at_new;
	int64 marks_at_new;

	/* up to where everything was read and taken over */
	uint64 completions_read; /* 0 = look again */
	int64 marks_read;

	MemoryContext limit_context;
	CqLocalPosition *limit; /* read no further; NULL = as far as there is */

	bool writer_open; /* a transaction may have rows that it has not committed */
	int64 writer_checked_us;
} LocalSource;

/* The hidden tables as seen by one poll. */
typedef struct PollTables
{
	CqLocalLayout layout;
	Relation stream;
	CqLocalMerge *merge;
	CqLocalColumns *columns[CQ_LOCAL_TABLES];
} PollTables;

static int local_poll(CqSource *base, int max);
static void local_advance(CqSource *base, int n);
static void local_seek(CqSource *base);
static bool local_ready(CqSource *base);
static bool local_maintain(CqSource *base);
static int64 local_mark_end(CqSource *base);
static bool local_reached(CqSource *base, int64 ticket);
static CqPlace local_place(CqSource *base, const CqPartition *partitions, int npartitions);
static void local_limit(CqSource *base, const CqPartition *partitions, int npartitions);
static bool local_unreachable(CqSource *base);
static bool local_known_since(CqSource *base, int64 at_us);
static void local_close(CqSource *base);

static void partition_open(LocalSource *source, const CqPartition *saved);
static char *first_position(const CqStream *stream);
static void position_set(LocalSource *source, const char *text);
static void position_publish(LocalSource *source);
static void difference_begin(LocalSource *source, int32 era);
static void difference_end(LocalSource *source);
static void read_difference(LocalSource *source, PollTables *tables, int max);
static void record_take(LocalSource *source, PollTables *tables, const CqLocalRow *row);
static bool limit_reached(const LocalSource *source);
static CqPlace place_between(const CqLocalLayout *layout, const CqXidSnapshot *ours,
							 const CqXidSnapshot *theirs, int32 era);
static bool rows_between(const CqLocalLayout *layout, const CqXidSnapshot *old,
						 const CqXidSnapshot *new, int32 era);
static bool row_is_wanted(const LocalSource *source, const CqLocalRow *row);
static void values_take(const CqStream *stream, PollTables *tables, const CqLocalRow *row,
						CqRecord *record);
static void look_outside(LocalSource *source);
static bool writer_exists(Oid relid);

static const CqSourceOps local_ops = {
	.poll = local_poll,
	.advance = local_advance,
	.seek = local_seek,
	.ready = local_ready,
	.has_backlog = local_ready,
	.maintain = local_maintain,
	.mark_end = local_mark_end,
	.reached = local_reached,
	.place = local_place,
	.limit = local_limit,
	.unreachable = local_unreachable,
	.known_since = local_known_since,
	.close = local_close,
};

CqSource *
cq_local_source_open(const CqStream *stream, Oid owner, const CqPartition *partitions,
					 int npartitions, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	LocalSource *source = palloc0(sizeof(LocalSource));

	source->base.ops = &local_ops;
	source->base.stream = stream;
	source->base.context = context;
	source->base.npartitions = 1;
	source->base.partitions = &source->partition;
	source->base.wakeup_fd = -1;
	cq_source_init_parts(&source->base);
	source->position_context =
		AllocSetContextCreate(context, "pipeline local position", ALLOCSET_SMALL_SIZES);
	source->limit_context =
		AllocSetContextCreate(context, "pipeline local limit", ALLOCSET_SMALL_SIZES);
	source->poll_context =
		AllocSetContextCreate(context, "pipeline local records", ALLOCSET_DEFAULT_SIZES);
	partition_open(source, npartitions > 0 ? &partitions[0] : NULL);
	MemoryContextSwitchTo(old);
	return &source->base;
}

static void
partition_open(LocalSource *source, const CqPartition *saved)
{
	CqPartition *p = &source->partition;

	p->leader_epoch = -1;
	p->anchor_offset = CQ_OFFSET_UNKNOWN;
	p->max_event_time = DT_NOBEGIN;
	if (saved)
		*p = *saved;
	p->id = 0;
	p->out_of_orderness_us = source->base.stream->out_of_orderness_us;
	p->end_offset = CQ_OFFSET_UNKNOWN;
	p->caught_up = p->idle = false;
	p->caught_up_since_us = 0;
	p->source_private = NULL;
	source->opened_at = p->cursor ? pstrdup(p->cursor) : first_position(source->base.stream);
	p->cursor = pstrdup(source->opened_at);
	position_set(source, p->cursor);
}

static char *
first_position(const CqStream *stream)
{
	CqLocalPosition position = {.era = 1};
	CqLocalLayout layout;
	Snapshot snapshot;

	cq_local_layout_load(stream->relid, &layout);
	if (stream->start == CQ_START_LATEST)
	{
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		position.era = layout.era;
		cq_xid_snapshot_take(&position.old, snapshot);
		UnregisterSnapshot(snapshot);
	}
	else
		cq_xid_snapshot_nothing(&position.old);
	return cq_local_position_format(&position);
}

/* Also forgets what was polled: it may not follow from this position. */
static void
position_set(LocalSource *source, const char *text)
{
	MemoryContext old;

	MemoryContextReset(source->position_context);
	old = MemoryContextSwitchTo(source->position_context);
	cq_local_position_parse(text, &source->position);
	MemoryContextSwitchTo(old);
	source->npolled = 0;
	source->exhausted = false;
	source->completions_read = 0;
	source->marks_read = 0;
}

static void
position_publish(LocalSource *source)
{
	CqPartition *p = &source->partition;
	MemoryContext old = MemoryContextSwitchTo(source->base.context);
	char *cursor = cq_local_position_format(&source->position);

	if (p->cursor)
		pfree(p->cursor);
	p->cursor = cursor;
	MemoryContextSwitchTo(old);
}

static int
local_poll(CqSource *base, int max)
{
	LocalSource *source = (LocalSource *) base;
	CqPartition *p = &source->partition;
	PollTables tables = {0};
	MemoryContext old;

	MemoryContextReset(source->poll_context);
	old = MemoryContextSwitchTo(source->poll_context);
	base->records = palloc(sizeof(CqRecord) * Max(max, 1));
	source->xids = palloc(sizeof(uint64) * Max(max, 1));
	source->npolled = 0;
	source->exhausted = false;
	cq_local_layout_load(base->stream->relid, &tables.layout);

	for (;;)
	{
		bool last_era = source->position.era >= tables.layout.era;

		if (!source->position.reading && limit_reached(source))
			break;
		if (!source->position.reading)
			difference_begin(source, tables.layout.era);
		read_difference(source, &tables, max);
		if (source->npolled > 0 || !source->exhausted)
			break;
		difference_end(source);
		if (last_era)
		{
			p->caught_up = !source->writer_open;
			p->end_offset = p->next_offset;
			break;
		}
	}
	if (source->npolled > 0)
		p->caught_up = false;
	if (tables.merge)
		cq_local_merge_close(tables.merge);
	if (tables.stream)
		relation_close(tables.stream, AccessShareLock);
	MemoryContextSwitchTo(old);
	return source->npolled;
}

static void
difference_begin(LocalSource *source, int32 era)
{
	CqLocalPosition *position = &source->position;
	MemoryContext old = MemoryContextSwitchTo(source->position_context);

	if (position->era < era)
		cq_xid_snapshot_everything(&position->new);
	else if (source->limit)
		cq_xid_snapshot_copy(&position->new, &source->limit->old);
	else
		cq_xid_snapshot_take(&position->new, GetActiveSnapshot());
	position->reading = true;
	position->xid = 0;
	position->seq = 0;
	source->completions_at_new = source->limit ? 0 : source->completions;
	source->marks_at_new = source->limit ? source->marks_read : source->marks;
	MemoryContextSwitchTo(old);
}

/* Everything of it was taken over. */
static void
difference_end(LocalSource *source)
{
	CqLocalPosition *position = &source->position;
	MemoryContext old = MemoryContextSwitchTo(source->poll_context);
	CqLocalPosition next = {.era = position->era};

	if (position->new.xmax == PG_UINT64_MAX)
	{
		/* L3 */
		next.era++;
		cq_xid_snapshot_nothing(&next.old);
	}
	else
	{
		cq_xid_snapshot_copy(&next.old, &position->new);
		source->completions_read = source->completions_at_new;
		source->marks_read = source->marks_at_new;
	}
	MemoryContextReset(source->position_context);
	MemoryContextSwitchTo(source->position_context);
	*position = next;
	cq_xid_snapshot_copy(&position->old, &next.old);
	MemoryContextSwitchTo(old);
}

/* Tables are opened when there is something to look for: mostly nothing has happened. */
static void
read_difference(LocalSource *source, PollTables *tables, int max)
{
	const CqStream *stream = source->base.stream;
	Size limit = MemoryContextMemAllocated(source->poll_context, true) + POLL_BYTES;
	CqXidRange *ranges;
	int nranges = cq_local_position_ranges(&source->position, &ranges);
	CqLocalRow row;
	int i;

	/* the one before, of an older era, may have been */
	source->exhausted = false;
	if (nranges > 0 && tables->merge == NULL)
	{
		tables->stream = relation_open(stream->relid, AccessShareLock);
		tables->merge = cq_local_merge_open(&tables->layout, GetActiveSnapshot());
	}
	for (i = 0; i < nranges; i++)
	{
		CHECK_FOR_INTERRUPTS();
		cq_local_merge_range(tables->merge, source->position.era, &ranges[i]);
		while (cq_local_merge_next(tables->merge, &row))
		{
			if (source->npolled >= max ||
				(source->npolled % 64 == 63 &&
				 MemoryContextMemAllocated(source->poll_context, true) > limit))
				return;
			if (row_is_wanted(source, &row))
				record_take(source, tables, &row);
			CHECK_FOR_INTERRUPTS();
		}
	}
	source->exhausted = true;
}

/* With a point in time to start from, rows inserted before it are not events of this reader. */
static bool
row_is_wanted(const LocalSource *source, const CqLocalRow *row)
{
	const CqStream *stream = source->base.stream;
	bool isnull;

	return stream->start != CQ_START_TIMESTAMP ||
		   DatumGetTimestampTz(heap_getattr(row->tuple,
											CQ_LOCAL_INSERTED_AT,
											RelationGetDescr(row->table),
											&isnull)) >= stream->start_time;
}

static void
record_take(LocalSource *source, PollTables *tables, const CqLocalRow *row)
{
	CqRecord *record = &source->base.records[source->npolled];

	MemSet(record, 0, sizeof(*record));
	record->offset = row->seq;
	values_take(source->base.stream, tables, row, record);
	source->xids[source->npolled++] = row->xid;
}

/* The tuple is copied, with what was stored out of line: its table may be gone when it is used. */
static void
values_take(const CqStream *stream, PollTables *tables, const CqLocalRow *row, CqRecord *record)
{
	TupleDesc desc = RelationGetDescr(row->table);
	CqLocalColumns *columns = tables->columns[row->table_index];
	Datum *hidden = palloc(sizeof(Datum) * desc->natts);
	bool *hidden_nulls = palloc(sizeof(bool) * desc->natts);
	HeapTuple tuple;
	int i;

	if (columns == NULL)
	{
		columns = cq_local_columns_load(tables->stream, row->table);
		tables->columns[row->table_index] = columns;
		if (columns->natts != stream->ncolumns)
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("columns of stream \"%s\" have changed", stream->name));
	}
	tuple = HeapTupleHasExternal(row->tuple) ? toast_flatten_tuple(row->tuple, desc)
											 : heap_copytuple(row->tuple);
	heap_deform_tuple(tuple, desc, hidden, hidden_nulls);
	record->timestamp = DatumGetTimestampTz(hidden[CQ_LOCAL_INSERTED_AT - 1]);
	record->values = palloc(sizeof(Datum) * Max(stream->ncolumns, 1));
	record->nulls = palloc(sizeof(bool) * Max(stream->ncolumns, 1));
	for (i = 0; i < stream->ncolumns; i++)
	{
		AttrNumber attnum = columns->hidden[i];

		record->values[i] = attnum == InvalidAttrNumber ? (Datum) 0 : hidden[attnum - 1];
		record->nulls[i] = attnum == InvalidAttrNumber || hidden_nulls[attnum - 1];
		if (columns->metadata[i] == CQ_METADATA_NONE)
			continue;
		record->values[i] = cq_local_metadata_value(columns->metadata[i],
													stream->columns[i].type,
													record->offset,
													record->timestamp);
		record->nulls[i] = false;
	}
	pfree(hidden);
	pfree(hidden_nulls);
}

static void
local_advance(CqSource *base, int n)
{
	LocalSource *source = (LocalSource *) base;
	CqPartition *p = &source->partition;

	Assert(n >= 0 && n <= source->npolled);
	if (n == 0)
		return;
	p->next_offset += n;
	source->position.xid = source->xids[n - 1];
	source->position.seq = base->records[n - 1].offset;
	if (n == source->npolled && source->exhausted)
	{
		bool last_era = source->position.new.xmax != PG_UINT64_MAX;

		difference_end(source);
		p->caught_up = last_era && !source->writer_open;
		p->end_offset = last_era ? p->next_offset : CQ_OFFSET_UNKNOWN;
	}
	else
		p->end_offset = CQ_OFFSET_UNKNOWN;
	source->npolled = 0;
	source->exhausted = false;
	position_publish(source);
}

/*
 * Before the first checkpoint nothing is saved, and the caller has nothing to
 * put into the partition: as long as no row was taken over, the position is
 * where the source was opened.
 */
static void
local_seek(CqSource *base)
{
	LocalSource *source = (LocalSource *) base;
	CqPartition *p = &source->partition;

	if (p->next_offset == 0)
		p->cursor = MemoryContextStrdup(base->context, source->opened_at);
	position_set(source, p->cursor);
	p->caught_up = false;
	p->end_offset = CQ_OFFSET_UNKNOWN;
}

static bool
local_ready(CqSource *base)
{
	LocalSource *source = (LocalSource *) base;

	look_outside(source);
	return source->position.reading || source->npolled > 0 ||
		   source->completions_read != cq_compat_xact_completion_count();
}

/* Inside a transaction its snapshot may be older than what would be seen now. */
static void
look_outside(LocalSource *source)
{
	if (IsTransactionState())
		return;
	source->completions = cq_compat_xact_completion_count();
}

/*
 * The stream is not idle while a transaction that has inserted into it is open.
 * When it ends, a poll must have looked for its rows before the stream counts
 * as caught up again.
 */
static bool
local_maintain(CqSource *base)
{
	LocalSource *source = (LocalSource *) base;
	CqPartition *p = &source->partition;
	int64 now = cq_clock_us() + cq_clock_shift_us();

	look_outside(source);
	if (base->stream->idle_timeout_us < 0 || !(p->caught_up || source->writer_open) ||
		now - source->writer_checked_us < WRITER_CHECK_US)
		return false;
	source->writer_checked_us = now;
	if (writer_exists(base->stream->relid))
	{
		source->writer_open = true;
		p->caught_up = false;
	}
	else if (source->writer_open)
	{
		source->writer_open = false;
		source->completions_read = 0;
	}
	return false;
}

/*
 * Writers hold RowExclusiveLock on the foreign table until their transaction
 * has ended, prepared ones included.  A transaction gives up its place in the
 * list of lock holders inside the critical section that makes it visible;
 * passing through that lock makes sure that the counter says so too.
 */
static bool
writer_exists(Oid relid)
{
	VirtualTransactionId *holders;
	LOCKTAG tag;
	int n;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	holders = GetLockConflicts(&tag, ShareLock, &n);
	pfree(holders);
	if (n == 0)
	{
		LWLockAcquire(ProcArrayLock, LW_SHARED);
		LWLockRelease(ProcArrayLock);
	}
	return n > 0;
}

static int64
local_mark_end(CqSource *base)
{
	LocalSource *source = (LocalSource *) base;

	/* a snapshot taken before could not show what is to be reached */
	Assert(!IsTransactionState());
	return ++source->marks;
}

static bool
local_reached(CqSource *base, int64 ticket)
{
	return ((LocalSource *) base)->marks_read >= ticket;
}

/*
 * Two positions that are whole snapshots can be told apart only by rows of
 * transactions that had ended in one of them alone; mostly there are none.
 */
static CqPlace
local_place(CqSource *base, const CqPartition *partitions, int npartitions)
{
	LocalSource *source = (LocalSource *) base;
	const CqLocalPosition *ours = &source->position;
	CqLocalPosition theirs;
	CqLocalLayout layout;
	char *text;

	if (npartitions != 1 || partitions[0].cursor == NULL)
		return CQ_PLACE_APART;
	text = cq_local_position_format(ours);
	if (strcmp(text, partitions[0].cursor) == 0)
		return CQ_PLACE_SAME;
	cq_local_position_parse(partitions[0].cursor, &theirs);
	if (ours->reading || theirs.reading || ours->era != theirs.era)
		return CQ_PLACE_APART;
	cq_local_layout_load(base->stream->relid, &layout);
	return place_between(&layout, &ours->old, &theirs.old, ours->era);
}

static CqPlace
place_between(const CqLocalLayout *layout, const CqXidSnapshot *ours, const CqXidSnapshot *theirs,
			  int32 era)
{
	if (cq_xid_snapshot_within(ours, theirs))
		return rows_between(layout, ours, theirs, era) ? CQ_PLACE_BEHIND : CQ_PLACE_SAME;
	if (cq_xid_snapshot_within(theirs, ours))
		return rows_between(layout, theirs, ours, era) ? CQ_PLACE_AHEAD : CQ_PLACE_SAME;
	return CQ_PLACE_APART;
}

/* All these transactions have ended, so a snapshot of now sees what they left. */
static bool
rows_between(const CqLocalLayout *layout, const CqXidSnapshot *old, const CqXidSnapshot *new,
			 int32 era)
{
	CqLocalPosition position = {.era = era, .old = *old, .reading = true, .new = *new};
	CqXidRange *ranges;
	int nranges = cq_local_position_ranges(&position, &ranges);
	CqLocalMerge *merge;
	CqLocalRow row;
	bool found = false;
	int i;

	if (nranges == 0)
		return false;
	merge = cq_local_merge_open(layout, GetActiveSnapshot());
	for (i = 0; i < nranges && !found; i++)
	{
		cq_local_merge_range(merge, era, &ranges[i]);
		found = cq_local_merge_next(merge, &row);
	}
	cq_local_merge_close(merge);
	return found;
}

static void
local_limit(CqSource *base, const CqPartition *partitions, int npartitions)
{
	LocalSource *source = (LocalSource *) base;
	MemoryContext old;

	source->limit = NULL;
	MemoryContextReset(source->limit_context);
	if (partitions == NULL || npartitions != 1 || partitions[0].cursor == NULL)
		return;
	old = MemoryContextSwitchTo(source->limit_context);
	source->limit = palloc(sizeof(CqLocalPosition));
	cq_local_position_parse(partitions[0].cursor, source->limit);
	MemoryContextSwitchTo(old);
}

/* A limit is only set where it is a whole snapshot: local_place() says APART otherwise. */
static bool
limit_reached(const LocalSource *source)
{
	const CqLocalPosition *limit = source->limit;

	return limit && source->position.era >= limit->era &&
		   (source->position.era > limit->era || limit->reading ||
			cq_xid_snapshot_within(&limit->old, &source->position.old));
}

static bool
local_unreachable(CqSource *base)
{
	return false;
}

/* Whoever goes by it polls before. */
static bool
local_known_since(CqSource *base, int64 at_us)
{
	return true;
}

/* Everything is memory of the caller's context. */
static void
local_close(CqSource *base)
{
}
