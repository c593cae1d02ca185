/*
 * decoder.c
 *	  From a record's bytes to the values of a stream's columns.
 *
 * The stream's format fills the payload's columns, then metadata columns are
 * filled, then generated ones.  A record is refused as a whole or accepted as a
 * whole; what decides is the wanted columns and, in JSON and CSV, the form of
 * all of the payload.  NOT NULL on the foreign table is a statement about the
 * data that, by the convention of wrappers, is not checked.
 *
 * Memory: what is set up once lives in the context of cq_decoder_create();
 * values and messages in the caller's.  An error thrown in the middle of a
 * record leaves nothing behind: every buffer is begun anew for each record.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "decode/format.h"

#define BUFFER_KEPT_BYTES (1024 * 1024)

typedef struct RowFormat
{
	int ncolumns;
	int *indexes; /* of the wanted columns in values and nulls */
} RowFormat;

struct CqDecoder
{
	const CqStream *stream;
	StringInfo scratch;
	RowFormat *row; /* of these four, the one of the stream's format is set */
	CqJsonFormat *json;
	CqCsvFormat *csv;
	CqRawFormat *raw;
	CqMetadataColumns *metadata;   /* NULL if none */
	CqGeneratedColumns *generated; /* likewise */
};

static RowFormat *row_format_create(const CqStream *stream, const Bitmapset *columns);
static bool row_format_decode(const RowFormat *format, const CqRecord *record, Datum *values,
							  bool *nulls);
static bool decode_payload(CqDecoder *decoder, const CqRecord *record, Datum *values, bool *nulls,
						   CqDecodeError *error);

CqDecoder *
cq_decoder_create(const CqStream *stream, const Bitmapset *columns)
{
	CqDecoder *decoder = palloc0(sizeof(CqDecoder));
	Bitmapset *needed = cq_generated_needs(stream, columns);

	decoder->stream = stream;
	decoder->scratch = makeStringInfo();
	switch (stream->format)
	{
		case CQ_FORMAT_ROW:
			decoder->row = row_format_create(stream, needed);
			break;
		case CQ_FORMAT_JSON:
			decoder->json = cq_json_format_create(stream, needed, decoder->scratch);
			break;
		case CQ_FORMAT_CSV:
			decoder->csv = cq_csv_format_create(stream, needed, decoder->scratch);
			break;
		case CQ_FORMAT_RAW:
			decoder->raw = cq_raw_format_create(stream, needed, decoder->scratch);
			break;
	}
	decoder->metadata = cq_metadata_create(stream, needed, decoder->scratch);
	decoder->generated = cq_generated_create(stream, needed);
	return decoder;
}

bool
cq_decoder_decode(CqDecoder *decoder, const CqRecord *record, Datum *values, bool *nulls,
				  CqDecodeError *error)
{
	memset(values, 0, sizeof(Datum) * decoder->stream->ncolumns);
	memset(nulls, true, sizeof(bool) * decoder->stream->ncolumns);
	cq_buffer_begin(decoder->scratch);
	cq_column_at_fault = NULL;
	if (!decode_payload(decoder, record, values, nulls, error))
		return false;
	if (decoder->metadata != NULL &&
		!cq_metadata_decode(decoder->metadata, record, values, nulls, error))
		return false;
	if (decoder->generated != NULL)
		cq_generated_compute(decoder->generated, values, nulls);
	return true;
}

const char *
cq_decode_thrown(const ErrorData *error)
{
	if (cq_column_at_fault == NULL)
		return error->message;
	return psprintf("column \"%s\": %s", cq_column_at_fault, error->message);
}

bool
cq_check_text(const char *what, const char *text, Size len, CqDecodeError *error)
{
	if (len < MaxAllocSize && pg_verify_mbstr(PG_UTF8, text, (int) len, true))
		return true;
	return cq_decode_fail(error,
						  ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
						  "%s is not valid UTF-8, or has a zero byte in it",
						  what);
}

bool
cq_payload_text(const CqStream *stream, const CqRecord *record, const char **text, Size *len,
				CqDecodeError *error)
{
	const char *payload = record->payload;

	*text = payload;
	*len = record->payload_len;
	if (stream->encoding == PG_UTF8)
		return cq_check_text("the payload", payload, *len, error);
	if (memchr(payload, '\0', *len) != NULL)
		return cq_decode_fail(error,
							  ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
							  "the payload has a zero byte in it");
	if (*len == 0)
		return true;
	*text = (char *) pg_do_encoding_conversion((unsigned char *) unconstify(char *, payload),
											   (int) *len,
											   stream->encoding,
											   PG_UTF8);
	*len = strlen(*text);
	return true;
}

bool
cq_payload_field(const CqStream *stream, const CqRecord *record, bool as_bytes, CqField *field,
				 CqDecodeError *error)
{
	const char *bytes = record->payload;
	Size len = record->payload_len;

	if (bytes == NULL)
		return true;
	if (!AllocSizeIsValid(len + VARHDRSZ))
		return cq_decode_fail(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the payload is too long");
	if (!as_bytes && !cq_payload_text(stream, record, &bytes, &len, error))
		return false;
	cq_field_set_text(field, CQ_FIELD_STRING, bytes, len);
	return true;
}

bool
cq_column_takes_bytes(const CqStreamColumn *column)
{
	return column->bytes_format == CQ_BYTES_BINARY ||
		   (column->bytes_format == CQ_BYTES_TEXT && getBaseType(column->type) == BYTEAOID);
}

void
cq_buffer_begin(StringInfo buffer)
{
	MemoryContext old;

	resetStringInfo(buffer);
	if (buffer->maxlen <= BUFFER_KEPT_BYTES)
		return;
	old = MemoryContextSwitchTo(GetMemoryChunkContext(buffer));
	pfree(buffer->data);
	initStringInfo(buffer);
	MemoryContextSwitchTo(old);
}

static bool
decode_payload(CqDecoder *decoder, const CqRecord *record, Datum *values, bool *nulls,
			   CqDecodeError *error)
{
	switch (decoder->stream->format)
	{
		case CQ_FORMAT_ROW:
			return row_format_decode(decoder->row, record, values, nulls);
		case CQ_FORMAT_JSON:
			return cq_json_format_decode(decoder->json, record, values, nulls, error);
		case CQ_FORMAT_CSV:
			return cq_csv_format_decode(decoder->csv, record, values, nulls, error);
		case CQ_FORMAT_RAW:
			return cq_raw_format_decode(decoder->raw, record, values, nulls, error);
	}
	elog(ERROR, "unknown stream format %d", (int) decoder->stream->format);
	return false;
}

static RowFormat *
row_format_create(const CqStream *stream, const Bitmapset *columns)
{
	RowFormat *format = palloc0(sizeof(RowFormat));
	int i;

	format->indexes = palloc(sizeof(int) * stream->ncolumns);
	for (i = 0; i < stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &stream->columns[i];

		if (!column->dropped && column->metadata == CQ_METADATA_NONE &&
			bms_is_member(i + 1, columns))
			format->indexes[format->ncolumns++] = i;
	}
	return format;
}

/*
 * The row is there already, its stored generated columns included; values of
 * types passed by reference stay where they are.
 */
static bool
row_format_decode(const RowFormat *format, const CqRecord *record, Datum *values, bool *nulls)
{
	int i;

	for (i = 0; i < format->ncolumns; i++)
	{
		int index = format->indexes[i];

		values[index] = record->values[index];
		nulls[index] = record->nulls[index];
	}
	return true;
}
