/*
 * combine.c
 *	  State in parts: several operators of one plan, each with a chunk table of
 *	  its own, keep what together is the state of the view's windows.
 *
 * A part is first frozen: its operator is given no more rows that count in the
 * windows that end up to some time.  When what it has of them has been saved by
 * all, one of the operators takes in what the others' tables hold of these
 * windows and closes them.  Then the others forget theirs.
 *
 * What is handed over in this way is a pane, when the first window that it is part
 * of closes.  A slice that is part of further windows is the first operator's from
 * then on.  What comes later and counts in some of these goes into a pane of its
 * own, for those windows alone (slices.c).
 *
 * The tables are read as they are: a chunk table is all that there is to know
 * about a part (O2), so nothing has to be written to hand a pane over.
 */
#include "postgres.h"

#include "operator/shape.h"

/*
 * Panes are in order of their slices, which is nearly that of the ends of their
 * first windows.  One that has to wait for those before it is only in the way.
 */
void
cq_operator_forget(CqOperator *operator, TimestampTz to)
{
	int n = 0;

	if (operator->window.kind == CQ_WINDOW_NONE)
		return;
	while (n < operator->state->npanes && operator->state->panes[n]->first_end <= to)
		n++;
	if (n > 0)
		cq_panes_close(operator, n);
	operator->closed_to = Max(operator->closed_to, to);
}

void
cq_operator_take_in(CqOperator *operator, const CqPlan * plan, Relation chunks, TimestampTz after,
					TimestampTz upto, bool retired)
{
	CqOperator *other = cq_operator_load(plan,
										 NULL,
										 0,
										 chunks,
										 0,
										 0,
										 DT_NOBEGIN,
										 retired ? DT_NOBEGIN : after,
										 upto,
										 CurrentMemoryContext);
	int encoding = cq_client_encoding_pin();

	cq_operator_begin(other, chunks);
	PG_TRY();
	{
		int i;

		for (i = 0; i < other->state->npanes; i++)
		{
			CqPane *part = other->state->panes[i];

			if (part->first_end > after)
				operator->ops->take_part(operator, cq_pane_like(operator, part), other, part);
		}
	}
	PG_FINALLY();
	{
		cq_client_encoding_restore(encoding);
	}
	PG_END_TRY();
	if (retired && other->state->npanes > 0)
	{
		cq_operator_forget(other, upto);
		cq_operator_save(other, chunks);
	}
	cq_operator_destroy(other);
}

void
cq_operator_number_from(CqOperator *operator, int64 gid)
{
	CqState *state = operator->state;

	state->next_gid = Max(state->next_gid, gid);
	state->committed_gid = Max(state->committed_gid, gid);
}
