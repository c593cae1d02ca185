/*
 * replay.c
 *	  pipeline.replay(): rebuild a view from history, beside the running one.
 *
 * A procedure, because others must see the new view while it catches up: it
 * commits when that is there, and again with the exchange.  If it is interrupted
 * in between the new view is left, the old one is as it was.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/check.h"
#include "api/wait_for.h"
#include "compat.h"
#include "ddl/replay.h"
#include "ddl/shards.h"

/* For how long the view may be held while the new one does its last steps. */
#define HOLD_US (30 * USECS_PER_SEC)

/* And for how long a wait for it is, before it is looked at again. */
#define WAIT_US (60 * USECS_PER_SEC)

PG_FUNCTION_INFO_V1(cq_replay);

static void refuse_transaction_block(FunctionCallInfo fcinfo);
static bool exchange(Oid relid, Oid fresh, TimestampTz replace_from);
static void raise_watermark(const CqView *view, const CqView *fresh);
static void refuse_incomplete(const CqView *view, const CqView *fresh) CQ_NORETURN;

Datum
cq_replay(PG_FUNCTION_ARGS)
{
	TimestampTz from = PG_ARGISNULL(1) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(1);
	TimestampTz replace_from = PG_ARGISNULL(2) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(2);
	Oid relid = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	CqView view;
	CqTask task;
	Oid fresh;

	PreventCommandIfReadOnly("pipeline.replay()");
	refuse_transaction_block(fcinfo);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	cq_api_own_view(relid, &view, &task);
	cq_replay_check(&view, replace_from);
	fresh = cq_replay_create(&view, from);
	SPI_commit();
	do
		CHECK_FOR_INTERRUPTS();
	while (!exchange(relid, fresh, replace_from));
	SPI_finish();
	PG_RETURN_VOID();
}

static void
refuse_transaction_block(FunctionCallInfo fcinfo)
{
	if (fcinfo->context && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic)
		return;
	ereport(ERROR,
			errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			errmsg("pipeline.replay() cannot run inside a transaction block"),
			errhint("Call it alone; it commits by itself."));
}

/* One attempt; false if the view has moved on meanwhile. */
static bool
exchange(Oid relid, Oid fresh_relid, TimestampTz replace_from)
{
	CqReplayResult result;
	CqView view;
	CqView fresh;
	CqTask task;

	cq_api_own_view(relid, &view, &task);
	cq_api_own_view(fresh_relid, &fresh, &task);
	raise_watermark(&view, &fresh);
	SPI_commit();
	if (!cq_wait_until(fresh.id, fresh_relid, GetCurrentTimestamp() + WAIT_US))
		return false;

	cq_api_own_view(relid, &view, &task);
	cq_replay_check(&view, replace_from);
	cq_replay_hold(&view);
	if (!cq_wait_until(fresh.id, fresh_relid, GetCurrentTimestamp() + HOLD_US))
	{
		SPI_rollback();
		return false;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	result = cq_replay_swap(&view, &fresh, replace_from);
	PopActiveSnapshot();
	if (result == CQ_REPLAY_DONE)
		SPI_commit();
	else
		SPI_rollback();
	if (result == CQ_REPLAY_INCOMPLETE)
		refuse_incomplete(&view, &fresh);
	return result == CQ_REPLAY_DONE;
}

/* What closed the view's windows besides events closes those of the new one. */
static void
raise_watermark(const CqView *view, const CqView *fresh)
{
	CqCheckpoint old;
	CqCheckpoint now;
	int i;

	PushActiveSnapshot(GetTransactionSnapshot());
	if (cq_checkpoint_load(view->id, &old) && cq_checkpoint_load(fresh->id, &now) &&
		now.closed_to < old.closed_to)
	{
		for (i = 0; i < list_length(fresh->streams); i++)
			cq_task_set_advance(fresh->id, i, old.closed_to);
		cq_shards_at_commit(CQ_SLOT_CHANGED, fresh->id);
	}
	PopActiveSnapshot();
}

static void
refuse_incomplete(const CqView *view, const CqView *fresh)
{
	char *name = get_rel_name(view->view);

	cq_replay_drop(fresh);
	SPI_commit();
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("continuous view \"%s\" cannot be rebuilt as a whole", name),
			errdetail("Not all events that it has processed are still in the stream, or to be read "
					  "again."),
			errhint("Name the first window to be replaced in replace_from; rows of earlier windows "
					"stay as they are."));
}
