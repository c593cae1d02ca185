/*
 * time.c
 *	  Fields to timestamps, dates and times of day.
 *
 * ISO 8601, which nearly everyone sends, is read here; any other form goes to
 * the type's input function, so a string means what it means in SQL under the
 * settings in force: a timestamptz without zone is in the session's TimeZone,
 * the zone of a timestamp without one is ignored.
 *
 * Two things that the input functions accept are refused.  The words "now",
 * "today", "tomorrow" and "yesterday" would give a record another meaning each
 * time it is read.  And a JSON number is a time only in a column whose "format"
 * option says how to count: 20261123 is a date to date_in, and seconds,
 * milliseconds or nanoseconds to the senders of numbers.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "decode/value.h"

#define UNIX_EPOCH_OFFSET_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* A time in ISO 8601, taken apart. */
typedef struct IsoTime
{
	int year;
	int month;
	int day;
	int hour;
	int minute;
	int second;
	int fraction_us;
	bool has_zone;
	int east_s; /* of Greenwich */
} IsoTime;

static bool parse_iso_date(const char *p, IsoTime *time);
static bool parse_iso(const char *p, Size len, IsoTime *time);
static bool parse_iso_fraction(const char **p, const char *end, IsoTime *time);
static bool parse_iso_zone(const char *p, const char *end, IsoTime *time);
static Timestamp local_time(const IsoTime *time);
static int zone_of_session(const IsoTime *time);
static bool depends_on_clock(const char *text, Size len);

/* Two digits, -1 if they are none. */
static inline int
two_digits(const char *p)
{
	unsigned int high = (unsigned int) (p[0] - '0');
	unsigned int low = (unsigned int) (p[1] - '0');

	return high > 9 || low > 9 ? -1 : (int) (high * 10 + low);
}

bool
cq_convert_time(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	IsoTime time;
	Timestamp result;

	if (field->kind != CQ_FIELD_STRING)
		return cq_refuse_field(converter, field, ERRCODE_INVALID_DATETIME_FORMAT, error);
	if (converter->type == DATEOID && field->len == 10 && parse_iso_date(field->text, &time))
	{
		*value = DateADTGetDatum(date2j(time.year, time.month, time.day) - POSTGRES_EPOCH_JDATE);
		return true;
	}
	if ((converter->type != TIMESTAMPTZOID && converter->type != TIMESTAMPOID) ||
		!parse_iso(field->text, field->len, &time))
	{
		if (depends_on_clock(field->text, field->len))
			return cq_refuse_field(converter, field, ERRCODE_INVALID_DATETIME_FORMAT, error);
		return cq_convert_by_input(converter, field, value, error);
	}

	result = local_time(&time);
	if (converter->type == TIMESTAMPTZOID)
		result -= (time.has_zone ? time.east_s : zone_of_session(&time)) * USECS_PER_SEC;
	*value = TimestampGetDatum(result);
	if (converter->typmod >= 0)
		*value =
			converter->type == TIMESTAMPTZOID
				? DirectFunctionCall2(timestamptz_scale, *value, Int32GetDatum(converter->typmod))
				: DirectFunctionCall2(timestamp_scale, *value, Int32GetDatum(converter->typmod));
	return true;
}

static Timestamp
local_time(const IsoTime *time)
{
	return (int64) (date2j(time->year, time->month, time->day) - POSTGRES_EPOCH_JDATE) *
			   USECS_PER_DAY +
		   (int64) (time->hour * SECS_PER_HOUR + time->minute * SECS_PER_MINUTE + time->second) *
			   USECS_PER_SEC +
		   time->fraction_us;
}

/* Digits finer than a microsecond are cut off. */
bool
cq_iso_time_parse(const char *text, Size len, Timestamp *time, bool *has_zone)
{
	char copy[64];
	IsoTime parsed;
	Size fine = 26; /* where the seventh digit of a fraction would be */
	Size behind = fine;

	if (len >= sizeof(copy) || len < 19)
		return false;
	memcpy(copy, text, len);
	while (behind < len && text[19] == '.' && text[behind] >= '0' && text[behind] <= '9')
		behind++;
	if (behind > fine)
	{
		memmove(copy + fine, text + behind, len - behind);
		len -= behind - fine;
	}
	if (!parse_iso(copy, len, &parsed))
		return false;
	*time = local_time(&parsed) - parsed.east_s * USECS_PER_SEC;
	*has_zone = parsed.has_zone;
	return true;
}

bool
cq_iso_date_parse(const char *text, Size len)
{
	IsoTime time;

	return len == 10 && parse_iso_date(text, &time);
}

/*
 * A count of seconds, milliseconds or microseconds since 1970, as a number or
 * as a string of one.  What is finer than a microsecond is rounded.
 */
bool
cq_convert_epoch(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	int scale = converter->time_format == CQ_TIME_FORMAT_EPOCH_S	? 6
				: converter->time_format == CQ_TIME_FORMAT_EPOCH_MS ? 3
																	: 0;
	CqDecimal decimal;
	int64 time_us;
	bool exact;

	if ((field->kind != CQ_FIELD_NUMBER && field->kind != CQ_FIELD_STRING) ||
		!cq_decimal_parse(field->text, field->len, &decimal))
		return cq_refuse_field(converter, field, ERRCODE_INVALID_DATETIME_FORMAT, error);
	if (!cq_decimal_to_int64(&decimal, scale, &time_us, &exact) ||
		pg_sub_s64_overflow(time_us, UNIX_EPOCH_OFFSET_US, &time_us) ||
		!IS_VALID_TIMESTAMP(time_us))
		return cq_refuse_field(converter, field, ERRCODE_DATETIME_FIELD_OVERFLOW, error);
	if (converter->type == DATEOID)
	{
		int64 days = time_us / USECS_PER_DAY - (time_us % USECS_PER_DAY < 0);

		*value = DateADTGetDatum((DateADT) days);
		return true;
	}
	*value = TimestampGetDatum(time_us);
	if (converter->typmod >= 0)
		*value = DirectFunctionCall2(timestamp_scale, *value, Int32GetDatum(converter->typmod));
	return true;
}

/* YYYY-MM-DD, a day that exists. */
static bool
parse_iso_date(const char *p, IsoTime *time)
{
	int century = two_digits(p);
	int year = two_digits(p + 2);

	time->month = two_digits(p + 5);
	time->day = two_digits(p + 8);
	if ((century | year) < 0 || p[4] != '-' || p[7] != '-')
		return false;
	time->year = century * 100 + year;
	return time->year > 0 && time->month >= 1 && time->month <= MONTHS_PER_YEAR && time->day >= 1 &&
		   time->day <= day_tab[isleap(time->year)][time->month - 1];
}

/* YYYY-MM-DD, T or a space, HH:MM:SS, perhaps a fraction, perhaps a zone. */
static bool
parse_iso(const char *p, Size len, IsoTime *time)
{
	const char *end = p + len;

	if (len < 19 || !parse_iso_date(p, time) || (p[10] != 'T' && p[10] != ' ') || p[13] != ':' ||
		p[16] != ':')
		return false;
	time->hour = two_digits(p + 11);
	time->minute = two_digits(p + 14);
	time->second = two_digits(p + 17);
	if ((time->hour | time->minute | time->second) < 0 || time->hour > 23 || time->minute > 59 ||
		time->second > 59)
		return false;
	p += 19;
	time->fraction_us = 0;
	if (p < end && *p == '.' && !parse_iso_fraction(&p, end, time))
		return false;
	time->has_zone = p < end;
	time->east_s = 0;
	return p == end || parse_iso_zone(p, end, time);
}

/* A point and one to six digits; more need rounding, which is left to others. */
static bool
parse_iso_fraction(const char **p, const char *end, IsoTime *time)
{
	const char *digit = *p + 1;
	int unit_us = USECS_PER_SEC;

	while (digit < end && *digit >= '0' && *digit <= '9')
	{
		unit_us /= 10;
		if (unit_us == 0)
			return false;
		time->fraction_us += (*digit++ - '0') * unit_us;
	}
	if (digit == *p + 1)
		return false;
	*p = digit;
	return true;
}

/* Z, +HH, +HHMM or +HH:MM. */
static bool
parse_iso_zone(const char *p, const char *end, IsoTime *time)
{
	Size len = (Size) (end - p);
	int hours;
	int minutes = 0;

	if (len == 1 && *p == 'Z')
		return true;
	if ((*p != '+' && *p != '-') || (len != 3 && len != 5 && !(len == 6 && p[3] == ':')))
		return false;
	hours = two_digits(p + 1);
	if (len > 3)
		minutes = two_digits(end - 2);
	if ((hours | minutes) < 0 || hours >= MAX_TZDISP_HOUR || minutes > 59)
		return false;
	time->east_s = hours * SECS_PER_HOUR + minutes * SECS_PER_MINUTE;
	if (*p == '-')
		time->east_s = -time->east_s;
	return true;
}

/* Seconds east of Greenwich that the session's TimeZone has at this local time. */
static int
zone_of_session(const IsoTime *time)
{
	struct pg_tm tm = {0};

	tm.tm_year = time->year;
	tm.tm_mon = time->month;
	tm.tm_mday = time->day;
	tm.tm_hour = time->hour;
	tm.tm_min = time->minute;
	tm.tm_sec = time->second;
	return -DetermineTimeZoneOffset(&tm, session_timezone);
}

/* Is there a word in it that stands for a time relative to the clock? */
static bool
depends_on_clock(const char *text, Size len)
{
	static const char *const words[] = {"now", "today", "tomorrow", "yesterday"};
	const char *p = text;
	const char *end = text + len;

	while (p < end)
	{
		const char *start = p;
		int i;

		while (p < end && ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z'))
			p++;
		for (i = 0; i < lengthof(words); i++)
		{
			if ((Size) (p - start) == strlen(words[i]) &&
				pg_strncasecmp(start, words[i], (Size) (p - start)) == 0)
				return true;
		}
		if (p == start)
			p++;
	}
	return false;
}
