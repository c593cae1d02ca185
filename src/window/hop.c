/*
 * hop.c
 *	  Arithmetic of windows that overlap: those that a time is in, and slices.
 *
 * A slice is the time between two neighbouring bounds of windows, starts and
 * ends alike: whatever happens in it is in the same windows.  Windows begin
 * every slide; they end every slide, too, and where the size is a multiple of
 * the slide at the same instants, so that a slice is as long as the slide.
 * Otherwise each slide has two slices, divided where windows end:
 *
 *		size 7, slide 3		|-------|			starts at 0, 3, 6, ends at 7, 10, 13
 *							   |-------|
 *							      |-------|
 *		slices				|-|--|-|--|-|--|	of lengths 1 and 2
 *
 * These are the longest slices there can be, so there are never more of them
 * than bounds of windows, however odd the two lengths are.  (Slices of the
 * greatest common divisor would be simpler, but those of 10 s and 9.999 s would
 * be a millisecond.)
 *
 * Cumulating windows begin where a period begins and end after each step of it.
 * Their slices are the steps, which make up the period exactly.
 */
#include "postgres.h"

#include "common/int.h"
#include "utils/timestamp.h"

#include "window/window.h"

/* Slices in a slide. */
static inline int
slices_per_slide(const CqWindow *window)
{
	return window->size_us % window->slide_us == 0 ? 1 : 2;
}

bool
cq_hop_windows(int64 time, int64 size_us, int64 slide_us, int64 origin_us, int64 *first_start,
			   int64 *last_start)
{
	int64 next;
	int64 last_end;

	/* the last window starts at most slide before the time, the first at most size */
	if (!cq_window_fixed(time, slide_us, origin_us, last_start, &next) ||
		pg_add_s64_overflow(*last_start, size_us, &last_end))
		return false;
	*first_start = *last_start - (size_us - 1 - (time - *last_start)) / slide_us * slide_us;
	return IS_VALID_TIMESTAMP(*first_start) && IS_VALID_TIMESTAMP(last_end);
}

bool
cq_window_span(const CqWindow *window, TimestampTz time, TimestampTz *first_start,
			   TimestampTz *first_end, TimestampTz *last_end)
{
	int64 slide_us = window->slide_us;
	int64 last_start;

	if (window->kind == CQ_WINDOW_CUMULATE)
	{
		if (!cq_window_fixed(time, window->size_us, window->origin_us, first_start, last_end))
			return false;
		*first_end = *first_start + ((time - *first_start) / slide_us + 1) * slide_us;
		return true;
	}
	Assert(window->kind == CQ_WINDOW_HOP);
	if (!cq_hop_windows(time,
						window->size_us,
						slide_us,
						window->origin_us,
						first_start,
						&last_start))
		return false;
	*first_end = *first_start + window->size_us;
	*last_end = last_start + window->size_us;
	return true;
}

TimestampTz
cq_window_start(const CqWindow *window, TimestampTz end)
{
	TimestampTz start;
	TimestampTz last_end;

	if (window->kind != CQ_WINDOW_CUMULATE)
		return end - window->size_us;
	if (!cq_window_fixed(end - 1, window->size_us, window->origin_us, &start, &last_end))
		elog(ERROR, "a window that is open is out of range");
	return start;
}

void
cq_hop_slice(const CqWindow *window, TimestampTz time, TimestampTz *start, TimestampTz *end,
			 int64 *number)
{
	int64 slide_us = window->slide_us;
	int64 into_end = window->size_us % slide_us; /* where windows end, from where they start */
	int64 origin_us = (window->origin_us % slide_us + slide_us) % slide_us;

	if (!cq_window_fixed(time, slide_us, window->origin_us, start, end))
		elog(ERROR, "windows of a slice are out of range");
	*number = (*start - origin_us) / slide_us * slices_per_slide(window);
	if (into_end == 0)
		return;
	if (time - *start < into_end)
		*end = *start + into_end;
	else
	{
		*start += into_end;
		(*number)++;
	}
}

int64
cq_hop_slices_per_window(const CqWindow *window)
{
	return window->size_us / window->slide_us * slices_per_slide(window) +
		   (window->size_us % window->slide_us != 0);
}
