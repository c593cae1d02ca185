/*
 * stream.c
 *	  What a stream is: the foreign table's columns and options, read from the
 *	  catalog and checked.
 *
 * The validators (options.c) have seen each object's options alone.  Here they
 * meet the columns.  The utility hook loads a stream right after it was created
 * or altered, so that a definition that does not make sense is refused there
 * and not when a worker first reads it.
 *
 * A stream is known by the handler function of its wrapper, not by the name of
 * the wrapper, which a superuser may change.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/sysattr.h"
#include "access/tupdesc.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "nodes/bitmapset.h"
#include "nodes/readfuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/feeds.h"
#include "compat.h"
#include "errors.h"
#include "source/local/layout.h"
#include "source/options.h"
#include "source/stream.h"

static bool same_columns(const CqStream *a, const CqStream *b);
static void load_feed(CqStream *stream);
static void load_options(CqStream *stream, const CqStreamOptions *options);
static void load_columns(CqStream *stream, Relation rel);
static void load_column(CqStream *stream, CqStreamColumn *column, Form_pg_attribute attr);
static void check_column_of_format(const CqStream *stream, const CqStreamColumn *column,
								   const CqColumnOptions *options);
static void check_column_format(const CqStream *stream, const CqStreamColumn *column);
static void refuse_column_format(const CqStream *stream, const CqStreamColumn *column,
								 const char *what, const char *hint) CQ_NORETURN;
static Node *generation_expression(Relation rel, AttrNumber attnum);
static void check_metadata(const CqStream *stream, const CqStreamColumn *column);
static void check_generated(const CqStream *stream, const CqStreamColumn *column,
							const CqColumnOptions *options, char attgenerated);
static void check_generation(const CqStream *stream, const CqStreamColumn *column);
static void resolve_event_time(CqStream *stream, const CqStreamOptions *options);
static List *resolve_columns(const CqStream *stream, const char *option, List *names);
static AttrNumber find_column(const CqStream *stream, const char *name);

bool
cq_is_stream(Oid relid)
{
	CqStreamKind kind;

	return get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE &&
		   cq_server_kind(GetForeignServerIdByRelId(relid), &kind);
}

bool
cq_is_stream_server(Oid server_id)
{
	CqStreamKind kind;

	return cq_server_kind(server_id, &kind);
}

bool
cq_server_kind(Oid server_id, CqStreamKind *kind)
{
	ForeignDataWrapper *wrapper = GetForeignDataWrapper(GetForeignServer(server_id)->fdwid);
	char *name;

	if (!OidIsValid(wrapper->fdwhandler) ||
		get_func_namespace(wrapper->fdwhandler) != get_namespace_oid("pipeline_data", true))
		return false;
	name = get_func_name(wrapper->fdwhandler);
	if (name == NULL)
		return false;
	*kind = strcmp(name, "pipeline_kafka_handler") == 0 ? CQ_STREAM_KAFKA : CQ_STREAM_LOCAL;
	return *kind == CQ_STREAM_KAFKA || strcmp(name, "pipeline_local_handler") == 0;
}

CqStream *
cq_stream_load(Oid relid)
{
	CqStream *stream = palloc0(sizeof(CqStream));
	CqStreamOptions options;
	CqLocalLayout layout;
	Relation rel = relation_open(relid, AccessShareLock);

	stream->relid = relid;
	stream->name = pstrdup(RelationGetRelationName(rel));
	if (rel->rd_rel->relkind != RELKIND_FOREIGN_TABLE ||
		!cq_server_kind(GetForeignServerIdByRelId(relid), &stream->kind))
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is not a stream", stream->name),
				errhint(
					"A stream is a foreign table on the server pipeline_local or on a server of "
					"the wrapper pipeline_kafka."));
	stream->server_id = GetForeignServerIdByRelId(relid);
	cq_stream_options_parse(GetForeignTable(relid)->options, stream->kind, &options);
	load_options(stream, &options);
	load_columns(stream, rel);
	resolve_event_time(stream, &options);
	stream->primary_key = resolve_columns(stream, "primary_key", options.primary_key);
	stream->partition_key = resolve_columns(stream, "partition_key", options.partition_key);
	if (stream->kind == CQ_STREAM_LOCAL && cq_local_layout_find(relid, &layout))
	{
		memcpy(stream->backing_tables, layout.tables, sizeof(layout.tables));
		stream->sequence = layout.sequence;
	}
	load_feed(stream);
	relation_close(rel, AccessShareLock);
	return stream;
}

CqStream *
cq_stream_load_history(Oid relid, Oid of)
{
	CqStream *stream = cq_stream_load(relid);
	const CqStream *shown = cq_stream_load(of);
	int i;

	stream->name = shown->name;
	stream->history_of = of;
	if (!same_columns(stream, shown))
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("columns of stream \"%s\" were changed while history was taken in",
					   stream->name),
				errhint("Drop the view that takes it in, and call pipeline.backfill() again."));
	for (i = 0; i < stream->ncolumns; i++)
	{
		stream->columns[i].name = shown->columns[i].name;
		stream->columns[i].dropped = shown->columns[i].dropped;
		stream->columns[i].generation = shown->columns[i].generation;
	}
	stream->event_time = shown->event_time;
	stream->out_of_orderness_us = shown->out_of_orderness_us;
	stream->max_ahead_us = shown->max_ahead_us;
	stream->on_error = shown->on_error;
	stream->idle_timeout_us = -1;
	return stream;
}

static bool
same_columns(const CqStream *a, const CqStream *b)
{
	int i;

	for (i = 0; i < a->ncolumns && i < b->ncolumns; i++)
		if (!b->columns[i].dropped && (a->columns[i].type != b->columns[i].type ||
									   a->columns[i].typmod != b->columns[i].typmod))
			return false;
	return a->ncolumns == b->ncolumns;
}

/* While a dump is restored the row that says so is not there yet. */
static void
load_feed(CqStream *stream)
{
	if (stream->kind != CQ_STREAM_LOCAL ||
		get_rel_namespace(stream->relid) != get_namespace_oid("pipeline_data", true))
		return;
	stream->feed = cq_feed_of_stream(stream->relid);
	if (stream->feed && OidIsValid(stream->feed->source_view))
		stream->name = get_rel_name(stream->feed->source_view);
}

static void
load_options(CqStream *stream, const CqStreamOptions *options)
{
	stream->format = options->format;
	stream->out_of_orderness_us = options->out_of_orderness_us;
	stream->idle_timeout_us = options->idle_timeout_us;
	stream->max_ahead_us = options->max_ahead_us;
	stream->max_skew_us = options->max_skew_us;
	stream->on_error = options->on_error;
	stream->topic = options->topic;
	stream->csv = options->csv;
	stream->encoding = options->encoding;
	stream->partition_ids = options->partition_ids;
	stream->start = options->start;
	stream->start_time = options->start_time;
	stream->retention_us = options->retention_us;
}

static void
load_columns(CqStream *stream, Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);
	int i;

	stream->ncolumns = desc->natts;
	stream->columns = palloc0(sizeof(CqStreamColumn) * Max(desc->natts, 1));
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);
		CqStreamColumn *column = &stream->columns[i];

		column->attnum = i + 1;
		column->name = pstrdup(NameStr(attr->attname));
		column->dropped = attr->attisdropped;
		if (attr->attisdropped)
			continue;
		if (attr->attgenerated != '\0')
			column->generation = generation_expression(rel, i + 1);
		load_column(stream, column, attr);
	}
	/* once all are known: what the expressions refer to */
	for (i = 0; i < desc->natts; i++)
		if (stream->columns[i].generation)
			check_generation(stream, &stream->columns[i]);
}

static void
load_column(CqStream *stream, CqStreamColumn *column, Form_pg_attribute attr)
{
	CqColumnOptions options;

	column->type = attr->atttypid;
	column->typmod = attr->atttypmod;
	column->collation = attr->attcollation;
	cq_column_options_parse(GetForeignColumnOptions(stream->relid, column->attnum),
							stream->kind,
							&options);
	column->path = options.path ? options.path : list_make1(column->name);
	column->metadata = options.metadata;
	column->time_format = options.time_format;
	column->bytes_format = options.bytes_format;
	column->force_null = options.force_null;
	column->force_not_null = options.force_not_null;

	if (column->generation)
		check_generated(stream, column, &options, attr->attgenerated);
	if (column->metadata != CQ_METADATA_NONE)
		check_metadata(stream, column);
	check_column_of_format(stream, column, &options);
	check_column_format(stream, column);
}

/* Options of columns that mean something in one format only. */
static void
check_column_of_format(const CqStream *stream, const CqStreamColumn *column,
					   const CqColumnOptions *options)
{
	const char *option = NULL;
	const char *format = "csv";

	if (options->path != NIL && !cq_stream_has_fields(stream))
	{
		option = "field";
		format = "json, or csv with the option header 'match'";
	}
	else if (options->force_null && stream->format != CQ_FORMAT_CSV)
		option = "force_null";
	else if (options->force_not_null && stream->format != CQ_FORMAT_CSV)
		option = "force_not_null";
	if (option != NULL)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				errmsg("column \"%s\" of stream \"%s\" cannot have the option \"%s\"",
					   column->name,
					   stream->name,
					   option),
				errdetail("It needs a stream of the format %s.", format));
}

/* Elements of arrays, too, may be sent in the form that the option tells. */
static void
check_column_format(const CqStream *stream, const CqStreamColumn *column)
{
	Oid type = getBaseType(column->type);
	Oid element = get_element_type(type);
	bool alone = cq_metadata_is_bytes(column->metadata) || stream->format == CQ_FORMAT_RAW;

	if (OidIsValid(element) && column->bytes_format != CQ_BYTES_BINARY)
		type = getBaseType(element);
	if (column->time_format != CQ_TIME_FORMAT_TEXT && type != TIMESTAMPTZOID &&
		type != TIMESTAMPOID && type != DATEOID)
		refuse_column_format(stream,
							 column,
							 "a time format",
							 "Give it the type timestamptz, or leave the option \"format\" out.");
	if (column->bytes_format == CQ_BYTES_BASE64 && type != BYTEAOID)
		refuse_column_format(stream,
							 column,
							 "the format base64",
							 "Give it the type bytea, or leave the option \"format\" out.");
	if (column->bytes_format == CQ_BYTES_BINARY &&
		(!alone || get_typlen(type) <= 0 || get_typtype(type) != TYPTYPE_BASE))
		refuse_column_format(stream,
							 column,
							 "the format binary",
							 "The format is for the key, and for the payload of a stream of the "
							 "format raw, in a type of fixed length like bigint.");
}

static void
refuse_column_format(const CqStream *stream, const CqStreamColumn *column, const char *what,
					 const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_DATATYPE_MISMATCH),
			errmsg("column \"%s\" of stream \"%s\" cannot have %s",
				   column->name,
				   stream->name,
				   what),
			errdetail("It is of type %s.", format_type_be(column->type)),
			errhint("%s", hint));
}

static Node *
generation_expression(Relation rel, AttrNumber attnum)
{
	TupleConstr *constraints = RelationGetDescr(rel)->constr;
	int i;

	for (i = 0; constraints && i < constraints->num_defval; i++)
		if (constraints->defval[i].adnum == attnum)
			return stringToNode(constraints->defval[i].adbin);
	elog(ERROR,
		 "no generation expression for column %d of relation %u",
		 attnum,
		 RelationGetRelid(rel));
}

static void
check_metadata(const CqStream *stream, const CqStreamColumn *column)
{
	const char *expected = NULL;
	Oid type = column->type;

	switch (column->metadata)
	{
		case CQ_METADATA_TOPIC:
			if (type != TEXTOID)
				expected = "text";
			break;
		case CQ_METADATA_PARTITION:
			if (type != INT4OID && type != INT8OID)
				expected = "integer or bigint";
			break;
		case CQ_METADATA_OFFSET:
			if (type != INT8OID)
				expected = "bigint";
			break;
		case CQ_METADATA_TIMESTAMP:
			if (type != TIMESTAMPTZOID && type != TIMESTAMPOID)
				expected = "timestamptz or timestamp";
			break;
		case CQ_METADATA_HEADERS:
			if (type != JSONBOID && type != JSONOID && type != TEXTOID)
				expected = "jsonb, json or text";
			break;
		case CQ_METADATA_KEY: /* decoded like any other value */
		case CQ_METADATA_PAYLOAD:
		case CQ_METADATA_NONE:
			break;
	}
	if (expected)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("metadata column \"%s\" of stream \"%s\" has the wrong type",
					   column->name,
					   stream->name),
				errdetail("It is of type %s and must be %s.", format_type_be(type), expected));
}

static void
check_generated(const CqStream *stream, const CqStreamColumn *column,
				const CqColumnOptions *options, char attgenerated)
{
	if (attgenerated != ATTRIBUTE_GENERATED_STORED)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("column \"%s\" of stream \"%s\" cannot be a virtual generated column",
					   column->name,
					   stream->name),
				errhint("Write GENERATED ALWAYS AS (...) STORED."));
	if (options->path || options->metadata || options->time_format || options->bytes_format ||
		options->force_null || options->force_not_null)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				errmsg("generated column \"%s\" of stream \"%s\" cannot have options",
					   column->name,
					   stream->name),
				errdetail("Its value comes from its expression, not from the record."));
}

/* In a local stream, INSERT computes generated columns before the metadata are known. */
static void
check_generation(const CqStream *stream, const CqStreamColumn *column)
{
	Bitmapset *attributes = NULL;
	int member = -1;

	if (stream->kind != CQ_STREAM_LOCAL)
		return;
	pull_varattnos(column->generation, 1, &attributes);
	while ((member = bms_next_member(attributes, member)) >= 0)
	{
		int attnum = member + FirstLowInvalidHeapAttributeNumber;

		if (attnum > 0 && stream->columns[attnum - 1].metadata != CQ_METADATA_NONE)
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("generated column \"%s\" of local stream \"%s\" cannot use the metadata "
						   "column \"%s\"",
						   column->name,
						   stream->name,
						   stream->columns[attnum - 1].name),
					errhint("Write the expression into the view's query instead."));
	}
}

static void
resolve_event_time(CqStream *stream, const CqStreamOptions *options)
{
	const CqStreamColumn *column;

	if (options->event_time == NULL)
		return;
	stream->event_time = find_column(stream, options->event_time);
	if (stream->event_time == InvalidAttrNumber)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("event time column \"%s\" of stream \"%s\" does not exist",
					   options->event_time,
					   stream->name),
				errhint("The option \"event_time\" names a column of the stream."));
	column = &stream->columns[stream->event_time - 1];
	if (column->type != TIMESTAMPTZOID && column->type != TIMESTAMPOID)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("event time column \"%s\" of stream \"%s\" has the wrong type",
					   column->name,
					   stream->name),
				errdetail("It is of type %s and must be timestamptz or timestamp.",
						  format_type_be(column->type)),
				errhint("Declare it so. Numbers since 1970 in a Kafka record are read with the "
						"column's option format, as in OPTIONS (format 'epoch_ms')."));
	if (column->metadata == CQ_METADATA_NONE && !options->has_out_of_orderness)
		ereport(ERROR,
				errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				errmsg("option \"out_of_orderness\" of stream \"%s\" is required", stream->name),
				errdetail("Times in the events' own data may come out of order; events that are "
						  "further behind than this are late."),
				errhint("Say how far, as in OPTIONS (out_of_orderness '5 seconds'); '0' if they "
						"always come in order."));
}

static List *
resolve_columns(const CqStream *stream, const char *option, List *names)
{
	List *attnums = NIL;
	ListCell *lc;

	foreach (lc, names)
	{
		AttrNumber attnum = find_column(stream, lfirst(lc));

		if (attnum == InvalidAttrNumber)
			ereport(ERROR,
					errcode(ERRCODE_UNDEFINED_COLUMN),
					errmsg("column \"%s\" in option \"%s\" of stream \"%s\" does not exist",
						   (char *) lfirst(lc),
						   option,
						   stream->name));
		attnums = list_append_unique_int(attnums, attnum);
	}
	return attnums;
}

static AttrNumber
find_column(const CqStream *stream, const char *name)
{
	int i;

	for (i = 0; i < stream->ncolumns; i++)
		if (!stream->columns[i].dropped && strcmp(stream->columns[i].name, name) == 0)
			return stream->columns[i].attnum;
	return InvalidAttrNumber;
}
