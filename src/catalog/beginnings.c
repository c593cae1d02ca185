/*
 * beginnings.c
 *	  Rows of pipeline_data.beginnings.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog/beginnings.h"
#include "catalog/tables.h"
#include "source/source.h"

enum
{
	COL_VIEW = 1,
	COL_START,
	COL_CURSOR,
	COL_HISTORY,
	COL_HISTORY_ROWS,
	COL_COUNT = COL_HISTORY_ROWS
};

static void beginning_from_row(Relation rel, HeapTuple row, CqBeginning *beginning);

void
cq_beginning_load(int64 view, CqBeginning *beginning)
{
	Relation rel = cq_table_open("beginnings", AccessShareLock);
	HeapTuple row = cq_table_find(rel, COL_VIEW, Int64GetDatum(view));

	memset(beginning, 0, sizeof(CqBeginning));
	beginning->view = view;
	beginning->history_rows = -1;
	if (HeapTupleIsValid(row))
		beginning_from_row(rel, row, beginning);
	table_close(rel, AccessShareLock);
}

static void
beginning_from_row(Relation rel, HeapTuple row, CqBeginning *beginning)
{
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT];

	heap_deform_tuple(row, RelationGetDescr(rel), values, nulls);
	if (!nulls[COL_START - 1])
		beginning->start = TextDatumGetCString(values[COL_START - 1]);
	if (!nulls[COL_CURSOR - 1])
		beginning->cursor = TextDatumGetCString(values[COL_CURSOR - 1]);
	if (!nulls[COL_HISTORY - 1])
		beginning->history = DatumGetObjectId(values[COL_HISTORY - 1]);
	if (!nulls[COL_HISTORY_ROWS - 1])
		beginning->history_rows = DatumGetInt64(values[COL_HISTORY_ROWS - 1]);
}

int64
cq_history_dead_letters(int64 view)
{
	Relation rel = cq_table_open("dead_letters", AccessShareLock);
	SysScanDesc scan;
	ScanKeyData keys[2];
	int64 n = 0;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(view));
	ScanKeyInit(&keys[1], 3, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(CQ_HISTORY_PARTITION));
	scan = systable_beginscan(rel, InvalidOid, false, GetActiveSnapshot(), 2, keys);
	while (HeapTupleIsValid(systable_getnext(scan)))
		n++;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return n;
}

void
cq_beginning_save(const CqBeginning *beginning)
{
	Relation rel = cq_table_open("beginnings", RowExclusiveLock);
	HeapTuple old = cq_table_find(rel, COL_VIEW, Int64GetDatum(beginning->view));
	Datum values[COL_COUNT] = {0};
	bool nulls[COL_COUNT] = {false};
	HeapTuple row;

	values[COL_VIEW - 1] = Int64GetDatum(beginning->view);
	nulls[COL_START - 1] = beginning->start == NULL;
	if (beginning->start)
		values[COL_START - 1] = CStringGetTextDatum(beginning->start);
	nulls[COL_CURSOR - 1] = beginning->cursor == NULL;
	if (beginning->cursor)
		values[COL_CURSOR - 1] = CStringGetTextDatum(beginning->cursor);
	values[COL_HISTORY - 1] = ObjectIdGetDatum(beginning->history);
	nulls[COL_HISTORY - 1] = !OidIsValid(beginning->history);
	values[COL_HISTORY_ROWS - 1] = Int64GetDatum(beginning->history_rows);
	nulls[COL_HISTORY_ROWS - 1] = beginning->history_rows < 0;
	row = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	if (HeapTupleIsValid(old))
		CatalogTupleUpdate(rel, &old->t_self, row);
	else
		CatalogTupleInsert(rel, row);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}
