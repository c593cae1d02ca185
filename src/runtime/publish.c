/*
 * publish.c
 *	  What a worker tells about itself and hears from others.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "runtime/publish.h"

/* A slot that this process holds, or held: it goes to another view when its own is dropped. */
typedef struct Held
{
	int index;
	uint32 generation;
	int64 view;
} Held;

static Held *held = NULL; /* the leader first */
static int nheld = 0;
static int restart_delay_ms = 0;

static void detach(int code, Datum arg);
static void hold(int index);
static bool slot_is_mine(const Held *mine);
static Held *held_find(int64 view);
static CqTaskSlot *slot_of(int64 view);
static void slot_give_back(CqTaskSlot *slot);
static void forget(Held *mine);
static void partitions_forget(int leader);
static void publish_view(const CqRun *run, CqViewRun *view, int64 checkpoint_us);
static void publish_state(CqTaskSlot *slot, const CqViewRun *view);
static void publish_streams(const CqRun *run, CqTaskSlot *slot);
static void publish_partitions(const CqRun *run);
static void count_error(CqMetrics *metrics);
static CqWishes wishes_of(int64 view);
static void partition_rate(CqPartitionSlot *slot, const CqPartition *p);
static CqPartitionSlot *partition_slot(const CqPartition *partition);

bool
cq_publish_attach(const CqWorkerArgs *args)
{
	CqTaskSlot *slot = &cq_shared->tasks[args->slot];
	bool attached = false;

	held = MemoryContextAlloc(TopMemoryContext, sizeof(Held) * cq_shared->ntasks);
	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	if (slot->in_use && slot->generation == args->generation)
	{
		attached = slot->enabled && slot->pid == 0 && !cq_database_is_held(args->database);
		if (slot->pid == 0)
			slot->starting = false;
		if (attached)
		{
			hold(args->slot);
			slot->settled = false;
		}
	}
	LWLockRelease(cq_shared->lock);
	if (attached)
		before_shmem_exit(detach, (Datum) 0);
	return attached;
}

/* Caller must hold the lock exclusively. */
static void
hold(int index)
{
	CqTaskSlot *slot = &cq_shared->tasks[index];

	held[nheld].index = index;
	held[nheld].generation = slot->generation;
	held[nheld].view = slot->task;
	nheld++;

	slot->pid = MyProcPid;
	slot->latch = MyLatch;
	slot->leader = cq_publish_leader() + 1;
	slot->company = 0;
	slot->settled = true;
	slot->joining = slot->stands_for = slot->handed_to = 0;
	memset(&slot->report, 0, sizeof(slot->report));
	slot->started_at = GetCurrentTimestamp();
	slot->wait_done = slot->wait_requested;
}

/*
 * Callers that only write the worker's own fields need no lock: a value that
 * slips through in the moment when the slot is given away is for display.
 */
static bool
slot_is_mine(const Held *mine)
{
	const CqTaskSlot *slot = &cq_shared->tasks[mine->index];

	return slot->in_use && slot->generation == mine->generation && slot->pid == MyProcPid;
}

static Held *
held_find(int64 view)
{
	int i;

	for (i = 0; i < nheld; i++)
		if (held[i].view == view)
			return &held[i];
	return NULL;
}

static CqTaskSlot *
slot_of(int64 view)
{
	Held *mine = held_find(view);

	return mine && slot_is_mine(mine) ? &cq_shared->tasks[mine->index] : NULL;
}

int
cq_publish_leader(void)
{
	return nheld > 0 ? held[0].index : -1;
}

bool
cq_publish_take(int64 view)
{
	TimestampTz now = GetCurrentTimestamp();
	int index;
	bool taken = false;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	index = cq_slot_find(MyDatabaseId, view);
	if (index >= 0)
	{
		CqTaskSlot *slot = &cq_shared->tasks[index];

		taken = slot->enabled && slot->pid == 0 && !slot->starting && slot->start_after <= now &&
				(slot->apart_until > now) == cq_publish_apart() &&
				(slot->handed_to == 0 || slot->handed_to == cq_publish_leader() + 1);
		if (taken)
			hold(index);
	}
	LWLockRelease(cq_shared->lock);
	return taken;
}

bool
cq_publish_apart(void)
{
	return cq_shared->tasks[held[0].index].apart_until > GetCurrentTimestamp();
}

void
cq_publish_release(int64 view, int apart_ms)
{
	Held *mine = held_find(view);
	CqTaskSlot *slot;

	if (mine == NULL)
		return;
	/* whoever runs the view next may find its state */
	cq_state_detach(view);
	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	slot = slot_is_mine(mine) ? &cq_shared->tasks[mine->index] : NULL;
	if (slot)
	{
		slot_give_back(slot);
		slot->start_after = GetCurrentTimestamp();
		if (apart_ms > 0)
			slot->apart_until = TimestampTzPlusMilliseconds(slot->start_after, apart_ms);
	}
	forget(mine);
	if (cq_shared->launcher_latch)
		SetLatch(cq_shared->launcher_latch);
	LWLockRelease(cq_shared->lock);
}

/* Tasks that wait for this one hear of it.  Caller must hold the lock exclusively. */
static void
slot_give_back(CqTaskSlot *slot)
{
	int index = (int) (slot - cq_shared->tasks);
	int i;

	for (i = 0; i < cq_shared->ntasks; i++)
		if (cq_shared->tasks[i].joining == index + 1 && cq_shared->tasks[i].latch)
			SetLatch(cq_shared->tasks[i].latch);
	slot->pid = 0;
	slot->latch = NULL;
	memset(slot->streams, 0, sizeof(slot->streams));
	slot->company = 0;
	slot->joining = slot->stands_for = slot->handed_to = 0;
	if (slot->enabled)
		slot->activity = CQ_ACTIVITY_NOT_STARTED;
}

/* When it was the leader the next one leads.  Caller must hold the lock exclusively. */
static void
forget(Held *mine)
{
	int old_leader = cq_publish_leader();
	int place = (int) (mine - held);
	int i;

	memmove(mine, mine + 1, sizeof(Held) * (nheld - place - 1));
	nheld--;
	if (cq_publish_leader() == old_leader)
		return;
	partitions_forget(old_leader);
	for (i = 0; i < nheld; i++)
		if (slot_is_mine(&held[i]))
			cq_shared->tasks[held[i].index].leader = cq_publish_leader() + 1;
}

static void
partitions_forget(int leader)
{
	int i;

	for (i = 0; i < cq_shared->npartitions; i++)
		if (cq_shared->partitions[i].in_use && cq_shared->partitions[i].task_slot == leader)
			cq_shared->partitions[i].in_use = false;
}

static void
detach(int code, Datum arg)
{
	TimestampTz start_after = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), restart_delay_ms);
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < nheld; i++)
		if (slot_is_mine(&held[i]))
		{
			slot_give_back(&cq_shared->tasks[held[i].index]);
			cq_shared->tasks[held[i].index].start_after = start_after;
		}
	if (nheld > 0)
		partitions_forget(cq_publish_leader());
	if (cq_shared->launcher_latch)
		SetLatch(cq_shared->launcher_latch);
	LWLockRelease(cq_shared->lock);
}

List *
cq_publish_views(void)
{
	List *views = NIL;
	int i;

	for (i = 0; i < nheld; i++)
	{
		int64 *view = palloc(sizeof(int64));

		*view = held[i].view;
		views = lappend(views, view);
	}
	return views;
}

void
cq_publish_settled(void)
{
	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	if (nheld > 0 && slot_is_mine(&held[0]) && !cq_shared->tasks[held[0].index].settled)
	{
		cq_shared->tasks[held[0].index].settled = true;
		if (cq_shared->launcher_latch)
			SetLatch(cq_shared->launcher_latch);
	}
	LWLockRelease(cq_shared->lock);
}

void
cq_publish_activity(const char *view_name, CqActivity activity)
{
	char text[NAMEDATALEN + 64];
	bool changed = false;
	int i;

	for (i = 0; i < nheld; i++)
	{
		CqTaskSlot *slot = &cq_shared->tasks[held[i].index];

		if (!slot_is_mine(&held[i]) || slot->activity == activity)
			continue;
		slot->activity = activity;
		changed = true;
	}
	if (!changed)
		return;
	if (nheld > 1)
		snprintf(text,
				 sizeof(text),
				 "continuous view \"%s\" and %d more: %s",
				 view_name,
				 nheld - 1,
				 cq_activity_name(activity));
	else
		snprintf(text,
				 sizeof(text),
				 "continuous view \"%s\": %s",
				 view_name,
				 cq_activity_name(activity));
	pgstat_report_activity(activity == CQ_ACTIVITY_PROCESSING ||
								   activity == CQ_ACTIVITY_LOADING_STATE
							   ? STATE_RUNNING
							   : STATE_IDLE,
						   text);
}

void
cq_publish_progress(CqRun *run, int64 checkpoint_us)
{
	uint64 company = cq_run_company(run);
	ListCell *lc;

	cq_measure_collect(run, checkpoint_us);
	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	foreach (lc, run->views)
		publish_view(run, lfirst(lc), checkpoint_us);
	if (nheld > 0 && slot_is_mine(&held[0]))
	{
		publish_streams(run, &cq_shared->tasks[held[0].index]);
		cq_shared->tasks[held[0].index].company = company;
		publish_partitions(run);
	}
	LWLockRelease(cq_shared->lock);
	cq_measure_added(run);
}

/*
 * Between checkpoints.  When a view that reads others' rows sees this before it
 * looks for rows and finds none, nothing is on its way to it.
 */
bool
cq_publish_source_idle(int64 view)
{
	CqTaskSlot slot;

	return cq_slot_read(MyDatabaseId, view, &slot) && slot.pid != 0 && slot.idle;
}

void
cq_publish_idle(const CqRun *run)
{
	ListCell *lc;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	foreach (lc, run->views)
	{
		const CqViewRun *view = lfirst(lc);
		CqTaskSlot *slot = slot_of(view->id);

		if (slot)
			slot->idle = cq_view_run_is_idle(run, view);
	}
	LWLockRelease(cq_shared->lock);
}

/* Only the leader's slot names the stream: one latch is set when a local one grows. */
static void
publish_view(const CqRun *run, CqViewRun *view, int64 checkpoint_us)
{
	CqTaskSlot *slot = slot_of(view->id);
	int64 loads;

	if (slot == NULL)
		return;
	loads = slot->loads;
	slot->owner = run->owner;
	slot->watermark = cq_view_run_watermark(run, view);
	slot->first_end = cq_view_run_first_end(view);
	slot->idle = cq_view_run_is_idle(run, view);
	if (checkpoint_us > 0)
	{
		slot->last_checkpoint_us = checkpoint_us;
		slot->longest_commit_us = Max(slot->longest_commit_us, view->commit_us);
	}
	slot->commit_us = view->commit_us;
	slot->saved_groups = view->saved_groups;
	if (view->op)
		publish_state(slot, view);
	cq_measure_add(run, view, cq_slot_metrics(slot), Max(slot->loads - loads, 0));
}

/* What all inputs have. */
static void
publish_state(CqTaskSlot *slot, const CqViewRun *view)
{
	CqOperatorStats all = {.reused = true};
	int i;

	for (i = 0; i < view->ninputs; i++)
	{
		CqOperatorStats stats;

		cq_operator_stats(view->inputs[i].op, &stats);
		all.memory_bytes += stats.memory_bytes;
		all.chunk_bytes += stats.chunk_bytes;
		all.live_chunk_bytes += stats.live_chunk_bytes;
		all.groups += stats.groups;
		all.open_windows += stats.open_windows;
		all.evictions += stats.evictions;
		all.loads += stats.loads;
		all.reused = all.reused && stats.reused;
	}
	slot->state_bytes = all.memory_bytes;
	slot->chunk_bytes = all.chunk_bytes;
	slot->live_chunk_bytes = all.live_chunk_bytes;
	slot->groups = all.groups;
	slot->open_windows = all.open_windows;
	slot->evictions = all.evictions;
	slot->loads = all.loads;
	slot->state_reused = all.reused;
}

static void
publish_streams(const CqRun *run, CqTaskSlot *slot)
{
	int i;

	for (i = 0; i < run->source->nparts; i++)
		slot->streams[i] = run->source->parts[i]->stream->relid;
}

static void
publish_partitions(const CqRun *run)
{
	const CqSource *source = run->source;
	bool unreachable = source->ops->unreachable(run->source);
	int i;

	for (i = 0; i < source->npartitions; i++)
	{
		const CqPartition *p = &source->partitions[i];
		CqPartitionSlot *slot = partition_slot(p);

		if (slot == NULL)
			break;
		partition_rate(slot, p);
		slot->end_offset = p->end_offset;
		slot->last_record_at = p->last_record_at;
		slot->next_offset = p->next_offset;
		slot->max_event_time = p->max_event_time;
		slot->max_disorder_us = p->max_disorder_us;
		slot->idle = p->idle;
		slot->unreachable = unreachable;
	}
}

/* How fast it is read, as in metrics.c; a slot is new when its worker is. */
static void
partition_rate(CqPartitionSlot *slot, const CqPartition *p)
{
	int64 now_us = cq_metrics_clock_us();

	if (slot->since_us == 0)
		slot->since_us = now_us;
	else
		slot->rate = cq_metrics_fade(slot->rate, now_us - slot->rated_us) +
					 cq_metrics_share(p->next_offset - slot->next_offset);
	slot->rated_us = now_us;
}

static CqPartitionSlot *
partition_slot(const CqPartition *partition)
{
	CqPartitionSlot *found = NULL;
	int i;

	for (i = 0; i < cq_shared->npartitions && found == NULL; i++)
	{
		CqPartitionSlot *p = &cq_shared->partitions[i];

		if (p->in_use && p->task_slot == cq_publish_leader() && p->stream == partition->stream &&
			p->partition == partition->id)
			found = p;
	}
	for (i = 0; i < cq_shared->npartitions && found == NULL; i++)
		if (!cq_shared->partitions[i].in_use)
		{
			found = &cq_shared->partitions[i];
			memset(found, 0, sizeof(*found));
			found->in_use = true;
			found->task_slot = cq_publish_leader();
			found->stream = partition->stream;
			found->partition = partition->id;
		}
	return found;
}

int
cq_publish_error(int64 view, int sqlstate, const char *message)
{
	int failures = 1;
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < nheld; i++)
	{
		CqTaskSlot *slot = &cq_shared->tasks[held[i].index];

		if (!slot_is_mine(&held[i]) || (view != 0 && held[i].view != view))
			continue;
		slot->failures++;
		slot->error_at = GetCurrentTimestamp();
		slot->error_sqlstate = sqlstate;
		strlcpy(slot->error_message, message ? message : "", CQ_MESSAGE_SIZE);
		count_error(cq_slot_metrics(slot));
		failures = Max(failures, slot->failures);
	}
	LWLockRelease(cq_shared->lock);
	return failures;
}

static void
count_error(CqMetrics *metrics)
{
	double amounts[CQ_RATE_COUNT] = {0};

	metrics->errors++;
	amounts[CQ_RATE_ERRORS] = 1;
	cq_metrics_add(metrics, amounts, 0);
}

void
cq_publish_success(void)
{
	int i;

	for (i = 0; i < nheld; i++)
		if (slot_is_mine(&held[i]))
			cq_shared->tasks[held[i].index].failures = 0;
}

CqWishes
cq_publish_wishes(int64 view)
{
	CqWishes wishes;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	wishes = wishes_of(view);
	LWLockRelease(cq_shared->lock);
	return wishes;
}

void
cq_publish_read_wishes(CqRun *run)
{
	ListCell *lc;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		view->wishes = wishes_of(view->id);
	}
	LWLockRelease(cq_shared->lock);
}

/* Caller must hold the lock. */
static CqWishes
wishes_of(int64 view)
{
	const CqTaskSlot *slot = slot_of(view);
	CqWishes wishes = {0};

	if (slot)
	{
		wishes.enabled = slot->enabled;
		wishes.change = slot->change;
		wishes.asked = slot->asked;
		wishes.wait_requested = slot->wait_requested;
		wishes.wait_done = slot->wait_done;
	}
	return wishes;
}

const CqViewRun *
cq_publish_changed_view(const CqRun *run)
{
	const CqViewRun *changed = NULL;
	ListCell *lc;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	foreach (lc, run->views)
	{
		const CqViewRun *view = lfirst(lc);
		const CqTaskSlot *slot = slot_of(view->id);

		if (slot && slot->change != view->seen_change)
			changed = view;
	}
	LWLockRelease(cq_shared->lock);
	return changed;
}

uint64
cq_publish_news(void)
{
	uint64 news = 0;
	int i;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	for (i = 0; i < nheld; i++)
	{
		const CqTaskSlot *slot = &cq_shared->tasks[held[i].index];

		if (slot_is_mine(&held[i]))
			news += slot->change + slot->enabled;
	}
	LWLockRelease(cq_shared->lock);
	return news;
}

void
cq_publish_wait_done(int64 view, uint64 ticket)
{
	CqTaskSlot *slot;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	slot = slot_of(view);
	if (slot)
		slot->wait_done = ticket;
	LWLockRelease(cq_shared->lock);
}

void
cq_publish_restart_after(int delay_ms)
{
	restart_delay_ms = delay_ms;
}

void
cq_publish_disable(int64 view, CqActivity activity, uint64 change)
{
	CqTaskSlot *slot;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	slot = slot_of(view);
	if (slot && slot->change == change)
	{
		slot->enabled = false;
		slot->activity = activity;
	}
	LWLockRelease(cq_shared->lock);
}

void
cq_publish_hand_over(void)
{
	int to;
	int i;

	/* whoever takes the slots comes for the states at once */
	for (i = 0; i < nheld; i++)
		cq_state_detach(held[i].view);
	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	to = cq_shared->tasks[held[0].index].joining;
	partitions_forget(cq_publish_leader());
	for (i = 0; i < nheld; i++)
		if (slot_is_mine(&held[i]))
		{
			slot_give_back(&cq_shared->tasks[held[i].index]);
			cq_shared->tasks[held[i].index].start_after = GetCurrentTimestamp();
			cq_shared->tasks[held[i].index].handed_to = to;
		}
	nheld = 0;
	if (to != 0 && cq_shared->tasks[to - 1].latch)
		SetLatch(cq_shared->tasks[to - 1].latch);
	LWLockRelease(cq_shared->lock);
}
