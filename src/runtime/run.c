/*
 * run.c
 *	  Building a task's run from the catalog, and whose rights it has.
 *
 * Memory: worker > run > plan, checkpoint > batch.  The operator keeps pointers
 * into the plan it was created with; that one therefore lives in the run's own
 * context, while plans made later, after an invalidation, come and go in
 * plan_context.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "errors.h"
#include "runtime/run.h"
#include "settings.h"
#include "source/kafka/kafka.h"

static bool run_load_catalog(CqRun *run);
static void run_load_stream(CqRun *run, MemoryContext source_context);
static Oid relation_owner(Oid relid);
static int relation_natts(Oid relid);
static void settings_apply(List *settings);
static void run_plan(CqRun *run, MemoryContext context);
static void run_open_source(CqRun *run, MemoryContext source_context);
static void run_restore_positions(CqRun *run);
static void run_create_operator(CqRun *run);

CqRun *
cq_run_begin(int64 id, int64 owner_epoch, CqSource *source, MemoryContext source_context,
			 MemoryContext context, CqCare *care)
{
	CqRun *run = MemoryContextAllocZero(context, sizeof(CqRun));
	CqIdentity saved;

	run->context = context;
	run->id = id;
	run->source = source;
	run->care = care;
	run->checkpoint_context =
		AllocSetContextCreate(context, "pipeline checkpoint", ALLOCSET_DEFAULT_SIZES);
	run->batch.context = AllocSetContextCreate(context, "pipeline batch", ALLOCSET_DEFAULT_SIZES);
	run->plan_context = AllocSetContextCreate(context, "pipeline plan", ALLOCSET_DEFAULT_SIZES);

	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	if (!run_load_catalog(run))
	{
		CommitTransactionCommand();
		return NULL;
	}
	settings_apply(run->view.settings);
	PushActiveSnapshot(GetTransactionSnapshot());
	run->checkpoint.owner_epoch = Max(owner_epoch, run->checkpoint.owner_epoch);
	saved = cq_run_as_owner(run);
	run_load_stream(run, source_context);
	run_plan(run, context);
	run->columns = bms_copy(run->plan->columns);
	run->decoder = cq_decoder_create(run->stream, run->columns);
	cq_late_check(run);
	run_create_operator(run);
	cq_run_as_system(saved);
	run_open_source(run, source_context);
	cq_watermark_init(&run->watermark, run->stream, run->checkpoint.closed_to);
	run->clock_to = DT_NOBEGIN;
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return run;
}

static bool
run_load_catalog(CqRun *run)
{
	if (!cq_extension_exists() || !cq_view_load(run->id, &run->view) ||
		!cq_task_load(run->id, &run->task) || !cq_checkpoint_load(run->id, &run->checkpoint))
		return false;
	/* the slot may say otherwise for a moment: a probe read the row before it was changed */
	if (run->task.state != CQ_TASK_RUNNING || !cq_task_is_ours(&run->task))
		return false;
	run->owner = relation_owner(run->view.view);
	return OidIsValid(run->owner);
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

static int
relation_natts(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	int natts = -1;

	if (HeapTupleIsValid(tuple))
	{
		natts = ((Form_pg_class) GETSTRUCT(tuple))->relnatts;
		ReleaseSysCache(tuple);
	}
	return natts;
}

/* The definition of the stream lives as long as the source that was opened by it. */
static void
run_load_stream(CqRun *run, MemoryContext source_context)
{
	MemoryContext old;
	CqStream *stream;

	if (run->source)
	{
		run->stream = run->source->stream;
		return;
	}
	old = MemoryContextSwitchTo(source_context);
	stream = cq_stream_load(run->view.stream);
	if (run->view.options.has_start)
	{
		stream->start = run->view.options.start;
		stream->start_time = run->view.options.start_time;
	}
	run->stream = stream;
	MemoryContextSwitchTo(old);
}

/* The settings that were in force at CREATE and that results depend on. */
static void
settings_apply(List *settings)
{
	ListCell *lc;

	foreach (lc, settings)
	{
		char *name = pstrdup(lfirst(lc));
		char *equals = strchr(name, '=');

		if (equals == NULL)
			continue;
		*equals = '\0';
		SetConfigOption(name, equals + 1, PGC_SUSET, PGC_S_SESSION);
	}
}

CqIdentity
cq_run_as_owner(const CqRun *run)
{
	CqIdentity saved;

	GetUserIdAndSecContext(&saved.user, &saved.context);
	SetUserIdAndSecContext(run->owner, saved.context | SECURITY_RESTRICTED_OPERATION);
	return saved;
}

void
cq_run_as_system(CqIdentity saved)
{
	SetUserIdAndSecContext(saved.user, saved.context);
}

static void
run_plan(CqRun *run, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	run->plan = cq_plan_query(cq_plan_stored_query(run->view.query),
							  run->view.options.emit,
							  get_rel_name(run->view.view));
	run->stage_prepared = cq_stage_prepare(run->plan, run->plan_context);
	run->close_prepared = NULL;
	if (run->plan->close)
		run->close_prepared = cq_close_prepare(run->plan, run->plan_context);
	MemoryContextSwitchTo(old);
}

bool
cq_run_replan(CqRun *run)
{
	MemoryContext old_plans = run->plan_context;
	CqIdentity saved;
	bool same_columns;

	run->plan_context =
		AllocSetContextCreate(run->context, "pipeline plan", ALLOCSET_DEFAULT_SIZES);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	saved = cq_run_as_owner(run);
	run_plan(run, run->plan_context);
	cq_run_as_system(saved);
	same_columns = relation_natts(run->stream->relid) == run->stream->ncolumns &&
				   bms_equal(run->plan->columns, run->columns);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(old_plans);
	return same_columns;
}

static void
run_create_operator(CqRun *run)
{
	Relation chunks;

	if (run->plan->shape == CQ_SHAPE_APPEND)
		return;
	chunks = table_open(run->view.chunks, AccessShareLock);
	run->op = cq_operator_create(run->plan, chunks, 0, run->checkpoint.closed_to, run->context);
	table_close(chunks, AccessShareLock);
}

static void
run_open_source(CqRun *run, MemoryContext source_context)
{
	CqCheckpoint *cp = &run->checkpoint;
	bool kafka = run->stream->kind == CQ_STREAM_KAFKA;

	if (run->source)
	{
		run_restore_positions(run);
		run->lost_counted = kafka ? cq_kafka_source_lost(run->source) : 0;
		return;
	}
	run->source = (kafka ? cq_kafka_source_open : cq_local_source_open)(run->stream,
																		run->owner,
																		cp->partitions,
																		cp->npartitions,
																		source_context);
	if (kafka && run->task.accept_loss)
		(void) cq_kafka_source_accept_loss(run->source);
}

/*
 * Send a source that outlived an abort back to what is committed.  It may know
 * more partitions than that: those found since are read from where they began.
 */
static void
run_restore_positions(CqRun *run)
{
	CqSource *source = run->source;
	int i;

	for (i = 0; i < source->npartitions; i++)
	{
		CqPartition *p = &source->partitions[i];
		CqPartition *saved = NULL;
		int j;

		for (j = 0; j < run->checkpoint.npartitions; j++)
			if (run->checkpoint.partitions[j].id == p->id)
				saved = &run->checkpoint.partitions[j];
		p->next_offset = saved ? saved->next_offset : p->start_offset;
		p->leader_epoch = saved ? saved->leader_epoch : -1;
		p->anchor_offset = saved ? saved->anchor_offset : CQ_OFFSET_UNKNOWN;
		p->anchor_hash = saved ? saved->anchor_hash : 0;
		p->max_event_time = saved ? saved->max_event_time : DT_NOBEGIN;
		p->max_disorder_us = saved ? saved->max_disorder_us : 0;
		if (saved && saved->cursor)
		{
			if (p->cursor)
				pfree(p->cursor);
			p->cursor = MemoryContextStrdup(source->context, saved->cursor);
		}
	}
	source->ops->seek(source);
}
