/*
 * fast_aggregate.h
 *	  The commonest aggregates without function calls: count, sum, avg, min and
 *	  max over types that fit into a word.
 *
 * Results are PostgreSQL's own to the last digit.  A state is 8-byte aligned
 * flat memory, so it can be saved as it is.
 */
#pragma once

#include "postgres.h"

#include "common/int.h"
#include "utils/float.h"

typedef enum CqFastKind
{
	CQ_FAST_NONE, /* through the aggregate's own functions */
	CQ_FAST_COUNT_ROWS,
	CQ_FAST_COUNT,
	CQ_FAST_SUM_INT2,
	CQ_FAST_SUM_INT4,
	CQ_FAST_AVG_INT2,
	CQ_FAST_AVG_INT4,
	CQ_FAST_SUM_INT8,
	CQ_FAST_AVG_INT8,
	CQ_FAST_SUM_FLOAT4,
	CQ_FAST_SUM_FLOAT8,
	CQ_FAST_MIN_INT, /* and dates and times: integers of extreme_size bytes */
	CQ_FAST_MAX_INT,
	CQ_FAST_MIN_FLOAT4,
	CQ_FAST_MAX_FLOAT4,
	CQ_FAST_MIN_FLOAT8,
	CQ_FAST_MAX_FLOAT8,
	CQ_FAST_BOOL_AND, /* where values are taken back: how many are true */
	CQ_FAST_BOOL_OR
} CqFastKind;

/* All kinds keep how many values they took; 0 means that the result is NULL (or 0 for counts). */
typedef struct CqFastState
{
	int64 n;
	union
	{
		int64 integer;
		float4 float4_value;
		float8 float8_value;
	} value;
} CqFastState;

#ifdef HAVE_INT128
typedef struct CqFastWide
{
	int64 n;
	int128 sum;
} CqFastWide;
#endif

/* How an aggregate is done fast, if so; width: bytes of an integer argument. */
extern CqFastKind cq_fast_kind(Oid aggregate, int *width);

/* The same where values can be taken back. */
extern CqFastKind cq_fast_kind_retracting(Oid aggregate, int *width);

extern Size cq_fast_size(CqFastKind kind);

/* Take a state over other rows into one. */
extern void cq_fast_combine(CqFastKind kind, void *into, const void *from);

/* Can that be undone to the last bit?  Then take_back() does. */
extern bool cq_fast_is_reversible(CqFastKind kind);
extern void cq_fast_take_back(CqFastKind kind, void *into, const void *from);

/* Take back an argument that was taken in; the kind must be reversible. */
extern void cq_fast_retract(CqFastKind kind, int width, void *memory, Datum value);

/* The aggregate's result; allocates in the current memory context. */
extern Datum cq_fast_finish(CqFastKind kind, int width, const void *state, bool *isnull);

static inline int64
cq_fast_integer(Datum value, int width)
{
	return width == 8	? DatumGetInt64(value)
		   : width == 4 ? (int64) DatumGetInt32(value)
						: (int64) DatumGetInt16(value);
}

/* Take in one argument; kinds other than COUNT_ROWS are not called for NULLs. */
static inline void
cq_fast_advance(CqFastKind kind, int width, void *memory, Datum value)
{
	CqFastState *state = memory;
	int64 integer;
	float4 small;
	float8 large;

	switch (kind)
	{
		case CQ_FAST_COUNT_ROWS:
		case CQ_FAST_COUNT:
			break;
		case CQ_FAST_SUM_INT2:
		case CQ_FAST_AVG_INT2:
			/* wraps around unchecked where PostgreSQL's does */
			state->value.integer =
				(int64) ((uint64) state->value.integer + (uint64) (int64) DatumGetInt16(value));
			break;
		case CQ_FAST_SUM_INT4:
		case CQ_FAST_AVG_INT4:
			state->value.integer =
				(int64) ((uint64) state->value.integer + (uint64) (int64) DatumGetInt32(value));
			break;
		case CQ_FAST_SUM_INT8:
		case CQ_FAST_AVG_INT8:
#ifdef HAVE_INT128
			((CqFastWide *) memory)->sum += DatumGetInt64(value);
#endif
			break;
		case CQ_FAST_SUM_FLOAT4:
			small = DatumGetFloat4(value);
			state->value.float4_value =
				state->n == 0 ? small : float4_pl(state->value.float4_value, small);
			break;
		case CQ_FAST_SUM_FLOAT8:
			large = DatumGetFloat8(value);
			state->value.float8_value =
				state->n == 0 ? large : float8_pl(state->value.float8_value, large);
			break;
		case CQ_FAST_MIN_INT:
			integer = cq_fast_integer(value, width);
			if (state->n == 0 || integer < state->value.integer)
				state->value.integer = integer;
			break;
		case CQ_FAST_MAX_INT:
			integer = cq_fast_integer(value, width);
			if (state->n == 0 || integer > state->value.integer)
				state->value.integer = integer;
			break;
		case CQ_FAST_MIN_FLOAT4:
			small = DatumGetFloat4(value);
			if (state->n == 0 || !float4_lt(state->value.float4_value, small))
				state->value.float4_value = small;
			break;
		case CQ_FAST_MAX_FLOAT4:
			small = DatumGetFloat4(value);
			if (state->n == 0 || !float4_gt(state->value.float4_value, small))
				state->value.float4_value = small;
			break;
		case CQ_FAST_MIN_FLOAT8:
			large = DatumGetFloat8(value);
			if (state->n == 0 || !float8_lt(state->value.float8_value, large))
				state->value.float8_value = large;
			break;
		case CQ_FAST_MAX_FLOAT8:
			large = DatumGetFloat8(value);
			if (state->n == 0 || !float8_gt(state->value.float8_value, large))
				state->value.float8_value = large;
			break;
		case CQ_FAST_BOOL_AND:
		case CQ_FAST_BOOL_OR:
			state->value.integer += DatumGetBool(value);
			break;
		case CQ_FAST_NONE:
			break;
	}
	state->n++;
}
