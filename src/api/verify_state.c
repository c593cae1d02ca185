/*
 * verify_state.c
 *	  pipeline.verify_state(): is what a view's worker has in memory what the
 *	  view's chunk table says?
 *
 * For tests, and for those who suspect the memory of their machine.  The worker
 * does it between two checkpoints; here its answer is polled for.  If another
 * worker has taken over meanwhile, that one is asked.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "api/check.h"
#include "catalog/shards.h"
#include "catalog/whole.h"
#include "compat.h"
#include "monitor/slots.h"
#include "monitor/wait_event.h"

#define POLL_MS	  5
#define ABSENT_MS 60000 /* a view may be without a worker for that long */

PG_FUNCTION_INFO_V1(cq_verify_state);

static void verify_position(Oid relid, int64 position);
static void differs(Oid relid, const char *how) CQ_NORETURN;

/* All workers that the view has, one after the other. */
Datum
cq_verify_state(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	CqView view;
	CqTask task;
	char *torn;
	ListCell *lc;

	PreventCommandDuringRecovery("pipeline.verify_state()");
	cq_api_own_view(relid, &view, &task);
	foreach (lc, cq_view_positions(view.id))
		verify_position(relid, *(int64 *) lfirst(lc));
	torn = cq_view_torn(&view);
	if (torn)
		differs(relid, torn);
	PG_RETURN_BOOL(true);
}

static void
verify_position(Oid relid, int64 position)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ABSENT_MS);
	CqTaskSlot slot;
	uint64 ticket = 0;
	pid_t asked = 0;

	for (;;)
	{
		bool runs = cq_slot_read(MyDatabaseId, position, &slot) && slot.pid != 0;

		CHECK_FOR_INTERRUPTS();
		if (runs && ticket != 0 && slot.pid == asked && slot.verify_done >= ticket)
			break;
		if (runs && slot.pid != asked)
		{
			ticket = cq_slot_request_verify(MyDatabaseId, position);
			asked = slot.pid;
		}
		if (runs)
			deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ABSENT_MS);
		else if (GetCurrentTimestamp() >= deadline)
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("continuous view \"%s\" has no worker", get_rel_name(relid)),
					errhint("What it does is shown in pipeline.stat_views."));
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 POLL_MS,
						 cq_wait_event(CQ_WAIT_CATCH_UP));
		ResetLatch(MyLatch);
	}
	if (slot.verify_message[0] != '\0')
		differs(relid, slot.verify_message);
}

static void
differs(Oid relid, const char *how)
{
	ereport(ERROR,
			errcode(ERRCODE_DATA_CORRUPTED),
			errmsg("the state of continuous view \"%s\" differs from what is saved",
				   get_rel_name(relid)),
			errdetail_internal("%s.", how));
}
