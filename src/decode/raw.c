/*
 * raw.c
 *	  Streams whose payload is the value of one column.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "decode/format.h"

struct CqRawFormat
{
	int index;				/* in values and nulls */
	bool binary;			/* bytea: the bytes are not text */
	CqConverter *converter; /* NULL if the column is not wanted */
};

static const CqStreamColumn *payload_column(const CqStream *stream);

CqRawFormat *
cq_raw_format_create(const CqStream *stream, const Bitmapset *columns, StringInfo scratch)
{
	CqRawFormat *format = palloc0(sizeof(CqRawFormat));
	const CqStreamColumn *column = payload_column(stream);

	format->index = column->attnum - 1;
	format->binary = getBaseType(column->type) == BYTEAOID;
	if (bms_is_member(column->attnum, columns))
		format->converter = cq_converter_create(column, scratch, true);
	return format;
}

bool
cq_raw_format_decode(CqRawFormat *format, const CqRecord *record, Datum *values, bool *nulls,
					 CqDecodeError *error)
{
	CqField field;

	if (format->converter == NULL || record->payload == NULL)
		return true;
	if (!AllocSizeIsValid(record->payload_len + VARHDRSZ))
		return cq_decode_fail(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the payload is too long");
	if (!format->binary &&
		!cq_check_text("the payload", record->payload, record->payload_len, error))
		return false;
	cq_field_set_text(&field, CQ_FIELD_STRING, record->payload, record->payload_len);
	return cq_convert(format->converter,
					  &field,
					  &values[format->index],
					  &nulls[format->index],
					  error);
}

/* The one column for the payload; error if the stream is not made so. */
static const CqStreamColumn *
payload_column(const CqStream *stream)
{
	const CqStreamColumn *found = NULL;
	int count = 0;
	int i;
	Oid type = InvalidOid;

	for (i = 0; i < stream->ncolumns; i++)
	{
		if (!cq_column_in_payload(&stream->columns[i]))
			continue;
		found = &stream->columns[i];
		count++;
	}
	if (count == 1)
		type = getBaseType(found->type);
	if (type != TEXTOID && type != BYTEAOID && type != JSONOID && type != JSONBOID)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				errmsg("stream \"%s\" cannot have the format raw with these columns", stream->name),
				errdetail("The format needs exactly one column for the payload, of type text, "
						  "bytea, json or jsonb."),
				errhint("Give the option \"metadata\" to columns that hold the key, topic, "
						"partition, offset, timestamp or headers."));
	return found;
}
