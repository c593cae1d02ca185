/*
 * worker.c
 *	  The process that runs one task: wait, checkpoint, recover.
 *
 *	  interrupts -> wishes -> source upkeep -> checkpoint? -> wait, and again
 *
 * Errors come to one place, error_handle().  It aborts the transaction,
 * throws the run away and decides by the SQLSTATE:
 *	  - the promise cannot be kept (CQ_ERRCODE_STOP): the task is marked
 *		stopped, with the reason, until somebody decides;
 *	  - a record may be to blame: the same records are read again, carefully
 *		(see CqCare), until the record stands alone and is set aside;
 *	  - anything else is tried again after a pause that doubles up to a minute.
 * In no case do positions move: they did not commit.
 *
 * The worker connects as the bootstrap superuser to read the extension's
 * tables, and takes the view owner's identity, restricted, for all that runs
 * code of the user's.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "compat.h"
#include "errors.h"
#include "monitor/wait_event.h"
#include "runtime/publish.h"
#include "runtime/run.h"
#include "runtime/vacuum.h"
#include "runtime/worker.h"
#include "settings.h"
#include "source/local/local.h"

#define BACKOFF_FIRST_MS   200
#define BACKOFF_LONGEST_MS 60000
#define BACKOFF_FATAL_MS   5000
#define LOCKED_RETRY_MS	   20
#define LONGEST_WAIT_MS	   1000
#define TRIM_INTERVAL_US   INT64CONST(5000000)
#define IDLE_STEP_LIMIT_US INT64CONST(2000000)
#define PACE_FACTOR		   4
#define PACE_LONGEST_US	   20000

PGDLLEXPORT void cq_worker_main(Datum arg);

typedef struct Worker
{
	CqWorkerArgs args;
	MemoryContext source_context;
	CqSource *source;	   /* outlives runs */
	bool source_committed; /* some position of this source is durable */
	MemoryContext run_context;
	CqRun *run;
	CqCare care;
	char view_name[NAMEDATALEN];
	uint64 seen_change;
	bool task_changed;	   /* the task's row may hold news: checkpoint even without events */
	uint64 wait_ticket;	   /* wait_for() under way; 0 = none */
	uint64 wait_completed; /* the last one fulfilled */
	int64 source_ticket;   /* what the source calls it */
	int64 idle_clock_us;   /* monotonic, stands still while idleness must not count */
	int64 idle_clock_read_us;
	int64 next_idle_us;	  /* by idle_clock, when a partition may become idle; -1 = none */
	int64 paced_until_us; /* do not begin another small checkpoint before */
	int64 trimmed_at_us;
	int64 last_checkpoint_us;
	WaitEventSet *events;
	int events_fd;
	bool waiting_for_lock;
	int retry_ms; /* pause before the next attempt; 0 = none */
} Worker;

static void settings_pin(void);
static void worker_loop(Worker *worker);
static void run_prepare(Worker *worker);
static bool worker_step(Worker *worker);
static bool wishes_heed(Worker *worker);
static void source_maintain(Worker *worker);
static void idle_clock_advance(Worker *worker, bool unreachable);
static bool idle_close_due(Worker *worker, long *wait_ms);
static bool view_idle_close_due(const CqRun *run, CqViewRun *view, long *wait_ms);
static bool checkpoint_wanted(Worker *worker, long *wait_ms);
static bool checkpoint_step(Worker *worker, long *wait_ms);
static bool accepts_loss(const CqRun *run);
static void wait_begin(Worker *worker, uint64 requested);
static void wait_check(Worker *worker);
static void worker_wait(Worker *worker, long wait_ms);
static void care_relax(Worker *worker);
static void trim_when_due(Worker *worker);
static void vacuum_when_due(Worker *worker);
static void error_handle(Worker *worker);
static bool rows_impossible(Worker *worker, const ErrorData *error);
static bool record_blamed(Worker *worker, const ErrorData *error);
static void run_discard(Worker *worker, bool keep_source);
static void task_stop(Worker *worker, const ErrorData *error);
static void back_off(Worker *worker);
static void source_close_at_exit(int code, Datum arg);

void
cq_worker_main(Datum arg)
{
	Worker *worker = MemoryContextAllocZero(TopMemoryContext, sizeof(Worker));

	memcpy(&worker->args, MyBgworkerEntry->bgw_extra, sizeof(CqWorkerArgs));
	worker->events_fd = -1;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);
	BackgroundWorkerUnblockSignals();
	if (!cq_publish_attach(&worker->args))
		proc_exit(0);
	/* whoever fails here, or while handling an error, must not be started again at once */
	cq_publish_restart_after(BACKOFF_FATAL_MS);
	BackgroundWorkerInitializeConnectionByOid(worker->args.database, InvalidOid, 0);
	cq_publish_restart_after(0);
	before_shmem_exit(source_close_at_exit, PointerGetDatum(worker));
	settings_pin();
	worker->source_context =
		AllocSetContextCreate(TopMemoryContext, "pipeline source", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		PG_TRY();
		{
			worker_loop(worker);
		}
		PG_CATCH();
		{
			error_handle(worker);
		}
		PG_END_TRY();
	}
}

/*
 * Settings of the role, database or server must change neither results nor
 * liveness.  What the view recorded at CREATE is applied by the run.
 */
static void
settings_pin(void)
{
	static const char *const pins[][2] = {
		{"search_path", ""},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "100ms"}, /* give way to DDL before a deadlock is looked for */
		{"idle_in_transaction_session_timeout", "0"},
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		{"zero_damaged_pages", "off"},
		{"jit", "off"},
		{"max_parallel_workers_per_gather", "0"},
		{"synchronous_commit", "off"},
		{"enable_partition_pruning", "on"},
	};
	int i;

	for (i = 0; i < lengthof(pins); i++)
		SetConfigOption(pins[i][0], pins[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	cq_compat_pin_transaction_timeout();
}

static void
worker_loop(Worker *worker)
{
	if (worker->retry_ms > 0)
		back_off(worker);
	run_prepare(worker);
	while (worker_step(worker))
		;
	/* what the run is built from has changed: build it anew */
	run_discard(worker, false);
}

static void
run_prepare(Worker *worker)
{
	const char *name;

	cq_publish_activity(worker->view_name, CQ_ACTIVITY_LOADING_STATE);
	worker->seen_change = cq_publish_wishes().change;
	worker->run_context =
		AllocSetContextCreate(TopMemoryContext, "pipeline run", ALLOCSET_DEFAULT_SIZES);
	worker->run = cq_run_begin(worker->args.task,
							   GetCurrentTimestamp(),
							   worker->source,
							   worker->source_context,
							   worker->run_context,
							   &worker->care);
	if (worker->run == NULL)
	{
		cq_publish_disable(CQ_ACTIVITY_NOT_STARTED, worker->seen_change);
		proc_exit(0);
	}
	worker->source = worker->run->source;
	StartTransactionCommand();
	name = get_rel_name(((CqViewRun *) linitial(worker->run->views))->view.view);
	strlcpy(worker->view_name, name ? name : "?", NAMEDATALEN);
	CommitTransactionCommand();
	worker->task_changed = true;
	worker->wait_ticket = 0;
	worker->idle_clock_read_us = cq_clock_us();
	worker->next_idle_us = -1;
	cq_publish_progress(worker->run, 0);
}

/* One turn of the loop; false when the run must be built anew. */
static bool
worker_step(Worker *worker)
{
	long wait_ms = LONGEST_WAIT_MS;

	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		settings_pin();
		return false;
	}
	if (!wishes_heed(worker))
		return false;
	source_maintain(worker);
	if (checkpoint_wanted(worker, &wait_ms) && !checkpoint_step(worker, &wait_ms))
		return false;
	wait_check(worker);
	trim_when_due(worker);
	vacuum_when_due(worker);
	if (wait_ms > 0)
		worker_wait(worker, wait_ms);
	return true;
}

/* What sessions asked for by way of the slot; false when the catalog says something new. */
static bool
wishes_heed(Worker *worker)
{
	CqWishes wishes = cq_publish_wishes();

	if (!wishes.enabled)
	{
		cq_publish_activity(worker->view_name, CQ_ACTIVITY_PAUSED);
		proc_exit(0);
	}
	if (worker->wait_ticket == 0)
		wait_begin(worker, wishes.wait_requested);
	return wishes.change == worker->seen_change;
}

static void
wait_begin(Worker *worker, uint64 requested)
{
	if (requested <= worker->wait_completed)
		return;
	worker->wait_ticket = requested;
	worker->source_ticket = worker->source->ops->mark_end(worker->source);
}

/* Called with everything that was taken in committed. */
static void
wait_check(Worker *worker)
{
	if (worker->wait_ticket == 0 ||
		!worker->source->ops->reached(worker->source, worker->source_ticket))
		return;
	cq_publish_wait_done(worker->wait_ticket);
	worker->wait_completed = worker->wait_ticket;
	worker->wait_ticket = 0;
}

static void
source_maintain(Worker *worker)
{
	CqRun *run = worker->run;
	bool unreachable;

	if (run->source->ops->maintain(run->source))
		cq_watermark_refresh(&run->watermark, run->source);
	unreachable = run->source->ops->unreachable(run->source);
	idle_clock_advance(worker, unreachable);
	worker->next_idle_us =
		cq_watermark_idle(&run->watermark, run->source, worker->idle_clock_us, unreachable);
}

/*
 * The clock of idleness runs while the source could have told us about new
 * events: not while it is out of reach, and only a little while this worker
 * was busy elsewhere.
 */
static void
idle_clock_advance(Worker *worker, bool unreachable)
{
	int64 now = cq_clock_us();
	int64 step = Min(now - worker->idle_clock_read_us, IDLE_STEP_LIMIT_US);

	worker->idle_clock_read_us = now;
	if (!unreachable)
		worker->idle_clock_us += step;
}

/*
 * With everything idle the watermark follows the clock as far as the open
 * windows: each closes when the clock has passed its end and the bound on
 * disorder.  The checkpoint moves it, after it has looked for events: what came
 * while this worker slept, or waited for a lock, is not late.
 */
static bool
idle_close_due(Worker *worker, long *wait_ms)
{
	CqRun *run = worker->run;
	bool all_idle = cq_watermark_all_idle(run->source);
	bool due = false;
	ListCell *lc;

	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		view->clock_to = DT_NOBEGIN;
		if (all_idle && view->op && view->plan->window.kind != CQ_WINDOW_NONE)
			due = view_idle_close_due(run, view, wait_ms) || due;
	}
	return due;
}

static bool
view_idle_close_due(const CqRun *run, CqViewRun *view, long *wait_ms)
{
	TimestampTz deadline = cq_operator_first_end(view->op);
	TimestampTz now;

	if (TIMESTAMP_NOT_FINITE(deadline))
		return false;
	deadline += run->stream->out_of_orderness_us;
	now = GetCurrentTimestamp();
	if (now < deadline)
	{
		*wait_ms = Min(*wait_ms, (deadline - now) / 1000 + 1);
		return false;
	}
	view->clock_to = Min(now - run->stream->out_of_orderness_us, cq_operator_last_end(view->op));
	return true;
}

static bool
checkpoint_wanted(Worker *worker, long *wait_ms)
{
	CqRun *run = worker->run;
	int64 now = cq_clock_us();
	bool wanted;

	if (worker->next_idle_us >= 0)
		*wait_ms = Min(*wait_ms, (worker->next_idle_us - worker->idle_clock_us) / 1000 + 1);
	wanted = idle_close_due(worker, wait_ms);
	wanted = wanted || worker->task_changed || cq_checkpoint_due(run);
	if (wanted || !run->source->ops->ready(run->source))
		return wanted || worker->wait_ticket != 0;
	if (now < worker->paced_until_us)
	{
		*wait_ms = Min(*wait_ms, (worker->paced_until_us - now) / 1000 + 1);
		return false;
	}
	return true;
}

static bool
checkpoint_step(Worker *worker, long *wait_ms)
{
	CqRun *run = worker->run;
	int64 began = cq_clock_us();
	CqProgress progress;

	if (!worker->waiting_for_lock)
		cq_publish_activity(worker->view_name, CQ_ACTIVITY_PROCESSING);
	progress = cq_checkpoint_run(run, worker->task_changed);
	worker->waiting_for_lock = progress == CQ_PROGRESS_LOCKED;
	switch (progress)
	{
		case CQ_PROGRESS_LOCKED:
			cq_publish_activity(worker->view_name, CQ_ACTIVITY_WAITING_FOR_LOCK);
			*wait_ms = Min(*wait_ms, LOCKED_RETRY_MS);
			return true;
		case CQ_PROGRESS_STALE:
			*wait_ms = 0;
			return cq_run_replan(run);
		case CQ_PROGRESS_NONE:
			worker->task_changed = false;
			break;
		case CQ_PROGRESS_DRAINED:
			worker->task_changed = false;
			worker->last_checkpoint_us = cq_clock_us() - began;
			worker->paced_until_us =
				cq_clock_us() + Min(PACE_FACTOR * worker->last_checkpoint_us, PACE_LONGEST_US);
			break;
		case CQ_PROGRESS_MORE:
			worker->last_checkpoint_us = cq_clock_us() - began;
			*wait_ms = 0;
			break;
	}
	if (progress != CQ_PROGRESS_NONE)
	{
		/* what was lost is counted anew by a source that is opened anew */
		worker->source_committed = !accepts_loss(run);
		care_relax(worker);
		cq_publish_success();
		pgstat_report_stat(false);
	}
	cq_publish_progress(run, progress == CQ_PROGRESS_NONE ? 0 : worker->last_checkpoint_us);
	return true;
}

static bool
accepts_loss(const CqRun *run)
{
	ListCell *lc;

	foreach (lc, run->views)
		if (((CqViewRun *) lfirst(lc))->task.accept_loss)
			return true;
	return false;
}

/* After a careful batch went through: larger ones, then carefree again. */
static void
care_relax(Worker *worker)
{
	CqCare *care = &worker->care;
	ListCell *lc;

	if (!care->careful)
		return;
	care->max_events = Min(care->max_events * 2, cq_batch_size);
	if (care->failed)
		care->failed = false; /* where there was one there may be more */
	else if (care->max_events == cq_batch_size)
	{
		care->careful = false;
		foreach (lc, care->condemned)
			pfree(((CqCondemned *) lfirst(lc))->message);
		list_free_deep(care->condemned);
		care->condemned = NIL;
	}
}

static void
worker_wait(Worker *worker, long wait_ms)
{
	int fd = worker->source->wakeup_fd;
	WaitEvent event;

	if (!worker->waiting_for_lock)
		cq_publish_activity(worker->view_name,
							worker->source->ops->unreachable(worker->source)
								? CQ_ACTIVITY_SOURCE_UNREACHABLE
								: CQ_ACTIVITY_WAITING_FOR_EVENTS);
	if (worker->events == NULL || worker->events_fd != fd)
	{
		if (worker->events)
			FreeWaitEventSet(worker->events);
		worker->events = cq_compat_create_wait_event_set(TopMemoryContext, 3);
		AddWaitEventToSet(worker->events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(worker->events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		if (fd >= 0)
			AddWaitEventToSet(worker->events, WL_SOCKET_READABLE, fd, NULL, NULL);
		worker->events_fd = fd;
	}
	if (WaitEventSetWait(worker->events, wait_ms, &event, 1, cq_wait_event(CQ_WAIT_EVENTS)) > 0 &&
		(event.events & WL_LATCH_SET))
		ResetLatch(MyLatch);
}

static void
vacuum_when_due(Worker *worker)
{
	CqRun *run = worker->run;
	ListCell *lc;

	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);
		CqOperatorStats stats;

		if (view->op == NULL)
			continue;
		view->vacuumed_blocks = Min(view->vacuumed_blocks, view->chunk_blocks);
		cq_operator_stats(view->op, &stats);
		if (!cq_vacuum_due(view->chunk_blocks, view->vacuumed_blocks, stats.chunk_bytes))
			continue;
		cq_vacuum(view->view.chunks);
		view->vacuumed_blocks = view->chunk_blocks;
	}
}

/* Drop what all readers of a local stream have read. */
static void
trim_when_due(Worker *worker)
{
	int64 now = cq_clock_us();

	if (worker->run->stream->kind != CQ_STREAM_LOCAL ||
		now - worker->trimmed_at_us < TRIM_INTERVAL_US)
		return;
	worker->trimmed_at_us = now;
	cq_local_stream_trim(worker->run->stream->relid);
}

/*
 * The one place that errors come to.  Called from PG_CATCH.
 */
static void
error_handle(Worker *worker)
{
	MemoryContext context;
	ErrorData *error;
	bool blamed;
	bool given_way;

	HOLD_INTERRUPTS();
	cq_publish_restart_after(BACKOFF_FATAL_MS);
	/* FreeErrorData() leaves some of a copy behind */
	context = AllocSetContextCreate(TopMemoryContext, "pipeline error", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	MemoryContextSwitchTo(TopMemoryContext);
	blamed = error->sqlerrcode == CQ_ERRCODE_AGAIN || record_blamed(worker, error);
	given_way = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	if (!blamed && !given_way)
		EmitErrorReport();
	FlushErrorState();
	if (rows_impossible(worker, error))
	{
		error->sqlerrcode = CQ_ERRCODE_STOP;
		error->detail = error->message;
		error->message = "the rows of the view cannot be computed";
	}
	AbortOutOfAnyTransaction();
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
	MemoryContextSwitchTo(TopMemoryContext);
	pgstat_report_activity(STATE_IDLE, NULL);
	RESUME_INTERRUPTS();

	run_discard(worker,
				error->sqlerrcode != CQ_ERRCODE_SOURCE_UNAVAILABLE &&
					error->sqlerrcode != CQ_ERRCODE_STOP);
	if (error->sqlerrcode == CQ_ERRCODE_STOP)
		task_stop(worker, error);
	if (error->sqlerrcode == CQ_ERRCODE_FENCED)
	{
		cq_publish_restart_after(BACKOFF_FIRST_MS);
		proc_exit(1);
	}
	worker->retry_ms = 0;
	if (given_way)
		worker->retry_ms = LOCKED_RETRY_MS;
	else if (!blamed)
	{
		int failures = cq_publish_error(error->sqlerrcode, error->message);

		if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
			worker->retry_ms =
				Min((int64) BACKOFF_FIRST_MS << Min(failures - 1, 9), BACKOFF_LONGEST_MS);
	}
	MemoryContextDelete(context);
	cq_publish_restart_after(0);
}

/*
 * Does the close query, a final function or an index expression fail on the
 * data?  It would do so for ever, and no single record can be blamed.
 */
static bool
rows_impossible(Worker *worker, const ErrorData *error)
{
	return worker->run && worker->run->phase == CQ_PHASE_FINISH &&
		   cq_error_is_of_record(error->sqlerrcode);
}

/*
 * May a record of the batch at hand be to blame?  Then arrange for the next
 * attempt to find it: carefully first, then with ever fewer events, and when
 * one alone fails, it is condemned.
 */
static bool
record_blamed(Worker *worker, const ErrorData *error)
{
	CqRun *run = worker->run;
	CqCare *care = &worker->care;

	if (run == NULL || run->phase != CQ_PHASE_EVALUATE || !cq_error_is_of_record(error->sqlerrcode))
		return false;
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

static void
run_discard(Worker *worker, bool keep_source)
{
	CqSource *source = worker->source;

	worker->run = NULL;
	if (worker->run_context)
		MemoryContextDelete(worker->run_context);
	worker->run_context = NULL;
	/* a source that has never committed has no positions to go back to */
	if (keep_source && source && worker->source_committed)
		return;
	worker->source_committed = false;
	worker->source = NULL;
	/* the next source's descriptor may have the same number and yet be another one */
	if (worker->events)
		FreeWaitEventSet(worker->events);
	worker->events = NULL;
	if (source)
		source->ops->close(source);
	MemoryContextReset(worker->source_context);
}

/* Mark the task stopped, for everybody to see, and leave. */
static void
task_stop(Worker *worker, const ErrorData *error)
{
	uint64 change = cq_publish_wishes().change;
	CqTask task;
	char *reason = error->message;

	if (error->detail)
		reason =
			psprintf("%s: %.*s", error->message, (int) strcspn(error->detail, "\n"), error->detail);
	if (reason[strlen(reason) - 1] == '.')
		reason = pnstrdup(reason, strlen(reason) - 1);
	cq_publish_error(error->sqlerrcode, reason);
	SetConfigOption("synchronous_commit", "on", PGC_SUSET, PGC_S_OVERRIDE);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (cq_task_load(worker->args.task, &task))
		cq_task_set_state(worker->args.task, CQ_TASK_STOPPED, reason);
	PopActiveSnapshot();
	CommitTransactionCommand();
	cq_publish_disable(CQ_ACTIVITY_STOPPED, change);
	proc_exit(0);
}

static void
back_off(Worker *worker)
{
	int64 until = cq_clock_us() + (int64) worker->retry_ms * 1000;
	uint64 change = cq_publish_wishes().change;

	cq_publish_activity(worker->view_name,
						worker->retry_ms == LOCKED_RETRY_MS ? CQ_ACTIVITY_WAITING_FOR_LOCK
															: CQ_ACTIVITY_BACKING_OFF);
	worker->retry_ms = 0;
	for (;;)
	{
		CqWishes wishes = cq_publish_wishes();
		int64 left_us = until - cq_clock_us();

		if (left_us <= 0 || !wishes.enabled || wishes.change != change)
			break;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left_us / 1000 + 1,
						 cq_wait_event(CQ_WAIT_BACKOFF));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	if (!cq_publish_wishes().enabled)
	{
		cq_publish_activity(worker->view_name, CQ_ACTIVITY_PAUSED);
		proc_exit(0);
	}
}

static void
source_close_at_exit(int code, Datum arg)
{
	Worker *worker = (Worker *) DatumGetPointer(arg);
	CqSource *source = worker->source;

	worker->source = NULL;
	if (source)
		source->ops->close(source);
}
