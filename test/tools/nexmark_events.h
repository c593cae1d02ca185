/*
 * nexmark_events.h
 *	  The events of two streaming benchmarks, as pure functions of seed and
 *	  number: Nexmark (persons, auctions and bids of an auction house) and the
 *	  Yahoo streaming benchmark (views of advertisements).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NEXMARK_MAX_SIZE 2048 /* no JSON or CSV text of an event is longer */

typedef struct NexmarkSpec
{
	uint64_t seed;
	int64_t start_us;  /* event time of event 0, microseconds since 1970 */
	double rate;	   /* events per second of event time */
	int64_t group;	   /* so many neighbouring events are shuffled; 1 = in order */
	double late_share; /* of events that are up to late_us older than their turn */
	int64_t late_us;
} NexmarkSpec;

typedef enum NexmarkKind
{
	NEXMARK_PERSON,
	NEXMARK_AUCTION,
	NEXMARK_BID
} NexmarkKind;

typedef struct NexmarkEvent
{
	int64_t number; /* of the event; decides all else */
	NexmarkKind kind;
	int64_t time_us;
	int64_t id; /* of a person or auction */

	/* bids */
	int64_t auction;
	int64_t bidder;
	int64_t price;
	int channel; /* 0-3: those that get half of all bids; else 4 + one of 10,000 */

	/* auctions */
	int64_t seller;
	int64_t category;
	int64_t initial_bid;
	int64_t reserve;
	int64_t expires_us;

	uint64_t random; /* for what is only text */
} NexmarkEvent;

/* The event at a place of the stream, which in a shuffled one has another number. */
extern void nexmark_make(const NexmarkSpec *spec, int64_t place, NexmarkEvent *event);

/* A bid that is later than all events before. */
extern void nexmark_sentinel(const NexmarkSpec *spec, int64_t place, int64_t time_us,
							 NexmarkEvent *event);

/* As JSON, one object with all kinds of events in it; returns the length. */
extern size_t nexmark_json(const NexmarkEvent *event, char *buffer);

/* A line of CSV: place, kind, auction, bidder, price, channel, time, sentinel. */
extern size_t nexmark_csv(const NexmarkEvent *event, int64_t place, bool sentinel, char *buffer);

#define YSB_ADS		  1000
#define YSB_CAMPAIGNS 100

typedef struct YsbEvent
{
	int64_t number;
	int64_t time_us;
	int ad;
	int kind; /* 0 = view, 1 = click, 2 = purchase */
	uint64_t random;
} YsbEvent;

extern void ysb_make(const NexmarkSpec *spec, int64_t place, YsbEvent *event);
extern size_t ysb_json(const YsbEvent *event, char *buffer);

/* A line of CSV: place, number of the ad, kind, time, sentinel. */
extern size_t ysb_csv(const YsbEvent *event, int64_t place, bool sentinel, char *buffer);

/* A line of CSV: number of the ad, its id, the id of its campaign. */
extern size_t ysb_ad_csv(int ad, char *buffer);
