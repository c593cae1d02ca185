/*
 * retry_dead_letters.c
 *	  SQL: choose dead letters of a view whose records shall be processed again.
 *
 * The condition is evaluated as the caller, who could run it anyway, over what the
 * caller may see.  Whatever it makes of the query, what comes out are numbers, and of
 * these those are marked that are dead letters of the view.  What the worker does
 * then is in runtime/retry.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "api/check.h"
#include "ddl/identity.h"
#include "ddl/shards.h"
#include "monitor/slots.h"

/* So many are marked at once. */
#define CHUNK 10000

PG_FUNCTION_INFO_V1(cq_retry_dead_letters);

static Portal chosen_open(const CqView *view, const char *condition);
static int64 mark(const CqView *view, Datum *ids, int n);
static Datum streams_array(const CqView *view);

Datum
cq_retry_dead_letters(PG_FUNCTION_ARGS)
{
	int64 marked = 0;
	CqView view;
	CqTask task;
	Portal chosen;

	PreventCommandIfReadOnly("pipeline.retry_dead_letters()");
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	cq_api_own_view(PG_GETARG_OID(0), &view, &task);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	chosen = chosen_open(&view, PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	for (;;)
	{
		Datum *ids;
		int n;
		int i;

		SPI_cursor_fetch(chosen, true, CHUNK);
		n = (int) SPI_processed;
		if (n == 0)
			break;
		ids = palloc(sizeof(Datum) * n);
		for (i = 0; i < n; i++)
		{
			bool isnull;

			ids[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
			if (isnull)
				ids[i] = Int64GetDatum(0);
		}
		SPI_freetuptable(SPI_tuptable);
		marked += mark(&view, ids, n);
		pfree(ids);
	}
	SPI_cursor_close(chosen);
	SPI_finish();
	if (marked > 0)
	{
		cq_task_set_retry(view.id);
		cq_shards_at_commit(CQ_SLOT_ASKED, view.id);
	}
	PG_RETURN_INT64(marked);
}

static Portal
chosen_open(const CqView *view, const char *condition)
{
	Oid types[1] = {REGCLASSOID};
	Datum values[1] = {ObjectIdGetDatum(view->view)};
	StringInfoData sql;
	Portal portal;

	initStringInfo(&sql);
	appendStringInfoString(&sql,
						   "SELECT id::pg_catalog.int8 FROM pipeline.dead_letters "
						   "WHERE view OPERATOR(pg_catalog.=) $1");
	/* a comment at its end must not take the bracket along */
	if (condition)
		appendStringInfo(&sql, " AND (%s\n)", condition);
	portal = SPI_cursor_open_with_args(NULL, sql.data, 1, types, values, NULL, true, 0);
	if (portal->tupDesc == NULL || portal->tupDesc->natts != 1 ||
		TupleDescAttr(portal->tupDesc, 0)->atttypid != INT8OID)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("\"where\" is not a condition"),
				errhint("Write what could stand behind WHERE in a query over "
						"pipeline.dead_letters."));
	return portal;
}

/* As the system, on whose tables nobody has rights, and with nothing of the caller's in reach. */
static int64
mark(const CqView *view, Datum *ids, int n)
{
	Oid types[3] = {INT8OID, INT8ARRAYOID, OIDARRAYOID};
	Datum values[3];
	CqIdentity saved;

	values[0] = Int64GetDatum(view->id);
	values[1] = PointerGetDatum(
		construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[2] = streams_array(view);
	cq_identity_system(&saved);
	(void) set_config_option("search_path",
							 "pg_catalog, pg_temp",
							 PGC_USERSET,
							 PGC_S_SESSION,
							 GUC_ACTION_SAVE,
							 true,
							 0,
							 false);
	if (SPI_execute_with_args("UPDATE pipeline_data.dead_letters SET retry = true "
							  "WHERE view = $1 AND NOT retry AND NOT truncated AND id = ANY ($2) "
							  "AND stream = ANY ($3)",
							  3,
							  types,
							  values,
							  NULL,
							  false,
							  0) != SPI_OK_UPDATE)
		elog(ERROR, "could not mark dead letters: %s", SPI_result_code_string(SPI_result));
	cq_identity_restore(&saved);
	return (int64) SPI_processed;
}

static Datum
streams_array(const CqView *view)
{
	Datum *oids = palloc(sizeof(Datum) * list_length(view->streams));
	ListCell *lc;

	foreach (lc, view->streams)
		oids[foreach_current_index(lc)] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(
		construct_array(oids, list_length(view->streams), OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}
