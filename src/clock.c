/*
 * clock.c
 *	  The time of day by which events are judged, and how tests shift it.
 *
 * What depends on time passing - partitions that become idle, windows that the
 * clock closes, events from the future, processing time - is tested by letting
 * hours pass at once.  Only the clocks by which events are judged are shifted,
 * and that by which averages fade (monitor/metrics.c): pauses and time limits go by
 * the real ones, so that nothing else happens early.
 *
 * The shift is lost when shared memory is set up anew: with a restart of the
 * server, or after a crash.
 */
#include "postgres.h"

#include "storage/latch.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "monitor/slots.h"

int64
cq_clock_shift_us(void)
{
	return cq_shared ? (int64) pg_atomic_read_u64(&cq_shared->clock_shift_us) : 0;
}

int64
cq_clock_shift(int64 by_us)
{
	int64 shift;
	int i;

	Assert(by_us >= 0);
	shift = (int64) pg_atomic_add_fetch_u64(&cq_shared->clock_shift_us, (uint64) by_us);
	LWLockAcquire(cq_shared->lock, LW_SHARED);
	for (i = 0; i < cq_shared->ntasks; i++)
		if (cq_shared->tasks[i].in_use && cq_shared->tasks[i].latch)
			SetLatch(cq_shared->tasks[i].latch);
	LWLockRelease(cq_shared->lock);
	return shift;
}

TimestampTz
cq_clock_now(void)
{
	return GetCurrentTimestamp() + cq_clock_shift_us();
}
