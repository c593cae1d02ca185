/*
 * pane.c
 *	  The panes of an operator, in order of their windows.
 */
#include "postgres.h"

#include "operator/shape.h"

int
cq_pane_search(CqOperator *operator, TimestampTz time)
{
	int low = 0;
	int high = operator->state->npanes;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (operator->state->panes[middle]->end <= time)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int
cq_pane_search_start(CqOperator *operator, TimestampTz start)
{
	int low = 0;
	int high = operator->state->npanes;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (operator->state->panes[middle]->start<start)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

CqPane *
cq_pane_create(CqOperator *operator, TimestampTz start, TimestampTz end)
{
	CqPane *pane = cq_state_create_pane(operator->state, start, end);

	if (pane == NULL)
		cq_operator_full(operator);
	operator->ops->init_pane(operator, pane);
	return pane;
}

void
cq_pane_insert(CqOperator *operator, int place, CqPane *pane)
{
	if (!cq_state_insert_pane(operator->state, place, pane))
		cq_operator_full(operator);
}

void
cq_pane_free(CqOperator *operator, CqPane * pane)
{
	cq_state_free_pane(operator->state, pane);
}

void
cq_panes_close(CqOperator *operator, int n)
{
	int i;

	for (i = 0; i < n; i++)
	{
		CqPane *pane = operator->state->panes[i];

		if (pane->top_instance == operator->instance)
			cq_top_seen_free(pane->top);
		pane->top_instance = 0;
	}
	cq_state_close_panes(operator->state, n);
	operator->current = NULL;
}

CqPane *
cq_pane_open(CqOperator *operator, int place, TimestampTz start, TimestampTz end)
{
	CqPane *pane = cq_pane_create(operator, start, end);

	cq_pane_insert(operator, place, pane);
	return pane;
}

CqPane *
cq_pane_like(CqOperator *operator, const CqPane * other)
{
	CqPane *pane = cq_operator_pane(operator, other->start);

	if (pane)
		return pane;
	pane = cq_pane_open(operator,
						cq_pane_search_start(operator, other->start),
						other->start,
						other->end);
	cq_pane_bounds_copy(pane, other);
	return pane;
}

void
cq_pane_bounds_copy(CqPane *pane, const CqPane *bounds)
{
	pane->first_end = bounds->first_end;
	pane->last_end = bounds->last_end;
	pane->number = bounds->number;
	pane->is_late_part = bounds->is_late_part;
}

CqPane *
cq_operator_pane(CqOperator *operator, int64 start)
{
	CqState *state = operator->state;
	int place;

	if (cq_has_one_pane(operator))
		return start == 0 ? state->panes[0] : NULL;
	place = cq_pane_search_start(operator, start);
	return place < state->npanes && state->panes[place]->start == start ? state->panes[place]
																		: NULL;
}

TimestampTz
cq_pane_own_start(const CqOperator *operator, TimestampTz end)
{
	bool hops = operator->window.kind == CQ_WINDOW_HOP;

	return end - (hops ? operator->window.size_us : operator->window.slide_us);
}
