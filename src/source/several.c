/*
 * several.c
 *	  Several sources as one: what a view reads that joins streams.
 *
 * A poll gives records of one of them, so a batch is of one stream.  Which one
 * is next is decided by event time, as among the partitions of a topic: the
 * one with the lowest watermark that has something, and none that is more than
 * its max_skew ahead of another one with a backlog.  So streams of different
 * pace, and history read again, open few windows.
 *
 * The partitions are those of the parts one after the other, copied: what the
 * parts know of them is taken in after each call, and what the caller has changed -
 * event times, idleness - is handed down before it.  Both never change the
 * same thing at the same time.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "source/source.h"

typedef struct SeveralSource
{
	CqSource base;
	int *first;	   /* of each part: where its partitions begin among all */
	int polled;	   /* the part that the records are of; -1 = none */
	int turn;	   /* whose turn it is among those that are equally far */
	int64 tickets; /* of mark_end() given out */
	List *marks;   /* of Mark * */
} SeveralSource;

/* What a ticket stands for in each part. */
typedef struct Mark
{
	int64 ticket;
	int64 *tickets;
} Mark;

static int several_poll(CqSource *base, int max);
static void several_advance(CqSource *base, int n);
static void several_seek(CqSource *base);
static bool several_ready(CqSource *base);
static bool several_maintain(CqSource *base);
static int64 several_mark_end(CqSource *base);
static bool several_reached(CqSource *base, int64 ticket);
static CqPlace several_place(CqSource *base, const CqPartition *partitions, int npartitions);
static void several_limit(CqSource *base, const CqPartition *partitions, int npartitions);
static bool several_unreachable(CqSource *base);
static bool several_known_since(CqSource *base, int64 at_us);
static void several_close(CqSource *base);

static void hand_down(SeveralSource *source);
static void take_up(SeveralSource *source);
static int choose(const SeveralSource *source, const bool *tried);
static TimestampTz part_time(const CqSource *part);
static bool is_too_far(const SeveralSource *source, int number);

static const CqSourceOps several_ops = {
	.poll = several_poll,
	.advance = several_advance,
	.seek = several_seek,
	.ready = several_ready,
	.has_backlog = several_ready,
	.maintain = several_maintain,
	.mark_end = several_mark_end,
	.reached = several_reached,
	.place = several_place,
	.limit = several_limit,
	.unreachable = several_unreachable,
	.known_since = several_known_since,
	.close = several_close,
};

CqSource *
cq_several_source_open(CqSource **parts, int nparts, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	SeveralSource *source = palloc0(sizeof(SeveralSource));

	source->base.ops = &several_ops;
	source->base.stream = parts[0]->stream;
	source->base.context = context;
	source->base.wakeup_fd = -1;
	source->base.nparts = nparts;
	source->base.parts = palloc(sizeof(CqSource *) * nparts);
	memcpy(source->base.parts, parts, sizeof(CqSource *) * nparts);
	source->first = palloc0(sizeof(int) * nparts);
	source->polled = -1;
	MemoryContextSwitchTo(old);
	take_up(source);
	return &source->base;
}

/* ------------------------------------------------------------------------
 * Partitions
 * ------------------------------------------------------------------------
 */

static void
hand_down(SeveralSource *source)
{
	CqSource *base = &source->base;
	int i;

	for (i = 0; i < base->nparts; i++)
		if (base->parts[i]->npartitions > 0)
			memcpy(base->parts[i]->partitions,
				   base->partitions + source->first[i],
				   sizeof(CqPartition) * base->parts[i]->npartitions);
}

static void
take_up(SeveralSource *source)
{
	CqSource *base = &source->base;
	int n = 0;
	int i;
	int j;

	for (i = 0; i < base->nparts; i++)
		n += base->parts[i]->npartitions;
	if (n > 0 && base->partitions == NULL)
		base->partitions = MemoryContextAlloc(base->context, sizeof(CqPartition) * n);
	else if (n > base->npartitions)
		base->partitions = repalloc(base->partitions, sizeof(CqPartition) * n);
	base->npartitions = n;
	for (i = n = 0; i < base->nparts; i++)
	{
		source->first[i] = n;
		for (j = 0; j < base->parts[i]->npartitions; j++, n++)
		{
			base->partitions[n] = base->parts[i]->partitions[j];
			base->partitions[n].stream = i;
		}
	}
}

/* ------------------------------------------------------------------------
 * Records
 * ------------------------------------------------------------------------
 */

/* A part that seemed to have something may have nothing for us: then the next one. */
static int
several_poll(CqSource *base, int max)
{
	SeveralSource *source = (SeveralSource *) base;
	bool *tried = palloc0(sizeof(bool) * base->nparts);
	int n = 0;
	int number;
	int i;

	source->polled = -1;
	while (n == 0 && (number = choose(source, tried)) >= 0)
	{
		CqSource *part = base->parts[number];

		tried[number] = true;
		hand_down(source);
		n = part->ops->poll(part, max);
		take_up(source);
		if (n == 0)
			continue;
		source->polled = number;
		source->turn = (number + 1) % base->nparts;
		base->records = part->records;
		for (i = 0; i < n; i++)
			base->records[i].partition += source->first[number];
	}
	pfree(tried);
	return n;
}

/* The one that is least far of those that may be read; -1 if there is none. */
static int
choose(const SeveralSource *source, const bool *tried)
{
	const CqSource *base = &source->base;
	TimestampTz lowest = DT_NOEND;
	int chosen = -1;
	int i;

	for (i = 0; i < base->nparts; i++)
	{
		int number = (source->turn + i) % base->nparts;
		TimestampTz time = part_time(base->parts[number]);

		if (tried[number] || is_too_far(source, number) || (chosen >= 0 && time >= lowest))
			continue;
		chosen = number;
		lowest = time;
	}
	return chosen;
}

/* Event time up to which a part was read; of one that was never read from, the beginning. */
static TimestampTz
part_time(const CqSource *part)
{
	TimestampTz lowest = DT_NOEND;
	TimestampTz highest = DT_NOBEGIN;
	int i;

	for (i = 0; i < part->npartitions; i++)
	{
		const CqPartition *p = &part->partitions[i];

		if (!p->caught_up)
			lowest = Min(lowest, p->max_event_time);
		highest = Max(highest, p->max_event_time);
	}
	return lowest == DT_NOEND ? highest : lowest;
}

/* More than it may be ahead of another one that has a backlog. */
static bool
is_too_far(const SeveralSource *source, int number)
{
	const CqSource *base = &source->base;
	const CqStream *stream = base->parts[number]->stream;
	TimestampTz time = part_time(base->parts[number]);
	int i;

	if (TIMESTAMP_IS_NOBEGIN(time) || stream->event_time == 0 || stream->max_skew_us < 0)
		return false;
	for (i = 0; i < base->nparts; i++)
	{
		CqSource *part = base->parts[i];
		TimestampTz other = part_time(part);

		/* as unsigned numbers any difference can be told */
		if (i != number && part->stream->event_time != 0 && time > other &&
			(uint64) time - (uint64) other > (uint64) stream->max_skew_us &&
			!part->ops->unreachable(part) && part->ops->has_backlog(part))
			return true;
	}
	return false;
}

static void
several_advance(CqSource *base, int n)
{
	SeveralSource *source = (SeveralSource *) base;
	CqSource *part;
	int i;

	if (source->polled < 0)
		return;
	part = base->parts[source->polled];
	/* the part knows its own numbers only */
	for (i = 0; i < n; i++)
		base->records[i].partition -= source->first[source->polled];
	hand_down(source);
	part->ops->advance(part, n);
	take_up(source);
	source->polled = -1;
}

static void
several_seek(CqSource *base)
{
	SeveralSource *source = (SeveralSource *) base;
	int i;

	hand_down(source);
	for (i = 0; i < base->nparts; i++)
		base->parts[i]->ops->seek(base->parts[i]);
	take_up(source);
	source->polled = -1;
}

static bool
several_ready(CqSource *base)
{
	SeveralSource *source = (SeveralSource *) base;
	bool ready = false;
	int i;

	hand_down(source);
	for (i = 0; i < base->nparts; i++)
		ready = (base->parts[i]->ops->ready(base->parts[i]) && !is_too_far(source, i)) || ready;
	take_up(source);
	return ready;
}

static bool
several_maintain(CqSource *base)
{
	SeveralSource *source = (SeveralSource *) base;
	bool changed = false;
	int i;

	hand_down(source);
	for (i = 0; i < base->nparts; i++)
		changed = base->parts[i]->ops->maintain(base->parts[i]) || changed;
	take_up(source);
	return changed;
}

/* ------------------------------------------------------------------------
 * Ends
 * ------------------------------------------------------------------------
 */

static int64
several_mark_end(CqSource *base)
{
	SeveralSource *source = (SeveralSource *) base;
	MemoryContext old = MemoryContextSwitchTo(base->context);
	Mark *mark = palloc(sizeof(Mark));
	int i;

	mark->ticket = ++source->tickets;
	mark->tickets = palloc(sizeof(int64) * base->nparts);
	for (i = 0; i < base->nparts; i++)
		mark->tickets[i] = base->parts[i]->ops->mark_end(base->parts[i]);
	source->marks = lappend(source->marks, mark);
	MemoryContextSwitchTo(old);
	return mark->ticket;
}

/* A ticket that was reached is given up. */
static bool
several_reached(CqSource *base, int64 ticket)
{
	SeveralSource *source = (SeveralSource *) base;
	ListCell *lc;

	foreach (lc, source->marks)
	{
		Mark *mark = lfirst(lc);
		int i;

		if (mark->ticket != ticket)
			continue;
		for (i = 0; i < base->nparts; i++)
			if (!base->parts[i]->ops->reached(base->parts[i], mark->tickets[i]))
				return false;
		source->marks = foreach_delete_current(source->marks, lc);
		pfree(mark->tickets);
		pfree(mark);
		return true;
	}
	return true;
}

/* A view of several streams shares its task with none. */
static CqPlace
several_place(CqSource *base, const CqPartition *partitions, int npartitions)
{
	return CQ_PLACE_APART;
}

static void
several_limit(CqSource *base, const CqPartition *partitions, int npartitions)
{
}

static bool
several_unreachable(CqSource *base)
{
	int i;

	for (i = 0; i < base->nparts; i++)
		if (base->parts[i]->ops->unreachable(base->parts[i]))
			return true;
	return false;
}

/* Each is asked, so that all answer at once. */
static bool
several_known_since(CqSource *base, int64 at_us)
{
	bool known = true;
	int i;

	for (i = 0; i < base->nparts; i++)
		known = base->parts[i]->ops->known_since(base->parts[i], at_us) && known;
	return known;
}

/* The parts are in memory of their own. */
static void
several_close(CqSource *base)
{
	int i;

	for (i = 0; i < base->nparts; i++)
		base->parts[i]->ops->close(base->parts[i]);
	base->nparts = 0;
}
