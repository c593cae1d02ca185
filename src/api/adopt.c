/*
 * adopt.c
 *	  pipeline.adopt(): let the views of a restored or copied database run here.
 *
 * A dump keeps our rows and all relations, but not that a view's parts belong to it,
 * nor whose tasks these are.  A copy by CREATE DATABASE ... TEMPLATE keeps that, too,
 * except for the database's identity.
 *
 * Views that are run here already are left alone.  Of the others none may be torn
 * (catalog/whole.c), nor may there be hidden relations that no row names: what was
 * restored without our rows, by pg_dump --schema-only for instance, looks like a
 * view and is never filled.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/whole.h"
#include "ddl/parts.h"
#include "monitor/slots.h"
#include "source/local/local.h"
#include "source/local/storage.h"

PG_FUNCTION_INFO_V1(cq_adopt);

static List *foreign_views(void);
static void refuse_torn(List *views);
static void take_as_is(List *views);
static void orphans_find(bool accept_loss);
static void parts_give(Oid view, ArrayType *parts);
static void pass_ids(void);

/* The view, its parts, the query among them as text, and whether there are rows in any. */
static const char orphans_query[] =
	"SELECT DISTINCT r.ev_class, p.oids, q.oid::regclass, p.filled "
	"FROM pg_class q "
	"JOIN pg_class t ON t.relnamespace = q.relnamespace AND t.relname = 't_' || substr(q.relname, 3) "
	"JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid "
	"AND d.classid = 'pg_rewrite'::regclass "
	"JOIN pg_rewrite r ON r.oid = d.objid "
	"JOIN pg_class v ON v.oid = r.ev_class "
	"CROSS JOIN LATERAL (SELECT array_agg(p.oid ORDER BY p.oid) AS oids, "
	"COALESCE(bool_or(p.relkind = 'r' AND pg_relation_size(p.oid) > 0), false) AS filled "
	"FROM pg_class p WHERE p.relnamespace = q.relnamespace "
	"AND p.relname ~ ('^[fhkqt]_' || substr(q.relname, 3) || '$') "
	"OR p.relnamespace = v.relnamespace AND p.relname = v.relname || '_late' AND EXISTS "
	"(SELECT FROM pg_attribute a WHERE a.attrelid = p.oid AND a.attname = 'late_windows')) p "
	"WHERE q.relnamespace = 'pipeline_data'::regnamespace AND q.relkind = 'v' "
	"AND q.relname ~ '^q_[0-9]+$' AND v.relnamespace <> q.relnamespace "
	"AND NOT EXISTS (SELECT FROM pipeline_data.views w WHERE w.query = q.oid)";

Datum
cq_adopt(PG_FUNCTION_ARGS)
{
	bool accept_loss = PG_GETARG_BOOL(0);
	List *views;
	ListCell *lc;

	PreventCommandIfReadOnly("pipeline.adopt()");
	cq_require_preload();
	if (!superuser())
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be superuser to adopt the continuous views of a database"));
	views = foreign_views();
	if (accept_loss)
		take_as_is(views);
	else
		refuse_torn(views);
	pass_ids();
	foreach (lc, views)
		cq_parts_record(lfirst(lc));
	orphans_find(accept_loss);
	foreach (lc, cq_local_streams())
		cq_local_stream_adopt(lfirst_oid(lc));
	cq_tasks_adopt();
	cq_slots_at_commit(CQ_SLOT_PROBE, 0);
	PG_RETURN_VOID();
}

/* Views that do not run here, as they come from another database: of CqView *. */
static List *
foreign_views(void)
{
	List *views = NIL;
	ListCell *lc;

	foreach (lc, cq_view_ids())
	{
		CqView *view = palloc(sizeof(CqView));
		CqTask task;

		if (cq_view_load(*(int64 *) lfirst(lc), view) &&
			(!cq_task_load(view->id, &task) || !cq_task_is_ours(&task)))
			views = lappend(views, view);
	}
	return views;
}

static void
refuse_torn(List *views)
{
	StringInfoData detail;
	ListCell *lc;

	initStringInfo(&detail);
	foreach (lc, views)
	{
		const CqView *view = lfirst(lc);
		char *torn = cq_view_torn(view);

		if (torn)
			appendStringInfo(&detail,
							 "%sContinuous view \"%s\": %s.",
							 detail.len > 0 ? "\n" : "",
							 get_rel_name(view->view),
							 torn);
	}
	if (detail.len > 0)
		ereport(ERROR,
				errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("the continuous views of this database were not restored completely"),
				errdetail_internal("%s", detail.data),
				errhint("Restore all of one dump, without leaving tables of schema pipeline_data "
						"out; or drop these views; or let them go on as they are by "
						"pipeline.adopt(accept_loss => true)."));
}

static void
take_as_is(List *views)
{
	ListCell *lc;

	foreach (lc, views)
	{
		const CqView *view = lfirst(lc);
		CqTask task;

		if (!cq_task_load(view->id, &task) || !cq_view_take_as_is(view))
			ereport(ERROR,
					errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("continuous view \"%s\" was restored without its position",
						   get_rel_name(view->view)),
					errhint("Drop it, or restore all of one dump."));
	}
}

/*
 * Views over hidden tables that nothing is known of.  With data in them part of a
 * restore is missing; without, only the definitions were restored, which cannot say
 * how the views were created.  Their parts are given to them, so that DROP VIEW takes
 * all away.
 */
static void
orphans_find(bool accept_loss)
{
	StringInfoData names;
	MemoryContext caller = CurrentMemoryContext;
	uint64 i;

	initStringInfo(&names);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute(orphans_query, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for views without a row");
	for (i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		Oid view = DatumGetObjectId(SPI_getbinval(row, desc, 1, &isnull));
		Datum parts = SPI_getbinval(row, desc, 2, &isnull);

		parts_give(view, DatumGetArrayTypeP(parts));
		if (DatumGetBool(SPI_getbinval(row, desc, 4, &isnull)) && !accept_loss)
			ereport(ERROR,
					errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("view \"%s\" was restored without what makes it continuous",
						   get_rel_name(view)),
					errdetail("Its hidden tables have rows, but pipeline_data.views does not "
							  "name it."),
					errhint("Restore all of one dump; or drop the view; or let it be an ordinary "
							"view by pipeline.adopt(accept_loss => true)."));
		MemoryContextSwitchTo(caller);
		appendStringInfo(&names,
						 "%s%s (query: %s)",
						 names.len > 0 ? ", " : "",
						 get_rel_name(view),
						 SPI_getvalue(row, desc, 3));
	}
	SPI_finish();
	if (names.len > 0)
		ereport(WARNING,
				errmsg("views that were restored without their data are not continuous any more"),
				errdetail("They stay empty: %s.", names.data),
				errhint("Drop them and create them again; pg_get_viewdef() shows the queries."));
}

static void
parts_give(Oid view, ArrayType *parts)
{
	ObjectAddress whole;
	Datum *oids;
	int n;
	int i;

	deconstruct_array(parts, OIDOID, sizeof(Oid), true, TYPALIGN_INT, &oids, NULL, &n);
	ObjectAddressSet(whole, RelationRelationId, view);
	for (i = 0; i < n; i++)
	{
		ObjectAddress part;

		ObjectAddressSet(part, RelationRelationId, DatumGetObjectId(oids[i]));
		if (!OidIsValid(cq_parts_view_of(part.objectId)))
			recordDependencyOn(&part, &whole, DEPENDENCY_INTERNAL);
	}
}

/* New views must not be given numbers that hidden relations have in their names. */
static void
pass_ids(void)
{
	cq_local_execute(
		"SELECT setval('pipeline_data.id_seq', n) "
		"FROM (SELECT max(substring(relname FROM '^[a-z]_([0-9]+)')::bigint) AS n FROM pg_class "
		"WHERE relnamespace = 'pipeline_data'::regnamespace AND relname ~ '^[fhklqt]_[0-9]+') AS c "
		"WHERE n > (SELECT last_value FROM pipeline_data.id_seq)");
}
