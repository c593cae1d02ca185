/*
 * number.c
 *	  Fields to integers, floats and numeric.
 *
 * A number arrives as its digits.  Most fit 19 of them, which CqDecimal holds
 * with a power of ten; from there every type follows exactly.  Floats that an
 * exact multiplication or division gives, so that it is the nearest one by
 * IEEE 754, are made so; the others, and digits without end, are left to the
 * input functions.
 */
#include "postgres.h"

#include <float.h>

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "decode/value.h"

#define KEPT_DIGITS	   19 /* any number of that many fits uint64 */
#define EXPONENT_LIMIT 100000000

static const uint64 powers_of_ten[] = {UINT64CONST(1),
									   UINT64CONST(10),
									   UINT64CONST(100),
									   UINT64CONST(1000),
									   UINT64CONST(10000),
									   UINT64CONST(100000),
									   UINT64CONST(1000000),
									   UINT64CONST(10000000),
									   UINT64CONST(100000000),
									   UINT64CONST(1000000000),
									   UINT64CONST(10000000000),
									   UINT64CONST(100000000000),
									   UINT64CONST(1000000000000),
									   UINT64CONST(10000000000000),
									   UINT64CONST(100000000000000),
									   UINT64CONST(1000000000000000),
									   UINT64CONST(10000000000000000),
									   UINT64CONST(100000000000000000),
									   UINT64CONST(1000000000000000000),
									   UINT64CONST(10000000000000000000)};

/* Those that a double holds exactly; the first eleven a float does, too. */
static const double exact_powers_of_ten[] = {1e0,  1e1,	 1e2,  1e3,	 1e4,  1e5,	 1e6,  1e7,
											 1e8,  1e9,	 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
											 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool parse_exponent(const char *p, const char *end, int *exponent);
static bool parse_short_integer(const char *text, uint32 len, int64 *result);
static bool store_integer(CqConverter *converter, const CqField *field, int64 number, Datum *value,
						  CqDecodeError *error);
static bool exact_float8(const CqDecimal *decimal, float8 *result);
static bool exact_float4(const CqDecimal *decimal, float4 *result);

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline bool
is_container(const CqField *field)
{
	return field->kind == CQ_FIELD_OBJECT || field->kind == CQ_FIELD_ARRAY;
}

bool
cq_decimal_parse(const char *text, Size len, CqDecimal *decimal)
{
	const char *p = text;
	const char *end = text + len;
	int kept = 0;
	int seen = 0;
	int exponent = 0;
	bool point = false;

	memset(decimal, 0, sizeof(*decimal));
	if (p < end && (*p == '-' || *p == '+'))
		decimal->negative = *p++ == '-';
	for (; p < end; p++)
	{
		if (*p == '.' && !point)
		{
			point = true;
			continue;
		}
		if (!is_digit(*p))
			break;
		seen++;
		if (kept < KEPT_DIGITS)
		{
			decimal->digits = decimal->digits * 10 + (uint64) (*p - '0');
			kept += decimal->digits != 0;
			exponent -= point;
		}
		else
		{
			decimal->inexact |= *p != '0';
			exponent += !point;
		}
	}
	if (seen == 0)
		return false;
	decimal->exponent = exponent;
	if (p == end)
		return true;
	if (*p != 'e' && *p != 'E')
		return false;
	return parse_exponent(p + 1, end, &decimal->exponent);
}

bool
cq_decimal_to_int64(const CqDecimal *decimal, int scale, int64 *result, bool *exact)
{
	uint64 magnitude = decimal->digits;
	int exponent = decimal->exponent + scale;

	*exact = !decimal->inexact;
	if (magnitude == 0)
		exponent = 0;
	if (exponent >= (int) lengthof(powers_of_ten))
		return false;
	if (exponent > 0)
	{
		if (magnitude > PG_UINT64_MAX / powers_of_ten[exponent])
			return false;
		magnitude *= powers_of_ten[exponent];
	}
	else if (-exponent >= (int) lengthof(powers_of_ten))
	{
		magnitude = 0;
		*exact = false;
	}
	else if (exponent < 0)
	{
		uint64 divisor = powers_of_ten[-exponent];
		uint64 rest = magnitude % divisor;

		magnitude = magnitude / divisor + (rest >= divisor - rest);
		*exact &= rest == 0;
	}
	if (magnitude > (uint64) PG_INT64_MAX + decimal->negative)
		return false;
	*result = decimal->negative ? (int64) (0 - magnitude) : (int64) magnitude;
	return true;
}

/*
 * A number with a point or an exponent is an integer if its value is one: some
 * producers have nothing but floats.
 */
bool
cq_convert_integer(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	CqDecimal decimal;
	int64 number;
	bool exact;

	if (parse_short_integer(field->text, field->len, &number))
		return store_integer(converter, field, number, value, error);
	if (is_container(field))
		return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
	if (field->kind != CQ_FIELD_NUMBER)
		return cq_convert_by_input(converter, field, value, error);
	if (!cq_decimal_parse(field->text, field->len, &decimal))
		return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
	if (!cq_decimal_to_int64(&decimal, 0, &number, &exact))
		return cq_refuse_field(converter, field, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, error);
	if (!exact)
		return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
	return store_integer(converter, field, number, value, error);
}

bool
cq_convert_float(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	CqDecimal decimal;
	float8 wide;
	float4 narrow;

	if (is_container(field))
		return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
	if (!cq_decimal_parse(field->text, field->len, &decimal))
		return cq_convert_by_input(converter, field, value, error);
	if (converter->type == FLOAT8OID && exact_float8(&decimal, &wide))
		*value = Float8GetDatum(wide);
	else if (converter->type == FLOAT4OID && exact_float4(&decimal, &narrow))
		*value = Float4GetDatum(narrow);
	else
		return cq_convert_by_input(converter, field, value, error);
	return true;
}

/*
 * Up to 18 digits without exponent need no parsing by numeric_in; the number of
 * digits behind the point is numeric's display scale.
 */
bool
cq_convert_numeric(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	ErrorContextCallback context;
	CqDecimal decimal;
	int64 digits;
	Numeric number;

	if (is_container(field))
		return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
	if (field->len > 19 || !cq_decimal_parse(field->text, field->len, &decimal) ||
		decimal.exponent > 0 || decimal.digits >= powers_of_ten[18] ||
		memchr(field->text, 'e', field->len) != NULL ||
		memchr(field->text, 'E', field->len) != NULL)
		return cq_convert_by_input(converter, field, value, error);
	digits = decimal.negative ? -(int64) decimal.digits : (int64) decimal.digits;
	number = decimal.exponent == 0 ? int64_to_numeric(digits)
								   : int64_div_fast_to_numeric(digits, -decimal.exponent);
	*value = NumericGetDatum(number);
	if (converter->typmod >= (int32) VARHDRSZ)
	{
		cq_column_context_push(&context, converter->column);
		*value = DirectFunctionCall2(numeric, *value, Int32GetDatum(converter->typmod));
		cq_column_context_pop(&context);
	}
	return true;
}

/* Add the exponent written in [p, end); beyond all reason it stops growing. */
static bool
parse_exponent(const char *p, const char *end, int *exponent)
{
	int written = 0;
	bool negative = false;

	if (p < end && (*p == '-' || *p == '+'))
		negative = *p++ == '-';
	if (p == end)
		return false;
	for (; p < end; p++)
	{
		if (!is_digit(*p))
			return false;
		if (written < EXPONENT_LIMIT)
			written = written * 10 + (*p - '0');
	}
	*exponent += negative ? -written : written;
	return true;
}

/* An optional minus sign and up to 18 digits, nothing else. */
static bool
parse_short_integer(const char *text, uint32 len, int64 *result)
{
	const char *p = text;
	const char *end = text + len;
	bool negative = len > 0 && *p == '-';
	int64 number = 0;

	p += negative;
	if (p == end || end - p > 18)
		return false;
	for (; p < end; p++)
	{
		if (!is_digit(*p))
			return false;
		number = number * 10 + (*p - '0');
	}
	*result = negative ? -number : number;
	return true;
}

static bool
store_integer(CqConverter *converter, const CqField *field, int64 number, Datum *value,
			  CqDecodeError *error)
{
	switch (converter->type)
	{
		case INT2OID:
			if (number < PG_INT16_MIN || number > PG_INT16_MAX)
				break;
			*value = Int16GetDatum((int16) number);
			return true;
		case INT4OID:
			if (number < PG_INT32_MIN || number > PG_INT32_MAX)
				break;
			*value = Int32GetDatum((int32) number);
			return true;
		default:
			*value = Int64GetDatum(number);
			return true;
	}
	return cq_refuse_field(converter, field, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, error);
}

/*
 * Both operands exact and one operation: the result is correctly rounded, if
 * the machine computes in the type's own precision.
 */
static bool
exact_float8(const CqDecimal *decimal, float8 *result)
{
	int exponent = decimal->exponent;
	float8 number;

	if (FLT_EVAL_METHOD != 0 || decimal->inexact || decimal->digits > (UINT64CONST(1) << 53) ||
		exponent > 22 || exponent < -22)
		return false;
	number = (float8) decimal->digits;
	if (exponent < 0)
		number /= exact_powers_of_ten[-exponent];
	else
		number *= exact_powers_of_ten[exponent];
	*result = decimal->negative ? -number : number;
	return true;
}

static bool
exact_float4(const CqDecimal *decimal, float4 *result)
{
	int exponent = decimal->exponent;
	float4 number;

	if (FLT_EVAL_METHOD != 0 || decimal->inexact || decimal->digits > (1 << 24) || exponent > 10 ||
		exponent < -10)
		return false;
	number = (float4) decimal->digits;
	if (exponent < 0)
		number /= (float4) exact_powers_of_ten[-exponent];
	else
		number *= (float4) exact_powers_of_ten[exponent];
	*result = decimal->negative ? -number : number;
	return true;
}
