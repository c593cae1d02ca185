/*
 * events.c
 *	  Made-up orders, the same ones for the same seed.
 *
 * Every field is computed from a hash of (seed, number of the event), so any
 * event can be made without the ones before it: a test that produces in
 * several runs still gets one consistent sequence, and JSON and CSV of an
 * event always agree.
 *
 * Formatting is by hand because snprintf() alone would cost more than sending.
 */
#include "events.h"

#include <string.h>

static const char *const countries[] = {"DE", "FR", "IT", "ES", "PL", "NL", "SE", "US"};

static uint64_t mix(uint64_t x);
static bool chance(uint64_t hash, double share);
static char *put_text(char *p, const char *text);
static char *put_int(char *p, int64_t value);
static char *put_digits(char *p, int64_t value, int digits);
static char *put_amount(char *p, int64_t cents);
static char *put_time(char *p, int64_t us, TimeFormat format);
static char *put_iso(char *p, int64_t us);

void
event_make(const EventSpec *spec, int64_t seq, Event *event)
{
	uint64_t base = mix(spec->seed ^ mix((uint64_t) seq));
	int64_t time_us = spec->start_us + seq * spec->step_us;

	event->seq = seq;
	event->key = (int64_t) (mix(base + 1) % (uint64_t) spec->keys);
	event->customer_id = (int64_t) (mix(base + 2) % (uint64_t) spec->customers);
	event->amount_cents = (int64_t) (mix(base + 3) % 100000);
	event->country = countries[mix(base + 4) % 8];
	if (spec->disorder_us > 0)
		time_us -= (int64_t) (mix(base + 5) % (uint64_t) (spec->disorder_us + 1));
	if (chance(mix(base + 6), spec->late_share))
		time_us -= spec->late_by_us;
	event->ordered_at_us = time_us;
	event->bad = chance(mix(base + 7), spec->bad_share);
	event->kind = spec->bad_kind;
	if (event->kind == BAD_MIXED)
		event->kind = (BadKind) (mix(base + 8) % BAD_MIXED);
}

size_t
event_json(const EventSpec *spec, const Event *event, char *buffer)
{
	char *p = buffer;
	int padding;

	p = put_int(put_text(p, "{\"seq\":"), event->seq);
	p = put_int(put_text(p, ",\"key\":"), event->key);
	p = put_int(put_text(p, ",\"customer_id\":"), event->customer_id);
	p = put_text(p, ",\"amount\":");
	if (event->bad && event->kind == BAD_AMOUNT)
		p = put_text(p, "\"a lot\"");
	else
		p = put_amount(p, event->amount_cents);
	p = put_text(p, ",\"ordered_at\":");
	if (event->bad && event->kind == BAD_TIME)
		p = put_text(p, "\"yesterday-ish\"");
	else
		p = put_time(p, event->ordered_at_us, spec->time_format);
	p = put_text(p, ",\"address\":{\"country\":\"");
	p = put_text(put_text(p, event->country), "\"}");
	if (event->bad && event->kind == BAD_JSON)
		return (size_t) (put_text(p, ",\"note\":\"") - buffer);
	padding = spec->size - (int) (p - buffer) - (int) strlen(",\"note\":\"\"}");
	if (padding > 0)
	{
		p = put_text(p, ",\"note\":\"");
		for (int i = 0; i < padding; i++)
			*p++ = (char) ('a' + (event->seq + i) % 26);
		*p++ = '"';
	}
	*p++ = '}';
	return (size_t) (p - buffer);
}

size_t
event_csv(const Event *event, int partition, int64_t offset, char *buffer)
{
	char *p = buffer;

	p = put_int(p, partition);
	*p++ = ',';
	p = put_int(p, offset);
	*p++ = ',';
	p = put_int(p, event->seq);
	*p++ = ',';
	p = put_int(p, event->key);
	*p++ = ',';
	p = put_int(p, event->customer_id);
	*p++ = ',';
	p = put_amount(p, event->amount_cents);
	*p++ = ',';
	p = put_iso(p, event->ordered_at_us);
	*p++ = ',';
	p = put_text(p, event->country);
	p = put_text(p, event->bad ? ",t\n" : ",f\n");
	return (size_t) (p - buffer);
}

/* A well-spread 64-bit permutation: two rounds of xor-shift and multiplication. */
static uint64_t
mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 31)) * UINT64_C(0xd6e8feb86659fd93);
	x = (x ^ (x >> 29)) * UINT64_C(0xa0761d6478bd642f);
	return x ^ (x >> 32);
}

static bool
chance(uint64_t hash, double share)
{
	return (double) (hash >> 11) * 0x1p-53 < share;
}

static char *
put_text(char *p, const char *text)
{
	size_t length = strlen(text);

	memcpy(p, text, length);
	return p + length;
}

static char *
put_int(char *p, int64_t value)
{
	char digits[20];
	int n = 0;

	if (value < 0)
	{
		*p++ = '-';
		value = -value;
	}
	do
	{
		digits[n++] = (char) ('0' + value % 10);
		value /= 10;
	} while (value > 0);
	while (n > 0)
		*p++ = digits[--n];
	return p;
}

static char *
put_digits(char *p, int64_t value, int digits)
{
	for (int i = digits - 1; i >= 0; i--)
	{
		p[i] = (char) ('0' + value % 10);
		value /= 10;
	}
	return p + digits;
}

static char *
put_amount(char *p, int64_t cents)
{
	p = put_int(p, cents / 100);
	*p++ = '.';
	return put_digits(p, cents % 100, 2);
}

static char *
put_time(char *p, int64_t us, TimeFormat format)
{
	switch (format)
	{
		case TIME_EPOCH_S:
			p = put_int(p, us / 1000000);
			*p++ = '.';
			return put_digits(p, us % 1000000, 6);
		case TIME_EPOCH_MS:
			return put_int(p, us / 1000);
		case TIME_EPOCH_US:
			return put_int(p, us);
		case TIME_ISO:
			break;
	}
	*p++ = '"';
	p = put_iso(p, us);
	*p++ = '"';
	return p;
}

/* Times from 1970 on only; the calendar repeats every 146097 days (400 years). */
static char *
put_iso(char *p, int64_t us)
{
	int64_t day = us / INT64_C(86400000000);
	int64_t rest = us % INT64_C(86400000000);
	int64_t since = day + 719468; /* days since 0000-03-01 */
	int64_t cycle = since / 146097;
	int64_t in_cycle = since % 146097;
	int64_t year = (in_cycle - in_cycle / 1460 + in_cycle / 36524 - in_cycle / 146096) / 365;
	int64_t in_year = in_cycle - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * in_year + 2) / 153; /* 0 = March */

	p = put_digits(p, cycle * 400 + year + (month >= 10), 4);
	*p++ = '-';
	p = put_digits(p, month < 10 ? month + 3 : month - 9, 2);
	*p++ = '-';
	p = put_digits(p, in_year - (153 * month + 2) / 5 + 1, 2);
	*p++ = 'T';
	p = put_digits(p, rest / INT64_C(3600000000), 2);
	*p++ = ':';
	p = put_digits(p, rest / 60000000 % 60, 2);
	*p++ = ':';
	p = put_digits(p, rest / 1000000 % 60, 2);
	*p++ = '.';
	p = put_digits(p, rest % 1000000, 6);
	*p++ = 'Z';
	return p;
}
