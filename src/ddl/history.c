/*
 * history.c
 *	  Rows of a query as the history of a stream, for a view that takes them in
 *	  before the stream's records.
 *
 * The history is a local stream without a user: a foreign table h_N in
 * pipeline_data, a part of view number N, with the columns of the stream in their
 * order.  A column that was dropped has one in its place, so that attribute numbers
 * are the same.  What the stream's options and generation expressions say is applied
 * when rows are read (cq_stream_load_history()).  Rows are numbered in the order in
 * which the query gives them, which is the order in which they are read.
 *
 * The query comes from the caller, who has the rights of the view's owner; if that
 * is somebody who may more, the query still runs with no more than the owner's
 * rights, because the conversion to the stream's types runs code of the owner's
 * choice.  Names in it are looked up and constants are read under the settings of the
 * session, since that is where it was written.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_coerce.h"
#include "parser/parse_relation.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "compat.h"
#include "ddl/history.h"
#include "ddl/identity.h"
#include "ddl/parts.h"
#include "plan/plan.h"
#include "sink/output.h"
#include "source/local/layout.h"
#include "source/stream.h"

/* Takes the rows of the query. */
typedef struct HistoryWriter
{
	DestReceiver receiver;
	const char *query;
	const CqStream *stream;
	TupleDesc desc;		 /* of the stream */
	AttrNumber *columns; /* of the stream, for each of the query */
	int ncolumns;
	CqOutput *output;
	Datum *values; /* of a row of the hidden table */
	bool *nulls;
	int64 rows;
} HistoryWriter;

static List *history_columns(Relation stream);
static Query *history_query(HistoryWriter *writer, bool time_needed);
static Query *analyse(const char *text);
static Query *convert(HistoryWriter *writer, Query *query);
static Node *convert_column(HistoryWriter *writer, ParseState *pstate, const Query *query,
							const TargetEntry *entry);
static const CqStreamColumn *column_named(const HistoryWriter *writer, const char *name);
static void check_time(const HistoryWriter *writer);
static void check_not_null(const HistoryWriter *writer);
static bool is_required(const HistoryWriter *writer, AttrNumber attnum);
static void refuse_null(const HistoryWriter *writer, AttrNumber attnum) CQ_NORETURN;
static bool is_given(const HistoryWriter *writer, AttrNumber attnum);
static void write_rows(HistoryWriter *writer, Query *query, Oid history);
static void run_query(HistoryWriter *writer, Query *query);
static void writer_startup(DestReceiver *self, int operation, TupleDesc desc);
static bool writer_receive(TupleTableSlot *slot, DestReceiver *self);
static void writer_shutdown(DestReceiver *self);
static void say_where(void *arg);

Oid
cq_history_create(const CqView *view, const char *query, int64 *rows)
{
	Oid owner = cq_parts_owner(view->view);
	bool time_needed = cq_window_has_late(&cq_identity_plan(view)->window);
	ErrorContextCallback context = {.callback = say_where};
	HistoryWriter writer = {.query = query};
	ObjectAddress whole;
	ObjectAddress part;
	Relation stream;
	CqIdentity saved;
	Query *converted;
	Oid history;

	writer.stream = cq_stream_load(view->stream);
	stream = table_open(view->stream, AccessShareLock);
	writer.desc = RelationGetDescr(stream);
	history = cq_parts_create_stream(psprintf("h_" INT64_FORMAT, view->id),
									 history_columns(stream),
									 NIL,
									 owner);
	ObjectAddressSet(whole, RelationRelationId, view->view);
	ObjectAddressSet(part, RelationRelationId, history);
	recordDependencyOn(&part, &whole, DEPENDENCY_INTERNAL);
	CommandCounterIncrement();

	PushActiveSnapshot(GetTransactionSnapshot());
	cq_identity_owner(owner, NIL, &saved);
	context.arg = &writer;
	context.previous = error_context_stack;
	error_context_stack = &context;
	converted = history_query(&writer, time_needed);
	write_rows(&writer, converted, history);
	error_context_stack = context.previous;
	cq_identity_restore(&saved);
	PopActiveSnapshot();
	table_close(stream, NoLock);
	CommandCounterIncrement();
	*rows = writer.rows;
	return history;
}

static List *
history_columns(Relation stream)
{
	TupleDesc desc = RelationGetDescr(stream);
	List *columns = NIL;
	int i;

	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		char *name = psprintf("a%d", i + 1);

		if (att->attisdropped)
			columns = lappend(columns, makeColumnDef(name, INT4OID, -1, InvalidOid));
		else
			columns =
				lappend(columns,
						makeColumnDef(name, att->atttypid, att->atttypmod, att->attcollation));
	}
	return columns;
}

static Query *
history_query(HistoryWriter *writer, bool time_needed)
{
	Query *query = analyse(writer->query);
	Query *converted;

	if (query->commandType != CMD_SELECT || query->hasModifyingCTE)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("query of history must be a SELECT that changes nothing"));
	converted = convert(writer, query);
	if (time_needed)
		check_time(writer);
	check_not_null(writer);
	return converted;
}

static Query *
analyse(const char *text)
{
	List *statements = pg_parse_query(text);

	if (list_length(statements) != 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("query of history must be one statement, not %d", list_length(statements)));
	return parse_analyze_fixedparams(linitial_node(RawStmt, statements), text, NULL, 0, NULL);
}

/* SELECT the columns, as what the stream has them as, FROM (query). */
static Query *
convert(HistoryWriter *writer, Query *query)
{
	ParseState *pstate = make_parsestate(NULL);
	Query *outer = makeNode(Query);
	RangeTblRef *from = makeNode(RangeTblRef);
	ListCell *lc;

	writer->columns = palloc(sizeof(AttrNumber) * Max(list_length(query->targetList), 1));
	(void) addRangeTableEntryForSubquery(pstate, query, makeAlias("history", NIL), false, true);
	foreach (lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Node *expr;

		if (entry->resjunk)
			continue;
		expr = convert_column(writer, pstate, query, entry);
		outer->targetList = lappend(outer->targetList,
									makeTargetEntry((Expr *) expr,
													(AttrNumber) writer->ncolumns,
													entry->resname,
													false));
	}
	from->rtindex = 1;
	outer->commandType = CMD_SELECT;
	outer->querySource = QSRC_ORIGINAL;
	outer->canSetTag = true;
	outer->rtable = pstate->p_rtable;
	outer->jointree = makeFromExpr(list_make1(from), NULL);
	return outer;
}

static Node *
convert_column(HistoryWriter *writer, ParseState *pstate, const Query *query,
			   const TargetEntry *entry)
{
	const CqStreamColumn *column = column_named(writer, entry->resname);
	Node *value = (Node *) makeVarFromTargetEntry(1, unconstify(TargetEntry *, entry));
	Oid type = exprType(value);
	Node *converted;

	converted = coerce_to_target_type(pstate,
									  value,
									  type,
									  column->type,
									  column->typmod,
									  COERCION_ASSIGNMENT,
									  COERCE_IMPLICIT_CAST,
									  -1);
	if (converted == NULL)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("column \"%s\" of stream \"%s\" is of type %s, but that of the query is of "
					   "type %s",
					   column->name,
					   writer->stream->name,
					   format_type_be(column->type),
					   format_type_be(type)),
				errhint("Cast it in the query."));
	writer->columns[writer->ncolumns++] = column->attnum;
	return converted;
}

static const CqStreamColumn *
column_named(const HistoryWriter *writer, const char *name)
{
	const CqStream *stream = writer->stream;
	const CqStreamColumn *column = NULL;
	int i;

	for (i = 0; i < stream->ncolumns && column == NULL; i++)
		if (!stream->columns[i].dropped && strcmp(stream->columns[i].name, name) == 0)
			column = &stream->columns[i];
	if (column == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("stream \"%s\" has no column \"%s\"", stream->name, name),
				errdetail("The query gives one of that name."),
				errhint("Name the columns of the query after those of the stream, and leave others "
						"out."));
	if (column->generation)
		ereport(ERROR,
				errcode(ERRCODE_GENERATED_ALWAYS),
				errmsg("column \"%s\" of stream \"%s\" is a generated one", name, stream->name),
				errhint("Leave it out of the query: it is computed."));
	if (is_given(writer, column->attnum))
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_COLUMN),
				errmsg("the query gives column \"%s\" of stream \"%s\" twice", name, stream->name));
	return column;
}

/* Without event times all rows would be dead letters. */
static void
check_time(const HistoryWriter *writer)
{
	const CqStream *stream = writer->stream;
	const CqStreamColumn *time = &stream->columns[stream->event_time - 1];

	if (time->generation == NULL && !is_given(writer, time->attnum))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("the query gives no event times"),
				errdetail("The view has windows, and column \"%s\" of stream \"%s\" says when an "
						  "event was.",
						  time->name,
						  stream->name),
				errhint("Give it among the columns of the query."));
}

static void
check_not_null(const HistoryWriter *writer)
{
	int i;

	for (i = 0; i < writer->stream->ncolumns; i++)
		if (is_required(writer, i + 1) && !is_given(writer, i + 1))
			refuse_null(writer, i + 1);
}

/* INSERT INTO a local stream would check it; of a topic it is only said. */
static bool
is_required(const HistoryWriter *writer, AttrNumber attnum)
{
	const CqStreamColumn *column = &writer->stream->columns[attnum - 1];

	return writer->stream->kind == CQ_STREAM_LOCAL && !column->dropped &&
		   column->generation == NULL && column->metadata == CQ_METADATA_NONE &&
		   TupleDescAttr(writer->desc, attnum - 1)->attnotnull;
}

static void
refuse_null(const HistoryWriter *writer, AttrNumber attnum)
{
	ereport(ERROR,
			errcode(ERRCODE_NOT_NULL_VIOLATION),
			errmsg("column \"%s\" of stream \"%s\" cannot be null",
				   writer->stream->columns[attnum - 1].name,
				   writer->stream->name));
}

static bool
is_given(const HistoryWriter *writer, AttrNumber attnum)
{
	int i;

	for (i = 0; i < writer->ncolumns; i++)
		if (writer->columns[i] == attnum)
			return true;
	return false;
}

static void
write_rows(HistoryWriter *writer, Query *query, Oid history)
{
	TimestampTz now = GetCurrentTimestamp();
	CqLocalLayout layout;
	Relation table;

	cq_local_layout_load(history, &layout);
	table = table_open(layout.tables[0], RowExclusiveLock);
	writer->values = palloc0(sizeof(Datum) * RelationGetNumberOfAttributes(table));
	writer->nulls = palloc(sizeof(bool) * RelationGetNumberOfAttributes(table));
	memset(writer->nulls, true, sizeof(bool) * RelationGetNumberOfAttributes(table));
	memset(writer->nulls, false, sizeof(bool) * CQ_LOCAL_FIXED_COLUMNS);
	writer->values[CQ_LOCAL_ERA - 1] = Int32GetDatum(layout.era);
	writer->values[CQ_LOCAL_XID - 1] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	writer->values[CQ_LOCAL_INSERTED_AT - 1] = TimestampTzGetDatum(now);
	writer->output = cq_output_begin(table);
	run_query(writer, query);
	(void) cq_output_end(writer->output);
	table_close(table, NoLock);
}

static void
run_query(HistoryWriter *writer, Query *query)
{
	List *rewritten;
	PlannedStmt *planned;
	QueryDesc *desc;

	writer->receiver.receiveSlot = writer_receive;
	writer->receiver.rStartup = writer_startup;
	writer->receiver.rShutdown = writer_shutdown;
	writer->receiver.rDestroy = writer_shutdown;
	writer->receiver.mydest = DestNone;
	rewritten = QueryRewrite(query);
	if (list_length(rewritten) != 1)
		elog(ERROR, "query of history was rewritten to %d queries", list_length(rewritten));
	planned = pg_plan_query(linitial_node(Query, rewritten), writer->query, 0, NULL);
	desc = CreateQueryDesc(planned,
						   writer->query,
						   GetActiveSnapshot(),
						   InvalidSnapshot,
						   &writer->receiver,
						   NULL,
						   NULL,
						   0);
	ExecutorStart(desc, 0);
	cq_compat_executor_run(desc);
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
}

static void
writer_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static bool
writer_receive(TupleTableSlot *slot, DestReceiver *self)
{
	HistoryWriter *writer = (HistoryWriter *) self;
	int i;

	slot_getallattrs(slot);
	for (i = 0; i < writer->ncolumns; i++)
	{
		int hidden = CQ_LOCAL_FIXED_COLUMNS + writer->columns[i] - 1;

		if (slot->tts_isnull[i] && is_required(writer, writer->columns[i]))
			refuse_null(writer, writer->columns[i]);
		writer->values[hidden] = slot->tts_values[i];
		writer->nulls[hidden] = slot->tts_isnull[i];
	}
	writer->values[CQ_LOCAL_SEQ - 1] = Int64GetDatum(writer->rows + 1);
	cq_output_insert(writer->output, writer->values, writer->nulls);
	writer->rows++;
	return true;
}

static void
writer_shutdown(DestReceiver *self)
{
}

/* Where in the query an error is, or at which of its rows. */
static void
say_where(void *arg)
{
	const HistoryWriter *writer = arg;
	int position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(writer->query);
	}
	else if (writer->output)
		errcontext("row %lld of the query of history", (long long) writer->rows + 1);
}
