/*
 * metrics.c
 *	  Averages that fade and histograms that forget.
 *
 * Rates are exponentially damped averages, as the load average of Unix is: what
 * happened t ago counts with exp(-t / T), T being one minute or fifteen.  Unlike
 * there, nothing ticks: the average fades when something is added, and when it is read,
 * by the time that has passed.  One that began a moment ago would be too low
 * for long; dividing by the weight that all of its past has, 1 - exp(-age / T), makes
 * it the plain average at first.
 *
 * Latencies are counted in buckets whose bounds grow in proportion, as in HDR
 * histograms: eight to a power of two, so that a quantile is known to within a
 * sixteenth whatever its size, and those of several workers can be added.  There
 * is a histogram for each of the last minutes; the oldest is reused for a new one.
 */
#include "postgres.h"

#include <math.h>

#include "port/pg_bitutils.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "monitor/metrics.h"

#define SUB_BITS 3 /* buckets to a power of two, as a power of two */

/* Younger averages are taken to be this old: a rate over less says nothing. */
#define YOUNGEST_US USECS_PER_SEC

static const double horizon_us[CQ_HORIZON_COUNT] = {
	[CQ_HORIZON_MINUTE] = 60.0 * USECS_PER_SEC,
	[CQ_HORIZON_QUARTER] = 900.0 * USECS_PER_SEC,
};

static CqHistogram *minute_take(CqMetrics *metrics, int64 now_us);
static double rate_read(const CqMetrics *metrics, CqHorizon horizon, CqRate rate, int64 now_us);
static void latencies_sum(CqMetricsSum *sum, const CqMetrics *metrics, int64 now_us);
static int bucket_of(int64 us);
static int64 bucket_middle(int bucket);

int64
cq_metrics_clock_us(void)
{
	return cq_clock_us() + cq_clock_shift_us();
}

void
cq_metrics_init(CqMetrics *metrics)
{
	memset(metrics, 0, sizeof(*metrics));
	metrics->since_us = metrics->updated_us = cq_metrics_clock_us();
	metrics->lag = CQ_LAG_UNKNOWN;
}

void
cq_metrics_add(CqMetrics *metrics, const double *amounts, int64 over_us)
{
	int64 now_us = cq_metrics_clock_us();
	int64 passed_us = Max(now_us - metrics->updated_us, 0);
	int h;
	int i;

	for (h = 0; h < CQ_HORIZON_COUNT; h++)
	{
		double fade = exp(-(double) passed_us / horizon_us[h]);
		double spread = Max(over_us, 1) / horizon_us[h];
		/* the amounts, each part faded since it came, per second */
		double weight = -expm1(-spread) / spread / (horizon_us[h] / USECS_PER_SEC);

		for (i = 0; i < CQ_RATE_COUNT; i++)
			metrics->rates[h][i] = metrics->rates[h][i] * fade + amounts[i] * weight;
	}
	metrics->updated_us = now_us;
}

void
cq_metrics_add_latencies(CqMetrics *metrics, const CqHistogram *latencies)
{
	CqHistogram *recent = minute_take(metrics, cq_metrics_clock_us());
	int l;
	int i;

	for (l = 0; l < CQ_LATENCY_COUNT; l++)
		for (i = 0; i < CQ_HISTOGRAM_BUCKETS; i++)
			recent[l].counts[i] += latencies[l].counts[i];
}

/* The histograms of this minute, in the place of those of one that is over for long. */
static CqHistogram *
minute_take(CqMetrics *metrics, int64 now_us)
{
	int64 minute = now_us / USECS_PER_MINUTE;
	int place = (int) (minute % CQ_RECENT_MINUTES);

	if (metrics->minutes[place] != minute)
		memset(metrics->recent[place], 0, sizeof(metrics->recent[place]));
	metrics->minutes[place] = minute;
	return metrics->recent[place];
}

void
cq_metrics_sum(CqMetricsSum *sum, const CqMetrics *metrics)
{
	int64 now_us = cq_metrics_clock_us();
	bool first = sum->n == 0;
	double busy = rate_read(metrics, CQ_HORIZON_MINUTE, CQ_RATE_BUSY, now_us);
	bool busiest = first || busy > sum->rates[CQ_HORIZON_MINUTE][CQ_RATE_BUSY];
	int h;
	int i;

	for (h = 0; h < CQ_HORIZON_COUNT; h++)
		for (i = 0; i < CQ_RATE_COUNT; i++)
		{
			double rate = rate_read(metrics, h, i, now_us);

			if (i < CQ_RATE_BUSY)
				sum->rates[h][i] += rate;
			else if (busiest)
				sum->rates[h][i] = rate;
		}
	latencies_sum(sum, metrics, now_us);
	sum->errors += metrics->errors;
	sum->last_event_at = Max(sum->last_event_at, metrics->last_event_at);
	sum->reset_at = first ? metrics->reset_at : Min(sum->reset_at, metrics->reset_at);
	sum->n++;
}

static double
rate_read(const CqMetrics *metrics, CqHorizon horizon, CqRate rate, int64 now_us)
{
	return cq_metrics_read(metrics->rates[horizon][rate],
						   horizon,
						   now_us - metrics->since_us,
						   now_us - metrics->updated_us);
}

double
cq_metrics_read(double rate, CqHorizon horizon, int64 age_us, int64 passed_us)
{
	return rate * exp(-(double) Max(passed_us, 0) / horizon_us[horizon]) /
		   -expm1(-(double) Max(age_us, YOUNGEST_US) / horizon_us[horizon]);
}

double
cq_metrics_fade(double rate, int64 passed_us)
{
	return rate * exp(-(double) Max(passed_us, 0) / horizon_us[CQ_HORIZON_MINUTE]);
}

double
cq_metrics_share(double n)
{
	return n / (horizon_us[CQ_HORIZON_MINUTE] / USECS_PER_SEC);
}

static void
latencies_sum(CqMetricsSum *sum, const CqMetrics *metrics, int64 now_us)
{
	int64 minute = now_us / USECS_PER_MINUTE;
	int place;
	int l;
	int i;

	for (place = 0; place < CQ_RECENT_MINUTES; place++)
	{
		if (metrics->minutes[place] <= minute - CQ_RECENT_MINUTES)
			continue;
		for (l = 0; l < CQ_LATENCY_COUNT; l++)
			for (i = 0; i < CQ_HISTOGRAM_BUCKETS; i++)
				sum->latencies[l].counts[i] += metrics->recent[place][l].counts[i];
	}
}

void
cq_histogram_add(CqHistogram *histogram, int64 us, uint32 n)
{
	histogram->counts[bucket_of(us)] += n;
}

/* Values below 16 have buckets of their own; a clock that went back gives zero. */
static int
bucket_of(int64 us)
{
	int power;

	if (us < 2 << SUB_BITS)
		return (int) Max(us, 0);
	power = pg_leftmost_one_pos64((uint64) us);
	return Min(((power - SUB_BITS) << SUB_BITS) + (int) (us >> (power - SUB_BITS)),
			   CQ_HISTOGRAM_BUCKETS - 1);
}

static int64
bucket_middle(int bucket)
{
	int shift = (bucket >> SUB_BITS) - 1;

	if (bucket < 2 << SUB_BITS)
		return bucket;
	return ((((int64) 1 << SUB_BITS) + (bucket & ((1 << SUB_BITS) - 1))) << shift) +
		   ((int64) 1 << shift) / 2;
}

int64
cq_histogram_quantile(const CqHistogram *histogram, double share)
{
	int64 total = 0;
	int64 below = 0;
	double wanted;
	int i;

	for (i = 0; i < CQ_HISTOGRAM_BUCKETS; i++)
		total += histogram->counts[i];
	wanted = ceil(total * share);
	for (i = 0; i < CQ_HISTOGRAM_BUCKETS; i++)
	{
		below += histogram->counts[i];
		if (total > 0 && below >= wanted)
			return bucket_middle(i);
	}
	return -1;
}
