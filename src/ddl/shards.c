/*
 * shards.c
 *	  Giving a view several workers, and another number of them.
 *
 * Worker number i of n reads the partitions whose number, modulo n, is i.  To
 * alter n is to hand the partitions' positions round, in one transaction that
 * rewrites all rows of checkpoints: each worker then fails at its next one and
 * starts again from its new row.  A checkpoint under way is waited for.
 *
 * State stays where it is.  Groups of a window may be in any shard's state: they
 * are combined when the window closes (runtime/shard.c).  A shard that has no
 * worker any more is retired: its row, its counters and its state remain until the
 * first shard's worker has taken them over (runtime/retired.c).  It is the first to
 * be used again.  One without state goes at once.
 *
 * Groups without a window cannot stay where they are, because their events may
 * now be read by another shard; nor can it be told whose they are.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"

#include "catalog/feeds.h"
#include "catalog/shards.h"
#include "ddl/feeds.h"
#include "ddl/identity.h"
#include "ddl/limits.h"
#include "ddl/parts.h"
#include "ddl/shards.h"
#include "plan/view_plan.h"
#include "source/stream.h"

/* The positions of a view while it is altered. */
typedef struct Positions
{
	int n;				 /* workers before */
	CqCheckpoint *taken; /* of shards 0 .. n - 1 */
	TimestampTz closed_to;
	TimestampTz frozen_to;
	bool begun; /* they know which partitions there were at first */
	int npartitions;
	CqPartition *partitions; /* of all of them */
	CqCounters removed;		 /* of shards that are no more */
} Positions;

static CqShardRow *shard_make(const CqView *view, int number);
static int64 next_id(void);
static void check_plan(const CqView *view, int workers);
static void check_input(const CqPlan *before, const CqPlan *after, const char *name);
static void positions_take(const CqView *view, List *shards, Positions *positions);
static void check_begun(const CqView *view, const Positions *positions);
static List *shards_number(const CqView *view, List *shards, int workers);
static List *stateless_remove(List *shards, CqCounters *removed);
static void position_write(const Positions *positions, int64 id, int number, int workers);

void
cq_shards_check(const CqPlan *plan, int workers, const char *view_name)
{
	if (workers == 1 || cq_stream_load(plan->stream)->kind == CQ_STREAM_KAFKA)
		return;
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("continuous view \"%s\" cannot have several workers", view_name),
			errdetail(
				"Workers divide the partitions of a topic among them; a local stream has one."),
			errhint("Leave the option \"workers\" out."));
}

void
cq_shards_create(const CqView *view, int workers)
{
	int i;

	for (i = 1; i < workers; i++)
		(void) shard_make(view, i);
}

/* It has as many tables for state as the view has inputs. */
static CqShardRow *
shard_make(const CqView *view, int number)
{
	int more = list_length(cq_view_more_chunks(view->id));
	CqShardRow *shard = palloc(sizeof(CqShardRow));
	int i;

	shard->id = next_id();
	shard->view = view->id;
	shard->number = number;
	shard->chunks = OidIsValid(view->chunks) ? cq_parts_create_chunks(view, shard->id) : InvalidOid;
	cq_shard_insert(shard);
	cq_checkpoint_insert(shard->id);
	for (i = 1; i <= more; i++)
		cq_view_add_chunks(shard->id, i, cq_parts_create_chunks(view, next_id()));
	return shard;
}

static int64
next_id(void)
{
	Oid sequence = get_relname_relid("id_seq", get_namespace_oid("pipeline_data", false));

	return nextval_internal(sequence, false);
}

void
cq_shards_alter(const CqView *view, int workers)
{
	List *shards = cq_shards_of_view(view->id);
	Positions positions;
	CqTask task;
	ListCell *lc;

	if (workers == list_length(cq_view_positions(view->id)))
		return;
	cq_feeds_refuse_workers(view, workers);
	check_plan(view, workers);
	positions_take(view, shards, &positions);
	check_begun(view, &positions);
	if (workers > positions.n)
		cq_limits_check(cq_parts_owner(view->view),
						workers - positions.n,
						get_rel_name(view->view));
	/* while the list still says who has a worker */
	cq_shards_at_commit(CQ_SLOT_CHANGED, view->id);
	shards = shards_number(view, shards, workers);
	if (!OidIsValid(view->chunks))
		shards = stateless_remove(shards, &positions.removed);
	position_write(&positions, view->id, 0, workers);
	foreach (lc, shards)
	{
		const CqShardRow *shard = lfirst(lc);

		position_write(&positions, shard->id, shard->number, workers);
	}
	if (!cq_task_load(view->id, &task) || task.state != CQ_TASK_RUNNING || !cq_task_is_ours(&task))
		return;
	cq_shards_at_commit(CQ_SLOT_ADD, view->id);
	if (workers > positions.n)
		cq_limits_warn_of_workers(workers - positions.n);
}

/* The state that there is must be the state of the new plan. */
static void
check_plan(const CqView *view, int workers)
{
	const char *name = get_rel_name(view->view);
	CqIdentity saved;
	CqPlan *before;
	CqPlan *after;
	int i;

	cq_identity_owner(cq_parts_owner(view->view), view->settings, &saved);
	before = cq_view_plan(view, cq_shards_of_view(view->id) != NIL);
	after = cq_view_plan(view, true);
	cq_identity_restore(&saved);
	cq_shards_check(after, workers, name);
	if (after->emit == CQ_EMIT_CHANGES)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("number of workers of continuous view \"%s\" cannot be altered", name),
				errdetail(
					"Its groups are kept for ever, each by the worker that reads its events."),
				errhint("Drop the view and create it again, or create another one beside it."));
	if (before->ninputs != after->ninputs)
		elog(ERROR, "view has %d inputs, not %d", after->ninputs, before->ninputs);
	for (i = 0; i < after->ninputs; i++)
		check_input(before->inputs[i], after->inputs[i], name);
}

static void
check_input(const CqPlan *before, const CqPlan *after, const char *name)
{
	if (after->disjoint && after->shape == CQ_SHAPE_AGGREGATE)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("number of workers of continuous view \"%s\" cannot be altered", name),
				errdetail("A group would be in two workers' states then, which cannot be put "
						  "together, as an aggregate has no combine function."),
				errhint("Drop the view and create it again, or create another one beside it."));
	if (before->shape != after->shape)
		ereport(
			ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("number of workers of continuous view \"%s\" cannot be altered", name),
			errdetail("With several workers its events would have to be kept until their window "
					  "closes, because of %s.",
					  after->rows_why ? after->rows_why : before->rows_why),
			errhint("Drop the view and create it again, or create another one beside it."));
}

static void
positions_take(const CqView *view, List *shards, Positions *positions)
{
	ListCell *lc;
	int i;

	memset(positions, 0, sizeof(*positions));
	positions->taken = palloc0(sizeof(CqCheckpoint) * (list_length(shards) + 1));
	if (!cq_checkpoint_take(view->id, &positions->taken[positions->n++]))
		cq_view_gone(get_rel_name(view->view));
	foreach (lc, shards)
	{
		const CqShardRow *shard = lfirst(lc);

		if (shard->number == CQ_SHARD_RETIRED)
			continue;
		if (!cq_checkpoint_take(shard->id, &positions->taken[positions->n++]))
			cq_view_gone(get_rel_name(view->view));
	}
	positions->closed_to = positions->taken[0].closed_to;
	positions->frozen_to = Max(positions->closed_to, positions->taken[0].frozen_to);
	positions->begun = true;
	for (i = 0; i < positions->n; i++)
	{
		const CqCheckpoint *taken = &positions->taken[i];

		positions->begun =
			positions->begun && (shards != NIL ? taken->seq > 0 : taken->npartitions > 0);
		positions->partitions =
			positions->partitions
				? repalloc(positions->partitions,
						   sizeof(CqPartition) * (positions->npartitions + taken->npartitions + 1))
				: palloc(sizeof(CqPartition) * (taken->npartitions + 1));
		memcpy(positions->partitions + positions->npartitions,
			   taken->partitions,
			   sizeof(CqPartition) * taken->npartitions);
		positions->npartitions += taken->npartitions;
	}
}

/*
 * A worker that has not begun yet finds its partitions' first positions as the
 * option "start" says, one that has begins new ones at their first record.
 */
static void
check_begun(const CqView *view, const Positions *positions)
{
	if (positions->begun)
		return;
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("number of workers of continuous view \"%s\" cannot be altered now",
				   get_rel_name(view->view)),
			errdetail("Not all of its workers have found the partitions that they read."),
			errhint(
				"Try again when they have; pipeline.stat_partitions shows those that were found."));
}

/* Those that are too many are retired; where some are missing, retired ones come first. */
static List *
shards_number(const CqView *view, List *shards, int workers)
{
	List *spare = NIL;
	bool *there = palloc0(sizeof(bool) * workers);
	ListCell *lc;
	int i;

	foreach (lc, shards)
	{
		CqShardRow *shard = lfirst(lc);

		if (shard->number != CQ_SHARD_RETIRED && shard->number < workers)
		{
			there[shard->number] = true;
			continue;
		}
		if (shard->number != CQ_SHARD_RETIRED)
		{
			cq_slots_at_commit(CQ_SLOT_REMOVE, shard->id);
			cq_shard_set_number(shard->id, CQ_SHARD_RETIRED);
			shard->number = CQ_SHARD_RETIRED;
		}
		spare = lappend(spare, shard);
	}
	for (i = 1; i < workers; i++)
	{
		CqShardRow *shard;

		if (there[i])
			continue;
		if (spare != NIL)
		{
			shard = linitial(spare);
			spare = list_delete_first(spare);
			shard->number = i;
			cq_shard_set_number(shard->id, i);
		}
		else
		{
			shard = shard_make(view, i);
			shards = lappend(shards, shard);
		}
	}
	return shards;
}

/* Returns those that are left. */
static List *
stateless_remove(List *shards, CqCounters *removed)
{
	List *left = NIL;
	ListCell *lc;

	foreach (lc, shards)
	{
		CqShardRow *shard = lfirst(lc);
		CqCheckpoint checkpoint;

		if (shard->number != CQ_SHARD_RETIRED)
		{
			left = lappend(left, shard);
			continue;
		}
		if (!cq_checkpoint_take(shard->id, &checkpoint))
			cq_view_gone(NULL);
		cq_counters_add(removed, &checkpoint.counters);
		cq_shard_remove(shard);
	}
	return left;
}

/* Windows that are announced, or out, take no events from the worker that comes now either. */
static void
position_write(const Positions *positions, int64 id, int number, int workers)
{
	CqCheckpoint checkpoint;
	int i;

	if (!cq_checkpoint_take(id, &checkpoint))
		cq_view_gone(NULL);
	checkpoint.npartitions = 0;
	checkpoint.partitions = palloc(sizeof(CqPartition) * (positions->npartitions + 1));
	for (i = 0; i < positions->npartitions; i++)
		if (number != CQ_SHARD_RETIRED && positions->partitions[i].id % workers == number)
			checkpoint.partitions[checkpoint.npartitions++] = positions->partitions[i];
	checkpoint.frozen_to = Max(checkpoint.frozen_to, positions->frozen_to);
	checkpoint.stream_mark = positions->frozen_to;
	if (number == CQ_SHARD_RETIRED)
		checkpoint.has_digest = false;
	if (number == 0)
		cq_counters_add(&checkpoint.counters, &positions->removed);
	else
		checkpoint.closed_to = Max(checkpoint.closed_to, positions->closed_to);
	cq_checkpoint_write(&checkpoint);
	CommandCounterIncrement();
}

void
cq_shards_at_commit(CqSlotAction action, int64 view)
{
	ListCell *lc;

	foreach (lc, cq_view_positions(view))
		cq_slots_at_commit(action, *(int64 *) lfirst(lc));
}
