/*
 * run.c
 *	  Building a task's run from the catalog, and whose rights it has.
 *
 * What a run and each of its views consist of is in run.h; the views' part is
 * built in view_run.c.
 *
 * Memory: worker > run > view > plan, and run > checkpoint, batch.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "runtime/run.h"
#include "source/kafka/kafka.h"

static CqRun *run_create(CqSource *source, MemoryContext context, CqCare *care);
static void run_load_stream(CqRun *run, const CqView *view, MemoryContext source_context);
static int relation_natts(Oid relid);
static void settings_apply(List *settings);
static void run_open_source(CqRun *run, const CqViewRun *view, MemoryContext source_context);
static void run_restore_positions(CqRun *run, const CqCheckpoint *checkpoint);

CqRun *
cq_run_begin(int64 id, int64 owner_epoch, CqSource *source, MemoryContext source_context,
			 MemoryContext context, CqCare *care)
{
	CqRun *run = run_create(source, context, care);
	CqViewRun *view;
	CqIdentity saved;

	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	view = cq_view_run_load(run, id);
	if (view == NULL)
	{
		CommitTransactionCommand();
		return NULL;
	}
	settings_apply(view->view.settings);
	PushActiveSnapshot(GetTransactionSnapshot());
	view->checkpoint.owner_epoch = Max(owner_epoch, view->checkpoint.owner_epoch);
	saved = cq_run_as_owner(run);
	run_load_stream(run, &view->view, source_context);
	cq_view_run_prepare(run, view);
	run->views = list_make1(view);
	run->columns = bms_copy(view->columns);
	run->decoder = cq_decoder_create(run->stream, run->columns);
	cq_run_as_system(saved);
	run_open_source(run, view, source_context);
	cq_watermark_init(&run->watermark, run->stream);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return run;
}

static CqRun *
run_create(CqSource *source, MemoryContext context, CqCare *care)
{
	CqRun *run = MemoryContextAllocZero(context, sizeof(CqRun));

	run->context = context;
	run->source = source;
	run->care = care;
	run->checkpoint_context =
		AllocSetContextCreate(context, "pipeline checkpoint", ALLOCSET_DEFAULT_SIZES);
	run->batch.context = AllocSetContextCreate(context, "pipeline batch", ALLOCSET_DEFAULT_SIZES);
	return run;
}

/* The definition of the stream lives as long as the source that was opened by it. */
static void
run_load_stream(CqRun *run, const CqView *view, MemoryContext source_context)
{
	MemoryContext old;
	CqStream *stream;

	if (run->source)
	{
		run->stream = run->source->stream;
		return;
	}
	old = MemoryContextSwitchTo(source_context);
	stream = cq_stream_load(view->stream);
	if (view->options.has_start)
	{
		stream->start = view->options.start;
		stream->start_time = view->options.start_time;
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

bool
cq_run_replan(CqRun *run)
{
	CqIdentity saved;
	bool same_columns = true;
	ListCell *lc;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	saved = cq_run_as_owner(run);
	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		run->at = view;
		if (cq_view_run_is_stale(view))
			same_columns = cq_view_run_replan(view) && same_columns;
	}
	run->at = NULL;
	cq_run_as_system(saved);
	same_columns = same_columns && relation_natts(run->stream->relid) == run->stream->ncolumns;
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return same_columns;
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

static void
run_open_source(CqRun *run, const CqViewRun *view, MemoryContext source_context)
{
	const CqCheckpoint *cp = &view->checkpoint;
	bool kafka = run->stream->kind == CQ_STREAM_KAFKA;

	if (run->source)
	{
		run_restore_positions(run, cp);
		run->lost_counted = kafka ? cq_kafka_source_lost(run->source) : 0;
		return;
	}
	run->source = (kafka ? cq_kafka_source_open : cq_local_source_open)(run->stream,
																		run->owner,
																		cp->partitions,
																		cp->npartitions,
																		source_context);
	if (kafka && view->task.accept_loss)
		(void) cq_kafka_source_accept_loss(run->source);
}

/*
 * Send a source that outlived an abort back to what is committed.  It may know
 * more partitions than that: those found since are read from where they began.
 */
static void
run_restore_positions(CqRun *run, const CqCheckpoint *checkpoint)
{
	CqSource *source = run->source;
	int i;

	for (i = 0; i < source->npartitions; i++)
	{
		CqPartition *p = &source->partitions[i];
		CqPartition *saved = NULL;
		int j;

		for (j = 0; j < checkpoint->npartitions; j++)
			if (checkpoint->partitions[j].id == p->id)
				saved = &checkpoint->partitions[j];
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
