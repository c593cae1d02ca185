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
 * Which sessions there are is only known when all parts of them are looked at, open
 * ones, too; see session_parts.c.
 *
 * The tables are read as they are: a chunk table is all that there is to know
 * about a part (O2), so nothing has to be written to hand a pane over.
 */
#include "postgres.h"

#include "operator/shape.h"

/* Parts of chunks, of up to 8 kB, that are read into memory together unless one pane has more. */
#define PORTION_CHUNKS 4096

/* When the first windows end that chunks of a table are for. */
typedef struct Survey
{
	CqOperator *operator;
	TimestampTz *ends;
	int64 n;
	int64 capacity;
} Survey;

static void panes_take_in(CqOperator *operator, CqOperator * other, TimestampTz after);
static void survey_pane(void *arg, int64 pane);
static int compare_ends(const void *a, const void *b);

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
	if (operator->sessions)
	{
		cq_sessions_forget(operator, to);
		return;
	}
	while (n < operator->state->npanes && operator->state->panes[n]->first_end <= to)
		n++;
	if (n > 0)
		cq_panes_close(operator, n);
	operator->closed_to = Max(operator->closed_to, to);
}

/* Of sessions all are looked at: what was complete at "after" is not of use any more. */
void
cq_operator_take_in(CqOperator *operator, const CqPlan * plan, Relation chunks, TimestampTz after,
					TimestampTz upto, bool retired)
{
	bool all = retired || operator->sessions;
	CqOperator *other = cq_operator_load(plan,
										 NULL,
										 0,
										 chunks,
										 0,
										 0,
										 operator->sessions ? after : DT_NOBEGIN,
										 all ? DT_NOBEGIN : after,
										 operator->sessions ? DT_NOEND : upto,
										 CurrentMemoryContext);
	int encoding = cq_client_encoding_pin();

	cq_operator_begin(other, chunks);
	PG_TRY();
	{
		if (operator->sessions)
			cq_sessions_take_part(operator, other, upto);
		else
			panes_take_in(operator, other, after);
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

static void
panes_take_in(CqOperator *operator, CqOperator * other, TimestampTz after)
{
	int i;

	for (i = 0; i < other->state->npanes; i++)
	{
		CqPane *part = other->state->panes[i];

		if (part->first_end > after)
			operator->ops->take_part(operator, cq_pane_like(operator, part), other, part);
	}
}

void
cq_operator_hold(CqOperator *operator, TimestampTz upto)
{
	if (operator->sessions)
		cq_sessions_hold(operator, upto);
}

/* What belongs to no window comes first: what is wrong with it is said when it is loaded. */
TimestampTz
cq_operator_portion(CqOperator *operator, Relation chunks)
{
	Survey survey = {.operator= operator, .capacity = 1024 };
	TimestampTz upto = DT_NOBEGIN;

	survey.ends = palloc(survey.capacity * sizeof(TimestampTz));
	cq_chunk_panes_visit(chunks, survey_pane, &survey);
	if (survey.n > 0)
	{
		qsort(survey.ends, survey.n, sizeof(TimestampTz), compare_ends);
		upto = survey.ends[Min(survey.n, PORTION_CHUNKS) - 1];
	}
	pfree(survey.ends);
	return upto;
}

static void
survey_pane(void *arg, int64 pane)
{
	Survey *survey = arg;
	CqPane bounds = {0};

	if (survey->n == survey->capacity)
	{
		survey->capacity *= 2;
		survey->ends = repalloc_huge(survey->ends, survey->capacity * sizeof(TimestampTz));
	}
	if (cq_has_one_pane(survey->operator))
		bounds.first_end = DT_NOEND;
	else if (!cq_pane_bounds(survey->operator, pane, &bounds))
		bounds.first_end = MIN_TIMESTAMP;
	survey->ends[survey->n++] = bounds.first_end;
}

static int
compare_ends(const void *a, const void *b)
{
	TimestampTz x = *(const TimestampTz *) a;
	TimestampTz y = *(const TimestampTz *) b;

	return (x > y) - (x < y);
}

void
cq_operator_number_from(CqOperator *operator, int64 gid)
{
	CqState *state = operator->state;

	state->next_gid = Max(state->next_gid, gid);
	state->committed_gid = Max(state->committed_gid, gid);
}
