/*
 * worker.c
 *	  The process that runs one task: wait, checkpoint, recover.
 *
 *	  interrupts -> wishes -> source upkeep -> checkpoint? -> wait, and again
 *
 * What views want to be run together or no more is in share.c, what happens when
 * nothing comes in idle.c, what is done after an error in recover.c.
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
#include "runtime/late.h"
#include "runtime/notify.h"
#include "runtime/publish.h"
#include "runtime/retention.h"
#include "runtime/retry.h"
#include "runtime/run.h"
#include "runtime/shard.h"
#include "runtime/vacuum.h"
#include "runtime/verify_state.h"
#include "runtime/worker_state.h"
#include "settings.h"
#include "source/local/local.h"

#define BACKOFF_FATAL_MS 5000
#define LONGEST_WAIT_MS	 1000
#define AHEAD_RETRY_MS	 20
#define TRIM_INTERVAL_US INT64CONST(5000000)
#define LOCK_PATIENCE_US INT64CONST(1000000)
#define PACE_FACTOR		 4
#define PACE_LONGEST_US	 20000

PGDLLEXPORT void cq_worker_main(Datum arg);

static void settings_pin(void);
static void worker_loop(CqWorker *worker);
static void run_prepare(CqWorker *worker);
static bool worker_step(CqWorker *worker);
static bool checkpoint_wanted(CqWorker *worker, long *wait_ms);
static bool advance_due(const CqRun *run);
static bool checkpoint_step(CqWorker *worker, long *wait_ms);
static void refreshes_await(const CqRun *run, long *wait_ms);
static void upkeep_await(const CqRun *run, long *wait_ms);
static bool requests_due(const CqRun *run, long *wait_ms);
static void advances_mark(CqRun *run);
static bool accepts_loss(const CqRun *run);
static void shard_tell(CqWorker *worker);
static void wait_check(CqWorker *worker, long *wait_ms);
static bool anybody_waits(const CqRun *run);
static void worker_wait(CqWorker *worker, long wait_ms);
static void events_create(CqWorker *worker);
static void care_relax(CqWorker *worker);
static void trim_when_due(CqWorker *worker);
static void late_rows_expire(CqWorker *worker);
static void vacuum_when_due(CqWorker *worker);
static void input_vacuum(CqInput *input);
static void lock_refused(CqWorker *worker);
static void source_close_at_exit(int code, Datum arg);

void
cq_worker_main(Datum arg)
{
	CqWorker *worker = MemoryContextAllocZero(TopMemoryContext, sizeof(CqWorker));

	memcpy(&worker->args, MyBgworkerEntry->bgw_extra, sizeof(CqWorkerArgs));
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
	cq_measure_init();
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
			cq_worker_recover(worker);
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
		{"application_name", "pipeline_ext"},
		{"max_parallel_workers_per_gather", "0"},
		{"synchronous_commit", "off"},
		{"enable_partition_pruning", "on"},
		{"role", "none"},		  /* ALTER DATABASE ... SET role */
		{"exit_on_error", "off"}, /* an error is for us to handle */
		{"ignore_checksum_failure", "off"},
		{"gin_fuzzy_search_limit", "0"},
		{"default_tablespace", ""},
		{"temp_tablespaces", ""},
	};
	int i;

	for (i = 0; i < lengthof(pins); i++)
		SetConfigOption(pins[i][0], pins[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	cq_compat_pin_transaction_timeout();
	/* minor releases of 2024 and later have it */
	if (GetConfigOption("restrict_nonsystem_relation_kind", true, false))
		SetConfigOption("restrict_nonsystem_relation_kind", "", PGC_SUSET, PGC_S_OVERRIDE);
}

static void
worker_loop(CqWorker *worker)
{
	if (worker->retry_ms > 0)
		cq_worker_back_off(worker);
	run_prepare(worker);
	while (worker_step(worker))
		;
	/* what the run is built from has changed: build it anew */
	cq_worker_run_discard(worker, false);
}

static void
run_prepare(CqWorker *worker)
{
	const CqViewRun *first;

	cq_publish_activity(worker->view_name, CQ_ACTIVITY_LOADING_STATE);
	worker->run_context =
		AllocSetContextCreate(TopMemoryContext, "pipeline run", ALLOCSET_DEFAULT_SIZES);
	worker->run = cq_run_create(worker->source, worker->run_context, &worker->care);
	if (!cq_run_build(worker->run, !worker->care.careful, worker->source_context))
		proc_exit(0);
	worker->source = worker->run->source;
	first = linitial(worker->run->views);
	strlcpy(worker->view_name, first->name, NAMEDATALEN);
	worker->task_changed = true;
	worker->drained = false;
	worker->idle_clock_read_us = cq_clock_us();
	worker->idle_clock_shift_us = cq_clock_shift_us();
	worker->told_idle = 0;
	worker->told_unreachable = false;
	worker->next_idle_us = -1;
	worker->was_idle = false;
	cq_publish_progress(worker->run, 0);
}

/* One turn of the loop; false when the run must be built anew. */
static bool
worker_step(CqWorker *worker)
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
	if (!cq_worker_heed_wishes(worker))
		return false;
	cq_worker_source_maintain(worker);
	if (cq_worker_meet(worker, &wait_ms) && checkpoint_wanted(worker, &wait_ms) &&
		!checkpoint_step(worker, &wait_ms))
		return false;
	advances_mark(worker->run);
	shard_tell(worker);
	wait_check(worker, &wait_ms);
	cq_verify_when_asked(worker->run);
	trim_when_due(worker);
	late_rows_expire(worker);
	vacuum_when_due(worker);
	if (wait_ms > 0)
		worker_wait(worker, wait_ms);
	return true;
}

static void
advances_mark(CqRun *run)
{
	ListCell *lc;

	foreach (lc, run->views)
		cq_view_run_advance_mark(run, lfirst(lc));
}

/* A view with several workers has no company. */
static void
shard_tell(CqWorker *worker)
{
	CqViewRun *view = linitial(worker->run->views);

	if (view->shard)
		cq_shard_tell(worker->run, view);
}

/*
 * Called with everything that was taken in committed.  What advance_watermark()
 * was called for before comes before.
 */
static void
wait_check(CqWorker *worker, long *wait_ms)
{
	ListCell *lc;

	if (worker->task_changed)
		return;
	foreach (lc, worker->run->views)
	{
		CqViewRun *view = lfirst(lc);

		if (view->wait_ticket == 0 || view->task.apply_late != 0 || view->task.retry != 0 ||
			(view->task.has_advance && !view->shard) || cq_view_run_is_behind(view) ||
			!worker->source->ops->reached(worker->source, view->source_ticket))
			continue;
		if (view->shard && !cq_shard_settled(worker->run, view))
		{
			/* waiting may have made an announcement due */
			if (!worker->waiting_for_lock && cq_shard_due(worker->run, view))
				*wait_ms = 0;
			continue;
		}
		cq_publish_wait_done(view->id, view->wait_ticket);
		view->wait_ticket = 0;
	}
}

static bool
anybody_waits(const CqRun *run)
{
	ListCell *lc;

	foreach (lc, run->views)
		if (((CqViewRun *) lfirst(lc))->wait_ticket != 0)
			return true;
	return false;
}

static bool
checkpoint_wanted(CqWorker *worker, long *wait_ms)
{
	CqRun *run = worker->run;
	int64 now = cq_clock_us();
	bool wanted;

	if (worker->next_idle_us >= 0)
		*wait_ms = Min(*wait_ms, (worker->next_idle_us - worker->idle_clock_us) / 1000 + 1);
	wanted = cq_worker_idle_close_due(worker, wait_ms);
	if (cq_run_is_ahead(run))
	{
		*wait_ms = Min(*wait_ms, AHEAD_RETRY_MS);
		return wanted || cq_checkpoint_due(run);
	}
	wanted = requests_due(run, wait_ms) || wanted;
	refreshes_await(run, wait_ms);
	upkeep_await(run, wait_ms);
	wanted = wanted || worker->task_changed || cq_checkpoint_due(run) || advance_due(run);
	if (wanted || !run->source->ops->ready(run->source))
		return wanted || anybody_waits(run);
	if (now < worker->paced_until_us)
	{
		*wait_ms = Min(*wait_ms, (worker->paced_until_us - now) / 1000 + 1);
		return false;
	}
	return true;
}

/* Workers of one view tell each other. */
static bool
advance_due(const CqRun *run)
{
	ListCell *lc;

	foreach (lc, run->views)
	{
		const CqViewRun *view = lfirst(lc);

		if (view->shard == NULL && cq_view_run_advance_due(run, view))
			return true;
	}
	return false;
}

/* cq_checkpoint_due() says when it is time. */
static void
refreshes_await(const CqRun *run, long *wait_ms)
{
	ListCell *lc;

	foreach (lc, run->views)
		if (cq_view_run_is_behind(lfirst(lc)))
			(void) cq_view_run_refresh_due(lfirst(lc), wait_ms);
}

/* Likewise. */
static void
upkeep_await(const CqRun *run, long *wait_ms)
{
	ListCell *lc;

	foreach (lc, run->views)
	{
		(void) cq_retention_due(lfirst(lc), wait_ms);
		(void) cq_notify_due(lfirst(lc), wait_ms);
	}
}

static bool
requests_due(const CqRun *run, long *wait_ms)
{
	bool due = false;
	ListCell *lc;

	foreach (lc, run->views)
	{
		due = cq_apply_late_due(lfirst(lc), wait_ms) || due;
		due = cq_retry_due(run, lfirst(lc), wait_ms) || due;
	}
	return due;
}

static bool
checkpoint_step(CqWorker *worker, long *wait_ms)
{
	CqRun *run = worker->run;
	int64 began = cq_clock_us();
	CqProgress progress;

	if (!worker->waiting_for_lock)
		cq_publish_activity(worker->view_name, CQ_ACTIVITY_PROCESSING);
	progress = cq_checkpoint_run(run);
	worker->waiting_for_lock = progress == CQ_PROGRESS_LOCKED;
	worker->drained = progress == CQ_PROGRESS_NONE || progress == CQ_PROGRESS_DRAINED;
	switch (progress)
	{
		case CQ_PROGRESS_LOCKED:
			lock_refused(worker);
			cq_publish_activity(worker->view_name, CQ_ACTIVITY_WAITING_FOR_LOCK);
			*wait_ms = Min(*wait_ms, LOCKED_RETRY_MS);
			return true;
		case CQ_PROGRESS_STALE:
			*wait_ms = 0;
			return cq_run_replan(run);
		case CQ_PROGRESS_NONE:
			worker->task_changed = false;
			break;
		case CQ_PROGRESS_ANEW:
			cq_publish_success();
			return false;
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
		if (!run->gave_up_memory)
			care_relax(worker);
		cq_publish_success();
		pgstat_report_stat(false);
	}
	if (worker->drained)
		cq_worker_caught_up(worker);
	cq_publish_progress(run, progress == CQ_PROGRESS_NONE ? 0 : worker->last_checkpoint_us);
	return true;
}

/* Views whose tables have been locked for too long do not hold up the others. */
static void
lock_refused(CqWorker *worker)
{
	int64 since = cq_clock_us() - LOCK_PATIENCE_US;
	List *stuck = NIL;
	ListCell *lc;

	foreach (lc, worker->run->views)
	{
		CqViewRun *view = lfirst(lc);

		if (view->locked_since_us != 0 && view->locked_since_us <= since)
			stuck = lappend(stuck, view);
	}
	/* when it is all of them it is the stream, or each has its own trouble */
	if (list_length(stuck) < list_length(worker->run->views))
		foreach (lc, stuck)
			cq_worker_part_with(worker, lfirst(lc), 0);
	list_free(stuck);
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
care_relax(CqWorker *worker)
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
worker_wait(CqWorker *worker, long wait_ms)
{
	const CqSource *source = worker->source;
	int64 began_us = cq_clock_us();
	WaitEvent event;

	if (!worker->waiting_for_lock)
		cq_publish_activity(worker->view_name,
							source->ops->unreachable(worker->source)
								? CQ_ACTIVITY_SOURCE_UNREACHABLE
								: CQ_ACTIVITY_WAITING_FOR_EVENTS);
	if (worker->events == NULL)
		events_create(worker);
	if (WaitEventSetWait(worker->events, wait_ms, &event, 1, cq_wait_event(CQ_WAIT_EVENTS)) > 0 &&
		(event.events & WL_LATCH_SET))
		ResetLatch(MyLatch);
	cq_measure_waited(cq_clock_us() - began_us);
}

static void
events_create(CqWorker *worker)
{
	const CqSource *source = worker->source;
	int i;

	worker->events = cq_compat_create_wait_event_set(TopMemoryContext, 2 + source->nparts);
	AddWaitEventToSet(worker->events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(worker->events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (i = 0; i < source->nparts; i++)
		if (source->parts[i]->wakeup_fd >= 0)
			AddWaitEventToSet(worker->events,
							  WL_SOCKET_READABLE,
							  source->parts[i]->wakeup_fd,
							  NULL,
							  NULL);
}

static void
late_rows_expire(CqWorker *worker)
{
	CqRun *run = worker->run;
	ListCell *lc;

	foreach (lc, run->views)
	{
		run->at = lfirst(lc);
		cq_late_retention_step(run->at);
	}
	run->at = NULL;
}

static void
vacuum_when_due(CqWorker *worker)
{
	CqRun *run = worker->run;
	ListCell *lc;

	foreach (lc, run->views)
	{
		int i;

		run->at = lfirst(lc);
		for (i = 0; i < run->at->ninputs && run->at->op; i++)
			input_vacuum(&run->at->inputs[i]);
	}
	run->at = NULL;
}

static void
input_vacuum(CqInput *input)
{
	CqOperatorStats stats;

	input->vacuumed_blocks = Min(input->vacuumed_blocks, input->chunk_blocks);
	cq_operator_stats(input->op, &stats);
	if (!cq_vacuum_due(input->chunk_blocks,
					   input->vacuumed_blocks,
					   stats.chunk_bytes,
					   stats.deleted_chunk_bytes))
		return;
	cq_vacuum(input->chunks);
	cq_operator_vacuumed(input->op);
	input->vacuumed_blocks = input->chunk_blocks;
}

/* Drop what all readers of a local stream have read. */
static void
trim_when_due(CqWorker *worker)
{
	const CqSource *source = worker->source;
	int64 now = cq_clock_us();
	int i;

	if (now - worker->trimmed_at_us < TRIM_INTERVAL_US)
		return;
	worker->trimmed_at_us = now;
	for (i = 0; i < source->nparts; i++)
		if (source->parts[i]->stream->kind == CQ_STREAM_LOCAL)
			cq_local_stream_trim(source->parts[i]->stream->relid);
}

void
cq_worker_run_discard(CqWorker *worker, bool keep_source)
{
	CqSource *source = worker->source;

	cq_worker_meet_end(worker);
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

static void
source_close_at_exit(int code, Datum arg)
{
	CqWorker *worker = (CqWorker *) DatumGetPointer(arg);
	CqSource *source = worker->source;

	worker->source = NULL;
	if (source)
		source->ops->close(source);
}
