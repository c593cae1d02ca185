/*
 * trim.c
 *	  Removing rows of local streams that nobody needs any more.
 *
 * Deleting rows would write each of them to the WAL a second time and leave
 * vacuum to follow.  Instead three tables take turns: one takes new rows, and
 * the others are emptied as a whole, by TRUNCATE, when all of their rows may go.
 *
 * A table may be emptied when
 *	T1. every view on the stream has read all its rows, by its committed
 *		position.  A view that has no position yet holds everything;
 *	T2. its rows are older than the stream's retention, if that is set.  A stream
 *		without views and without retention keeps everything;
 *	T3. every snapshot in use, a dump's say, was taken after T1 came true: such a
 *		snapshot sees positions that do not need the rows.  T1 is therefore noted
 *		with the next transaction id of that moment, and acted upon once the
 *		oldest snapshot has come that far.  The note is in this process; after a
 *		restart it is made again;
 *	T4. no one is reading or writing it: its exclusive lock is there for the
 *		asking.  A transaction keeps its lock on the table into which it has
 *		inserted, so with the lock the rows are all there will be, and T1 is
 *		known to hold if the last row is still the one that was noted.
 *
 * Which table takes new rows need not be known exactly (insert.c): a row that
 * lands in an old one is read and kept like every other.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/rows.h"
#include "clock.h"
#include "source/local/layout.h"
#include "source/local/local.h"
#include "source/local/merge.h"
#include "source/local/position.h"
#include "source/local/storage.h"
#include "source/options.h"
#include "source/stream.h"

/* The next table's turn comes when the current one has grown to this, or after this long. */
#define TURN_BLOCKS (8 * 1024 * 1024 / BLCKSZ)
#define TURN_US		(5 * USECS_PER_MINUTE)

/* Transactions that are looked at one by one when the reader's oldest running one is in the way. */
#define MAX_SINGLE_XIDS 1000

/* A table whose rows all views have read, as of some time. */
typedef struct TrimNote
{
	bool noted;
	int32 last_era; /* its last row */
	uint64 last_xid;
	int64 last_seq;
	TimestampTz newest;		/* insertion of its newest row; 0 = not known yet */
	TransactionId next_xid; /* T3 */
} TrimNote;

/* What this process knows about a stream that it reads. */
typedef struct TrimState
{
	Oid relid; /* InvalidOid = not used */
	TimestampTz turn_began;
	TrimNote notes[CQ_LOCAL_TABLES];
} TrimState;

static TrimState trim_states[CQ_MAX_STREAMS];
static int next_trim_state;

static TrimState *find_state(Oid relid);
static void trim_stream(TrimState *state, const CqLocalLayout *layout);
static bool load_readers(Oid relid, CqLocalPosition **readers, int *nreaders);
static const char *cursor_of(int64 id, Oid stream);
static void trim_table(const CqLocalLayout *layout, int index, TrimNote *note,
					   const CqLocalPosition *readers, int nreaders, int64 retention_us);
static void read_last_row(Relation table, TrimNote *note);
static bool same_last_row(const TrimNote *a, const TrimNote *b);
static bool all_read(Relation table, const TrimNote *note, const CqLocalPosition *readers,
					 int nreaders);
static bool reader_has_read(Relation table, const TrimNote *note, const CqLocalPosition *reader);
static TimestampTz newest_insertion(Relation table);
static bool empty_table(Oid relid, TrimNote *note);
static void take_turns(TrimState *state, const CqLocalLayout *layout, int current,
					   int64 retention_us);
static bool is_empty(Oid table);

void
cq_local_stream_trim(Oid relid)
{
	CqLocalLayout layout;

	TrimState *state = find_state(relid);

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (get_rel_name(relid) != NULL && cq_local_layout_find(relid, &layout))
		trim_stream(state, &layout);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

static TrimState *
find_state(Oid relid)
{
	TrimState *state;
	int i;

	for (i = 0; i < CQ_MAX_STREAMS; i++)
		if (trim_states[i].relid == relid)
			return &trim_states[i];
	state = &trim_states[next_trim_state];
	next_trim_state = (next_trim_state + 1) % CQ_MAX_STREAMS;
	MemSet(state, 0, sizeof(TrimState));
	state->relid = relid;
	state->turn_began = GetCurrentTimestamp();
	return state;
}

/* One process at a time: a second one would end a turn that has just begun. */
static void
trim_stream(TrimState *state, const CqLocalLayout *layout)
{
	int current = cq_local_current_table(layout);
	CqStreamOptions options;
	CqLocalPosition *readers;
	int nreaders;
	int i;

	if (!ConditionalLockRelationOid(layout->rotation, ShareUpdateExclusiveLock))
		return;
	cq_stream_options_parse(GetForeignTable(state->relid)->options, CQ_STREAM_LOCAL, &options);
	if (load_readers(state->relid, &readers, &nreaders) &&
		(nreaders > 0 || options.retention_us >= 0))
		for (i = 0; i < CQ_LOCAL_TABLES; i++)
			if (i != current)
				trim_table(layout, i, &state->notes[i], readers, nreaders, options.retention_us);
	take_turns(state, layout, current, options.retention_us);
}

/* False if a view has no position: it may want everything. */
static bool
load_readers(Oid relid, CqLocalPosition **readers, int *nreaders)
{
	List *views = cq_views_of_stream(relid);
	ListCell *lc;

	*readers = palloc(sizeof(CqLocalPosition) * (list_length(views) + 1));
	*nreaders = 0;
	foreach (lc, views)
	{
		const char *cursor = cursor_of(*(int64 *) lfirst(lc), relid);

		if (cursor == NULL)
			return false;
		cq_local_position_parse(cursor, &(*readers)[(*nreaders)++]);
	}
	return true;
}

/* Where a view is in a stream; NULL if it has no position. */
static const char *
cursor_of(int64 id, Oid stream)
{
	CqView view;
	CqCheckpoint checkpoint;
	int number = 0;
	int i;
	ListCell *lc;

	if (!cq_view_load(id, &view) || !cq_checkpoint_load(id, &checkpoint))
		return NULL;
	foreach (lc, view.streams)
		if (lfirst_oid(lc) == stream)
			number = foreach_current_index(lc);
	for (i = 0; i < checkpoint.npartitions; i++)
		if (checkpoint.partitions[i].stream == number)
			return checkpoint.partitions[i].id == CQ_HISTORY_PARTITION
					   ? NULL
					   : checkpoint.partitions[i].cursor;
	return NULL;
}

static void
trim_table(const CqLocalLayout *layout, int index, TrimNote *note, const CqLocalPosition *readers,
		   int nreaders, int64 retention_us)
{
	TrimNote now = {0};
	Relation table;
	bool due;

	table = table_open(layout->tables[index], AccessShareLock);
	if (RelationGetNumberOfBlocks(table) == 0)
	{
		note->noted = false;
		table_close(table, AccessShareLock);
		return;
	}
	read_last_row(table, &now);
	if (!note->noted || !same_last_row(note, &now))
	{
		*note = now;
		note->noted = all_read(table, &now, readers, nreaders);
		note->next_xid = XidFromFullTransactionId(ReadNextFullTransactionId());
	}
	due = note->noted &&
		  TransactionIdFollowsOrEquals(GetOldestNonRemovableTransactionId(table), note->next_xid);
	if (due && retention_us >= 0)
	{
		if (note->newest == 0)
			note->newest = newest_insertion(table);
		due = cq_clock_now() - note->newest >= retention_us;
	}
	table_close(table, AccessShareLock);
	if (due && empty_table(layout->tables[index], note))
		note->noted = false;
}

static void
read_last_row(Relation table, TrimNote *note)
{
	if (!cq_local_last_row(table,
						   GetActiveSnapshot(),
						   &note->last_era,
						   &note->last_xid,
						   &note->last_seq))
		note->last_era = 0;
}

static bool
same_last_row(const TrimNote *a, const TrimNote *b)
{
	return a->last_era == b->last_era && a->last_xid == b->last_xid && a->last_seq == b->last_seq;
}

static bool
all_read(Relation table, const TrimNote *note, const CqLocalPosition *readers, int nreaders)
{
	int i;

	for (i = 0; i < nreaders; i++)
		if (!reader_has_read(table, note, &readers[i]))
			return false;
	return true;
}

/*
 * Rows of older eras than the reader's were read, as an era is left only then.
 * Of its own era, mostly all ids are below the oldest transaction that ran when
 * it looked; else it is asked about each one from there on.
 */
static bool
reader_has_read(Relation table, const TrimNote *note, const CqLocalPosition *reader)
{
	uint64 xid = reader->old.xmin;
	int i;

	if (note->last_era != reader->era)
		return note->last_era < reader->era;
	if (note->last_xid < reader->old.xmin)
		return true;
	for (i = 0; i < MAX_SINGLE_XIDS; i++, xid++)
	{
		if (!cq_local_first_xid(table, GetActiveSnapshot(), reader->era, xid, &xid))
			return true;
		if (!cq_xid_snapshot_sees(&reader->old, xid))
			return false;
	}
	return false;
}

static TimestampTz
newest_insertion(Relation table)
{
	TableScanDesc scan = table_beginscan(table, GetActiveSnapshot(), 0, NULL);
	TupleTableSlot *slot = table_slot_create(table, NULL);
	TimestampTz newest = DT_NOBEGIN;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool isnull;
		Datum inserted_at = slot_getattr(slot, CQ_LOCAL_INSERTED_AT, &isnull);

		newest = Max(newest, DatumGetTimestampTz(inserted_at));
		CHECK_FOR_INTERRUPTS();
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	return newest;
}

/* T4; the snapshot with which the last row is looked up again is younger than the lock. */
static bool
empty_table(Oid relid, TrimNote *note)
{
	TrimNote now = {0};
	Relation table;
	char *name;

	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return false;
	table = table_open(relid, NoLock);
	PushActiveSnapshot(GetLatestSnapshot());
	read_last_row(table, &now);
	PopActiveSnapshot();
	name = pstrdup(RelationGetRelationName(table));
	table_close(table, NoLock);
	if (same_last_row(note, &now))
		cq_local_execute(psprintf("TRUNCATE ONLY pipeline_data.%s", name));
	return true;
}

static void
take_turns(TrimState *state, const CqLocalLayout *layout, int current, int64 retention_us)
{
	int64 turn_us = Max(TURN_US, retention_us / 2);
	TimestampTz now = GetCurrentTimestamp();
	Relation table = table_open(layout->tables[current], AccessShareLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(table);

	table_close(table, AccessShareLock);
	if (blocks == 0)
		state->turn_began = now;
	if (blocks < TURN_BLOCKS && now - state->turn_began < turn_us)
		return;
	if (!is_empty(layout->tables[(current + 1) % CQ_LOCAL_TABLES]))
		return;
	while (nextval_internal(layout->rotation, false) % CQ_LOCAL_TABLES == current)
		;
	state->turn_began = now;
}

static bool
is_empty(Oid relid)
{
	Relation table = table_open(relid, AccessShareLock);
	bool empty = RelationGetNumberOfBlocks(table) == 0;

	table_close(table, AccessShareLock);
	return empty;
}
