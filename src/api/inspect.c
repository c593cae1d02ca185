/*
 * inspect.c
 *	  watermark, explain and version.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/check.h"
#include "catalog/shards.h"
#include "catalog/tables.h"
#include "compat.h"
#include "ddl/identity.h"
#include "ddl/parts.h"
#include "plan/view_plan.h"
#include "version.h"

PG_FUNCTION_INFO_V1(cq_watermark);
PG_FUNCTION_INFO_V1(cq_explain);
PG_FUNCTION_INFO_V1(cq_version);

static bool committed_watermark(int64 task, TimestampTz *watermark);
static void return_lines(FunctionCallInfo fcinfo, char *text);

/* As of the caller's snapshot, so that it fits the rows which the caller sees. */
Datum
cq_watermark(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	TimestampTz watermark = DT_NOBEGIN;
	CqView view;
	CqTask task;

	cq_api_readable_view(relid, &view, &task);
	if (!committed_watermark(view.id, &watermark))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(watermark);
}

static bool
committed_watermark(int64 task, TimestampTz *watermark)
{
	Relation rel = cq_table_open("checkpoints", AccessShareLock);
	AttrNumber column = get_attnum(RelationGetRelid(rel), "closed_to");
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple row;
	bool isnull = true;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(task));
	scan = systable_beginscan(rel, cq_compat_primary_key(rel), true, GetActiveSnapshot(), 1, &key);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row))
		*watermark = DatumGetTimestampTz(heap_getattr(row, column, RelationGetDescr(rel), &isnull));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return !isnull;
}

/*
 * Planning runs functions of the owner's choice, so it is done as the owner,
 * whoever asks.
 */
Datum
cq_explain(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	CqIdentity saved;
	CqView view;
	CqTask task;
	CqPlan *plan;
	char *text;

	cq_api_own_view(relid, &view, &task);
	cq_identity_owner(cq_parts_owner(relid), view.settings, &saved);
	plan = cq_view_plan(&view, cq_shards_of_view(view.id) != NIL);
	text = cq_plan_explain(plan);
	cq_identity_restore(&saved);
	return_lines(fcinfo, text);
	return (Datum) 0;
}

static void
return_lines(FunctionCallInfo fcinfo, char *text)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *line = text;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	while (line && *line)
	{
		char *end = strchr(line, '\n');
		Datum value;
		bool isnull = false;

		if (end)
			*end = '\0';
		value = CStringGetTextDatum(line);
		tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
		line = end ? end + 1 : NULL;
	}
}

Datum
cq_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(CQ_VERSION));
}
