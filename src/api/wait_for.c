/*
 * wait_for.c
 *	  pipeline.wait_for(): until a view has processed all that its stream held
 *	  at the call.
 *
 * The worker is asked to note where the stream ends; it answers when it has
 * committed up to there.  Of a view with several workers all are asked, and when
 * all have answered the first one again: whether the view's watermark has come to
 * where that leads, and the windows that it closes are out.  A ticket is good for
 * one worker: when another one has taken over, the question is asked again, which
 * can only make the wait longer.  The answer is polled for, because a worker's
 * latch is the only one it knows; a few milliseconds are less than a checkpoint
 * takes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "api/check.h"
#include "api/wait_for.h"
#include "catalog/feeds.h"
#include "catalog/shards.h"
#include "catalog/tables.h"
#include "compat.h"
#include "monitor/slots.h"
#include "monitor/wait_event.h"

#define POLL_MS		   5
#define STATE_CHECK_US (INT64CONST(200) * 1000)

PG_FUNCTION_INFO_V1(cq_wait_for);

/* What the answer is waited for from. */
typedef struct Asked
{
	uint64 ticket; /* 0 = nobody asked yet */
	pid_t pid;
	TimestampTz started_at;
} Asked;

static TimestampTz deadline_after(Interval *timeout);
static void positions_refresh(int64 view, List **positions, Asked **asked);
static bool all_caught_up(List *positions, Asked *asked);
static bool caught_up(int64 task, Asked *asked);
static void check_state(int64 id, Oid relid);
static void check_committed(int64 task, Oid relid);

Datum
cq_wait_for(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	TimestampTz deadline = deadline_after(PG_GETARG_INTERVAL_P(1));
	CqView view;
	CqTask task;

	PreventCommandDuringRecovery("pipeline.wait_for()");
	cq_api_readable_view(relid, &view, &task);
	check_committed(view.id, relid);
	PG_RETURN_BOOL(cq_wait_until(view.id, relid, deadline));
}

/* What another view gives out is all there when that one has caught up. */
bool
cq_wait_until(int64 id, Oid relid, TimestampTz deadline)
{
	TimestampTz next_check = DT_NOBEGIN;
	List *positions = NIL;
	Asked *asked = NULL;
	ListCell *lc;

	foreach (lc, cq_feeds_of_view(id))
	{
		CqFeed *feed = lfirst(lc);

		if (!cq_wait_until(feed->source, feed->source_view, deadline))
			return false;
	}
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		CHECK_FOR_INTERRUPTS();
		if (now >= next_check)
		{
			check_state(id, relid);
			positions_refresh(id, &positions, &asked);
			next_check = now + STATE_CHECK_US;
		}
		if (all_caught_up(positions, asked))
			return true;
		if (now >= deadline)
			return false;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 POLL_MS,
						 cq_wait_event(CQ_WAIT_CATCH_UP));
		ResetLatch(MyLatch);
	}
}

static TimestampTz
deadline_after(Interval *timeout)
{
	Datum deadline;

	deadline = DirectFunctionCall2(timestamptz_pl_interval,
								   TimestampTzGetDatum(GetCurrentTimestamp()),
								   IntervalPGetDatum(timeout));
	return DatumGetTimestampTz(deadline);
}

/* The number of workers may change meanwhile; then everybody is asked anew. */
static void
positions_refresh(int64 view, List **positions, Asked **asked)
{
	List *now = cq_view_positions(view);
	bool same = list_length(now) == list_length(*positions);
	ListCell *a;
	ListCell *b;

	if (same)
		forboth (a, now, b, *positions)
			same = same && *(int64 *) lfirst(a) == *(int64 *) lfirst(b);
	if (same)
		return;
	*positions = now;
	*asked = palloc0(sizeof(Asked) * (list_length(now) + 1));
}

static bool
all_caught_up(List *positions, Asked *asked)
{
	bool all = true;
	int n = 0;
	ListCell *lc;

	foreach (lc, positions)
		all = caught_up(*(int64 *) lfirst(lc), &asked[n++]) && all;
	return all && (n == 1 || caught_up(*(int64 *) linitial(positions), &asked[n]));
}

static bool
caught_up(int64 task, Asked *asked)
{
	CqTaskSlot slot;

	if (!cq_slot_read(MyDatabaseId, task, &slot) || slot.pid == 0)
	{
		asked->ticket = 0;
		return false;
	}
	if (asked->ticket != 0 && asked->pid == slot.pid && asked->started_at == slot.started_at)
		return cq_slot_wait_done(MyDatabaseId, task, asked->ticket);
	asked->pid = slot.pid;
	asked->started_at = slot.started_at;
	asked->ticket = cq_slot_request_wait(MyDatabaseId, task);
	return false;
}

/*
 * A view that does not run will not catch up: say why at once.  The reason may
 * tell of what its owner alone may see.
 */
static void
check_state(int64 id, Oid relid)
{
	char *name = get_rel_name(relid);
	CqTask task;

	if (name == NULL || !cq_task_load(id, &task))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("the continuous view was dropped while it was waited for"));
	if (task.state == CQ_TASK_PAUSED)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("continuous view \"%s\" is paused", name),
				errhint("Call pipeline.resume() first."));
	if (task.state == CQ_TASK_STOPPED)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("continuous view \"%s\" has stopped", name),
				task.reason && cq_compat_owns_relation(relid, GetUserId())
					? errdetail_internal("%s", task.reason)
					: 0,
				errhint("When the cause is gone, call pipeline.resume()."));
	if (!cq_task_is_ours(&task))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("continuous view \"%s\" was restored from another database", name),
				errhint("If it shall run here, call pipeline.adopt() as a superuser."));
}

/* No worker sees what this transaction has not committed, and it cannot commit while waiting. */
static void
check_committed(int64 task, Oid relid)
{
	Relation rel = cq_table_open("views", AccessShareLock);
	HeapTuple row = cq_table_find(rel, 1, Int64GetDatum(task));
	bool uncommitted = HeapTupleIsValid(row) &&
					   TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(row->t_data));

	relation_close(rel, AccessShareLock);
	if (uncommitted)
		ereport(
			ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg(
				"continuous view \"%s\" cannot be waited for in the transaction that creates or alters it",
				get_rel_name(relid)),
			errhint("Commit first."));
}
