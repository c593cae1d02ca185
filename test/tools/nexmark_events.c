/*
 * nexmark_events.c
 *	  The events of two streaming benchmarks.
 *
 * Nexmark: of every 50 events one is a new person, three are new auctions and
 * 46 are bids.  Half of all bids go to one auction of each hundred and three
 * quarters come from one person of each hundred; the rest spreads over what is
 * recent.  Prices are log-uniform.  All that is random is drawn from a generator
 * seeded by the event's number, so any event can be made on its own.
 *
 * A stream that is shuffled in groups has each event's number moved within its
 * group by a multiplication, which is a permutation as 953 is prime and the
 * group no multiple of it.
 */
#include "nexmark_events.h"

#include <math.h>

#include "text.h"

#define FIRST_ID	   1000
#define CYCLE		   50
#define AUCTIONS	   3 /* per cycle, behind one person */
#define HOT_EVERY	   100
#define RECENT_PEOPLE  1000
#define RECENT_AUCTION 100
#define LEAD		   10	/* people and auctions that are referred to before they exist */
#define LIFETIME	   1666 /* events until about a hundred more auctions are open */
#define CHANNELS	   10000
#define SHUFFLE		   953

#define BID_EXTRA	  68 /* bytes of padding, plus or minus a fifth */
#define AUCTION_EXTRA 350
#define PERSON_EXTRA  120

static uint64_t draw(uint64_t *random);
static int64_t draw_below(uint64_t *random, int64_t n);
static int64_t draw_price(uint64_t *random);
static int64_t draw_delay(const NexmarkSpec *spec, uint64_t *random);
static int64_t recent_person(uint64_t *random, int64_t last);
static void make_bid(NexmarkEvent *event, int64_t last_person, int64_t last_auction);
static void make_auction(const NexmarkSpec *spec, NexmarkEvent *event, int64_t last_person);
static char *put_letters(char *p, uint64_t *random, int n);
static char *put_word(char *p, uint64_t *random, int max, char separator);
static char *put_extra(char *p, uint64_t *random, int average);
static char *put_channel(char *p, int channel);
static char *put_url(char *p, int channel);
static char *put_person(char *p, const NexmarkEvent *event);
static char *put_auction(char *p, const NexmarkEvent *event);
static char *put_bid(char *p, const NexmarkEvent *event);
static char *put_uuid(char *p, uint64_t a);

static uint64_t
draw(uint64_t *random)
{
	*random += UINT64_C(0x9e3779b97f4a7c15);
	return text_mix(*random);
}

static int64_t
draw_below(uint64_t *random, int64_t n)
{
	return (int64_t) (draw(random) % (uint64_t) n);
}

static double
draw_share(uint64_t *random)
{
	return (double) (draw(random) >> 11) * 0x1p-53;
}

static int64_t
draw_price(uint64_t *random)
{
	return (int64_t) (100 * pow(10, 6 * draw_share(random)) + 0.5);
}

/* Of a late event: up to the longest, in whole milliseconds. */
static int64_t
draw_delay(const NexmarkSpec *spec, uint64_t *random)
{
	return (1 + draw_below(random, spec->late_us / 1000)) * 1000;
}

/* One of the last thousand, or of the next few. */
static int64_t
recent_person(uint64_t *random, int64_t last)
{
	int64_t active = last + 1 < RECENT_PEOPLE ? last + 1 : RECENT_PEOPLE;

	return last + 1 - active + draw_below(random, active + LEAD);
}

static int64_t
event_time(const NexmarkSpec *spec, int64_t number)
{
	/* whole milliseconds, as the benchmark has them */
	return spec->start_us + (int64_t) ((double) number * 1000 / spec->rate) * 1000;
}

void
nexmark_make(const NexmarkSpec *spec, int64_t place, NexmarkEvent *event)
{
	int64_t number = place / spec->group * spec->group + place * SHUFFLE % spec->group;
	int64_t cycle = number / CYCLE;
	int64_t rest = number % CYCLE;
	int64_t last_auction = cycle * AUCTIONS + (rest == 0 ? -1 : rest <= AUCTIONS ? rest - 1 : 2);

	event->number = number;
	event->random = text_mix(spec->seed ^ text_mix((uint64_t) number));
	event->time_us = event_time(spec, number);
	if (spec->late_share > 0 && draw_share(&event->random) < spec->late_share)
		event->time_us -= draw_delay(spec, &event->random);
	if (rest == 0)
	{
		event->kind = NEXMARK_PERSON;
		event->id = FIRST_ID + cycle;
	}
	else if (rest <= AUCTIONS)
	{
		event->kind = NEXMARK_AUCTION;
		event->id = FIRST_ID + last_auction;
		make_auction(spec, event, cycle);
	}
	else
		make_bid(event, cycle, last_auction);
}

void
nexmark_sentinel(const NexmarkSpec *spec, int64_t place, int64_t time_us, NexmarkEvent *event)
{
	event->number = place;
	event->random = text_mix(spec->seed ^ text_mix((uint64_t) place));
	event->time_us = time_us;
	make_bid(event, 0, 0);
}

static void
make_bid(NexmarkEvent *event, int64_t last_person, int64_t last_auction)
{
	uint64_t *random = &event->random;
	int64_t oldest = last_auction > RECENT_AUCTION ? last_auction - RECENT_AUCTION : 0;

	event->kind = NEXMARK_BID;
	if (draw_below(random, 2) == 0)
		event->auction = last_auction / HOT_EVERY * HOT_EVERY;
	else
		event->auction = oldest + draw_below(random, last_auction - oldest + LEAD + 1);
	if (draw_below(random, 4) != 0)
		event->bidder = last_person / HOT_EVERY * HOT_EVERY + 1;
	else
		event->bidder = recent_person(random, last_person);
	event->auction += FIRST_ID;
	event->bidder += FIRST_ID;
	event->price = draw_price(random);
	event->channel = (int) (draw_below(random, 2) == 0 ? draw_below(random, 4)
													   : 4 + draw_below(random, CHANNELS));
}

static void
make_auction(const NexmarkSpec *spec, NexmarkEvent *event, int64_t last_person)
{
	uint64_t *random = &event->random;
	int64_t horizon_us = event_time(spec, event->number + LIFETIME) - event->time_us;

	if (draw_below(random, 4) != 0)
		event->seller = last_person / HOT_EVERY * HOT_EVERY;
	else
		event->seller = recent_person(random, last_person);
	event->seller += FIRST_ID;
	event->category = 10 + draw_below(random, 5);
	event->initial_bid = draw_price(random);
	event->reserve = event->initial_bid + draw_price(random);
	event->expires_us = event->time_us + (1 + draw_below(random, 2 * horizon_us / 1000 + 1)) * 1000;
}

size_t
nexmark_json(const NexmarkEvent *event, char *buffer)
{
	char *p = put_int(put_text(buffer, "{\"event_type\":"), (int64_t) event->kind);

	p = event->kind == NEXMARK_PERSON ? put_person(p, event) : put_text(p, ",\"person\":null");
	p = event->kind == NEXMARK_AUCTION ? put_auction(p, event) : put_text(p, ",\"auction\":null");
	p = event->kind == NEXMARK_BID ? put_bid(p, event) : put_text(p, ",\"bid\":null");
	*p++ = '}';
	return (size_t) (p - buffer);
}

static char *
put_person(char *p, const NexmarkEvent *event)
{
	static const char *const first[] =
		{"Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ina", "Jan", "Kim"};
	static const char *const last[] =
		{"Ash", "Bell", "Cole", "Dyer", "Ernst", "Fox", "Grey", "Hill", "Iver"};
	static const char *const cities[] = {"Phoenix",
										 "Boise",
										 "Portland",
										 "Bend",
										 "Redmond",
										 "Seattle",
										 "Kent",
										 "Cheyenne",
										 "Oakland",
										 "Palo Alto"};
	static const char *const states[] = {"AZ", "CA", "ID", "OR", "WA", "WY"};
	uint64_t random = event->random;

	p = put_int(put_text(p, ",\"person\":{\"id\":"), event->id);
	p = put_text(put_text(p, ",\"name\":\""), first[draw_below(&random, 11)]);
	*p++ = ' ';
	p = put_text(p, last[draw_below(&random, 9)]);
	p = put_word(put_text(p, "\",\"email_address\":\""), &random, 7, '_');
	*p++ = '@';
	p = put_text(put_word(p, &random, 5, '_'), ".com\",\"credit_card\":\"");
	for (int i = 0; i < 4; i++)
	{
		p = put_digits(p, draw_below(&random, 10000), 4);
		*p++ = i < 3 ? ' ' : '"';
	}
	p = put_text(put_text(p, ",\"city\":\""), cities[draw_below(&random, 10)]);
	p = put_text(put_text(p, "\",\"state\":\""), states[draw_below(&random, 6)]);
	p = put_iso(put_text(p, "\",\"date_time\":\""), event->time_us);
	p = put_extra(put_text(p, "\",\"extra\":\""), &random, PERSON_EXTRA);
	return put_text(p, "\"}");
}

static char *
put_auction(char *p, const NexmarkEvent *event)
{
	uint64_t random = event->random;

	p = put_int(put_text(p, ",\"auction\":{\"id\":"), event->id);
	p = put_word(put_text(p, ",\"item_name\":\""), &random, 20, ' ');
	p = put_word(put_text(p, "\",\"description\":\""), &random, 100, ' ');
	p = put_int(put_text(p, "\",\"initial_bid\":"), event->initial_bid);
	p = put_int(put_text(p, ",\"reserve\":"), event->reserve);
	p = put_iso(put_text(p, ",\"date_time\":\""), event->time_us);
	p = put_iso(put_text(p, "\",\"expires\":\""), event->expires_us);
	p = put_int(put_text(p, "\",\"seller\":"), event->seller);
	p = put_int(put_text(p, ",\"category\":"), event->category);
	p = put_extra(put_text(p, ",\"extra\":\""), &random, AUCTION_EXTRA);
	return put_text(p, "\"}");
}

static char *
put_bid(char *p, const NexmarkEvent *event)
{
	uint64_t random = event->random;

	p = put_int(put_text(p, ",\"bid\":{\"auction\":"), event->auction);
	p = put_int(put_text(p, ",\"bidder\":"), event->bidder);
	p = put_int(put_text(p, ",\"price\":"), event->price);
	p = put_channel(put_text(p, ",\"channel\":\""), event->channel);
	p = put_url(put_text(p, "\",\"url\":\""), event->channel);
	p = put_iso(put_text(p, "\",\"date_time\":\""), event->time_us);
	p = put_extra(put_text(p, "\",\"extra\":\""), &random, BID_EXTRA);
	return put_text(p, "\"}");
}

static char *
put_channel(char *p, int channel)
{
	static const char *const hot[] = {"Google", "Facebook", "Baidu", "Apple"};

	return channel < 4 ? put_text(p, hot[channel]) : put_int(put_text(p, "channel-"), channel - 4);
}

/* The same for every bid through a channel. */
static char *
put_url(char *p, int channel)
{
	uint64_t random = text_mix((uint64_t) channel);

	p = put_text(p, "https://auctions.example/");
	for (int i = 0; i < 3; i++)
	{
		p = put_word(p, &random, 5, '_');
		*p++ = '/';
	}
	p = put_text(p, "item.htm?query=1");
	if (channel >= 4 && draw_below(&random, 10) != 0)
		p = put_int(put_text(p, "&channel_id="), (int64_t) (text_mix((uint64_t) channel) >> 33));
	return p;
}

/* Lower-case letters; a draw is good for twelve. */
static char *
put_letters(char *p, uint64_t *random, int n)
{
	uint64_t bits = 0;

	for (int i = 0; i < n; i++)
	{
		if (i % 12 == 0)
			bits = draw(random);
		*p++ = (char) ('a' + (bits & 31) % 26);
		bits >>= 5;
	}
	return p;
}

/* Three to max - 1 letters, one in thirteen a separator. */
static char *
put_word(char *p, uint64_t *random, int max, char separator)
{
	int n = 3 + (int) draw_below(random, max - 3);
	char *end = put_letters(p, random, n);

	for (int i = 1; i < n - 1; i++)
		if (draw_below(random, 13) == 0)
			p[i] = separator;
	return end;
}

static char *
put_extra(char *p, uint64_t *random, int average)
{
	int spread = average / 5;

	return put_letters(p, random, average - spread + (int) draw_below(random, 2 * spread));
}

size_t
nexmark_csv(const NexmarkEvent *event, int64_t place, bool sentinel, char *buffer)
{
	bool bid = event->kind == NEXMARK_BID;
	char *p = put_int(buffer, place);

	*p++ = ',';
	p = put_int(p, (int64_t) event->kind);
	*p++ = ',';
	p = put_int(p, bid ? event->auction : event->id);
	*p++ = ',';
	if (event->kind != NEXMARK_PERSON)
		p = put_int(p, bid ? event->bidder : event->seller);
	*p++ = ',';
	if (bid)
		p = put_int(p, event->price);
	*p++ = ',';
	if (bid)
		p = put_channel(p, event->channel);
	*p++ = ',';
	p = put_iso(p, event->time_us);
	p = put_text(p, sentinel ? ",t\n" : ",f\n");
	return (size_t) (p - buffer);
}

/* ------------------------------------------------------------------------
 * Yahoo streaming benchmark
 * ------------------------------------------------------------------------
 */

void
ysb_make(const NexmarkSpec *spec, int64_t place, YsbEvent *event)
{
	event->number = place / spec->group * spec->group + place * SHUFFLE % spec->group;
	event->random = text_mix(spec->seed ^ text_mix((uint64_t) event->number));
	event->time_us = event_time(spec, event->number);
	if (spec->late_share > 0 && draw_share(&event->random) < spec->late_share)
		event->time_us -= draw_delay(spec, &event->random);
	event->ad = (int) draw_below(&event->random, YSB_ADS);
	event->kind = (int) draw_below(&event->random, 3);
}

size_t
ysb_json(const YsbEvent *event, char *buffer)
{
	static const char *const ad_types[] = {"banner", "modal", "sponsored-search", "mail", "mobile"};
	static const char *const kinds[] = {"view", "click", "purchase"};
	uint64_t random = event->random;
	char *p = buffer;

	p = put_uuid(put_text(p, "{\"user_id\":\""), 1000000 + draw_below(&random, 100));
	p = put_uuid(put_text(p, "\",\"page_id\":\""), 2000000 + draw_below(&random, 100));
	p = put_uuid(put_text(p, "\",\"ad_id\":\""), (uint64_t) event->ad);
	p = put_text(put_text(p, "\",\"ad_type\":\""), ad_types[draw_below(&random, 5)]);
	p = put_text(put_text(p, "\",\"event_type\":\""), kinds[event->kind]);
	p = put_int(put_text(p, "\",\"event_time\":\""), event->time_us / 1000);
	p = put_text(p, "\",\"ip_address\":\"1.2.3.4\"}");
	return (size_t) (p - buffer);
}

size_t
ysb_csv(const YsbEvent *event, int64_t place, bool sentinel, char *buffer)
{
	char *p = put_int(buffer, place);

	*p++ = ',';
	p = put_int(p, event->ad);
	*p++ = ',';
	p = put_int(p, event->kind);
	*p++ = ',';
	p = put_iso(p, event->time_us);
	p = put_text(p, sentinel ? ",t\n" : ",f\n");
	return (size_t) (p - buffer);
}

size_t
ysb_ad_csv(int ad, char *buffer)
{
	char *p = put_int(buffer, ad);

	*p++ = ',';
	p = put_uuid(p, (uint64_t) ad);
	*p++ = ',';
	p = put_uuid(p, (uint64_t) (3000000 + ad % YSB_CAMPAIGNS));
	*p++ = '\n';
	return (size_t) (p - buffer);
}

static char *
put_uuid(char *p, uint64_t number)
{
	static const char hex[] = "0123456789abcdef";
	uint64_t words[2] = {text_mix(number), text_mix(~number)};

	for (int i = 0; i < 32; i++)
	{
		if (i == 8 || i == 12 || i == 16 || i == 20)
			*p++ = '-';
		*p++ = hex[words[i / 16] >> (i % 16 * 4) & 15];
	}
	return p;
}
