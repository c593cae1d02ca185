/*
 * encoder.c
 *	  From the values of a stream's columns to a record.
 *
 * A row whose payload has no value at all becomes a record without one: a tombstone,
 * which deletes its key from a compacted topic.  It reads back as the same row.
 *
 * Texts are made in the database's encoding and then converted, to the stream's in
 * the payload, else to UTF-8.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "decode/format.h"
#include "encode/encoder.h"
#include "encode/writer.h"

#define EPOCH_SHIFT_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* One value that is a whole key or payload. */
typedef struct WholeValue
{
	int index; /* -1 = there is no such column */
	bool is_bytes;
	CqWriter *writer;
	const char *name;
} WholeValue;

struct CqEncoder
{
	const CqStream *stream;
	CqJsonWriter *json; /* of these, the one of the stream's format is set */
	CqCsvWriter *csv;
	WholeValue raw;
	WholeValue key;
	WholeValue payload;	   /* the column with the metadata "payload" */
	StringInfoData buffer; /* the payload */
	StringInfoData key_buffer;
};

static void whole_value_set(WholeValue *value, const CqStreamColumn *column);
static void refuse_set_by_broker(const CqEncoder *encoder, const bool *nulls);
static bool has_payload(const CqEncoder *encoder, const bool *nulls);
static void encode_payload(CqEncoder *encoder, const Datum *values, const bool *nulls,
						   CqMessage *message);
static void encode_whole(const WholeValue *value, Datum datum, int encoding, StringInfo buffer,
						 const char **bytes, Size *len);
static void convert(StringInfo buffer, int encoding, const char **bytes, Size *len);
static void encode_metadata(const CqStreamColumn *column, Datum value, CqMessage *message);
static int32 partition_number(const CqStreamColumn *column, Datum value);
static int64 time_ms(const CqStreamColumn *column, Datum value);
static void encode_headers(const CqStreamColumn *column, Datum value, CqMessage *message);
static void header_value(CqHeader *header, JsonbValue *value);
static bool hidden_bytes(CqHeader *header);

CqEncoder *
cq_encoder_create(const CqStream *stream)
{
	CqEncoder *encoder = palloc0(sizeof(CqEncoder));
	int i;

	encoder->stream = stream;
	encoder->raw.index = encoder->key.index = encoder->payload.index = -1;
	initStringInfo(&encoder->buffer);
	initStringInfo(&encoder->key_buffer);
	if (stream->format == CQ_FORMAT_JSON)
		encoder->json = cq_json_writer_create(stream);
	else if (stream->format == CQ_FORMAT_CSV)
		encoder->csv = cq_csv_writer_create(stream);
	for (i = 0; i < stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &stream->columns[i];

		if (stream->format == CQ_FORMAT_RAW && cq_column_in_payload(column))
			whole_value_set(&encoder->raw, column);
		else if (!column->dropped && column->metadata == CQ_METADATA_KEY)
			whole_value_set(&encoder->key, column);
		else if (!column->dropped && column->metadata == CQ_METADATA_PAYLOAD)
			whole_value_set(&encoder->payload, column);
	}
	return encoder;
}

static void
whole_value_set(WholeValue *value, const CqStreamColumn *column)
{
	if (value->index >= 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("columns \"%s\" and \"%s\" are for the same part of a record",
					   value->name,
					   column->name),
				errhint("Make another stream over the topic, with one of the columns."));
	value->index = column->attnum - 1;
	value->is_bytes = cq_column_takes_bytes(column);
	value->writer = cq_writer_create(column);
	value->name = column->name;
}

void
cq_encoder_encode(CqEncoder *encoder, const Datum *values, const bool *nulls, CqMessage *message)
{
	const CqStream *stream = encoder->stream;
	int i;

	memset(message, 0, sizeof(CqMessage));
	message->partition = CQ_ANY_PARTITION;
	message->timestamp_ms = CQ_NO_TIMESTAMP;
	refuse_set_by_broker(encoder, nulls);
	encode_payload(encoder, values, nulls, message);
	if (encoder->key.index >= 0 && !nulls[encoder->key.index])
		encode_whole(&encoder->key,
					 values[encoder->key.index],
					 PG_UTF8,
					 &encoder->key_buffer,
					 &message->key,
					 &message->key_len);
	for (i = 0; i < stream->ncolumns; i++)
		if (!nulls[i] && !stream->columns[i].dropped)
			encode_metadata(&stream->columns[i], values[i], message);
}

static void
refuse_set_by_broker(const CqEncoder *encoder, const bool *nulls)
{
	int i;

	for (i = 0; i < encoder->stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &encoder->stream->columns[i];

		if (nulls[i] || column->dropped ||
			(column->metadata != CQ_METADATA_OFFSET && column->metadata != CQ_METADATA_TOPIC))
			continue;
		ereport(ERROR,
				errcode(ERRCODE_GENERATED_ALWAYS),
				errmsg("cannot insert a value into metadata column \"%s\"", column->name),
				errdetail(column->metadata == CQ_METADATA_OFFSET
							  ? "The broker gives a record its offset."
							  : "The topic is that of the stream."),
				errhint("Leave the column out of the INSERT."));
	}
}

static bool
has_payload(const CqEncoder *encoder, const bool *nulls)
{
	int i;

	for (i = 0; i < encoder->stream->ncolumns; i++)
		if (!nulls[i] && cq_column_in_payload(&encoder->stream->columns[i]))
			return true;
	return false;
}

static void
encode_payload(CqEncoder *encoder, const Datum *values, const bool *nulls, CqMessage *message)
{
	bool whole = encoder->payload.index >= 0 && !nulls[encoder->payload.index];

	if (!has_payload(encoder, nulls) && !whole)
		return;
	if (whole && has_payload(encoder, nulls))
		ereport(
			ERROR,
			errcode(ERRCODE_GENERATED_ALWAYS),
			errmsg("cannot insert values both into metadata column \"%s\" and into other columns",
				   encoder->payload.name),
			errdetail("The column is all of the payload that the others are parts of."));
	if (whole || encoder->raw.index >= 0)
	{
		const WholeValue *value = whole ? &encoder->payload : &encoder->raw;

		encode_whole(value,
					 values[value->index],
					 encoder->stream->encoding,
					 &encoder->buffer,
					 &message->payload,
					 &message->payload_len);
		return;
	}
	cq_buffer_begin(&encoder->buffer);
	if (encoder->json)
		cq_json_writer_write(encoder->json, values, nulls, &encoder->buffer);
	else
		cq_csv_writer_write(encoder->csv, values, nulls, &encoder->buffer);
	convert(&encoder->buffer, encoder->stream->encoding, &message->payload, &message->payload_len);
}

static void
encode_whole(const WholeValue *value, Datum datum, int encoding, StringInfo buffer,
			 const char **bytes, Size *len)
{
	cq_buffer_begin(buffer);
	if (value->is_bytes)
		cq_write_bytes(value->writer, datum, buffer);
	else
	{
		cq_write_text(value->writer, datum, buffer);
		convert(buffer, encoding, bytes, len);
		return;
	}
	*bytes = buffer->data;
	*len = (Size) buffer->len;
}

static void
convert(StringInfo buffer, int encoding, const char **bytes, Size *len)
{
	char *converted = pg_server_to_any(buffer->data, buffer->len, encoding);

	*bytes = converted;
	*len = converted == buffer->data ? (Size) buffer->len : strlen(converted);
}

static void
encode_metadata(const CqStreamColumn *column, Datum value, CqMessage *message)
{
	switch (column->metadata)
	{
		case CQ_METADATA_PARTITION:
			message->partition = partition_number(column, value);
			return;
		case CQ_METADATA_TIMESTAMP:
			message->timestamp_ms = time_ms(column, value);
			return;
		case CQ_METADATA_HEADERS:
			encode_headers(column, value, message);
			return;
		default:
			return;
	}
}

static int32
partition_number(const CqStreamColumn *column, Datum value)
{
	int64 number = column->type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);

	if (number < 0 || number > PG_INT32_MAX)
		ereport(ERROR,
				errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("value of metadata column \"%s\" is out of range", column->name),
				errdetail("No partition has the number %lld.", (long long) number));
	return (int32) number;
}

/* Kafka knows no time before 1970, and none finer than a millisecond. */
static int64
time_ms(const CqStreamColumn *column, Datum value)
{
	TimestampTz time = DatumGetTimestampTz(value);

	if (TIMESTAMP_NOT_FINITE(time) || time + EPOCH_SHIFT_US < 0)
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("value of metadata column \"%s\" is out of range", column->name),
				errdetail("The timestamp of a record is not infinite, nor before 1970."));
	return (time + EPOCH_SHIFT_US) / 1000;
}

/* An object from names to strings, or null for no value; other values as their JSON text. */
static void
encode_headers(const CqStreamColumn *column, Datum value, CqMessage *message)
{
	Jsonb *object =
		column->type == JSONBOID
			? DatumGetJsonbP(value)
			: DatumGetJsonbP(
				  DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(value))));
	JsonbIterator *iterator;
	JsonbValue item;
	JsonbIteratorToken token;
	CqHeader *headers;

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("value of metadata column \"%s\" must be a JSON object", column->name),
				errdetail("It has a header's value for each name."));
	headers = palloc0(sizeof(CqHeader) * (JB_ROOT_COUNT(object) + 1));
	iterator = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			headers[message->nheaders].name =
				pg_server_to_any(pnstrdup(item.val.string.val, item.val.string.len),
								 item.val.string.len,
								 PG_UTF8);
		else if (token == WJB_VALUE)
			header_value(&headers[message->nheaders++], &item);
	}
	message->headers = headers;
}

static void
header_value(CqHeader *header, JsonbValue *value)
{
	char *text;

	if (value->type == jbvNull)
		return;
	if (value->type == jbvString)
		text = pnstrdup(value->val.string.val, value->val.string.len);
	else
		text = JsonbToCString(NULL, &JsonbValueToJsonb(value)->root, 0);
	header->value = pg_server_to_any(text, (int) strlen(text), PG_UTF8);
	header->value_len = strlen(header->value);
	if (value->type == jbvString)
		(void) hidden_bytes(header);
}

/*
 * Values that are not text are read in the hexadecimal form of bytea.  So a string
 * of this form whose bytes are not text stands for the bytes.
 */
static bool
hidden_bytes(CqHeader *header)
{
	Size len = header->value_len;
	char *bytes;
	Size nbytes;

	if (len < 4 || len % 2 != 0 || header->value[0] != '\\' || header->value[1] != 'x' ||
		strspn(header->value + 2, "0123456789abcdef") != len - 2)
		return false;
	bytes = palloc(len / 2);
	nbytes = (Size) hex_decode(header->value + 2, len - 2, bytes);
	if (pg_encoding_verifymbstr(PG_UTF8, bytes, (int) nbytes) == (int) nbytes &&
		memchr(bytes, '\0', nbytes) == NULL)
		return false;
	header->value = bytes;
	header->value_len = nbytes;
	return true;
}
