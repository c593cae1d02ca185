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
	const CqStream *stream;
	int index;				/* in values and nulls */
	bool takes_bytes;		/* the payload is not text */
	CqConverter *converter; /* NULL if the column is not wanted */
};

static const CqStreamColumn *payload_column(const CqStream *stream);

CqRawFormat *
cq_raw_format_create(const CqStream *stream, const Bitmapset *columns, StringInfo scratch)
{
	CqRawFormat *format = palloc0(sizeof(CqRawFormat));
	const CqStreamColumn *column = payload_column(stream);

	format->stream = stream;
	format->index = column->attnum - 1;
	format->takes_bytes = cq_column_takes_bytes(column);
	if (bms_is_member(column->attnum, columns))
		format->converter = cq_converter_create(column, scratch, true);
	return format;
}

bool
cq_raw_format_decode(CqRawFormat *format, const CqRecord *record, Datum *values, bool *nulls,
					 CqDecodeError *error)
{
	CqField field = {0};

	if (format->converter == NULL)
		return true;
	if (!cq_payload_field(format->stream, record, format->takes_bytes, &field, error))
		return false;
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
	if (count == 1 && found->bytes_format == CQ_BYTES_BINARY)
		return found;
	if (count == 1)
		type = getBaseType(found->type);
	if (type != TEXTOID && type != VARCHAROID && type != BPCHAROID && type != BYTEAOID &&
		type != JSONOID && type != JSONBOID)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				errmsg("stream \"%s\" cannot have the format raw with these columns", stream->name),
				errdetail("The format needs exactly one column for the payload, of type text, "
						  "bytea, json or jsonb, or with the option \"format\" 'binary'."),
				errhint("Give the option \"metadata\" to columns that hold the key, topic, "
						"partition, offset, timestamp or headers."));
	return found;
}
