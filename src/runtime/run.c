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
#include "runtime/history.h"
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
static List *streams_of(const CqSource *source);
static void gather_columns(CqRun *run, List *streams);
static Bitmapset *columns_of_stream(CqRun *run, int stream);
static List *run_load_streams(CqRun *run, const CqViewRun *run_view, MemoryContext source_context);
static CqStream *stream_load(Oid relid, const CqViewRun *run_view);
static int relation_natts(Oid relid);
static void settings_apply(List *settings);
static void run_open_source(CqRun *run, const CqViewRun *view, List *streams,
							MemoryContext source_context);
static CqSource *part_open(CqRun *run, const CqViewRun *view, const CqStream *stream, int number,
						   MemoryContext source_context);
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
	List *streams;

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
	streams = run_load_streams(run, first, source_context);
	run->stream = linitial(streams);
	views_prepare(run);
	gather_columns(run, streams);
	cq_run_as_system(saved);
	run_open_source(run, first, streams, source_context);
	run->watermark.held = OidIsValid(run->stream->history_of);
	run->watermark.mark = saved_mark(run, first);
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
	view->seen_asked = wishes.asked;
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
	gather_columns(run, streams_of(run->source));
}

/* The streams of a source, in the order of their numbers. */
static List *
streams_of(const CqSource *source)
{
	List *streams = NIL;
	int i;

	for (i = 0; i < source->nparts; i++)
		streams = lappend(streams, unconstify(CqStream *, source->parts[i]->stream));
	return streams;
}

static void
gather_columns(CqRun *run, List *streams)
{
	MemoryContext old;
	ListCell *lc;

	MemoryContextReset(run->decoder_context);
	old = MemoryContextSwitchTo(run->decoder_context);
	run->decoders = palloc(sizeof(CqDecoder *) * list_length(streams));
	run->same_columns = true;
	foreach (lc, streams)
	{
		int number = foreach_current_index(lc);

		run->decoders[number] = cq_decoder_create(lfirst(lc), columns_of_stream(run, number));
	}
	run->columns_changed = false;
	MemoryContextSwitchTo(old);
}

/* Those that any view reads. */
static Bitmapset *
columns_of_stream(CqRun *run, int stream)
{
	Bitmapset *columns = NULL;
	ListCell *lc;

	foreach (lc, run->views)
		columns = bms_add_members(columns, ((CqViewRun *) lfirst(lc))->columns[stream]);
	foreach (lc, run->views)
		if (!bms_equal(columns, ((CqViewRun *) lfirst(lc))->columns[stream]))
			run->same_columns = false;
	return columns;
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

/* The definitions of the streams live as long as the source that was opened by them. */
static List *
run_load_streams(CqRun *run, const CqViewRun *run_view, MemoryContext source_context)
{
	MemoryContext old;
	List *streams = NIL;
	ListCell *lc;

	if (run->source)
	{
		source_check(run->source, run_view);
		return streams_of(run->source);
	}
	old = MemoryContextSwitchTo(source_context);
	if (OidIsValid(run_view->beginning.history))
		streams = list_make1(stream_load(run_view->beginning.history, run_view));
	else
		foreach (lc, run_view->view.streams)
			streams = lappend(streams, stream_load(lfirst_oid(lc), run_view));
	MemoryContextSwitchTo(old);
	return streams;
}

static CqStream *
stream_load(Oid relid, const CqViewRun *run_view)
{
	const CqViewOptions *options = &run_view->view.options;
	bool is_history = relid == run_view->beginning.history;
	CqStream *stream =
		is_history ? cq_stream_load_history(relid, run_view->view.stream) : cq_stream_load(relid);

	stream->view = run_view->id;
	stream->change = run_view->seen_change;
	/* a feed has what the option asks for, and nothing else */
	if (options->has_start && stream->feed == NULL && !is_history)
	{
		stream->start = options->start;
		stream->start_time = options->start_time;
	}
	if (run_view->shard)
	{
		stream->shard = run_view->shard->number;
		stream->shards = run_view->shard->workers;
		stream->begun = cq_shard_has_begun(run_view);
	}
	return stream;
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
	saved.guc_level = NewGUCNestLevel();
	return saved;
}

void
cq_run_as_system(CqRunIdentity saved)
{
	AtEOXact_GUC(false, saved.guc_level);
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
	foreach (lc, streams_of(run->source))
	{
		const CqStream *stream = lfirst(lc);

		same_columns = same_columns && relation_natts(cq_stream_shown(stream)) == stream->ncolumns;
	}
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
run_open_source(CqRun *run, const CqViewRun *view, List *streams, MemoryContext source_context)
{
	CqSource *parts[CQ_MAX_STREAMS];
	int n = 0;
	ListCell *lc;

	if (run->source)
	{
		run_restore_positions(run, &view->checkpoint);
		run->lost_counted = cq_run_lost(run);
		cq_history_note_start(run, view);
		return;
	}
	foreach (lc, streams)
	{
		parts[n] = part_open(run, view, lfirst(lc), n, source_context);
		n++;
	}
	run->source = n == 1 ? parts[0] : cq_several_source_open(parts, n, source_context);
	cq_history_note_start(run, view);
}

/* What is saved of the stream's partitions. */
static CqSource *
part_open(CqRun *run, const CqViewRun *view, const CqStream *stream, int number,
		  MemoryContext source_context)
{
	const CqCheckpoint *cp = &view->checkpoint;
	bool kafka = stream->kind == CQ_STREAM_KAFKA;
	CqPartition *partitions = palloc(sizeof(CqPartition) * Max(cp->npartitions, 1));
	CqSource *source;
	int n = 0;
	int i;

	if (OidIsValid(stream->history_of))
		return cq_history_open(run, view, stream, source_context);
	for (i = 0; i < cp->npartitions; i++)
		if (cp->partitions[i].stream == number)
			partitions[n++] = cp->partitions[i];
	source = (kafka ? cq_kafka_source_open
					: cq_local_source_open)(stream, run->owner, partitions, n, source_context);
	if (kafka && view->task.accept_loss)
		(void) cq_kafka_source_accept_loss(source);
	pfree(partitions);
	return source;
}

int64
cq_run_lost(const CqRun *run)
{
	int64 lost = 0;
	int i;

	for (i = 0; i < run->source->nparts; i++)
		if (run->source->parts[i]->stream->kind == CQ_STREAM_KAFKA)
			lost += cq_kafka_source_lost(run->source->parts[i]);
	return lost;
}

/* With another bound on disorder than before all partitions would seem to be behind. */
static TimestampTz
saved_mark(const CqRun *run, const CqViewRun *view)
{
	const CqCheckpoint *cp = &view->checkpoint;
	int i;

	for (i = 0; i < cp->npartitions; i++)
	{
		const CqPartition *p = &cp->partitions[i];

		if (p->out_of_orderness_us != run->source->parts[p->stream]->stream->out_of_orderness_us)
			return DT_NOBEGIN;
	}
	return cp->stream_mark;
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
			if (checkpoint->partitions[j].stream == p->stream &&
				checkpoint->partitions[j].id == p->id)
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
