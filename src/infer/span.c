/*
 * span.c
 *	  Lengths of time as people write them.
 */
#include "postgres.h"

#include "datatype/timestamp.h"

#include "infer/span.h"

static const struct
{
	int64 us;
	const char *name;
} units[] = {
	{USECS_PER_DAY, "day"},
	{USECS_PER_HOUR, "hour"},
	{USECS_PER_MINUTE, "minute"},
	{USECS_PER_SEC, "second"},
	{1000, "millisecond"},
	{1, "microsecond"},
};

int64
cq_span_round_up(int64 us)
{
	static const int seconds[] = {1, 2, 5, 10, 15, 30};
	static const int hours[] = {1, 2, 3, 6, 12};
	int i;

	for (i = 0; i < lengthof(seconds); i++)
		if (us <= seconds[i] * USECS_PER_SEC)
			return seconds[i] * USECS_PER_SEC;
	for (i = 0; i < lengthof(seconds); i++)
		if (us <= seconds[i] * USECS_PER_MINUTE)
			return seconds[i] * USECS_PER_MINUTE;
	for (i = 0; i < lengthof(hours); i++)
		if (us <= hours[i] * USECS_PER_HOUR)
			return hours[i] * USECS_PER_HOUR;
	return (us + USECS_PER_DAY - 1) / USECS_PER_DAY * USECS_PER_DAY;
}

char *
cq_span_text(int64 us)
{
	int i;

	for (i = 0; i < lengthof(units); i++)
	{
		double count = (double) us / units[i].us;
		char *text;

		if (us < units[i].us)
			continue;
		text = psprintf("%.1f", count);
		if (strlen(text) > 2 && strcmp(text + strlen(text) - 2, ".0") == 0)
			text[strlen(text) - 2] = '\0';
		return psprintf("%s %s%s", text, units[i].name, strcmp(text, "1") == 0 ? "" : "s");
	}
	return pstrdup("0 seconds");
}

char *
cq_span_exact(int64 us)
{
	int64 count;
	int i;

	if (us == 0)
		return pstrdup("0");
	for (i = 0; us % units[i].us != 0; i++)
		continue;
	count = us / units[i].us;
	return psprintf("%lld %s%s", (long long) count, units[i].name, count == 1 ? "" : "s");
}
