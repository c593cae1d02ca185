/*
 * backfill.c
 *	  Creating a view that takes in rows of a query before its stream.
 *
 * It is to take the place of one that may have run for long (replay.c).  Results of
 * windows that are out already, and what was late for them, depend on what came
 * before; so nothing of them can be kept, and the new view reads the stream again,
 * from exactly where the old one began:
 *	  - in a topic, from the offsets at which it began with each partition;
 *	  - in a local stream, from its beginning or the time in the option "start", or from
 *		the position that "latest" was for it, which it has noted (runtime/history.c);
 *	  - if it has never read anything, from wherever the new one begins, which is its
 *		position then.
 *
 * The rows are stored (history.c) in the transaction that creates the view: others see
 * both or none.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/beginnings.h"
#include "ddl/backfill.h"
#include "ddl/history.h"
#include "ddl/replay.h"
#include "source/stream.h"

static void positions_take(const CqView *view, const CqBeginning *beginning, const CqView *fresh);
static int kafka_positions(CqPartition *partitions, int npartitions);
static int local_positions(const CqView *view, const CqBeginning *beginning,
						   CqPartition *partitions, int npartitions);
static void position_init(CqPartition *partition, int64 offset);

bool
cq_backfill_is_ready(const CqView *view)
{
	CqCheckpoint checkpoint;
	CqTask task;
	bool ready;

	PushActiveSnapshot(GetTransactionSnapshot());
	ready = !cq_task_load(view->id, &task) || task.state != CQ_TASK_RUNNING ||
			!cq_checkpoint_load(view->id, &checkpoint) || checkpoint.npartitions > 0;
	PopActiveSnapshot();
	return ready;
}

Oid
cq_backfill_create(const CqView *view, const char *query)
{
	CqBeginning beginning;
	CqView fresh;
	Oid relid;

	PushActiveSnapshot(GetTransactionSnapshot());
	cq_beginning_load(view->id, &beginning);
	relid = cq_replay_create(view, "backfill", beginning.start);
	if (!cq_view_load_by_oid(relid, &fresh))
		cq_view_gone(NULL);
	beginning.view = fresh.id;
	positions_take(view, &beginning, &fresh);
	PopActiveSnapshot();
	beginning.history = cq_history_create(&fresh, query, &beginning.history_rows);
	cq_beginning_save(&beginning);
	return relid;
}

/* Into the new view's position row; none, if the option "start" says it as well. */
static void
positions_take(const CqView *view, const CqBeginning *beginning, const CqView *fresh)
{
	CqStreamKind kind = cq_stream_load(view->stream)->kind;
	CqCheckpoint old;
	CqCheckpoint now;

	if (!cq_checkpoint_load(view->id, &old) || !cq_checkpoint_take(fresh->id, &now))
		cq_view_gone(get_rel_name(view->view));
	now.partitions = old.partitions;
	if (kind == CQ_STREAM_KAFKA)
		now.npartitions = kafka_positions(now.partitions, old.npartitions);
	else
		now.npartitions = local_positions(view, beginning, now.partitions, old.npartitions);
	if (now.npartitions > 0)
		cq_checkpoint_write(&now);
}

static int
kafka_positions(CqPartition *partitions, int npartitions)
{
	int i;

	for (i = 0; i < npartitions; i++)
		position_init(&partitions[i], partitions[i].start_offset);
	return npartitions;
}

static int
local_positions(const CqView *view, const CqBeginning *beginning, CqPartition *partitions,
				int npartitions)
{
	const CqViewOptions *options = &view->options;

	if (npartitions == 0 || beginning->start || !options->has_start ||
		options->start != CQ_START_LATEST)
		return 0;
	if (beginning->cursor == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("continuous view \"%s\" has not noted where it began",
					   get_rel_name(view->view)),
				errhint("Drop the view, create it again and backfill that one."));
	position_init(&partitions[0], 0);
	partitions[0].cursor = beginning->cursor;
	return 1;
}

/* Nothing was read of it. */
static void
position_init(CqPartition *partition, int64 offset)
{
	partition->next_offset = offset;
	partition->start_offset = offset;
	partition->leader_epoch = -1;
	partition->anchor_offset = CQ_OFFSET_UNKNOWN;
	partition->anchor_hash = 0;
	partition->max_event_time = DT_NOBEGIN;
	partition->max_disorder_us = 0;
}
