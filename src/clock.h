/*
 * clock.h
 *	  The monotonic clock, for durations and deadlines inside one process.
 */
#pragma once

#include "postgres.h"

#include "portability/instr_time.h"

/* Microseconds since some moment in the past; never goes back. */
static inline int64
cq_clock_us(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}
