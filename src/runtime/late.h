/*
 * late.h
 *	  What a worker does with stored late rows: apply them, and delete old ones.
 */
#pragma once

#include "postgres.h"

#include "runtime/run.h"

/*
 * Is there a pending apply_late() to go on with?  If it has to pause, *wait_ms is
 * lowered to when it is its turn again.
 */
extern bool cq_apply_late_due(const CqViewRun *view, long *wait_ms);

/*
 * In a checkpoint, with the position rows taken: fold the next late rows into
 * their windows, and delete them.
 */
extern void cq_apply_late_step(CqRun *run, CqViewRun *view);

/*
 * Between checkpoints: in a transaction of its own, delete some late rows that are
 * older than the view's option late_retention, if it is time to look for them.
 */
extern void cq_late_retention_step(CqViewRun *view);
