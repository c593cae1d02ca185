/*
 * events.h
 *	  The rows that the producer makes up: a pure function of seed and number.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVENT_MAX_SIZE 65536 /* no JSON or CSV text of an event is longer */

/* How the time is written into the JSON text. */
typedef enum TimeFormat
{
	TIME_ISO,
	TIME_EPOCH_S,
	TIME_EPOCH_MS,
	TIME_EPOCH_US
} TimeFormat;

/* What is wrong with a bad record. */
typedef enum BadKind
{
	BAD_JSON,	/* the text breaks off */
	BAD_AMOUNT, /* amount is no number */
	BAD_TIME,	/* ordered_at is no time */
	BAD_MIXED	/* one of them, by chance */
} BadKind;

typedef struct EventSpec
{
	uint64_t seed;
	int64_t keys;
	int64_t customers;
	int64_t start_us; /* event time of event 0, microseconds since 1970 */
	int64_t step_us;
	int64_t disorder_us;
	double late_share;
	int64_t late_by_us;
	double bad_share;
	BadKind bad_kind;
	TimeFormat time_format;
	int size; /* JSON texts are padded to this many bytes */
} EventSpec;

typedef struct Event
{
	int64_t seq;
	int64_t key;
	int64_t customer_id;
	int64_t amount_cents;
	int64_t ordered_at_us;
	const char *country; /* two letters */
	bool bad;
	BadKind kind;
} Event;

/* Event number seq. */
extern void event_make(const EventSpec *spec, int64_t seq, Event *event);

/* Write the event as JSON; returns the length.  buffer has EVENT_MAX_SIZE bytes. */
extern size_t event_json(const EventSpec *spec, const Event *event, char *buffer);

/*
 * Write the event as a line of CSV (partition, offset, seq, key, customer_id,
 * amount, ordered_at, country, bad); returns the length.
 */
extern size_t event_csv(const Event *event, int partition, int64_t offset, char *buffer);
