/*
 * view_checkpoint.c
 *	  What one view does in its task's checkpoint (checkpoint.c).
 *
 * All that runs code of the user's - close query, final functions, index
 * expressions - runs as the owner.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "clock.h"
#include "errors.h"
#include "runtime/history.h"
#include "runtime/notify.h"
#include "runtime/retention.h"
#include "runtime/run.h"
#include "runtime/shard.h"
#include "sink/feed_log.h"
#include "sink/replacement.h"

static bool input_lock(CqInput *input);
static bool relation_lock(Oid relid, LOCKMODE mode, Relation *rel);
static bool feeds_lock(CqViewRun *view);
static void feeds_mark(CqRun *run, CqViewRun *view);
static Tuplestorestate *closed_rows(CqRun *run, CqInput *input);
static void check_result(const CqViewRun *view);
static void close_receive(void *arg, TupleTableSlot *row);
static void stages_end(CqInput *input);
static void show_changes(CqRun *run, CqViewRun *view);
static void window_replace(void *arg, int64 number, bool fresh, Tuplestorestate *rows);
static void window_row(void *arg, TupleTableSlot *row);
static void change_upsert(void *arg, int64 gid, bool is_new, ItemPointer tid, Datum *values,
						  bool *nulls);
static void change_remove(void *arg, int64 gid, ItemPointer tid);
static void outputs_end(CqRun *run, CqViewRun *view);
static CqPartition *positions_of(const CqRun *run, const CqViewRun *view);

bool
cq_view_run_lock(CqViewRun *view)
{
	const CqView *definition = &view->view;
	int i;

	view->result_rel = view->late_rel = NULL;
	for (i = 0; i < view->ninputs; i++)
		view->inputs[i].chunks_rel = NULL;
	for (i = 0; i < view->ninputs; i++)
		if (!input_lock(&view->inputs[i]))
			return false;
	return (view->close_prepared == NULL || cq_prepared_lock(view->close_prepared)) &&
		   relation_lock(definition->result, RowExclusiveLock, &view->result_rel) &&
		   (!OidIsValid(definition->late) || !definition->options.store_late ||
			relation_lock(definition->late, RowExclusiveLock, &view->late_rel)) &&
		   feeds_lock(view);
}

static bool
input_lock(CqInput *input)
{
	int i;

	for (i = 0; i < input->nstages; i++)
		if (!cq_prepared_lock(input->stages[i].prepared))
			return false;
	return !OidIsValid(input->chunks) ||
		   relation_lock(input->chunks, RowExclusiveLock, &input->chunks_rel);
}

static bool
feeds_lock(CqViewRun *view)
{
	ListCell *lc;

	foreach (lc, view->feed_logs)
		if (!cq_feed_log_lock(lfirst(lc)))
			return false;
	return true;
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

void
cq_view_run_open(CqRun *run, CqViewRun *view)
{
	CqRunIdentity saved = cq_run_as_owner(run);
	ListCell *lc;
	int i;
	int j;

	check_result(view);
	view->dead_letters = NIL;
	view->output = cq_output_begin_result(view->result_rel);
	view->late = view->late_rel ? cq_output_begin(view->late_rel) : NULL;
	foreach (lc, view->feed_logs)
		cq_feed_log_begin(lfirst(lc));
	for (i = 0; i < view->ninputs; i++)
	{
		CqInput *input = &view->inputs[i];

		for (j = 0; j < input->nstages; j++)
			input->stages[j].stage = NULL;
		input->closed_rows = NULL;
		if (input->op)
			cq_operator_begin(input->op, input->chunks_rel);
	}
	cq_run_as_system(saved);
}

/* The view may have got columns, and this is the plan from before. */
static void
check_result(const CqViewRun *view)
{
	const CqPlan *plan = view->plan;
	int natts = plan->emit != CQ_EMIT_CHANGES ? plan->result_desc->natts
				: plan->replaced			  ? plan->result_desc->natts + 2
											  : plan->closed_desc->natts + 1;

	if (RelationGetNumberOfAttributes(view->result_rel) != natts)
		ereport(ERROR,
				errcode(CQ_ERRCODE_FENCED),
				errmsg("continuous view \"%s\" was altered", view->name));
}

bool
cq_view_run_close_windows(CqRun *run, CqViewRun *view)
{
	if (view->shard)
		return cq_shard_step(run, view);
	if (view->op == NULL)
		return false;
	if (view->plan->emit == CQ_EMIT_CHANGES)
		return cq_operator_first_end(view->op) <= cq_view_run_watermark(run, view);
	return cq_view_run_emit(run, view, cq_view_run_watermark(run, view));
}

/* A window is complete for all inputs at the same watermark. */
bool
cq_view_run_emit(CqRun *run, CqViewRun *view, TimestampTz watermark)
{
	Tuplestorestate **rows;
	CqRunIdentity saved;
	bool any = false;
	int i;

	for (i = 0; i < view->ninputs; i++)
	{
		cq_view_run_freeze(run, view, &view->inputs[i], watermark);
		any = any || view->inputs[i].closed_rows;
	}
	if (!any)
		return false;
	saved = cq_run_as_owner(run);
	rows = palloc(sizeof(Tuplestorestate *) * view->ninputs);
	for (i = 0; i < view->ninputs; i++)
		rows[i] = closed_rows(run, &view->inputs[i]);
	cq_close_run(view->close_prepared, rows, close_receive, view);
	for (i = 0; i < view->ninputs; i++)
	{
		tuplestore_end(view->inputs[i].closed_rows);
		view->inputs[i].closed_rows = NULL;
	}
	pfree(rows);
	cq_run_as_system(saved);
	return true;
}

void
cq_view_run_freeze(CqRun *run, CqViewRun *view, CqInput *input, TimestampTz watermark)
{
	CqRunIdentity saved;

	if (cq_operator_first_end(input->op) > watermark)
		return;
	saved = cq_run_as_owner(run);
	/* a window counts for each input that has something in it */
	view->checkpoint.counters.windows_closed +=
		cq_operator_close(input->op, watermark, closed_rows(run, input));
	cq_run_as_system(saved);
}

static Tuplestorestate *
closed_rows(CqRun *run, CqInput *input)
{
	if (input->closed_rows == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(run->checkpoint_context);

		input->closed_rows = tuplestore_begin_heap(false, false, work_mem);
		MemoryContextSwitchTo(old);
	}
	return input->closed_rows;
}

TimestampTz
cq_view_run_first_end(const CqViewRun *view)
{
	TimestampTz end = DT_NOEND;
	int i;

	for (i = 0; i < view->ninputs; i++)
		if (view->inputs[i].op)
			end = Min(end, cq_operator_first_end(view->inputs[i].op));
	return end;
}

TimestampTz
cq_view_run_last_end(const CqViewRun *view)
{
	TimestampTz end = DT_NOBEGIN;
	int i;

	for (i = 0; i < view->ninputs; i++)
		if (view->inputs[i].op)
			end = Max(end, cq_operator_last_end(view->inputs[i].op));
	return end;
}

static void
close_receive(void *arg, TupleTableSlot *row)
{
	CqViewRun *view = arg;

	slot_getallattrs(row);
	cq_view_run_give_out(view, row->tts_values, row->tts_isnull, DT_NOBEGIN);
}

void
cq_view_run_give_out(CqViewRun *view, Datum *values, bool *nulls, TimestampTz mark)
{
	ListCell *lc;

	cq_output_insert(view->output, values, nulls);
	cq_retention_note_row(view, values, nulls);
	foreach (lc, view->feed_logs)
		cq_feed_log_row(lfirst(lc), values, nulls, false, mark);
}

void
cq_view_run_save(CqRun *run, CqViewRun *view)
{
	CqRunIdentity saved = cq_run_as_owner(run);
	int i;

	for (i = 0; i < view->ninputs; i++)
		stages_end(&view->inputs[i]);
	if (view->op && view->plan->emit == CQ_EMIT_CHANGES)
		show_changes(run, view);
	for (i = 0; i < view->ninputs; i++)
	{
		CqInput *input = &view->inputs[i];

		if (input->op == NULL)
			continue;
		cq_operator_save(input->op, input->chunks_rel);
		input->chunk_blocks = RelationGetNumberOfBlocks(input->chunks_rel);
	}
	cq_run_as_system(saved);
	feeds_mark(run, view);
	outputs_end(run, view);
	run->phase = CQ_PHASE_OTHER;
	cq_dead_letters_write(run, view);
	cq_retention_step(view);
}

static void
stages_end(CqInput *input)
{
	int i;

	for (i = 0; i < input->nstages; i++)
		if (input->stages[i].stage)
			cq_stage_end(input->stages[i].stage);
}

bool
cq_view_run_is_behind(const CqViewRun *view)
{
	return view->op && view->plan->emit == CQ_EMIT_CHANGES && cq_operator_is_behind(view->op);
}

/* Whoever waits for the view wants to see what was there when they called. */
bool
cq_view_run_refresh_due(const CqViewRun *view, long *wait_ms)
{
	int64 left_us = view->refreshed_us + view->view.options.emit_interval_us - cq_clock_us() -
					cq_clock_shift_us();

	if (left_us <= 0 || view->view.options.emit_interval_us == 0 || view->wait_ticket != 0)
		return true;
	if (wait_ms)
		*wait_ms = Min(*wait_ms, left_us / 1000 + 1);
	return false;
}

/* What is complete now was shown before it is forgotten. */
static void
show_changes(CqRun *run, CqViewRun *view)
{
	CqChangeSink sink = {.upsert = change_upsert, .remove = change_remove, .arg = view};
	TimestampTz watermark = cq_view_run_watermark(run, view);
	bool refresh = cq_view_run_refresh_due(view, NULL);
	int completed;

	cq_row_changes_begin(run, view);
	if (view->plan->replaced)
		completed = cq_operator_replace(view->op, watermark, refresh, window_replace, view);
	else
		completed = cq_operator_changes(view->op, watermark, refresh, &sink);
	view->checkpoint.counters.windows_closed += completed;
	if (refresh)
		view->refreshed_us = cq_clock_us() + cq_clock_shift_us();
	if (view->plan->window.kind != CQ_WINDOW_NONE)
		cq_operator_leave(view->op, watermark, cq_row_changes_final(view));
	cq_row_changes_give_out(view);
}

/* The window's rows are what the close query makes of those that it has now. */
static void
window_replace(void *arg, int64 number, bool fresh, Tuplestorestate *rows)
{
	CqViewRun *view = arg;
	CqReplacement *replacement =
		cq_replacement_begin(view->output, number, fresh, &view->checkpoint.next_gid);

	cq_close_run(view->close_prepared, &rows, window_row, replacement);
	cq_replacement_end(replacement);
	/* other windows are known by their start; these by numbers, of which none is used again */
	if (view->plan->window.kind == CQ_WINDOW_SESSION || view->plan->window.kind == CQ_WINDOW_COUNT)
		view->checkpoint.next_gid = Max(view->checkpoint.next_gid, number + 1);
}

static void
window_row(void *arg, TupleTableSlot *row)
{
	slot_getallattrs(row);
	cq_replacement_row(arg, row->tts_values, row->tts_isnull);
}

/*
 * Tell readers how far the view is, after its rows: if these may change, how far
 * they do not any more.
 */
static void
feeds_mark(CqRun *run, CqViewRun *view)
{
	TimestampTz watermark = cq_view_run_watermark(run, view);
	TimestampTz mark = DT_NOBEGIN;
	ListCell *lc;

	if (view->shard)
		return;
	if (watermark > view->checkpoint.closed_to)
		mark = view->plan->emit == CQ_EMIT_CHANGES && view->plan->window.kind != CQ_WINDOW_NONE
				   ? cq_operator_kept_from(view->op)
				   : watermark;
	foreach (lc, view->feed_logs)
		cq_feed_log_mark(lfirst(lc), mark);
}

static void
change_upsert(void *arg, int64 gid, bool is_new, ItemPointer tid, Datum *values, bool *nulls)
{
	CqViewRun *view = arg;

	cq_row_changes_note(view, gid, is_new, tid, values, nulls);
	cq_output_upsert(view->output, gid, is_new, tid, values, nulls);
	view->checkpoint.next_gid = Max(view->checkpoint.next_gid, gid + 1);
}

static void
change_remove(void *arg, int64 gid, ItemPointer tid)
{
	CqViewRun *view = arg;

	cq_row_changes_note(view, gid, false, tid, NULL, NULL);
	cq_output_delete(view->output, gid, tid);
}

/* Index expressions of the user's are evaluated here. */
static void
outputs_end(CqRun *run, CqViewRun *view)
{
	CqRunIdentity saved;
	int64 written;
	ListCell *lc;

	if (view->output == NULL)
		return;
	saved = cq_run_as_owner(run);
	view->checkpoint.counters.rows_kept += cq_output_growth(view->output);
	written = cq_output_end(view->output);
	view->checkpoint.counters.rows_out += written;
	view->retention.any_written = view->retention.any_written || written > 0;
	view->output = NULL;
	if (view->late)
		(void) cq_output_end(view->late);
	view->late = NULL;
	foreach (lc, view->feed_logs)
		cq_feed_log_end(lfirst(lc));
	cq_run_as_system(saved);
}

/*
 * The permission to lose records is used up by the first checkpoint that has
 * got past the gap.
 */
void
cq_view_run_write(CqRun *run, CqViewRun *view, int64 lost, int64 took_us)
{
	CqCheckpoint *cp = &view->checkpoint;

	if (view->shard)
		view->watermark = cp->frozen_to;
	else
	{
		view->watermark = cq_view_run_watermark(run, view);
		cp->closed_to = view->watermark;
	}
	cq_history_save_start(run, view);
	cp->stream_mark = run->watermark.mark;
	cp->npartitions = run->source->npartitions;
	cp->partitions = positions_of(run, view);
	cq_history_positions(run, view);
	cp->has_digest = true;
	cp->state_digest = cq_view_run_digest(view);
	cp->counters.lost += lost;
	cp->counters.checkpoint_us += took_us;
	if (view->shard)
		view->shard->past_gap = view->shard->past_gap || run->batches > 0;
	else if (view->task.accept_loss && run->batches > 0)
		cq_task_set_accept_loss(view->view.id, false);
	cq_notify(view);
	cq_checkpoint_write(cp);
	cp->partitions = NULL;
}

/*
 * All views of a task are at the same place, but they did not begin at the same
 * one.
 */
static CqPartition *
positions_of(const CqRun *run, const CqViewRun *view)
{
	int n = run->source->npartitions;
	CqPartition *partitions = palloc(sizeof(CqPartition) * Max(n, 1));
	int i;
	int j;

	for (i = 0; i < n; i++)
	{
		partitions[i] = run->source->partitions[i];
		partitions[i].next_offset += view->offset_shift;
		for (j = 0; j < view->nbegun; j++)
			if (view->begun[j].stream == partitions[i].stream &&
				view->begun[j].id == partitions[i].id)
				partitions[i].start_offset = view->begun[j].start_offset;
	}
	return partitions;
}

void
cq_view_run_close(CqRun *run, CqViewRun *view)
{
	ListCell *lc;
	int i;

	outputs_end(run, view);
	foreach (lc, view->feed_logs)
		cq_feed_log_close(lfirst(lc));
	table_close(view->result_rel, NoLock);
	if (view->late_rel)
		table_close(view->late_rel, NoLock);
	for (i = 0; i < view->ninputs; i++)
		if (view->inputs[i].chunks_rel)
			table_close(view->inputs[i].chunks_rel, NoLock);
}
