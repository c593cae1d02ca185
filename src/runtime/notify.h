/*
 * notify.h
 *	  NOTIFY for windows that are closed.
 */
#pragma once

#include "postgres.h"

#include "runtime/run.h"

/*
 * At the end of a checkpoint, with the view's counters and watermark in its row to be
 * written: have the transaction tell of the windows that it closes.
 */
extern void cq_notify(CqViewRun *view);

/*
 * Could it not, and is it time to try once more?  If it is not, *wait_ms is lowered to
 * when it is; wait_ms may be NULL.
 */
extern bool cq_notify_due(const CqViewRun *view, long *wait_ms);
