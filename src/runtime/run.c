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
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "runtime/publish.h"
#include "runtime/run.h"
#include "runtime/shard.h"
#include "source/kafka/kafka.h"

static void views_load(CqRun *run);
static CqViewRun *view_load(CqRun *run, int64 id);
static void view_admit(CqRun *run, CqViewRun *view);
static void count_from(CqViewRun *view, int64 next_offset);
static void views_take_along(CqRun *run);
static bool run_has(const CqRun *run, int64 id);
static void views_prepare(CqRun *run);
static void source_check(const CqSource *source, const CqViewRun *view);
static void run_load_stream(CqRun *run, const CqViewRun *run_view, MemoryContext source_context);
static int relation_natts(Oid relid);
static void settings_apply(List *settings);
static void run_open_source(CqRun *run, const CqViewRun *view, MemoryContext source_context);
static TimestampTz saved_mark(const CqRun *run, const CqViewRun *view);
static void run_restore_positions(CqRun *run, const CqCheckpoint *checkpoint);

CqRun *
cq_run_create(CqSource *source, MemoryContext context, CqCare *care)
{
	CqRun *run = MemoryContextAllocZero(context, sizeof(CqRun));

	run->context = context;
	run->source = source;
	run->care = care;
	run->checkpoint_context =
		AllocSetContextCreate(context, "pipeline checkpoint", ALLOCSET_DEFAULT_SIZES);
	run->decoder_context =
		AllocSetContextCreate(context, "pipeline decoder", ALLOCSET_DEFAULT_SIZES);
	run->batch.context = AllocSetContextCreate(context, "pipeline batch", ALLOCSET_DEFAULT_SIZES);
	return run;
}

bool
cq_run_build(CqRun *run, bool take_along, MemoryContext source_context)
{
	CqViewRun *first;
	CqRunIdentity saved;

	StartTransactionCommand();
	views_load(run);
	if (run->views == NIL)
	{
		CommitTransactionCommand();
		return false;
	}
	if (take_along)
		views_take_along(run);
	cq_publish_settled();
	first = linitial(run->views);
	settings_apply(first->view.settings);
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(run->context);
	saved = cq_run_as_owner(run);
	run_load_stream(run, first, source_context);
	views_prepare(run);
	cq_run_gather_columns(run);
	cq_run_as_system(saved);
	run_open_source(run, first, source_context);
	cq_watermark_init(&run->watermark, run->stream, saved_mark(run, first));
	/* which partition is the lowest decides when it is looked for again */
	cq_watermark_refresh(&run->watermark, run->source);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return true;
}

/* Of the slots that this process holds, those of views that it shall not run are given back. */
static void
views_load(CqRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->context);
	TimestampTz now = GetCurrentTimestamp();
	ListCell *lc;

	foreach (lc, cq_publish_views())
	{
		int64 id = *(int64 *) lfirst(lc);
		CqViewRun *view = view_load(run, id);

		if (view == NULL)
			continue;
		if (run->views == NIL || cq_view_run_fits(run, view))
			view_admit(run, view);
		else
		{
			MemoryContextDelete(view->context);
			cq_publish_release(id, 0);
		}
	}
	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);

		run->owner_epoch = Max(Max(run->owner_epoch, now), view->checkpoint.owner_epoch);
	}
	MemoryContextSwitchTo(old);
}

/* What changes after its slot has been looked at is noticed later. */
static CqViewRun *
view_load(CqRun *run, int64 id)
{
	CqWishes wishes = cq_publish_wishes(id);
	CqViewRun *view = wishes.enabled ? cq_view_run_load(run, id) : NULL;

	if (view == NULL)
	{
		cq_publish_disable(id,
						   wishes.enabled ? CQ_ACTIVITY_NOT_STARTED : CQ_ACTIVITY_PAUSED,
						   wishes.change);
		cq_publish_release(id, 0);
		return NULL;
	}
	view->seen_change = wishes.change;
	return view;
}

static void
view_admit(CqRun *run, CqViewRun *view)
{
	MemoryContext old = MemoryContextSwitchTo(run->context);

	run->owner = view->owner;
	run->views = lappend(run->views, view);
	MemoryContextSwitchTo(old);
}

/* A local stream's rows are counted from where a view began. */
static void
count_from(CqViewRun *view, int64 next_offset)
{
	if (view->nbegun == 1 && view->begun[0].cursor)
		view->offset_shift = view->begun[0].next_offset - next_offset;
}

/* Views that nobody runs: after a start, or when many were created at once. */
static void
views_take_along(CqRun *run)
{
	CqViewRun *first = linitial(run->views);
	ListCell *lc;

	if (first->company == NULL)
		return;
	foreach (lc, cq_views_of_stream(first->view.stream))
	{
		int64 id = *(int64 *) lfirst(lc);
		CqViewRun *view;
		bool fits;

		if (run_has(run, id) || (view = cq_view_run_load(run, id)) == NULL)
			continue;
		fits = cq_view_run_fits(run, view);
		MemoryContextDelete(view->context);
		if (!fits || !cq_publish_take(id))
			continue;
		/* again, now that nobody else can run it */
		view = view_load(run, id);
		if (view && cq_view_run_fits(run, view))
			view_admit(run, view);
		else if (view)
		{
			MemoryContextDelete(view->context);
			cq_publish_release(id, 0);
		}
	}
}

static bool
run_has(const CqRun *run, int64 id)
{
	ListCell *lc;

	foreach (lc, run->views)
		if (((CqViewRun *) lfirst(lc))->id == id)
			return true;
	return false;
}

static void
views_prepare(CqRun *run)
{
	const CqViewRun *first = linitial(run->views);
	ListCell *lc;

	foreach (lc, run->views)
	{
		run->at = lfirst(lc);
		run->at->checkpoint.owner_epoch = run->owner_epoch;
		if (first->nbegun > 0)
			count_from(run->at, first->begun[0].next_offset);
		cq_view_run_prepare(run, run->at);
	}
	run->at = NULL;
}

void
cq_run_gather_columns(CqRun *run)
{
	MemoryContext old;
	ListCell *lc;

	MemoryContextReset(run->decoder_context);
	old = MemoryContextSwitchTo(run->decoder_context);
	run->columns = NULL;
	foreach (lc, run->views)
		run->columns = bms_add_members(run->columns, ((CqViewRun *) lfirst(lc))->columns);
	run->same_columns = true;
	foreach (lc, run->views)
		if (!bms_equal(run->columns, ((CqViewRun *) lfirst(lc))->columns))
			run->same_columns = false;
	run->decoder = cq_decoder_create(run->stream, run->columns);
	run->columns_changed = false;
	MemoryContextSwitchTo(old);
}

bool
cq_run_add(CqRun *run, int64 id)
{
	CqViewRun *view;
	CqRunIdentity saved;
	bool fits;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	view = view_load(run, id);
	fits = view && cq_view_run_meets(run, view);
	if (fits)
	{
		view_admit(run, view);
		run->at = view;
		view->checkpoint.owner_epoch = run->owner_epoch;
		if (run->source->npartitions > 0)
			count_from(view, run->source->partitions[0].next_offset);
		MemoryContextSwitchTo(run->context);
		saved = cq_run_as_owner(run);
		cq_view_run_prepare(run, view);
		cq_run_gather_columns(run);
		cq_run_as_system(saved);
		run->at = NULL;
	}
	else if (view)
	{
		MemoryContextDelete(view->context);
		cq_publish_release(id, 0);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return fits;
}

void
cq_run_remove(CqRun *run, CqViewRun *view)
{
	int i;

	run->views = list_delete_ptr(run->views, view);
	for (i = 0; i < view->ninputs; i++)
		if (view->inputs[i].op)
			cq_operator_destroy(view->inputs[i].op);
	MemoryContextDelete(view->context);
	run->columns_changed = true;
}

uint64
cq_run_company(const CqRun *run)
{
	const CqViewRun *first = linitial(run->views);

	if (first->company == NULL || first->task.accept_loss || run->care->careful)
		return 0;
	/* zero is taken */
	return hash_bytes_extended((const unsigned char *) first->company,
							   (int) strlen(first->company),
							   0) |
		   1;
}

/* The definition of the stream lives as long as the source that was opened by it. */
static void
run_load_stream(CqRun *run, const CqViewRun *run_view, MemoryContext source_context)
{
	const CqView *view = &run_view->view;
	MemoryContext old;
	CqStream *stream;

	if (run->source)
	{
		source_check(run->source, run_view);
		run->stream = run->source->stream;
		return;
	}
	old = MemoryContextSwitchTo(source_context);
	stream = cq_stream_load(view->stream);
	stream->view = run_view->id;
	stream->change = run_view->seen_change;
	/* a feed has what the option asks for, and nothing else */
	if (view->options.has_start && stream->feed == NULL)
	{
		stream->start = view->options.start;
		stream->start_time = view->options.start_time;
	}
	if (run_view->shard)
	{
		stream->shard = run_view->shard->number;
		stream->shards = run_view->shard->workers;
		stream->begun = cq_shard_has_begun(run_view);
	}
	run->stream = stream;
	MemoryContextSwitchTo(old);
}

/*
 * A source that outlived an error may not be this view's any more: if partitions
 * were handed round meanwhile it reads some that are another worker's now, from
 * where they began.  A new process opens another one.
 */
static void
source_check(const CqSource *source, const CqViewRun *view)
{
	const CqStream *stream = source->stream;
	int number = view->shard ? view->shard->number : 0;
	int workers = view->shard ? view->shard->workers : 0;

	if (stream->shard == number && stream->shards == workers &&
		(stream->view != view->id || stream->change == view->seen_change))
		return;
	ereport(ERROR,
			errcode(CQ_ERRCODE_FENCED),
			errmsg("continuous view \"%s\" was changed by somebody else", view->name));
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

CqRunIdentity
cq_run_as_owner(const CqRun *run)
{
	CqRunIdentity saved;

	GetUserIdAndSecContext(&saved.user, &saved.context);
	SetUserIdAndSecContext(run->owner, saved.context | SECURITY_RESTRICTED_OPERATION);
	return saved;
}

void
cq_run_as_system(CqRunIdentity saved)
{
	SetUserIdAndSecContext(saved.user, saved.context);
}

bool
cq_run_replan(CqRun *run)
{
	CqRunIdentity saved;
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

/* With another bound on disorder than before all partitions would seem to be behind. */
static TimestampTz
saved_mark(const CqRun *run, const CqViewRun *view)
{
	const CqCheckpoint *cp = &view->checkpoint;

	return cp->out_of_orderness_us == run->stream->out_of_orderness_us ? cp->stream_mark
																	   : DT_NOBEGIN;
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
		p->idle = false;
		p->caught_up_since_us = p->idle_due_us = 0;
		if (saved && saved->cursor)
		{
			if (p->cursor)
				pfree(p->cursor);
			p->cursor = MemoryContextStrdup(source->context, saved->cursor);
		}
	}
	source->ops->seek(source);
}
