/*
 * shards.c
 *	  Rows of pipeline_data.shards: the positions of a view with several workers
 *	  besides the view's own.
 *
 * A shard has an id like a view's, by which its slot and its row of checkpoints
 * are known; the first shard of a view, number 0, is the view itself and has no
 * row here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "utils/rel.h"

#include "catalog/rows.h"
#include "catalog/shards.h"
#include "catalog/tables.h"

enum
{
	COL_ID = 1,
	COL_VIEW,
	COL_NUMBER,
	COL_CHUNKS,
	COL_COUNT = COL_CHUNKS
};

static CqShardRow *shard_from_row(Relation rel, HeapTuple row);
static int compare_numbers(const ListCell *a, const ListCell *b);
static void drop_part(Oid table);

void
cq_shard_insert(const CqShardRow *shard)
{
	Relation rel = cq_table_open("shards", RowExclusiveLock);
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT] = {false};

	values[COL_ID - 1] = Int64GetDatum(shard->id);
	values[COL_VIEW - 1] = Int64GetDatum(shard->view);
	values[COL_NUMBER - 1] = Int32GetDatum(shard->number);
	nulls[COL_NUMBER - 1] = shard->number == CQ_SHARD_RETIRED;
	values[COL_CHUNKS - 1] = ObjectIdGetDatum(shard->chunks);
	nulls[COL_CHUNKS - 1] = !OidIsValid(shard->chunks);
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

static CqShardRow *
shard_from_row(Relation rel, HeapTuple row)
{
	CqShardRow *shard = palloc(sizeof(CqShardRow));
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT];

	heap_deform_tuple(row, RelationGetDescr(rel), values, nulls);
	shard->id = DatumGetInt64(values[COL_ID - 1]);
	shard->view = DatumGetInt64(values[COL_VIEW - 1]);
	shard->number =
		nulls[COL_NUMBER - 1] ? CQ_SHARD_RETIRED : DatumGetInt32(values[COL_NUMBER - 1]);
	shard->chunks = nulls[COL_CHUNKS - 1] ? InvalidOid : DatumGetObjectId(values[COL_CHUNKS - 1]);
	return shard;
}

List *
cq_shards_of_view(int64 view)
{
	Relation rel = cq_table_open("shards", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	List *shards = NIL;
	HeapTuple row;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		CqShardRow *shard = shard_from_row(rel, row);

		if (shard->view == view)
			shards = lappend(shards, shard);
		else
			pfree(shard);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	list_sort(shards, compare_numbers);
	return shards;
}

/* Retired ones, whose number is the lowest, in the order in which they were made. */
static int
compare_numbers(const ListCell *a, const ListCell *b)
{
	const CqShardRow *left = lfirst(a);
	const CqShardRow *right = lfirst(b);

	if (left->number != right->number)
		return left->number < right->number ? -1 : 1;
	return (left->id > right->id) - (left->id < right->id);
}

int64
cq_shard_view(int64 id)
{
	Relation rel = cq_table_open("shards", AccessShareLock);
	HeapTuple row = cq_table_find(rel, COL_ID, Int64GetDatum(id));
	int64 view = HeapTupleIsValid(row) ? shard_from_row(rel, row)->view : id;

	table_close(rel, AccessShareLock);
	return view;
}

List *
cq_view_positions(int64 view)
{
	int64 *own = palloc(sizeof(int64));
	List *ids = list_make1(own);
	ListCell *lc;

	*own = view;
	foreach (lc, cq_shards_of_view(view))
	{
		CqShardRow *shard = lfirst(lc);

		if (shard->number != CQ_SHARD_RETIRED)
			ids = lappend(ids, &shard->id);
	}
	return ids;
}

void
cq_shard_set_number(int64 id, int number)
{
	Relation rel = cq_table_open("shards", RowExclusiveLock);
	HeapTuple row = cq_table_find(rel, COL_ID, Int64GetDatum(id));

	if (!HeapTupleIsValid(row))
		elog(ERROR, "shard %lld does not exist", (long long) id);
	cq_table_set(rel, row, COL_NUMBER, Int32GetDatum(number), number == CQ_SHARD_RETIRED);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

void
cq_shard_remove(const CqShardRow *shard)
{
	static const struct
	{
		const char *table;
		AttrNumber column;
	} places[] = {{"shards", COL_ID}, {"checkpoints", 1}, {"inputs", 1}};
	List *tables = cq_view_more_chunks(shard->id);
	ListCell *lc;
	int i;

	Assert(shard->number == CQ_SHARD_RETIRED);
	if (OidIsValid(shard->chunks))
		tables = lcons_oid(shard->chunks, tables);
	for (i = 0; i < lengthof(places); i++)
	{
		Relation rel = cq_table_open(places[i].table, RowExclusiveLock);

		cq_table_delete(rel, places[i].column, Int64GetDatum(shard->id));
		table_close(rel, NoLock);
	}
	CommandCounterIncrement();
	foreach (lc, tables)
		drop_part(lfirst_oid(lc));
}

/* As a part of its view it could not be dropped alone. */
static void
drop_part(Oid table)
{
	ObjectAddress part;

	deleteDependencyRecordsForClass(RelationRelationId,
									table,
									RelationRelationId,
									DEPENDENCY_INTERNAL);
	CommandCounterIncrement();
	ObjectAddressSet(part, RelationRelationId, table);
	performDeletion(&part, DROP_RESTRICT, PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY);
	CommandCounterIncrement();
}

void
cq_shards_delete(int64 view)
{
	Relation rel = cq_table_open("shards", RowExclusiveLock);
	Relation checkpoints = cq_table_open("checkpoints", RowExclusiveLock);
	Relation inputs = cq_table_open("inputs", RowExclusiveLock);
	ListCell *lc;

	foreach (lc, cq_shards_of_view(view))
	{
		Datum id = Int64GetDatum(((CqShardRow *) lfirst(lc))->id);

		cq_table_delete(checkpoints, 1, id);
		cq_table_delete(inputs, 1, id);
	}
	cq_table_delete(rel, COL_VIEW, Int64GetDatum(view));
	table_close(inputs, NoLock);
	table_close(checkpoints, NoLock);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}
