/*
 * row_changes.c
 *	  What readers of a view whose rows change are told.
 *
 * The result table has groups, and the view is a query over them (the plan's upper
 * query).  So the groups that changed are collected, as they were and as they are,
 * and at the end of the checkpoint that query is run over each: what it makes of the
 * former is taken back, what it makes of the latter is added.  It makes its rows of
 * one group each (plan/changing.c), so added up this is the view.
 *
 * As they were is what the result table has: it is read before it is written.
 */
#include "postgres.h"

#include "access/tupdesc.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/tuplestore.h"

#include "runtime/run.h"
#include "sink/feed_log.h"

/* Of one checkpoint; rows are those of groups. */
typedef struct CqRowChanges
{
	Tuplestorestate *before;
	Tuplestorestate *after;
	Tuplestorestate *final; /* of windows that are forgotten */
	bool any;
} CqRowChanges;

/* Which feeds get the rows that the upper query gives. */
typedef struct Giving
{
	CqViewRun *view;
	CqFeedMode mode;
	bool retracts;
} Giving;

static bool has_reader(const CqViewRun *view, CqFeedMode mode);
static bool same_values(TupleDesc desc, const Datum *before, const bool *before_nulls,
						const Datum *values, const bool *nulls);
static void give(CqViewRun *view, Tuplestorestate *groups, CqFeedMode mode, bool retracts);
static void row_give(void *arg, TupleTableSlot *row);

void
cq_row_changes_begin(CqRun *run, CqViewRun *view)
{
	MemoryContext old;
	CqRowChanges *changes;

	view->row_changes = NULL;
	if (view->feed_logs == NIL)
		return;
	old = MemoryContextSwitchTo(run->checkpoint_context);
	changes = palloc0(sizeof(CqRowChanges));
	if (has_reader(view, CQ_FEED_CHANGES))
	{
		changes->before = tuplestore_begin_heap(false, false, work_mem);
		changes->after = tuplestore_begin_heap(false, false, work_mem);
	}
	if (has_reader(view, CQ_FEED_FINAL))
		changes->final = tuplestore_begin_heap(false, false, work_mem);
	view->row_changes = changes;
	MemoryContextSwitchTo(old);
}

static bool
has_reader(const CqViewRun *view, CqFeedMode mode)
{
	ListCell *lc;

	foreach (lc, view->feed_logs)
		if (cq_feed_log_mode(lfirst(lc)) == mode)
			return true;
	return false;
}

/* A group may have been touched and be what it was: a maximum, for instance. */
void
cq_row_changes_note(CqViewRun *view, int64 gid, bool is_new, ItemPointer tid, Datum *values,
					bool *nulls)
{
	CqRowChanges *changes = view->row_changes;
	TupleDesc desc = view->plan->closed_desc;

	if (changes == NULL || changes->before == NULL)
		return;
	if (!is_new)
	{
		Datum *before;
		bool *before_nulls;

		cq_output_row(view->output, gid, tid, &before, &before_nulls);
		if (values && same_values(desc, before, before_nulls, values, nulls))
			return;
		tuplestore_putvalues(changes->before, desc, before, before_nulls);
	}
	if (values)
		tuplestore_putvalues(changes->after, desc, values, nulls);
	changes->any = true;
}

static bool
same_values(TupleDesc desc, const Datum *before, const bool *before_nulls, const Datum *values,
			const bool *nulls)
{
	int i;

	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (before_nulls[i] != nulls[i] ||
			(!nulls[i] && !datum_image_eq(before[i], values[i], att->attbyval, att->attlen)))
			return false;
	}
	return true;
}

Tuplestorestate *
cq_row_changes_final(CqViewRun *view)
{
	return view->row_changes ? view->row_changes->final : NULL;
}

void
cq_row_changes_give_out(CqViewRun *view)
{
	CqRowChanges *changes = view->row_changes;

	if (changes == NULL)
		return;
	if (changes->any)
	{
		give(view, changes->before, CQ_FEED_CHANGES, true);
		give(view, changes->after, CQ_FEED_CHANGES, false);
	}
	if (changes->final && tuplestore_tuple_count(changes->final) > 0)
		give(view, changes->final, CQ_FEED_FINAL, false);
	if (changes->before)
	{
		tuplestore_end(changes->before);
		tuplestore_end(changes->after);
	}
	if (changes->final)
		tuplestore_end(changes->final);
	view->row_changes = NULL;
}

static void
give(CqViewRun *view, Tuplestorestate *groups, CqFeedMode mode, bool retracts)
{
	Giving giving = {.view = view, .mode = mode, .retracts = retracts};

	cq_close_run(view->close_prepared, &groups, row_give, &giving);
}

static void
row_give(void *arg, TupleTableSlot *row)
{
	const Giving *giving = arg;
	ListCell *lc;

	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(row);
	foreach (lc, giving->view->feed_logs)
		if (cq_feed_log_mode(lfirst(lc)) == giving->mode)
			cq_feed_log_row(lfirst(lc),
							row->tts_values,
							row->tts_isnull,
							giving->retracts,
							DT_NOBEGIN);
}
