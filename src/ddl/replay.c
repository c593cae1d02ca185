/*
 * replay.c
 *	  Rebuilding a continuous view from its stream's history.
 *
 * A second view with the same query, <view>_replay, is created beside the one to
 * be rebuilt.  It begins at the beginning, or at a given time, and is an ordinary
 * continuous view meanwhile: it can be looked at, paused and dropped.  When it
 * has come to where the old one is, that one is held there by locks on its
 * tables, which workers never wait for; when the new one has processed all that
 * the stream holds then, it is where the old one is or beyond.  In the same
 * transaction its rows, late rows, dead letters, state and position take the
 * place of the old ones, and it is dropped.
 *
 * Who reads the view sees the old rows until that commits, and then the new
 * ones: rows are deleted and inserted, not truncated.  Relations stay as they
 * are, with their indexes and rights.  The chunk table gets another file, so
 * that state in memory is read anew (operator/state.c); the position row
 * another version, which fences the worker (C1).
 *
 * If only windows from some time on are replaced, earlier rows and late rows
 * stay; state and position are the new ones in any case, since windows that are
 * open are later ones.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/feeds.h"
#include "catalog/shards.h"
#include "compat.h"
#include "ddl/feeds.h"
#include "ddl/identity.h"
#include "ddl/parts.h"
#include "ddl/replay.h"
#include "ddl/shards.h"
#include "plan/plan.h"
#include "sink/output.h"
#include "source/local/storage.h"
#include "window/window.h"

/* Which rows of a table are replaced: those of windows that begin at "since" or later. */
typedef struct Choice
{
	TimestampTz since; /* DT_NOBEGIN = all */
	CqDerivedTime time;
	bool is_array; /* the column holds several ranges: those of one are enough */
	Oid range_type;
} Choice;

static void refuse_company(const CqView *view);
static void refuse(const CqView *view, const char *detail, const char *hint) CQ_NORETURN;
static bool can_choose(const CqPlan *plan);
static char *creation(const CqView *view, const char *name, TimestampTz from);
static char *name_beside(const CqView *view);
static List *chunk_tables(const CqView *view);
static bool is_complete(const CqCheckpoint *old, const CqCheckpoint *fresh);
static void late_replace(const CqView *view, const CqView *fresh, const CqPlan *plan,
						 TimestampTz since);
static AttrNumber late_windows_column(Oid table, Oid type);
static void rows_replace(const CqView *view, Oid table, Oid source, const Choice *choice);
static void rows_delete(Oid table, const Choice *choice);
static void rows_copy(Oid table, Oid source, const Choice *choice);
static bool chosen(const Choice *choice, TupleTableSlot *row);
static bool any_range_chosen(const Choice *choice, ArrayType *ranges);
static TimestampTz window_start(const Choice *choice, Datum value);
static void chunks_replace(const CqView *view, const CqView *fresh);
static void letters_replace(const CqView *view, const CqView *fresh);

void
cq_replay_check(const CqView *view, TimestampTz replace_from)
{
	const CqPlan *plan = cq_identity_plan(view);

	if (plan->window.processing)
		refuse(view,
			   "Its windows are of processing time, which does not come again.",
			   "Use windows of the stream's event time.");
	refuse_company(view);
	if (cq_feeds_of_view(view->id) != NIL)
		refuse(view,
			   "It reads another view, and what that gave out is not kept.",
			   "Create another view: it begins with the rows that there are.");
	if (!TIMESTAMP_IS_NOBEGIN(replace_from) && !can_choose(plan))
		refuse(view,
			   "Which of its rows are of windows from some time on cannot be told.",
			   "Leave replace_from out: all rows are replaced.");
}

/* What may come about until the view is held. */
static void
refuse_company(const CqView *view)
{
	if (list_length(cq_view_positions(view->id)) > 1)
		refuse(view,
			   "It has several workers, whose state cannot be exchanged together yet.",
			   "ALTER VIEW ... SET (pipeline.workers = 1) before.");
	if (cq_shards_of_view(view->id) != NIL)
		refuse(view, CQ_SHARDS_REMAIN, CQ_SHARDS_REMAIN_HINT);
	if (cq_feeds_of_source(view->id) != NIL)
		refuse(view,
			   "Another continuous view has read its rows.",
			   "Drop that view before, and create it again.");
}

static void
refuse(const CqView *view, const char *detail, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("continuous view \"%s\" cannot be replayed", get_rel_name(view->view)),
			errdetail_internal("%s", detail),
			errhint("%s", hint));
}

/* Rows that change are known to the state by numbers, of which there can be one set only. */
static bool
can_choose(const CqPlan *plan)
{
	return plan->emit != CQ_EMIT_CHANGES && plan->window.kind != CQ_WINDOW_NONE &&
		   (plan->time.role == CQ_TIME_RANGE || plan->time.role == CQ_TIME_START ||
			(plan->time.role == CQ_TIME_END && plan->time.window_us > 0));
}

Oid
cq_replay_create(const CqView *view, TimestampTz from)
{
	char *name = name_beside(view);
	CqIdentity saved;

	if (OidIsValid(get_relname_relid(name, get_rel_namespace(view->view))))
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_TABLE),
				errmsg("relation \"%s\" exists already", name),
				errdetail("It is what continuous view \"%s\" would be rebuilt in.",
						  get_rel_name(view->view)),
				errhint("If it is left by a replay that was interrupted, drop it."));
	cq_identity_owner(cq_parts_owner(view->view), view->settings, &saved);
	(void) set_config_option("client_min_messages",
							 "warning",
							 PGC_USERSET,
							 PGC_S_SESSION,
							 GUC_ACTION_SAVE,
							 true,
							 0,
							 false);
	if (SPI_execute(creation(view, name, from), false, 0) < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(SPI_result));
	cq_identity_restore(&saved);
	CommandCounterIncrement();
	return get_relname_relid(name, get_rel_namespace(view->view));
}

static char *
name_beside(const CqView *view)
{
	return makeObjectName(get_rel_name(view->view), NULL, "replay");
}

/* The options are those of the view, but for where to begin. */
static char *
creation(const CqView *view, const char *name, TimestampTz from)
{
	Datum query = DirectFunctionCall1(pg_get_viewdef, ObjectIdGetDatum(view->query));
	const char *start = "earliest";
	StringInfoData sql;
	ListCell *lc;

	if (!TIMESTAMP_IS_NOBEGIN(from))
		start = DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(from)));
	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "CREATE VIEW %s WITH (pipeline.continuous, pipeline.start = %s",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(view->view)),
												name),
					 quote_literal_cstr(start));
	foreach (lc, view->options.given)
	{
		char *option = pstrdup(lfirst(lc));
		char *value = strchr(option, '=');

		*value++ = '\0';
		if (strcmp(option, "start") != 0 && strcmp(option, "late_table") != 0)
			appendStringInfo(&sql, ", pipeline.%s = %s", option, quote_literal_cstr(value));
	}
	appendStringInfo(&sql, ") AS %s", TextDatumGetCString(query));
	return sql.data;
}

void
cq_replay_hold(const CqView *view)
{
	ListCell *lc;

	LockRelationOid(view->view, ShareUpdateExclusiveLock);
	LockRelationOid(view->result, ShareRowExclusiveLock);
	if (OidIsValid(view->late))
		LockRelationOid(view->late, ShareRowExclusiveLock);
	foreach (lc, chunk_tables(view))
		LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
	refuse_company(view);
}

/* In the same order for views of the same query. */
static List *
chunk_tables(const CqView *view)
{
	if (!OidIsValid(view->chunks))
		return NIL;
	return list_concat(list_make1_oid(view->chunks), cq_view_more_chunks(view->id));
}

CqReplayResult
cq_replay_swap(const CqView *view, const CqView *fresh, TimestampTz replace_from)
{
	CqPlan *plan = cq_identity_plan(view);
	Choice choice = {.since = replace_from, .time = plan->time};
	CqCheckpoint old;
	CqCheckpoint now;

	cq_replay_hold(fresh);
	if (!cq_checkpoint_take(view->id, &old) || !cq_checkpoint_take(fresh->id, &now))
		cq_view_gone(get_rel_name(view->view));
	/* W1; the clock or somebody's hand may have moved the old one's watermark */
	if (now.closed_to < old.closed_to)
		return CQ_REPLAY_BEHIND;
	if (TIMESTAMP_IS_NOBEGIN(replace_from) && !is_complete(&old, &now))
		return CQ_REPLAY_INCOMPLETE;

	if (choice.time.role == CQ_TIME_RANGE)
		choice.range_type = TupleDescAttr(plan->result_desc, choice.time.column - 1)->atttypid;
	rows_replace(view, view->result, fresh->result, &choice);
	if (OidIsValid(view->late) && OidIsValid(fresh->late))
		late_replace(view, fresh, plan, replace_from);
	chunks_replace(view, fresh);
	letters_replace(view, fresh);
	now.task = old.task;
	now.tid = old.tid;
	now.owner_epoch = old.owner_epoch;
	/* the worker knows its row by the number of the checkpoint (C1) */
	now.seq = Max(now.seq, old.seq);
	cq_checkpoint_write(&now);
	CommandCounterIncrement();
	cq_replay_drop(fresh);
	cq_shards_at_commit(CQ_SLOT_CHANGED, view->id);
	return CQ_REPLAY_DONE;
}

/*
 * Was everything read again that the view has read?  In a local stream a
 * position counts the rows read.
 */
static bool
is_complete(const CqCheckpoint *old, const CqCheckpoint *fresh)
{
	int i;
	int j;

	for (i = 0; i < old->npartitions; i++)
	{
		const CqPartition *had = &old->partitions[i];
		bool has = false;

		for (j = 0; j < fresh->npartitions; j++)
		{
			const CqPartition *p = &fresh->partitions[j];

			if (p->stream == had->stream && p->id == had->id)
				has = p->next_offset >= had->next_offset && p->start_offset <= had->start_offset;
		}
		if (!has)
			return false;
	}
	return true;
}

static void
late_replace(const CqView *view, const CqView *fresh, const CqPlan *plan, TimestampTz since)
{
	Choice choice = {.since = since, .is_array = true};

	choice.time.role = CQ_TIME_RANGE;
	choice.range_type = plan->window.time_type == TIMESTAMPOID ? TSRANGEOID : TSTZRANGEOID;
	choice.time.column = late_windows_column(view->late, get_array_type(choice.range_type));
	rows_replace(view, view->late, fresh->late, &choice);
}

/* Columns of the stream stand before it, and may be of the same type. */
static AttrNumber
late_windows_column(Oid table, Oid type)
{
	Relation rel = table_open(table, NoLock);
	AttrNumber attnum = RelationGetNumberOfAttributes(rel);

	while (attnum > 1 && TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atttypid != type)
		attnum--;
	table_close(rel, NoLock);
	return attnum;
}

/* Indexes of the user's may call functions of the user's: rows are inserted as the owner. */
static void
rows_replace(const CqView *view, Oid table, Oid source, const Choice *choice)
{
	CqIdentity saved;

	rows_delete(table, choice);
	CommandCounterIncrement();
	cq_identity_owner(cq_parts_owner(view->view), view->settings, &saved);
	rows_copy(table, source, choice);
	cq_identity_restore(&saved);
	CommandCounterIncrement();
}

static void
rows_delete(Oid table, const Choice *choice)
{
	Relation rel = table_open(table, NoLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *row = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		if (chosen(choice, row))
			simple_table_tuple_delete(rel, &row->tts_tid, snapshot);
	}
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}

static void
rows_copy(Oid table, Oid source, const Choice *choice)
{
	Relation rel = table_open(table, NoLock);
	Relation from = table_open(source, NoLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(from, snapshot, 0, NULL);
	TupleTableSlot *row = table_slot_create(from, NULL);
	CqOutput *output;

	PushActiveSnapshot(snapshot);
	output = cq_output_begin(rel);
	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(row);
		if (chosen(choice, row))
			cq_output_insert(output, row->tts_values, row->tts_isnull);
	}
	(void) cq_output_end(output);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(from, NoLock);
	table_close(rel, NoLock);
}

static bool
chosen(const Choice *choice, TupleTableSlot *row)
{
	Datum value;
	bool isnull;

	if (TIMESTAMP_IS_NOBEGIN(choice->since))
		return true;
	value = slot_getattr(row, choice->time.column, &isnull);
	if (isnull)
		return false;
	if (choice->is_array)
		return any_range_chosen(choice, DatumGetArrayTypeP(value));
	return window_start(choice, value) >= choice->since;
}

static bool
any_range_chosen(const Choice *choice, ArrayType *ranges)
{
	Datum *elements;
	bool *nulls;
	int16 length;
	bool by_value;
	char align;
	int n;
	int i;

	get_typlenbyvalalign(choice->range_type, &length, &by_value, &align);
	deconstruct_array(ranges, choice->range_type, length, by_value, align, &elements, &nulls, &n);
	for (i = 0; i < n; i++)
		if (!nulls[i] && window_start(choice, elements[i]) >= choice->since)
			return true;
	return false;
}

static TimestampTz
window_start(const Choice *choice, Datum value)
{
	TimestampTz start;
	TimestampTz end;

	if (choice->time.role == CQ_TIME_RANGE)
	{
		cq_window_range_bounds(choice->range_type, value, &start, &end);
		return start;
	}
	return DatumGetTimestampTz(value) -
		   (choice->time.role == CQ_TIME_END ? choice->time.window_us : 0);
}

/* In the order in which they stand: later ones hold newer values. */
static void
chunks_replace(const CqView *view, const CqView *fresh)
{
	ListCell *to;
	ListCell *from;

	forboth (to, chunk_tables(view), from, chunk_tables(fresh))
	{
		char *name = get_rel_name(lfirst_oid(to));

		cq_local_execute(psprintf("TRUNCATE ONLY pipeline_data.%s", name));
		cq_local_execute(psprintf("INSERT INTO pipeline_data.%s SELECT * FROM pipeline_data.%s "
								  "ORDER BY ctid",
								  name,
								  get_rel_name(lfirst_oid(from))));
	}
}

/* Those of records from before the new beginning stay. */
static void
letters_replace(const CqView *view, const CqView *fresh)
{
	cq_local_execute(psprintf(
		"DELETE FROM pipeline_data.dead_letters d USING pipeline_data.views v, "
		"pipeline_data.checkpoints c, "
		"LATERAL pipeline_data.partitions(c.partitions) p WHERE d.view = " INT64_FORMAT
		" AND c.task = " INT64_FORMAT
		" AND v.id = d.view AND v.streams[p.stream + 1] = d.stream AND p.partition = d.partition AND p.start_offset <= d.\"offset\"",
		view->id,
		fresh->id));
	cq_local_execute(psprintf("UPDATE pipeline_data.dead_letters SET view = " INT64_FORMAT
							  " WHERE view = " INT64_FORMAT,
							  view->id,
							  fresh->id));
}

void
cq_replay_drop(const CqView *fresh)
{
	char *schema = get_namespace_name(get_rel_namespace(fresh->view));

	if (SPI_execute(psprintf("DROP VIEW %s",
							 quote_qualified_identifier(schema, get_rel_name(fresh->view))),
					false,
					0) < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(SPI_result));
}
