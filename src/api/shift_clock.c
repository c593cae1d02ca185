/*
 * shift_clock.c
 *	  pipeline.shift_clock(): let hours pass at once, for tests.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "monitor/slots.h"

/* Longest shift in total, so that sums stay far from the ends of time. */
#define LONGEST_SHIFT_US (100 * INT64CONST(366) * USECS_PER_DAY)

PG_FUNCTION_INFO_V1(cq_shift_clock);

Datum
cq_shift_clock(PG_FUNCTION_ARGS)
{
	const Interval *by = PG_GETARG_INTERVAL_P(0);
	Interval *total;
	int64 by_us;

	cq_require_preload();
	if (!superuser())
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be superuser to shift the clock of all continuous views"));
	if (by->month != 0 || by->day < 0 || by->day > 36500 || by->time < 0 ||
		by->time > LONGEST_SHIFT_US)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the clock cannot be shifted by that interval"),
				errhint("Time only goes forward. Give days, hours or less."));
	by_us = by->day * USECS_PER_DAY + by->time;
	if (cq_clock_shift_us() + by_us > LONGEST_SHIFT_US)
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("the clock cannot be shifted by more than a century"));
	total = palloc0(sizeof(Interval));
	total->time = cq_clock_shift(by_us);
	PG_RETURN_INTERVAL_P(total);
}
