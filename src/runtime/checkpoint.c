/*
 * checkpoint.c
 *	  One transaction: events in, state and results out, positions forward.
 *
 * Order inside the transaction
 *	1. locks on the relations of all plans, without waiting: a session that has
 *	   one of them delays this task and nothing else;
 *	2. the views' position rows are taken, as they were when this worker wrote
 *	   them last: a worker that lost its task fails here, before it touches
 *	   anything;
 *	3. batches: intake, evaluation by each view, position forward in memory; then
 *	   stored late rows that are to be applied, and dead letters to be retried;
 *	4. for each view, windows that are complete are closed and their rows go out;
 *	5. changed groups, state chunks, late rows, dead letters;
 *	6. the new position rows.  What is done for one view is in view_checkpoint.c.
 *
 * Nothing is held while waiting for events: a transaction is opened only when
 * the source may have some, and committed at once when it has no more, or
 * after the checkpoint interval.  The commit is asynchronous: if it is lost in
 * a crash, positions, state and results are lost together, and the records are
 * read again.
 *
 * Invariant
 *	R1. The views' checkpoints and operators, and the source's positions, change in
 *		memory before the commit; when anything throws, the worker discards all
 *		three and rebuilds them from what is committed.  State in shared memory
 *		is taken back to the last commit instead, if it can be (operator/state.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "errors.h"
#include "runtime/history.h"
#include "runtime/late.h"
#include "runtime/notify.h"
#include "runtime/publish.h"
#include "runtime/retention.h"
#include "runtime/retry.h"
#include "runtime/run.h"
#include "runtime/shard.h"
#include "settings.h"

/* A checkpoint ends early when the records to be set aside take more than this. */
#define SET_ASIDE_LIMIT (16 * 1024 * 1024)

/* How much longer it lasts, at most, to end between changes of a view that is read. */
#define AMID_INTERVALS 10

static bool must_shrink(const CqViewRun *view);
static bool transaction_begin(CqRun *run, CqProgress *why_not);
static bool relations_lock(CqRun *run);
static bool plans_are_stale(const CqRun *run);
static void views_open(CqRun *run);
static int compare_watermarks(const ListCell *a, const ListCell *b);
static bool batches_run(CqRun *run, bool *drained);
static int interval_ms(const CqRun *run);
static void changes_heed(const CqRun *run);
static void positions_take(CqRun *run);
static void batch_evaluate(CqRun *run);
static bool may_end(const CqRun *run, int64 stop_at_us);
static int batch_limit(const CqRun *run);
static bool ends_by_chance(void);
static bool late_rows_apply(CqRun *run);
static bool letters_retry(CqRun *run);
static bool clocks_apply(CqRun *run, bool idle);
static bool advances_apply(CqRun *run);
static bool advance_apply(CqRun *run, CqViewRun *view);
static bool is_marked(const CqViewRun *view);
static bool windows_close(CqRun *run);
static void views_save(CqRun *run, int64 began_us);
static void views_committed(CqRun *run, int64 took_us);
static bool memory_is_short(const CqRun *run);
static int64 loss_take(CqRun *run);
static void views_close(CqRun *run);

CqProgress
cq_checkpoint_run(CqRun *run)
{
	CqProgress why_not;
	bool drained = false;
	bool dirty;
	int64 commit_began_us;

	if (!transaction_begin(run, &why_not))
		return why_not;
	dirty = batches_run(run, &drained);
	if (drained)
		cq_history_end(run);
	commit_began_us = cq_clock_us();
	dirty = late_rows_apply(run) || dirty;
	dirty = letters_retry(run) || dirty;
	dirty = clocks_apply(run, drained && cq_watermark_all_idle(run->source)) || dirty;
	if (drained)
		dirty = advances_apply(run) || dirty;
	dirty = dirty || cq_checkpoint_due(run);
	dirty = windows_close(run) || dirty;
	if (dirty)
	{
		positions_take(run);
		views_save(run, commit_began_us);
	}
	views_close(run);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(run->checkpoint_context);
	run->write_anyway = false;
	if (dirty)
	{
		views_committed(run, cq_clock_us() - commit_began_us);
		cq_measure_committed(commit_began_us);
	}
	if (run->history_ended)
		return CQ_PROGRESS_ANEW;
	if (!dirty)
		return drained ? CQ_PROGRESS_NONE : CQ_PROGRESS_MORE;
	return drained ? CQ_PROGRESS_DRAINED : CQ_PROGRESS_MORE;
}

/*
 * Besides events: the watermark moved on its own; partitions were found, whose
 * first positions must be kept; a view has never had a checkpoint, which
 * settles where it started and gives an ungrouped aggregate its row; a view must
 * give memory back to others; it is time to show what has changed; rows are too
 * old; listeners are to be told what they could not be; or history is taken in, which
 * ends by itself.
 */
bool
cq_checkpoint_due(const CqRun *run)
{
	ListCell *lc;

	if (run->write_anyway || OidIsValid(run->stream->history_of))
		return true;
	foreach (lc, run->views)
	{
		const CqViewRun *view = lfirst(lc);

		if (must_shrink(view) || cq_retention_due(view, NULL) || cq_notify_due(view, NULL) ||
			(cq_view_run_is_behind(view) && cq_view_run_refresh_due(view, NULL)))
			return true;
		if (view->shard)
			return cq_shard_due(run, view);
		if (cq_view_run_watermark(run, view) > view->checkpoint.closed_to ||
			view->checkpoint.seq == 0 || view->checkpoint.npartitions != run->source->npartitions)
			return true;
	}
	return false;
}

static bool
must_shrink(const CqViewRun *view)
{
	int i;

	for (i = 0; i < view->ninputs; i++)
		if (view->inputs[i].op && cq_operator_must_shrink(view->inputs[i].op))
			return true;
	return false;
}

static bool
transaction_begin(CqRun *run, CqProgress *why_not)
{
	run->set_aside_bytes = 0;
	run->phase = CQ_PHASE_OTHER;
	run->batches = 0;
	run->records = 0;
	run->batch.nevents = 0;
	run->retrying = 0;
	run->locked = false;
	run->history_ended = false;
	cq_measure_begin();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	*why_not = CQ_PROGRESS_LOCKED;
	if (relations_lock(run))
	{
		*why_not = CQ_PROGRESS_STALE;
		if (!plans_are_stale(run))
		{
			views_open(run);
			return true;
		}
	}
	AbortCurrentTransaction();
	MemoryContextSwitchTo(TopMemoryContext);
	return false;
}

/* All are tried, to know which ones another session stands in the way of, and since when. */
static bool
relations_lock(CqRun *run)
{
	bool all = true;
	ListCell *lc;

	foreach (lc, run->views)
	{
		run->at = lfirst(lc);
		if (cq_view_run_lock(run->at))
			run->at->locked_since_us = 0;
		else
		{
			all = false;
			if (run->at->locked_since_us == 0)
				run->at->locked_since_us = cq_clock_us();
		}
	}
	run->at = NULL;
	return all;
}

static bool
plans_are_stale(const CqRun *run)
{
	ListCell *lc;

	foreach (lc, run->views)
		if (cq_view_run_is_stale(lfirst(lc)))
			return true;
	return false;
}

/* What the views are to do first, then the snapshot: see cq_view_run_advance_due(). */
static void
views_open(CqRun *run)
{
	ListCell *lc;

	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		if (!cq_task_load(view->view.id, &view->task))
			cq_view_gone(view->name);
	}
	list_sort(run->views, compare_watermarks);
	MemoryContextSwitchTo(run->checkpoint_context);
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach (lc, run->views)
		cq_view_run_open(run, lfirst(lc));
	if (run->columns_changed)
	{
		CqRunIdentity saved = cq_run_as_owner(run);

		cq_run_gather_columns(run);
		cq_run_as_system(saved);
	}
}

/* In the order in which they evaluate a batch: see watermarks_raise(). */
static int
compare_watermarks(const ListCell *a, const ListCell *b)
{
	const CqViewRun *left = lfirst(a);
	const CqViewRun *right = lfirst(b);

	return (left->watermark > right->watermark) - (left->watermark < right->watermark);
}

/* Take in what there is, one batch at a time; returns whether there was anything. */
static bool
batches_run(CqRun *run, bool *drained)
{
	int64 stop_at_us = cq_clock_us() + (int64) interval_ms(run) * 1000;
	bool any = false;

	/* what others took meanwhile may be what this batch would need: first a save, without events */
	run->gave_up_memory = !run->gave_up_memory && memory_is_short(run);
	if (run->gave_up_memory)
		return true;
	for (;;)
	{
		int n;

		CHECK_FOR_INTERRUPTS();
		if (cq_run_is_ahead(run))
			return any;
		n = cq_intake(run, batch_limit(run));
		if (n == 0)
		{
			*drained = true;
			return any;
		}
		changes_heed(run);
		positions_take(run);
		batch_evaluate(run);
		run->source->ops->advance(run->source, n);
		run->batches++;
		run->records += n;
		any = true;
		if (run->care->careful || run->set_aside_bytes > SET_ASIDE_LIMIT || memory_is_short(run))
			return any;
		if (may_end(run, stop_at_us) && (cq_clock_us() >= stop_at_us || ends_by_chance()))
			return any;
	}
}

/*
 * An ALTER VIEW that was committed before an event was inserted holds for that
 * event, also if it came after the worker had looked for wishes.
 */
static void
changes_heed(const CqRun *run)
{
	const CqViewRun *view = cq_publish_changed_view(run);

	if (view)
		ereport(ERROR,
				errcode(CQ_ERRCODE_FENCED),
				errmsg("continuous view \"%s\" was altered", view->name));
}

bool
cq_run_is_ahead(const CqRun *run)
{
	const CqViewRun *view = linitial(run->views);

	return view->shard && run->source->ops->ready(run->source) && cq_shard_is_ahead(run, view);
}

/* The views of a task have the same. */
static int
interval_ms(const CqRun *run)
{
	const CqViewRun *view = linitial(run->views);

	return view->view.options.checkpoint_interval_ms > 0 ? view->view.options.checkpoint_interval_ms
														 : cq_checkpoint_interval_ms;
}

static void
positions_take(CqRun *run)
{
	ListCell *lc;

	if (run->locked)
		return;
	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		cq_checkpoint_lock(&view->checkpoint);
	}
	run->locked = true;
}

static void
batch_evaluate(CqRun *run)
{
	ListCell *lc;

	foreach (lc, run->views)
	{
		CHECK_FOR_INTERRUPTS();
		run->at = lfirst(lc);
		cq_evaluate(run, run->at);
	}
	run->at = NULL;
}

/* What changed together in a view that is read shall appear together, if that is not for long. */
static bool
may_end(const CqRun *run, int64 stop_at_us)
{
	return run->amid_changes == 0 ||
		   cq_clock_us() >= stop_at_us + (int64) interval_ms(run) * 1000 * AMID_INTERVALS;
}

static int
batch_limit(const CqRun *run)
{
	if (run->care->careful)
		return run->care->max_events;
	if (cq_random_batches)
		return (int) pg_prng_uint64_range(&pg_global_prng_state, 1, cq_batch_size);
	return cq_batch_size;
}

/* For tests: after a few batches on average. */
static bool
ends_by_chance(void)
{
	return cq_random_batches && pg_prng_uint64_range(&pg_global_prng_state, 1, 4) == 1;
}

/* Not beside events of which one may be bad, so that it is clear what fails. */
static bool
late_rows_apply(CqRun *run)
{
	bool any = false;
	ListCell *lc;

	if ((run->care->careful && run->batches > 0) || run->gave_up_memory)
		return false;
	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);
		long wait_ms = 0;

		if (!cq_apply_late_due(view, &wait_ms))
			continue;
		positions_take(run);
		run->at = view;
		cq_apply_late_step(run, view);
		run->at = NULL;
		any = true;
	}
	return any;
}

/* Likewise. */
static bool
letters_retry(CqRun *run)
{
	bool any = false;
	ListCell *lc;

	if ((run->care->careful && run->batches > 0) || run->gave_up_memory)
		return false;
	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);
		long wait_ms = 0;

		if (!cq_retry_due(run, view, &wait_ms))
			continue;
		positions_take(run);
		run->at = view;
		cq_retry_step(run, view);
		run->at = NULL;
		any = true;
	}
	return any;
}

/* Nothing but time moves the watermark of a stream that has gone quiet. */
static bool
clocks_apply(CqRun *run, bool idle)
{
	bool moved = false;
	ListCell *lc;

	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		if (view->shard || (!idle && !view->plan->window.processing) ||
			view->clock_to <= cq_view_run_watermark(run, view))
			continue;
		view->watermark = view->clock_to;
		moved = true;
	}
	return moved;
}

static bool
advances_apply(CqRun *run)
{
	bool any = false;
	ListCell *lc;

	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		/* workers of one view must agree first */
		if (view->shard || !cq_view_run_advance_due(run, view))
			continue;
		any = advance_apply(run, view) || any;
	}
	return any;
}

/*
 * "infinity" means the end of the last open window.  Called when the source is
 * drained: see cq_view_run_advance_due().  Of several streams those that the
 * function was called for are complete up to then, the others need not be.
 * One that cannot be cleared, as a session is just asking for another, comes later.
 */
static bool
advance_apply(CqRun *run, CqViewRun *view)
{
	bool any = false;
	bool all = true;
	int i;

	for (i = 0; i < view->nstreams; i++)
	{
		TimestampTz asked = view->task.advance_to[i];
		TimestampTz to = asked;

		if (TIMESTAMP_IS_NOBEGIN(asked))
			continue;
		if (!cq_task_clear_advance(view->id, i, asked))
		{
			all = false;
			continue;
		}
		any = true;
		/* windows of processing time are closed by the clock alone */
		if (view->plan->window.processing)
			to = DT_NOBEGIN;
		if (TIMESTAMP_IS_NOEND(to))
			to = cq_view_run_last_end(view);
		if (view->nstreams == 1)
			view->watermark = Max(view->watermark, to);
		else if (!TIMESTAMP_IS_NOBEGIN(to))
			cq_watermark_promise(&run->watermark, run->source, i, to);
	}
	view->task.has_advance = !all;
	return any;
}

void
cq_view_run_advance_mark(CqRun *run, CqViewRun *view)
{
	CqSource *source = run->source;

	if (!view->task.has_advance)
		view->advance_ticket = 0;
	else if (view->advance_ticket == 0 || !is_marked(view))
	{
		view->advance_ticket = source->ops->mark_end(source);
		memcpy(view->advance_marked, view->task.advance_to, sizeof(view->advance_marked));
	}
}

static bool
is_marked(const CqViewRun *view)
{
	return memcmp(view->advance_marked, view->task.advance_to, sizeof(view->advance_marked)) == 0;
}

/*
 * A local stream that is drained has given all that was there when the function
 * was called: the task's row was read before this transaction's snapshot was
 * taken.  That a Kafka client has nothing says little: it may not have fetched
 * it yet.  Of several streams one may be left alone that is far ahead.
 */
bool
cq_view_run_advance_due(const CqRun *run, const CqViewRun *view)
{
	if (!view->task.has_advance || OidIsValid(run->stream->history_of))
		return false;
	if (run->source->nparts == 1 && run->stream->kind == CQ_STREAM_LOCAL)
		return true;
	return view->advance_ticket != 0 && is_marked(view) &&
		   run->source->ops->reached(run->source, view->advance_ticket);
}

/* From here on errors are no record's. */
static bool
windows_close(CqRun *run)
{
	bool any = false;
	ListCell *lc;

	run->phase = CQ_PHASE_FINISH;
	foreach (lc, run->views)
	{
		int64 began_us = cq_clock_us();

		run->at = lfirst(lc);
		any = cq_view_run_close_windows(run, run->at) || any;
		run->at->times.close_us += cq_clock_us() - began_us;
	}
	run->at = NULL;
	return any;
}

static void
views_save(CqRun *run, int64 began_us)
{
	int64 lost = loss_take(run);
	int64 took_us;
	ListCell *lc;

	foreach (lc, run->views)
	{
		int64 save_began_us = cq_clock_us();

		run->at = lfirst(lc);
		run->phase = CQ_PHASE_FINISH;
		cq_view_run_save(run, run->at);
		run->at->times.save_us += cq_clock_us() - save_began_us;
	}
	run->at = NULL;
	run->phase = CQ_PHASE_OTHER;
	took_us = cq_clock_us() - began_us;
	foreach (lc, run->views)
		cq_view_run_write(run, lfirst(lc), lost, took_us);
}

/* What is in memory is the checkpoint now: plain stores, as nothing may fail any more. */
static void
views_committed(CqRun *run, int64 took_us)
{
	ListCell *lc;

	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);
		int64 saved = 0;
		int i;

		view->commit_us = took_us;
		for (i = 0; i < view->ninputs; i++)
			if (view->inputs[i].op)
				saved += cq_operator_committed(view->inputs[i].op, view->checkpoint.seq);
		view->saved_groups = saved;
	}
}

/* State on disk is made at the end of a checkpoint. */
static bool
memory_is_short(const CqRun *run)
{
	ListCell *lc;

	foreach (lc, run->views)
	{
		const CqViewRun *view = lfirst(lc);
		int i;

		for (i = 0; i < view->ninputs; i++)
			if (view->inputs[i].op && cq_operator_wants_save(view->inputs[i].op))
				return true;
	}
	return false;
}

/* Records given up by resume(accept_loss) since the last checkpoint. */
static int64
loss_take(CqRun *run)
{
	int64 before = run->lost_counted;

	run->lost_counted = cq_run_lost(run);
	return run->lost_counted - before;
}

static void
views_close(CqRun *run)
{
	ListCell *lc;

	foreach (lc, run->views)
		cq_view_run_close(run, lfirst(lc));
	run->phase = CQ_PHASE_OTHER;
}
