/*
 * publish.h
 *	  What a worker tells about itself and hears from others: the slots of its
 *	  views, its partition slots and its line in pg_stat_activity.
 */
#pragma once

#include "postgres.h"

#include "monitor/slots.h"
#include "runtime/run.h"
#include "runtime/worker.h"

/*
 * Take the slot for this process; false if the view is not wanted any more or
 * somebody else has it.  Given back at exit, as are all that are taken later.
 */
extern bool cq_publish_attach(const CqWorkerArgs *args);

/* Is this process to keep away from others now, for it holds views that have failed? */
extern bool cq_publish_apart(void);

/* Take a view's slot besides, if nobody runs it and it may run with these now. */
extern bool cq_publish_take(int64 view);

/*
 * Give a slot back: another worker is to run the view.  apart_ms: it shall not
 * share a task for so long.
 */
extern void cq_publish_release(int64 view, int apart_ms);

/* Index of the slot that stands for this process's task; -1 if it holds none. */
extern int cq_publish_leader(void);

/* Views whose slots this process holds: list of int64 *, the leader first. */
extern List *cq_publish_views(void);

/* This worker knows what it runs now; others may start. */
extern void cq_publish_settled(void);

extern void cq_publish_activity(const char *view_name, CqActivity activity);

/* Watermarks, state and partitions after a checkpoint or a change of the source. */
extern void cq_publish_progress(CqRun *run, int64 checkpoint_us);

/*
 * Note an error of one view, or of all (0); returns how many there were in a
 * row, until cq_publish_success().
 */
extern int cq_publish_error(int64 view, int sqlstate, const char *message);
extern void cq_publish_success(void);

/* What sessions want of a view's worker; of all views of the run as of one moment. */
extern CqWishes cq_publish_wishes(int64 view);
extern void cq_publish_read_wishes(CqRun *run);

/* A view whose rows in the catalog have changed since they were read; NULL if there is none. */
extern const CqViewRun *cq_publish_changed_view(const CqRun *run);

/* Does not stay the same when sessions want something new of any view of this process. */
extern uint64 cq_publish_news(void);
extern void cq_publish_wait_done(int64 view, uint64 ticket);

/* This worker leaves and should come again, not before then. */
extern void cq_publish_restart_after(int delay_ms);

/*
 * This worker leaves the view, which must not come again until it is enabled
 * (stopped, paused).  Nothing is done if the slot has changed since: somebody
 * may just have enabled it.
 */
extern void cq_publish_disable(int64 view, CqActivity activity, uint64 change);

/* Hand all views of this process over to the task that it joins, and forget them. */
extern void cq_publish_hand_over(void);

/* Whether views are idle, when that has changed with nothing to commit. */
extern void cq_publish_idle(const CqRun *run);

/* Has a view that runs here or elsewhere nothing to give out, and nothing to expect soon? */
extern bool cq_publish_source_idle(int64 view);
