/*
 * inputs.c
 *	  Rows of pipeline_data.inputs: what a view that reads streams in several
 *	  places has besides what every view has.
 *
 * The first input is described by the view's own row.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "utils/rel.h"

#include "catalog/rows.h"
#include "catalog/tables.h"

enum
{
	COL_VIEW = 1,
	COL_NUMBER,
	COL_CHUNKS,
	COL_COUNT = COL_CHUNKS
};

typedef struct CqInputRow
{
	int number;
	Oid chunks;
} CqInputRow;

static int compare_numbers(const ListCell *a, const ListCell *b);

void
cq_view_add_chunks(int64 view, int number, Oid chunks)
{
	Relation rel = cq_table_open("inputs", RowExclusiveLock);
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT] = {false};

	values[COL_VIEW - 1] = Int64GetDatum(view);
	values[COL_NUMBER - 1] = Int32GetDatum(number);
	values[COL_CHUNKS - 1] = ObjectIdGetDatum(chunks);
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

List *
cq_view_more_chunks(int64 view)
{
	Relation rel = cq_table_open("inputs", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	List *rows = NIL;
	List *chunks = NIL;
	HeapTuple row;
	ListCell *lc;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		Datum values[COL_COUNT];
		bool nulls[COL_COUNT];
		CqInputRow *input;

		heap_deform_tuple(row, RelationGetDescr(rel), values, nulls);
		if (DatumGetInt64(values[COL_VIEW - 1]) != view)
			continue;
		input = palloc(sizeof(CqInputRow));
		input->number = DatumGetInt32(values[COL_NUMBER - 1]);
		input->chunks = DatumGetObjectId(values[COL_CHUNKS - 1]);
		rows = lappend(rows, input);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	list_sort(rows, compare_numbers);
	foreach (lc, rows)
		chunks = lappend_oid(chunks, ((CqInputRow *) lfirst(lc))->chunks);
	list_free_deep(rows);
	return chunks;
}

static int
compare_numbers(const ListCell *a, const ListCell *b)
{
	return ((CqInputRow *) lfirst(a))->number - ((CqInputRow *) lfirst(b))->number;
}
