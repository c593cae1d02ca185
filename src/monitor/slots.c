/*
 * slots.c
 *	  Task slots in shared memory.
 *
 * The slots tell the launcher which workers to keep running, and everybody
 * else how they do.  They are a cache: what tasks there are is written in each
 * database's catalog, and the launcher's probes read it after a start.
 *
 * Invariants
 *	L1. A slot's task, database and generation change only while the slot is
 *		not in use or the exclusive lock is held.
 *	L2. No worker connects to a database that is held: the launcher starts none
 *		there, and one that was starting exits (cq_database_hold waits for it).
 *
 * Changes that belong to a transaction (CREATE VIEW, pause, ...) are queued and
 * carried out after its commit, so the launcher never acts on rows it cannot
 * see.  The commit callback does plain stores under the lock and cannot fail.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "monitor/slots.h"
#include "monitor/wait_event.h"
#include "settings.h"
#include "state/region.h"

#define HOLD_WAIT_MS 5000
#define HOLD_POLL_MS 10

typedef struct PendingAction
{
	CqSlotAction action;
	Oid database;
	int64 task;
	SubTransactionId subxact;
	struct PendingAction *next;
} PendingAction;

/* A hold of this transaction; in its own memory. */
typedef struct Hold
{
	Oid database;
	struct Hold *next;
} Hold;

CqShared *cq_shared = NULL;

static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;
static PendingAction *pending_actions = NULL;
static Hold *holds = NULL;
static bool callbacks_registered = false;

static void request_shmem(void);
static void startup_shmem(void);
static Size shared_size(void);
static void register_callbacks(void);
static void xact_callback(XactEvent event, void *arg);
static void subxact_callback(SubXactEvent event, SubTransactionId subxact, SubTransactionId parent,
							 void *arg);
static void actions_run(PendingAction *list);
static void action_run(const PendingAction *pending);
static void tell_changed(const PendingAction *list);
static void tell_all(Oid database);
static void holds_release(void);
static CqDatabaseSlot *database_slot(Oid database, bool create);
static void slot_stop_worker(CqTaskSlot *slot);
static void slot_free(int index);

void
cq_slots_init(void)
{
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

void
cq_require_preload(void)
{
	if (cq_shared == NULL)
		ereport(
			ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("pipeline_ext must be loaded via shared_preload_libraries"),
			errhint(
				"Add pipeline_ext to shared_preload_libraries in postgresql.conf and restart the server."));
}

static Size
shared_size(void)
{
	Size size = MAXALIGN(sizeof(CqShared));

	size = add_size(size, MAXALIGN(mul_size(cq_max_tasks, sizeof(CqTaskSlot))));
	size = add_size(size, MAXALIGN(mul_size(cq_max_tasks, sizeof(CqMetrics))));
	return add_size(size, MAXALIGN(mul_size(cq_max_partitions, sizeof(CqPartitionSlot))));
}

static void
request_shmem(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("pipeline_ext", 1);
}

static void
startup_shmem(void)
{
	bool found;

	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	cq_shared = ShmemInitStruct("pipeline_ext", shared_size(), &found);
	if (!found)
	{
		char *place = (char *) cq_shared;

		memset(cq_shared, 0, shared_size());
		cq_shared->lock = &(GetNamedLWLockTranche("pipeline_ext"))->lock;
		cq_shared->probe_all = true;
		pg_atomic_init_u64(&cq_shared->verifications, 0);
		pg_atomic_init_u64(&cq_shared->clock_shift_us, 0);
		cq_shared->ntasks = cq_max_tasks;
		cq_shared->npartitions = cq_max_partitions;
		place += MAXALIGN(sizeof(CqShared));
		cq_shared->tasks = (CqTaskSlot *) place;
		place += MAXALIGN(cq_max_tasks * sizeof(CqTaskSlot));
		cq_shared->partitions = (CqPartitionSlot *) place;
		place += MAXALIGN(cq_max_partitions * sizeof(CqPartitionSlot));
		cq_shared->metrics = (CqMetrics *) place;
	}
	LWLockRelease(AddinShmemInitLock);
}

CqMetrics *
cq_slot_metrics(const CqTaskSlot *slot)
{
	Assert(LWLockHeldByMe(cq_shared->lock));
	return &cq_shared->metrics[slot - cq_shared->tasks];
}

int
cq_slot_find(Oid database, int64 task)
{
	int i;

	Assert(LWLockHeldByMe(cq_shared->lock));
	for (i = 0; i < cq_shared->ntasks; i++)
	{
		CqTaskSlot *slot = &cq_shared->tasks[i];

		if (slot->in_use && slot->task == task && slot->database == database)
			return i;
	}
	return -1;
}

void
cq_slot_add(Oid database, int64 task)
{
	int index;
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	index = cq_slot_find(database, task);
	for (i = 0; index < 0 && i < cq_shared->ntasks; i++)
		if (!cq_shared->tasks[i].in_use)
		{
			uint32 generation = cq_shared->tasks[i].generation;

			memset(&cq_shared->tasks[i], 0, sizeof(CqTaskSlot));
			cq_shared->tasks[i].generation = generation + 1;
			cq_shared->tasks[i].in_use = true;
			cq_shared->tasks[i].database = database;
			cq_shared->tasks[i].task = task;
			cq_shared->tasks[i].watermark = DT_NOBEGIN;
			cq_metrics_init(&cq_shared->metrics[i]);
			index = i;
		}
	if (index >= 0)
	{
		CqTaskSlot *slot = &cq_shared->tasks[index];

		if (!slot->enabled)
		{
			slot->enabled = true;
			slot->failures = 0;
			slot->start_after = 0;
			slot->activity = CQ_ACTIVITY_NOT_STARTED;
		}
		slot->change++;
	}
	else
		cq_shared->shortage = true;
	LWLockRelease(cq_shared->lock);
	if (index < 0)
		ereport(WARNING,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("no slot is free for continuous view number %lld", (long long) task),
				errhint("It starts when another view is dropped, or when pipeline.max_tasks is "
						"increased and the server restarted."));
	cq_launcher_wake();
}

int
cq_slots_free(void)
{
	int free = 0;
	int i;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	for (i = 0; i < cq_shared->ntasks; i++)
		free += !cq_shared->tasks[i].in_use;
	LWLockRelease(cq_shared->lock);
	return free;
}

void
cq_slot_disable(Oid database, int64 task)
{
	int index;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	index = cq_slot_find(database, task);
	if (index >= 0)
	{
		CqTaskSlot *slot = &cq_shared->tasks[index];

		slot->enabled = false;
		slot->change++;
		if (slot->pid == 0)
			slot->activity = CQ_ACTIVITY_PAUSED;
		if (slot->latch)
			SetLatch(slot->latch);
	}
	LWLockRelease(cq_shared->lock);
	cq_launcher_wake();
}

void
cq_slot_remove(Oid database, int64 task)
{
	int index;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	index = cq_slot_find(database, task);
	if (index >= 0)
	{
		slot_stop_worker(&cq_shared->tasks[index]);
		slot_free(index);
	}
	LWLockRelease(cq_shared->lock);
	cq_region_drop(database, task);
}

void
cq_slots_remove_database(Oid database)
{
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < cq_shared->ntasks; i++)
		if (cq_shared->tasks[i].in_use && cq_shared->tasks[i].database == database)
		{
			slot_stop_worker(&cq_shared->tasks[i]);
			slot_free(i);
		}
	LWLockRelease(cq_shared->lock);
	cq_region_drop(database, 0);
}

/*
 * Caller must hold the lock exclusively and free the slot.  The worker finds
 * out by the generation and leaves in good order.
 */
static void
slot_stop_worker(CqTaskSlot *slot)
{
	Assert(LWLockHeldByMeInMode(cq_shared->lock, LW_EXCLUSIVE));
	slot->enabled = false;
	if (slot->latch)
		SetLatch(slot->latch);
}

/* Caller must hold the lock exclusively. */
static void
slot_free(int index)
{
	int i;

	Assert(LWLockHeldByMeInMode(cq_shared->lock, LW_EXCLUSIVE));
	for (i = 0; i < cq_shared->npartitions; i++)
		if (cq_shared->partitions[i].in_use && cq_shared->partitions[i].task_slot == index)
			cq_shared->partitions[i].in_use = false;
	cq_shared->tasks[index].in_use = false;
	cq_shared->tasks[index].generation++;
	if (cq_shared->shortage)
	{
		cq_shared->shortage = false;
		cq_shared->probe_all = true;
		if (cq_shared->launcher_latch)
			SetLatch(cq_shared->launcher_latch);
	}
}

void
cq_launcher_wake(void)
{
	LWLockAcquire(cq_shared->lock, LW_SHARED);
	if (cq_shared->launcher_latch)
		SetLatch(cq_shared->launcher_latch);
	LWLockRelease(cq_shared->lock);
}

void
cq_slots_at_commit(CqSlotAction action, int64 task)
{
	PendingAction *pending;

	if (cq_shared == NULL)
		return;
	register_callbacks();
	pending = MemoryContextAllocZero(TopTransactionContext, sizeof(PendingAction));
	pending->action = action;
	pending->database = MyDatabaseId;
	pending->task = task;
	pending->subxact = GetCurrentSubTransactionId();
	pending->next = pending_actions;
	pending_actions = pending;
}

static void
register_callbacks(void)
{
	if (callbacks_registered)
		return;
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
	callbacks_registered = true;
}

/*
 * The lists are in the transaction's own memory, and it is another session that
 * commits a prepared transaction: nobody would carry them out.
 */
static void
xact_callback(XactEvent event, void *arg)
{
	PendingAction *actions = pending_actions;

	if (event == XACT_EVENT_PRE_PREPARE && actions != NULL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot PREPARE a transaction that has changed continuous views"),
				errhint("Commit it in one phase."));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	pending_actions = NULL;
	if (event == XACT_EVENT_COMMIT)
		actions_run(actions);
	holds_release();
}

/* The list is newest first. */
static void
actions_run(PendingAction *list)
{
	PendingAction *oldest_first = NULL;

	while (list)
	{
		PendingAction *next = list->next;

		list->next = oldest_first;
		oldest_first = list;
		list = next;
	}
	tell_changed(oldest_first);
	for (; oldest_first; oldest_first = oldest_first->next)
		action_run(oldest_first);
}

/*
 * All at once: to a worker that runs several of the views it makes a difference
 * whether all of them have changed.
 */
static void
tell_changed(const PendingAction *list)
{
	bool any = false;

	for (; list; list = list->next)
	{
		int index;

		if (list->action != CQ_SLOT_CHANGED && list->action != CQ_SLOT_ASKED)
			continue;
		if (!any)
			LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
		any = true;
		index = cq_slot_find(list->database, list->task);
		if (index < 0)
			continue;
		if (list->action == CQ_SLOT_CHANGED)
			cq_shared->tasks[index].change++;
		else
			cq_shared->tasks[index].asked++;
		if (cq_shared->tasks[index].latch)
			SetLatch(cq_shared->tasks[index].latch);
	}
	if (any)
		LWLockRelease(cq_shared->lock);
}

/* What there is to run may be something else now.  Caller must hold the lock. */
static void
tell_all(Oid database)
{
	int i;

	for (i = 0; i < cq_shared->ntasks; i++)
	{
		CqTaskSlot *slot = &cq_shared->tasks[i];

		if (!slot->in_use || slot->database != database)
			continue;
		slot->change++;
		slot->start_after = 0;
		if (slot->latch)
			SetLatch(slot->latch);
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId subxact, SubTransactionId parent, void *arg)
{
	PendingAction **link = &pending_actions;

	while (*link)
	{
		if ((*link)->subxact != subxact)
			link = &(*link)->next;
		else if (event == SUBXACT_EVENT_ABORT_SUB)
			*link = (*link)->next;
		else
		{
			if (event == SUBXACT_EVENT_COMMIT_SUB)
				(*link)->subxact = parent;
			link = &(*link)->next;
		}
	}
}

static void
action_run(const PendingAction *pending)
{
	CqDatabaseSlot *db;

	switch (pending->action)
	{
		case CQ_SLOT_ADD:
			cq_slot_add(pending->database, pending->task);
			break;
		case CQ_SLOT_DISABLE:
			cq_slot_disable(pending->database, pending->task);
			break;
		case CQ_SLOT_REMOVE:
			cq_slot_remove(pending->database, pending->task);
			break;
		case CQ_SLOT_CHANGED:
		case CQ_SLOT_ASKED:
			break; /* tell_changed() */
		case CQ_SLOT_PROBE:
			LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
			db = database_slot(pending->database, true);
			if (db)
				db->probed = false;
			tell_all(pending->database);
			LWLockRelease(cq_shared->lock);
			cq_launcher_wake();
			break;
		case CQ_SLOT_REMOVE_DATABASE:
			cq_slots_remove_database(pending->database);
			break;
	}
}

/*
 * Caller must hold the lock (exclusively to create); NULL if there is none or
 * no room.  A slot that is neither held nor waits for a probe says nothing, so
 * it can be had for another database; this one's may be gone by now.
 */
static CqDatabaseSlot *
database_slot(Oid database, bool create)
{
	CqDatabaseSlot *free_slot = NULL;
	int i;

	for (i = 0; i < CQ_MAX_DATABASES; i++)
	{
		CqDatabaseSlot *db = &cq_shared->databases[i];

		if (db->database == database)
			return db;
		if ((!OidIsValid(db->database) || (db->holds == 0 && db->probed)) && free_slot == NULL)
			free_slot = db;
	}
	if (create && free_slot)
	{
		memset(free_slot, 0, sizeof(CqDatabaseSlot));
		free_slot->database = database;
		free_slot->probed = true;
		return free_slot;
	}
	return NULL;
}

void
cq_database_hold(Oid database)
{
	Hold *hold = MemoryContextAlloc(TopTransactionContext, sizeof(Hold));
	TimestampTz give_up;
	CqDatabaseSlot *db;

	register_callbacks();
	hold->database = database;
	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	db = database_slot(database, true);
	if (db)
	{
		db->holds++;
		hold->next = holds;
		holds = hold;
	}
	LWLockRelease(cq_shared->lock);

	give_up = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HOLD_WAIT_MS);
	for (;;)
	{
		bool busy = false;
		int i;

		LWLockAcquire(cq_shared->lock, LW_SHARED);
		for (i = 0; i < cq_shared->ntasks; i++)
		{
			CqTaskSlot *slot = &cq_shared->tasks[i];

			if (!slot->in_use || slot->database != database)
				continue;
			if (slot->pid != 0)
				kill(slot->pid, SIGTERM);
			busy = busy || slot->pid != 0 || slot->starting;
		}
		LWLockRelease(cq_shared->lock);
		if (!busy || GetCurrentTimestamp() >= give_up)
			return;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 HOLD_POLL_MS,
						 cq_wait_event(CQ_WAIT_DATABASE_HOLD));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
holds_release(void)
{
	Hold *released = holds;

	if (released == NULL)
		return;
	holds = NULL;
	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	for (; released; released = released->next)
	{
		CqDatabaseSlot *db = database_slot(released->database, false);

		if (db && db->holds > 0)
			db->holds--;
	}
	LWLockRelease(cq_shared->lock);
	cq_launcher_wake();
}

bool
cq_database_is_held(Oid database)
{
	int i;

	Assert(LWLockHeldByMe(cq_shared->lock));
	for (i = 0; i < CQ_MAX_DATABASES; i++)
		if (cq_shared->databases[i].database == database)
			return cq_shared->databases[i].holds > 0;
	return false;
}

bool
cq_slot_read(Oid database, int64 task, CqTaskSlot *copy)
{
	int index;

	if (cq_shared == NULL)
		return false;
	LWLockAcquire(cq_shared->lock, LW_SHARED);
	index = cq_slot_find(database, task);
	if (index >= 0)
		*copy = cq_shared->tasks[index];
	LWLockRelease(cq_shared->lock);
	return index >= 0;
}

uint64
cq_slot_request_wait(Oid database, int64 task)
{
	uint64 ticket = 0;
	int index;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	index = cq_slot_find(database, task);
	if (index >= 0 && cq_shared->tasks[index].latch)
	{
		ticket = ++cq_shared->tasks[index].wait_requested;
		SetLatch(cq_shared->tasks[index].latch);
	}
	LWLockRelease(cq_shared->lock);
	return ticket;
}

bool
cq_slot_wait_done(Oid database, int64 task, uint64 ticket)
{
	bool done = false;
	int index;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	index = cq_slot_find(database, task);
	if (index >= 0)
		done = cq_shared->tasks[index].wait_done >= ticket;
	LWLockRelease(cq_shared->lock);
	return done;
}

bool
cq_slot_report(Oid database, int64 task, CqShardReport *report)
{
	bool there = false;
	int index;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	index = cq_slot_find(database, task);
	if (index >= 0)
	{
		const CqTaskSlot *slot = &cq_shared->tasks[index];

		*report = slot->report;
		there = slot->pid != 0 && report->begun && report->change == slot->change;
	}
	LWLockRelease(cq_shared->lock);
	return there;
}

void
cq_slot_tell(Oid database, int64 task, const CqShardReport *report)
{
	int index;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	index = cq_slot_find(database, task);
	if (index >= 0 && cq_shared->tasks[index].pid == MyProcPid)
		cq_shared->tasks[index].report = *report;
	LWLockRelease(cq_shared->lock);
}

void
cq_slot_wake(Oid database, int64 task)
{
	int index;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	index = cq_slot_find(database, task);
	if (index >= 0 && cq_shared->tasks[index].latch)
		SetLatch(cq_shared->tasks[index].latch);
	LWLockRelease(cq_shared->lock);
}

uint64
cq_slot_request_verify(Oid database, int64 task)
{
	uint64 ticket = 0;
	int index;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	index = cq_slot_find(database, task);
	if (index >= 0 && cq_shared->tasks[index].latch)
	{
		ticket = ++cq_shared->tasks[index].verify_requested;
		pg_atomic_fetch_add_u64(&cq_shared->verifications, 1);
		SetLatch(cq_shared->tasks[index].latch);
	}
	LWLockRelease(cq_shared->lock);
	return ticket;
}

uint64
cq_slot_verify_wanted(Oid database, int64 task)
{
	uint64 ticket = 0;
	int index;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	index = cq_slot_find(database, task);
	if (index >= 0 &&
		cq_shared->tasks[index].verify_requested > cq_shared->tasks[index].verify_done)
		ticket = cq_shared->tasks[index].verify_requested;
	LWLockRelease(cq_shared->lock);
	return ticket;
}

void
cq_slot_verify_answer(Oid database, int64 task, uint64 ticket, const char *message)
{
	int index;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	index = cq_slot_find(database, task);
	if (index >= 0)
	{
		cq_shared->tasks[index].verify_done = ticket;
		strlcpy(cq_shared->tasks[index].verify_message, message ? message : "", CQ_MESSAGE_SIZE);
	}
	LWLockRelease(cq_shared->lock);
}

const char *
cq_activity_name(int activity)
{
	static const char *const names[] = {
		[CQ_ACTIVITY_NOT_STARTED] = "not started",
		[CQ_ACTIVITY_NO_WORKER_SLOT] = "waiting for a background worker slot",
		[CQ_ACTIVITY_STARTING] = "starting",
		[CQ_ACTIVITY_LOADING_STATE] = "loading state",
		[CQ_ACTIVITY_WAITING_FOR_EVENTS] = "waiting for events",
		[CQ_ACTIVITY_PROCESSING] = "processing events",
		[CQ_ACTIVITY_COMMITTING] = "committing",
		[CQ_ACTIVITY_WAITING_FOR_LOCK] = "waiting for a lock",
		[CQ_ACTIVITY_BACKING_OFF] = "waiting after an error",
		[CQ_ACTIVITY_SOURCE_UNREACHABLE] = "source unreachable",
		[CQ_ACTIVITY_PAUSED] = "paused",
		[CQ_ACTIVITY_STOPPED] = "stopped",
	};

	if (activity < 0 || activity >= lengthof(names))
		return "unknown";
	return names[activity];
}
