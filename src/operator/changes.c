/*
 * changes.c
 *	  Rows of groups that change: which ones, and when.
 *
 * Without windows, and where open windows are shown, the groups that were touched
 * since the last save.  Where a window is shown when it is complete, all of its
 * groups then, and the touched ones afterwards.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "operator/shape.h"

/* Where rows that change go. */
typedef struct Changes
{
	CqUpsert upsert;
	void *arg;
} Changes;

static void show_touched(CqOperator *operator, CqPane * pane, Changes *changes);
static void show_all(CqOperator *operator, CqPane * pane, Changes *changes);
static void show_begin(CqOperator *operator, CqPane * pane);
static void show_group(CqOperator *operator, CqPane * pane, CqGroup *group, void *arg);

int
cq_operator_changes(CqOperator *operator, TimestampTz watermark, CqUpsert upsert, void *arg)
{
	Changes changes = {.upsert = upsert, .arg = arg};
	CqState *state = operator->state;
	int completed = 0;
	int i;

	Assert(operator->changes);
	if (operator->counts)
		return cq_counts_changes(operator, upsert, arg);
	if (operator->window.kind == CQ_WINDOW_NONE)
	{
		if (operator->nkeys == 0 && state->panes[0]->ngroups == 0)
		{
			/* without GROUP BY there is a row even when there is nothing to aggregate */
			cq_key_pack(operator->kinds[0].codec, NULL, NULL);
			(void) cq_group_add(operator, state->panes[0], 0);
		}
		show_touched(operator, state->panes[0], &changes);
		return 0;
	}
	for (i = 0; i < state->npanes; i++)
	{
		CqPane *pane = state->panes[i];
		bool complete = pane->end <= watermark;
		bool was_complete = pane->end <= operator->shown_to;

		CHECK_FOR_INTERRUPTS();
		if (complete && !was_complete)
			completed++;
		if (operator->shows_open || was_complete)
			show_touched(operator, pane, &changes);
		else if (complete)
			show_all(operator, pane, &changes);
	}
	return completed;
}

/* The rows of groups that changed. */
static void
show_touched(CqOperator *operator, CqPane * pane, Changes *changes)
{
	CqTouched *touched;

	if (pane->touched == NULL)
		return;
	show_begin(operator, pane);
	for (touched = pane->touched; touched; touched = touched->next)
		show_group(operator, pane, touched->group, changes);
	MemoryContextReset(operator->emitting);
}

/* Those of a window that has none yet, on disk or not. */
static void
show_all(CqOperator *operator, CqPane * pane, Changes *changes)
{
	show_begin(operator, pane);
	cq_groups_visit(operator, pane, show_group, changes);
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
	Changes *changes = arg;
	CqGroupRow *row;

	CHECK_FOR_INTERRUPTS();
	if (group->kind > 0)
		return;
	row = cq_group_row(group);
	cq_group_values(operator, pane, group, true);
	changes->upsert(changes->arg,
					row->gid,
					!row->exists,
					&row->tid,
					operator->values,
					operator->nulls);
	row->exists = true;
	MemoryContextReset(operator->scratch);
}
