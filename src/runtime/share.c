/*
 * share.c
 *	  How views come to share a task, and how they leave it.
 *
 * What runs together is known to shared memory only: a worker holds the slots
 * of the views that it runs.  In the catalog each view has its own position row,
 * complete, written with the others' in the task's checkpoints.  So nothing has
 * to be written when a view leaves: whoever takes its slot next goes on from its
 * row; and a crash leaves nothing behind but rows, equal ones for those that
 * were together.
 *
 * Joining
 *	- At its start a worker takes along the views that nobody runs and that are
 *	  saved where its own is (run.c).  In each database workers start one after
 *	  the other, so after a restart there is one for each place.
 *	- A running task, the follower, looks for one of the same company that is
 *	  larger (meeting.c): the leader.  When it has caught up, or is no further from
 *	  the leader than it reads in one checkpoint, it asks to join, writes down
 *	  where it is and stops reading.
 *	- The leader writes down where it is, reads on until the follower is nowhere
 *	  ahead of it, and stands still.
 *	- The follower reads up to the leader's row and no further, commits, hands
 *	  its slots over and exits.
 *	- The leader compares each view's row with its own position once more, and
 *	  takes it in if they are the same.
 *	Every step has a time limit; who runs into it goes on alone.  Both stand still
 *	for about as long as one checkpoint of the follower takes.
 *
 * Leaving
 *	A view leaves a task of several when its rows in the catalog change, when its
 *	tables have been locked by others for a second, or when it fails (recover.c).
 *	Its slot is given back, the launcher starts a worker for it, and when that has
 *	caught up it joins again; after a failure not at once.
 *
 * Invariants
 *	J1. At most one process holds a view's slot; whoever writes a position row
 *		holds the slot, and the row is compared-and-set all the same.
 *	J2. Between checkpoints the rows of all views of a task name one place in the
 *		stream: the same records lie before it, whatever the rows look like.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/snapmgr.h"

#include "clock.h"
#include "compat.h"
#include "monitor/meeting.h"
#include "runtime/publish.h"
#include "runtime/worker_state.h"

#define PATIENCE_US		 INT64CONST(1000000)
#define BUSY_PATIENCE_US INT64CONST(5000000)
#define FIRST_PAUSE_US	 INT64CONST(1000000)
#define LONGEST_PAUSE_US INT64CONST(15000000)
#define BUSY_PAUSE_US	 INT64CONST(300000000)
#define LOOK_AGAIN_MS	 1

static void let_go(CqWorker *worker, CqViewRun *view);
static void wait_begin(CqWorker *worker, CqViewRun *view);
static void take_handed(CqWorker *worker);
static void look_for_leader(CqWorker *worker, int64 now);
static int64 patience(const CqWorker *worker);
static bool could_meet(CqWorker *worker, int64 leader);
static bool is_near(const CqRun *run, const CqCheckpoint *checkpoint);
static bool follow(CqWorker *worker, int64 now, long *wait_ms);
static bool follow_to(CqWorker *worker, int64 now);
static void follow_end(CqWorker *worker, int64 now);
static void hand_over(CqWorker *worker) CQ_NORETURN;
static bool stand(CqWorker *worker, int64 follower, int64 now, long *wait_ms);
static void stand_end(CqWorker *worker);
static CqPlace place_of(CqWorker *worker, int64 view, bool limit);

bool
cq_worker_heed_wishes(CqWorker *worker)
{
	CqRun *run = worker->run;
	List *gone = NIL;
	List *changed = NIL;
	bool all;
	ListCell *lc;

	cq_publish_read_wishes(run);
	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		wait_begin(worker, view);
		/* the next checkpoint reads its row of tasks */
		if (view->wishes.asked != view->seen_asked)
			worker->task_changed = true;
		view->seen_asked = view->wishes.asked;
		if (!view->wishes.enabled)
			gone = lappend(gone, view);
		else if (view->wishes.change != view->seen_change)
			changed = lappend(changed, view);
	}
	if (gone == NIL && changed == NIL)
		return true;
	foreach (lc, gone)
		let_go(worker, lfirst(lc));
	list_free(gone);
	if (run->views == NIL)
		proc_exit(0);
	/* what concerns all of them may be the stream itself */
	all = list_length(changed) == list_length(run->views);
	if (!all)
		foreach (lc, changed)
			cq_worker_part_with(worker, lfirst(lc), 0);
	list_free(changed);
	return !all;
}

/* Paused or dropped. */
static void
let_go(CqWorker *worker, CqViewRun *view)
{
	cq_publish_disable(view->id, CQ_ACTIVITY_PAUSED, view->wishes.change);
	cq_worker_part_with(worker, view, 0);
}

void
cq_worker_part_with(CqWorker *worker, CqViewRun *view, int apart_ms)
{
	CqRun *run = worker->run;
	int64 id = view->id;

	cq_worker_meet_end(worker);
	cq_run_remove(run, view);
	cq_publish_release(id, apart_ms);
	if (run->views == NIL)
		return;
	view = linitial(run->views);
	strlcpy(worker->view_name, view->name, NAMEDATALEN);
	cq_publish_progress(run, 0);
}

static void
wait_begin(CqWorker *worker, CqViewRun *view)
{
	if (view->wait_ticket != 0 || view->wishes.wait_requested <= view->wishes.wait_done)
		return;
	view->wait_ticket = view->wishes.wait_requested;
	view->source_ticket = worker->source->ops->mark_end(worker->source);
}

bool
cq_worker_meet(CqWorker *worker, long *wait_ms)
{
	int64 now = cq_clock_us();
	int64 follower;

	take_handed(worker);
	if (worker->join.leader != 0)
		return follow(worker, now, wait_ms);
	follower = cq_meeting_follower(cq_publish_leader());
	if (follower != 0)
		return stand(worker, follower, now, wait_ms);
	if (worker->join.follower != 0)
		stand_end(worker);
	look_for_leader(worker, now);
	return true;
}

void
cq_worker_meet_end(CqWorker *worker)
{
	if (worker->join.leader != 0)
		follow_end(worker, cq_clock_us());
	if (cq_publish_leader() >= 0 &&
		(worker->join.follower != 0 || cq_meeting_follower(cq_publish_leader()) != 0))
		stand_end(worker);
}

static void
look_for_leader(CqWorker *worker, int64 now)
{
	CqJoin *join = &worker->join;
	int64 pause = worker->drained ? Min(join->pause_us, LONGEST_PAUSE_US) : join->pause_us;
	int64 leader;

	if (worker->task_changed || worker->waiting_for_lock || worker->care.careful ||
		now < join->tried_us + pause)
		return;
	join->tried_us = now;
	join->pause_us = Max(join->pause_us, FIRST_PAUSE_US);
	leader = cq_meeting_find(cq_publish_leader());
	if (leader == 0 || !could_meet(worker, leader) || !cq_meeting_ask(cq_publish_leader(), leader))
		return;
	join->leader = leader;
	join->until_us = now + patience(worker);
	join->wrote = false;
	worker->run->write_anyway = true;
}

/* Reading up to the other takes longer when there is no end to what is to be read. */
static int64
patience(const CqWorker *worker)
{
	return worker->drained ? PATIENCE_US : BUSY_PATIENCE_US;
}

/*
 * Not worth trying while we are where the leader is and have not seen the same
 * event times: before there are new events nothing will change that.
 */
static bool
could_meet(CqWorker *worker, int64 leader)
{
	CqRun *run = worker->run;
	CqCheckpoint checkpoint;
	bool could = false;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (cq_checkpoint_load(leader, &checkpoint))
	{
		bool same_place =
			run->source->ops->place(run->source, checkpoint.partitions, checkpoint.npartitions) ==
			CQ_PLACE_SAME;

		could = (worker->drained || is_near(run, &checkpoint)) &&
				(!same_place || cq_run_place(run, &checkpoint) == CQ_PLACE_SAME);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	return could;
}

/* Local streams: only where we have caught up, for their positions say nothing of distances. */
static bool
is_near(const CqRun *run, const CqCheckpoint *checkpoint)
{
	const CqSource *source = run->source;
	int64 distance = 0;
	int i;
	int j;

	if (run->stream->kind != CQ_STREAM_KAFKA || checkpoint->npartitions != source->npartitions)
		return false;
	for (i = 0; i < source->npartitions; i++)
		for (j = 0; j < checkpoint->npartitions; j++)
			if (checkpoint->partitions[j].id == source->partitions[i].id)
				distance += llabs((long long) checkpoint->partitions[j].next_offset -
								  source->partitions[i].next_offset);
	return distance <= run->records;
}

static bool
follow(CqWorker *worker, int64 now, long *wait_ms)
{
	CqJoin *join = &worker->join;
	bool gone;
	bool stands = cq_meeting_stands(cq_publish_leader(), &gone);

	if (gone || now >= join->until_us)
	{
		follow_end(worker, now);
		return true;
	}
	*wait_ms = Min(*wait_ms, (join->until_us - now) / 1000 + 1);
	/* the leader looks at our row before it stands, and when it takes us in */
	if (worker->run->write_anyway || (stands && follow_to(worker, now)))
	{
		*wait_ms = Min(*wait_ms, LOOK_AGAIN_MS);
		return true;
	}
	return false;
}

/* The leader stands still: its row is where we must get to. */
static bool
follow_to(CqWorker *worker, int64 now)
{
	CqJoin *join = &worker->join;

	join->limited = true;
	switch (place_of(worker, join->leader, true))
	{
		case CQ_PLACE_SAME:
			if (join->wrote)
				hand_over(worker);
			join->wrote = worker->run->write_anyway = true;
			return true;
		case CQ_PLACE_BEHIND:
			join->wrote = false;
			return true;
		case CQ_PLACE_AHEAD:
		case CQ_PLACE_APART:
			break;
	}
	follow_end(worker, now);
	return true;
}

/*
 * The next attempt is later, the more of them were in vain; much later when the
 * leader had to wait for one that is far slower.
 */
static void
follow_end(CqWorker *worker, int64 now)
{
	CqJoin *join = &worker->join;

	if (cq_publish_leader() >= 0)
		cq_meeting_withdraw(cq_publish_leader());
	if (join->limited && worker->source)
		worker->source->ops->limit(worker->source, NULL, 0);
	join->limited = false;
	join->leader = 0;
	join->pause_us = Min(Max(join->pause_us * 2, FIRST_PAUSE_US), BUSY_PAUSE_US);
	join->tried_us = now;
}

static void
hand_over(CqWorker *worker)
{
	cq_publish_hand_over();
	proc_exit(0);
}

/* Returns whether a checkpoint may be run. */
static bool
stand(CqWorker *worker, int64 follower, int64 now, long *wait_ms)
{
	CqJoin *join = &worker->join;
	CqPlace place;

	if (join->follower != follower)
	{
		join->follower = follower;
		join->until_us = now + patience(worker);
		join->stands = false;
		/* what was just committed is where we are */
		worker->run->write_anyway = worker->drained;
	}
	if (now >= join->until_us || worker->care.careful || worker->waiting_for_lock)
	{
		stand_end(worker);
		return true;
	}
	*wait_ms = Min(*wait_ms, (join->until_us - now) / 1000 + 1);
	if (join->stands)
		return false;
	*wait_ms = Min(*wait_ms, LOOK_AGAIN_MS);
	if (worker->run->write_anyway)
		return true;
	place = place_of(worker, follower, false);
	if (place == CQ_PLACE_SAME || place == CQ_PLACE_AHEAD)
	{
		join->stands = true;
		cq_meeting_stand(cq_publish_leader());
		return false;
	}
	return true;
}

static void
stand_end(CqWorker *worker)
{
	cq_meeting_dismiss(cq_publish_leader());
	worker->join.follower = 0;
	worker->join.stands = false;
}

static void
take_handed(CqWorker *worker)
{
	int own = cq_publish_leader();
	int64 id = cq_meeting_handed(own);

	if (id == 0)
		return;
	while (id != 0 && cq_publish_take(id))
	{
		(void) cq_run_add(worker->run, id);
		id = cq_meeting_handed(own);
	}
	/* one may have been paused meanwhile */
	cq_meeting_refuse(own);
	stand_end(worker);
	worker->task_changed = true;
	cq_publish_progress(worker->run, 0);
}

/* Where we are, seen from another task's row; limit: read up to there from now on. */
static CqPlace
place_of(CqWorker *worker, int64 view, bool limit)
{
	CqRun *run = worker->run;
	CqCheckpoint checkpoint;
	CqPlace place = CQ_PLACE_APART;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (cq_checkpoint_load(view, &checkpoint))
	{
		place = cq_run_place(run, &checkpoint);
		if (limit)
			run->source->ops->limit(run->source, checkpoint.partitions, checkpoint.npartitions);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	return place;
}
