/*
 * readers.c
 *	  Which continuous views read an object, and whether they still could be made.
 *
 * What a view reads is a dependency of the rule of its hidden view with the
 * query (parts.c, V2), or of an ordinary view that the query reads.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "ddl/identity.h"
#include "ddl/parts.h"
#include "ddl/readers.h"

static List *views_over(Oid class_id, Oid object_id, int sub_id);
static List *columns_of_type(Oid type);
static void dependents_key(ScanKeyData *keys, Oid class_id, Oid object_id);
static Oid view_of_rule(Oid rule);

List *
cq_readers(Oid class_id, Oid object_id, int sub_id, bool through_views)
{
	List *pending = views_over(class_id, object_id, sub_id);
	List *readers = NIL;
	int i;

	for (i = 0; i < list_length(pending); i++)
	{
		Oid above = list_nth_oid(pending, i);
		Oid owner = cq_parts_view_of(above);
		CqView view;

		if (cq_readers_find(owner, &view))
		{
			if (view.query == above)
				readers = list_append_unique_oid(readers, owner);
		}
		else if (through_views && !cq_parts_find(above, &view))
			pending = list_concat_unique_oid(pending, views_over(RelationRelationId, above, 0));
	}
	return readers;
}

void
cq_readers_check(List *views)
{
	ListCell *lc;

	if (views == NIL)
		return;
	CommandCounterIncrement();
	foreach (lc, views)
	{
		CqView view;

		if (cq_parts_find(lfirst_oid(lc), &view))
			(void) cq_identity_plan(&view);
	}
}

bool
cq_readers_find(Oid relid, CqView *view)
{
	CqTask task;

	return cq_parts_find(relid, view) && cq_task_load(view->id, &task) && cq_task_is_ours(&task);
}

List *
cq_readers_of_type(Oid type)
{
	Oid array = get_array_type(type);
	List *columns = columns_of_type(type);
	List *readers = NIL;
	ListCell *lc;

	if (OidIsValid(array))
		columns = list_concat(columns, columns_of_type(array));
	foreach (lc, columns)
	{
		const ObjectAddress *column = lfirst(lc);
		Oid view = cq_parts_view_of(column->objectId);
		CqView found;

		if (cq_readers_find(view, &found))
			readers = list_append_unique_oid(readers, view);
		readers = list_concat_unique_oid(readers,
										 cq_readers(RelationRelationId,
													column->objectId,
													column->objectSubId,
													true));
	}
	return readers;
}

/* Of ObjectAddress. */
static List *
columns_of_type(Oid type)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	List *columns = NIL;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple row;

	dependents_key(keys, TypeRelationId, type);
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(row);
		ObjectAddress *column;

		if (form->classid != RelationRelationId || form->objsubid == 0)
			continue;
		column = palloc(sizeof(ObjectAddress));
		ObjectAddressSubSet(*column, form->classid, form->objid, form->objsubid);
		columns = lappend(columns, column);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return columns;
}

static void
dependents_key(ScanKeyData *keys, Oid class_id, Oid object_id)
{
	ScanKeyInit(&keys[0],
				Anum_pg_depend_refclassid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(class_id));
	ScanKeyInit(&keys[1],
				Anum_pg_depend_refobjid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(object_id));
}

/* OIDs of the views whose definition names the object. */
static List *
views_over(Oid class_id, Oid object_id, int sub_id)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	List *views = NIL;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple row;

	dependents_key(keys, class_id, object_id);
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(row);
		Oid view;

		if (form->classid != RewriteRelationId || form->deptype != DEPENDENCY_NORMAL ||
			(sub_id != 0 && form->refobjsubid != sub_id))
			continue;
		view = view_of_rule(form->objid);
		if (OidIsValid(view) && view != object_id)
			views = list_append_unique_oid(views, view);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return views;
}

/* InvalidOid if the rule is not what a view is made of. */
static Oid
view_of_rule(Oid rule)
{
	Relation rules = table_open(RewriteRelationId, AccessShareLock);
	Oid view = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple row;

	ScanKeyInit(&key, Anum_pg_rewrite_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(rule));
	scan = systable_beginscan(rules, RewriteOidIndexId, true, NULL, 1, &key);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row))
		view = ((Form_pg_rewrite) GETSTRUCT(row))->ev_class;
	systable_endscan(scan);
	table_close(rules, AccessShareLock);
	return OidIsValid(view) && get_rel_relkind(view) == RELKIND_VIEW ? view : InvalidOid;
}
