/*
 * publish.c
 *	  What a worker tells about itself.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/backend_status.h"
#include "utils/timestamp.h"

#include "runtime/publish.h"

static CqTaskSlot *my_slot = NULL;
static int my_index = -1;
static uint32 my_generation;
static int restart_delay_ms = 0;

static void detach(int code, Datum arg);
static bool slot_is_mine(void);
static CqPartitionSlot *partition_slot(int32 partition);

bool
cq_publish_attach(const CqWorkerArgs *args)
{
	CqTaskSlot *slot = &cq_shared->tasks[args->slot];
	bool attached = false;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	if (slot->in_use && slot->generation == args->generation)
	{
		attached = slot->enabled && slot->pid == 0 && !cq_database_is_held(args->database);
		if (slot->pid == 0)
			slot->starting = false;
		if (attached)
		{
			slot->pid = MyProcPid;
			slot->latch = MyLatch;
			slot->started_at = GetCurrentTimestamp();
			slot->wait_done = slot->wait_requested;
		}
	}
	LWLockRelease(cq_shared->lock);
	if (!attached)
		return false;
	my_slot = slot;
	my_index = args->slot;
	my_generation = args->generation;
	before_shmem_exit(detach, (Datum) 0);
	return true;
}

/*
 * The slot goes to another task when this one is dropped; then nothing may be
 * written there any more.  Callers that only write the worker's own fields need
 * no lock: a value that slips through in that moment is for display.
 */
static bool
slot_is_mine(void)
{
	return my_slot && my_slot->in_use && my_slot->generation == my_generation &&
		   my_slot->pid == MyProcPid;
}

static void
detach(int code, Datum arg)
{
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	if (slot_is_mine())
	{
		my_slot->pid = 0;
		my_slot->latch = NULL;
		my_slot->stream = InvalidOid;
		my_slot->start_after = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), restart_delay_ms);
		if (my_slot->enabled)
			my_slot->activity = CQ_ACTIVITY_NOT_STARTED;
		for (i = 0; i < cq_shared->npartitions; i++)
			if (cq_shared->partitions[i].in_use && cq_shared->partitions[i].task_slot == my_index)
				cq_shared->partitions[i].in_use = false;
		if (cq_shared->launcher_latch)
			SetLatch(cq_shared->launcher_latch);
	}
	LWLockRelease(cq_shared->lock);
}

void
cq_publish_activity(const char *view_name, CqActivity activity)
{
	char text[NAMEDATALEN + 64];

	if (!slot_is_mine() || my_slot->activity == activity)
		return;
	my_slot->activity = activity;
	snprintf(text,
			 sizeof(text),
			 "continuous view \"%s\": %s",
			 view_name,
			 cq_activity_name(activity));
	pgstat_report_activity(activity == CQ_ACTIVITY_PROCESSING ? STATE_RUNNING : STATE_IDLE, text);
}

static CqPartitionSlot *
partition_slot(int32 partition)
{
	CqPartitionSlot *found = NULL;
	int i;

	for (i = 0; i < cq_shared->npartitions && found == NULL; i++)
	{
		CqPartitionSlot *p = &cq_shared->partitions[i];

		if (p->in_use && p->task_slot == my_index && p->partition == partition)
			found = p;
	}
	for (i = 0; i < cq_shared->npartitions && found == NULL; i++)
		if (!cq_shared->partitions[i].in_use)
		{
			found = &cq_shared->partitions[i];
			found->in_use = true;
			found->task_slot = my_index;
			found->partition = partition;
		}
	return found;
}

void
cq_publish_progress(const CqRun *run, int64 checkpoint_us)
{
	const CqViewRun *view = linitial(run->views);
	const CqSource *source = run->source;
	bool unreachable = source->ops->unreachable(run->source);
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	if (slot_is_mine())
	{
		my_slot->stream = run->stream->relid;
		my_slot->owner = run->owner;
		my_slot->watermark = cq_view_run_watermark(run, view);
		if (checkpoint_us > 0)
			my_slot->last_checkpoint_us = checkpoint_us;
		if (view->op)
		{
			CqOperatorStats stats;

			cq_operator_stats(view->op, &stats);
			my_slot->state_bytes = stats.memory_bytes;
			my_slot->groups = stats.groups;
			my_slot->open_windows = stats.open_windows;
		}
		for (i = 0; i < source->npartitions; i++)
		{
			const CqPartition *p = &source->partitions[i];
			CqPartitionSlot *slot = partition_slot(p->id);

			if (slot == NULL)
				break;
			slot->end_offset = p->end_offset;
			slot->next_offset = p->next_offset;
			slot->max_event_time = p->max_event_time;
			slot->max_disorder_us = p->max_disorder_us;
			slot->idle = p->idle;
			slot->unreachable = unreachable;
		}
	}
	LWLockRelease(cq_shared->lock);
}

int
cq_publish_error(int sqlstate, const char *message)
{
	int failures = 1;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	if (slot_is_mine())
	{
		my_slot->failures++;
		my_slot->error_at = GetCurrentTimestamp();
		my_slot->error_sqlstate = sqlstate;
		strlcpy(my_slot->error_message, message ? message : "", CQ_MESSAGE_SIZE);
		failures = my_slot->failures;
	}
	LWLockRelease(cq_shared->lock);
	return failures;
}

void
cq_publish_success(void)
{
	if (slot_is_mine())
		my_slot->failures = 0;
}

CqWishes
cq_publish_wishes(void)
{
	CqWishes wishes = {0};

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	if (slot_is_mine())
	{
		wishes.enabled = my_slot->enabled;
		wishes.change = my_slot->change;
		wishes.wait_requested = my_slot->wait_requested;
	}
	LWLockRelease(cq_shared->lock);
	return wishes;
}

void
cq_publish_wait_done(uint64 ticket)
{
	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	if (slot_is_mine())
		my_slot->wait_done = ticket;
	LWLockRelease(cq_shared->lock);
}

void
cq_publish_restart_after(int delay_ms)
{
	restart_delay_ms = delay_ms;
}

void
cq_publish_disable(CqActivity activity, uint64 change)
{
	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	if (slot_is_mine() && my_slot->change == change)
	{
		my_slot->enabled = false;
		my_slot->activity = activity;
	}
	LWLockRelease(cq_shared->lock);
}
