/*
 * insert.c
 *	  INSERT and COPY into local streams.
 *
 * A row goes into one of the stream's hidden tables in the user's transaction,
 * like any other row, and becomes an event when that transaction commits.  With
 * it go its era, the id of the top transaction (by which readers tell what they
 * have read, local_source.c), a number from the stream's sequence and the time.
 *
 * Which table takes it is read once per statement and only a hint: readers look
 * into all of them, and a table is emptied under a lock that no statement which
 * chose it can share (trim.c).  The lock on it is kept until the transaction
 * ends, which is what makes that true.
 *
 * PostgreSQL computes generated columns before it comes here, but checks no
 * constraints of foreign tables; since the rows are stored here, they are
 * checked here.
 *
 * When the transaction commits, the latches of the stream's readers are set.
 * COMMIT PREPARED runs in a process that knows nothing of the insertion: what
 * it commits is found by the next poll.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "clock.h"
#include "compat.h"
#include "monitor/slots.h"
#include "source/local/fdw.h"
#include "source/local/layout.h"
#include "source/local/local.h"

typedef struct LocalInsert
{
	Oid stream;
	int32 era;
	Oid sequence;
	Relation table;
	ResultRelInfo *table_info; /* for its indexes */
	CqLocalColumns *columns;
	TupleTableSlot **slots; /* of the hidden table */
	int nslots;
} LocalInsert;

/* Streams that the current transaction inserted into, in TopTransactionContext. */
static List *inserted_streams = NIL;
static bool callback_registered = false;

static TupleTableSlot *take_slot(LocalInsert *insert, EState *estate, int i);
static void fill_slot(LocalInsert *insert, TupleTableSlot *to, TupleTableSlot *from, int64 seq,
					  TimestampTz now);
static void set_metadata(LocalInsert *insert, TupleTableSlot *slot, int64 seq, TimestampTz now);
static void store_rows(LocalInsert *insert, EState *estate, int nrows);
static void transaction_ended(XactEvent event, void *arg);
static bool reads(const CqTaskSlot *slot, Oid stream);

void
cq_local_insert_begin(EState *estate, ResultRelInfo *rri)
{
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	LocalInsert *insert = palloc0(sizeof(LocalInsert));
	CqLocalLayout layout;

	insert->stream = RelationGetRelid(rri->ri_RelationDesc);
	cq_local_layout_load(insert->stream, &layout);
	insert->era = layout.era;
	insert->sequence = layout.sequence;
	insert->table = table_open(layout.tables[cq_local_current_table(&layout)], RowExclusiveLock);
	insert->columns = cq_local_columns_load(rri->ri_RelationDesc, insert->table);
	insert->table_info = makeNode(ResultRelInfo);
	InitResultRelInfo(insert->table_info, insert->table, 0, NULL, 0);
	ExecOpenIndices(insert->table_info, false);
	rri->ri_FdwState = insert;
	MemoryContextSwitchTo(old);
}

void
cq_local_insert_rows(EState *estate, ResultRelInfo *rri, TupleTableSlot **slots, int nslots)
{
	LocalInsert *insert = rri->ri_FdwState;
	Relation stream = rri->ri_RelationDesc;
	TimestampTz now = cq_clock_now();
	int done = 0;

	cq_local_inserted(insert->stream);
	while (done < nslots)
	{
		int n = Min(nslots - done, CQ_LOCAL_INSERT_BATCH);
		int i;

		for (i = 0; i < n; i++)
		{
			TupleTableSlot *slot = slots[done + i];
			int64 seq = nextval_internal(insert->sequence, false);

			if (insert->columns->has_metadata)
				set_metadata(insert, slot, seq, now);
			if (RelationGetDescr(stream)->constr)
				ExecConstraints(rri, slot, estate);
			fill_slot(insert, take_slot(insert, estate, i), slot, seq, now);
		}
		store_rows(insert, estate, n);
		done += n;
	}
}

void
cq_local_insert_end(ResultRelInfo *rri)
{
	LocalInsert *insert = rri->ri_FdwState;
	int i;

	if (insert == NULL)
		return;
	for (i = 0; i < insert->nslots; i++)
		ExecDropSingleTupleTableSlot(insert->slots[i]);
	ExecCloseIndices(insert->table_info);
	table_close(insert->table, NoLock);
	rri->ri_FdwState = NULL;
}

/* Slots are made as they are needed: most statements insert one row. */
static TupleTableSlot *
take_slot(LocalInsert *insert, EState *estate, int i)
{
	if (i >= insert->nslots)
	{
		MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);

		Assert(i == insert->nslots);
		if (insert->slots == NULL)
			insert->slots = palloc(sizeof(TupleTableSlot *) * CQ_LOCAL_INSERT_BATCH);
		insert->slots[insert->nslots++] = table_slot_create(insert->table, NULL);
		MemoryContextSwitchTo(old);
	}
	return insert->slots[i];
}

static void
fill_slot(LocalInsert *insert, TupleTableSlot *to, TupleTableSlot *from, int64 seq, TimestampTz now)
{
	CqLocalColumns *columns = insert->columns;
	int i;

	slot_getallattrs(from);
	ExecClearTuple(to);
	memset(to->tts_isnull, true, sizeof(bool) * to->tts_tupleDescriptor->natts);
	memset(to->tts_isnull, false, sizeof(bool) * CQ_LOCAL_FIXED_COLUMNS);
	to->tts_values[CQ_LOCAL_ERA - 1] = Int32GetDatum(insert->era);
	to->tts_values[CQ_LOCAL_XID - 1] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	to->tts_values[CQ_LOCAL_SEQ - 1] = Int64GetDatum(seq);
	to->tts_values[CQ_LOCAL_INSERTED_AT - 1] = TimestampTzGetDatum(now);
	for (i = 0; i < columns->natts; i++)
	{
		AttrNumber hidden = columns->hidden[i];

		if (hidden == InvalidAttrNumber || columns->metadata[i] != CQ_METADATA_NONE)
			continue;
		to->tts_values[hidden - 1] = from->tts_values[i];
		to->tts_isnull[hidden - 1] = from->tts_isnull[i];
	}
	ExecStoreVirtualTuple(to);
}

/* Give the row, which RETURNING may show, the metadata that a reader will see. */
static void
set_metadata(LocalInsert *insert, TupleTableSlot *slot, int64 seq, TimestampTz now)
{
	CqLocalColumns *columns = insert->columns;
	TupleDesc desc = slot->tts_tupleDescriptor;
	Datum *values = palloc(sizeof(Datum) * desc->natts);
	bool *nulls = palloc(sizeof(bool) * desc->natts);
	Oid tableoid = slot->tts_tableOid;
	MemoryContext old;
	HeapTuple tuple;
	int i;

	slot_getallattrs(slot);
	memcpy(values, slot->tts_values, sizeof(Datum) * desc->natts);
	memcpy(nulls, slot->tts_isnull, sizeof(bool) * desc->natts);
	for (i = 0; i < columns->natts; i++)
	{
		if (columns->metadata[i] == CQ_METADATA_NONE)
			continue;
		if (!nulls[i])
			ereport(ERROR,
					errcode(ERRCODE_GENERATED_ALWAYS),
					errmsg("cannot insert a value into metadata column \"%s\"",
						   NameStr(TupleDescAttr(desc, i)->attname)),
					errdetail("It is filled by the stream."),
					errhint("Leave the column out of the INSERT."));
		values[i] = cq_local_metadata_value(columns->metadata[i],
											TupleDescAttr(desc, i)->atttypid,
											seq,
											now);
		nulls[i] = false;
	}
	old = MemoryContextSwitchTo(slot->tts_mcxt);
	tuple = heap_form_tuple(desc, values, nulls);
	MemoryContextSwitchTo(old);
	ExecForceStoreHeapTuple(tuple, slot, true);
	slot->tts_tableOid = tableoid;
	pfree(values);
	pfree(nulls);
}

static void
store_rows(LocalInsert *insert, EState *estate, int nrows)
{
	CommandId cid = GetCurrentCommandId(true);
	MemoryContext old;
	int i;

	if (nrows == 1)
		table_tuple_insert(insert->table, insert->slots[0], cid, 0, NULL);
	else
	{
		old = MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
		table_multi_insert(insert->table, insert->slots, nrows, cid, 0, NULL);
		MemoryContextSwitchTo(old);
	}
	for (i = 0; i < nrows; i++)
	{
		insert->slots[i]->tts_tableOid = RelationGetRelid(insert->table);
		(void) cq_compat_insert_index_tuples(insert->table_info, insert->slots[i], estate);
		ExecClearTuple(insert->slots[i]);
	}
}

void
cq_local_inserted(Oid stream)
{
	MemoryContext old;

	if (!callback_registered)
	{
		RegisterXactCallback(transaction_ended, NULL);
		callback_registered = true;
	}
	if (list_member_oid(inserted_streams, stream))
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	inserted_streams = lappend_oid(inserted_streams, stream);
	MemoryContextSwitchTo(old);
}

/* By now the transaction's rows are visible to others.  Must not throw. */
static void
transaction_ended(XactEvent event, void *arg)
{
	ListCell *lc;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_COMMIT)
		foreach (lc, inserted_streams)
			cq_local_wake_readers(lfirst_oid(lc));
	inserted_streams = NIL;
}

static bool
reads(const CqTaskSlot *slot, Oid stream)
{
	int i;

	for (i = 0; i < CQ_MAX_STREAMS && OidIsValid(slot->streams[i]); i++)
		if (slot->streams[i] == stream)
			return true;
	return false;
}

void
cq_local_wake_readers(Oid relid)
{
	int i;

	if (cq_shared == NULL)
		return;
	LWLockAcquire(cq_shared->lock, LW_SHARED);
	for (i = 0; i < cq_shared->ntasks; i++)
	{
		CqTaskSlot *slot = &cq_shared->tasks[i];

		if (slot->in_use && slot->database == MyDatabaseId && slot->latch && reads(slot, relid))
			SetLatch(slot->latch);
	}
	LWLockRelease(cq_shared->lock);
}
