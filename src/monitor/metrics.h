/*
 * metrics.h
 *	  How fast, how late and how busy a view is: rates and latencies of the
 *	  recent past, in shared memory of fixed size.
 *
 * There is one CqMetrics for each task slot, so of a view with several workers
 * each has its own; they are put together when they are read.  The view's worker
 * alone adds to it, once for each checkpoint.  CqShared.lock guards all of it.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

/* What is counted, or the time that is spent, per second. */
typedef enum CqRate
{
	CQ_RATE_EVENTS,
	CQ_RATE_BYTES,
	CQ_RATE_ROWS_OUT,
	CQ_RATE_DEAD_LETTERS,
	CQ_RATE_ERRORS, /* of the worker */
	CQ_RATE_LOADS,	/* of state from disk */
	CQ_RATE_LAG,	/* by how much it grows; negative: shrinks */

	/* microseconds */
	CQ_RATE_BUSY,		  /* not waiting */
	CQ_RATE_BACKPRESSURE, /* on batches as large as they may be */
	CQ_RATE_CPU,		  /* of the process, its threads included */
	CQ_RATE_DECODE,		  /* fetching and decoding; joint work of the task's views */
	CQ_RATE_STAGE,		  /* from here on the view's own */
	CQ_RATE_OPERATOR,
	CQ_RATE_CLOSE,
	CQ_RATE_COMMIT, /* own and joint */
	CQ_RATE_COUNT
} CqRate;

/* Averages over the last minute and the last quarter of an hour. */
typedef enum CqHorizon
{
	CQ_HORIZON_MINUTE,
	CQ_HORIZON_QUARTER,
	CQ_HORIZON_COUNT
} CqHorizon;

typedef enum CqLatency
{
	CQ_LATENCY_PROCESSING, /* from the poll to the commit */
	CQ_LATENCY_END_TO_END, /* from the record at its broker, or its insertion, to the commit */
	CQ_LATENCY_COMMIT,	   /* of checkpoints, without their events */
	CQ_LATENCY_COUNT
} CqLatency;

/*
 * Eight buckets for each power of two microseconds: what is said of a value is
 * within a sixteenth of it.  Up to 2^41 us, 25 days.
 */
#define CQ_HISTOGRAM_BUCKETS 312

typedef struct CqHistogram
{
	uint32 counts[CQ_HISTOGRAM_BUCKETS];
} CqHistogram;

/* Latencies are kept for this many minutes, the present one included. */
#define CQ_RECENT_MINUTES 4

typedef struct CqMetrics
{
	int64 since_us;	  /* cq_metrics_clock_us(): when counting began */
	int64 updated_us; /* what the averages are as of */
	double rates[CQ_HORIZON_COUNT][CQ_RATE_COUNT];

	/* a ring; the number of a minute tells whose counts a place has */
	int64 minutes[CQ_RECENT_MINUTES];
	CqHistogram recent[CQ_RECENT_MINUTES][CQ_LATENCY_COUNT];

	int64 errors;			   /* since counting began */
	int64 lag;				   /* CQ_LAG_UNKNOWN */
	TimestampTz last_event_at; /* when events were taken in; 0 = none were */
	TimestampTz reset_at;	   /* 0 = never */
} CqMetrics;

#define CQ_LAG_UNKNOWN (-1)

/* Metrics of several workers, as of one moment. */
typedef struct CqMetricsSum
{
	double rates[CQ_HORIZON_COUNT][CQ_RATE_COUNT]; /* times are those of the busiest */
	CqHistogram latencies[CQ_LATENCY_COUNT];
	int64 errors;
	TimestampTz last_event_at;
	TimestampTz reset_at; /* the oldest */
	int n;
} CqMetricsSum;

/*
 * The clock by which averages fade and latencies are forgotten; tests shift it.
 * Microseconds, monotonic, the same in all processes.
 */
extern int64 cq_metrics_clock_us(void);

/* Begin to count anew. */
extern void cq_metrics_init(CqMetrics *metrics);

/* Add what happened, evenly, over the last over_us; CQ_RATE_COUNT amounts. */
extern void cq_metrics_add(CqMetrics *metrics, const double *amounts, int64 over_us);

/* The parts of that for one average over a minute: what is left of it; what n now add to it. */
extern double cq_metrics_fade(double rate, int64 passed_us);
extern double cq_metrics_share(double n);

/* As it is read when it began so long ago, and was added to last so long ago. */
extern double cq_metrics_read(double rate, CqHorizon horizon, int64 age_us, int64 passed_us);

/* Add latencies of now; CQ_LATENCY_COUNT histograms. */
extern void cq_metrics_add_latencies(CqMetrics *metrics, const CqHistogram *latencies);

/* Add one worker's to the sum, which is zero at first. */
extern void cq_metrics_sum(CqMetricsSum *sum, const CqMetrics *metrics);

extern void cq_histogram_add(CqHistogram *histogram, int64 us, uint32 n);

/* The value that a share of all values do not exceed; -1 if there are none. */
extern int64 cq_histogram_quantile(const CqHistogram *histogram, double share);
