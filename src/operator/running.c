/*
 * running.c
 *	  A window that moves on: what the last one to close was made of, kept.
 *
 * Windows that follow each other have most of their slices in common.  Where the
 * states of slices can be taken back from a window as they were added - counts,
 * and sums of integers, but no extremes - the next window is the last one with
 * the slices that have come and without those that have gone: two slices' work,
 * however many there are in a window.  It takes the place of blocks (slices.c).
 *
 * A group is in the window as long as it is in one of its slices; that is
 * counted in CqGroup.chunk, as nothing of the window is ever saved.
 *
 * Invariants
 *	N1. The running window is made of those slices that are marked with the
 *		operator's number (counted_by), as they are now: one that is about to
 *		change, or to leave, is taken back first.
 *	N2. It is equal, byte for byte, to what combining its slices would give.  Hence
 *		it can be forgotten at any time, and does not outlive the operator.
 */
#include "postgres.h"

#include "operator/shape.h"
#include "window/window.h"

static void take_back(CqOperator *operator, CqPane * slice);

/* Not where a window has little in common with the next one. */
bool
cq_running_pays(const CqWindow *window)
{
	return window->kind == CQ_WINDOW_CUMULATE || window->size_us / 2 > window->slide_us;
}

CqPane *
cq_running_window(CqOperator *operator, int first, int64 to, TimestampTz end)
{
	int i;

	if (operator->running == NULL)
		operator->running = cq_pane_create(operator, end, end);
	for (i = first; i < operator->state->npanes && operator->state->panes[i]->number<to; i++)
	{
		CqPane *slice = operator->state->panes[i];

		if (slice->counted_by == operator->instance || slice->first_end> end)
			continue;
		operator->ops->combine(operator, operator->running, slice);
		slice->counted_by = operator->instance;
		operator->nrunning++;
	}
	return operator->running;
}

void
cq_running_change(CqOperator *operator, CqPane * slice)
{
	if (slice->counted_by == operator->instance)
		take_back(operator, slice);
}

/* When all of them leave together there is nothing to keep. */
void
cq_running_leave(CqOperator *operator, int n)
{
	int counted = 0;
	int i;

	for (i = 0; i < n; i++)
		counted += operator->state->panes[i]->counted_by == operator->instance;
	if (counted == operator->nrunning)
		cq_running_forget(operator);
	for (i = 0; i < n; i++)
		cq_running_change(operator, operator->state->panes[i]);
}

void
cq_running_forget(CqOperator *operator)
{
	int i;

	if (operator->running == NULL)
		return;
	for (i = 0; i < operator->state->npanes; i++)
		operator->state->panes[i]->counted_by = 0;
	cq_pane_free(operator, operator->running);
	operator->running = NULL;
	operator->nrunning = 0;
}

static void
take_back(CqOperator *operator, CqPane * slice)
{
	operator->ops->take_back(operator, operator->running, slice);
	slice->counted_by = 0;
	operator->nrunning--;
}
