/*
 * fast_aggregate.c
 *	  Which aggregates are done without function calls, and their results.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/numeric.h"

#include "operator/fast_aggregate.h"

#define TEN_TO_18 INT64CONST(1000000000000000000)

typedef struct FastAggregate
{
	Oid aggregate;
	CqFastKind kind;
	int width;
} FastAggregate;

static const FastAggregate fast_aggregates[] = {
	{F_COUNT_, CQ_FAST_COUNT_ROWS, 0},		 {F_COUNT_ANY, CQ_FAST_COUNT, 0},
	{F_SUM_INT2, CQ_FAST_SUM_INT2, 2},		 {F_SUM_INT4, CQ_FAST_SUM_INT4, 4},
	{F_AVG_INT2, CQ_FAST_AVG_INT2, 2},		 {F_AVG_INT4, CQ_FAST_AVG_INT4, 4},
#ifdef HAVE_INT128
	{F_SUM_INT8, CQ_FAST_SUM_INT8, 8},		 {F_AVG_INT8, CQ_FAST_AVG_INT8, 8},
#endif
	{F_SUM_FLOAT4, CQ_FAST_SUM_FLOAT4, 4},	 {F_SUM_FLOAT8, CQ_FAST_SUM_FLOAT8, 8},
	{F_MIN_INT2, CQ_FAST_MIN_INT, 2},		 {F_MIN_INT4, CQ_FAST_MIN_INT, 4},
	{F_MIN_INT8, CQ_FAST_MIN_INT, 8},		 {F_MIN_DATE, CQ_FAST_MIN_INT, 4},
	{F_MIN_TIME, CQ_FAST_MIN_INT, 8},		 {F_MIN_TIMESTAMP, CQ_FAST_MIN_INT, 8},
	{F_MIN_TIMESTAMPTZ, CQ_FAST_MIN_INT, 8}, {F_MIN_MONEY, CQ_FAST_MIN_INT, 8},
	{F_MAX_INT2, CQ_FAST_MAX_INT, 2},		 {F_MAX_INT4, CQ_FAST_MAX_INT, 4},
	{F_MAX_INT8, CQ_FAST_MAX_INT, 8},		 {F_MAX_DATE, CQ_FAST_MAX_INT, 4},
	{F_MAX_TIME, CQ_FAST_MAX_INT, 8},		 {F_MAX_TIMESTAMP, CQ_FAST_MAX_INT, 8},
	{F_MAX_TIMESTAMPTZ, CQ_FAST_MAX_INT, 8}, {F_MAX_MONEY, CQ_FAST_MAX_INT, 8},
	{F_MIN_FLOAT4, CQ_FAST_MIN_FLOAT4, 4},	 {F_MAX_FLOAT4, CQ_FAST_MAX_FLOAT4, 4},
	{F_MIN_FLOAT8, CQ_FAST_MIN_FLOAT8, 8},	 {F_MAX_FLOAT8, CQ_FAST_MAX_FLOAT8, 8},
};

static Datum average(Datum sum, int64 n);
#ifdef HAVE_INT128
static Datum numeric_from_int128(int128 value);
#endif

CqFastKind
cq_fast_kind(Oid aggregate, int *width)
{
	int i;

	*width = 0;
	for (i = 0; i < (int) lengthof(fast_aggregates); i++)
		if (fast_aggregates[i].aggregate == aggregate)
		{
			*width = fast_aggregates[i].width;
			return fast_aggregates[i].kind;
		}
	return CQ_FAST_NONE;
}

CqFastKind
cq_fast_kind_retracting(Oid aggregate, int *width)
{
	CqFastKind kind;

	*width = 0;
	switch (aggregate)
	{
		case F_BOOL_AND:
		case F_EVERY:
			return CQ_FAST_BOOL_AND;
		case F_BOOL_OR:
			return CQ_FAST_BOOL_OR;
		default:
			kind = cq_fast_kind(aggregate, width);
			return cq_fast_is_reversible(kind) ? kind : CQ_FAST_NONE;
	}
}

Size
cq_fast_size(CqFastKind kind)
{
	switch (kind)
	{
		case CQ_FAST_NONE:
			return 0;
		case CQ_FAST_COUNT_ROWS:
		case CQ_FAST_COUNT:
			return sizeof(int64);
#ifdef HAVE_INT128
		case CQ_FAST_SUM_INT8:
		case CQ_FAST_AVG_INT8:
			return sizeof(CqFastWide);
#endif
		default:
			return sizeof(CqFastState);
	}
}

/* A sum or an extreme of the other rows is taken in as one more value. */
void
cq_fast_combine(CqFastKind kind, void *into, const void *from)
{
	const CqFastState *other = from;
	int64 n = ((CqFastState *) into)->n + other->n;

	if (other->n == 0)
		return;
	switch (kind)
	{
		case CQ_FAST_NONE:
		case CQ_FAST_COUNT_ROWS:
		case CQ_FAST_COUNT:
			break;
		case CQ_FAST_SUM_INT2:
		case CQ_FAST_AVG_INT2:
		case CQ_FAST_SUM_INT4:
		case CQ_FAST_AVG_INT4:
		case CQ_FAST_BOOL_AND:
		case CQ_FAST_BOOL_OR:
			((CqFastState *) into)->value.integer =
				(int64) ((uint64) ((CqFastState *) into)->value.integer +
						 (uint64) other->value.integer);
			break;
		case CQ_FAST_SUM_INT8:
		case CQ_FAST_AVG_INT8:
#ifdef HAVE_INT128
			((CqFastWide *) into)->sum += ((const CqFastWide *) from)->sum;
#endif
			break;
		case CQ_FAST_MIN_INT:
		case CQ_FAST_MAX_INT:
			cq_fast_advance(kind, sizeof(int64), into, Int64GetDatum(other->value.integer));
			break;
		case CQ_FAST_SUM_FLOAT4:
		case CQ_FAST_MIN_FLOAT4:
		case CQ_FAST_MAX_FLOAT4:
			cq_fast_advance(kind, 0, into, Float4GetDatum(other->value.float4_value));
			break;
		case CQ_FAST_SUM_FLOAT8:
		case CQ_FAST_MIN_FLOAT8:
		case CQ_FAST_MAX_FLOAT8:
			cq_fast_advance(kind, 0, into, Float8GetDatum(other->value.float8_value));
			break;
	}
	((CqFastState *) into)->n = n;
}

bool
cq_fast_is_reversible(CqFastKind kind)
{
	switch (kind)
	{
		case CQ_FAST_COUNT_ROWS:
		case CQ_FAST_COUNT:
		case CQ_FAST_SUM_INT2:
		case CQ_FAST_AVG_INT2:
		case CQ_FAST_SUM_INT4:
		case CQ_FAST_AVG_INT4:
		case CQ_FAST_SUM_INT8:
		case CQ_FAST_AVG_INT8:
		case CQ_FAST_BOOL_AND:
		case CQ_FAST_BOOL_OR:
			return true;
		default:
			return false;
	}
}

void
cq_fast_take_back(CqFastKind kind, void *into, const void *from)
{
	CqFastState *state = into;
	const CqFastState *other = from;

	Assert(cq_fast_is_reversible(kind));
	state->n -= other->n;
	if (kind == CQ_FAST_SUM_INT8 || kind == CQ_FAST_AVG_INT8)
	{
#ifdef HAVE_INT128
		((CqFastWide *) into)->sum -= ((const CqFastWide *) from)->sum;
#endif
	}
	else if (kind != CQ_FAST_COUNT_ROWS && kind != CQ_FAST_COUNT)
		state->value.integer =
			(int64) ((uint64) state->value.integer - (uint64) other->value.integer);
}

void
cq_fast_retract(CqFastKind kind, int width, void *memory, Datum value)
{
	union
	{
		CqFastState state;
#ifdef HAVE_INT128
		CqFastWide wide;
#endif
	} one;

	memset(&one, 0, sizeof(one));
	cq_fast_advance(kind, width, &one, value);
	cq_fast_take_back(kind, memory, &one);
}

Datum
cq_fast_finish(CqFastKind kind, int width, const void *memory, bool *isnull)
{
	const CqFastState *state = memory;

	*isnull = false;
	if (kind == CQ_FAST_COUNT_ROWS || kind == CQ_FAST_COUNT)
		return Int64GetDatum(state->n);
	if (state->n == 0)
	{
		*isnull = true;
		return (Datum) 0;
	}
	switch (kind)
	{
		case CQ_FAST_SUM_INT2:
		case CQ_FAST_SUM_INT4:
			return Int64GetDatum(state->value.integer);
		case CQ_FAST_AVG_INT2:
		case CQ_FAST_AVG_INT4:
			return average(NumericGetDatum(int64_to_numeric(state->value.integer)), state->n);
#ifdef HAVE_INT128
		case CQ_FAST_SUM_INT8:
			return numeric_from_int128(((const CqFastWide *) memory)->sum);
		case CQ_FAST_AVG_INT8:
			return average(numeric_from_int128(((const CqFastWide *) memory)->sum), state->n);
#endif
		case CQ_FAST_BOOL_AND:
			return BoolGetDatum(state->value.integer == state->n);
		case CQ_FAST_BOOL_OR:
			return BoolGetDatum(state->value.integer > 0);
		case CQ_FAST_MIN_INT:
		case CQ_FAST_MAX_INT:
			if (width == 8)
				return Int64GetDatum(state->value.integer);
			if (width == 4)
				return Int32GetDatum((int32) state->value.integer);
			return Int16GetDatum((int16) state->value.integer);
		case CQ_FAST_SUM_FLOAT4:
		case CQ_FAST_MIN_FLOAT4:
		case CQ_FAST_MAX_FLOAT4:
			return Float4GetDatum(state->value.float4_value);
		case CQ_FAST_SUM_FLOAT8:
		case CQ_FAST_MIN_FLOAT8:
		case CQ_FAST_MAX_FLOAT8:
			return Float8GetDatum(state->value.float8_value);
		default:
			break;
	}
	elog(ERROR, "unexpected kind of aggregate: %d", (int) kind);
}

static Datum
average(Datum sum, int64 n)
{
	return DirectFunctionCall2(numeric_div, sum, NumericGetDatum(int64_to_numeric(n)));
}

#ifdef HAVE_INT128
static Datum
numeric_from_int128(int128 value)
{
	Datum high;

	if (value >= PG_INT64_MIN && value <= PG_INT64_MAX)
		return NumericGetDatum(int64_to_numeric((int64) value));

	/* 18 decimal digits at a time; both parts have the sign of the whole */
	high = DirectFunctionCall2(numeric_mul,
							   numeric_from_int128(value / TEN_TO_18),
							   NumericGetDatum(int64_to_numeric(TEN_TO_18)));
	return DirectFunctionCall2(numeric_add,
							   high,
							   NumericGetDatum(int64_to_numeric((int64) (value % TEN_TO_18))));
}
#endif
