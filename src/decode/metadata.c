/*
 * metadata.c
 *	  Columns from a record's coordinates rather than its payload.
 *
 * The partition is Kafka's own number, not the index that records carry.
 * Headers are a JSON object from names to values: values that are text as
 * strings, others as strings in the hexadecimal form of bytea.  A name may
 * occur more than once; json and text keep every pair, in jsonb the last stays.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "decode/format.h"

typedef struct MetadataColumn
{
	int index; /* in values and nulls */
	CqMetadata metadata;
	bool takes_bytes; /* a key or payload: it need not be text */
	Oid type;
	CqConverter *converter;
} MetadataColumn;

struct CqMetadataColumns
{
	const CqStream *stream;
	int ncolumns;
	MetadataColumn *columns;
};

static void check_column(const CqStream *stream, const CqStreamColumn *column);
static bool decode_column(const CqStream *stream, const MetadataColumn *column,
						  const CqRecord *record, Datum *value, bool *isnull, CqDecodeError *error);
static int32 record_partition(const CqRecord *record);
static bool decode_number(const MetadataColumn *column, int64 number, Datum *value, bool *isnull,
						  CqDecodeError *error);
static void headers_field(const CqRecord *record, CqField *field);
static void append_json_string(StringInfo json, const char *text, Size len);

CqMetadataColumns *
cq_metadata_create(const CqStream *stream, const Bitmapset *columns, StringInfo scratch)
{
	CqMetadataColumns *result = palloc0(sizeof(CqMetadataColumns));
	int i;

	result->stream = stream;
	result->columns = palloc(sizeof(MetadataColumn) * stream->ncolumns);
	for (i = 0; i < stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &stream->columns[i];
		MetadataColumn *added = &result->columns[result->ncolumns];

		if (column->dropped || column->metadata == CQ_METADATA_NONE ||
			!bms_is_member(column->attnum, columns))
			continue;
		check_column(stream, column);
		added->index = i;
		added->metadata = column->metadata;
		added->type = getBaseType(column->type);
		added->takes_bytes = cq_column_takes_bytes(column);
		added->converter = cq_converter_create(column, scratch, true);
		result->ncolumns++;
	}
	if (result->ncolumns > 0)
		return result;
	pfree(result->columns);
	pfree(result);
	return NULL;
}

bool
cq_metadata_decode(CqMetadataColumns *metadata, const CqRecord *record, Datum *values, bool *nulls,
				   CqDecodeError *error)
{
	int i;

	for (i = 0; i < metadata->ncolumns; i++)
	{
		const MetadataColumn *column = &metadata->columns[i];

		if (!decode_column(metadata->stream,
						   column,
						   record,
						   &values[column->index],
						   &nulls[column->index],
						   error))
			return false;
	}
	return true;
}

/* Times and headers do not go into just any type. */
static void
check_column(const CqStream *stream, const CqStreamColumn *column)
{
	Oid type = getBaseType(column->type);
	const char *types = NULL;

	if (column->metadata == CQ_METADATA_TIMESTAMP && type != TIMESTAMPTZOID && type != TIMESTAMPOID)
		types = "timestamp with time zone or timestamp";
	else if (column->metadata == CQ_METADATA_HEADERS && type != JSONOID && type != JSONBOID &&
			 type != TEXTOID)
		types = "jsonb, json or text";
	if (types != NULL)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("column \"%s\" of stream \"%s\" cannot hold this metadata",
					   column->name,
					   stream->name),
				errdetail("It is of type %s, but must be of type %s.",
						  format_type_be(column->type),
						  types));
}

static bool
decode_column(const CqStream *stream, const MetadataColumn *column, const CqRecord *record,
			  Datum *value, bool *isnull, CqDecodeError *error)
{
	bool kafka = stream->kind == CQ_STREAM_KAFKA;
	CqField field = {0};

	switch (column->metadata)
	{
		case CQ_METADATA_OFFSET:
			return decode_number(column, record->offset, value, isnull, error);
		case CQ_METADATA_PARTITION:
			return decode_number(column,
								 kafka ? record_partition(record) : 0,
								 value,
								 isnull,
								 error);
		case CQ_METADATA_TIMESTAMP:
			*isnull = record->timestamp == DT_NOBEGIN;
			*value = TimestampTzGetDatum(record->timestamp);
			if (!*isnull && column->converter->typmod >= 0)
				*value = DirectFunctionCall2(timestamptz_scale,
											 *value,
											 Int32GetDatum(column->converter->typmod));
			return true;
		case CQ_METADATA_KEY:
			if (record->key == NULL)
				break;
			if (!AllocSizeIsValid(record->key_len + VARHDRSZ))
				return cq_decode_fail(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the key is too long");
			if (!column->takes_bytes &&
				!cq_check_text("the key", record->key, record->key_len, error))
				return false;
			cq_field_set_text(&field, CQ_FIELD_STRING, record->key, record->key_len);
			break;
		case CQ_METADATA_TOPIC:
			if (stream->topic != NULL)
				cq_field_set_text(&field, CQ_FIELD_STRING, stream->topic, strlen(stream->topic));
			break;
		case CQ_METADATA_HEADERS:
			if (kafka)
				headers_field(record, &field);
			break;
		case CQ_METADATA_PAYLOAD:
			if (!cq_payload_field(stream, record, column->takes_bytes, &field, error))
				return false;
			break;
		case CQ_METADATA_NONE:
			break;
	}
	return cq_convert(column->converter, &field, value, isnull, error);
}

static int32
record_partition(const CqRecord *record)
{
	const CqStoredRecord *stored = cq_record_stored(record);

	return stored ? stored->partition : cq_kafka_record_partition(record);
}

/* Most often into bigint or integer, but any type that takes a number will do. */
static bool
decode_number(const MetadataColumn *column, int64 number, Datum *value, bool *isnull,
			  CqDecodeError *error)
{
	char digits[MAXINT8LEN + 1];
	CqField field;

	cq_field_set_text(&field, CQ_FIELD_NUMBER, digits, (Size) pg_lltoa(number, digits));
	return cq_convert(column->converter, &field, value, isnull, error);
}

static void
headers_field(const CqRecord *record, CqField *field)
{
	StringInfoData json;

	initStringInfo(&json);
	if (!cq_record_headers(record, &json))
		appendStringInfoString(&json, "{}");
	cq_field_set_text(field, CQ_FIELD_OBJECT, json.data, (Size) json.len);
	field->raw = json.data;
	field->raw_len = (uint32_t) json.len;
}

bool
cq_record_headers(const CqRecord *record, StringInfo json)
{
	const CqStoredRecord *stored = cq_record_stored(record);
	const char **names;
	const char **values;
	Size *value_lens;
	int count;
	int i;

	if (stored && stored->headers)
		appendBinaryStringInfo(json, stored->headers, (int) stored->headers_len);
	if (record->native == NULL)
		return stored && stored->headers;
	count = cq_kafka_record_headers(record, &names, &values, &value_lens);
	if (count == 0)
		return false;
	appendStringInfoChar(json, '{');
	for (i = 0; i < count; i++)
	{
		if (i > 0)
			appendStringInfoString(json, ", ");
		append_json_string(json, names[i], strlen(names[i]));
		appendStringInfoString(json, ": ");
		if (values[i] == NULL)
			appendStringInfoString(json, "null");
		else
			append_json_string(json, values[i], value_lens[i]);
	}
	appendStringInfoChar(json, '}');
	return true;
}

/* Still in UTF-8, as all fields are. */
static void
append_json_string(StringInfo json, const char *text, Size len)
{
	static const char hex[] = "0123456789abcdef";
	Size i;

	if (pg_encoding_verifymbstr(PG_UTF8, text, (int) len) == (int) len &&
		memchr(text, '\0', len) == NULL)
	{
		escape_json(json, pnstrdup(text, len));
		return;
	}
	appendStringInfoString(json, "\"\\\\x");
	for (i = 0; i < len; i++)
	{
		appendStringInfoChar(json, hex[(unsigned char) text[i] >> 4]);
		appendStringInfoChar(json, hex[(unsigned char) text[i] & 0xF]);
	}
	appendStringInfoChar(json, '"');
}
