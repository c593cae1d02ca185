/*
 * clock.h
 *	  The clocks: a monotonic one for durations inside one process, and the time
 *	  of day by which events are judged.  Tests can shift the latter.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "portability/instr_time.h"

/* Microseconds since some moment in the past; never goes back. */
static inline int64
cq_clock_us(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * By how much tests have shifted time since the server was started: 0 in
 * production.  Never gets less while the server runs.
 */
extern int64 cq_clock_shift_us(void);

/* Shift it further, and let all workers see it. */
extern int64 cq_clock_shift(int64 by_us);

/* The time of day, shifted: when events arrive, how far ahead they are, which windows are over. */
extern TimestampTz cq_clock_now(void);
