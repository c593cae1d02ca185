/*
 * watermark.c
 *	  How far event time has advanced in what a task reads.
 *
 * A partition's watermark is the highest event time seen in it minus its
 * stream's bound on disorder; the task's is the lowest over all partitions of
 * all its streams, idle ones left out.  So a stream that is idle as a whole is
 * left out while another one is not.  A view's, which the run keeps, is the
 * highest value that its task's ever had for it.
 *
 * A partition that is behind that watermark - new, or woken after it
 * was idle - cannot take back what was already promised.  It holds the
 * watermark only while it has a known backlog: then it will soon catch up, and
 * waiting for it keeps its coming events from being late.
 *
 * History is read before all else and in any order, so nothing of it is late: the
 * watermark is held until it is in, and then moves once.
 *
 * Idle
 *	A partition is idle when nothing was there to be read for idle_timeout, as
 *	every answer of that time says, and one that was asked for after it.  Time in
 *	which there could be no answers does not count and ends the spell: when the
 *	source is within reach again, what it has held back must be read first.
 *
 * Invariants
 *	W1. wm->mark never moves back, not even over a restart: it is saved with the
 *		positions, so that a partition that was left behind, and has no backlog,
 *		holds nothing up again.
 *	W2. With one partition that never went idle, wm->mark after an event is a
 *		function of the records up to it alone.
 *
 * Locking: none; only the task's own worker touches this state.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "clock.h"
#include "source/watermark.h"

static TimestampTz partition_mark(const CqPartition *partition);
static bool partition_holds(const CqWatermark *wm, const CqPartition *partition);

/* Event times are finite; what would fall below the range of timestamps counts as none. */
static TimestampTz
partition_mark(const CqPartition *partition)
{
	if (partition->max_event_time < MIN_TIMESTAMP + partition->out_of_orderness_us)
		return DT_NOBEGIN;
	return partition->max_event_time - partition->out_of_orderness_us;
}

static bool
partition_holds(const CqWatermark *wm, const CqPartition *partition)
{
	if (partition->idle)
		return false;
	return partition_mark(partition) >= wm->mark || !partition->caught_up;
}

void
cq_watermark_see(CqWatermark *wm, CqSource *source, int partition, TimestampTz time)
{
	CqPartition *p = &source->partitions[partition];
	TimestampTz before = partition_mark(p);
	bool woken = p->idle;

	p->idle = false;
	if (time <= p->max_event_time)
	{
		p->max_disorder_us = Max(p->max_disorder_us, p->max_event_time - time);
		if (!woken)
			return;
	}
	p->max_event_time = Max(p->max_event_time, time);
	/* only the partition that was lowest can raise the minimum */
	if (source->npartitions == 1 || before <= wm->mark || woken)
		cq_watermark_refresh(wm, source);
}

void
cq_watermark_refresh(CqWatermark *wm, CqSource *source)
{
	TimestampTz lowest = DT_NOEND;
	int i;

	if (wm->held)
		return;
	/* a stream of which nothing is known yet may have anything */
	for (i = 0; i < source->nparts; i++)
		if (source->parts[i]->npartitions == 0)
			return;
	for (i = 0; i < source->npartitions; i++)
	{
		CqPartition *p = &source->partitions[i];

		if (partition_holds(wm, p))
			lowest = Min(lowest, partition_mark(p));
	}
	if (lowest == DT_NOEND)
	{
		/* nobody holds it: the furthest of the idle ones counts */
		lowest = DT_NOBEGIN;
		for (i = 0; i < source->npartitions; i++)
			lowest = Max(lowest, partition_mark(&source->partitions[i]));
	}
	wm->mark = Max(wm->mark, lowest);
}

void
cq_watermark_note(CqSource *source, int64 now_us, bool unreachable)
{
	int i;

	for (i = 0; i < source->npartitions; i++)
	{
		CqPartition *p = &source->partitions[i];

		if (unreachable)
			p->idle = false;
		if (!p->caught_up || unreachable)
			p->caught_up_since_us = p->idle_due_us = 0;
		else if (p->caught_up_since_us == 0)
			p->caught_up_since_us = Max(now_us, 1);
	}
}

int64
cq_watermark_idle(CqWatermark *wm, CqSource *source, int64 now_us, bool unreachable)
{
	int64 clock_us = cq_clock_us();
	int64 next_us = -1;
	bool changed = false;
	int i;

	cq_watermark_note(source, now_us, unreachable);
	for (i = 0; i < source->npartitions; i++)
	{
		CqPartition *p = &source->partitions[i];
		int64 timeout_us = cq_source_stream(source, i)->idle_timeout_us;
		int64 due_us = p->caught_up_since_us + timeout_us;

		if (timeout_us < 0 || p->idle || p->caught_up_since_us == 0)
			continue;
		if (now_us < due_us)
		{
			if (next_us < 0 || due_us < next_us)
				next_us = due_us;
			continue;
		}
		if (p->idle_due_us == 0)
			p->idle_due_us = clock_us;
		if (!source->ops->known_since(source, p->idle_due_us))
			continue;
		p->idle = true;
		changed = true;
	}
	/* one that was behind may have caught up meanwhile, and holds the others no longer */
	if (changed || source->npartitions > 1)
		cq_watermark_refresh(wm, source);
	return next_us;
}

void
cq_watermark_promise(CqWatermark *wm, CqSource *source, int stream, TimestampTz to)
{
	int i;

	for (i = 0; i < source->npartitions; i++)
	{
		CqPartition *p = &source->partitions[i];

		if (p->stream != stream || partition_mark(p) >= to)
			continue;
		p->max_event_time = to < END_TIMESTAMP - p->out_of_orderness_us
								? to + p->out_of_orderness_us
								: END_TIMESTAMP - 1;
	}
	cq_watermark_refresh(wm, source);
}

bool
cq_watermark_all_idle(const CqSource *source)
{
	int i;

	for (i = 0; i < source->nparts; i++)
		if (source->parts[i]->npartitions == 0)
			return false;
	for (i = 0; i < source->npartitions; i++)
		if (!source->partitions[i].idle || !source->partitions[i].caught_up)
			return false;
	return source->npartitions > 0;
}
