/*
 * window.h
 *	  Arithmetic of windows over time, shared by the SQL functions, the planner
 *	  and the operators.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

#include "plan/plan.h"

/* Where windows begin unless told otherwise: Monday 2000-01-03 00:00 (UTC). */
#define CQ_WINDOW_ORIGIN (2 * USECS_PER_DAY)

/*
 * An interval that serves as a length of time, in microseconds; a day is 24
 * hours.  Error when it contains months or is not positive.  function and
 * argument are for the message: "tumble", "size".
 */
extern int64 cq_window_length(const Interval *interval, const char *function, const char *argument);

/* Error when one length is greater than the other; both must be valid by cq_window_length(). */
extern void cq_window_check_part(const Interval *part, const Interval *size, const char *function,
								 const char *argument);

/* Of cumulating windows: the period, which must be a multiple of the step; error if not. */
extern void cq_window_cumulate_lengths(const Interval *size, const Interval *step, int64 *size_us,
									   int64 *step_us);

/*
 * The window of a fixed size that a time falls into, given any start of a
 * window.  False when it does not lie within the range of timestamps.
 */
extern bool cq_window_fixed(int64 time, int64 size_us, int64 origin_us, int64 *start, int64 *end);

/*
 * Hopping windows, from hop.c: the starts of the first and the last window that
 * a time is in.  False when one of them does not lie within the range of
 * timestamps.
 */
extern bool cq_hop_windows(int64 time, int64 size_us, int64 slide_us, int64 origin_us,
						   int64 *first_start, int64 *last_start);

/*
 * Windows that overlap, hopping or cumulating: the start and the end of the first
 * window that a time is in, and the end of the last one; further windows end every
 * slide.  False when one of them is out of range.
 */
extern bool cq_window_span(const CqWindow *window, TimestampTz time, TimestampTz *first_start,
						   TimestampTz *first_end, TimestampTz *last_end);

/* No window is longer; of windows with fixed sizes or units. */
extern int64 cq_window_longest(const CqWindow *window);

/* Start of the window that ends then. */
extern TimestampTz cq_window_start(const CqWindow *window, TimestampTz end);

/*
 * The slice that a time falls into: its windows must be within range.  Slices
 * are numbered without gaps in order of time; a window has at most a fixed number
 * of them.
 */
extern void cq_hop_slice(const CqWindow *window, TimestampTz time, TimestampTz *start,
						 TimestampTz *end, int64 *number);
extern int64 cq_hop_slices_per_window(const CqWindow *window);

/* As cq_window_bounds(), but false instead of an error where the window is out of range. */
extern bool cq_window_find(const CqWindow *window, TimestampTz time, TimestampTz *start,
						   TimestampTz *end);

/*
 * What the window's own expression (date_bin, date_trunc) gives for the window
 * that begins at start.  Other than start only in the few calendar windows
 * that begin in an hour which the zone's clocks show twice.
 */
extern TimestampTz cq_window_label(const CqWindow *window, TimestampTz start);

/* [start, end) as a value of the range over time_type; allocated in the current context. */
extern Datum cq_window_range(Oid time_type, TimestampTz start, TimestampTz end);

/* And back; an end that is open is infinite, and so are those of an empty range. */
extern void cq_window_range_bounds(Oid range_type, Datum range, TimestampTz *start,
								   TimestampTz *end);
