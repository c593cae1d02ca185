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
#include "text.h"

static const char *const countries[] = {"DE", "FR", "IT", "ES", "PL", "NL", "SE", "US"};

static bool chance(uint64_t hash, double share);
static char *put_amount(char *p, int64_t cents);
static char *put_time(char *p, int64_t us, TimeFormat format);

void
event_make(const EventSpec *spec, int64_t seq, Event *event)
{
	uint64_t base = text_mix(spec->seed ^ text_mix((uint64_t) seq));
	int64_t time_us = spec->start_us + seq * spec->step_us;

	event->seq = seq;
	event->key = (int64_t) (text_mix(base + 1) % (uint64_t) spec->keys);
	event->customer_id = (int64_t) (text_mix(base + 2) % (uint64_t) spec->customers);
	event->amount_cents = (int64_t) (text_mix(base + 3) % 100000);
	event->country = countries[text_mix(base + 4) % 8];
	if (spec->disorder_us > 0)
		time_us -= (int64_t) (text_mix(base + 5) % (uint64_t) (spec->disorder_us + 1));
	if (chance(text_mix(base + 6), spec->late_share))
		time_us -= spec->late_by_us;
	event->ordered_at_us = time_us;
	event->bad = chance(text_mix(base + 7), spec->bad_share);
	event->kind = spec->bad_kind;
	if (event->kind == BAD_MIXED)
		event->kind = (BadKind) (text_mix(base + 8) % BAD_MIXED);
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

static bool
chance(uint64_t hash, double share)
{
	return (double) (hash >> 11) * 0x1p-53 < share;
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
