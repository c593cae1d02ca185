/*
 * numeric_sum.c
 *	  Sums of numeric from which values can be taken back.
 *
 * How many digits PostgreSQL shows of a sum is the most that one of its values has,
 * which is not known any more when such a value is taken back: that is why the inverse
 * of its own aggregate gives up there.  So values are counted by their number of
 * digits after the point, of which there are few different ones.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/numeric.h"

#include "operator/numeric_sum.h"

/* Values with so many digits after the point. */
typedef struct ScaleCount
{
	int64 n;
	int64 scale;
} ScaleCount;

/* Behind the varlena header; then nscales of ScaleCount, then the sum of finite values. */
typedef struct SumHead
{
	int64 nan;
	int64 plus_infinity;
	int64 minus_infinity;
	int64 nscales;
} SumHead;

/* A state in memory, with room for one more scale. */
typedef struct Sum
{
	SumHead head;
	ScaleCount *scales;
	Datum sum;
} Sum;

static void sum_read(Sum *sum, Datum state, bool isnull);
static Datum sum_write(const Sum *sum);
static void count_scale(Sum *sum, int64 scale, int64 by);
static int64 *special_count(SumHead *head, Numeric value);
static Numeric special_sum(const SumHead *head);
static Datum average(Datum sum, int64 n);

CqNumericKind
cq_numeric_kind(Oid aggregate)
{
	if (aggregate == F_SUM_NUMERIC)
		return CQ_NUMERIC_SUM;
	return aggregate == F_AVG_NUMERIC ? CQ_NUMERIC_AVG : CQ_NUMERIC_NONE;
}

Datum
cq_numeric_change(Datum state, bool *isnull, Datum value, bool takes_back)
{
	int64 by = takes_back ? -1 : 1;
	int64 *special;
	Sum sum;

	sum_read(&sum, state, *isnull);
	special = special_count(&sum.head, DatumGetNumeric(value));
	if (special)
		*special += by;
	else
	{
		sum.sum = DirectFunctionCall2(takes_back ? numeric_sub : numeric_add, sum.sum, value);
		count_scale(&sum, DatumGetInt32(DirectFunctionCall1(numeric_scale, value)), by);
	}
	*isnull = sum.head.nscales == 0 && sum.head.nan == 0 && sum.head.plus_infinity == 0 &&
			  sum.head.minus_infinity == 0;
	return *isnull ? (Datum) 0 : sum_write(&sum);
}

static void
sum_read(Sum *sum, Datum state, bool isnull)
{
	const char *at;
	Size room;

	memset(&sum->head, 0, sizeof(SumHead));
	if (isnull)
	{
		sum->scales = palloc(sizeof(ScaleCount));
		sum->sum = NumericGetDatum(int64_to_numeric(0));
		return;
	}
	at = VARDATA(DatumGetPointer(state));
	memcpy(&sum->head, at, sizeof(SumHead));
	at += sizeof(SumHead);
	room = sizeof(ScaleCount) * sum->head.nscales;
	sum->scales = palloc(room + sizeof(ScaleCount));
	memcpy(sum->scales, at, room);
	at += room;
	room = VARSIZE(DatumGetPointer(state)) - (at - (const char *) DatumGetPointer(state));
	sum->sum = PointerGetDatum(palloc(room));
	memcpy(DatumGetPointer(sum->sum), at, room);
}

static Datum
sum_write(const Sum *sum)
{
	Size scales = sizeof(ScaleCount) * sum->head.nscales;
	Size size = VARHDRSZ + sizeof(SumHead) + scales + VARSIZE(DatumGetPointer(sum->sum));
	bytea *state = palloc(size);
	char *at = VARDATA(state);

	SET_VARSIZE(state, size);
	memcpy(at, &sum->head, sizeof(SumHead));
	at += sizeof(SumHead);
	memcpy(at, sum->scales, scales);
	at += scales;
	memcpy(at, DatumGetPointer(sum->sum), VARSIZE(DatumGetPointer(sum->sum)));
	return PointerGetDatum(state);
}

/* Scales that no value has are left out, so that a state depends on its values alone. */
static void
count_scale(Sum *sum, int64 scale, int64 by)
{
	int64 i;

	for (i = 0; i < sum->head.nscales && sum->scales[i].scale != scale; i++)
		;
	if (i == sum->head.nscales)
	{
		sum->scales[i].scale = scale;
		sum->scales[i].n = 0;
		sum->head.nscales++;
	}
	sum->scales[i].n += by;
	if (sum->scales[i].n == 0)
		sum->scales[i] = sum->scales[--sum->head.nscales];
}

static int64 *
special_count(SumHead *head, Numeric value)
{
	if (numeric_is_nan(value))
		return &head->nan;
	if (!numeric_is_inf(value))
		return NULL;
	return DatumGetBool(DirectFunctionCall2(numeric_gt,
											NumericGetDatum(value),
											NumericGetDatum(int64_to_numeric(0))))
			   ? &head->plus_infinity
			   : &head->minus_infinity;
}

Datum
cq_numeric_finish(CqNumericKind kind, Datum state, bool *isnull)
{
	int64 scale = 0;
	int64 n = 0;
	Numeric special;
	Datum result;
	int64 i;
	Sum sum;

	if (*isnull)
		return (Datum) 0;
	sum_read(&sum, state, false);
	special = special_sum(&sum.head);
	if (special)
		return NumericGetDatum(special);
	for (i = 0; i < sum.head.nscales; i++)
	{
		scale = Max(scale, sum.scales[i].scale);
		n += sum.scales[i].n;
	}
	result = DirectFunctionCall2(numeric_round, sum.sum, Int32GetDatum((int32) scale));
	return kind == CQ_NUMERIC_AVG ? average(result, n) : result;
}

/* NULL if all values are finite. */
static Numeric
special_sum(const SumHead *head)
{
	const char *name = NULL;

	if (head->nan > 0 || (head->plus_infinity > 0 && head->minus_infinity > 0))
		name = "NaN";
	else if (head->plus_infinity > 0)
		name = "Infinity";
	else if (head->minus_infinity > 0)
		name = "-Infinity";
	return name == NULL ? NULL
						: DatumGetNumeric(DirectFunctionCall3(numeric_in,
															  CStringGetDatum(name),
															  ObjectIdGetDatum(InvalidOid),
															  Int32GetDatum(-1)));
}

static Datum
average(Datum sum, int64 n)
{
	return DirectFunctionCall2(numeric_div, sum, NumericGetDatum(int64_to_numeric(n)));
}
