/*
 * whole.c
 *	  Does what a view has saved belong together?
 *
 * Positions, state and results change in one transaction, but they are in several
 * tables, and a restore can bring back some of them, or each from another time.  A
 * view that went on from there would be wrong without anybody's noticing.  So the
 * position row says what the others were when it was written: a digest of the chunk
 * tables (state/chunklog.h) and how many rows the result table had.  The digest is
 * kept up to date in memory and costs no reading; a worker compares it whenever it
 * reads its state.  adopt() compares both, and so does verify_state().
 *
 * Beside a worker a checkpoint may come between the reading of a position and of what
 * goes with it; then the position is another one afterwards, and nothing is said.
 *
 * Invariants
 *	P1. state_digest is that of the position's chunk tables, or null: a retired shard's
 *		are changed by the first shard's worker, which leaves its row alone.
 *	P2. The sum of rows_kept over all positions of a view is the number of rows in its
 *		result table.  Who deletes rows from it lowers the number in the same
 *		transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog/shards.h"
#include "catalog/whole.h"
#include "state/chunklog.h"

static List *positions_of(const CqView *view);
static Oid chunks_of(const CqView *view, int64 position);
static int64 count_rows(Oid relid);

bool
cq_position_has_state(const CqView *view, int64 position)
{
	CqCheckpoint before;
	CqCheckpoint after;
	uint64 digest;

	if (!cq_checkpoint_load(position, &before))
		return false;
	digest = cq_position_digest(view, position);
	if (!cq_checkpoint_load(position, &after))
		return false;
	return !before.has_digest || before.state_digest == digest || before.seq != after.seq ||
		   before.state_digest != after.state_digest;
}

char *
cq_view_torn(const CqView *view)
{
	int64 checkpoints = 0;
	int64 checkpoints_now = 0;
	int64 kept = 0;
	int64 rows;
	CqTask task;
	ListCell *lc;

	if (!cq_task_load(view->id, &task))
		return pstrdup("it has no row in pipeline_data.tasks");
	foreach (lc, positions_of(view))
	{
		int64 position = *(int64 *) lfirst(lc);
		CqCheckpoint checkpoint;

		if (!cq_checkpoint_load(position, &checkpoint))
			return pstrdup("it has no position");
		checkpoints += checkpoint.seq;
		kept += checkpoint.counters.rows_kept;
		if (!cq_position_has_state(view, position))
			return psprintf("table \"pipeline_data.%s\" does not have the state that its position "
							"goes with",
							get_rel_name(chunks_of(view, position)));
	}
	rows = count_rows(view->result);
	foreach (lc, positions_of(view))
	{
		CqCheckpoint checkpoint;

		if (cq_checkpoint_load(*(int64 *) lfirst(lc), &checkpoint))
			checkpoints_now += checkpoint.seq;
	}
	if (rows == kept || checkpoints_now != checkpoints)
		return NULL;
	return psprintf("table \"pipeline_data.%s\" has %lld rows of results, but %lld go with its "
					"position",
					get_rel_name(view->result),
					(long long) rows,
					(long long) kept);
}

bool
cq_view_take_as_is(const CqView *view)
{
	int64 left = count_rows(view->result);
	ListCell *lc;

	foreach (lc, positions_of(view))
	{
		int64 position = *(int64 *) lfirst(lc);
		CqCheckpoint checkpoint;

		if (!cq_checkpoint_take(position, &checkpoint))
			return false;
		if (checkpoint.has_digest)
			checkpoint.state_digest = cq_position_digest(view, position);
		checkpoint.counters.rows_kept = left;
		left = 0;
		cq_checkpoint_write(&checkpoint);
		CommandCounterIncrement();
	}
	return true;
}

/* With those of retired shards. */
static List *
positions_of(const CqView *view)
{
	int64 *own = palloc(sizeof(int64));
	List *positions;
	ListCell *lc;

	*own = view->id;
	positions = list_make1(own);
	foreach (lc, cq_shards_of_view(view->id))
		positions = lappend(positions, &((CqShardRow *) lfirst(lc))->id);
	return positions;
}

uint64
cq_position_digest(const CqView *view, int64 position)
{
	List *tables = cq_view_more_chunks(position);
	Oid first = chunks_of(view, position);
	uint64 digest = 0;
	ListCell *lc;

	if (OidIsValid(first))
		tables = lcons_oid(first, tables);
	PushActiveSnapshot(GetLatestSnapshot());
	foreach (lc, tables)
	{
		Relation rel = table_open(lfirst_oid(lc), AccessShareLock);

		digest += cq_chunk_table_digest(rel);
		table_close(rel, AccessShareLock);
	}
	PopActiveSnapshot();
	return digest;
}

static Oid
chunks_of(const CqView *view, int64 position)
{
	ListCell *lc;

	foreach (lc, cq_shards_of_view(view->id))
	{
		const CqShardRow *shard = lfirst(lc);

		if (shard->id == position)
			return shard->chunks;
	}
	return view->chunks;
}

static int64
count_rows(Oid relid)
{
	Relation rel = table_open(relid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan;
	int64 rows = 0;

	PushActiveSnapshot(GetLatestSnapshot());
	scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		rows++;
	}
	table_endscan(scan);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return rows;
}
