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
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog/tables.h"
#include "version.h"

/* In this transaction the library and the objects are of the same version. */
static bool version_checked = false;

static void check_version(void);
static char *installed_version(void);
static int compare_versions(const char *a, const char *b);
static void forget_check(XactEvent event, void *arg);
static void key_init(Relation rel, ScanKey scankey, AttrNumber column, Datum key);

Relation
cq_table_open(const char *name, LOCKMODE mode)
{
	Oid schema = get_namespace_oid("pipeline_data", true);
	Oid relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	check_version();
	if (!OidIsValid(relid))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("table \"pipeline_data.%s\" does not exist", name),
				errhint("Run CREATE EXTENSION pipeline_ext in this database."));
	return table_open(relid, mode);
}

/*
 * Tables of another version are not touched: its columns may mean something else.  Once
 * for each transaction, as ALTER EXTENSION may come between two.  Its own script may do
 * what it likes.
 */
static void
check_version(void)
{
	static bool registered = false;
	char *installed;

	if (version_checked || creating_extension)
		return;
	installed = installed_version();
	if (installed && strcmp(installed, CQ_VERSION) != 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the library of pipeline_ext has version %s, but its objects in this "
					   "database have version %s",
					   CQ_VERSION,
					   installed),
				compare_versions(installed, CQ_VERSION) > 0
					? errhint("Restart the server, so that it loads the new library.")
					: errhint("Run ALTER EXTENSION pipeline_ext UPDATE in this database."));
	if (!registered)
		RegisterXactCallback(forget_check, NULL);
	registered = true;
	version_checked = true;
}

static char *
installed_version(void)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple row;
	char *version = NULL;

	ScanKeyInit(&key,
				Anum_pg_extension_extname,
				BTEqualStrategyNumber,
				F_NAMEEQ,
				CStringGetDatum("pipeline_ext"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row))
	{
		bool isnull;
		Datum value =
			heap_getattr(row, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		version = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

/* By the numbers between the dots. */
static int
compare_versions(const char *a, const char *b)
{
	for (;;)
	{
		char *a_end;
		char *b_end;
		long x = strtol(a, &a_end, 10);
		long y = strtol(b, &b_end, 10);

		if (x != y)
			return x < y ? -1 : 1;
		if (*a_end != '.' || *b_end != '.')
			return (*a_end == '.') - (*b_end == '.');
		a = a_end + 1;
		b = b_end + 1;
	}
}

static void
forget_check(XactEvent event, void *arg)
{
	version_checked = false;
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
