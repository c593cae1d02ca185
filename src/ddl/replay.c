/*
 * replay.c
 *	  Rebuilding a continuous view from its stream's history, or from rows that
 *	  are to come before that.
 *
 * A second view with the same query, <view>_replay or <view>_backfill, is created
 * beside the one to be rebuilt.  The former begins at the beginning, or at a given
 * time; the latter where the old one began, after it has taken in the rows of a query
 * (backfill.c).  It is an ordinary continuous view meanwhile: it can be looked at,
 * paused and dropped.  When it has come to where the old one is, that one is held
 * there by locks on its tables, which workers never wait for; when the new one has
 * processed all that the stream holds then, it is where the old one is or beyond.
 * In the same transaction its rows, late rows, dead letters, state and position take
 * the place of the old ones, and it is dropped.
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

#include "catalog/beginnings.h"
#include "catalog/feeds.h"
#include "catalog/shards.h"
#include "compat.h"
#include "ddl/feeds.h"
#include "ddl/identity.h"
#include "ddl/parts.h"
#include "ddl/replay.h"
#include "ddl/shards.h"
#include "plan/plan.h"
#include "sink/late_table.h"
#include "sink/output.h"
#include "source/local/distance.h"
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

static const char *done_to(bool with_history);
static void refuse_company(const CqView *view, const char *what);
static void refuse(const CqView *view, const char *what, const char *detail,
				   const char *hint) CQ_NORETURN;
static bool can_choose(const CqPlan *plan);
static char *creation(const CqView *view, const char *name, const char *start);
static List *chunk_tables(const CqView *view);
static CqReplayResult compare(const CqCheckpoint *old, const CqCheckpoint *now,
							  const CqView *fresh);
static int64 rows_read(const CqPartition *had, const CqPartition *has, const CqView *fresh);
static void beginning_replace(const CqView *view, const CqView *fresh, bool keep_history);
static void late_replace(const CqView *view, const CqView *fresh, const CqPlan *plan,
						 TimestampTz since);
static int *result_columns(const CqView *view, const CqView *fresh);
static int *late_columns(const CqLateLayout *to, const CqLateLayout *from);
static int64 rows_replace(const CqView *view, Oid table, Oid source, const int *columns,
						  const Choice *choice);
static int64 rows_delete(Oid table, const Choice *choice);
static int64 rows_copy(Oid table, Oid source, const int *columns, const Choice *choice);
static bool chosen(const Choice *choice, TupleTableSlot *row);
static bool any_range_chosen(const Choice *choice, ArrayType *ranges);
static TimestampTz window_start(const Choice *choice, Datum value);
static void chunks_replace(const CqView *view, const CqView *fresh);
static void letters_replace(const CqView *view, const CqView *fresh, bool all);

void
cq_replay_check(const CqView *view, TimestampTz replace_from, bool with_history)
{
	const CqPlan *plan = cq_identity_plan(view);
	const char *what = done_to(with_history);
	CqBeginning beginning;

	if (plan->window.processing)
		refuse(view,
			   what,
			   "Its windows are of processing time, which does not come again.",
			   "Use windows of the stream's event time.");
	refuse_company(view, what);
	if (cq_feeds_of_view(view->id) != NIL)
		refuse(view,
			   what,
			   "It reads another view, and what that gave out is not kept.",
			   "Create another view: it begins with the rows that there are.");
	if (with_history && list_length(view->streams) > 1)
		refuse(view,
			   what,
			   "It reads several streams, and history of one of them says nothing about how far "
			   "the others are.",
			   "Make a continuous view over each, and join them in ordinary SQL.");
	cq_beginning_load(view->id, &beginning);
	if (!with_history && beginning.history_rows >= 0 && TIMESTAMP_IS_NOBEGIN(replace_from))
		refuse(view,
			   what,
			   "It has rows that pipeline.backfill() was given, which are not in its stream.",
			   "Call that again, or name the first window to be replaced in replace_from.");
	if (!TIMESTAMP_IS_NOBEGIN(replace_from) && !can_choose(plan))
		refuse(view,
			   what,
			   "Which of its rows are of windows from some time on cannot be told.",
			   "Leave replace_from out: all rows are replaced.");
}

static const char *
done_to(bool with_history)
{
	return with_history ? "backfilled" : "replayed";
}

/* What may come about until the view is held. */
static void
refuse_company(const CqView *view, const char *what)
{
	if (list_length(cq_view_positions(view->id)) > 1)
		refuse(view,
			   what,
			   "It has several workers, whose state cannot be exchanged together yet.",
			   "ALTER VIEW ... SET (pipeline.workers = 1) before.");
	if (cq_shards_of_view(view->id) != NIL)
		refuse(view, what, CQ_SHARDS_REMAIN, CQ_SHARDS_REMAIN_HINT);
	if (cq_feeds_of_source(view->id) != NIL)
		refuse(view,
			   what,
			   "Another continuous view has read its rows.",
			   "Drop that view before, and create it again.");
}

static void
refuse(const CqView *view, const char *what, const char *detail, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("continuous view \"%s\" cannot be %s", get_rel_name(view->view), what),
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
cq_replay_create(const CqView *view, const char *suffix, const char *start)
{
	char *name = makeObjectName(get_rel_name(view->view), NULL, suffix);
	CqIdentity saved;

	if (OidIsValid(get_relname_relid(name, get_rel_namespace(view->view))))
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_TABLE),
				errmsg("relation \"%s\" exists already", name),
				errdetail("It is what continuous view \"%s\" would be rebuilt in.",
						  get_rel_name(view->view)),
				errhint("If it is left by a call that was interrupted, drop it."));
	cq_identity_owner(cq_parts_owner(view->view), view->settings, &saved);
	(void) set_config_option("client_min_messages",
							 "warning",
							 PGC_USERSET,
							 PGC_S_SESSION,
							 GUC_ACTION_SAVE,
							 true,
							 0,
							 false);
	if (SPI_execute(creation(view, name, start), false, 0) < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(SPI_result));
	cq_identity_restore(&saved);
	CommandCounterIncrement();
	return get_relname_relid(name, get_rel_namespace(view->view));
}

/* The options are those of the view, but for where to begin; nobody listens to this one. */
static char *
creation(const CqView *view, const char *name, const char *start)
{
	Datum query = DirectFunctionCall1(pg_get_viewdef, ObjectIdGetDatum(view->query));
	StringInfoData sql;
	ListCell *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "CREATE VIEW %s WITH (pipeline.continuous",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(view->view)),
												name));
	if (start)
		appendStringInfo(&sql, ", pipeline.start = %s", quote_literal_cstr(start));
	foreach (lc, view->options.given)
	{
		char *option = pstrdup(lfirst(lc));
		char *value = strchr(option, '=');

		*value++ = '\0';
		if ((strcmp(option, "start") != 0 || start == NULL) && strcmp(option, "late_table") != 0 &&
			strcmp(option, "notify") != 0)
			appendStringInfo(&sql, ", pipeline.%s = %s", option, quote_literal_cstr(value));
	}
	appendStringInfo(&sql, ") AS %s", TextDatumGetCString(query));
	return sql.data;
}

void
cq_replay_hold(const CqView *view, bool with_history)
{
	ListCell *lc;

	LockRelationOid(view->view, ShareUpdateExclusiveLock);
	LockRelationOid(view->result, ShareRowExclusiveLock);
	if (OidIsValid(view->late))
		LockRelationOid(view->late, ShareRowExclusiveLock);
	foreach (lc, chunk_tables(view))
		LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
	refuse_company(view, done_to(with_history));
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
	bool all = TIMESTAMP_IS_NOBEGIN(replace_from);
	CqReplayResult result;
	int64 growth;
	CqBeginning beginning;
	CqCheckpoint old;
	CqCheckpoint now;

	cq_beginning_load(fresh->id, &beginning);
	cq_replay_hold(fresh, beginning.history_rows >= 0);
	if (!cq_checkpoint_take(view->id, &old) || !cq_checkpoint_take(fresh->id, &now))
		cq_view_gone(get_rel_name(view->view));
	/* W1; the clock or somebody's hand may have moved the old one's watermark */
	if (now.closed_to < old.closed_to)
		return CQ_REPLAY_BEHIND;
	result = compare(&old, &now, fresh);
	if (result == CQ_REPLAY_BEHIND || (result == CQ_REPLAY_INCOMPLETE && all))
		return result;

	if (choice.time.role == CQ_TIME_RANGE)
		choice.range_type = TupleDescAttr(plan->result_desc, choice.time.column - 1)->atttypid;
	growth = rows_replace(view, view->result, fresh->result, result_columns(view, fresh), &choice);
	if (OidIsValid(view->late) && OidIsValid(fresh->late))
		late_replace(view, fresh, plan, replace_from);
	chunks_replace(view, fresh);
	letters_replace(view, fresh, all);
	beginning_replace(view, fresh, !all);
	now.task = old.task;
	now.tid = old.tid;
	now.owner_epoch = old.owner_epoch;
	/* the worker knows its row by the number of the checkpoint (C1) */
	now.seq = Max(now.seq, old.seq);
	now.counters.rows_kept = old.counters.rows_kept + growth;
	cq_checkpoint_write(&now);
	CommandCounterIncrement();
	cq_replay_drop(fresh);
	cq_shards_at_commit(CQ_SLOT_CHANGED, view->id);
	return CQ_REPLAY_DONE;
}

/* Was everything read again that the view has read? */
static CqReplayResult
compare(const CqCheckpoint *old, const CqCheckpoint *now, const CqView *fresh)
{
	int i;
	int j;

	for (i = 0; i < old->npartitions; i++)
	{
		const CqPartition *had = &old->partitions[i];
		bool complete = false;

		for (j = 0; j < now->npartitions; j++)
		{
			const CqPartition *has = &now->partitions[j];
			int64 rows = has->next_offset;

			if (has->stream != had->stream || has->id != had->id)
				continue;
			if (has->cursor && had->cursor && (rows = rows_read(had, has, fresh)) < 0)
				return CQ_REPLAY_BEHIND;
			complete = rows >= had->next_offset && has->start_offset <= had->start_offset;
		}
		if (!complete)
			return CQ_REPLAY_INCOMPLETE;
	}
	return CQ_REPLAY_DONE;
}

/*
 * In a local stream a position only counts the rows read.  How many of them had the
 * old view read, too?  -1 if it is ahead: a position that is saved says where the last
 * row was read, and may look older than it is.
 */
static int64
rows_read(const CqPartition *had, const CqPartition *has, const CqView *fresh)
{
	const CqViewOptions *options = &fresh->options;
	bool since = options->has_start && options->start == CQ_START_TIMESTAMP;
	TimestampTz from = since ? options->start_time : DT_NOBEGIN;
	Oid stream = list_nth_oid(fresh->streams, has->stream);
	int64 more = cq_local_rows_between(stream, had->cursor, has->cursor, from);

	if (more >= 0)
		return has->next_offset - more;
	more = cq_local_rows_between(stream, has->cursor, had->cursor, from);
	return more == 0 ? has->next_offset : -1;
}

static void
late_replace(const CqView *view, const CqView *fresh, const CqPlan *plan, TimestampTz since)
{
	const CqLateLayout *to = cq_late_layout(plan, view->late_places);
	const CqLateLayout *from = cq_late_layout(plan, fresh->late_places);
	Choice choice = {.since = since, .is_array = true};

	choice.time.role = CQ_TIME_RANGE;
	choice.range_type = plan->window.time_type == TIMESTAMPOID ? TSRANGEOID : TSTZRANGEOID;
	choice.time.column = to->ours[CQ_LATE_WINDOWS] + 1;
	(void) rows_replace(view, view->late, fresh->late, late_columns(to, from), &choice);
}

/*
 * From which column of the new view's table each one of the old view's comes: that
 * may have columns behind the others since the view was altered.
 */
static int *
result_columns(const CqView *view, const CqView *fresh)
{
	Relation to = table_open(view->result, NoLock);
	Relation from = table_open(fresh->result, NoLock);
	AttrNumber *to_places = cq_result_places(RelationGetDescr(to));
	AttrNumber *from_places = cq_result_places(RelationGetDescr(from));
	int natts = RelationGetNumberOfAttributes(to);
	int *columns = palloc(sizeof(int) * natts);
	int i;

	for (i = 0; i < natts; i++)
		columns[to_places ? to_places[i] : i] = from_places ? from_places[i] : i;
	table_close(from, NoLock);
	table_close(to, NoLock);
	return columns;
}

static int *
late_columns(const CqLateLayout *to, const CqLateLayout *from)
{
	int *columns = palloc(sizeof(int) * (to->ncolumns + CQ_LATE_COLUMNS));
	int i;

	for (i = 0; i < to->ncolumns; i++)
		columns[to->column_places[i]] = from->column_places[i];
	for (i = 0; i < CQ_LATE_COLUMNS; i++)
		columns[to->ours[i]] = from->ours[i];
	return columns;
}

/* Indexes of the user's may call functions of the user's: rows are inserted as the owner. */
static int64
rows_replace(const CqView *view, Oid table, Oid source, const int *columns, const Choice *choice)
{
	CqIdentity saved;
	int64 growth;

	growth = -rows_delete(table, choice);
	CommandCounterIncrement();
	cq_identity_owner(cq_parts_owner(view->view), view->settings, &saved);
	growth += rows_copy(table, source, columns, choice);
	cq_identity_restore(&saved);
	CommandCounterIncrement();
	return growth;
}

static int64
rows_delete(Oid table, const Choice *choice)
{
	Relation rel = table_open(table, NoLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	int64 deleted = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		if (!chosen(choice, row))
			continue;
		simple_table_tuple_delete(rel, &row->tts_tid, snapshot);
		deleted++;
	}
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return deleted;
}

static int64
rows_copy(Oid table, Oid source, const int *columns, const Choice *choice)
{
	Relation rel = table_open(table, NoLock);
	Relation from = table_open(source, NoLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(from, snapshot, 0, NULL);
	TupleTableSlot *row = table_slot_create(from, NULL);
	TupleTableSlot *copy = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	CqOutput *output;
	int64 copied;
	int i;

	PushActiveSnapshot(snapshot);
	output = cq_output_begin(rel);
	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(row);
		ExecClearTuple(copy);
		for (i = 0; i < RelationGetNumberOfAttributes(rel); i++)
		{
			copy->tts_values[i] = row->tts_values[columns[i]];
			copy->tts_isnull[i] = row->tts_isnull[columns[i]];
		}
		ExecStoreVirtualTuple(copy);
		if (chosen(choice, copy))
			cq_output_insert(output, copy->tts_values, copy->tts_isnull);
	}
	copied = cq_output_end(output);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(copy);
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(from, NoLock);
	table_close(rel, NoLock);
	return copied;
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

/* Those of records from before the new beginning stay, and those of history if its rows do. */
static void
letters_replace(const CqView *view, const CqView *fresh, bool all)
{
	if (all)
		cq_local_execute(
			psprintf("DELETE FROM pipeline_data.dead_letters WHERE view = " INT64_FORMAT
					 " AND partition = %d",
					 view->id,
					 CQ_HISTORY_PARTITION));
	cq_local_execute(psprintf(
		"DELETE FROM pipeline_data.dead_letters d USING pipeline_data.views v, "
		"pipeline_data.checkpoints c, "
		"LATERAL pipeline_data.partitions(c.partitions) p WHERE d.view = " INT64_FORMAT
		" AND c.task = " INT64_FORMAT
		" AND v.id = d.view AND v.streams[p.stream + 1] = d.stream AND p.partition = d.partition AND p.start_offset <= d.\"offset\"",
		view->id,
		fresh->id));
	cq_local_execute(
		psprintf("UPDATE pipeline_data.dead_letters SET retry = false, view = " INT64_FORMAT
				 " WHERE view = " INT64_FORMAT,
				 view->id,
				 fresh->id));
}

/* Where the view begins from now on, and with how many rows of history. */
static void
beginning_replace(const CqView *view, const CqView *fresh, bool keep_history)
{
	CqBeginning old;
	CqBeginning now;

	cq_beginning_load(view->id, &old);
	cq_beginning_load(fresh->id, &now);
	now.view = view->id;
	now.history = InvalidOid;
	if (keep_history)
		now.history_rows = old.history_rows;
	cq_beginning_save(&now);
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
