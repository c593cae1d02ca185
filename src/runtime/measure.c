/*
 * measure.c
 *	  Where a worker's time goes, and how long records take.
 *
 * Latencies are known at the commit.  Until then the process notes of each batch
 * when it was polled, and of up to SAMPLES of its records, evenly spread,
 * when the broker got them (or the row was inserted); each stands for those
 * around it.  Of small batches these are all records.
 *
 * A batch counts as backpressure, from its poll to the next one or to the end of the
 * checkpoint, if there were as many records as it may have: then it was us
 * that the source waited for.
 *
 * What is kept here is the process's, not the run's: it outlives an error.
 */
#include "postgres.h"

#include <sys/resource.h>

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "runtime/measure.h"
#include "runtime/run.h"

#define SAMPLES 16

/* The operator is timed in one batch of so many, for one row of so many. */
#define TIMED_BATCHES 16
#define TIMED_ROWS	  4

/* What is known of how work divides up fades beyond this much of it. */
#define DIVISION_US 1000000.0

typedef struct Taken
{
	int64 polled_us;
	uint32 records;
} Taken;

typedef struct Sample
{
	TimestampTz sent_at;
	uint32 records;
} Sample;

typedef struct Measure
{
	/* of the checkpoint under way */
	Taken *taken;
	int ntaken;
	int taken_capacity;
	Sample *samples;
	int nsamples;
	int samples_capacity;
	int64 full_since_us; /* 0 = the batch at hand is not a full one */

	/* since progress was published */
	int64 decode_us;
	int64 commit_us;
	int64 backpressure_us;
	int64 waited_us;
	int64 published_us;
	int64 cpu_us;
	CqHistogram latencies[CQ_LATENCY_COUNT];
	bool any_latencies;

	/* what collect() made of it */
	double amounts[CQ_RATE_COUNT];
	int64 over_us;
	int64 lag;

	double clock_cost_us; /* of one reading */
	uint32 batches;
} Measure;

static Measure measure;

static double clock_cost_us(void);
static int64 cpu_time_us(void);
static void room_for(void **array, int *capacity, Size size, int n);
static void full_batch_end(int64 now_us);
static int64 run_lag(const CqRun *run);
static double operator_share(const CqViewTimes *times);

void
cq_measure_init(void)
{
	memset(&measure, 0, sizeof(measure));
	measure.published_us = cq_clock_us();
	measure.cpu_us = cpu_time_us();
	measure.clock_cost_us = clock_cost_us();
}

static double
clock_cost_us(void)
{
	instr_time began;
	instr_time now;
	int i;

	INSTR_TIME_SET_CURRENT(began);
	for (i = 0; i < 64; i++)
		INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, began);
	return INSTR_TIME_GET_DOUBLE(now) * USECS_PER_SEC / 64;
}

static int64
cpu_time_us(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage) != 0)
		return 0;
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * USECS_PER_SEC +
		   usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

void
cq_measure_begin(void)
{
	measure.ntaken = 0;
	measure.nsamples = 0;
	measure.full_since_us = 0;
}

void
cq_measure_batch(const CqRun *run, int n, int max, int64 began_us)
{
	const CqRecord *records = run->source->records;
	int step = Max(n / SAMPLES, 1);
	int i;

	full_batch_end(began_us);
	measure.decode_us += cq_clock_us() - began_us;
	if (n == 0)
		return;
	measure.batches++;
	if (n >= max && !run->care->careful)
		measure.full_since_us = began_us;
	room_for((void **) &measure.taken, &measure.taken_capacity, sizeof(Taken), measure.ntaken);
	measure.taken[measure.ntaken].polled_us = began_us;
	measure.taken[measure.ntaken++].records = n;
	for (i = step / 2; i < n; i += step)
	{
		if (records[i].timestamp == DT_NOBEGIN)
			continue;
		room_for((void **) &measure.samples,
				 &measure.samples_capacity,
				 sizeof(Sample),
				 measure.nsamples);
		measure.samples[measure.nsamples].sent_at = records[i].timestamp;
		measure.samples[measure.nsamples++].records = step;
	}
}

/* For one more than n. */
static void
room_for(void **array, int *capacity, Size size, int n)
{
	if (n < *capacity)
		return;
	*capacity = Max(*capacity * 2, 256);
	if (*array == NULL)
		*array = MemoryContextAlloc(TopMemoryContext, size * *capacity);
	else
		*array = repalloc_huge(*array, size * *capacity);
}

static void
full_batch_end(int64 now_us)
{
	if (measure.full_since_us != 0)
		measure.backpressure_us += now_us - measure.full_since_us;
	measure.full_since_us = 0;
}

int64
cq_measure_evaluate_begin(CqViewRun *view)
{
	CqViewTimes *times = &view->times;

	times->timing = measure.batches % TIMED_BATCHES == 1;
	times->rows = times->timed_rows = 0;
	INSTR_TIME_SET_ZERO(times->operator_time);
	return cq_clock_us();
}

void
cq_measure_evaluate_end(CqViewRun *view, int64 began_us)
{
	CqViewTimes *times = &view->times;
	int64 took_us = cq_clock_us() - began_us;
	double row_us;

	times->evaluate_us += took_us;
	if (!times->timing)
		return;
	times->timing = false;
	if (times->timed_us > DIVISION_US)
	{
		times->timed_us /= 2;
		times->operator_us /= 2;
	}
	times->timed_us += took_us;
	if (times->timed_rows == 0)
		return;
	row_us = INSTR_TIME_GET_DOUBLE(times->operator_time) * USECS_PER_SEC / times->timed_rows -
			 measure.clock_cost_us;
	times->operator_us += Min(Max(row_us, 0) * times->rows, (double) took_us);
}

bool
cq_measure_row_is_timed(CqViewTimes *times)
{
	return times->rows++ % TIMED_ROWS == 0;
}

void
cq_measure_row(CqViewTimes *times, instr_time began)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_ACCUM_DIFF(times->operator_time, now, began);
	times->timed_rows++;
}

void
cq_measure_committed(int64 commit_began_us)
{
	int64 now_us = cq_clock_us();
	TimestampTz now = cq_clock_now();
	int i;

	full_batch_end(now_us);
	measure.commit_us += now_us - commit_began_us;
	for (i = 0; i < measure.ntaken; i++)
		cq_histogram_add(&measure.latencies[CQ_LATENCY_PROCESSING],
						 now_us - measure.taken[i].polled_us,
						 measure.taken[i].records);
	for (i = 0; i < measure.nsamples; i++)
		cq_histogram_add(&measure.latencies[CQ_LATENCY_END_TO_END],
						 now - measure.samples[i].sent_at,
						 measure.samples[i].records);
	cq_histogram_add(&measure.latencies[CQ_LATENCY_COMMIT], now_us - commit_began_us, 1);
	measure.any_latencies = true;
	cq_measure_begin();
}

void
cq_measure_waited(int64 us)
{
	measure.waited_us += us;
}

void
cq_measure_collect(const CqRun *run, int64 over_us)
{
	int64 now_us = cq_clock_us();
	int64 cpu_us = cpu_time_us();

	memset(measure.amounts, 0, sizeof(measure.amounts));
	measure.amounts[CQ_RATE_BUSY] = Max(now_us - measure.published_us - measure.waited_us, 0);
	measure.amounts[CQ_RATE_CPU] = cpu_us - measure.cpu_us;
	measure.amounts[CQ_RATE_BACKPRESSURE] = measure.backpressure_us;
	measure.amounts[CQ_RATE_DECODE] = measure.decode_us;
	measure.amounts[CQ_RATE_COMMIT] = measure.commit_us;
	measure.over_us = over_us;
	measure.lag = run_lag(run);

	measure.cpu_us = cpu_us;
	measure.published_us = now_us;
	measure.decode_us = measure.commit_us = measure.backpressure_us = measure.waited_us = 0;
}

static int64
run_lag(const CqRun *run)
{
	const CqSource *source = run->source;
	int64 lag = 0;
	int i;

	for (i = 0; i < source->npartitions; i++)
	{
		const CqPartition *p = &source->partitions[i];

		if (p->end_offset == CQ_OFFSET_UNKNOWN)
			return CQ_LAG_UNKNOWN;
		lag += Max(p->end_offset - p->next_offset, 0);
	}
	return lag;
}

void
cq_measure_add(const CqRun *run, CqViewRun *view, CqMetrics *metrics, int64 loads)
{
	CqViewTimes *times = &view->times;
	const CqCounters *counters = &view->checkpoint.counters;
	double amounts[CQ_RATE_COUNT];
	int64 not_commit_us = 0;
	ListCell *lc;

	memcpy(amounts, measure.amounts, sizeof(amounts));
	amounts[CQ_RATE_EVENTS] = counters->events_in - times->told.events_in;
	amounts[CQ_RATE_BYTES] = counters->bytes_in - times->told.bytes_in;
	amounts[CQ_RATE_ROWS_OUT] = counters->rows_out - times->told.rows_out;
	amounts[CQ_RATE_LOADS] = loads;
	amounts[CQ_RATE_DEAD_LETTERS] = counters->dead_letters - times->told.dead_letters;
	if (measure.lag != CQ_LAG_UNKNOWN && metrics->lag != CQ_LAG_UNKNOWN)
		amounts[CQ_RATE_LAG] = measure.lag - metrics->lag;
	amounts[CQ_RATE_OPERATOR] = times->evaluate_us * operator_share(times);
	amounts[CQ_RATE_STAGE] = times->evaluate_us - amounts[CQ_RATE_OPERATOR];
	amounts[CQ_RATE_CLOSE] = times->close_us;
	foreach (lc, run->views)
	{
		const CqViewRun *other = lfirst(lc);

		not_commit_us += other->times.close_us + (other == view ? 0 : other->times.save_us);
	}
	amounts[CQ_RATE_COMMIT] = Max(amounts[CQ_RATE_COMMIT] - not_commit_us, 0);

	metrics->lag = measure.lag;
	if (amounts[CQ_RATE_EVENTS] > 0)
		metrics->last_event_at = GetCurrentTimestamp();
	cq_metrics_add(metrics, amounts, measure.over_us);
	if (measure.any_latencies)
		cq_metrics_add_latencies(metrics, measure.latencies);
}

void
cq_measure_added(CqRun *run)
{
	ListCell *lc;

	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		view->times.evaluate_us = view->times.close_us = view->times.save_us = 0;
		view->times.told = view->checkpoint.counters;
	}
	if (measure.any_latencies)
		memset(measure.latencies, 0, sizeof(measure.latencies));
	measure.any_latencies = false;
}

static double
operator_share(const CqViewTimes *times)
{
	return times->timed_us > 0 ? Min(times->operator_us / times->timed_us, 1.0) : 0;
}
