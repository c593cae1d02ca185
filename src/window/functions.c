/*
 * functions.c
 *	  pipeline.tumble(), hop(), cumulate() and their relatives as ordinary
 *	  functions.
 *
 * Over a table they give the very windows that a continuous view would use, so
 * that the same query runs over both.  timestamptz and timestamp are the same
 * arithmetic: a timestamp without zone counts as UTC.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "compat.h"
#include "window/window.h"

/* What is left of a set of windows that a function is returning. */
typedef struct WindowSet
{
	TypeCacheEntry *range;
	int64 start;
	int64 end;
	int64 time;
	int64 start_step; /* added to get the next window */
	int64 end_step;
	int64 last_end;
	bool done;
} WindowSet;

PG_FUNCTION_INFO_V1(cq_tumble_timestamptz);
PG_FUNCTION_INFO_V1(cq_tumble_timestamp);
PG_FUNCTION_INFO_V1(cq_hop_timestamptz);
PG_FUNCTION_INFO_V1(cq_hop_timestamp);
PG_FUNCTION_INFO_V1(cq_cumulate_timestamptz);
PG_FUNCTION_INFO_V1(cq_cumulate_timestamp);
PG_FUNCTION_INFO_V1(cq_only_continuous);

static Datum tumble(FunctionCallInfo fcinfo, Oid range_type);
static Datum hop(FunctionCallInfo fcinfo, Oid range_type);
static Datum cumulate(FunctionCallInfo fcinfo, Oid range_type);
static void check_time(int64 time, const char *function);
static void out_of_range(void) CQ_NORETURN;
static const char *usage(const char *function);
static Datum make_window(TypeCacheEntry *range, int64 start, int64 end);
static WindowSet *set_begin(FunctionCallInfo fcinfo, Oid range_type);
static Datum set_next(FunctionCallInfo fcinfo);

Datum
cq_tumble_timestamptz(PG_FUNCTION_ARGS)
{
	return tumble(fcinfo, TSTZRANGEOID);
}

Datum
cq_tumble_timestamp(PG_FUNCTION_ARGS)
{
	return tumble(fcinfo, TSRANGEOID);
}

Datum
cq_hop_timestamptz(PG_FUNCTION_ARGS)
{
	return hop(fcinfo, TSTZRANGEOID);
}

Datum
cq_hop_timestamp(PG_FUNCTION_ARGS)
{
	return hop(fcinfo, TSRANGEOID);
}

Datum
cq_cumulate_timestamptz(PG_FUNCTION_ARGS)
{
	return cumulate(fcinfo, TSTZRANGEOID);
}

Datum
cq_cumulate_timestamp(PG_FUNCTION_ARGS)
{
	return cumulate(fcinfo, TSRANGEOID);
}

/* For functions whose result depends on more than their arguments: session, count_window, ... */
Datum
cq_only_continuous(PG_FUNCTION_ARGS)
{
	char *name = get_func_name(fcinfo->flinfo->fn_oid);

	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("function pipeline.%s() can only be used in a continuous view",
				   name ? name : "?"),
			errhint("Create the view WITH (pipeline.continuous)."));
	PG_RETURN_NULL();
}

int64
cq_window_length(const Interval *interval, const char *function, const char *argument)
{
	int64 us;

	if (interval->month != 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("argument \"%s\" of %s() cannot contain months or years",
					   argument,
					   function),
				errdetail("Months differ in length."),
				errhint("Use date_trunc('month', ts) for windows that follow the calendar."));
	if (pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &us) ||
		pg_add_s64_overflow(us, interval->time, &us))
		ereport(ERROR,
				errcode(ERRCODE_INTERVAL_FIELD_OVERFLOW),
				errmsg("argument \"%s\" of %s() is out of range", argument, function));
	if (us <= 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" of %s() must be greater than zero", argument, function),
				errhint("The arguments are %s; some may be swapped.", usage(function)));
	return us;
}

void
cq_window_check_part(const Interval *part, const Interval *size, const char *function,
					 const char *argument)
{
	if (cq_window_length(part, function, argument) <= cq_window_length(size, function, "size"))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("argument \"%s\" of %s() cannot be greater than \"size\"", argument, function),
			errdetail("The size is %s, the %s is %s.",
					  DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(size))),
					  argument,
					  DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(part)))),
			errhint("The arguments are %s; they may be swapped.", usage(function)));
}

void
cq_window_cumulate_lengths(const Interval *size, const Interval *step, int64 *size_us,
						   int64 *step_us)
{
	*size_us = cq_window_length(size, "cumulate", "size");
	*step_us = cq_window_length(step, "cumulate", "step");
	cq_window_check_part(step, size, "cumulate", "step");
	if (*size_us % *step_us != 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"size\" of cumulate() must be a multiple of \"step\""));
}

Datum
cq_window_range(Oid time_type, TimestampTz start, TimestampTz end)
{
	Oid range_type = time_type == TIMESTAMPOID ? TSRANGEOID : TSTZRANGEOID;

	return make_window(lookup_type_cache(range_type, TYPECACHE_RANGE_INFO), start, end);
}

void
cq_window_range_bounds(Oid range_type, Datum range, TimestampTz *start, TimestampTz *end)
{
	TypeCacheEntry *type = lookup_type_cache(range_type, TYPECACHE_RANGE_INFO);
	RangeBound lower;
	RangeBound upper;
	bool empty;

	range_deserialize(type, DatumGetRangeTypeP(range), &lower, &upper, &empty);
	*start = empty || lower.infinite ? DT_NOBEGIN : DatumGetTimestampTz(lower.val);
	*end = empty || upper.infinite ? DT_NOEND : DatumGetTimestampTz(upper.val);
}

/* (ts, size, origin) */
static Datum
tumble(FunctionCallInfo fcinfo, Oid range_type)
{
	int64 time = PG_GETARG_TIMESTAMPTZ(0);
	int64 size_us = cq_window_length(PG_GETARG_INTERVAL_P(1), "tumble", "size");
	int64 origin_us = PG_GETARG_TIMESTAMPTZ(2);
	int64 start;
	int64 end;

	check_time(time, "tumble");
	check_time(origin_us, "tumble");
	if (!cq_window_fixed(time, size_us, origin_us, &start, &end))
		out_of_range();
	return make_window(range_get_typcache(fcinfo, range_type), start, end);
}

/* (ts, size, slide, origin): all windows of that size which start at a multiple of slide. */
static Datum
hop(FunctionCallInfo fcinfo, Oid range_type)
{
	if (SRF_IS_FIRSTCALL())
	{
		int64 time = PG_GETARG_TIMESTAMPTZ(0);
		int64 size_us = cq_window_length(PG_GETARG_INTERVAL_P(1), "hop", "size");
		int64 slide_us = cq_window_length(PG_GETARG_INTERVAL_P(2), "hop", "slide");
		int64 origin_us = PG_GETARG_TIMESTAMPTZ(3);
		WindowSet *set = set_begin(fcinfo, range_type);
		int64 last_start;

		check_time(time, "hop");
		check_time(origin_us, "hop");
		cq_window_check_part(PG_GETARG_INTERVAL_P(2), PG_GETARG_INTERVAL_P(1), "hop", "slide");
		if (!cq_hop_windows(time, size_us, slide_us, origin_us, &set->start, &last_start))
			out_of_range();
		set->end = set->start + size_us;
		set->last_end = last_start + size_us;
		set->start_step = slide_us;
		set->end_step = slide_us;
	}
	return set_next(fcinfo);
}

/* (ts, size, step): from the start of a window of that size, in steps. */
static Datum
cumulate(FunctionCallInfo fcinfo, Oid range_type)
{
	if (SRF_IS_FIRSTCALL())
	{
		int64 time = PG_GETARG_TIMESTAMPTZ(0);
		WindowSet *set = set_begin(fcinfo, range_type);
		int64 size_us;
		int64 step_us;

		check_time(time, "cumulate");
		cq_window_cumulate_lengths(PG_GETARG_INTERVAL_P(1),
								   PG_GETARG_INTERVAL_P(2),
								   &size_us,
								   &step_us);
		if (!cq_window_fixed(time, size_us, CQ_WINDOW_ORIGIN, &set->start, &set->last_end))
			out_of_range();
		set->end = set->start + ((time - set->start) / step_us + 1) * step_us;
		set->start_step = 0;
		set->end_step = step_us;
	}
	return set_next(fcinfo);
}

static void
check_time(int64 time, const char *function)
{
	if (TIMESTAMP_NOT_FINITE(time))
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("%s() cannot be applied to infinity", function));
}

static void
out_of_range(void)
{
	ereport(ERROR,
			errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
			errmsg("timestamp out of range"),
			errdetail("The time's window does not lie within the range of timestamps."));
}

static const char *
usage(const char *function)
{
	if (strcmp(function, "hop") == 0)
		return "hop(ts, size, slide [, origin])";
	if (strcmp(function, "cumulate") == 0)
		return "cumulate(ts, size, step)";
	if (strcmp(function, "session") == 0)
		return "session(ts, gap)";
	if (strcmp(function, "date_bin") == 0)
		return "date_bin(size, ts, origin)";
	return "tumble(ts, size [, origin])";
}

static Datum
make_window(TypeCacheEntry *range, int64 start, int64 end)
{
	RangeBound lower = {.val = TimestampTzGetDatum(start), .inclusive = true, .lower = true};
	RangeBound upper = {.val = TimestampTzGetDatum(end), .inclusive = false, .lower = false};

	return RangeTypePGetDatum(cq_compat_make_range(range, &lower, &upper));
}

static WindowSet *
set_begin(FunctionCallInfo fcinfo, Oid range_type)
{
	FuncCallContext *call = SRF_FIRSTCALL_INIT();
	WindowSet *set = MemoryContextAllocZero(call->multi_call_memory_ctx, sizeof(WindowSet));

	set->range = lookup_type_cache(range_type, TYPECACHE_RANGE_INFO);
	call->user_fctx = set;
	return set;
}

static Datum
set_next(FunctionCallInfo fcinfo)
{
	FuncCallContext *call = SRF_PERCALL_SETUP();
	WindowSet *set = call->user_fctx;
	Datum window;

	if (set->done)
		SRF_RETURN_DONE(call);
	window = make_window(set->range, set->start, set->end);

	/* a step beyond the last end might be beyond all timestamps, and int64 */
	set->done = (uint64) set->last_end - (uint64) set->end < (uint64) set->end_step;
	if (!set->done)
	{
		set->start += set->start_step;
		set->end += set->end_step;
	}
	SRF_RETURN_NEXT(call, window);
}
