/*
 * shard.c
 *	  How the workers of one view close its windows.
 *
 * Each worker, or shard, reads some of the stream's partitions, keeps its own
 * part of each window's groups in its own chunk table, and commits on its own.
 * A window can close when the watermark of all of them has passed its end.  That
 * takes three kinds of commits, each of which can be lost and done again:
 *
 *	1. The first shard, when what all have told allows it, announces a time: its
 *		row's frozen_to.  From then on it takes no more events for windows that
 *		end up to there.
 *	2. Each other one, when it sees that, does the same: it writes what it has of
 *		these windows to its chunk table and the time to its own row.  After that
 *		the part does not change any more.
 *	3. When all have, the first one reads these windows from the others' chunk
 *		tables, adds them to its own, runs the close query, writes the rows and
 *		sets its row's closed_to, which is the view's watermark.
 * The others see that and delete their parts of the windows with what they commit
 * next.  Nothing is copied to be handed over.
 *
 * A slice of a hopping window is handed over once, when the first window that it is
 * part of closes.  The first shard keeps it for the others.
 *
 * Who may go on is told through shared memory: what all have committed, and
 * whether their partitions are idle.  It is a hint, as a process may be gone by
 * the time it is read; what must be so for a step to be right is read from the
 * rows, inside the transaction.
 *
 * Invariants
 *	H1. closed_to <= frozen_to of the first shard's row; the others' frozen_to are
 *		never higher than that.
 *	H2. A shard judges lateness by its own frozen_to and by nothing else: an event
 *		is in its part of a window if and only if it came before that was frozen.
 *		So all events that a committed position is behind are in the view, in a
 *		chunk table, or late.
 *	H3. A shard's part of a pane is in its own chunk table until the first window
 *		that it is part of closes, and in the first shard's afterwards.  What is
 *		still in its own then is ignored by all who read it.  Of a retired shard the
 *		first one takes it earlier (retired.c).
 *	H4. All shards' rows are rewritten when their number changes (ddl/shards.c), so
 *		a step that was decided on before fails on the row of who takes it.
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/shards.h"
#include "clock.h"
#include "monitor/slots.h"
#include "runtime/shard.h"
#include "source/kafka/kafka.h"

#define ANNOUNCE_US	 INT64CONST(1000000) /* at least so long apart unless a window closes */
#define PAUSE_FACTOR 10					 /* times as long as it took to put sessions together */
#define GID_BITS	 48					 /* of a shard's group numbers */

/* What the shards have told, put together. */
typedef struct Consensus
{
	bool all_idle;
	TimestampTz mark; /* that windows may be closed up to */
	TimestampTz first_end;
	TimestampTz last_end;
	int64 known_us; /* all_idle: monotonic time that this tells of */
	bool advanced;	/* all have what there was when advance_watermark() was called */
	bool past_gap;	/* all have read on behind what resume(accept_loss) has given up */
} Consensus;

static void sibling_add(CqShard *shard, int64 id, Oid chunks, bool retired);
static bool loss_is_over(const CqRun *run, const CqViewRun *view);
static bool wants_announcement(const CqRun *run, const CqViewRun *view, TimestampTz *to,
							   bool *advanced);
static bool is_awaited(const CqViewRun *view);
static TimestampTz advance_target(const CqViewRun *view, const Consensus *consensus);
static bool consensus_find(const CqRun *run, const CqViewRun *view, Consensus *consensus);
static void consensus_take(Consensus *consensus, const CqViewRun *view, const CqShardReport *report,
						   TimestampTz *furthest, bool *any_holds);
static void report_make(const CqRun *run, const CqViewRun *view, CqShardReport *report);
static bool announce(CqRun *run, CqViewRun *view);
static bool all_frozen(const CqViewRun *view);
static void emit(CqRun *run, CqViewRun *view);
static void parts_take_in(CqViewRun *view, TimestampTz after, TimestampTz upto);
static bool follow(CqViewRun *view);
static bool news_from_first(const CqViewRun *view);

CqShard *
cq_shard_load(const CqViewRun *view)
{
	List *rows = cq_shards_of_view(view->view.id);
	CqShard *shard;
	ListCell *lc;

	if (rows == NIL)
		return NULL;
	shard = palloc0(sizeof(CqShard));
	shard->workers = 1;
	shard->clock_to = DT_NOBEGIN;
	shard->advanced_to = DT_NOBEGIN;
	shard->awaited = DT_NOEND;
	shard->number = view->id == view->view.id ? 0 : CQ_SHARD_RETIRED;
	shard->siblings = palloc0(sizeof(CqSibling) * (list_length(rows) + 1));
	if (shard->number != 0)
		sibling_add(shard, view->view.id, view->view.chunks, false);
	foreach (lc, rows)
	{
		const CqShardRow *row = lfirst(lc);

		if (row->number != CQ_SHARD_RETIRED)
			shard->workers++;
		if (row->id == view->id)
		{
			shard->number = row->number;
			shard->chunks = row->chunks;
		}
		else
			sibling_add(shard, row->id, row->chunks, row->number == CQ_SHARD_RETIRED);
	}
	return shard;
}

static void
sibling_add(CqShard *shard, int64 id, Oid chunks, bool retired)
{
	CqSibling *sibling = &shard->siblings[shard->nsiblings++];

	sibling->id = id;
	if (OidIsValid(chunks))
		sibling->chunks = lcons_oid(chunks, cq_view_more_chunks(id));
	sibling->retired = retired;
}

/*
 * What the first shard has taken in is of no use any more to others (H3).  Sessions
 * are forgotten in a checkpoint, as that changes what is saved.
 */
void
cq_shard_prepare_operators(CqViewRun *view)
{
	CqCheckpoint first;
	TimestampTz closed_to = view->checkpoint.closed_to;
	int i;

	view->checkpoint.frozen_to = Max(view->checkpoint.frozen_to, view->checkpoint.closed_to);
	if (view->op == NULL)
		return;
	if (view->shard->number > 0 && cq_checkpoint_load(view->view.id, &first))
		closed_to = Max(closed_to, first.closed_to);
	for (i = 0; i < view->ninputs; i++)
	{
		const CqInput *input = &view->inputs[i];

		if (view->shard->number > 0 && input->plan->window.kind != CQ_WINDOW_SESSION)
			cq_operator_forget(input->op, closed_to);
		cq_operator_number_from(input->op, ((int64) view->shard->number << GID_BITS) + 1);
	}
}

TimestampTz
cq_shard_closed_to(const CqViewRun *view, const CqInput *input)
{
	return view->shard && view->shard->number > 0 && input->plan->window.kind != CQ_WINDOW_SESSION
			   ? DT_NOBEGIN
			   : view->checkpoint.closed_to;
}

bool
cq_shard_has_begun(const CqViewRun *view)
{
	return view->checkpoint.seq > 0;
}

bool
cq_shard_due(const CqRun *run, const CqViewRun *view)
{
	const CqShard *shard = view->shard;
	const CqCheckpoint *cp = &view->checkpoint;
	TimestampTz to;
	bool advanced;
	int i;

	if (cq_kafka_source_begun(run->source) &&
		(cp->seq == 0 || cp->npartitions != run->source->npartitions))
		return true;
	if (cp->seq == 0)
		return false;
	if (shard->number > 0)
		return news_from_first(view);
	if (loss_is_over(run, view) || cq_retired_due(view))
		return true;
	if (cp->frozen_to <= cp->closed_to)
		return wants_announcement(run, view, &to, &advanced);
	for (i = 0; i < shard->nsiblings; i++)
	{
		CqShardReport report;

		if (!shard->siblings[i].retired &&
			(!cq_slot_report(MyDatabaseId, shard->siblings[i].id, &report) ||
			 report.frozen_to < cp->frozen_to))
			return false;
	}
	return true;
}

/* The permission to lose records is used up when all have got past the gap. */
static bool
loss_is_over(const CqRun *run, const CqViewRun *view)
{
	Consensus consensus;

	return view->task.accept_loss && view->shard->number == 0 &&
		   consensus_find(run, view, &consensus) && consensus.past_gap;
}

static bool
news_from_first(const CqViewRun *view)
{
	CqShardReport report;

	return cq_slot_report(MyDatabaseId, view->view.id, &report) &&
		   (report.frozen_to > view->checkpoint.frozen_to ||
			(report.closed_to > view->checkpoint.closed_to &&
			 cq_view_run_first_end(view) <= report.closed_to));
}

/*
 * Windows are announced when one of them has events; for the view's watermark
 * alone, which is for display, now and then is enough, unless it is waited for.
 * So it is for sessions, of which some end all the time, if it takes long to look
 * at all of them.
 */
static bool
wants_announcement(const CqRun *run, const CqViewRun *view, TimestampTz *to, bool *advanced)
{
	const CqShard *shard = view->shard;
	Consensus consensus;
	int64 since_us;

	*advanced = false;
	if (!consensus_find(run, view, &consensus))
		return false;
	*to = consensus.mark;
	if (consensus.all_idle)
		*to = Max(*to, shard->clock_to);
	*advanced = view->task.has_advance && consensus.advanced;
	if (*advanced)
	{
		*to = Max(*to, advance_target(view, &consensus));
		return true;
	}
	since_us = cq_clock_us() - shard->announced_us;
	return *to > view->checkpoint.frozen_to &&
		   (is_awaited(view) || (since_us >= PAUSE_FACTOR * shard->took_us &&
								 (*to >= consensus.first_end || since_us >= ANNOUNCE_US)));
}

/* By a wait_for() that all else is done for: see cq_shard_settled(). */
static bool
is_awaited(const CqViewRun *view)
{
	return !TIMESTAMP_IS_NOEND(view->shard->awaited) &&
		   view->shard->awaited > view->checkpoint.frozen_to;
}

/* "infinity" means the end of the last open window. */
static TimestampTz
advance_target(const CqViewRun *view, const Consensus *consensus)
{
	return TIMESTAMP_IS_NOEND(view->task.advance_to[0]) ? consensus->last_end
														: view->task.advance_to[0];
}

/*
 * False while one of the workers is missing or has not told where it is: nothing
 * is known then about what its partitions hold.
 */
static bool
consensus_find(const CqRun *run, const CqViewRun *view, Consensus *consensus)
{
	const CqShard *shard = view->shard;
	TimestampTz furthest = DT_NOBEGIN;
	bool any_holds = false;
	CqShardReport report;
	int i;

	consensus->all_idle = true;
	consensus->mark = DT_NOEND;
	consensus->first_end = DT_NOEND;
	consensus->last_end = DT_NOBEGIN;
	consensus->known_us = PG_INT64_MAX;
	consensus->advanced = true;
	consensus->past_gap = true;
	report_make(run, view, &report);
	if (!report.begun)
		return false;
	consensus_take(consensus, view, &report, &furthest, &any_holds);
	for (i = 0; i < shard->nsiblings; i++)
	{
		if (shard->siblings[i].retired)
			continue;
		if (!cq_slot_report(MyDatabaseId, shard->siblings[i].id, &report))
			return false;
		consensus_take(consensus, view, &report, &furthest, &any_holds);
	}
	/* nobody holds it: the furthest of the idle ones counts, as in one stream */
	if (!any_holds)
		consensus->mark = furthest;
	return true;
}

/* A shard that is behind what was announced and has no backlog holds nobody up (watermark.c). */
static void
consensus_take(Consensus *consensus, const CqViewRun *view, const CqShardReport *report,
			   TimestampTz *furthest, bool *any_holds)
{
	*furthest = Max(*furthest, report->mark);
	if (!report->idle)
	{
		consensus->all_idle = false;
		if (report->mark >= view->checkpoint.frozen_to || !report->caught_up)
		{
			consensus->mark = Min(consensus->mark, report->mark);
			*any_holds = true;
		}
	}
	consensus->first_end = Min(consensus->first_end, report->first_end);
	consensus->last_end = Max(consensus->last_end, report->last_end);
	consensus->known_us = Min(consensus->known_us, report->known_us);
	if (!view->task.has_advance || report->advanced_to != view->task.advance_to[0])
		consensus->advanced = false;
	consensus->past_gap = consensus->past_gap && report->past_gap;
}

static void
report_make(const CqRun *run, const CqViewRun *view, CqShardReport *report)
{
	const CqSource *source = run->source;
	int i;

	memset(report, 0, sizeof(*report));
	report->change = view->seen_change;
	report->begun = cq_kafka_source_begun(run->source) && cq_shard_has_begun(view);
	report->idle = source->npartitions == 0 || cq_watermark_all_idle(source);
	if (source->npartitions == 0)
		report->known_us = PG_INT64_MAX;
	else if (report->idle)
		report->known_us = cq_kafka_source_known_us(run->source);
	report->caught_up = true;
	for (i = 0; i < source->npartitions; i++)
		report->caught_up = report->caught_up && source->partitions[i].caught_up;
	report->mark = run->watermark.mark;
	report->first_end = cq_view_run_first_end(view);
	report->last_end = cq_view_run_last_end(view);
	report->frozen_to = view->checkpoint.frozen_to;
	report->closed_to = view->checkpoint.closed_to;
	report->advanced_to = view->shard->advanced_to;
	report->past_gap = view->shard->past_gap || report->caught_up;
}

bool
cq_shard_clock_due(const CqRun *run, CqViewRun *view, long *wait_ms)
{
	int64 disorder_us = run->stream->out_of_orderness_us;
	Consensus consensus;
	TimestampTz now;

	view->shard->clock_to = DT_NOBEGIN;
	if (view->shard->number != 0 || view->op == NULL || view->plan->window.kind == CQ_WINDOW_NONE ||
		view->checkpoint.frozen_to > view->checkpoint.closed_to ||
		!consensus_find(run, view, &consensus) || !consensus.all_idle ||
		TIMESTAMP_NOT_FINITE(consensus.first_end))
		return false;
	now = cq_clock_now();
	if (now < consensus.first_end + disorder_us)
	{
		view->clock_due_us = 0;
		*wait_ms = Min(*wait_ms, (consensus.first_end + disorder_us - now) / 1000 + 1);
		return false;
	}
	if (view->clock_due_us == 0)
		view->clock_due_us = cq_clock_us();
	/* the others ask now and then */
	if (consensus.known_us < view->clock_due_us)
	{
		(void) run->source->ops->known_since(run->source, view->clock_due_us);
		return false;
	}
	view->shard->clock_to = Min(now - disorder_us, consensus.last_end);
	return view->shard->clock_to > view->checkpoint.frozen_to;
}

/*
 * One without a worker is where the view was last known to be: it cannot be told
 * how much it has to read.
 */
bool
cq_shard_is_ahead(const CqRun *run, const CqViewRun *view)
{
	const CqShard *shard = view->shard;
	int64 skew_us = run->stream->max_skew_us;
	TimestampTz lowest = DT_NOEND;
	int i;

	if (view->op == NULL || view->plan->window.kind == CQ_WINDOW_NONE || skew_us < 0)
		return false;
	for (i = 0; i < shard->nsiblings; i++)
	{
		CqShardReport report;

		if (shard->siblings[i].retired)
			continue;
		if (!cq_slot_report(MyDatabaseId, shard->siblings[i].id, &report))
			lowest = Min(lowest, view->checkpoint.frozen_to);
		else if (!report.idle && !report.caught_up)
			lowest = Min(lowest, report.mark);
	}
	if (TIMESTAMP_IS_NOBEGIN(lowest))
		return !TIMESTAMP_IS_NOBEGIN(run->watermark.mark);
	return !TIMESTAMP_NOT_FINITE(lowest) && run->watermark.mark > lowest &&
		   run->watermark.mark - lowest > skew_us;
}

/* ------------------------------------------------------------------------
 * In a checkpoint
 * ------------------------------------------------------------------------
 */

bool
cq_shard_step(CqRun *run, CqViewRun *view)
{
	CqCheckpoint *cp = &view->checkpoint;
	bool stepped = false;

	/* the first checkpoint says which partitions there are to begin with */
	if (cp->seq == 0 && !cq_kafka_source_begun(run->source))
		return false;
	if (view->shard->number > 0)
		return follow(view);
	/* nothing may be announced with what ends this view's being divided */
	if (cq_retired_step(run, view))
		return true;
	if (loss_is_over(run, view))
	{
		cq_task_set_accept_loss(view->view.id, false);
		stepped = true;
	}
	if (cp->frozen_to <= cp->closed_to)
		stepped = announce(run, view) || stepped;
	if (cp->frozen_to <= cp->closed_to)
		return stepped;
	if (!all_frozen(view) || !cq_retired_are_drained(view))
		return stepped;
	emit(run, view);
	return true;
}

static bool
announce(CqRun *run, CqViewRun *view)
{
	TimestampTz to;
	bool advanced;

	if (!wants_announcement(run, view, &to, &advanced))
		return false;
	if (advanced)
	{
		if (!cq_task_clear_advance(view->view.id, 0, view->task.advance_to[0]))
			return false;
		view->task.has_advance = false;
	}
	view->shard->announced_us = cq_clock_us();
	view->checkpoint.frozen_to = Max(view->checkpoint.frozen_to, to);
	return true;
}

static bool
all_frozen(const CqViewRun *view)
{
	const CqShard *shard = view->shard;
	CqCheckpoint other;
	int i;

	for (i = 0; i < shard->nsiblings; i++)
		if (!shard->siblings[i].retired && (!cq_checkpoint_load(shard->siblings[i].id, &other) ||
											other.frozen_to < view->checkpoint.frozen_to))
			return false;
	return true;
}

static void
emit(CqRun *run, CqViewRun *view)
{
	CqCheckpoint *cp = &view->checkpoint;

	if (view->op && view->plan->window.kind != CQ_WINDOW_NONE)
	{
		CqRunIdentity saved = cq_run_as_owner(run);
		int64 began_us = cq_clock_us();

		/* what the others have committed: newer than the rows just looked at, and than this
		 * checkpoint's own snapshot */
		PushActiveSnapshot(GetLatestSnapshot());
		parts_take_in(view, cp->closed_to, cp->frozen_to);
		PopActiveSnapshot();
		cq_run_as_system(saved);
		if (view->plan->window.kind == CQ_WINDOW_SESSION)
			view->shard->took_us = cq_clock_us() - began_us;
		(void) cq_view_run_emit(run, view, cp->frozen_to);
	}
	cp->closed_to = cp->frozen_to;
}

static void
parts_take_in(CqViewRun *view, TimestampTz after, TimestampTz upto)
{
	CqShard *shard = view->shard;
	int i;

	for (i = 0; i < shard->nsiblings; i++)
	{
		const CqSibling *sibling = &shard->siblings[i];
		int input = 0;
		ListCell *lc;

		if (sibling->retired)
			continue;
		foreach (lc, sibling->chunks)
		{
			Relation chunks = table_open(lfirst_oid(lc), AccessShareLock);
			CqInput *into = &view->inputs[input++];

			CHECK_FOR_INTERRUPTS();
			cq_operator_take_in(into->op, into->plan, chunks, after, upto, false);
			table_close(chunks, NoLock);
		}
	}
	for (i = 0; i < view->ninputs; i++)
		cq_operator_hold(view->inputs[i].op, upto);
}

/* What the first shard's row says is done, whatever else there is. */
static bool
follow(CqViewRun *view)
{
	CqCheckpoint *cp = &view->checkpoint;
	CqCheckpoint first;
	bool stepped = false;
	int i;

	if (!cq_checkpoint_load(view->view.id, &first))
		return false;
	if (first.frozen_to > cp->frozen_to)
	{
		cp->frozen_to = first.frozen_to;
		stepped = true;
	}
	if (first.closed_to > cp->closed_to)
	{
		stepped = stepped || cq_view_run_first_end(view) <= first.closed_to;
		cp->closed_to = first.closed_to;
		for (i = 0; i < view->ninputs; i++)
			if (view->inputs[i].op)
				cq_operator_forget(view->inputs[i].op, first.closed_to);
	}
	return stepped;
}

/* ------------------------------------------------------------------------
 * Between checkpoints
 * ------------------------------------------------------------------------
 */

void
cq_shard_tell(CqRun *run, CqViewRun *view)
{
	CqShard *shard = view->shard;
	CqShardReport report;
	bool news;
	int i;

	if (cq_view_run_advance_due(run, view))
		shard->advanced_to = view->task.advance_to[0];
	report_make(run, view, &report);
	if (memcmp(&report, &shard->told, sizeof(report)) == 0)
		return;
	news = report.frozen_to != shard->told.frozen_to || report.closed_to != shard->told.closed_to;
	memcpy(&shard->told, &report, sizeof(report));
	cq_slot_tell(MyDatabaseId, view->id, &report);
	if (shard->number > 0)
	{
		cq_slot_wake(MyDatabaseId, view->view.id);
		return;
	}
	for (i = 0; news && i < shard->nsiblings; i++)
		if (!shard->siblings[i].retired)
			cq_slot_wake(MyDatabaseId, shard->siblings[i].id);
}

/*
 * What the workers have told when they have all read what was held at the call is
 * how far the view must come; that they tell of more in the meantime does not
 * prolong the wait.  It can become less when a partition wakes up.
 */
bool
cq_shard_settled(const CqRun *run, const CqViewRun *view)
{
	CqShard *shard = view->shard;
	const CqCheckpoint *cp = &view->checkpoint;
	Consensus consensus;

	if (shard->number > 0)
		return cq_shard_has_begun(view);
	if (view->task.has_advance || !consensus_find(run, view, &consensus))
		return false;
	shard->awaited = Min(shard->awaited, consensus.mark);
	if (cp->frozen_to > cp->closed_to || shard->awaited > cp->closed_to)
		return false;
	shard->awaited = DT_NOEND;
	return true;
}
