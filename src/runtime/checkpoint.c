/*
 * checkpoint.c
 *	  One transaction: events in, state and results out, positions forward.
 *
 * Order inside the transaction
 *	1. locks on the relations of the plan, without waiting: a session that has
 *	   one of them delays this view and nothing else;
 *	2. the position row is taken, as it was when this worker wrote it last: a
 *	   worker that lost its task fails here, before it touches anything;
 *	3. batches: intake, evaluation, position forward in memory;
 *	4. windows that are complete are closed and their rows go out;
 *	5. changed groups, state chunks, late rows, dead letters;
 *	6. the new position row.
 *
 * Nothing is held while waiting for events: a transaction is opened only when
 * the source may have some, and committed at once when it has no more, or
 * after the checkpoint interval.  The commit is asynchronous: if it is lost in
 * a crash, positions, state and results are lost together, and the records are
 * read again.
 *
 * Invariant
 *	R1. run->checkpoint, the operator and the source's positions change in
 *		memory before the commit; when anything throws, the worker discards all
 *		three and rebuilds them from what is committed.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "clock.h"
#include "errors.h"
#include "runtime/run.h"
#include "settings.h"
#include "source/kafka/kafka.h"

/* A checkpoint ends early when the records to be set aside take more than this. */
#define SET_ASIDE_LIMIT (16 * 1024 * 1024)

static bool transaction_begin(CqRun *run, CqProgress *why_not);
static bool relations_open(CqRun *run);
static bool relation_lock(Oid relid, LOCKMODE mode, Relation *rel);
static void outputs_open(CqRun *run);
static bool batches_run(CqRun *run, bool *drained);
static void position_take(CqRun *run);
static int batch_limit(const CqRun *run);
static void advance_apply(CqRun *run);
static bool windows_close(CqRun *run);
static void close_receive(void *arg, TupleTableSlot *row);
static void changes_write(CqRun *run);
static void change_upsert(void *arg, int64 gid, bool is_new, ItemPointer tid, Datum *values,
						  bool *nulls);
static void state_save(CqRun *run);
static void outputs_end(CqRun *run);
static void relations_close(CqRun *run);
static void position_write(CqRun *run, int64 began_us);
static void loss_count(CqRun *run);

CqProgress
cq_checkpoint_run(CqRun *run, bool advance)
{
	CqProgress why_not;
	bool drained = false;
	bool dirty;
	int64 commit_began_us;

	if (!transaction_begin(run, &why_not))
		return why_not;
	dirty = batches_run(run, &drained);
	commit_began_us = cq_clock_us();
	if (drained && cq_watermark_all_idle(run->source))
		cq_watermark_advance(&run->watermark, run->clock_to);
	if (drained && advance)
	{
		TimestampTz before = run->watermark.view;

		advance_apply(run);
		dirty = dirty || run->task.has_advance || run->watermark.view != before;
	}
	dirty = dirty || cq_checkpoint_due(run);
	run->phase = CQ_PHASE_FINISH;
	dirty = windows_close(run) || dirty;
	if (dirty)
	{
		position_take(run);
		if (run->stage)
			cq_stage_end(run->stage);
		changes_write(run);
		state_save(run);
		outputs_end(run);
		run->phase = CQ_PHASE_OTHER;
		cq_dead_letters_write(run);
		position_write(run, commit_began_us);
	}
	else
		outputs_end(run);
	relations_close(run);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(run->checkpoint_context);
	if (!dirty)
		return drained ? CQ_PROGRESS_NONE : CQ_PROGRESS_MORE;
	return drained ? CQ_PROGRESS_DRAINED : CQ_PROGRESS_MORE;
}

/*
 * Besides events: the watermark moved on its own; partitions were found, whose
 * first positions must be kept; or the view has never had a checkpoint, which
 * settles where it started and gives an ungrouped aggregate its row.
 */
bool
cq_checkpoint_due(const CqRun *run)
{
	return run->watermark.view > run->checkpoint.closed_to || run->checkpoint.seq == 0 ||
		   run->source->npartitions != run->checkpoint.npartitions;
}

static bool
transaction_begin(CqRun *run, CqProgress *why_not)
{
	run->stage = NULL;
	run->output = run->late = NULL;
	run->result_rel = run->late_rel = run->chunks_rel = NULL;
	run->dead_letters = NIL;
	run->set_aside_bytes = 0;
	run->phase = CQ_PHASE_OTHER;
	run->batches = 0;
	run->locked = false;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	*why_not = CQ_PROGRESS_LOCKED;
	if (cq_prepared_lock(run->stage_prepared) &&
		(run->close_prepared == NULL || cq_prepared_lock(run->close_prepared)) &&
		relations_open(run))
	{
		*why_not = CQ_PROGRESS_STALE;
		if (!cq_prepared_is_stale(run->stage_prepared) &&
			(run->close_prepared == NULL || !cq_prepared_is_stale(run->close_prepared)))
		{
			/* the task's row first, then the snapshot: see advance_apply() */
			if (!cq_task_load(run->id, &run->task))
				ereport(ERROR,
						errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("continuous view number %lld is gone", (long long) run->id));
			MemoryContextSwitchTo(run->checkpoint_context);
			PushActiveSnapshot(GetTransactionSnapshot());
			outputs_open(run);
			return true;
		}
	}
	AbortCurrentTransaction();
	MemoryContextSwitchTo(TopMemoryContext);
	return false;
}

static bool
relation_lock(Oid relid, LOCKMODE mode, Relation *rel)
{
	if (!ConditionalLockRelationOid(relid, mode))
		return false;
	*rel = try_relation_open(relid, NoLock);
	if (*rel == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE), errmsg("a table of the view is gone"));
	return true;
}

static bool
relations_open(CqRun *run)
{
	if (!relation_lock(run->view.result, RowExclusiveLock, &run->result_rel))
		return false;
	if (OidIsValid(run->view.late) && run->view.options.store_late &&
		!relation_lock(run->view.late, RowExclusiveLock, &run->late_rel))
		return false;
	if (OidIsValid(run->view.chunks) &&
		!relation_lock(run->view.chunks, RowExclusiveLock, &run->chunks_rel))
		return false;
	return true;
}

static void
outputs_open(CqRun *run)
{
	CqIdentity saved = cq_run_as_owner(run);

	run->output = cq_output_begin(run->result_rel);
	if (run->late_rel)
		run->late = cq_output_begin(run->late_rel);
	cq_run_as_system(saved);
}

/* Take in what there is, one batch at a time; returns whether there was anything. */
static bool
batches_run(CqRun *run, bool *drained)
{
	int interval_ms = run->view.options.checkpoint_interval_ms > 0
						  ? run->view.options.checkpoint_interval_ms
						  : cq_checkpoint_interval_ms;
	int64 stop_at_us = cq_clock_us() + (int64) interval_ms * 1000;
	bool any = false;

	for (;;)
	{
		int n;

		CHECK_FOR_INTERRUPTS();
		n = cq_intake(run, batch_limit(run));
		if (n == 0)
		{
			*drained = true;
			return any;
		}
		position_take(run);
		if (run->stage == NULL && !run->care->careful)
		{
			CqIdentity saved = cq_run_as_owner(run);

			run->stage = cq_stage_begin(run->stage_prepared);
			cq_run_as_system(saved);
		}
		cq_evaluate(run);
		run->source->ops->advance(run->source, n);
		run->batches++;
		any = true;
		if (run->care->careful || cq_clock_us() >= stop_at_us ||
			run->set_aside_bytes > SET_ASIDE_LIMIT)
			return any;
	}
}

static void
position_take(CqRun *run)
{
	if (!run->locked)
		cq_checkpoint_lock(&run->checkpoint);
	run->locked = true;
}

static int
batch_limit(const CqRun *run)
{
	return run->care->careful ? run->care->max_events : cq_batch_size;
}

/*
 * A pending advance_watermark().  Called when the source is drained: events
 * that were there when the function was called are in, because the task's row
 * was read before this transaction's snapshot was taken.  "infinity" means the
 * end of the last open window.
 */
static void
advance_apply(CqRun *run)
{
	TimestampTz to;

	if (!run->task.has_advance)
		return;
	to = run->task.advance_to;
	if (TIMESTAMP_IS_NOEND(to))
		to = run->op ? cq_operator_last_end(run->op) : DT_NOBEGIN;
	cq_watermark_advance(&run->watermark, to);
	cq_task_clear_advance(run->id, run->task.advance_to);
}

static bool
windows_close(CqRun *run)
{
	Tuplestorestate *rows;
	CqIdentity saved;
	int closed;

	if (run->op == NULL || run->plan->window.kind == CQ_WINDOW_NONE ||
		cq_operator_first_end(run->op) > run->watermark.view)
		return false;
	saved = cq_run_as_owner(run);
	rows = tuplestore_begin_heap(false, false, work_mem);
	closed = cq_operator_close(run->op, run->watermark.view, rows);
	cq_close_run(run->close_prepared, rows, close_receive, run);
	tuplestore_end(rows);
	cq_run_as_system(saved);
	run->checkpoint.counters.windows_closed += closed;
	return true;
}

static void
close_receive(void *arg, TupleTableSlot *row)
{
	CqRun *run = arg;

	slot_getallattrs(row);
	cq_output_insert(run->output, row->tts_values, row->tts_isnull);
}

static void
changes_write(CqRun *run)
{
	CqIdentity saved;

	if (run->op == NULL || run->plan->emit != CQ_EMIT_CHANGES)
		return;
	saved = cq_run_as_owner(run);
	cq_operator_changes(run->op, change_upsert, run);
	cq_run_as_system(saved);
}

static void
change_upsert(void *arg, int64 gid, bool is_new, ItemPointer tid, Datum *values, bool *nulls)
{
	CqRun *run = arg;

	cq_output_upsert(run->output, gid, is_new, tid, values, nulls);
	run->checkpoint.next_gid = Max(run->checkpoint.next_gid, gid + 1);
}

static void
state_save(CqRun *run)
{
	CqIdentity saved;

	if (run->op == NULL)
		return;
	saved = cq_run_as_owner(run);
	cq_operator_save(run->op, run->chunks_rel);
	cq_run_as_system(saved);
	run->chunk_blocks = RelationGetNumberOfBlocks(run->chunks_rel);
}

/* Index expressions of the user's are evaluated here, hence as the owner. */
static void
outputs_end(CqRun *run)
{
	CqIdentity saved = cq_run_as_owner(run);

	run->checkpoint.counters.rows_out += cq_output_end(run->output);
	if (run->late)
		(void) cq_output_end(run->late);
	cq_run_as_system(saved);
}

static void
relations_close(CqRun *run)
{
	table_close(run->result_rel, NoLock);
	if (run->late_rel)
		table_close(run->late_rel, NoLock);
	if (run->chunks_rel)
		table_close(run->chunks_rel, NoLock);
}

static void
position_write(CqRun *run, int64 began_us)
{
	CqCheckpoint *cp = &run->checkpoint;

	cp->closed_to = run->watermark.view;
	cp->out_of_orderness_us = run->stream->out_of_orderness_us;
	cp->npartitions = run->source->npartitions;
	cp->partitions = run->source->partitions;
	loss_count(run);
	cp->counters.checkpoint_us += cq_clock_us() - began_us;
	cq_checkpoint_write(cp);
}

/*
 * Records given up by resume(accept_loss).  The permission is used up by the
 * first checkpoint that has got past the gap.
 */
static void
loss_count(CqRun *run)
{
	int64 lost;

	if (run->stream->kind != CQ_STREAM_KAFKA)
		return;
	lost = cq_kafka_source_lost(run->source);
	run->checkpoint.counters.lost += lost - run->lost_counted;
	run->lost_counted = lost;
	if (run->task.accept_loss && run->stage)
		cq_task_set_accept_loss(run->id, false);
}
