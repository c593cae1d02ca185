/*
 * tables.c
 *	  Finding, reading and changing single rows of the extension's tables.
 *
 * The tables have a row per view, so they are small; scans need no index, which
 * also makes them independent of index names and of REINDEX.  dead_letters, the
 * one that can grow, is only scanned when a view is dropped.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog/tables.h"

static void key_init(Relation rel, ScanKey scankey, AttrNumber column, Datum key);

Relation
cq_table_open(const char *name, LOCKMODE mode)
{
	Oid schema = get_namespace_oid("pipeline_data", true);
	Oid relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(relid))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("table \"pipeline_data.%s\" does not exist", name),
				errhint("Run CREATE EXTENSION pipeline_ext in this database."));
	return table_open(relid, mode);
}

static void
key_init(Relation rel, ScanKey scankey, AttrNumber column, Datum key)
{
	bool is_bigint = TupleDescAttr(RelationGetDescr(rel), column - 1)->atttypid == INT8OID;

	ScanKeyInit(scankey, column, BTEqualStrategyNumber, is_bigint ? F_INT8EQ : F_OIDEQ, key);
}

HeapTuple
cq_table_find(Relation rel, AttrNumber column, Datum key)
{
	ScanKeyData scankey;
	SysScanDesc scan;
	HeapTuple row;

	key_init(rel, &scankey, column, key);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &scankey);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row))
		row = heap_copytuple(row);
	systable_endscan(scan);
	return row;
}

HeapTuple
cq_table_lock(Relation rel, AttrNumber column, Datum key, bool wait)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TM_Result result = TM_Updated;
	HeapTuple locked = NULL;

	while (result == TM_Updated || result == TM_Deleted)
	{
		HeapTuple row = cq_table_find(rel, column, key);
		TM_FailureData failure;

		CHECK_FOR_INTERRUPTS();
		if (!HeapTupleIsValid(row))
			break;
		result = table_tuple_lock(rel,
								  &row->t_self,
								  InvalidSnapshot,
								  slot,
								  GetCurrentCommandId(true),
								  LockTupleNoKeyExclusive,
								  wait ? LockWaitBlock : LockWaitSkip,
								  0,
								  &failure);
		if (result == TM_Ok)
			locked = ExecCopySlotHeapTuple(slot);
		heap_freetuple(row);
	}
	ExecDropSingleTupleTableSlot(slot);
	return locked;
}

int
cq_table_delete(Relation rel, AttrNumber column, Datum key)
{
	ScanKeyData scankey;
	SysScanDesc scan;
	HeapTuple row;
	int deleted = 0;

	key_init(rel, &scankey, column, key);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &scankey);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		CatalogTupleDelete(rel, &row->t_self);
		deleted++;
	}
	systable_endscan(scan);
	return deleted;
}

void
cq_table_set(Relation rel, HeapTuple row, AttrNumber column, Datum value, bool isnull)
{
	HeapTuple changed;

	changed = heap_modify_tuple_by_cols(row,
										RelationGetDescr(rel),
										1,
										(int *) (int[]){column},
										&value,
										&isnull);
	CatalogTupleUpdate(rel, &row->t_self, changed);
	heap_freetuple(changed);
}

int
cq_relation_natts(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	int natts;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	natts = ((Form_pg_class) GETSTRUCT(tuple))->relnatts;
	ReleaseSysCache(tuple);
	return natts;
}
