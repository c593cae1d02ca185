/*
 * json_format.c
 *	  Streams whose payload is one JSON object, or an array if a column's path
 *	  begins with an index.
 *
 * A payload that is not there at all, which deletes a key in a compacted topic,
 * has no values: its columns are NULL.  An empty one is not valid JSON.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "decode/format.h"
#include "decode/json.h"

typedef struct JsonColumn
{
	int index; /* in values and nulls */
	int slot;  /* in the fields of a document */
	CqConverter *converter;
} JsonColumn;

struct CqJsonFormat
{
	int ncolumns;
	JsonColumn *columns;
	CqJson *json; /* malloc'ed, given up with the memory context */
};

static bool decode_nothing(const CqJsonFormat *format, Datum *values, bool *nulls,
						   CqDecodeError *error);
static CqJsonPath path_of_column(const CqStreamColumn *column);
static void free_json(void *json);
static bool refuse_document(CqJsonStatus status, const CqJsonError *reason, CqDecodeError *error);

CqJsonFormat *
cq_json_format_create(const CqStream *stream, const Bitmapset *columns, StringInfo scratch)
{
	CqJsonFormat *format = palloc0(sizeof(CqJsonFormat));
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));
	CqJsonPath *paths = palloc(sizeof(CqJsonPath) * stream->ncolumns);
	int *slots = palloc(sizeof(int) * stream->ncolumns);
	bool arrays = false;
	int i;

	format->columns = palloc(sizeof(JsonColumn) * stream->ncolumns);
	for (i = 0; i < stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &stream->columns[i];

		if (!cq_column_in_payload(column))
			continue;
		arrays |= cq_json_key_is_index(linitial(column->path));
		if (!bms_is_member(column->attnum, columns))
			continue;
		paths[format->ncolumns] = path_of_column(column);
		format->columns[format->ncolumns].index = i;
		format->columns[format->ncolumns].converter = cq_converter_create(column, scratch, false);
		format->ncolumns++;
	}
	format->json = cq_json_create(paths, format->ncolumns, arrays, slots);
	if (format->json == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	callback->func = free_json;
	callback->arg = format->json;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	for (i = 0; i < format->ncolumns; i++)
		format->columns[i].slot = slots[i];
	return format;
}

bool
cq_json_format_decode(CqJsonFormat *format, const CqRecord *record, Datum *values, bool *nulls,
					  CqDecodeError *error)
{
	const CqField *fields;
	CqJsonError reason;
	CqJsonStatus status;
	int i;

	if (record->payload == NULL)
		return decode_nothing(format, values, nulls, error);
	status = cq_json_read(format->json, record->payload, record->payload_len, &reason);
	if (status != CQ_JSON_OK)
		return refuse_document(status, &reason, error);
	fields = cq_json_fields(format->json);
	for (i = 0; i < format->ncolumns; i++)
	{
		const JsonColumn *column = &format->columns[i];

		if (!cq_convert(column->converter,
						&fields[column->slot],
						&values[column->index],
						&nulls[column->index],
						error))
			return false;
	}
	return true;
}

/* A domain may refuse NULL. */
static bool
decode_nothing(const CqJsonFormat *format, Datum *values, bool *nulls, CqDecodeError *error)
{
	const CqField missing = {0};
	int i;

	for (i = 0; i < format->ncolumns; i++)
	{
		const JsonColumn *column = &format->columns[i];

		if (!cq_convert(column->converter,
						&missing,
						&values[column->index],
						&nulls[column->index],
						error))
			return false;
	}
	return true;
}

/* The keys of a column's path, in UTF-8 as documents are. */
static CqJsonPath
path_of_column(const CqStreamColumn *column)
{
	const char **keys = palloc(sizeof(char *) * list_length(column->path));
	CqJsonPath path;
	ListCell *cell;

	path.nkeys = 0;
	path.keys = keys;
	foreach (cell, column->path)
	{
		char *key = lfirst(cell);

		keys[path.nkeys++] = pg_server_to_any(key, (int) strlen(key), PG_UTF8);
	}
	return path;
}

static void
free_json(void *json)
{
	cq_json_free(json);
}

static bool
refuse_document(CqJsonStatus status, const CqJsonError *reason, CqDecodeError *error)
{
	switch (status)
	{
		case CQ_JSON_NO_MEMORY:
			ereport(ERROR,
					errcode(ERRCODE_OUT_OF_MEMORY),
					errmsg("out of memory"),
					errdetail("A JSON document could not be read."));
			break;
		case CQ_JSON_BAD_ENCODING:
			return cq_decode_fail(error,
								  ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
								  "the payload is not valid UTF-8");
		default:
			break;
	}
	if (reason->at < 0)
		return cq_decode_fail(error,
							  ERRCODE_INVALID_JSON_TEXT,
							  "the payload is not a valid JSON object: %s",
							  reason->reason);
	return cq_decode_fail(error,
						  ERRCODE_INVALID_JSON_TEXT,
						  "the payload is not a valid JSON object: %s (at byte %lld)",
						  reason->reason,
						  reason->at + 1);
}
