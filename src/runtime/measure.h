/*
 * measure.h
 *	  What a worker measures of its work: where its time goes, and how long
 *	  records take.
 *
 * A few readings of the clock for each batch and view; nothing for each event, but
 * in one batch of some.  What was measured becomes metrics of the views (see
 * monitor/metrics.h) when progress is published.
 */
#pragma once

#include "postgres.h"

#include "portability/instr_time.h"

#include "catalog/rows.h"
#include "monitor/metrics.h"

struct CqRun;
struct CqViewRun;

/* What one view's share of the work took, since it was published. */
typedef struct CqViewTimes
{
	int64 evaluate_us; /* stage plan and operator */
	int64 close_us;
	int64 save_us;

	/* of batches in which the operator is timed: how the two divide up */
	bool timing; /* this batch is one */
	uint32 rows;
	uint32 timed_rows;
	instr_time operator_time; /* of the timed rows */
	double timed_us;
	double operator_us;

	CqCounters told; /* counters as of when they were published */
} CqViewTimes;

/* The process begins. */
extern void cq_measure_init(void);

/* A checkpoint begins: what an aborted one had taken is forgotten. */
extern void cq_measure_begin(void);

/* n records were polled and decoded since began_us; max were asked for. */
extern void cq_measure_batch(const struct CqRun *run, int n, int max, int64 began_us);

/* Around what is done with a batch for a view, and with its rows. */
extern int64 cq_measure_evaluate_begin(struct CqViewRun *view);
extern void cq_measure_evaluate_end(struct CqViewRun *view, int64 began_us);
extern bool cq_measure_row_is_timed(CqViewTimes *times);
extern void cq_measure_row(CqViewTimes *times, instr_time began);

/* The checkpoint is committed; its end, without events, took so long and began then. */
extern void cq_measure_committed(int64 commit_began_us);

/* Time spent waiting for something to do. */
extern void cq_measure_waited(int64 us);

/*
 * Put into metrics what was measured: collect() once for all views, then add() for
 * each, with the lock held; then added().  over_us: the time it took, 0 if nothing
 * was done.  loads: of state from disk, since it was added last.
 */
extern void cq_measure_collect(const struct CqRun *run, int64 over_us);
extern void cq_measure_add(const struct CqRun *run, struct CqViewRun *view, CqMetrics *metrics,
						   int64 loads);
extern void cq_measure_added(struct CqRun *run);
