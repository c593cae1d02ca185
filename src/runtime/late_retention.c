/*
 * late_retention.c
 *	  Late rows are kept for as long as the view's option late_retention says, or
 *	  retention if that is less.
 *
 * The table has no index on the time of arrival, which would cost every late
 * event more than this does: from time to time the worker goes through the
 * table, a few pages at a time, each time in a transaction of its own.  It
 * remembers how old the oldest row is that it left, and does not look again
 * before that one is due.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "runtime/late.h"
#include "runtime/shard.h"

#define STEP_BLOCKS	   128
#define STEP_PAUSE_US  (INT64CONST(50) * 1000)
#define LONGEST_PAUSE  (10 * USECS_PER_MINUTE)
#define PAUSES_PER_AGE 10

static int64 late_retention_us(const CqViewOptions *options);
static bool sweep(CqLateSweep *sweep, Relation rel, int column, TimestampTz before);
static void row_look(CqLateSweep *sweep, Relation rel, TupleTableSlot *slot, int column,
					 TimestampTz before);

void
cq_late_retention_step(CqViewRun *view)
{
	CqLateSweep *state = &view->late_sweep;
	int64 retention_us = late_retention_us(&view->view.options);
	TimestampTz now = cq_clock_now();
	Relation rel = NULL;
	bool done = false;

	/* what is about to be applied is not deleted before */
	if (retention_us < 0 || !OidIsValid(view->view.late) || now < state->due ||
		view->task.apply_late != 0 || (view->shard && view->shard->number != 0))
		return;
	StartTransactionCommand();
	if (ConditionalLockRelationOid(view->view.late, RowExclusiveLock))
		rel = try_relation_open(view->view.late, NoLock);
	if (rel)
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		if (state->next == 0)
			state->oldest = now;
		done = sweep(state, rel, view->late_layout->ours[CQ_LATE_ARRIVED_AT], now - retention_us);
		PopActiveSnapshot();
		table_close(rel, NoLock);
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	state->due = now + STEP_PAUSE_US;
	if (!done)
		return;
	state->next = 0;
	state->due =
		Max(state->oldest + retention_us, now + Min(retention_us / PAUSES_PER_AGE, LONGEST_PAUSE));
}

/* Late rows are not kept for longer than rows. */
static int64
late_retention_us(const CqViewOptions *options)
{
	if (options->late_retention_us < 0 || options->retention_us < 0)
		return Max(options->late_retention_us, options->retention_us);
	return Min(options->late_retention_us, options->retention_us);
}

/* The next pages; were they the last?  column: when a row has arrived, from 0. */
static bool
sweep(CqLateSweep *sweep, Relation rel, int column, TimestampTz before)
{
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);
	TupleTableSlot *slot;
	TableScanDesc scan;
	ItemPointerData first;
	ItemPointerData last;

	if (sweep->next >= blocks)
		return true;
	ItemPointerSet(&first, sweep->next, FirstOffsetNumber);
	sweep->next = Min(sweep->next + STEP_BLOCKS, blocks);
	ItemPointerSet(&last, sweep->next - 1, MaxOffsetNumber);
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan_tidrange(rel, GetActiveSnapshot(), &first, &last);
	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		row_look(sweep, rel, slot, column, before);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return sweep->next >= blocks;
}

/* A row that somebody else is changing is looked at again next time. */
static void
row_look(CqLateSweep *sweep, Relation rel, TupleTableSlot *slot, int column, TimestampTz before)
{
	TM_FailureData failure;
	TimestampTz arrived_at;
	bool isnull;

	arrived_at = DatumGetTimestampTz(slot_getattr(slot, column + 1, &isnull));
	if (isnull)
		return;
	if (arrived_at >= before)
		sweep->oldest = Min(sweep->oldest, arrived_at);
	else
		(void) table_tuple_delete(rel,
								  &slot->tts_tid,
								  GetCurrentCommandId(true),
								  GetActiveSnapshot(),
								  InvalidSnapshot,
								  false,
								  &failure,
								  false);
}
