/*
 * worker_state.h
 *	  What the process that runs a task knows; shared by worker.c, idle.c, recover.c
 *	  and share.c.
 */
#pragma once

#include "postgres.h"

#include "storage/latch.h"

#include "runtime/run.h"
#include "runtime/worker.h"

#define LOCKED_RETRY_MS 20

/* On the way to becoming one task with another; see share.c. */
typedef struct CqJoin
{
	int64 leader;	/* that we asked to take us in, by the view that leads it; 0 = nobody */
	int64 follower; /* that asked us */
	int64 until_us; /* monotonic: give up then */
	int64 tried_us; /* monotonic: when we looked for a leader last */
	int64 pause_us; /* before we do so again */
	bool limited;	/* the source reads up to the leader's position only */
	bool wrote;		/* our rows say that we are where the leader is */
	bool stands;	/* we stand still for the follower */
} CqJoin;

typedef struct CqWorker
{
	CqWorkerArgs args;
	MemoryContext source_context;
	CqSource *source;	   /* outlives runs */
	bool source_committed; /* some position of this source is durable */
	MemoryContext run_context;
	CqRun *run;
	CqCare care;
	char view_name[NAMEDATALEN]; /* of the view that leads */
	bool task_changed;			 /* a view's row may hold news: checkpoint even without events */
	bool drained;				 /* the last checkpoint took in all that the source had */
	CqJoin join;
	int64 idle_clock_us; /* monotonic, stands still while idleness must not count */
	int64 idle_clock_read_us;
	int64 idle_clock_shift_us; /* of cq_clock_shift_us(), as far as seen */
	int64 next_idle_us;		   /* by idle_clock, when a partition may become idle; -1 = none */
	int64 paced_until_us;	   /* do not begin another small checkpoint before */
	bool was_idle;			   /* everything that is read was, when we looked last */
	int told_idle;			   /* of what stat_partitions shows: how many are idle */
	bool told_unreachable;
	int64 told_ends; /* sum of the logs' ends: how far behind we are */
	int64 told_at_us;
	int64 trimmed_at_us;
	int64 last_checkpoint_us;
	WaitEventSet *events;
	bool waiting_for_lock;
	int retry_ms; /* pause before the next attempt; 0 = none */
} CqWorker;

/* worker.c: throw the run away; keep_source: it can go back to what is committed. */
extern void cq_worker_run_discard(CqWorker *worker, bool keep_source);

/*
 * idle.c.  Once in each turn: let the source do what is due besides events, and
 * find out which of its partitions are idle.
 */
extern void cq_worker_source_maintain(CqWorker *worker);

/* A poll has just found the end: the time until the next turn counts as idle. */
extern void cq_worker_caught_up(CqWorker *worker);

/*
 * Must the clock close windows?  Notes how far it may; *wait_ms is lowered to when the
 * next one is due.
 */
extern bool cq_worker_idle_close_due(CqWorker *worker, long *wait_ms);

/* recover.c: the one place that errors come to; called from PG_CATCH. */
extern void cq_worker_recover(CqWorker *worker);

/* Wait before the next attempt, unless somebody wants something else. */
extern void cq_worker_back_off(CqWorker *worker);

/*
 * share.c.  Let go of views that are paused, dropped or changed; false when
 * what is left must be built anew.  Does not return if nothing is left.
 */
extern bool cq_worker_heed_wishes(CqWorker *worker);

/* Another worker is to run this view.  apart_ms: alone, for so long. */
extern void cq_worker_part_with(CqWorker *worker, CqViewRun *view, int apart_ms);

/*
 * One step towards becoming one task with another.  Returns whether a
 * checkpoint may be run now; *wait_ms is lowered to when the next step is due.
 * Does not return if all views were handed over.
 */
extern bool cq_worker_meet(CqWorker *worker, long *wait_ms);

/* Go on without it. */
extern void cq_worker_meet_end(CqWorker *worker);
