/*
 * backfill.c
 *	  pipeline.backfill(): rebuild a view from rows of a query and its stream.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/check.h"
#include "api/exchange.h"
#include "catalog/beginnings.h"
#include "catalog/rows.h"
#include "ddl/backfill.h"
#include "ddl/replay.h"
#include "monitor/wait_event.h"

/* For how long a view may take to begin with its stream, and how often it is looked at. */
#define BEGIN_US (60 * USECS_PER_SEC)
#define LOOK_MS	 20

PG_FUNCTION_INFO_V1(cq_backfill);

static void wait_for_beginning(const CqView *view);
static void warn_of_dead_letters(const CqView *view);

Datum
cq_backfill(PG_FUNCTION_ARGS)
{
	CqRebuild rebuild = {
		.view = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0),
		.replace_from = DT_NOBEGIN,
		.with_history = true,
	};
	CqView view;
	CqTask task;

	PreventCommandIfReadOnly("pipeline.backfill()");
	cq_exchange_check_call(fcinfo, "pipeline.backfill()");
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	cq_api_own_view(rebuild.view, &view, &task);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("query of history cannot be null"));
	cq_replay_check(&view, rebuild.replace_from, true);
	wait_for_beginning(&view);
	rebuild.fresh = cq_backfill_create(&view, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	SPI_commit();
	cq_exchange(&rebuild);
	warn_of_dead_letters(&view);
	SPI_finish();
	PG_RETURN_VOID();
}

static void
wait_for_beginning(const CqView *view)
{
	TimestampTz deadline = GetCurrentTimestamp() + BEGIN_US;

	while (!cq_backfill_is_ready(view))
	{
		if (GetCurrentTimestamp() > deadline)
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("continuous view \"%s\" has not begun to read its stream",
						   get_rel_name(view->view)),
					errhint("See pipeline.stat_views for what it waits for, or pause it before."));
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_MS,
						 cq_wait_event(CQ_WAIT_CATCH_UP));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* They are taken for records, and that some could not be processed is to be seen. */
static void
warn_of_dead_letters(const CqView *view)
{
	int64 letters;

	PushActiveSnapshot(GetTransactionSnapshot());
	letters = cq_history_dead_letters(view->id);
	PopActiveSnapshot();
	if (letters > 0)
		ereport(WARNING,
				errmsg_plural("%lld row of the query could not be processed",
							  "%lld rows of the query could not be processed",
							  (unsigned long) letters,
							  (long long) letters),
				errhint("They are in pipeline.dead_letters, with partition %d and their number as "
						"offset.",
						CQ_HISTORY_PARTITION));
}
