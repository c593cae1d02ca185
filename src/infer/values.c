/*
 * values.c
 *	  What the values of one field have in common, and the type that fits them.
 *
 * A type is proposed only if each value seen can be read into it.  Where kinds
 * differ it is the wider one, and in the end text, or jsonb where there is
 * structure.
 *
 * A number is taken for a time if its name says so and each value lies between
 * the years 2000 and 2100 in the same unit: either alone is a coincidence.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <ctype.h>

#include "mb/pg_wchar.h"
#include "utils/timestamp.h"

#include "decode/value.h"
#include "infer/values.h"

#define EPOCH_MIN_S INT64CONST(946684800)  /* 2000 */
#define EPOCH_MAX_S INT64CONST(4102444800) /* 2100 */
/* So many digits behind the point are no amount of money. */
#define FLOAT_FRACTION 7
/* More digits than a double can mean. */
#define DOUBLE_LIMIT		UINT64CONST(100000000000000000)
#define USUAL_SHARE			10	/* nearly all values: all but one in so many */
#define MAX_EXPONENT		280 /* of a number that a double can hold */
#define MAX_INET_CHARS		45
#define UNIX_EPOCH_SHIFT_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

static void note(CqValues *values, CqValueKind kind, const char *text, Size len);
static void note_time(CqValues *values, int record, int nrecords, Timestamp time);
static CqValueKind number_kind(CqValues *values, const char *text, Size len, int record,
							   int nrecords);
static CqValueKind fraction_kind(const char *text, Size len, const CqDecimal *decimal);
static Size find_any(const char *text, Size len, const char *characters);
static CqValueKind text_kind(CqValues *values, const char *text, Size len, int record,
							 int nrecords);
static bool is_uuid(const char *text, Size len);
static bool is_inet(const char *text, Size len);
static bool is_number(const char *text, Size len);
static bool only(const CqValues *values, unsigned kinds);
static const char *but_for_few(const CqValues *values);
static const char *scalar_type(const CqValues *values, CqValueType *result);
static CqValueType array_type(const CqValues *elements);
static bool epoch_type(const CqValues *values, const char *name, CqValueType *result);
static bool named_like_time(const char *name);

#define BIT(kind)  (1u << (kind))
#define INTEGERS   (BIT(CQ_VALUE_INTEGER) | BIT(CQ_VALUE_WIDE_INTEGER))
#define NUMBERS	   (INTEGERS | BIT(CQ_VALUE_DECIMAL) | BIT(CQ_VALUE_FLOAT))
#define STRUCTURES (BIT(CQ_VALUE_OBJECT) | BIT(CQ_VALUE_ARRAY))
#define ANY_TEXT                                                                                   \
	(BIT(CQ_VALUE_TIMESTAMPTZ) | BIT(CQ_VALUE_TIMESTAMP) | BIT(CQ_VALUE_DATE) |                    \
	 BIT(CQ_VALUE_UUID) | BIT(CQ_VALUE_INET) | BIT(CQ_VALUE_DIGITS) | BIT(CQ_VALUE_TEXT))

void
cq_values_add(CqValues *values, const CqField *field, int record, int nrecords)
{
	CqValueKind kind;

	switch ((CqFieldKind) field->kind)
	{
		case CQ_FIELD_MISSING:
			return;
		case CQ_FIELD_NULL:
			values->nulls++;
			return;
		case CQ_FIELD_FALSE:
		case CQ_FIELD_TRUE:
			kind = CQ_VALUE_BOOLEAN;
			break;
		case CQ_FIELD_NUMBER:
			kind = number_kind(values, field->text, field->len, record, nrecords);
			break;
		case CQ_FIELD_OBJECT:
			kind = CQ_VALUE_OBJECT;
			break;
		case CQ_FIELD_ARRAY:
			kind = CQ_VALUE_ARRAY;
			break;
		case CQ_FIELD_STRING:
		default:
			kind = text_kind(values, field->text, field->len, record, nrecords);
			values->has_nul |= field->has_nul;
			break;
	}
	note(values, kind, field->text, field->len);
}

/* Leading zeros mean that it is a code and no number. */
void
cq_values_add_text(CqValues *values, const char *text, Size len, int record, int nrecords)
{
	CqValueKind kind;

	if ((len == 4 && memcmp(text, "true", 4) == 0) || (len == 5 && memcmp(text, "false", 5) == 0))
		kind = CQ_VALUE_BOOLEAN;
	else if (is_number(text, len))
		kind = number_kind(values, text, len, record, nrecords);
	else
		kind = text_kind(values, text, len, record, nrecords);
	note(values, kind, text, len);
}

static void
note(CqValues *values, CqValueKind kind, const char *text, Size len)
{
	values->kinds[kind]++;
	if (values->count++ > 0)
		return;
	values->cut = len > CQ_VALUE_EXAMPLE;
	values->example_len = pg_encoding_mbcliplen(PG_UTF8, text, (int) len, CQ_VALUE_EXAMPLE);
	memcpy(values->example, text, values->example_len);
}

static void
note_time(CqValues *values, int record, int nrecords, Timestamp time)
{
	int i;

	if (record < 0)
		return;
	if (values->times == NULL)
	{
		values->nrecords = nrecords;
		values->times = palloc(sizeof(Timestamp) * nrecords);
		for (i = 0; i < nrecords; i++)
			values->times[i] = DT_NOBEGIN;
	}
	values->times[record] = time;
}

static CqValueKind
number_kind(CqValues *values, const char *text, Size len, int record, int nrecords)
{
	CqDecimal decimal;
	int64 number;
	bool exact;
	int unit;

	if (!cq_decimal_parse(text, len, &decimal))
		return CQ_VALUE_DECIMAL;
	for (unit = CQ_EPOCH_S; unit < CQ_EPOCH_UNITS; unit++)
	{
		if (!cq_decimal_to_int64(&decimal, 6 - 3 * unit, &number, &exact) ||
			number < EPOCH_MIN_S * USECS_PER_SEC || number >= EPOCH_MAX_S * USECS_PER_SEC)
			continue;
		values->epochs[unit]++;
		note_time(values, record, nrecords, number - UNIX_EPOCH_SHIFT_US);
		break;
	}
	if (find_any(text, len, ".eE") < len)
		return fraction_kind(text, len, &decimal);
	return cq_decimal_to_int64(&decimal, 0, &number, &exact) ? CQ_VALUE_INTEGER
															 : CQ_VALUE_WIDE_INTEGER;
}

/*
 * Amounts of money have few digits behind the point, and must be exact; what a
 * program prints of a float has many, or an exponent.
 */
static CqValueKind
fraction_kind(const char *text, Size len, const CqDecimal *decimal)
{
	Size point = find_any(text, len, ".");

	if (find_any(text, len, "eE") < len)
		return abs(decimal->exponent) < MAX_EXPONENT ? CQ_VALUE_FLOAT : CQ_VALUE_DECIMAL;
	if (len - point - 1 < FLOAT_FRACTION || decimal->digits >= DOUBLE_LIMIT || decimal->inexact)
		return CQ_VALUE_DECIMAL;
	return CQ_VALUE_FLOAT;
}

/* Where the first of these characters is; len if there is none. */
static Size
find_any(const char *text, Size len, const char *characters)
{
	Size i;

	for (i = 0; i < len; i++)
		if (strchr(characters, text[i]) != NULL && text[i] != '\0')
			break;
	return i;
}

static CqValueKind
text_kind(CqValues *values, const char *text, Size len, int record, int nrecords)
{
	Timestamp time;
	bool has_zone;

	if (cq_iso_time_parse(text, len, &time, &has_zone))
	{
		note_time(values, record, nrecords, time);
		return has_zone ? CQ_VALUE_TIMESTAMPTZ : CQ_VALUE_TIMESTAMP;
	}
	if (cq_iso_date_parse(text, len))
		return CQ_VALUE_DATE;
	if (is_uuid(text, len))
		return CQ_VALUE_UUID;
	if (is_inet(text, len))
		return CQ_VALUE_INET;
	if (is_number(text, len))
	{
		(void) number_kind(values, text, len, record, nrecords);
		return CQ_VALUE_DIGITS;
	}
	return CQ_VALUE_TEXT;
}

static bool
is_uuid(const char *text, Size len)
{
	Size i;

	if (len != 36)
		return false;
	for (i = 0; i < len; i++)
	{
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	}
	return true;
}

/* An address without a length of prefix, of four numbers or with at least two colons. */
static bool
is_inet(const char *text, Size len)
{
	char copy[MAX_INET_CHARS + 1];
	unsigned char address[16];

	if (len < 2 || len > MAX_INET_CHARS)
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	return strlen(copy) == len &&
		   (inet_pton(AF_INET, copy, address) == 1 || inet_pton(AF_INET6, copy, address) == 1);
}

/* As JSON would have it. */
static bool
is_number(const char *text, Size len)
{
	CqDecimal decimal;
	const char *digits = len > 0 && *text == '-' ? text + 1 : text;
	Size ndigits = len - (Size) (digits - text);

	if (ndigits == 0 || !isdigit((unsigned char) *digits) ||
		!isdigit((unsigned char) digits[ndigits - 1]) ||
		(*digits == '0' && ndigits > 1 && digits[1] != '.'))
		return false;
	return cq_decimal_parse(text, len, &decimal);
}

/* Are there values, and all of these kinds? */
static bool
only(const CqValues *values, unsigned kinds)
{
	int i;

	for (i = 0; i < CQ_VALUE_KINDS; i++)
		if (values->kinds[i] > 0 && (kinds & BIT(i)) == 0)
			return false;
	return values->count > 0;
}

/*
 * What nearly all of the values are: with another type, the others would be bad
 * records, which may be what they are.  NULL if there is no such type.
 */
static const char *
but_for_few(const CqValues *values)
{
	static const struct
	{
		unsigned kinds;
		const char *name;
	} usual[] = {
		{NUMBERS | BIT(CQ_VALUE_DIGITS), "numbers"},
		{BIT(CQ_VALUE_TIMESTAMPTZ) | BIT(CQ_VALUE_TIMESTAMP), "times"},
		{BIT(CQ_VALUE_BOOLEAN), "true and false"},
	};
	Size i;

	for (i = 0; i < lengthof(usual); i++)
	{
		int others = 0;
		int kind;

		for (kind = 0; kind < CQ_VALUE_KINDS; kind++)
			if ((usual[i].kinds & BIT(kind)) == 0)
				others += values->kinds[kind];
		if (others > 0 && others <= values->count / USUAL_SHARE)
			return psprintf("%s, but for %d of %d", usual[i].name, others, values->count);
	}
	return NULL;
}

CqValueType
cq_values_type(const CqValues *values, const char *name)
{
	CqValueType result = {0};

	if (values->count == 0)
	{
		result.type = "text";
		result.remark = "always null";
		return result;
	}
	if (values->has_nul)
	{
		result.type = "json";
		result.remark = "has characters \\u0000, which text cannot hold";
		return result;
	}
	if (only(values, BIT(CQ_VALUE_ARRAY)) && values->elements)
		return array_type(values->elements);
	if (epoch_type(values, name, &result))
		return result;
	result.type = scalar_type(values, &result);
	return result;
}

static const char *
scalar_type(const CqValues *values, CqValueType *result)
{
	const char *usual = but_for_few(values);

	if (only(values, STRUCTURES))
		return "jsonb";
	if (!only(values, NUMBERS | BIT(CQ_VALUE_BOOLEAN) | ANY_TEXT))
	{
		result->remark = "objects or arrays, and other values";
		return "jsonb";
	}
	if (only(values, BIT(CQ_VALUE_BOOLEAN)))
		return "boolean";
	if (only(values, BIT(CQ_VALUE_INTEGER)))
		return "bigint";
	if (only(values, INTEGERS | BIT(CQ_VALUE_DECIMAL)))
		return "numeric";
	if (only(values, NUMBERS))
		return "double precision";
	if (only(values, BIT(CQ_VALUE_TIMESTAMP)))
	{
		result->is_time = true;
		result->remark = "without a time zone";
		return "timestamp";
	}
	if (only(values, BIT(CQ_VALUE_TIMESTAMP) | BIT(CQ_VALUE_TIMESTAMPTZ)))
	{
		result->is_time = true;
		if (values->kinds[CQ_VALUE_TIMESTAMP] > 0)
			result->remark = "some without a time zone: the session's TimeZone applies to them";
		return "timestamptz";
	}
	if (only(values, BIT(CQ_VALUE_DATE)))
		return "date";
	if (only(values, BIT(CQ_VALUE_UUID)))
		return "uuid";
	if (only(values, BIT(CQ_VALUE_INET)))
		return "inet";
	if (!only(values, ANY_TEXT))
		result->remark = only(values, NUMBERS | BIT(CQ_VALUE_DIGITS)) ? "some numbers in quotes"
																	  : "values of different types";
	if (usual)
		result->remark = usual;
	if (only(values, NUMBERS | BIT(CQ_VALUE_DIGITS)) &&
		values->kinds[CQ_VALUE_DIGITS] < values->count)
		return values->kinds[CQ_VALUE_FLOAT] > 0 ? "double precision" : "numeric";
	return "text";
}

static CqValueType
array_type(const CqValues *elements)
{
	CqValueType result = {0};
	CqValueType inner;

	result.type = "jsonb";
	if (elements->count == 0)
	{
		result.remark = "only empty arrays";
		return result;
	}
	if (!only(elements, BIT(CQ_VALUE_BOOLEAN) | NUMBERS | ANY_TEXT) || elements->has_nul)
		return result;
	inner = cq_values_type(elements, "");
	result.type = psprintf("%s[]", inner.type);
	result.remark = inner.remark;
	return result;
}

static bool
epoch_type(const CqValues *values, const char *name, CqValueType *result)
{
	static const char *const formats[] = {"epoch_s", "epoch_ms", "epoch_us"};
	int unit;

	if (!named_like_time(name) || !only(values, NUMBERS | BIT(CQ_VALUE_DIGITS)))
		return false;
	for (unit = CQ_EPOCH_S; unit < CQ_EPOCH_UNITS; unit++)
	{
		if (values->epochs[unit] < values->count)
			continue;
		result->type = "timestamptz";
		result->time_format = formats[unit];
		result->is_time = true;
		return true;
	}
	return false;
}

/* Names are in lower case, their words separated by underscores. */
static bool
named_like_time(const char *name)
{
	static const char *const words[] = {"at",		 "date",	 "datetime", "epoch",	  "millis",
										"ms",		 "occurred", "received", "sent",	  "time",
										"timestamp", "tm",		 "ts",		 "tstamp",	  "updated",
										"created",	 "modified", "when",	 "eventtime", "us",
										"micros",	 NULL};
	char *copy = pstrdup(name);
	char *rest = copy;
	char *word;
	int i;

	while ((word = strsep(&rest, "_")) != NULL)
		for (i = 0; words[i]; i++)
			if (strcmp(word, words[i]) == 0 ||
				(i == 0 && strlen(word) > 4 && strcmp(word + strlen(word) - 4, "time") == 0))
				return true;
	return false;
}
