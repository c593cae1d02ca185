/*
 * views.c
 *	  Rows of pipeline_data.views.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/rows.h"
#include "catalog/shards.h"
#include "catalog/tables.h"

enum
{
	COL_ID = 1,
	COL_VIEW,
	COL_STREAMS,
	COL_QUERY,
	COL_RESULT,
	COL_CHUNKS,
	COL_LATE,
	COL_OPTIONS,
	COL_SETTINGS,
	COL_LATE_PLACES,
	COL_COUNT = COL_LATE_PLACES
};

static void view_from_row(Relation rel, HeapTuple row, CqView *view);
static List *views_list(Oid stream);
static Datum oids_to_array(List *oids);
static List *array_to_oids(Datum array);
static Datum strings_to_array(List *strings);
static void set_column(int64 id, AttrNumber column, Datum value);
static int compare_ids(const ListCell *a, const ListCell *b);
static List *array_to_strings(Datum array);
static Datum ints_to_array(List *ints);
static List *array_to_ints(Datum array);
static Oid oid_or_invalid(Datum value, bool isnull);

bool
cq_extension_exists(void)
{
	return IsTransactionState() && OidIsValid(get_extension_oid("pipeline_ext", true)) &&
		   OidIsValid(get_namespace_oid("pipeline_data", true));
}

void
cq_view_insert(const CqView *view)
{
	Relation rel = cq_table_open("views", RowExclusiveLock);
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT] = {false};
	HeapTuple row;

	values[COL_ID - 1] = Int64GetDatum(view->id);
	values[COL_VIEW - 1] = ObjectIdGetDatum(view->view);
	values[COL_STREAMS - 1] = oids_to_array(view->streams);
	values[COL_QUERY - 1] = ObjectIdGetDatum(view->query);
	values[COL_RESULT - 1] = ObjectIdGetDatum(view->result);
	values[COL_CHUNKS - 1] = ObjectIdGetDatum(view->chunks);
	nulls[COL_CHUNKS - 1] = !OidIsValid(view->chunks);
	values[COL_LATE - 1] = ObjectIdGetDatum(view->late);
	nulls[COL_LATE - 1] = !OidIsValid(view->late);
	values[COL_OPTIONS - 1] = strings_to_array(view->options.given);
	values[COL_SETTINGS - 1] = strings_to_array(view->settings);
	nulls[COL_LATE_PLACES - 1] = view->late_places == NIL;
	if (view->late_places != NIL)
		values[COL_LATE_PLACES - 1] = ints_to_array(view->late_places);
	row = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, row);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

static void
view_from_row(Relation rel, HeapTuple row, CqView *view)
{
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT];
	char *name;

	heap_deform_tuple(row, RelationGetDescr(rel), values, nulls);
	view->id = DatumGetInt64(values[COL_ID - 1]);
	view->view = DatumGetObjectId(values[COL_VIEW - 1]);
	view->streams = array_to_oids(values[COL_STREAMS - 1]);
	view->stream = linitial_oid(view->streams);
	view->query = DatumGetObjectId(values[COL_QUERY - 1]);
	view->result = DatumGetObjectId(values[COL_RESULT - 1]);
	view->chunks = oid_or_invalid(values[COL_CHUNKS - 1], nulls[COL_CHUNKS - 1]);
	view->late = oid_or_invalid(values[COL_LATE - 1], nulls[COL_LATE - 1]);
	view->settings = array_to_strings(values[COL_SETTINGS - 1]);
	view->late_places =
		nulls[COL_LATE_PLACES - 1] ? NIL : array_to_ints(values[COL_LATE_PLACES - 1]);
	name = get_rel_name(view->view);
	cq_view_options_parse(array_to_strings(values[COL_OPTIONS - 1]),
						  name ? name : "?",
						  &view->options);
}

static Oid
oid_or_invalid(Datum value, bool isnull)
{
	return isnull ? InvalidOid : DatumGetObjectId(value);
}

bool
cq_view_load(int64 id, CqView *view)
{
	Relation rel = cq_table_open("views", AccessShareLock);
	HeapTuple row = cq_table_find(rel, COL_ID, Int64GetDatum(id));

	if (HeapTupleIsValid(row))
		view_from_row(rel, row, view);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(row);
}

bool
cq_view_load_by_oid(Oid relid, CqView *view)
{
	Relation rel = cq_table_open("views", AccessShareLock);
	HeapTuple row = cq_table_find(rel, COL_VIEW, ObjectIdGetDatum(relid));

	if (HeapTupleIsValid(row))
		view_from_row(rel, row, view);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(row);
}

List *
cq_views_all(void)
{
	return views_list(InvalidOid);
}

List *
cq_view_ids(void)
{
	Relation rel = cq_table_open("views", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple row;
	List *ids = NIL;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		int64 *id = palloc(sizeof(int64));
		bool isnull;

		*id = DatumGetInt64(heap_getattr(row, COL_ID, RelationGetDescr(rel), &isnull));
		ids = lappend(ids, id);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return ids;
}

List *
cq_views_of_stream(Oid stream)
{
	return views_list(stream);
}

static List *
views_list(Oid stream)
{
	Relation rel = cq_table_open("views", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple row;
	List *ids = NIL;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		bool isnull;
		int64 *id;
		Datum streams = heap_getattr(row, COL_STREAMS, RelationGetDescr(rel), &isnull);

		if (OidIsValid(stream) && !list_member_oid(array_to_oids(streams), stream))
			continue;
		id = palloc(sizeof(int64));
		*id = DatumGetInt64(heap_getattr(row, COL_ID, RelationGetDescr(rel), &isnull));
		ids = lappend(ids, id);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	/* the table's order is another one after a vacuum */
	list_sort(ids, compare_ids);
	return ids;
}

static int
compare_ids(const ListCell *a, const ListCell *b)
{
	int64 x = *(int64 *) lfirst(a);
	int64 y = *(int64 *) lfirst(b);

	return (x > y) - (x < y);
}

void
cq_view_delete(int64 id)
{
	static const struct
	{
		const char *table;
		AttrNumber column;
	} places[] = {{"views", COL_ID},
				  {"tasks", 1},
				  {"checkpoints", 1},
				  {"dead_letters", 1},
				  {"feeds", 2},
				  {"beginnings", 1},
				  {"inputs", 1}};
	int i;

	for (i = 0; i < lengthof(places); i++)
	{
		Relation rel = cq_table_open(places[i].table, RowExclusiveLock);

		cq_table_delete(rel, places[i].column, Int64GetDatum(id));
		table_close(rel, NoLock);
	}
	CommandCounterIncrement();
	cq_shards_delete(id);
}

void
cq_view_set_options(int64 id, List *given)
{
	set_column(id, COL_OPTIONS, strings_to_array(given));
}

void
cq_view_set_late_places(int64 id, List *places)
{
	set_column(id, COL_LATE_PLACES, ints_to_array(places));
}

static void
set_column(int64 id, AttrNumber column, Datum value)
{
	Relation rel = cq_table_open("views", RowExclusiveLock);
	HeapTuple row = cq_table_find(rel, COL_ID, Int64GetDatum(id));

	if (!HeapTupleIsValid(row))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("continuous view number %lld does not exist", (long long) id),
				errhint(
					"It was dropped meanwhile, or somebody changed the tables of pipeline_data."));
	cq_table_set(rel, row, column, value, false);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

static Datum
oids_to_array(List *oids)
{
	Datum *elements = palloc(sizeof(Datum) * Max(list_length(oids), 1));
	ListCell *lc;
	int n = 0;

	foreach (lc, oids)
		elements[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(
		construct_array(elements, n, REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT));
}

static List *
array_to_oids(Datum array)
{
	Datum *elements;
	List *oids = NIL;
	int n;
	int i;

	deconstruct_array(DatumGetArrayTypeP(array),
					  REGCLASSOID,
					  sizeof(Oid),
					  true,
					  TYPALIGN_INT,
					  &elements,
					  NULL,
					  &n);
	for (i = 0; i < n; i++)
		oids = lappend_oid(oids, DatumGetObjectId(elements[i]));
	return oids;
}

static Datum
strings_to_array(List *strings)
{
	Datum *elements = palloc(sizeof(Datum) * Max(list_length(strings), 1));
	ListCell *lc;
	int n = 0;

	foreach (lc, strings)
		elements[n++] = CStringGetTextDatum(lfirst(lc));
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static List *
array_to_strings(Datum array)
{
	Datum *elements;
	List *strings = NIL;
	int n;
	int i;

	deconstruct_array(DatumGetArrayTypeP(array),
					  TEXTOID,
					  -1,
					  false,
					  TYPALIGN_INT,
					  &elements,
					  NULL,
					  &n);
	for (i = 0; i < n; i++)
		strings = lappend(strings, TextDatumGetCString(elements[i]));
	return strings;
}

static Datum
ints_to_array(List *ints)
{
	Datum *elements = palloc(sizeof(Datum) * Max(list_length(ints), 1));
	ListCell *lc;
	int n = 0;

	foreach (lc, ints)
		elements[n++] = Int32GetDatum(lfirst_int(lc));
	return PointerGetDatum(
		construct_array(elements, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

static List *
array_to_ints(Datum array)
{
	Datum *elements;
	List *ints = NIL;
	int n;
	int i;

	deconstruct_array(DatumGetArrayTypeP(array),
					  INT4OID,
					  sizeof(int32),
					  true,
					  TYPALIGN_INT,
					  &elements,
					  NULL,
					  &n);
	for (i = 0; i < n; i++)
		ints = lappend_int(ints, DatumGetInt32(elements[i]));
	return ints;
}

void
cq_view_gone(const char *name)
{
	ereport(ERROR,
			errcode(ERRCODE_UNDEFINED_OBJECT),
			name ? errmsg("continuous view \"%s\" was dropped at the same time", name)
				 : errmsg("a continuous view was dropped at the same time"),
			errhint("Nothing was changed. If the view is there again, try again."));
}
