/*
 * meeting.c
 *	  Two tasks that come together: what their workers tell each other in the
 *	  slots of their leaders.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "monitor/meeting.h"
#include "monitor/slots.h"

static bool leads_before(int a, int b);
static int task_size(int leader);
static bool leads(int index);
static bool is_asked(int leader);

/*
 * The larger task takes the smaller one's views, so that less state has to be
 * loaded.  A task that is asked by another one asks nobody: no circles.
 */
int64
cq_meeting_find(int own)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64 company;
	int64 found = 0;
	int best = own;
	int i;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	company = cq_shared->tasks[own].company;
	if (company == 0 || cq_shared->tasks[own].apart_until > now || is_asked(own))
		best = -1;
	for (i = 0; i < cq_shared->ntasks && best >= 0; i++)
	{
		const CqTaskSlot *slot = &cq_shared->tasks[i];

		if (!leads(i) || slot->database != MyDatabaseId || slot->company != company ||
			slot->joining != 0 || slot->apart_until > now || !leads_before(i, best))
			continue;
		best = i;
		found = slot->task;
	}
	LWLockRelease(cq_shared->lock);
	return found;
}

/* Is there a worker, and does this slot stand for all that it runs?  Caller must hold the lock. */
static bool
leads(int index)
{
	const CqTaskSlot *slot = &cq_shared->tasks[index];

	return slot->in_use && slot->pid != 0 && slot->settled && slot->leader == index + 1;
}

/* Does a task want to join this one?  Caller must hold the lock. */
static bool
is_asked(int leader)
{
	int i;

	for (i = 0; i < cq_shared->ntasks; i++)
		if (leads(i) && cq_shared->tasks[i].joining == leader + 1)
			return true;
	return false;
}

static bool
leads_before(int a, int b)
{
	int size_a = task_size(a);
	int size_b = task_size(b);

	return size_a != size_b ? size_a > size_b : a < b;
}

/* Caller must hold the lock. */
static int
task_size(int leader)
{
	int size = 0;
	int i;

	for (i = 0; i < cq_shared->ntasks; i++)
		size += cq_shared->tasks[i].in_use && cq_shared->tasks[i].pid != 0 &&
				cq_shared->tasks[i].leader == leader + 1;
	return size;
}

bool
cq_meeting_ask(int own, int64 leader)
{
	int index;
	bool free_to;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	index = cq_slot_find(MyDatabaseId, leader);
	free_to = index >= 0 && leads(index) && cq_shared->tasks[index].joining == 0 &&
			  !is_asked(index) && !is_asked(own) && cq_shared->tasks[own].pid == MyProcPid;
	if (free_to)
	{
		cq_shared->tasks[own].joining = index + 1;
		SetLatch(cq_shared->tasks[index].latch);
	}
	LWLockRelease(cq_shared->lock);
	return free_to;
}

void
cq_meeting_withdraw(int own)
{
	CqTaskSlot *mine = &cq_shared->tasks[own];

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	if (cq_shared->tasks[own].pid == MyProcPid && mine->joining != 0)
	{
		CqTaskSlot *leader = &cq_shared->tasks[mine->joining - 1];

		mine->joining = 0;
		if (leader->latch)
			SetLatch(leader->latch);
	}
	LWLockRelease(cq_shared->lock);
}

bool
cq_meeting_stands(int own, bool *gone)
{
	const CqTaskSlot *mine = &cq_shared->tasks[own];
	bool stands = false;

	*gone = true;
	LWLockAcquire(cq_shared->lock, LW_SHARED);
	if (cq_shared->tasks[own].pid == MyProcPid && mine->joining != 0)
	{
		const CqTaskSlot *leader = &cq_shared->tasks[mine->joining - 1];

		*gone = !leader->in_use || leader->pid == 0 || leader->leader != mine->joining;
		stands = leader->stands_for == own + 1;
	}
	LWLockRelease(cq_shared->lock);
	return stands && !*gone;
}

int64
cq_meeting_follower(int own)
{
	int64 follower = 0;
	int i;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	for (i = 0; i < cq_shared->ntasks && follower == 0; i++)
	{
		const CqTaskSlot *slot = &cq_shared->tasks[i];

		if (slot->in_use && slot->pid != 0 && slot->joining == own + 1)
			follower = slot->task;
	}
	LWLockRelease(cq_shared->lock);
	return follower;
}

void
cq_meeting_stand(int own)
{
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < cq_shared->ntasks; i++)
	{
		CqTaskSlot *slot = &cq_shared->tasks[i];

		if (!slot->in_use || slot->pid == 0 || slot->joining != own + 1)
			continue;
		cq_shared->tasks[own].stands_for = i + 1;
		SetLatch(slot->latch);
		break;
	}
	LWLockRelease(cq_shared->lock);
}

/* Whoever wants to join us is to do something else first. */
void
cq_meeting_dismiss(int own)
{
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	cq_shared->tasks[own].stands_for = 0;
	for (i = 0; i < cq_shared->ntasks; i++)
	{
		CqTaskSlot *slot = &cq_shared->tasks[i];

		if (!slot->in_use || slot->pid == 0 || slot->joining != own + 1)
			continue;
		slot->joining = 0;
		SetLatch(slot->latch);
	}
	LWLockRelease(cq_shared->lock);
}

int64
cq_meeting_handed(int own)
{
	int64 handed = 0;
	int i;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	for (i = 0; i < cq_shared->ntasks && handed == 0; i++)
	{
		const CqTaskSlot *slot = &cq_shared->tasks[i];

		if (slot->in_use && slot->pid == 0 && slot->handed_to == own + 1)
			handed = slot->task;
	}
	LWLockRelease(cq_shared->lock);
	return handed;
}

void
cq_meeting_refuse(int own)
{
	bool any = false;
	int i;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < cq_shared->ntasks; i++)
	{
		CqTaskSlot *slot = &cq_shared->tasks[i];

		if (!slot->in_use || slot->pid != 0 || slot->handed_to != own + 1)
			continue;
		slot->handed_to = 0;
		any = true;
	}
	if (any && cq_shared->launcher_latch)
		SetLatch(cq_shared->launcher_latch);
	LWLockRelease(cq_shared->lock);
}
