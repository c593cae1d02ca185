/*
 * view_run.c
 *	  One view's part of a task's run: from the catalog to a plan and an
 *	  operator with its state.
 *
 * The operator keeps pointers into the plan that it was created with; that one
 * therefore lives in the view's own context, while plans made later, after an
 * invalidation, come and go in plan_context.
 *
 * Which views may share a task: those that would read the same records in the
 * same way - same stream and owner, hence server and user mapping, same settings,
 * start and checkpoint interval - and that are at the same place.  That includes
 * the highest event time seen in each partition, and the watermark: a view that
 * began later may not have seen the event, or the partition being idle, that the
 * others' watermark comes from, and whether its events are late must not depend
 * on when it joined them (P3).
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "catalog/feeds.h"
#include "catalog/shards.h"
#include "catalog/whole.h"
#include "clock.h"
#include "errors.h"
#include "plan/changing.h"
#include "plan/view_plan.h"
#include "runtime/retention.h"
#include "runtime/run.h"
#include "runtime/shard.h"
#include "settings.h"
#include "sink/feed_log.h"

static bool load_catalog(CqViewRun *view);
static Oid relation_owner(Oid relid);
static char *company_of(const CqViewRun *view);
static bool same_company(const CqViewRun *a, const CqViewRun *b);
static bool same_times(const CqPartition *a, int na, const CqPartition *b, int nb);
static void late_places_load(CqViewRun *view);
static void lock_or_leave(const CqViewRun *view, Oid relid);
static void make_plan(CqViewRun *view, MemoryContext context);
static void load_feeds(CqViewRun *view);
static bool feeds_differ(const CqViewRun *view);
static void columns_note(CqViewRun *view);
static void check_streams(const CqViewRun *view);
static void inputs_prepare(CqViewRun *view);
static void stages_prepare(CqViewRun *view, CqInput *input, const CqPlan *plan);
static void create_operators(CqViewRun *view);
static void state_unfit(const CqViewRun *view) CQ_NORETURN;
static CqOperator *create_operator(CqViewRun *view, int number);

CqViewRun *
cq_view_run_load(CqRun *run, int64 id)
{
	MemoryContext context =
		AllocSetContextCreate(run->context, "pipeline view", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CqViewRun *view = palloc0(sizeof(CqViewRun));
	bool runs;

	view->context = context;
	view->id = id;
	view->clock_to = DT_NOBEGIN;
	view->arrival = DT_NOBEGIN;
	cq_retention_init(&view->retention);
	view->refreshed_us = cq_clock_us() + cq_clock_shift_us();
	runs = load_catalog(view);
	view->watermark = view->checkpoint.closed_to;
	view->times.told = view->checkpoint.counters;
	view->begun = view->checkpoint.partitions;
	view->nbegun = view->checkpoint.npartitions;
	if (runs)
		view->company = company_of(view);
	MemoryContextSwitchTo(old);
	if (runs)
		return view;
	MemoryContextDelete(context);
	return NULL;
}

static bool
load_catalog(CqViewRun *view)
{
	char *name;

	if (!cq_extension_exists() || !cq_view_load(cq_shard_view(view->id), &view->view) ||
		!cq_task_load(view->view.id, &view->task) ||
		!cq_checkpoint_load(view->id, &view->checkpoint))
		return false;
	cq_beginning_load(view->view.id, &view->beginning);
	view->shard = cq_shard_load(view);
	if (view->shard && OidIsValid(view->shard->chunks))
		view->view.chunks = view->shard->chunks;
	if (view->shard && view->shard->number == CQ_SHARD_RETIRED)
		return false;
	/* the slot may say otherwise for a moment: a probe read the row before it was changed */
	if (view->task.state != CQ_TASK_RUNNING || !cq_task_is_ours(&view->task))
		return false;
	name = get_rel_name(view->view.view);
	strlcpy(view->name, name ? name : "?", NAMEDATALEN);
	view->owner = relation_owner(view->view.view);
	return OidIsValid(view->owner);
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

/* Everything that views of one task have in common, but their position. */
static char *
company_of(const CqViewRun *view)
{
	const CqViewOptions *options = &view->view.options;
	StringInfoData text;
	ListCell *lc;

	if (!cq_share_tasks || view->shard || OidIsValid(view->beginning.history) ||
		list_length(view->view.streams) > 1 || cq_view_more_chunks(view->view.id) != NIL)
		return NULL;
	initStringInfo(&text);
	appendStringInfo(&text,
					 "%u/%u/%d/%d/%d/" INT64_FORMAT,
					 view->view.stream,
					 view->owner,
					 options->checkpoint_interval_ms,
					 options->has_start,
					 (int) options->start,
					 options->has_start ? options->start_time : 0);
	foreach (lc, view->view.settings)
		appendStringInfo(&text, "/%s", (char *) lfirst(lc));
	return text.data;
}

bool
cq_view_run_fits(const CqRun *run, const CqViewRun *view)
{
	const CqViewRun *first = linitial(run->views);
	const CqCheckpoint *a = &first->checkpoint;
	const CqCheckpoint *b = &view->checkpoint;
	int i;

	if (!same_company(first, view) || a->npartitions != b->npartitions ||
		a->stream_mark != b->stream_mark)
		return false;
	for (i = 0; i < a->npartitions; i++)
	{
		const char *a_cursor = a->partitions[i].cursor;
		const char *b_cursor = b->partitions[i].cursor;

		if (a->partitions[i].id != b->partitions[i].id ||
			(a_cursor == NULL) != (b_cursor == NULL) ||
			(a_cursor ? strcmp(a_cursor, b_cursor) != 0
					  : a->partitions[i].next_offset != b->partitions[i].next_offset))
			return false;
	}
	return same_times(a->partitions, a->npartitions, b->partitions, b->npartitions);
}

bool
cq_view_run_meets(CqRun *run, CqViewRun *view)
{
	return same_company(linitial(run->views), view) &&
		   cq_run_place(run, &view->checkpoint) == CQ_PLACE_SAME;
}

/* A view that is to go on after a gap does so alone. */
static bool
same_company(const CqViewRun *a, const CqViewRun *b)
{
	return a->company && b->company && strcmp(a->company, b->company) == 0 &&
		   !a->task.accept_loss && !b->task.accept_loss;
}

CqPlace
cq_run_place(CqRun *run, const CqCheckpoint *checkpoint)
{
	CqSource *source = run->source;
	CqPlace place = source->ops->place(source, checkpoint->partitions, checkpoint->npartitions);

	if (place == CQ_PLACE_SAME &&
		(checkpoint->stream_mark != run->watermark.mark || !same_times(source->partitions,
																	   source->npartitions,
																	   checkpoint->partitions,
																	   checkpoint->npartitions)))
		return CQ_PLACE_APART;
	return place;
}

static bool
same_times(const CqPartition *a, int na, const CqPartition *b, int nb)
{
	int i;
	int j;

	for (i = 0; i < na; i++)
		for (j = 0; j < nb; j++)
			if (a[i].stream == b[j].stream && a[i].id == b[j].id &&
				a[i].max_event_time != b[j].max_event_time)
				return false;
	return true;
}

void
cq_view_run_prepare(CqRun *run, CqViewRun *view)
{
	view->plan_context =
		AllocSetContextCreate(view->context, "pipeline plan", ALLOCSET_DEFAULT_SIZES);
	late_places_load(view);
	make_plan(view, view->context);
	columns_note(view);
	cq_late_check(view);
	create_operators(view);
}

/*
 * The view may have been altered since its row was read, and is not any more until this
 * transaction ends.
 */
static void
late_places_load(CqViewRun *view)
{
	MemoryContext old = MemoryContextSwitchTo(view->context);
	CqView now;

	lock_or_leave(view, view->view.query);
	if (!cq_view_load(view->view.id, &now))
		cq_view_gone(view->name);
	view->view.late_places = now.late_places;
	MemoryContextSwitchTo(old);
}

/* What the decoders are to fill. */
static void
columns_note(CqViewRun *view)
{
	int i;

	view->nstreams = view->plan->nstreams;
	view->columns = palloc(sizeof(Bitmapset *) * view->nstreams);
	for (i = 0; i < view->nstreams; i++)
		view->columns[i] = view->plan->streams[i].columns;
}

/*
 * Until the transaction ends; whoever alters the view is not waited for.  They cannot
 * commit between the query being read and the state that it has.
 */
static void
lock_or_leave(const CqViewRun *view, Oid relid)
{
	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		ereport(ERROR,
				errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				errmsg("continuous view \"%s\" is being changed by another session", view->name));
}

static void
make_plan(CqViewRun *view, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	lock_or_leave(view, view->view.query);
	view->plan = cq_view_plan(&view->view, view->shard != NULL);
	check_streams(view);
	inputs_prepare(view);
	MemoryContextSwitchTo(view->plan_context);
	load_feeds(view);
	MemoryContextSwitchTo(context);
	view->close_prepared = NULL;
	if (view->plan->emit == CQ_EMIT_CHANGES && view->feeds != NIL)
		view->plan->close = cq_changing_rows_query(view->plan);
	cq_retention_prepare(view);
	if (view->plan->close)
		view->close_prepared = cq_close_prepare(view->plan, view->plan_context);
	MemoryContextSwitchTo(old);
}

static void
load_feeds(CqViewRun *view)
{
	ListCell *lc;

	view->feeds = cq_feeds_of_source(view->view.id);
	view->feed_logs = NIL;
	foreach (lc, view->feeds)
		view->feed_logs = lappend(view->feed_logs, cq_feed_log_create(lfirst(lc), view->plan));
}

/* Of the inputs only the plans are new when a view is planned again. */
static void
inputs_prepare(CqViewRun *view)
{
	List *chunks = NIL;
	int i;

	if (view->inputs == NULL)
	{
		view->ninputs = view->plan->ninputs;
		view->inputs = palloc0(sizeof(CqInput) * view->ninputs);
		if (view->ninputs > 1)
			chunks = cq_view_more_chunks(view->id);
		if (view->ninputs != 1 + list_length(chunks))
			elog(ERROR, "view has %d inputs, but chunks of %d", view->ninputs, list_length(chunks));
		for (i = 0; i < view->ninputs; i++)
			view->inputs[i].chunks = i == 0 ? view->view.chunks : list_nth_oid(chunks, i - 1);
	}
	if (view->ninputs != view->plan->ninputs)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("continuous view \"%s\" reads streams in another number of places than when "
					   "it was created",
					   view->name),
				errhint("Undo the change of the views that it reads, or drop it and create it "
						"again."));
	for (i = 0; i < view->ninputs; i++)
		stages_prepare(view, &view->inputs[i], view->plan->inputs[i]);
}

/* In the order in which they were created the streams are known to the position row. */
static void
check_streams(const CqViewRun *view)
{
	bool same = view->plan->nstreams == list_length(view->view.streams);
	int i;

	for (i = 0; same && i < view->plan->nstreams; i++)
		same = view->plan->streams[i].relid == list_nth_oid(view->view.streams, i);
	if (!same)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("continuous view \"%s\" reads other streams than when it was created",
					   view->name),
				errhint("Undo the change of the views that it reads, or drop it and create it "
						"again."));
}

static void
stages_prepare(CqViewRun *view, CqInput *input, const CqPlan *plan)
{
	int i;

	input->plan = plan;
	input->nstages = plan->nstages;
	input->stages = MemoryContextAllocZero(view->plan_context, sizeof(CqStageRun) * plan->nstages);
	for (i = 0; i < plan->nstages; i++)
	{
		CqStageRun *stage = &input->stages[i];

		stage->stream = cq_plan_stream_number(view->plan, plan->stages[i]->stream);
		stage->prepared = cq_stage_prepare(plan->stages[i], view->plan_context);
	}
}

bool
cq_view_run_replan(CqViewRun *view)
{
	MemoryContext old_plans = view->plan_context;
	int i;

	view->plan_context =
		AllocSetContextCreate(view->context, "pipeline plan", ALLOCSET_DEFAULT_SIZES);
	make_plan(view, view->plan_context);
	MemoryContextDelete(old_plans);
	for (i = 0; i < view->nstreams; i++)
		if (!bms_equal(view->plan->streams[i].columns, view->columns[i]))
			return false;
	return true;
}

bool
cq_view_run_is_stale(const CqViewRun *view)
{
	int i;
	int j;

	for (i = 0; i < view->ninputs; i++)
		for (j = 0; j < view->inputs[i].nstages; j++)
			if (cq_prepared_is_stale(view->inputs[i].stages[j].prepared))
				return true;
	return (view->close_prepared && cq_prepared_is_stale(view->close_prepared)) ||
		   feeds_differ(view);
}

/*
 * Whoever begins to read the view holds its result table until they commit, so
 * with that locked this cannot change any more.
 */
static bool
feeds_differ(const CqViewRun *view)
{
	List *now = cq_feeds_of_source(view->view.id);
	bool differ = list_length(now) != list_length(view->feeds);
	ListCell *a;
	ListCell *b;

	forboth (a, now, b, view->feeds)
		differ = differ || ((CqFeed *) lfirst(a))->relation != ((CqFeed *) lfirst(b))->relation;
	list_free_deep(now);
	return differ;
}

static void
create_operators(CqViewRun *view)
{
	int i;

	for (i = 0; i < view->ninputs; i++)
		if (view->inputs[i].plan->shape != CQ_SHAPE_APPEND)
			view->inputs[i].op = create_operator(view, i);
	view->op = view->inputs[0].op;
	/* rows of windows that are gone have theirs still */
	if (view->op)
		cq_operator_number_from(view->op, view->checkpoint.next_gid);
	if (view->shard)
		cq_shard_prepare_operators(view);
	if (view->checkpoint.has_digest && view->checkpoint.state_digest != cq_view_run_digest(view))
		state_unfit(view);
}

uint64
cq_view_run_digest(const CqViewRun *view)
{
	uint64 digest = 0;
	int i;

	for (i = 0; i < view->ninputs; i++)
		if (view->inputs[i].op)
		{
			CqOperatorStats stats;

			cq_operator_stats(view->inputs[i].op, &stats);
			digest += stats.chunk_digest;
		}
	return digest;
}

/*
 * The chunks are not those of the position: unless both changed after one of them was
 * read, somebody has changed a table, or not all of it was restored.
 */
static void
state_unfit(const CqViewRun *view)
{
	if (cq_position_has_state(&view->view, view->id))
		ereport(ERROR,
				errcode(CQ_ERRCODE_FENCED),
				errmsg("position and state of continuous view \"%s\" were changed by somebody else",
					   view->name));
	ereport(ERROR,
			errcode(CQ_ERRCODE_STOP),
			errmsg("state of continuous view \"%s\" does not belong to its position", view->name),
			errdetail("Its table of state was changed, or is of another time than the position."),
			errhint("Restore both from one backup, or compute the view anew with "
					"pipeline.replay()."));
}

bool
cq_view_run_is_idle(const CqRun *run, const CqViewRun *view)
{
	return cq_watermark_all_idle(run->source) &&
		   TIMESTAMP_NOT_FINITE(cq_view_run_first_end(view)) &&
		   !(view->op && view->plan->emit == CQ_EMIT_CHANGES && cq_operator_keeps(view->op));
}

static CqOperator *
create_operator(CqViewRun *view, int number)
{
	CqStoreKey key = {.database = MyDatabaseId, .view = view->id, .shard = number};
	const CqInput *input = &view->inputs[number];
	Relation chunks;
	CqOperator *op;

	lock_or_leave(view, input->chunks);
	chunks = table_open(input->chunks, NoLock);
	op = cq_operator_create(input->plan,
							&key,
							view->checkpoint.seq,
							chunks,
							view->view.options.allowed_lateness_us,
							view->view.options.keep_closed_us,
							cq_shard_closed_to(view, input),
							view->context);
	table_close(chunks, AccessShareLock);
	return op;
}
