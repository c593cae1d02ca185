/*
 * replay.c
 *	  pipeline.replay(): rebuild a view from history, beside the running one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "api/check.h"
#include "api/exchange.h"
#include "catalog/beginnings.h"
#include "ddl/replay.h"

PG_FUNCTION_INFO_V1(cq_replay);

static Oid create_beside(const CqView *view, TimestampTz from);

Datum
cq_replay(PG_FUNCTION_ARGS)
{
	TimestampTz from = PG_ARGISNULL(1) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(1);
	CqRebuild rebuild = {
		.view = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0),
		.replace_from = PG_ARGISNULL(2) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(2),
	};
	CqView view;
	CqTask task;

	PreventCommandIfReadOnly("pipeline.replay()");
	cq_exchange_check_call(fcinfo, "pipeline.replay()");
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	cq_api_own_view(rebuild.view, &view, &task);
	cq_replay_check(&view, rebuild.replace_from, false);
	rebuild.fresh = create_beside(&view, from);
	SPI_commit();
	cq_exchange(&rebuild);
	SPI_finish();
	PG_RETURN_VOID();
}

static Oid
create_beside(const CqView *view, TimestampTz from)
{
	CqBeginning beginning = {.history_rows = -1};
	CqView fresh;
	Oid relid;

	beginning.start = "earliest";
	if (!TIMESTAMP_IS_NOBEGIN(from))
		beginning.start =
			DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(from)));
	relid = cq_replay_create(view, "replay", beginning.start);
	if (!cq_view_load_by_oid(relid, &fresh))
		cq_view_gone(NULL);
	/* the view begins there when it has taken the new one's place, whatever its option says */
	beginning.view = fresh.id;
	cq_beginning_save(&beginning);
	return relid;
}
