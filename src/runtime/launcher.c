/*
 * launcher.c
 *	  The process that keeps the workers of all databases running.
 *
 * The launcher is connected to no database, so it can hold none up.  What tasks
 * there are it learns from the slots: sessions put them there when they create
 * a view, and short-lived probes, one per database, after a start, a promotion
 * or a reload of the configuration.
 *
 *	  probe_all -> list pg_database -> probe each -> slots -> a worker each
 *
 * In each database workers start one after the other: a new one first takes
 * along the views that it can share its position with (share.c), and those need
 * none of their own.
 *
 * Workers are never restarted by the postmaster but by the launcher, not before
 * slot->start_after, which the worker sets when it leaves after an error.  A
 * worker that disappears without attaching to its slot (its registration never
 * came to run, or its database was gone) is noticed by its handle.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/rows.h"
#include "compat.h"
#include "ddl/upgraded.h"
#include "monitor/slots.h"
#include "monitor/wait_event.h"
#include "runtime/launcher.h"
#include "runtime/worker.h"
#include "settings.h"

#define LAUNCHER_RESTART_S	  5
#define NO_SLOT_RETRY_MS	  1000
#define START_FAILED_RETRY_MS 1000
#define LONGEST_NAP_MS		  60000

PGDLLEXPORT void cq_launcher_main(Datum arg);
PGDLLEXPORT void cq_probe_main(Datum arg);

/* Handles of workers that were registered and have not attached yet; by slot. */
static BackgroundWorkerHandle **handles;

static void launcher_attach(void);
static void launcher_detach(int code, Datum arg);
static void databases_list(void);
static bool database_next_to_probe(Oid *database);
static bool database_probe(Oid database);
static void database_probe_again(Oid database);
static void worker_init(BackgroundWorker *worker, const char *function, const char *name);
static long workers_start(void);
static bool worker_due(CqTaskSlot *slot, TimestampTz now, long *nap_ms);
static bool worker_unsettled(Oid database);
static bool handed_over(const CqTaskSlot *slot);
static bool worker_start(int index);
static void handles_check(void);

void
cq_launcher_register(void)
{
	BackgroundWorker worker;

	worker_init(&worker, "cq_launcher_main", "pipeline launcher");
	worker.bgw_restart_time = LAUNCHER_RESTART_S;
	RegisterBackgroundWorker(&worker);
}

static void
worker_init(BackgroundWorker *worker, const char *function, const char *name)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "pipeline_ext", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_name, name, BGW_MAXLEN);
	strlcpy(worker->bgw_type, name, BGW_MAXLEN);
}

void
cq_launcher_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	launcher_attach();
	handles = MemoryContextAllocZero(TopMemoryContext, sizeof(*handles) * cq_shared->ntasks);

	for (;;)
	{
		Oid database;
		long nap_ms;
		bool no_slot;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			cq_shared->probe_all = true;
		}
		if (cq_shared->probe_all)
		{
			cq_shared->probe_all = false;
			databases_list();
		}
		while ((no_slot = database_next_to_probe(&database)) && database_probe(database))
			;
		handles_check();
		nap_ms = workers_start();
		if (no_slot)
			nap_ms = Min(nap_ms, NO_SLOT_RETRY_MS);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 nap_ms,
						 cq_wait_event(CQ_WAIT_LAUNCHER));
		ResetLatch(MyLatch);
	}
}

/* After a restart of the launcher alone, starting workers have no handle any more. */
static void
launcher_attach(void)
{
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	cq_shared->launcher_latch = MyLatch;
	cq_shared->launcher_pid = MyProcPid;
	cq_shared->probe_all = true;
	for (i = 0; i < cq_shared->ntasks; i++)
		cq_shared->tasks[i].starting = false;
	LWLockRelease(cq_shared->lock);
	before_shmem_exit(launcher_detach, (Datum) 0);
}

static void
launcher_detach(int code, Datum arg)
{
	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	cq_shared->launcher_latch = NULL;
	cq_shared->launcher_pid = 0;
	LWLockRelease(cq_shared->lock);
}

/* Note every database that can be connected to; they are probed next. */
static void
databases_list(void)
{
	Relation rel;
	TableScanDesc scan;
	HeapTuple row;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	while (HeapTupleIsValid(row = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(row);
		CqDatabaseSlot *slot = NULL;
		int i;

		if (!db->datallowconn || db->datistemplate || db->datconnlimit == -2)
			continue;
		for (i = 0; i < CQ_MAX_DATABASES && slot == NULL; i++)
			if (cq_shared->databases[i].database == db->oid)
				slot = &cq_shared->databases[i];
		for (i = 0; i < CQ_MAX_DATABASES && slot == NULL; i++)
			if (!OidIsValid(cq_shared->databases[i].database) ||
				(cq_shared->databases[i].holds == 0 && cq_shared->databases[i].probed))
			{
				slot = &cq_shared->databases[i];
				slot->database = db->oid;
				slot->holds = 0;
			}
		if (slot)
			slot->probed = false;
	}
	LWLockRelease(cq_shared->lock);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}

static bool
database_next_to_probe(Oid *database)
{
	bool found = false;
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < CQ_MAX_DATABASES && !found; i++)
	{
		CqDatabaseSlot *slot = &cq_shared->databases[i];

		if (!OidIsValid(slot->database) || slot->probed || slot->holds > 0)
			continue;
		slot->probed = true;
		*database = slot->database;
		found = true;
	}
	LWLockRelease(cq_shared->lock);
	return found;
}

/*
 * Run one probe to its end.  It does no more than read three small tables.
 * False if there is no worker slot for it; it is tried again then.
 */
static bool
database_probe(Oid database)
{
	static bool reported = false;
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	worker_init(&worker, "cq_probe_main", "pipeline probe");
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		if (!reported)
			ereport(LOG,
					errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg(
						"could not look for continuous views: no background worker slot is free"),
					errhint("Increase max_worker_processes."));
		reported = true;
		database_probe_again(database);
		return false;
	}
	reported = false;
	(void) WaitForBackgroundWorkerShutdown(handle);
	pfree(handle);
	return true;
}

static void
database_probe_again(Oid database)
{
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < CQ_MAX_DATABASES; i++)
		if (cq_shared->databases[i].database == database)
			cq_shared->databases[i].probed = false;
	LWLockRelease(cq_shared->lock);
}

/* Probe: put the tasks of one database into slots. */
void
cq_probe_main(Datum arg)
{
	Oid database = DatumGetObjectId(arg);

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (cq_extension_exists())
	{
		ListCell *lc;

		cq_upgraded_settle();
		foreach (lc, cq_tasks_running())
		{
			int64 task = *(int64 *) lfirst(lc);
			CqTaskSlot slot;

			/* one that is there need not be told anything */
			if (!cq_slot_read(database, task, &slot) || !slot.enabled)
				cq_slot_add(database, task);
		}
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	proc_exit(0);
}

/* Start what should run and does not; returns how long to nap until the next one is due. */
static long
workers_start(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long nap_ms = LONGEST_NAP_MS;
	int i;

	for (i = 0; i < cq_shared->ntasks; i++)
	{
		CqTaskSlot *slot = &cq_shared->tasks[i];
		bool due;

		LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
		due = worker_due(slot, now, &nap_ms);
		if (due)
			slot->starting = true;
		LWLockRelease(cq_shared->lock);
		if (due && !worker_start(i))
			nap_ms = Min(nap_ms, NO_SLOT_RETRY_MS);
	}
	return nap_ms;
}

/* Caller must hold the lock exclusively. */
static bool
worker_due(CqTaskSlot *slot, TimestampTz now, long *nap_ms)
{
	if (!slot->in_use || !slot->enabled || slot->pid != 0 || slot->starting ||
		cq_database_is_held(slot->database) || handed_over(slot))
		return false;
	if (slot->start_after > now)
	{
		*nap_ms = Min(*nap_ms, (slot->start_after - now) / 1000 + 1);
		return false;
	}
	/* it wakes us when it has settled, and when it has gone */
	return !worker_unsettled(slot->database);
}

static bool
worker_unsettled(Oid database)
{
	int i;

	for (i = 0; i < cq_shared->ntasks; i++)
	{
		const CqTaskSlot *slot = &cq_shared->tasks[i];

		if (slot->in_use && slot->database == database &&
			(slot->starting || (slot->pid != 0 && !slot->settled)))
			return true;
	}
	return false;
}

/* Is there a worker that is about to take the view over? */
static bool
handed_over(const CqTaskSlot *slot)
{
	const CqTaskSlot *leader;

	if (slot->handed_to == 0)
		return false;
	leader = &cq_shared->tasks[slot->handed_to - 1];
	return leader->in_use && leader->pid != 0 && leader->leader == slot->handed_to;
}

static bool
worker_start(int index)
{
	CqTaskSlot *slot = &cq_shared->tasks[index];
	CqWorkerArgs args;
	BackgroundWorker worker;
	bool registered;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	args.slot = index;
	args.generation = slot->generation;
	args.database = slot->database;
	args.task = slot->task;
	LWLockRelease(cq_shared->lock);

	worker_init(&worker, "cq_worker_main", "pipeline worker");
	snprintf(worker.bgw_name, BGW_MAXLEN, "pipeline worker for task %lld", (long long) args.task);
	memcpy(worker.bgw_extra, &args, sizeof(args));
	worker.bgw_notify_pid = MyProcPid;
	registered = RegisterDynamicBackgroundWorker(&worker, &handles[index]);

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	if (slot->generation == args.generation)
	{
		if (!registered)
			slot->starting = false;
		slot->activity = registered ? CQ_ACTIVITY_STARTING : CQ_ACTIVITY_NO_WORKER_SLOT;
	}
	LWLockRelease(cq_shared->lock);
	return registered;
}

/* Forget handles of workers that attached; note those that will never. */
static void
handles_check(void)
{
	int i;

	for (i = 0; i < cq_shared->ntasks; i++)
	{
		CqTaskSlot *slot = &cq_shared->tasks[i];
		pid_t pid;

		if (handles[i] == NULL)
			continue;
		LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
		if (!slot->starting)
		{
			pfree(handles[i]);
			handles[i] = NULL;
		}
		else if (GetBackgroundWorkerPid(handles[i], &pid) == BGWH_STOPPED)
		{
			slot->starting = false;
			slot->start_after =
				TimestampTzPlusMilliseconds(GetCurrentTimestamp(), START_FAILED_RETRY_MS);
			pfree(handles[i]);
			handles[i] = NULL;
		}
		LWLockRelease(cq_shared->lock);
	}
}
