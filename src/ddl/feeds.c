/*
 * feeds.c
 *	  Making one continuous view readable by another.
 *
 * A view whose query names other continuous views, and no stream, reads them as
 * streams: each through a feed, which is a hidden local stream and a part of the reader
 * (sink/feed_log.c).  A view can only read what was there when it was created
 * and is never replaced, so there are no cycles.
 *
 * The feed begins with the rows that there are.  The result table of the view
 * that is read is locked against its worker from then until the transaction
 * commits; the worker's next checkpoint knows of the feed (view_run.c).  So each
 * row is in the feed once.
 *
 * If the rows of the view that is read change, how they reach the reader depends on
 * what it does with them (plan/changing.c), which is known when the reader has been
 * planned.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "catalog/feeds.h"
#include "catalog/shards.h"
#include "ddl/feeds.h"
#include "ddl/identity.h"
#include "ddl/parts.h"
#include "ddl/shards.h"
#include "plan/changing.h"
#include "plan/normalise.h"
#include "plan/plan.h"
#include "plan/refuse.h"
#include "plan/stage.h"
#include "sink/feed_log.h"
#include "sink/output.h"

/* A feed that gets the rows that there are. */
typedef struct Filling
{
	const CqFeed *feed;
	CqFeedLog *log;
	TimestampTz final_to; /* rows of windows that end by then never change */
	Tuplestorestate *groups;
	TupleDesc desc;		/* of groups */
	AttrNumber *places; /* of their columns in the result table, see sink/output.h */
	Datum *values;
	bool *nulls;
} Filling;

static CqFeed *create_feed(Oid source_view, int64 id, int number, const char *view_name);
static bool sources_walker(Node *node, List **sources);
static void source_take(Oid relid, List **sources);
static void check_source(const CqView *source, const CqPlan *plan, const char *view_name);
static Oid create_stream(int64 id, int number, const CqView *source, const CqPlan *plan, Oid owner);
static List *feed_columns(const CqView *source, const CqPlan *plan, char **time_name);
static ColumnDef *own_column(const char *name, Oid type, const List *columns);
static DefElem *option(const char *name, const char *value);
static void fill(const CqFeed *feed, bool history);
static void read_rows(Oid result, CqResultConsumer take, void *arg);
static void copy_groups(const CqView *source, CqPlan *plan, Filling *filling);
static void groups_find(const CqView *source, Filling *filling);
static void group_take(void *arg, TupleTableSlot *row);
static void row_copy(void *arg, TupleTableSlot *row);

List *
cq_feeds_create(const Query *query, int64 id, const char *view_name)
{
	List *sources = NIL;
	List *feeds = NIL;
	ListCell *lc;

	if (cq_reads_stream((Node *) query))
		return NIL;
	sources_walker((Node *) query, &sources);
	/* in the same order as whoever else reads them */
	list_sort(sources, list_oid_cmp);
	foreach (lc, sources)
		feeds =
			lappend(feeds, create_feed(lfirst_oid(lc), id, foreach_current_index(lc), view_name));
	return feeds;
}

static CqFeed *
create_feed(Oid source_view, int64 id, int number, const char *view_name)
{
	CqFeed *feed = palloc0(sizeof(CqFeed));
	CqView source;
	CqPlan *plan;

	if (!cq_view_load_by_oid(source_view, &source))
		cq_view_gone(get_rel_name(source_view));
	LockRelationOid(source.result, ShareLock);
	plan = cq_identity_plan(&source);
	check_source(&source, plan, view_name);
	feed->view = id;
	feed->source = source.id;
	feed->source_view = source.view;
	feed->time = plan->time;
	feed->mode = plan->emit == CQ_EMIT_CHANGES ? CQ_FEED_CHANGES : CQ_FEED_ROWS;
	feed->relation = create_stream(id, number, &source, plan, GetUserId());
	cq_feed_insert(feed);
	return feed;
}

static bool
sources_walker(Node *node, List **sources)
{
	ListCell *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, sources_walker, sources);
	check_stack_depth();
	foreach (lc, castNode(Query, node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW)
			source_take(rte->relid, sources);
	}
	return query_tree_walker((Query *) node, sources_walker, sources, 0);
}

static void
source_take(Oid relid, List **sources)
{
	Relation view;
	CqView source;

	if (cq_parts_find(relid, &source))
	{
		*sources = list_append_unique_oid(*sources, relid);
		return;
	}
	view = relation_open(relid, AccessShareLock);
	sources_walker((Node *) cq_view_definition(view), sources);
	relation_close(view, NoLock);
}

static void
check_source(const CqView *source, const CqPlan *plan, const char *view_name)
{
	const char *name = get_rel_name(source->view);

	const char *why = plan->emit == CQ_EMIT_CHANGES ? cq_changing_why_hidden(plan) : NULL;

	if (why)
		cq_refuse(view_name,
				  psprintf("continuous view \"%s\", whose rows change", name),
				  why,
				  "Make a view of its groups, and read that here; or use ordinary SQL over it.");
	if (list_length(cq_view_positions(source->id)) > 1)
		cq_refuse(view_name,
				  psprintf("continuous view \"%s\"", name),
				  "It has several workers, whose rows have no common order.",
				  psprintf("Use ALTER VIEW %s SET (pipeline.workers = 1) before.",
						   quote_identifier(name)));
	if (cq_shards_of_view(source->id) != NIL)
		cq_refuse(view_name,
				  psprintf("continuous view \"%s\" yet", name),
				  CQ_SHARDS_REMAIN,
				  CQ_SHARDS_REMAIN_HINT);
}

static Oid
create_stream(int64 id, int number, const CqView *source, const CqPlan *plan, Oid owner)
{
	char *name = number == 0 ? psprintf("f_" INT64_FORMAT, id)
							 : psprintf("f_" INT64_FORMAT "_%d", id, number);
	char *time_name;
	List *columns = feed_columns(source, plan, &time_name);
	List *options = NIL;

	if (time_name)
		options = list_make4(option("event_time", time_name),
							 option("out_of_orderness", "0"),
							 option("idle_timeout", "off"),
							 option("max_ahead", "off"));
	return cq_parts_create_stream(name, columns, options, owner);
}

/* Those of the view, then our own: see sink/feed_log.c. */
static List *
feed_columns(const CqView *source, const CqPlan *plan, char **time_name)
{
	Relation view = relation_open(source->view, NoLock);
	TupleDesc desc = RelationGetDescr(view);
	List *columns = NIL;
	ColumnDef *time;
	Oid type = TIMESTAMPTZOID;
	int i;

	*time_name = NULL;
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		columns = lappend(columns,
						  makeColumnDef(NameStr(att->attname),
										att->atttypid,
										att->atttypmod,
										att->attcollation));
	}
	if (plan->time.role == CQ_TIME_RANGE)
		type = get_range_subtype(TupleDescAttr(desc, plan->time.column - 1)->atttypid);
	else if (plan->time.role != CQ_TIME_NONE)
		type = TupleDescAttr(desc, plan->time.column - 1)->atttypid;
	if (plan->time.role == CQ_TIME_EVENT)
		*time_name = pstrdup(NameStr(TupleDescAttr(desc, plan->time.column - 1)->attname));
	relation_close(view, NoLock);
	if (plan->emit == CQ_EMIT_CHANGES)
		columns = lappend(columns, own_column("pipeline_retracts", BOOLOID, columns));
	time = own_column("pipeline_time", type, columns);
	if (plan->time.role != CQ_TIME_NONE && *time_name == NULL)
		*time_name = time->colname;
	columns = lappend(columns, time);
	columns = lappend(columns, own_column("pipeline_mark", TIMESTAMPTZOID, columns));
	return lappend(columns, own_column("pipeline_is_mark", BOOLOID, columns));
}

/* A name that no column of the view has. */
static ColumnDef *
own_column(const char *name, Oid type, const List *columns)
{
	ListCell *lc;

	foreach (lc, columns)
		if (strcmp(lfirst_node(ColumnDef, lc)->colname, name) == 0)
			return own_column(psprintf("_%s", name), type, columns);
	return makeColumnDef(name, type, -1, InvalidOid);
}

static DefElem *
option(const char *name, const char *value)
{
	return makeDefElem(pstrdup(name), (Node *) makeString(pstrdup(value)), -1);
}

void
cq_feeds_fill(const List *feeds, const CqPlan *plan, bool history, const char *view_name)
{
	ListCell *lc;

	foreach (lc, feeds)
	{
		CqFeed *feed = lfirst(lc);

		if (feed->mode == CQ_FEED_CHANGES && !plan->inputs[0]->retracts)
			cq_feed_set_mode(feed, CQ_FEED_FINAL);
		if (feed->mode == CQ_FEED_CHANGES && !history)
			cq_refuse(view_name,
					  psprintf("start = 'latest' with continuous view \"%s\"",
							   get_rel_name(feed->source_view)),
					  "Its rows change: those that are there now may be taken back later.",
					  "Leave the option out.");
		fill(feed, history);
	}
}

/* All that there is lies before the watermark, or says nothing about it. */
static void
fill(const CqFeed *feed, bool history)
{
	CqCheckpoint checkpoint;
	Filling filling = {.feed = feed};
	CqView source;
	CqPlan *plan;

	if (!cq_view_load(feed->source, &source) || !cq_checkpoint_load(source.id, &checkpoint))
		cq_view_gone(NULL);
	plan = cq_identity_plan(&source);
	filling.log = cq_feed_log_create(feed, plan);
	filling.final_to = checkpoint.closed_to;
	if (feed->mode != CQ_FEED_ROWS && !TIMESTAMP_IS_NOBEGIN(checkpoint.closed_to))
		filling.final_to -= source.options.keep_closed_us;
	if (!cq_feed_log_lock(filling.log))
		ereport(ERROR,
				errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				errmsg("another session has locked relation \"%s\"", get_rel_name(feed->relation)),
				errhint("Try again."));
	cq_feed_log_begin(filling.log);
	if (history && feed->mode == CQ_FEED_ROWS)
		read_rows(source.result, row_copy, &filling);
	else if (history)
		copy_groups(&source, plan, &filling);
	cq_feed_log_mark(filling.log, filling.final_to);
	cq_feed_log_close(filling.log);
}

static void
read_rows(Oid result, CqResultConsumer take, void *arg)
{
	Relation table = table_open(result, NoLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(table, snapshot, 0, NULL);
	TupleTableSlot *row = table_slot_create(table, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		take(arg, row);
	}
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(table, NoLock);
}

/* What readers get is made of the groups as the worker of the view makes it. */
static void
copy_groups(const CqView *source, CqPlan *plan, Filling *filling)
{
	CqIdentity saved;
	CqPrepared *prepared;

	filling->groups = tuplestore_begin_heap(false, false, work_mem);
	filling->desc = plan->closed_desc;
	cq_identity_owner(cq_parts_owner(source->view), source->settings, &saved);
	plan->close = cq_changing_rows_query(plan);
	prepared = cq_close_prepare(plan, CurrentMemoryContext);
	groups_find(source, filling);
	read_rows(source->result, group_take, filling);
	PushActiveSnapshot(GetTransactionSnapshot());
	cq_close_run(prepared, &filling->groups, row_copy, filling);
	PopActiveSnapshot();
	cq_prepared_free(prepared);
	cq_identity_restore(&saved);
	tuplestore_end(filling->groups);
}

/* Where the groups' columns are. */
static void
groups_find(const CqView *source, Filling *filling)
{
	Relation table = table_open(source->result, NoLock);

	filling->places = cq_result_places(RelationGetDescr(table));
	filling->values = palloc(sizeof(Datum) * filling->desc->natts);
	filling->nulls = palloc(sizeof(bool) * filling->desc->natts);
	table_close(table, NoLock);
}

static void
group_take(void *arg, TupleTableSlot *row)
{
	Filling *filling = arg;
	int i;

	slot_getallattrs(row);
	for (i = 0; i < filling->desc->natts; i++)
	{
		int place = filling->places ? filling->places[i] : i;

		filling->values[i] = row->tts_values[place];
		filling->nulls[i] = row->tts_isnull[place];
	}
	tuplestore_putvalues(filling->groups, filling->desc, filling->values, filling->nulls);
}

/* Rows that are not final yet will come when they are. */
static void
row_copy(void *arg, TupleTableSlot *row)
{
	Filling *filling = arg;

	slot_getallattrs(row);
	if (filling->feed->mode == CQ_FEED_FINAL &&
		!cq_feed_log_is_before(filling->log, row->tts_values, row->tts_isnull, filling->final_to))
		return;
	cq_feed_log_row(filling->log, row->tts_values, row->tts_isnull, false, DT_NOBEGIN);
}

/* Whoever is just beginning to read it holds its result table until they commit. */
void
cq_feeds_refuse_workers(const CqView *view, int workers)
{
	if (workers == 1)
		return;
	LockRelationOid(view->result, ShareUpdateExclusiveLock);
	if (cq_feeds_of_source(view->id) != NIL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("continuous view \"%s\" cannot have several workers",
					   get_rel_name(view->view)),
				errdetail("Another continuous view reads it, and rows of several workers have no "
						  "common order."));
}
