/*
 * csv.c
 *	  Streams whose payload is one line of comma-separated values (RFC 4180).
 *
 * The fields are the stream's columns in their order, those left out that do
 * not come from the payload.  A field may be quoted, and then hold commas,
 * line ends, and quotes written twice.  An empty field is NULL unless quoted.
 * The line may end with a line end; nothing may follow.  A payload that is not
 * there at all has NULL in every column.
 */
#include "postgres.h"

#include "decode/format.h"

struct CqCsvFormat
{
	int nfields;
	int *indexes;			  /* of each field in values and nulls */
	CqConverter **converters; /* of each field; NULL if not wanted */
	StringInfo unquoted;	  /* a field whose quotes were written twice */
};

/* The rest of a line. */
typedef struct Cursor
{
	const char *p;
	const char *end;
	bool more; /* is there another field? */
} Cursor;

static bool take_field(CqCsvFormat *format, Cursor *cursor, int number, CqField *field,
					   CqDecodeError *error);
static bool take_quoted(CqCsvFormat *format, Cursor *cursor, int number, CqField *field,
						CqDecodeError *error);

CqCsvFormat *
cq_csv_format_create(const CqStream *stream, const Bitmapset *columns, StringInfo scratch)
{
	CqCsvFormat *format = palloc0(sizeof(CqCsvFormat));
	int i;

	format->indexes = palloc(sizeof(int) * stream->ncolumns);
	format->converters = palloc0(sizeof(CqConverter *) * stream->ncolumns);
	format->unquoted = makeStringInfo();
	for (i = 0; i < stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &stream->columns[i];

		if (!cq_column_in_payload(column))
			continue;
		format->indexes[format->nfields] = i;
		if (bms_is_member(column->attnum, columns))
			format->converters[format->nfields] = cq_converter_create(column, scratch, false);
		format->nfields++;
	}
	return format;
}

bool
cq_csv_format_decode(CqCsvFormat *format, const CqRecord *record, Datum *values, bool *nulls,
					 CqDecodeError *error)
{
	Cursor cursor;
	int number;

	if (record->payload == NULL)
		return true;
	if (!cq_check_text("the payload", record->payload, record->payload_len, error))
		return false;
	cursor.p = record->payload;
	cursor.end = record->payload + record->payload_len;
	cursor.more = true;
	if (cursor.end > cursor.p && cursor.end[-1] == '\n')
		cursor.end--;
	if (cursor.end > cursor.p && cursor.end[-1] == '\r')
		cursor.end--;
	for (number = 0; cursor.more; number++)
	{
		CqField field;

		if (!take_field(format, &cursor, number, &field, error))
			return false;
		if (number >= format->nfields || format->converters[number] == NULL)
			continue;
		if (!cq_convert(format->converters[number],
						&field,
						&values[format->indexes[number]],
						&nulls[format->indexes[number]],
						error))
			return false;
	}
	if (number == format->nfields)
		return true;
	return cq_decode_fail(error,
						  ERRCODE_BAD_COPY_FILE_FORMAT,
						  "the payload has %d CSV fields, but the stream has %d columns for them",
						  number,
						  format->nfields);
}

/* Take the next field and the comma behind it. */
static bool
take_field(CqCsvFormat *format, Cursor *cursor, int number, CqField *field, CqDecodeError *error)
{
	const char *start = cursor->p;

	if (start < cursor->end && *start == '"')
		return take_quoted(format, cursor, number, field, error);
	while (cursor->p < cursor->end && *cursor->p != ',')
	{
		if (*cursor->p == '"' || *cursor->p == '\n' || *cursor->p == '\r')
			return cq_decode_fail(error,
								  ERRCODE_BAD_COPY_FILE_FORMAT,
								  "the payload is not one line of CSV: field %d has a quote or "
								  "line end in it and is not quoted",
								  number + 1);
		cursor->p++;
	}
	cq_field_set_text(field,
					  cursor->p > start ? CQ_FIELD_STRING : CQ_FIELD_NULL,
					  start,
					  (Size) (cursor->p - start));
	cursor->more = cursor->p < cursor->end;
	cursor->p += cursor->more;
	return true;
}

static bool
take_quoted(CqCsvFormat *format, Cursor *cursor, int number, CqField *field, CqDecodeError *error)
{
	const char *start = cursor->p + 1;
	const char *quote;
	bool doubled = false;

	/* all before start is in unquoted, if doubled */
	resetStringInfo(format->unquoted);
	for (;;)
	{
		quote = memchr(start, '"', (Size) (cursor->end - start));
		if (quote == NULL)
			return cq_decode_fail(error,
								  ERRCODE_BAD_COPY_FILE_FORMAT,
								  "the payload is not one line of CSV: field %d has no closing "
								  "quote",
								  number + 1);
		if (quote + 1 == cursor->end || quote[1] != '"')
			break;
		appendBinaryStringInfo(format->unquoted, start, (int) (quote + 1 - start));
		doubled = true;
		start = quote + 2;
	}
	cursor->p = quote + 1;
	cursor->more = cursor->p < cursor->end;
	if (cursor->more && *cursor->p++ != ',')
		return cq_decode_fail(error,
							  ERRCODE_BAD_COPY_FILE_FORMAT,
							  "the payload is not one line of CSV: field %d goes on behind its "
							  "closing quote",
							  number + 1);
	if (doubled)
	{
		appendBinaryStringInfo(format->unquoted, start, (int) (quote - start));
		cq_field_set_text(field,
						  CQ_FIELD_STRING,
						  format->unquoted->data,
						  (Size) format->unquoted->len);
	}
	else
		cq_field_set_text(field, CQ_FIELD_STRING, start, (Size) (quote - start));
	return true;
}
