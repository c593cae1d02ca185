/*
 * changes.c
 *	  Rows of groups that change: which ones, and when.
 *
 * Without windows, and where open windows are shown, the groups that were touched
 * since the last save.  Where a window is shown when it is complete, all of its
 * groups then, and the touched ones afterwards.
 *
 * Windows that keep their rows are shown as a whole, if they have got any.
 *
 * What is not complete need not be shown at every checkpoint (emit_interval).  Then
 * the rows of the touched groups are behind: so their entries say, and a later
 * call finds them among the groups in memory, where they stay until then.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "operator/shape.h"

static bool window_is_due(CqOperator *operator, CqPane * pane, const CqChanges *changes);
static void window_give_out(CqOperator *operator, CqPane * pane, CqReplaceWindow give_out,
							void *arg);
static void show_groups(CqOperator *operator, CqPane * pane, CqChanges *changes);
static int show_windows(CqOperator *operator, const CqChanges * changes);
static void show_touched(CqOperator *operator, CqPane * pane, const CqChanges *changes);
static void show_behind(CqOperator *operator, CqPane * pane, const CqChanges *changes);
static void put_off(CqOperator *operator, CqPane * pane);
static void show_all(CqOperator *operator, CqPane * pane, const CqChanges *changes);
static void show_begin(CqOperator *operator, CqPane * pane);
static void show_group(CqOperator *operator, CqPane * pane, CqGroup *group, void *arg);

int
cq_operator_changes(CqOperator *operator, TimestampTz watermark, bool refresh,
					const CqChangeSink *sink)
{
	CqChanges changes = {.sink = sink,
						 .refresh = refresh || cq_operator_is_short(operator),
						 .complete_to = watermark,
						 .leave_to = cq_before(watermark, operator->keep_closed_us)};

	Assert(operator->changes);
	if (operator->counts)
		return cq_counts_changes(operator, & changes);
	if (operator->sessions)
		return cq_sessions_changes(operator, & changes);
	if (operator->window.kind != CQ_WINDOW_NONE)
		return show_windows(operator, & changes);
	show_groups(operator, operator->state->panes[0], &changes);
	return 0;
}

bool
cq_operator_is_behind(const CqOperator *operator)
{
	int i;

	for (i = 0; i < operator->state->npanes; i++)
		if (operator->state->panes[i]->behind)
			return true;
	return false;
}

/* Those of a view without windows. */
static void
show_groups(CqOperator *operator, CqPane * pane, CqChanges *changes)
{
	if (operator->nkeys == 0 && pane->ngroups == 0)
	{
		/* without GROUP BY there is a row even when there is nothing to aggregate */
		cq_key_pack(operator->kinds[0].codec, NULL, NULL);
		(void) cq_group_add(operator, pane, 0);
		changes->refresh = true;
	}
	if (changes->refresh)
		show_touched(operator, pane, changes);
	else
		put_off(operator, pane);
}

static int
show_windows(CqOperator *operator, const CqChanges * changes)
{
	CqState *state = operator->state;
	int completed = 0;
	int i;

	for (i = 0; i < state->npanes; i++)
	{
		CqPane *pane = state->panes[i];
		bool complete = pane->end <= changes->complete_to;
		bool was_complete = pane->end <= operator->shown_to;

		CHECK_FOR_INTERRUPTS();
		if (complete && !was_complete)
			completed++;
		if (was_complete || (operator->shows_open &&(complete || changes->refresh)))
			show_touched(operator, pane, changes);
		else if (operator->shows_open)
			put_off(operator, pane);
		else if (complete)
			show_all(operator, pane, changes);
	}
	return completed;
}

/* The rows of groups that changed, now or before. */
static void
show_touched(CqOperator *operator, CqPane * pane, const CqChanges *changes)
{
	CqTouched *touched;

	if (pane->touched == NULL && !pane->behind)
		return;
	show_begin(operator, pane);
	for (touched = pane->touched; touched; touched = touched->next)
		if (touched->group->kind == 0)
			cq_group_show(operator, pane, touched->group, changes);
	if (pane->behind)
		show_behind(operator, pane, changes);
	MemoryContextReset(operator->emitting);
}

/*
 * If memory is too short to note that all are to be saved, the rest waits for the next
 * time, where there will be one.
 */
static void
show_behind(CqOperator *operator, CqPane * pane, const CqChanges *changes)
{
	bool leaves = pane->end <= changes->leave_to;
	CqGroupScan scan;
	CqGroup *group;

	cq_group_scan_begin(&scan, &pane->groups, 0, 0);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		if (group->kind > 0 || !cq_group_is_behind(operator, group))
			continue;
		if (!leaves && !cq_group_resave(operator, pane, group))
		{
			if (pane->end <= changes->complete_to)
				cq_operator_full(operator);
			return;
		}
		cq_group_show(operator, pane, group, changes);
	}
	pane->behind = false;
}

/* What changed is to be shown later. */
static void
put_off(CqOperator *operator, CqPane * pane)
{
	CqTouched *touched;

	/* that it is behind is not taken back by an abort */
	if (pane->touched)
		operator->state->current = false;
	for (touched = pane->touched; touched; touched = touched->next)
		if (touched->group->kind == 0)
		{
			cq_group_row(touched->group)->behind = true;
			pane->behind = true;
		}
}

/* Those of a window that has none yet, on disk or not. */
static void
show_all(CqOperator *operator, CqPane * pane, const CqChanges *changes)
{
	show_begin(operator, pane);
	cq_groups_visit(operator, pane, show_group, unconstify(CqChanges *, changes));
	MemoryContextReset(operator->emitting);
}

static void
show_begin(CqOperator *operator, CqPane * pane)
{
	/* where rows are is not taken back by an abort */
	operator->state->current = false;
	if (operator->window.kind != CQ_WINDOW_NONE)
		cq_window_values(operator,
						 operator->emitting,
						 cq_pane_window_start(operator, pane),
						 pane->end);
}

static void
show_group(CqOperator *operator, CqPane * pane, CqGroup *group, void *arg)
{
	if (group->kind == 0)
		cq_group_show(operator, pane, group, arg);
}

void
cq_group_show(CqOperator *operator, CqPane * pane, CqGroup *group, const CqChanges *changes)
{
	CqGroupRow *row = cq_group_row(group);

	CHECK_FOR_INTERRUPTS();
	row->behind = false;
	if (cq_group_is_empty(operator, group))
	{
		if (row->exists)
			changes->sink->remove(changes->sink->arg, row->gid, &row->tid);
		row->exists = false;
		operator->emptied++;
		return;
	}
	cq_group_values(operator, pane, group, true);
	changes->sink->upsert(changes->sink->arg,
						  row->gid,
						  !row->exists,
						  &row->tid,
						  operator->values,
						  operator->nulls);
	row->exists = true;
	MemoryContextReset(operator->scratch);
}

/* ------------------------------------------------------------------------
 * Windows that keep their rows
 * ------------------------------------------------------------------------
 */

int
cq_operator_replace(CqOperator *operator, TimestampTz watermark, bool refresh,
					CqReplaceWindow give_out, void *arg)
{
	CqChanges changes = {.refresh = refresh, .complete_to = watermark};
	CqState *state = operator->state;
	int completed = 0;
	int i;

	Assert(operator->replaces);
	if (operator->count_rows)
		return cq_count_rows_replace(operator, refresh, give_out, arg);
	if (operator->session_rows)
		return cq_session_rows_replace(operator, watermark, refresh, give_out, arg);
	for (i = 0; i < state->npanes; i++)
	{
		CqPane *pane = state->panes[i];

		CHECK_FOR_INTERRUPTS();
		if (pane->end <= watermark && pane->end > operator->shown_to)
			completed++;
		if (window_is_due(operator, pane, &changes))
			window_give_out(operator, pane, give_out, arg);
		else if (cq_rows_have_come(pane))
			pane->behind = operator->shows_open;
	}
	return completed;
}

static bool
window_is_due(CqOperator *operator, CqPane * pane, const CqChanges *changes)
{
	bool changed = pane->behind || cq_rows_have_come(pane);

	if (pane->end <= operator->shown_to)
		return changed;
	if (pane->end <= changes->complete_to)
		return changed || !operator->shows_open;
	return changed && operator->shows_open && changes->refresh;
}

static void
window_give_out(CqOperator *operator, CqPane * pane, CqReplaceWindow give_out, void *arg)
{
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);
	bool was_shown = operator->shows_open || pane->end <= operator->shown_to;

	/* that it is not behind any more is not taken back by an abort */
	operator->state->current = false;
	operator->ops->emit(operator, pane, cq_pane_window_start(operator, pane), pane->end, rows);
	give_out(arg, cq_pane_number(operator, pane), pane->is_new || !was_shown, rows);
	tuplestore_end(rows);
	pane->behind = false;
}
