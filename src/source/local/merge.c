/*
 * merge.c
 *	  Rows of a local stream's hidden tables in the order of (era, xid, seq).
 *
 * Each table has an index in this order; up to three scans are merged.  Mostly
 * one of them gives all the rows.
 *
 * The locks on the tables are given back when the merge is closed, not at the
 * end of the transaction: a reader takes part in one transaction after another,
 * and held that long the locks would hardly ever let a table be emptied.  What
 * a reader may still need is protected by its saved position (trim.c), not by
 * the lock.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/xid8.h"

#include "source/local/merge.h"

typedef struct MergeInput
{
	Relation table; /* NULL = empty, not opened */
	Relation index;
	SysScanDesc scan;
	HeapTuple tuple; /* next one; NULL = none left */
	uint64 xid;
	int64 seq;
} MergeInput;

struct CqLocalMerge
{
	Snapshot snapshot;
	MergeInput inputs[CQ_LOCAL_TABLES];
	int taken; /* input whose tuple was given out last; -1 = none */
};

static SysScanDesc begin_scan(Relation table, Relation index, Snapshot snapshot, int32 era,
							  const CqXidRange *range);
static void end_scans(CqLocalMerge *merge);
static void fetch(MergeInput *input);
static uint64 tuple_xid(HeapTuple tuple, TupleDesc desc);
static int64 tuple_seq(HeapTuple tuple, TupleDesc desc);

CqLocalMerge *
cq_local_merge_open(const CqLocalLayout *layout, Snapshot snapshot)
{
	CqLocalMerge *merge = palloc0(sizeof(CqLocalMerge));
	int i;

	merge->snapshot = snapshot;
	merge->taken = -1;
	for (i = 0; i < CQ_LOCAL_TABLES; i++)
	{
		MergeInput *input = &merge->inputs[i];
		Relation table = table_open(layout->tables[i], AccessShareLock);

		if (RelationGetNumberOfBlocks(table) == 0)
			table_close(table, AccessShareLock);
		else
		{
			input->table = table;
			input->index = index_open(cq_local_index(table), AccessShareLock);
		}
	}
	return merge;
}

void
cq_local_merge_range(CqLocalMerge *merge, int32 era, const CqXidRange *range)
{
	int i;

	end_scans(merge);
	for (i = 0; i < CQ_LOCAL_TABLES; i++)
	{
		MergeInput *input = &merge->inputs[i];

		if (input->table == NULL)
			continue;
		input->scan = begin_scan(input->table, input->index, merge->snapshot, era, range);
		fetch(input);
	}
}

static SysScanDesc
begin_scan(Relation table, Relation index, Snapshot snapshot, int32 era, const CqXidRange *range)
{
	ScanKeyData keys[4];
	int nkeys = 3;

	ScanKeyInit(&keys[0], CQ_LOCAL_ERA, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(era));
	ScanKeyInit(&keys[1],
				CQ_LOCAL_XID,
				BTGreaterEqualStrategyNumber,
				F_XID8GE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(range->first)));
	ScanKeyInit(&keys[2],
				CQ_LOCAL_XID,
				BTLessEqualStrategyNumber,
				F_XID8LE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(range->last)));
	if (range->after_seq != PG_INT64_MIN)
	{
		Assert(range->first == range->last);
		ScanKeyInit(&keys[nkeys++],
					CQ_LOCAL_SEQ,
					BTGreaterStrategyNumber,
					F_INT8GT,
					Int64GetDatum(range->after_seq));
	}
	return systable_beginscan_ordered(table, index, snapshot, nkeys, keys);
}

bool
cq_local_merge_next(CqLocalMerge *merge, CqLocalRow *row)
{
	MergeInput *first = NULL;
	int i;

	if (merge->taken >= 0)
		fetch(&merge->inputs[merge->taken]);
	merge->taken = -1;
	for (i = 0; i < CQ_LOCAL_TABLES; i++)
	{
		MergeInput *input = &merge->inputs[i];

		if (input->tuple == NULL)
			continue;
		if (first == NULL || input->xid < first->xid ||
			(input->xid == first->xid && input->seq < first->seq))
		{
			first = input;
			merge->taken = i;
		}
	}
	if (first == NULL)
		return false;
	row->tuple = first->tuple;
	row->table = first->table;
	row->table_index = merge->taken;
	row->xid = first->xid;
	row->seq = first->seq;
	return true;
}

void
cq_local_merge_close(CqLocalMerge *merge)
{
	int i;

	end_scans(merge);
	for (i = 0; i < CQ_LOCAL_TABLES; i++)
	{
		MergeInput *input = &merge->inputs[i];

		if (input->table == NULL)
			continue;
		index_close(input->index, AccessShareLock);
		table_close(input->table, AccessShareLock);
	}
	pfree(merge);
}

static void
end_scans(CqLocalMerge *merge)
{
	int i;

	for (i = 0; i < CQ_LOCAL_TABLES; i++)
	{
		MergeInput *input = &merge->inputs[i];

		if (input->scan)
			systable_endscan_ordered(input->scan);
		input->scan = NULL;
		input->tuple = NULL;
	}
	merge->taken = -1;
}

static void
fetch(MergeInput *input)
{
	TupleDesc desc = RelationGetDescr(input->table);

	input->tuple = systable_getnext_ordered(input->scan, ForwardScanDirection);
	if (input->tuple == NULL)
		return;
	input->xid = tuple_xid(input->tuple, desc);
	input->seq = tuple_seq(input->tuple, desc);
}

static uint64
tuple_xid(HeapTuple tuple, TupleDesc desc)
{
	bool isnull;
	Datum value = heap_getattr(tuple, CQ_LOCAL_XID, desc, &isnull);

	return U64FromFullTransactionId(DatumGetFullTransactionId(value));
}

static int64
tuple_seq(HeapTuple tuple, TupleDesc desc)
{
	bool isnull;

	return DatumGetInt64(heap_getattr(tuple, CQ_LOCAL_SEQ, desc, &isnull));
}

bool
cq_local_last_row(Relation table, Snapshot snapshot, int32 *era, uint64 *xid, int64 *seq)
{
	Relation index = index_open(cq_local_index(table), AccessShareLock);
	SysScanDesc scan = systable_beginscan_ordered(table, index, snapshot, 0, NULL);
	HeapTuple tuple = systable_getnext_ordered(scan, BackwardScanDirection);
	TupleDesc desc = RelationGetDescr(table);
	bool isnull;

	if (tuple)
	{
		*era = DatumGetInt32(heap_getattr(tuple, CQ_LOCAL_ERA, desc, &isnull));
		*xid = tuple_xid(tuple, desc);
		*seq = tuple_seq(tuple, desc);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	return tuple != NULL;
}

bool
cq_local_first_xid(Relation table, Snapshot snapshot, int32 era, uint64 from, uint64 *xid)
{
	Relation index = index_open(cq_local_index(table), AccessShareLock);
	CqXidRange range = {from, PG_UINT64_MAX, PG_INT64_MIN};
	SysScanDesc scan = begin_scan(table, index, snapshot, era, &range);
	HeapTuple tuple = systable_getnext_ordered(scan, ForwardScanDirection);

	if (tuple)
		*xid = tuple_xid(tuple, RelationGetDescr(table));
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	return tuple != NULL;
}
