/*
 * family.c
 *	  Streams that are partitions or children of other tables, or have children.
 *
 * A stream may be a partition: rows that are inserted into the parent go to it,
 * and ordinary queries on the parent read it.  But a continuous view reads
 * either a stream or a table, and of a query on a parent it is not clear which;
 * so such a query is refused, and such a parent while a view reads it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "nodes/parsenodes.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "catalog/rows.h"
#include "ddl/family.h"
#include "ddl/handlers.h"
#include "ddl/readers.h"
#include "source/stream.h"

static List *ancestors_of(Oid relid);
static List *parents_of(Oid relid);

List *
cq_family_streams(Oid relid)
{
	char kind = OidIsValid(relid) ? get_rel_relkind(relid) : '\0';
	List *streams = NIL;
	ListCell *lc;

	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE &&
		 kind != RELKIND_FOREIGN_TABLE) ||
		!cq_extension_exists())
		return NIL;
	if (!has_subclass(relid))
		return cq_is_stream(relid) ? list_make1_oid(relid) : NIL;
	foreach (lc, find_all_inheritors(relid, NoLock, NULL))
		if (cq_is_stream(lfirst_oid(lc)))
			streams = lappend_oid(streams, lfirst_oid(lc));
	return streams;
}

void
cq_family_check(Oid child)
{
	List *relatives;
	List *readers = NIL;
	bool has_stream;
	ListCell *lc;

	if (!OidIsValid(child) || !cq_extension_exists())
		return;
	CommandCounterIncrement();
	relatives = ancestors_of(child);
	has_stream = cq_family_streams(child) != NIL;
	foreach (lc, relatives)
		has_stream = has_stream || cq_is_stream(lfirst_oid(lc));
	if (!has_stream)
		return;
	foreach (lc, relatives)
		readers = list_concat_unique_oid(readers,
										 cq_readers(RelationRelationId, lfirst_oid(lc), 0, true));
	cq_readers_check(readers);
}

static List *
ancestors_of(Oid relid)
{
	List *ancestors = parents_of(relid);
	int i;

	for (i = 0; i < list_length(ancestors); i++)
		ancestors = list_concat_unique_oid(ancestors, parents_of(list_nth_oid(ancestors, i)));
	return ancestors;
}

static List *
parents_of(Oid relid)
{
	Relation inherits = table_open(InheritsRelationId, AccessShareLock);
	List *parents = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple row;

	ScanKeyInit(&key,
				Anum_pg_inherits_inhrelid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
		parents = lappend_oid(parents, ((Form_pg_inherits) GETSTRUCT(row))->inhparent);
	systable_endscan(scan);
	table_close(inherits, AccessShareLock);
	return parents;
}

void
cq_create_table(CqUtility *utility)
{
	CreateStmt *stmt = (CreateStmt *) utility->pstmt->utilityStmt;
	RangeVar *name = stmt->inhRelations != NIL ? copyObject(stmt->relation) : NULL;

	cq_utility_next(utility);
	if (name == NULL)
		return;
	CommandCounterIncrement();
	cq_family_check(RangeVarGetRelid(name, NoLock, true));
}
