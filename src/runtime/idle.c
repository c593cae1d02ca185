/*
 * idle.c
 *	  What a worker makes of a source that gives it nothing.
 *
 * Partitions become idle and let go of the watermark; with all of them idle it
 * follows the clock to the ends of open windows.  Idleness is measured by a clock of
 * its own, which stands still while the source could not have told us anything.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "catalog/feeds.h"
#include "clock.h"
#include "runtime/publish.h"
#include "runtime/run.h"
#include "runtime/shard.h"
#include "runtime/worker_state.h"
#include "source/local/local.h"

#define IDLE_STEP_LIMIT_US INT64CONST(2000000)
#define TELL_INTERVAL_US   INT64CONST(1000000)

static void feeds_idle(CqRun *run);
static void readers_wake(const CqRun *run);
static void publish_when_changed(CqWorker *worker, bool unreachable);
static void idle_clock_advance(CqWorker *worker, bool stopped);
static bool view_idle_close_due(const CqRun *run, CqViewRun *view, long *wait_ms);
static int64 largest_disorder_us(const CqSource *source);

void
cq_worker_source_maintain(CqWorker *worker)
{
	CqRun *run = worker->run;
	bool unreachable;

	if (run->source->ops->maintain(run->source))
		cq_watermark_refresh(&run->watermark, run->source);
	unreachable = run->source->ops->unreachable(run->source);
	/* who stands still for another task does not look for events */
	idle_clock_advance(worker, unreachable || worker->join.leader != 0 || worker->join.stands);
	worker->next_idle_us =
		cq_watermark_idle(&run->watermark, run->source, worker->idle_clock_us, unreachable);
	feeds_idle(run);
	if (cq_watermark_all_idle(run->source) != worker->was_idle)
	{
		worker->was_idle = !worker->was_idle;
		cq_publish_idle(run);
		readers_wake(run);
	}
	publish_when_changed(worker, unreachable);
}

/*
 * What another view gives out comes when its windows close: that there is nothing
 * now says little.  It is idle when that view is.
 */
static void
feeds_idle(CqRun *run)
{
	int i;

	for (i = 0; i < run->source->npartitions; i++)
	{
		CqPartition *p = &run->source->partitions[i];
		const CqFeed *feed = cq_source_stream(run->source, i)->feed;

		if (feed)
			p->idle = p->caught_up && cq_publish_source_idle(feed->source);
	}
}

static void
readers_wake(const CqRun *run)
{
	ListCell *view;
	ListCell *lc;

	foreach (view, run->views)
		foreach (lc, ((CqViewRun *) lfirst(view))->feeds)
			cq_local_wake_readers(((CqFeed *) lfirst(lc))->relation);
}

/* What a view waits for is to be seen though it has no checkpoints meanwhile. */
static void
publish_when_changed(CqWorker *worker, bool unreachable)
{
	const CqSource *source = worker->source;
	int64 now = cq_clock_us();
	int64 ends = 0;
	int idle = 0;
	int i;

	for (i = 0; i < source->npartitions; i++)
	{
		idle += source->partitions[i].idle;
		ends += source->partitions[i].end_offset;
	}
	if (idle == worker->told_idle && unreachable == worker->told_unreachable &&
		(ends == worker->told_ends || now < worker->told_at_us + TELL_INTERVAL_US))
		return;
	worker->told_idle = idle;
	worker->told_unreachable = unreachable;
	worker->told_ends = ends;
	worker->told_at_us = now;
	cq_publish_progress(worker->run, 0);
}

/*
 * The clock of idleness runs while the source could have told us about new
 * events: not while it is out of reach, and only a little while this worker
 * was busy elsewhere.
 */
static void
idle_clock_advance(CqWorker *worker, bool stopped)
{
	int64 now = cq_clock_us();
	int64 step = Min(now - worker->idle_clock_read_us, IDLE_STEP_LIMIT_US);
	int64 shift = cq_clock_shift_us();

	step += shift - worker->idle_clock_shift_us;
	worker->idle_clock_read_us = now;
	worker->idle_clock_shift_us = shift;
	if (!stopped)
		worker->idle_clock_us += step;
}

void
cq_worker_caught_up(CqWorker *worker)
{
	const CqSource *source = worker->source;
	bool unreachable = source->ops->unreachable(worker->source);

	idle_clock_advance(worker, unreachable);
	cq_watermark_note(worker->source, worker->idle_clock_us, unreachable);
}

/*
 * With everything idle the watermark follows the clock as far as the open
 * windows: each closes when the clock has passed its end and the bound on
 * disorder, and the source has said since then that nothing is there.  The
 * checkpoint moves it, after it has looked for events: what came while this
 * worker slept, or waited for a lock, is not late.  Windows of processing time
 * close by the clock, whatever else there is.
 */
bool
cq_worker_idle_close_due(CqWorker *worker, long *wait_ms)
{
	CqRun *run = worker->run;
	bool all_idle = cq_watermark_all_idle(run->source);
	bool due = false;
	ListCell *lc;

	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		view->clock_to = DT_NOBEGIN;
		if (view->shard)
			due = cq_shard_clock_due(run, view, wait_ms) || due;
		else if ((all_idle || view->plan->window.processing) && view->op &&
				 view->plan->window.kind != CQ_WINDOW_NONE)
			due = view_idle_close_due(run, view, wait_ms) || due;
		else
			view->clock_due_us = 0;
	}
	return due;
}

static bool
view_idle_close_due(const CqRun *run, CqViewRun *view, long *wait_ms)
{
	TimestampTz deadline = cq_view_run_first_end(view);
	int64 disorder_us = view->plan->window.processing ? 0 : largest_disorder_us(run->source);
	TimestampTz now;

	if (TIMESTAMP_NOT_FINITE(deadline))
		return false;
	deadline += disorder_us;
	now = cq_clock_now();
	if (now < deadline)
	{
		view->clock_due_us = 0;
		*wait_ms = Min(*wait_ms, (deadline - now) / 1000 + 1);
		return false;
	}
	if (view->clock_due_us == 0)
		view->clock_due_us = cq_clock_us();
	if (!view->plan->window.processing &&
		!run->source->ops->known_since(run->source, view->clock_due_us))
		return false;
	view->clock_to = Min(now - disorder_us, cq_view_run_last_end(view));
	return true;
}

static int64
largest_disorder_us(const CqSource *source)
{
	int64 largest = 0;
	int i;

	for (i = 0; i < source->nparts; i++)
		largest = Max(largest, source->parts[i]->stream->out_of_orderness_us);
	return largest;
}
