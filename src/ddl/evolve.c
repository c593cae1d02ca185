/*
 * evolve.c
 *	  A continuous view gets more columns.
 *
 * plan/extend.c says what the query becomes, and how state that is there goes over
 * to it.  Here the view is held where it is, by locks on its chunk tables, which workers
 * never wait for; then all that it consists of is changed in place: so indexes, rights,
 * comments and whatever depends on the view stay.
 *
 *		k_N		is written anew, entry by entry, into another file, so that state in
 *				memory is not taken over (operator/state.c)
 *		q_N		gets the new query
 *		t_N		gets columns, behind the hidden ones; see sink/output.h
 *		v_late	gets columns for what the query reads besides; see sink/late_table.h
 *		v		shows them
 *
 * The position row is written again as it was, which fences the worker (C1): what
 * it had taken in beyond, it or another one takes in by the new query.  So each event
 * is processed once, before or after; and a rollback, or a crash, leaves nothing.
 *
 * The long part, that of the state, comes first.  Whoever reads the view is held up
 * only then, and until the end of the transaction.
 */
#include "postgres.h"

#include "access/multixact.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/cluster.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "parser/parse_relation.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog/beginnings.h"
#include "catalog/feeds.h"
#include "catalog/shards.h"
#include "catalog/tables.h"
#include "catalog/whole.h"
#include "compat.h"
#include "ddl/evolve.h"
#include "ddl/evolve_parts.h"
#include "ddl/identity.h"
#include "ddl/parts.h"
#include "ddl/shards.h"
#include "ddl/view_options.h"
#include "decode/decoder.h"
#include "operator/operator.h"
#include "plan/extend.h"
#include "plan/query_compare.h"
#include "source/stream.h"

static void hold(const CqView *view);
static void check_use(const CqEvolution *evolution);
static List *all_chunks(const CqView *view);
static List *position_ids(const CqView *view);
static void check_beginning(const CqEvolution *evolution);
static void check_feeds(const CqEvolution *evolution);
static Query *analyse(const CqEvolution *evolution, const char *text);
static void say_where(void *arg);
static void name_columns(Query *query, Oid view);
static void check_name_is_new(List *outputs, const TargetEntry *wanted);
static bool keeps_groups_of_windows(const CqPlan *plan);
static void plan_new(CqEvolution *evolution);
static void check_defaults(const CqEvolution *evolution);
static void convert_all(const CqEvolution *evolution);
static void convert_one(const CqEvolution *evolution, const CqConversion *conversion, Oid chunks);
static void positions_renew(const CqView *view);
static void say_what_was_done(const CqEvolution *evolution);

void
cq_evolve(CqView *view, const char *text)
{
	CqEvolution evolution = {.view = view, .name = get_rel_name(view->view)};
	const Query *stored;

	hold(view);
	if (!cq_view_load_by_oid(view->view, view))
		cq_view_gone(evolution.name);
	check_use(&evolution);
	evolution.owner = cq_parts_owner(view->view);
	stored = cq_plan_stored_query(view->query);
	evolution.ncolumns = cq_query_columns(stored);
	evolution.before = cq_identity_plan(view);
	check_beginning(&evolution);
	check_feeds(&evolution);
	evolution.query = cq_extend_query(stored,
									  analyse(&evolution, text),
									  keeps_groups_of_windows(evolution.before),
									  evolution.name);
	if (cq_query_columns(evolution.query) == evolution.ncolumns)
	{
		ereport(NOTICE,
				errmsg("continuous view \"%s\" has these columns already, skipping",
					   evolution.name));
		return;
	}
	plan_new(&evolution);
	convert_all(&evolution);
	positions_renew(view);
	cq_evolve_parts(&evolution);
	cq_shards_at_commit(CQ_SLOT_CHANGED, view->id);
	say_what_was_done(&evolution);
}

/* The tables of state last, as when a view is replayed. */
static void
hold(const CqView *view)
{
	ListCell *lc;

	LockRelationOid(view->view, ShareUpdateExclusiveLock);
	LockRelationOid(view->result, ShareRowExclusiveLock);
	if (OidIsValid(view->late))
		LockRelationOid(view->late, ShareRowExclusiveLock);
	foreach (lc, all_chunks(view))
		LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
}

/* A cursor of this session is held up by none of these locks. */
static void
check_use(const CqEvolution *evolution)
{
	Relation result = table_open(evolution->view->result, NoLock);

	if (result->rd_refcnt > 1)
		ereport(
			ERROR,
			errcode(ERRCODE_OBJECT_IN_USE),
			errmsg("continuous view \"%s\" cannot be altered because it is being used by active "
				   "queries in this session",
				   evolution->name));
	table_close(result, NoLock);
}

/* For each worker those of the inputs, in order. */
static List *
all_chunks(const CqView *view)
{
	List *chunks = NIL;
	ListCell *lc;

	if (!OidIsValid(view->chunks))
		return NIL;
	chunks = list_concat(list_make1_oid(view->chunks), cq_view_more_chunks(view->id));
	foreach (lc, cq_shards_of_view(view->id))
	{
		const CqShardRow *shard = lfirst(lc);

		chunks = lappend_oid(chunks, shard->chunks);
		chunks = list_concat(chunks, cq_view_more_chunks(shard->id));
	}
	return chunks;
}

/* Also of shards that have no worker any more, if their state is still there. */
static List *
position_ids(const CqView *view)
{
	int64 *own = palloc(sizeof(int64));
	List *ids = list_make1(own);
	ListCell *lc;

	*own = view->id;
	foreach (lc, cq_shards_of_view(view->id))
		ids = lappend(ids, &((CqShardRow *) lfirst(lc))->id);
	return ids;
}

static void
check_beginning(const CqEvolution *evolution)
{
	CqBeginning beginning;

	cq_beginning_load(evolution->view->id, &beginning);
	if (OidIsValid(beginning.history))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("continuous view \"%s\" is still taking in its history", evolution->name),
				errhint("Try again when pipeline.wait_for() has returned."));
}

/* A feed has the columns that the view beneath had when this one was created. */
static void
check_feeds(const CqEvolution *evolution)
{
	ListCell *lc;

	foreach (lc, cq_feeds_of_view(evolution->view->id))
	{
		const CqFeed *feed = lfirst(lc);

		if (cq_relation_natts(feed->relation) - cq_feed_own_columns(feed) !=
			cq_relation_natts(feed->source_view))
			cq_extend_refuse(evolution->name,
							 psprintf("View \"%s\", which it reads, has got columns since this one "
									  "was created, and they are not handed on to it.",
									  get_rel_name(feed->source_view)));
	}
}

/*
 * Names are those of the session, as whatever else its user writes.  Values that depend
 * on settings are read as they were when the view was created.
 */
static Query *
analyse(const CqEvolution *evolution, const char *text)
{
	ErrorContextCallback context = {
		.callback = say_where,
		.arg = unconstify(char *, text),
		.previous = error_context_stack,
	};
	int level = cq_identity_enter_settings(evolution->view->settings);
	List *statements;
	Query *query;

	error_context_stack = &context;
	statements = pg_parse_query(text);
	if (list_length(statements) != 1 || !IsA(linitial_node(RawStmt, statements)->stmt, SelectStmt))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("query of a continuous view must be one SELECT"));
	query = parse_analyze_fixedparams(linitial_node(RawStmt, statements), text, NULL, 0, NULL);
	error_context_stack = context.previous;
	AtEOXact_GUC(false, level);

	if (query->commandType != CMD_SELECT || query->utilityStmt || query->hasModifyingCTE)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("query of continuous view \"%s\" must be a SELECT that changes nothing",
					   evolution->name));
	if (isQueryUsingTempRelation(query))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("continuous view \"%s\" cannot read temporary relations", evolution->name));
	name_columns(query, evolution->view->view);
	return query;
}

static void
say_where(void *arg)
{
	int position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(arg);
	}
	else
		errcontext("query given to pipeline.alter()");
}

/* As in CREATE OR REPLACE VIEW; but columns may be without names of their own. */
static void
name_columns(Query *query, Oid view)
{
	int natts = cq_relation_natts(view);
	int attnum = 0;
	ListCell *lc;

	foreach (lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		char *name;

		if (entry->resjunk)
			continue;
		if (++attnum > natts)
		{
			check_name_is_new(query->targetList, entry);
			continue;
		}
		name = get_attname(view, attnum, false);
		if (strcmp(entry->resname, name) != 0)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					errmsg("column %d of continuous view \"%s\" is \"%s\", not \"%s\"",
						   attnum,
						   get_rel_name(view),
						   name,
						   entry->resname),
					errhint("Columns that there are come first, as they are; ALTER VIEW ... RENAME "
							"COLUMN gives one another name."));
	}
}

static void
check_name_is_new(List *outputs, const TargetEntry *wanted)
{
	ListCell *lc;

	foreach (lc, outputs)
	{
		const TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (entry == wanted)
			return;
		if (!entry->resjunk && strcmp(entry->resname, wanted->resname) == 0)
			ereport(ERROR,
					errcode(ERRCODE_DUPLICATE_COLUMN),
					errmsg("column \"%s\" specified more than once", wanted->resname));
	}
}

static bool
keeps_groups_of_windows(const CqPlan *plan)
{
	int i;

	for (i = 0; i < plan->ninputs; i++)
		if (plan->inputs[i]->shape == CQ_SHAPE_AGGREGATE && plan->window.kind != CQ_WINDOW_NONE)
			return true;
	return false;
}

/* All that CREATE VIEW asks of a query. */
static void
plan_new(CqEvolution *evolution)
{
	const CqView *view = evolution->view;
	CqIdentity saved;
	CqPlan *plan;
	int i;

	cq_identity_owner(evolution->owner, view->settings, &saved);
	plan = cq_plan_query(evolution->query,
						 view->options.emit,
						 cq_view_options_corrected_by(&view->options),
						 cq_shards_of_view(view->id) != NIL,
						 cq_feeds_of_view(view->id),
						 evolution->name);
	cq_view_options_check_plan(&view->options, plan, evolution->name);
	for (i = 0; i < plan->ninputs; i++)
		cq_operator_check(plan->inputs[i]);
	for (i = 0; i < plan->nstreams; i++)
		(void) cq_decoder_create(cq_stream_load(plan->streams[i].relid), plan->streams[i].columns);
	cq_identity_check_rights(evolution->query, "");
	cq_identity_restore(&saved);
	evolution->after = plan;
	check_defaults(evolution);
	evolution->conversions = cq_extend_state(evolution->before, plan, evolution->name);
}

/* Rows that there are would get a default value for what is not known. */
static void
check_defaults(const CqEvolution *evolution)
{
	TupleDesc desc = evolution->after->result_desc;
	int i;

	for (i = evolution->ncolumns; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (get_typdefault(att->atttypid))
			cq_extend_refuse(evolution->name,
							 psprintf("Column \"%s\" is null in rows that there are, in which its "
									  "type, %s, has a default value.",
									  NameStr(att->attname),
									  format_type_be(att->atttypid)));
	}
}

static void
convert_all(const CqEvolution *evolution)
{
	int input = 0;
	ListCell *lc;

	foreach (lc, all_chunks(evolution->view))
	{
		convert_one(evolution, &evolution->conversions[input], lfirst_oid(lc));
		input = (input + 1) % evolution->after->ninputs;
	}
}

/* As the owner, whose types may have functions of the owner's choice. */
static void
convert_one(const CqEvolution *evolution, const CqConversion *conversion, Oid chunks)
{
	Relation from;
	Relation to;
	CqIdentity saved;
	Oid fresh;

	if (conversion->same)
		return;
	from = table_open(chunks, NoLock);
	fresh = make_new_heap(chunks,
						  from->rd_rel->reltablespace,
						  from->rd_rel->relam,
						  from->rd_rel->relpersistence,
						  AccessExclusiveLock);
	to = table_open(fresh, NoLock);
	cq_identity_owner(evolution->owner, evolution->view->settings, &saved);
	PushActiveSnapshot(GetLatestSnapshot());
	cq_operator_convert(conversion, from, to);
	PopActiveSnapshot();
	cq_identity_restore(&saved);
	table_close(to, NoLock);
	table_close(from, NoLock);
	finish_heap_swap(chunks,
					 fresh,
					 false,
					 false,
					 true,
					 true,
					 RecentXmin,
					 ReadNextMultiXactId(),
					 RELPERSISTENCE_PERMANENT);
	CommandCounterIncrement();
}

static void
positions_renew(const CqView *view)
{
	ListCell *lc;

	foreach (lc, position_ids(view))
	{
		int64 position = *(int64 *) lfirst(lc);
		CqCheckpoint checkpoint;

		if (!cq_checkpoint_take(position, &checkpoint))
			cq_view_gone(get_rel_name(view->view));
		if (checkpoint.has_digest)
			checkpoint.state_digest = cq_position_digest(view, position);
		cq_checkpoint_write(&checkpoint);
	}
	CommandCounterIncrement();
}

/* What a reader of the view wants to know first. */
static void
say_what_was_done(const CqEvolution *evolution)
{
	const CqPlan *plan = evolution->after;
	StringInfoData names;
	bool counts = false;
	int i;

	initStringInfo(&names);
	for (i = evolution->ncolumns; i < plan->result_desc->natts; i++)
		appendStringInfo(&names,
						 "%s\"%s\"",
						 names.len > 0 ? ", " : "",
						 NameStr(TupleDescAttr(plan->result_desc, i)->attname));
	for (i = 0; i < plan->ninputs; i++)
		counts = counts ||
				 (plan->inputs[i]->shape == CQ_SHAPE_AGGREGATE && !evolution->conversions[i].same);
	ereport(NOTICE,
			errmsg("continuous view \"%s\" has got columns: %s", evolution->name, names.data),
			!counts ? 0
			: plan->window.kind == CQ_WINDOW_NONE
				? errdetail("New aggregates are over events from now on, in each group from its "
							"next one.")
				: errdetail("New aggregates are complete in windows and groups that have no event "
							"yet, and null in others."),
			errhint("CALL pipeline.replay() computes them for what the stream still holds."));
}
