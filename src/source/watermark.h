/*
 * watermark.h
 *	  How far event time has advanced in what a task reads.
 */
#pragma once

#include "postgres.h"

#include "source/source.h"

typedef struct CqWatermark
{
	bool held;		  /* nothing moves it: what is read comes in any order */
	TimestampTz mark; /* lowest over the live partitions; DT_NOBEGIN if none yet; monotone */
} CqWatermark;

/* Take in one event's time; afterwards wm->mark is the watermark after it. */
extern void cq_watermark_see(CqWatermark *wm, CqSource *source, int partition, TimestampTz time);

/* No event before that time comes in a stream any more: that is promised. */
extern void cq_watermark_promise(CqWatermark *wm, CqSource *source, int stream, TimestampTz to);

/* Reconsider after partitions became idle, live, or were added. */
extern void cq_watermark_refresh(CqWatermark *wm, CqSource *source);

/* Note which partitions are caught up, at monotonic time now_us. */
extern void cq_watermark_note(CqSource *source, int64 now_us, bool unreachable);

/*
 * Do that, and mark those idle that have been for the stream's idle_timeout.  Returns the monotonic
 * time of the next change to expect, -1 if none.
 */
extern int64 cq_watermark_idle(CqWatermark *wm, CqSource *source, int64 now_us, bool unreachable);

/* Is every partition idle, and none known to have something new? */
extern bool cq_watermark_all_idle(const CqSource *source);
