/*
 * stat_reset.c
 *	  pipeline.stat_reset(): begin to measure anew.
 *
 * What shared memory alone knows is reset: rates, latencies, shares of time,
 * the longest commit, errors and the last of them.  What was processed is
 * counted with the positions, so that records add up, and stays.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "api/check.h"
#include "catalog/shards.h"
#include "compat.h"
#include "monitor/slots.h"

PG_FUNCTION_INFO_V1(cq_stat_reset);

static void reset_view(int64 view);
static void reset_slot(CqTaskSlot *slot);
static int64 *slots_of_database(int *n);

/* Without a view: all of the database that are the caller's to reset. */
Datum
cq_stat_reset(PG_FUNCTION_ARGS)
{
	CqView view;
	CqTask task;
	int64 *ids;
	int n;
	int i;

	cq_require_preload();
	if (!PG_ARGISNULL(0))
	{
		cq_api_own_view(PG_GETARG_OID(0), &view, &task);
		reset_view(view.id);
		PG_RETURN_VOID();
	}
	ids = slots_of_database(&n);
	for (i = 0; i < n; i++)
		if (cq_view_load(ids[i], &view) && cq_compat_owns_relation(view.view, GetUserId()))
			reset_view(ids[i]);
	PG_RETURN_VOID();
}

static int64 *
slots_of_database(int *n)
{
	int64 *ids = palloc(sizeof(int64) * Max(cq_shared->ntasks, 1));
	int i;

	*n = 0;
	LWLockAcquire(cq_shared->lock, LW_SHARED);
	for (i = 0; i < cq_shared->ntasks; i++)
		if (cq_shared->tasks[i].in_use && cq_shared->tasks[i].database == MyDatabaseId)
			ids[(*n)++] = cq_shared->tasks[i].task;
	LWLockRelease(cq_shared->lock);
	return ids;
}

/* All of its workers'. */
static void
reset_view(int64 view)
{
	List *positions = cq_view_positions(view);
	ListCell *lc;

	LWLockAcquire(cq_shared->lock, LW_EXCLUSIVE);
	foreach (lc, positions)
	{
		int index = cq_slot_find(MyDatabaseId, *(int64 *) lfirst(lc));

		if (index >= 0)
			reset_slot(&cq_shared->tasks[index]);
	}
	LWLockRelease(cq_shared->lock);
}

static void
reset_slot(CqTaskSlot *slot)
{
	CqMetrics *metrics = cq_slot_metrics(slot);
	int64 lag = metrics->lag;

	cq_metrics_init(metrics);
	metrics->lag = lag;
	metrics->reset_at = GetCurrentTimestamp();
	slot->longest_commit_us = 0;
	slot->error_at = 0;
	slot->error_message[0] = '\0';
}
