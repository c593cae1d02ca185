/*
 * publish.h
 *	  What a worker tells about itself: its task slot, its partition slots and
 *	  its line in pg_stat_activity.
 */
#pragma once

#include "postgres.h"

#include "monitor/slots.h"
#include "runtime/run.h"
#include "runtime/worker.h"

/*
 * Take the slot for this process; false if the task is not wanted any more or
 * somebody else has it.  Given back at exit.
 */
extern bool cq_publish_attach(const CqWorkerArgs *args);

extern void cq_publish_activity(const char *view_name, CqActivity activity);

/* Watermark, state and partitions after a checkpoint or a change of the source. */
extern void cq_publish_progress(const CqRun *run, int64 checkpoint_us);

/* Note an error; returns how many there were in a row, until cq_publish_success(). */
extern int cq_publish_error(int sqlstate, const char *message);
extern void cq_publish_success(void);

/* What sessions want of this worker. */
typedef struct CqWishes
{
	bool enabled;
	uint64 change;
	uint64 wait_requested;
} CqWishes;
extern CqWishes cq_publish_wishes(void);
extern void cq_publish_wait_done(uint64 ticket);

/* This worker leaves and should come again, not before then. */
extern void cq_publish_restart_after(int delay_ms);

/*
 * This worker leaves and must not come again until it is enabled (stopped,
 * paused).  Nothing is done if the slot has changed since: somebody may just
 * have enabled it.
 */
extern void cq_publish_disable(CqActivity activity, uint64 change);
