/*
 * metrics_functions.c
 *	  The metrics of views, for the statistics views.
 *
 * What several workers of one view have measured is put together here.  Like the
 * functions in stat_functions.c this one tells whoever may call it about
 * every view; the views in monitor.sql show each user their own.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "monitor/slots.h"
#include "source/source.h"

PG_FUNCTION_INFO_V1(cq_view_metrics);

#define METRIC_COLUMNS 33

/* Of the workers that a view has now. */
typedef struct Behind
{
	int64 lag;
	int64 time_us; /* age of what was read last where there is more */
	bool lag_known;
	bool time_known;
	bool any;
} Behind;

typedef struct Row
{
	Datum values[METRIC_COLUMNS];
	bool nulls[METRIC_COLUMNS];
	int n;
} Row;

static void metrics_read(Oid database, ArrayType *ids, CqMetricsSum *sum, Behind *behind);
static void behind_add(Behind *behind, const CqTaskSlot *slot);
static void put_rate(Row *row, const CqMetricsSum *sum, CqHorizon horizon, CqRate rate);
static void put_share(Row *row, double us_per_second);
static void put_number(Row *row, double value);
static void put_us(Row *row, int64 us, bool known);
static void put_time(Row *row, TimestampTz time);
static void put_shares(Row *row, const double *rates);

Datum
cq_view_metrics(PG_FUNCTION_ARGS)
{
	CqMetricsSum *sum = palloc0(sizeof(CqMetricsSum));
	Behind behind = {.lag_known = true, .time_known = true};
	Row row = {0};
	TupleDesc desc;
	int l;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (cq_shared)
		metrics_read(PG_GETARG_OID(0), PG_GETARG_ARRAYTYPE_P(1), sum, &behind);
	if (sum->n == 0)
		PG_RETURN_NULL();

	put_rate(&row, sum, CQ_HORIZON_MINUTE, CQ_RATE_EVENTS);
	put_rate(&row, sum, CQ_HORIZON_QUARTER, CQ_RATE_EVENTS);
	put_rate(&row, sum, CQ_HORIZON_MINUTE, CQ_RATE_BYTES);
	put_rate(&row, sum, CQ_HORIZON_QUARTER, CQ_RATE_BYTES);
	put_rate(&row, sum, CQ_HORIZON_MINUTE, CQ_RATE_ROWS_OUT);
	put_rate(&row, sum, CQ_HORIZON_MINUTE, CQ_RATE_DEAD_LETTERS);
	put_rate(&row, sum, CQ_HORIZON_MINUTE, CQ_RATE_ERRORS);
	row.values[row.n++] = Int64GetDatum(sum->errors);
	put_rate(&row, sum, CQ_HORIZON_MINUTE, CQ_RATE_LOADS);
	row.nulls[row.n] = !behind.any || !behind.lag_known;
	row.values[row.n++] = Int64GetDatum(behind.lag);
	put_us(&row, behind.time_us, behind.any && behind.time_known);
	put_rate(&row, sum, CQ_HORIZON_MINUTE, CQ_RATE_LAG);
	put_shares(&row, sum->rates[CQ_HORIZON_MINUTE]);
	for (l = 0; l < CQ_LATENCY_COUNT; l++)
	{
		static const double shares[] = {0.5, 0.95, 0.99};
		int i;

		for (i = 0; i < lengthof(shares); i++)
		{
			int64 us = cq_histogram_quantile(&sum->latencies[l], shares[i]);

			put_us(&row, us, us >= 0);
		}
	}
	put_time(&row, sum->last_event_at);
	put_time(&row, sum->reset_at);
	put_time(&row, cq_clock_now());
	Assert(row.n == METRIC_COLUMNS && row.n == desc->natts);
	PG_RETURN_DATUM(
		HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), row.values, row.nulls)));
}

static void
metrics_read(Oid database, ArrayType *ids, CqMetricsSum *sum, Behind *behind)
{
	Datum *positions;
	bool *nulls;
	int n;
	int i;

	deconstruct_array(ids, INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE, &positions, &nulls, &n);
	LWLockAcquire(cq_shared->lock, LW_SHARED);
	for (i = 0; i < n; i++)
	{
		int index = nulls[i] ? -1 : cq_slot_find(database, DatumGetInt64(positions[i]));

		if (index < 0)
			continue;
		cq_metrics_sum(sum, cq_slot_metrics(&cq_shared->tasks[index]));
		if (cq_shared->tasks[index].enabled)
			behind_add(behind, &cq_shared->tasks[index]);
	}
	LWLockRelease(cq_shared->lock);
}

/* Nothing is known of what nobody reads.  Caller must hold the lock. */
static void
behind_add(Behind *behind, const CqTaskSlot *slot)
{
	TimestampTz now = cq_clock_now();
	int i;

	behind->any = true;
	if (slot->pid == 0 || slot->leader == 0)
		behind->lag_known = behind->time_known = false;
	for (i = 0; i < cq_shared->npartitions; i++)
	{
		const CqPartitionSlot *p = &cq_shared->partitions[i];
		int64 lag = p->end_offset - p->next_offset;

		if (!p->in_use || slot->pid == 0 || p->task_slot != slot->leader - 1)
			continue;
		if (p->end_offset == CQ_OFFSET_UNKNOWN)
			behind->lag_known = false;
		else if (lag <= 0)
			continue;
		else
			behind->lag += lag;
		if (p->last_record_at == 0 || p->last_record_at == DT_NOBEGIN)
			behind->time_known = false;
		else
			behind->time_us = Max(behind->time_us, now - p->last_record_at);
	}
}

/* Where the busiest worker's time goes; what is left of it goes to other views of the task. */
static void
put_shares(Row *row, const double *rates)
{
	double known = 0;
	int i;

	put_share(row, rates[CQ_RATE_BUSY]);
	put_share(row, rates[CQ_RATE_BACKPRESSURE]);
	put_number(row, rates[CQ_RATE_CPU] / USECS_PER_SEC);
	for (i = CQ_RATE_DECODE; i <= CQ_RATE_COMMIT; i++)
	{
		put_share(row, rates[i]);
		known += rates[i];
	}
	put_share(row, rates[CQ_RATE_BUSY] - known);
}

static void
put_rate(Row *row, const CqMetricsSum *sum, CqHorizon horizon, CqRate rate)
{
	put_number(row, sum->rates[horizon][rate]);
}

static void
put_share(Row *row, double us_per_second)
{
	put_number(row, Min(Max(us_per_second / USECS_PER_SEC, 0), 1));
}

static void
put_number(Row *row, double value)
{
	row->values[row->n++] = Float8GetDatum(rint(value * 1000) / 1000);
}

static void
put_us(Row *row, int64 us, bool known)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = us;
	row->nulls[row->n] = !known;
	row->values[row->n++] = IntervalPGetDatum(interval);
}

static void
put_time(Row *row, TimestampTz time)
{
	row->nulls[row->n] = time == 0;
	row->values[row->n++] = TimestampTzGetDatum(time);
}
