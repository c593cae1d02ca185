/*
 * recover.c
 *	  What a worker does after an error, and how it finds the record to blame.
 *
 * Errors come to one place, cq_worker_recover().  It aborts the transaction,
 * takes state in shared memory back to the last commit, throws the run away
 * and decides by the SQLSTATE:
 *	  - the promise cannot be kept (CQ_ERRCODE_STOP): the view is marked
 *		stopped, with the reason, until somebody decides;
 *	  - a record may be to blame: the same records are read again, carefully
 *		(see CqCare), until the record stands alone and is set aside;
 *	  - state needs more memory than there is: likewise, as memory is given up
 *		between checkpoints;
 *	  - anything else is tried again after a pause that doubles up to a minute.
 * In no case do positions move: they did not commit.
 *
 * When several views share the task and the error came while it was one view's
 * turn, that view alone bears the consequences: it is stopped, or leaves the
 * task and meets the error again in a worker of its own, which deals with it in
 * one of these ways.  The others go on at once.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "catalog/shards.h"
#include "clock.h"
#include "errors.h"
#include "monitor/wait_event.h"
#include "runtime/publish.h"
#include "runtime/retry.h"
#include "runtime/worker_state.h"
#include "settings.h"

#define BACKOFF_FIRST_MS   200
#define BACKOFF_LONGEST_MS 60000
#define BACKOFF_FATAL_MS   5000
#define APART_MS		   10000

static List *views_to_blame(const CqWorker *worker, const ErrorData *error, MemoryContext context);
static void views_release(List *views);
static void retry_decide(CqWorker *worker, const ErrorData *error, bool quietly);
static bool rows_impossible(CqWorker *worker, const ErrorData *error);
static bool late_rows_short(CqWorker *worker, const ErrorData *error);
static bool late_rows_impossible(const CqWorker *worker, const ErrorData *error);
static bool late_rows_leave(const ErrorData *error);
static bool memory_short(CqWorker *worker, ErrorData *error);
static bool record_blamed(CqWorker *worker, const ErrorData *error);
static void views_stop(List *views, const ErrorData *error);
static char *reason_of(const ErrorData *error);

void
cq_worker_recover(CqWorker *worker)
{
	MemoryContext context;
	ErrorData *error;
	List *views;
	bool blamed;
	bool given_way;
	bool withdraw;

	HOLD_INTERRUPTS();
	cq_publish_restart_after(BACKOFF_FATAL_MS);
	cq_publish_settled();
	/* FreeErrorData() leaves some of a copy behind */
	context = AllocSetContextCreate(TopMemoryContext, "pipeline error", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	MemoryContextSwitchTo(TopMemoryContext);
	views = views_to_blame(worker, error, context);
	blamed = error->sqlerrcode == CQ_ERRCODE_AGAIN || error->sqlerrcode == CQ_ERRCODE_APART ||
			 late_rows_short(worker, error) || cq_retry_blamed(worker, error) ||
			 memory_short(worker, error) || record_blamed(worker, error);
	given_way = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	withdraw = !blamed && late_rows_impossible(worker, error);
	if (!blamed && !given_way && error->sqlerrcode != CQ_ERRCODE_FENCED)
		EmitErrorReport();
	FlushErrorState();
	/* so it ends when somebody alters the number of workers */
	if (error->sqlerrcode == CQ_ERRCODE_FENCED)
		ereport(LOG, errmsg("%s", error->message), errdetail("Its worker begins again."));
	if (rows_impossible(worker, error))
	{
		error->sqlerrcode = CQ_ERRCODE_STOP;
		error->detail = error->message;
		error->message = "the rows of the view cannot be computed";
	}
	AbortOutOfAnyTransaction();
	cq_states_abort();
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
	MemoryContextSwitchTo(TopMemoryContext);
	pgstat_report_activity(STATE_IDLE, NULL);
	RESUME_INTERRUPTS();

	cq_worker_run_discard(worker,
						  views != NIL || (error->sqlerrcode != CQ_ERRCODE_SOURCE_UNAVAILABLE &&
										   error->sqlerrcode != CQ_ERRCODE_STOP));
	worker->retry_ms = 0;
	MemoryContextSwitchTo(context);
	if (error->sqlerrcode == CQ_ERRCODE_STOP)
	{
		views_stop(views != NIL ? views : cq_publish_views(), error);
		if (views == NIL)
			proc_exit(0);
	}
	else if (views != NIL)
		views_release(views);
	else if (!withdraw || !late_rows_leave(error))
		retry_decide(worker, error, blamed);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(context);
	cq_publish_restart_after(0);
}

/* Ids of those of several views that the error concerns; NIL = of all, or there is one. */
static List *
views_to_blame(const CqWorker *worker, const ErrorData *error, MemoryContext context)
{
	const CqRun *run = worker->run;
	MemoryContext old;
	List *views = NIL;
	List *ids = NIL;
	ListCell *lc;

	if (run == NULL || list_length(run->views) < 2)
		return NIL;
	old = MemoryContextSwitchTo(context);
	if (error->sqlerrcode == CQ_ERRCODE_APART)
		views = run->refusing;
	else if (run->at && error->sqlerrcode != CQ_ERRCODE_AGAIN &&
			 error->sqlerrcode != CQ_ERRCODE_FENCED && error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		views = list_make1(run->at);
	foreach (lc, views)
	{
		int64 *id = palloc(sizeof(int64));

		*id = ((CqViewRun *) lfirst(lc))->id;
		ids = lappend(ids, id);
	}
	MemoryContextSwitchTo(old);
	return ids;
}

static void
views_release(List *views)
{
	ListCell *lc;

	foreach (lc, views)
		cq_publish_release(*(int64 *) lfirst(lc), APART_MS);
}

static void
retry_decide(CqWorker *worker, const ErrorData *error, bool quietly)
{
	if (error->sqlerrcode == CQ_ERRCODE_FENCED)
	{
		cq_publish_restart_after(BACKOFF_FIRST_MS);
		proc_exit(1);
	}
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		worker->retry_ms = LOCKED_RETRY_MS;
	else if (!quietly)
	{
		int failures = cq_publish_error(0, error->sqlerrcode, error->message);

		if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
			worker->retry_ms =
				Min((int64) BACKOFF_FIRST_MS << Min(failures - 1, 9), BACKOFF_LONGEST_MS);
	}
}

/*
 * Does the close query, a final function or an index expression fail on the
 * data?  It would do so for ever, and no single record can be blamed.
 */
static bool
rows_impossible(CqWorker *worker, const ErrorData *error)
{
	return worker->run && worker->run->phase == CQ_PHASE_FINISH &&
		   cq_error_is_of_record(error->sqlerrcode);
}

/*
 * Did state need more memory than there was?  A checkpoint of one batch, with
 * ever fewer events, may do with what there is, as memory is given up at its
 * end; if it does not with a single one, nothing does.
 */
static bool
memory_short(CqWorker *worker, ErrorData *error)
{
	CqRun *run = worker->run;
	CqCare *care = &worker->care;
	int64 events;

	if (run == NULL || error->sqlerrcode != CQ_ERRCODE_STATE_FULL || run->phase == CQ_PHASE_APPLY)
		return false;
	if (list_length(run->views) > 1)
		return true; /* the view finds it alone */
	/* at the end of a checkpoint there is no batch any more; but windows may close within one */
	events = run->batch.nevents;
	if (run->phase == CQ_PHASE_FINISH)
		events = Max(events, Min(run->records, cq_batch_size));
	if (run->phase == CQ_PHASE_FINISH && events == 0)
	{
		/* a save to give memory to others: nothing is lost by waiting for them */
		error->sqlerrcode = ERRCODE_OUT_OF_MEMORY;
		return false;
	}
	if (events <= 1)
	{
		error->sqlerrcode = CQ_ERRCODE_STOP;
		return false;
	}
	care->max_events = (int) (care->careful ? events / 2 : events);
	care->careful = true;
	return true;
}

/* The same for late rows that were being applied: fewer at once may do. */
static bool
late_rows_short(CqWorker *worker, const ErrorData *error)
{
	const CqRun *run = worker->run;

	if (run == NULL || error->sqlerrcode != CQ_ERRCODE_STATE_FULL || run->phase != CQ_PHASE_APPLY ||
		(run->applying <= 1 && list_length(run->views) == 1))
		return false;
	worker->care.late_rows = Max(run->applying / 2, 1);
	return true;
}

/* Can they not be applied at all?  With several views in the task, the view finds it alone. */
static bool
late_rows_impossible(const CqWorker *worker, const ErrorData *error)
{
	return worker->run && worker->run->phase == CQ_PHASE_APPLY &&
		   list_length(worker->run->views) == 1 &&
		   (error->sqlerrcode == CQ_ERRCODE_STATE_FULL || cq_error_is_of_record(error->sqlerrcode));
}

/*
 * Then they stay where they are, the view goes on, and the error is there to be seen.
 * False if the request cannot be withdrawn now, because somebody makes another.
 */
static bool
late_rows_leave(const ErrorData *error)
{
	bool left = true;
	ListCell *lc;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach (lc, cq_publish_views())
	{
		int64 id = cq_shard_view(*(int64 *) lfirst(lc));
		CqTask task;

		if (cq_task_load(id, &task) && task.apply_late != 0)
			left = cq_task_clear_apply_late(id, task.apply_late) && left;
		if (left)
			(void) cq_publish_error(id,
									error->sqlerrcode,
									psprintf("late rows were not applied: %s", error->message));
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	return left;
}

/*
 * May a record of the batch at hand be to blame?  Then arrange for the next
 * attempt to find it: carefully first, then with ever fewer events, and when
 * one alone fails, it is condemned.
 */
static bool
record_blamed(CqWorker *worker, const ErrorData *error)
{
	CqRun *run = worker->run;
	CqCare *care = &worker->care;

	if (run == NULL || run->phase != CQ_PHASE_EVALUATE || !cq_error_is_of_record(error->sqlerrcode))
		return false;
	if (list_length(run->views) > 1)
		return true; /* the view finds it alone */
	if (!care->careful)
	{
		care->careful = true;
		care->max_events = Max(run->batch.nevents, 1);
		return true;
	}
	if (run->batch.nevents <= 1)
	{
		CqCondemned *condemned = palloc0(sizeof(CqCondemned));
		const CqEvent *event = &run->batch.events[0];

		condemned->stream = cq_source_stream(run->source, event->partition)->relid;
		condemned->partition = run->source->partitions[event->partition].id;
		condemned->offset = event->offset;
		condemned->sqlstate = error->sqlerrcode;
		condemned->message = pstrdup(error->message);
		care->condemned = lappend(care->condemned, condemned);
		return true;
	}
	care->max_events = Max(run->batch.nevents / 2, 1);
	return true;
}

/* Mark views stopped, for everybody to see, and let them go. */
static void
views_stop(List *views, const ErrorData *error)
{
	int n = list_length(views);
	uint64 *changes = palloc(sizeof(uint64) * n);
	char *reason = reason_of(error);
	ListCell *lc;
	ListCell *lp;
	int i = 0;

	foreach (lc, views)
	{
		int64 id = *(int64 *) lfirst(lc);

		changes[i++] = cq_publish_wishes(id).change;
		cq_publish_error(id, error->sqlerrcode, reason);
	}
	SetConfigOption("synchronous_commit", "on", PGC_SUSET, PGC_S_OVERRIDE);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach (lc, views)
	{
		int64 id = cq_shard_view(*(int64 *) lfirst(lc));
		CqTask task;

		if (!cq_task_load(id, &task))
			continue;
		cq_task_set_state(id, CQ_TASK_STOPPED, reason);
		/* its other workers stop, too */
		foreach (lp, cq_view_positions(id))
			if (*(int64 *) lfirst(lp) != *(int64 *) lfirst(lc))
				cq_slots_at_commit(CQ_SLOT_DISABLE, *(int64 *) lfirst(lp));
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	i = 0;
	foreach (lc, views)
	{
		int64 id = *(int64 *) lfirst(lc);

		cq_publish_disable(id, CQ_ACTIVITY_STOPPED, changes[i++]);
		cq_publish_release(id, 0);
	}
}

static char *
reason_of(const ErrorData *error)
{
	char *reason = error->message;

	if (error->detail)
		reason =
			psprintf("%s: %.*s", error->message, (int) strcspn(error->detail, "\n"), error->detail);
	if (reason[strlen(reason) - 1] == '.')
		reason = pnstrdup(reason, strlen(reason) - 1);
	return reason;
}

void
cq_worker_back_off(CqWorker *worker)
{
	int64 began_us = cq_clock_us();
	int64 until = began_us + (int64) worker->retry_ms * 1000;
	uint64 news = cq_publish_news();

	cq_publish_activity(worker->view_name,
						worker->retry_ms == LOCKED_RETRY_MS ? CQ_ACTIVITY_WAITING_FOR_LOCK
															: CQ_ACTIVITY_BACKING_OFF);
	worker->retry_ms = 0;
	for (;;)
	{
		int64 left_us = until - cq_clock_us();

		if (left_us <= 0 || cq_publish_news() != news)
			break;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left_us / 1000 + 1,
						 cq_wait_event(CQ_WAIT_BACKOFF));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	cq_measure_waited(cq_clock_us() - began_us);
}
