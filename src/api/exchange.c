/*
 * exchange.c
 *	  Wait until a view that was built beside another one has come to where that
 *	  is, and exchange the two.
 *
 * In a procedure, because others must see the new view while it catches up: it
 * commits when that is there, and again with the exchange.  If it is interrupted
 * in between the new view is left, the old one is as it was.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/check.h"
#include "api/exchange.h"
#include "api/wait_for.h"
#include "catalog/tables.h"
#include "compat.h"
#include "ddl/replay.h"
#include "ddl/shards.h"

/* For how long the view may be held while the new one does its last steps. */
#define HOLD_US (30 * USECS_PER_SEC)

/* And for how long a wait for it is, before it is looked at again. */
#define WAIT_US (60 * USECS_PER_SEC)

static bool try_exchange(const CqRebuild *rebuild);
static void check_columns(const CqRebuild *rebuild);
static void raise_watermark(const CqView *view, const CqView *fresh);
static void refuse_incomplete(const CqRebuild *rebuild, const CqView *fresh) CQ_NORETURN;

void
cq_exchange_check_call(FunctionCallInfo fcinfo, const char *procedure)
{
	if (fcinfo->context && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic)
		return;
	ereport(ERROR,
			errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			errmsg("%s cannot run inside a transaction block", procedure),
			errhint("Call it alone; it commits by itself."));
}

void
cq_exchange(const CqRebuild *rebuild)
{
	do
		CHECK_FOR_INTERRUPTS();
	while (!try_exchange(rebuild));
}

/* False if the view has moved on meanwhile. */
static bool
try_exchange(const CqRebuild *rebuild)
{
	CqReplayResult result;
	CqView view;
	CqView fresh;
	CqTask task;

	cq_api_own_view(rebuild->view, &view, &task);
	cq_api_own_view(rebuild->fresh, &fresh, &task);
	raise_watermark(&view, &fresh);
	SPI_commit();
	if (!cq_wait_until(fresh.id, rebuild->fresh, GetCurrentTimestamp() + WAIT_US))
		return false;

	/* first, as whoever alters it does */
	LockRelationOid(rebuild->view, ShareUpdateExclusiveLock);
	cq_api_own_view(rebuild->view, &view, &task);
	cq_replay_check(&view, rebuild->replace_from, rebuild->with_history);
	cq_replay_hold(&view, rebuild->with_history);
	if (!cq_wait_until(fresh.id, rebuild->fresh, GetCurrentTimestamp() + HOLD_US))
	{
		SPI_rollback();
		return false;
	}
	check_columns(rebuild);
	PushActiveSnapshot(GetTransactionSnapshot());
	result = cq_replay_swap(&view, &fresh, rebuild->replace_from);
	PopActiveSnapshot();
	if (result == CQ_REPLAY_DONE)
		SPI_commit();
	else
		SPI_rollback();
	if (result == CQ_REPLAY_INCOMPLETE)
		refuse_incomplete(rebuild, &fresh);
	return result == CQ_REPLAY_DONE;
}

/* The view may have been altered since the new one was created. */
static void
check_columns(const CqRebuild *rebuild)
{
	if (cq_relation_natts(rebuild->view) != cq_relation_natts(rebuild->fresh))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("continuous view \"%s\" was altered meanwhile", get_rel_name(rebuild->view)),
				errhint("Drop view \"%s\" and call the procedure again.",
						get_rel_name(rebuild->fresh)));
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
		cq_shards_at_commit(CQ_SLOT_ASKED, fresh->id);
	}
	PopActiveSnapshot();
}

static void
refuse_incomplete(const CqRebuild *rebuild, const CqView *fresh)
{
	char *name = get_rel_name(rebuild->view);

	cq_replay_drop(fresh);
	SPI_commit();
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("continuous view \"%s\" cannot be rebuilt as a whole", name),
			errdetail("Not all events that it has processed are still in the stream, or to be read "
					  "again."),
			rebuild->with_history
				? errhint(
					  "Let the stream keep what is still to be read (\"retention\"), or drop the "
					  "view, create it again and call this procedure before events come.")
				: errhint("Name the first window to be replaced in replace_from; rows of earlier "
						  "windows stay as they are."));
}
