/*
 * retired.c
 *	  What is left of shards that have no worker any more.
 *
 * When a view is given fewer workers, some of its shards are retired: their
 * partitions are read by others, but they have counters, and state of windows that
 * are open (ddl/shards.c).  The first shard takes that over, some windows in each
 * of its checkpoints: what it adds to its own chunk table it deletes there in the
 * same transaction.  When nothing is left it adds the counters to its own, and the
 * rows and tables of the retired shard are removed.  A crash takes back a whole
 * checkpoint, so at each moment everything is in one of the two tables.
 *
 * When the last one is gone and the view has one worker, it is a view like any
 * other: the worker starts again without shards, its state as it is.  That takes a
 * plan for which the state means the same.  Where rows are kept only because they
 * came from several workers it does not, so such a view keeps its last retired
 * shard, as a mark, until it has no open window.
 *
 * Invariants
 *	H5. Nobody but the first shard reads or writes a retired shard's tables.  They
 *		have what was taken in before it was retired, in windows that end behind
 *		closed_to, less what is in the first shard's table.
 *	H6. No window closes while a retired shard has state: it may be part of it.
 */
#include "postgres.h"

#include "access/table.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

#include "catalog/shards.h"
#include "clock.h"
#include "monitor/slots.h"
#include "plan/view_plan.h"
#include "runtime/shard.h"

#define LOCK_RETRY_US INT64CONST(1000000)

static bool removable(const CqViewRun *view, const CqSibling *sibling);
static bool is_empty(const CqViewRun *view);
static bool portion_take(CqRun *run, CqViewRun *view, const CqSibling *sibling);
static bool suits_one_worker(CqRun *run, const CqViewRun *view);
static bool tables_lock(CqSibling *sibling);
static void sibling_remove(CqViewRun *view, const CqSibling *sibling);

bool
cq_retired_due(const CqViewRun *view)
{
	const CqShard *shard = view->shard;
	int i;

	for (i = 0; i < shard->nsiblings; i++)
	{
		const CqSibling *sibling = &shard->siblings[i];

		if (sibling->retired && (!sibling->drained || (removable(view, sibling) &&
													   cq_clock_us() >= sibling->not_before)))
			return true;
	}
	return false;
}

/* As far as is known: one that is not the last can always go. */
static bool
removable(const CqViewRun *view, const CqSibling *sibling)
{
	const CqShard *shard = view->shard;

	if (shard->workers > 1 || shard->nsiblings > 1)
		return true;
	return view->checkpoint.frozen_to <= view->checkpoint.closed_to &&
		   (!shard->keeps_last || is_empty(view));
}

static bool
is_empty(const CqViewRun *view)
{
	int i;

	for (i = 0; i < view->ninputs; i++)
		if (view->inputs[i].op && !cq_operator_is_empty(view->inputs[i].op))
			return false;
	return true;
}

bool
cq_retired_are_drained(const CqViewRun *view)
{
	const CqShard *shard = view->shard;
	int i;

	for (i = 0; i < shard->nsiblings; i++)
		if (shard->siblings[i].retired && !shard->siblings[i].drained)
			return false;
	return true;
}

/* One thing at a time: what comes next may be for a view without shards. */
bool
cq_retired_step(CqRun *run, CqViewRun *view)
{
	CqShard *shard = view->shard;
	int i;

	for (i = 0; i < shard->nsiblings; i++)
	{
		CqSibling *sibling = &shard->siblings[i];

		if (!sibling->retired)
			continue;
		if (!sibling->drained && portion_take(run, view, sibling))
			return true;
		sibling->drained = true;
		if (!removable(view, sibling) || cq_clock_us() < sibling->not_before)
			continue;
		shard->keeps_last =
			shard->workers == 1 && shard->nsiblings == 1 && !suits_one_worker(run, view);
		if (shard->keeps_last || !tables_lock(sibling))
			continue;
		sibling_remove(view, sibling);
		return true;
	}
	return false;
}

/* The next windows of an input; false if there are none left in any. */
static bool
portion_take(CqRun *run, CqViewRun *view, const CqSibling *sibling)
{
	CqRunIdentity saved = cq_run_as_owner(run);
	bool any = false;
	int input = 0;
	ListCell *lc;

	PushActiveSnapshot(GetLatestSnapshot());
	foreach (lc, sibling->chunks)
	{
		Relation chunks = table_open(lfirst_oid(lc), RowExclusiveLock);
		CqInput *into = &view->inputs[input++];
		TimestampTz upto = cq_operator_portion(into->op, chunks);

		if (!TIMESTAMP_IS_NOBEGIN(upto))
		{
			cq_operator_take_in(into->op,
								into->plan,
								chunks,
								view->checkpoint.closed_to,
								upto,
								true);
			any = true;
		}
		table_close(chunks, NoLock);
		if (any)
			break;
	}
	PopActiveSnapshot();
	cq_run_as_system(saved);
	return any;
}

static bool
suits_one_worker(CqRun *run, const CqViewRun *view)
{
	CqRunIdentity saved = cq_run_as_owner(run);
	CqPlan *plan = cq_view_plan(&view->view, false);
	bool suits = plan->ninputs == view->ninputs;
	int i;

	for (i = 0; i < view->ninputs && suits; i++)
		suits =
			view->inputs[i].op == NULL || cq_operator_suits(view->inputs[i].op, plan->inputs[i]);
	cq_run_as_system(saved);
	return suits;
}

/* Not waiting for anybody: a reader of the tables may be waiting for us. */
static bool
tables_lock(CqSibling *sibling)
{
	ListCell *lc;

	foreach (lc, sibling->chunks)
		if (!ConditionalLockRelationOid(lfirst_oid(lc), AccessExclusiveLock))
		{
			sibling->not_before = cq_clock_us() + LOCK_RETRY_US;
			return false;
		}
	return true;
}

/* The worker starts again when this is committed. */
static void
sibling_remove(CqViewRun *view, const CqSibling *sibling)
{
	CqShardRow shard = {.id = sibling->id, .view = view->view.id, .number = CQ_SHARD_RETIRED};
	CqCheckpoint last;

	if (sibling->chunks != NIL)
		shard.chunks = linitial_oid(sibling->chunks);
	if (cq_checkpoint_load(sibling->id, &last))
		cq_counters_add(&view->checkpoint.counters, &last.counters);
	cq_shard_remove(&shard);
	cq_slots_at_commit(CQ_SLOT_CHANGED, view->view.id);
}
