/*
 * bounds.c
 *	  The window that an event time falls into.
 *
 * Windows of a fixed size are arithmetic on microseconds.  Calendar windows
 * are those of date_trunc(), and there the zone's clock changes make trouble:
 * a day may have 23 or 25 hours, may begin at one o'clock because midnight was
 * skipped, or may see midnight twice.  date_trunc() names a day by one of the
 * two midnights, which may lie after some of the day's own events.
 *
 * Invariants, for any zone:
 *	B1. start <= t < end, and start and end depend on the window alone, not on
 *		which of its times was asked for.
 *	B2. Windows touch: the end of one is the start of the next.
 *	B3. Times for which date_trunc() gives the same value are in one window,
 *		except where a date is left, begun and left again by the clocks (a
 *		change just after midnight back into the evening, as St. John's had).
 *
 * For units of a day and longer a window is therefore everything from the
 * first instant at which the zone's clocks show the unit's first moment (or
 * have skipped it) to the same instant of the next unit.  For shorter ones the
 * clock's offset is part of the name, so a window also ends where it changes.
 *
 * Zone arithmetic goes through PostgreSQL's own SQL functions: they know
 * abbreviations and the session's zone, and agree with date_trunc() by
 * construction.  Nobody computes bounds per event, only when a window is first
 * seen, so this need not be fast.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "common/int.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "operator/operator.h"
#include "window/window.h"

/* Clocks are never set by more, except over the date line: by a whole day, nothing ambiguous. */
#define CLOCK_CHANGE_MAX (3 * USECS_PER_HOUR)

/* Calendar windows are computed within these years: no unit leaves the range of timestamps. */
#define CALENDAR_FIRST INT64CONST(-189302400000000000) /* 4000 BC, roughly */
#define CALENDAR_LAST  INT64CONST(9214646400000000000) /* 294000 AD, roughly */

static bool window_calendar(const CqWindow *window, int64 time, int64 *start, int64 *end);
static bool unit_length(const char *unit, int *months, int *days, int64 *us);
static int64 unit_floor(const CqWindow *window, int64 local);
static int64 unit_next(int64 local, int months, int days, int64 us);
static int64 local_time(const CqWindow *window, int64 time);
static int64 instant_of(const CqWindow *window, int64 local);
static int64 unit_first_instant(const CqWindow *window, int64 local);
static void window_of_days(const CqWindow *window, int64 time, int months, int days, int64 *start,
						   int64 *end);
static void window_of_hours(const CqWindow *window, int64 time, int64 us, int64 *start, int64 *end);

void
cq_window_bounds(const CqWindow *window, TimestampTz time, TimestampTz *start, TimestampTz *end)
{
	if (!cq_window_find(window, time, start, end))
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("timestamp out of range"),
				errdetail("The time's window does not lie within the range of timestamps."));
}

bool
cq_window_find(const CqWindow *window, TimestampTz time, TimestampTz *start, TimestampTz *end)
{
	switch (window->kind)
	{
		case CQ_WINDOW_TUMBLE:
			return cq_window_fixed(time, window->size_us, window->origin_us, start, end);
		case CQ_WINDOW_TRUNC:
			return window_calendar(window, time, start, end);
		case CQ_WINDOW_HOP:
		case CQ_WINDOW_CUMULATE:
		case CQ_WINDOW_SESSION:
		case CQ_WINDOW_COUNT:
		case CQ_WINDOW_NONE:
			break;
	}
	elog(ERROR, "a time of the query is not in one window");
	return false;
}

/* As %, but never negative. */
static inline int64
remainder_of(int64 value, int64 divisor)
{
	int64 remainder = value % divisor;

	return remainder < 0 ? remainder + divisor : remainder;
}

bool
cq_window_fixed(int64 time, int64 size_us, int64 origin_us, int64 *start, int64 *end)
{
	int64 into;

	Assert(size_us > 0);
	if (TIMESTAMP_NOT_FINITE(time) || !IS_VALID_TIMESTAMP(time))
		return false;

	/* time - origin may overflow, the difference of their remainders cannot */
	into = remainder_of(time, size_us) - remainder_of(origin_us, size_us);
	if (into < 0)
		into += size_us;
	if (pg_sub_s64_overflow(time, into, start) || pg_add_s64_overflow(*start, size_us, end))
		return false;
	return IS_VALID_TIMESTAMP(*start) && IS_VALID_TIMESTAMP(*end);
}

TimestampTz
cq_window_label(const CqWindow *window, TimestampTz start)
{
	Datum unit;

	if (window->kind != CQ_WINDOW_TRUNC || window->time_type == TIMESTAMPOID)
		return start;
	unit = CStringGetTextDatum(window->unit);
	if (window->zone == NULL)
		return DatumGetTimestampTz(
			DirectFunctionCall2(timestamptz_trunc, unit, TimestampTzGetDatum(start)));
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_trunc_zone,
												   unit,
												   TimestampTzGetDatum(start),
												   CStringGetTextDatum(window->zone)));
}

static bool
window_calendar(const CqWindow *window, int64 time, int64 *start, int64 *end)
{
	int months;
	int days;
	int64 us;

	if (!unit_length(window->unit, &months, &days, &us))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("unit \"%s\" of date_trunc() cannot be a window", window->unit),
				errhint("Use a unit from microseconds to millennium."));
	if (time < CALENDAR_FIRST || time >= CALENDAR_LAST)
		return false;

	if (window->time_type == TIMESTAMPOID)
	{
		*start = unit_floor(window, time);
		*end = unit_next(*start, months, days, us);
	}
	else if (us > 0)
		window_of_hours(window, time, us, start, end);
	else
		window_of_days(window, time, months, days, start, end);
	Assert(*start <= time && time < *end);
	return true;
}

/* How long date_trunc()'s unit is: so many months, days or microseconds. */
static bool
unit_length(const char *unit, int *months, int *days, int64 *us)
{
	char *copy = pstrdup(unit);
	int value;
	bool is_unit = DecodeUnits(0, copy, &value) == UNITS;

	pfree(copy);
	*months = 0;
	*days = 0;
	*us = 0;
	if (!is_unit)
		return false;
	switch (value)
	{
		case DTK_MILLENNIUM:
			*months = 1000 * MONTHS_PER_YEAR;
			break;
		case DTK_CENTURY:
			*months = 100 * MONTHS_PER_YEAR;
			break;
		case DTK_DECADE:
			*months = 10 * MONTHS_PER_YEAR;
			break;
		case DTK_YEAR:
			*months = MONTHS_PER_YEAR;
			break;
		case DTK_QUARTER:
			*months = 3;
			break;
		case DTK_MONTH:
			*months = 1;
			break;
		case DTK_WEEK:
			*days = 7;
			break;
		case DTK_DAY:
			*days = 1;
			break;
		case DTK_HOUR:
			*us = USECS_PER_HOUR;
			break;
		case DTK_MINUTE:
			*us = USECS_PER_MINUTE;
			break;
		case DTK_SECOND:
			*us = USECS_PER_SEC;
			break;
		case DTK_MILLISEC:
			*us = 1000;
			break;
		case DTK_MICROSEC:
			*us = 1;
			break;
		default:
			return false;
	}
	return true;
}

/* A day for each change of a zone's clocks that may lie in a unit of days. */
int64
cq_window_longest(const CqWindow *window)
{
	int months;
	int days;
	int64 us;

	if (window->kind != CQ_WINDOW_TRUNC || !unit_length(window->unit, &months, &days, &us))
		return window->size_us;
	if (months > 0)
		days = months * 31;
	return us > 0 ? us : (days + 1) * USECS_PER_DAY;
}

/* Start of the unit that a local time (a Timestamp) falls into. */
static int64
unit_floor(const CqWindow *window, int64 local)
{
	return DatumGetTimestamp(DirectFunctionCall2(timestamp_trunc,
												 CStringGetTextDatum(window->unit),
												 TimestampGetDatum(local)));
}

/* Start of the unit after the one that starts at local. */
static int64
unit_next(int64 local, int months, int days, int64 us)
{
	Interval length;

	length.month = months;
	length.day = days;
	length.time = us;
	return DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
												 TimestampGetDatum(local),
												 IntervalPGetDatum(&length)));
}

/* What the zone's clocks show at an instant. */
static int64
local_time(const CqWindow *window, int64 time)
{
	if (window->zone == NULL)
		return DatumGetTimestamp(
			DirectFunctionCall1(timestamptz_timestamp, TimestampTzGetDatum(time)));
	return DatumGetTimestamp(DirectFunctionCall2(timestamptz_zone,
												 CStringGetTextDatum(window->zone),
												 TimestampTzGetDatum(time)));
}

/* The instant, or one of two, at which the zone's clocks show a local time. */
static int64
instant_of(const CqWindow *window, int64 local)
{
	if (window->zone == NULL)
		return DatumGetTimestampTz(
			DirectFunctionCall1(timestamp_timestamptz, TimestampGetDatum(local)));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone,
												   CStringGetTextDatum(window->zone),
												   TimestampGetDatum(local)));
}

/*
 * The first instant at which the zone's clocks show local or something later.
 * Depends on local alone, which is what makes windows touch (B1, B2).
 */
static int64
unit_first_instant(const CqWindow *window, int64 local)
{
	int64 last = instant_of(window, local);
	int64 before = last - CLOCK_CHANGE_MAX;

	if (local_time(window, last - 1) < local || local_time(window, before) >= local)
		return last;
	while (last - before > 1)
	{
		int64 middle = before + (last - before) / 2;

		if (local_time(window, middle) >= local)
			last = middle;
		else
			before = middle;
	}
	return last;
}

static void
window_of_days(const CqWindow *window, int64 time, int months, int days, int64 *start, int64 *end)
{
	int64 local = unit_floor(window, local_time(window, time));

	/* the clocks may show a date that has been begun and left again, see B3 */
	for (;;)
	{
		*start = unit_first_instant(window, local);
		if (time >= *start)
			break;
		local = unit_floor(window, local - 1);
	}
	for (;;)
	{
		local = unit_next(local, months, days, 0);
		*end = unit_first_instant(window, local);
		if (time < *end)
			break;
		*start = *end;
	}
}

static void
window_of_hours(const CqWindow *window, int64 time, int64 us, int64 *start, int64 *end)
{
	int64 offset = local_time(window, time) - time;
	int64 inside = time;
	int64 outside;

	*start = unit_floor(window, time + offset) - offset;
	*end = *start + us;

	/* another offset at the start: the window begins where the clocks changed */
	outside = *start;
	if (local_time(window, outside) - outside != offset)
	{
		while (inside - outside > 1)
		{
			int64 middle = outside + (inside - outside) / 2;

			if (local_time(window, middle) - middle == offset)
				inside = middle;
			else
				outside = middle;
		}
		*start = inside;
	}

	/* likewise it ends where they change */
	inside = time;
	outside = *end - 1;
	if (local_time(window, outside) - outside != offset)
	{
		while (outside - inside > 1)
		{
			int64 middle = inside + (outside - inside) / 2;

			if (local_time(window, middle) - middle == offset)
				inside = middle;
			else
				outside = middle;
		}
		*end = outside;
	}
}
