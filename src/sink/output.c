/*
 * output.c
 *	  Rows into a view's result table and its late table.
 *
 * Appends are collected and written many at a time; rows of a view that shows
 * changes are updated in place, found by their hidden _gid.  The worker keeps
 * each row's place (TID), so an update normally needs no index lookup; after a
 * restart, or when the place turns out to be wrong, the primary key finds it.
 *
 * Columns that were added later (ddl/evolve.c) stand behind the hidden ones.  Rows
 * are given and taken in the order that the names tell, so nobody else sees that.
 *
 * Memory: everything is in the context that was current at begin, reset by the
 * caller after the transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "errors.h"
#include "sink/output.h"

#define QUEUE_ROWS	500
#define QUEUE_BYTES (512 * 1024)

struct CqOutput
{
	Relation relation;
	EState *estate;
	ResultRelInfo *rri;
	BulkInsertState bulk;
	MemoryContext context;	   /* of this struct */
	MemoryContext row_context; /* values of queued rows; reset after each write */
	TupleTableSlot *queue[QUEUE_ROWS];
	int queued;
	Size queued_bytes;
	TupleTableSlot *old_row; /* what is to be updated; made when first needed */
	int natts;
	AttrNumber *places; /* where in the table the columns are, from 0; NULL = in order */
	Datum *row_values;	/* an old row in the order of the columns */
	bool *row_nulls;
	BlockNumber blocks; /* the table had at least that many when last asked */
	int64 written;
	int64 growth;
};

static void queue_write(CqOutput *output);
static int logical_place(const char *name, int ncolumns, int natts);
static void row_store(CqOutput *output, TupleTableSlot *slot, Datum *values, bool *nulls,
					  int natts);
static void row_locate(CqOutput *output, int64 gid, ItemPointer tid);
static TupleTableSlot *old_row(CqOutput *output);
static bool row_is_group(CqOutput *output, ItemPointer tid, int64 gid);
static bool row_find(CqOutput *output, int64 gid, ItemPointer tid);
static void row_update(CqOutput *output, ItemPointer tid, TupleTableSlot *slot);

CqOutput *
cq_output_begin(Relation relation)
{
	CqOutput *output = palloc0(sizeof(CqOutput));

	output->relation = relation;
	output->natts = RelationGetNumberOfAttributes(relation);
	output->context = CurrentMemoryContext;
	output->row_context =
		AllocSetContextCreate(CurrentMemoryContext, "pipeline output", ALLOCSET_DEFAULT_SIZES);
	output->estate = CreateExecutorState();
	output->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(output->rri, relation, 0, NULL, 0);
	ExecOpenIndices(output->rri, false);
	output->bulk = GetBulkInsertState();
	return output;
}

CqOutput *
cq_output_begin_result(Relation relation)
{
	CqOutput *output = cq_output_begin(relation);

	output->places = cq_result_places(RelationGetDescr(relation));
	if (output->places)
	{
		output->row_values = palloc(sizeof(Datum) * output->natts);
		output->row_nulls = palloc(sizeof(bool) * output->natts);
	}
	return output;
}

AttrNumber *
cq_result_places(TupleDesc desc)
{
	AttrNumber *places = palloc(sizeof(AttrNumber) * Max(desc->natts, 1));
	int ncolumns = desc->natts;
	bool in_order = true;
	int i;

	for (i = 0; i < desc->natts; i++)
		if (NameStr(TupleDescAttr(desc, i)->attname)[0] == '_')
			ncolumns--;
	for (i = 0; i < desc->natts; i++)
	{
		int place = logical_place(NameStr(TupleDescAttr(desc, i)->attname), ncolumns, desc->natts);

		places[place] = (AttrNumber) i;
		in_order = in_order && place == i;
	}
	if (!in_order)
		return places;
	pfree(places);
	return NULL;
}

static int
logical_place(const char *name, int ncolumns, int natts)
{
	int place = strcmp(name, CQ_RESULT_GID) == 0	  ? natts - 1
				: strcmp(name, CQ_RESULT_WINDOW) == 0 ? ncolumns
													  : atoi(name + 1) - 1;

	if (place < 0 || place >= natts)
		elog(ERROR, "column \"%s\" of a result table is none of its columns", name);
	return place;
}

static void
row_store(CqOutput *output, TupleTableSlot *slot, Datum *values, bool *nulls, int natts)
{
	int i;

	ExecClearTuple(slot);
	if (output->places == NULL)
	{
		memcpy(slot->tts_values, values, sizeof(Datum) * natts);
		memcpy(slot->tts_isnull, nulls, sizeof(bool) * natts);
		return;
	}
	for (i = 0; i < natts; i++)
	{
		slot->tts_values[output->places[i]] = values[i];
		slot->tts_isnull[output->places[i]] = nulls[i];
	}
}

static inline int
place_of(const CqOutput *output, int column)
{
	return output->places ? output->places[column] : column;
}

void
cq_output_insert(CqOutput *output, Datum *values, bool *nulls)
{
	TupleTableSlot *slot = output->queue[output->queued];
	MemoryContext old = MemoryContextSwitchTo(output->context);

	if (slot == NULL)
		slot = output->queue[output->queued] = table_slot_create(output->relation, NULL);
	row_store(output, slot, values, nulls, output->natts);
	ExecStoreVirtualTuple(slot);
	ExecMaterializeSlot(slot);
	output->queued_bytes += ExecFetchSlotHeapTuple(slot, true, NULL)->t_len;
	output->queued++;
	output->growth++;
	MemoryContextSwitchTo(old);
	if (output->queued == QUEUE_ROWS || output->queued_bytes > QUEUE_BYTES)
		queue_write(output);
}

static void
queue_write(CqOutput *output)
{
	MemoryContext old;
	int i;

	if (output->queued == 0)
		return;
	old = MemoryContextSwitchTo(output->row_context);
	table_multi_insert(output->relation,
					   output->queue,
					   output->queued,
					   GetCurrentCommandId(true),
					   0,
					   output->bulk);
	for (i = 0; i < output->queued; i++)
	{
		if (output->rri->ri_NumIndices > 0)
			list_free(cq_compat_insert_index_tuples(output->rri, output->queue[i], output->estate));
		ExecClearTuple(output->queue[i]);
		ResetPerTupleExprContext(output->estate);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(output->row_context);
	output->written += output->queued;
	output->queued = 0;
	output->queued_bytes = 0;
}

void
cq_output_upsert(CqOutput *output, int64 gid, bool is_new, ItemPointer tid, Datum *values,
				 bool *nulls)
{
	int natts = output->natts;
	int gid_place = place_of(output, natts - 1);
	MemoryContext old = MemoryContextSwitchTo(output->context);
	TupleTableSlot *slot;

	if (output->queue[0] == NULL)
		output->queue[0] = table_slot_create(output->relation, NULL);
	slot = output->queue[0];
	MemoryContextSwitchTo(output->row_context);
	row_store(output, slot, values, nulls, natts - 1);
	slot->tts_values[gid_place] = Int64GetDatum(gid);
	slot->tts_isnull[gid_place] = false;
	ExecStoreVirtualTuple(slot);
	if (is_new)
	{
		table_tuple_insert(output->relation, slot, GetCurrentCommandId(true), 0, output->bulk);
		list_free(cq_compat_insert_index_tuples(output->rri, slot, output->estate));
		output->growth++;
	}
	else
	{
		row_locate(output, gid, tid);
		row_update(output, tid, slot);
	}
	*tid = slot->tts_tid;
	output->written++;
	ExecClearTuple(slot);
	ResetPerTupleExprContext(output->estate);
	MemoryContextSwitchTo(old);
	MemoryContextReset(output->row_context);
}

void
cq_output_row(CqOutput *output, int64 gid, ItemPointer tid, Datum **values, bool **nulls)
{
	TupleTableSlot *row;
	int i;

	row_locate(output, gid, tid);
	if (!table_tuple_fetch_row_version(output->relation, tid, GetActiveSnapshot(), old_row(output)))
		elog(ERROR, "row of group " INT64_FORMAT " has gone", gid);
	row = output->old_row;
	slot_getallattrs(row);
	*values = output->places ? output->row_values : row->tts_values;
	*nulls = output->places ? output->row_nulls : row->tts_isnull;
	for (i = 0; output->places && i < output->natts; i++)
	{
		(*values)[i] = row->tts_values[output->places[i]];
		(*nulls)[i] = row->tts_isnull[output->places[i]];
	}
}

void
cq_output_delete(CqOutput *output, int64 gid, ItemPointer tid)
{
	row_locate(output, gid, tid);
	cq_output_delete_at(output, tid);
	ItemPointerSetInvalid(tid);
}

void
cq_output_delete_at(CqOutput *output, ItemPointer tid)
{
	simple_table_tuple_delete(output->relation, tid, GetActiveSnapshot());
	output->growth--;
}

/* Have tid be where the group's row is. */
static void
row_locate(CqOutput *output, int64 gid, ItemPointer tid)
{
	if (!row_is_group(output, tid, gid) && !row_find(output, gid, tid))
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("row of group %lld is missing from table \"%s\"",
					   (long long) gid,
					   RelationGetRelationName(output->relation)),
				errhint("Somebody changed the view's table. Drop the view and create it again."));
}

static TupleTableSlot *
old_row(CqOutput *output)
{
	MemoryContext old = MemoryContextSwitchTo(output->context);

	if (output->old_row == NULL)
		output->old_row = table_slot_create(output->relation, NULL);
	MemoryContextSwitchTo(old);
	return output->old_row;
}

/* Is the visible row at tid the one of this group? */
static bool
row_is_group(CqOutput *output, ItemPointer tid, int64 gid)
{
	bool found;
	bool isnull;

	if (!ItemPointerIsValid(tid))
		return false;
	if (ItemPointerGetBlockNumberNoCheck(tid) >= output->blocks)
		output->blocks = RelationGetNumberOfBlocks(output->relation);
	if (ItemPointerGetBlockNumberNoCheck(tid) >= output->blocks)
		return false;
	found =
		table_tuple_fetch_row_version(output->relation,
									  tid,
									  GetActiveSnapshot(),
									  old_row(output)) &&
		DatumGetInt64(
			slot_getattr(output->old_row, place_of(output, output->natts - 1) + 1, &isnull)) == gid;
	ExecClearTuple(output->old_row);
	return found;
}

/* Find a group's row by the primary key on _gid. */
static bool
row_find(CqOutput *output, int64 gid, ItemPointer tid)
{
	Oid index_id = cq_compat_primary_key(output->relation);
	Relation index = index_open(index_id, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(output->relation, NULL);
	IndexScanDesc scan;
	ScanKeyData key;
	bool found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(gid));
	scan = cq_compat_index_beginscan(output->relation, index, GetActiveSnapshot(), 1);
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	if (found)
		*tid = slot->tts_tid;
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	return found;
}

static void
row_update(CqOutput *output, ItemPointer tid, TupleTableSlot *slot)
{
	bool update_indexes;

	cq_compat_tuple_update(output->relation, tid, slot, GetActiveSnapshot(), &update_indexes);
	if (update_indexes)
		list_free(cq_compat_insert_index_tuples(output->rri, slot, output->estate));
}

int64
cq_output_growth(const CqOutput *output)
{
	return output->growth;
}

Relation
cq_output_relation(const CqOutput *output)
{
	return output->relation;
}

const AttrNumber *
cq_output_places(const CqOutput *output)
{
	return output->places;
}

int64
cq_output_end(CqOutput *output)
{
	int64 written;
	int i;

	queue_write(output);
	for (i = 0; i < QUEUE_ROWS && output->queue[i]; i++)
		ExecDropSingleTupleTableSlot(output->queue[i]);
	if (output->old_row)
		ExecDropSingleTupleTableSlot(output->old_row);
	FreeBulkInsertState(output->bulk);
	table_finish_bulk_insert(output->relation, 0);
	ExecCloseIndices(output->rri);
	FreeExecutorState(output->estate);
	MemoryContextDelete(output->row_context);
	written = output->written;
	pfree(output);
	return written;
}
