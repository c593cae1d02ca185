/*
 * csv.c
 *	  Streams whose payload is one row of comma-separated values (RFC 4180).
 *
 * A payload means what COPY with the same options would read from a file of
 * these bytes, if it reads one row.  So quotes may begin and end anywhere in a
 * field; what is between them may hold delimiters, line ends, and quotes with
 * an escape in front.  What equals the option "null" is NULL unless quoted.
 * The row may end with a line end; nothing may follow.  With a header, another
 * line comes before it, which ends in the same way.
 *
 * The fields are the stream's columns in their order, those left out that do
 * not come from the payload.  A row is taken apart as a whole before any value
 * is converted: too many or too few fields is what is said of it first.
 *
 * A payload that is not there at all has NULL in every column.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "port/pg_bitutils.h"

#include "decode/format.h"

/* A byte in each byte of a word. */
#define EACH_BYTE(c) (UINT64CONST(0x0101010101010101) * (unsigned char) (c))

typedef struct CsvColumn
{
	int index;				/* in values and nulls */
	CqConverter *converter; /* NULL if not wanted */
	const char *name;		/* in a header, in UTF-8 */
	bool force_null;
	bool force_not_null;
} CsvColumn;

struct CqCsvFormat
{
	const CqStream *stream;
	CqCsvOptions options; /* null_text in UTF-8 */
	Size null_len;
	bool special[256]; /* bytes that end a run of ordinary ones */
	uint64 delimiters; /* eight of them */
	uint64 quotes;
	int ncolumns;
	CsvColumn *columns;
	CqField *fields;	 /* of a row, as many as columns */
	StringInfo unquoted; /* the fields of a payload that have quotes */
};

/* The rest of a payload. */
typedef struct Cursor
{
	const char *p;
	const char *end;
	bool more;		   /* does the row have another field? */
	Size line_end_len; /* of the line end behind the first line; 0 before that */
	char line_end;	   /* its first byte */
} Cursor;

static void add_column(CqCsvFormat *format, const CqStreamColumn *column, bool wanted,
					   StringInfo scratch);
static const char *name_in_header(const CqStreamColumn *column);
static bool read_header(CqCsvFormat *format, Cursor *cursor, CqDecodeError *error);
static bool read_row(CqCsvFormat *format, Cursor *cursor, int *nfields, CqDecodeError *error);
static bool read_field(CqCsvFormat *format, Cursor *cursor, int number, CqField *field,
					   CqDecodeError *error);
static const char *skip_ordinary(const CqCsvFormat *format, const char *p, const char *end);
static bool read_quoted(CqCsvFormat *format, Cursor *cursor, const char *start, int number,
						CqField *field, CqDecodeError *error);
static bool take_plain_quoted(const CqCsvFormat *format, Cursor *cursor, CqField *field);
static const char *find_byte(const char *p, const char *end, char byte);
static bool append_quoted(CqCsvFormat *format, Cursor *cursor);
static bool leave_field(const CqCsvFormat *format, Cursor *cursor, CqDecodeError *error);
static bool is_null_text(const CqCsvFormat *format, const char *text, Size len);
static bool convert_row(CqCsvFormat *format, Datum *values, bool *nulls, CqDecodeError *error);

CqCsvFormat *
cq_csv_format_create(const CqStream *stream, const Bitmapset *columns, StringInfo scratch)
{
	CqCsvFormat *format = palloc0(sizeof(CqCsvFormat));
	const char *null_text = stream->csv.null_text;
	int i;

	format->stream = stream;
	format->options = stream->csv;
	format->options.null_text = pg_server_to_any(null_text, (int) strlen(null_text), PG_UTF8);
	format->null_len = strlen(format->options.null_text);
	format->special[(unsigned char) stream->csv.delimiter] = true;
	format->special[(unsigned char) stream->csv.quote] = true;
	format->special['\n'] = format->special['\r'] = true;
	format->delimiters = EACH_BYTE(stream->csv.delimiter);
	format->quotes = EACH_BYTE(stream->csv.quote);
	format->columns = palloc0(sizeof(CsvColumn) * stream->ncolumns);
	format->fields = palloc0(sizeof(CqField) * stream->ncolumns);
	format->unquoted = makeStringInfo();
	for (i = 0; i < stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &stream->columns[i];

		if (cq_column_in_payload(column))
			add_column(format, column, bms_is_member(column->attnum, columns), scratch);
	}
	return format;
}

bool
cq_csv_format_decode(CqCsvFormat *format, const CqRecord *record, Datum *values, bool *nulls,
					 CqDecodeError *error)
{
	Cursor cursor;
	Size len;
	int nfields;
	int i;

	if (record->payload == NULL)
	{
		for (i = 0; i < format->ncolumns; i++)
			format->fields[i].kind = CQ_FIELD_MISSING;
		return convert_row(format, values, nulls, error);
	}
	if (!cq_payload_text(format->stream, record, &cursor.p, &len, error))
		return false;
	cursor.end = cursor.p + len;
	cursor.line_end_len = 0;
	cq_buffer_begin(format->unquoted);
	enlargeStringInfo(format->unquoted, (int) len); /* fields point into it: it must not move */
	if (format->options.header != CQ_CSV_HEADER_NONE && !read_header(format, &cursor, error))
		return false;
	if (!read_row(format, &cursor, &nfields, error))
		return false;
	if (cursor.p < cursor.end)
		return cq_decode_fail(error,
							  ERRCODE_BAD_COPY_FILE_FORMAT,
							  "the payload has more than one row of CSV");
	if (nfields != format->ncolumns)
		return cq_decode_fail(error,
							  ERRCODE_BAD_COPY_FILE_FORMAT,
							  "the payload has %d CSV fields, but the stream has %d columns for "
							  "them",
							  nfields,
							  format->ncolumns);
	return convert_row(format, values, nulls, error);
}

static void
add_column(CqCsvFormat *format, const CqStreamColumn *column, bool wanted, StringInfo scratch)
{
	CsvColumn *added = &format->columns[format->ncolumns++];

	added->index = column->attnum - 1;
	if (wanted)
		added->converter = cq_converter_create(column, scratch, false);
	added->name = name_in_header(column);
	added->force_null = column->force_null;
	added->force_not_null = column->force_not_null;
}

/* The name of the column, or what its option "field" says. */
static const char *
name_in_header(const CqStreamColumn *column)
{
	StringInfoData name;
	ListCell *lc;

	initStringInfo(&name);
	foreach (lc, column->path)
		appendStringInfo(&name, "%s%s", name.len > 0 ? "." : "", (char *) lfirst(lc));
	return pg_server_to_any(name.data, name.len, PG_UTF8);
}

static bool
read_header(CqCsvFormat *format, Cursor *cursor, CqDecodeError *error)
{
	int nfields;
	int i;

	if (!read_row(format, cursor, &nfields, error))
		return false;
	if (cursor->p == cursor->end)
		return cq_decode_fail(error,
							  ERRCODE_BAD_COPY_FILE_FORMAT,
							  "the payload has no row of CSV behind its header");
	if (format->options.header != CQ_CSV_HEADER_MATCH)
		return true;
	if (nfields != format->ncolumns)
		return cq_decode_fail(error,
							  ERRCODE_BAD_COPY_FILE_FORMAT,
							  "the header of the payload has %d fields, but the stream has %d "
							  "columns for them",
							  nfields,
							  format->ncolumns);
	for (i = 0; i < nfields; i++)
	{
		const CqField *field = &format->fields[i];
		const char *name = format->columns[i].name;

		if (field->len != strlen(name) || memcmp(field->text, name, field->len) != 0)
			return cq_decode_fail(error,
								  ERRCODE_BAD_COPY_FILE_FORMAT,
								  "field %d in the header of the payload is not \"%s\"",
								  i + 1,
								  pg_any_to_server(pstrdup(name), (int) strlen(name), PG_UTF8));
	}
	return true;
}

/* Take a row and the line end behind it. */
static bool
read_row(CqCsvFormat *format, Cursor *cursor, int *nfields, CqDecodeError *error)
{
	CqField surplus;
	int number;

	cursor->more = true;
	for (number = 0; cursor->more; number++)
	{
		CqField *field = number < format->ncolumns ? &format->fields[number] : &surplus;

		if (!read_field(format, cursor, number, field, error))
			return false;
	}
	*nfields = number;
	return true;
}

/* The lowest of the high bits that are set in the result is that of the first zero byte. */
static inline uint64
zero_bytes(uint64 word)
{
	return (word - EACH_BYTE(0x01)) & ~word & EACH_BYTE(0x80);
}

/* To the first byte that means something outside of quotes. */
static inline const char *
skip_ordinary(const CqCsvFormat *format, const char *p, const char *end)
{
#ifndef WORDS_BIGENDIAN
	while (end - p >= sizeof(uint64))
	{
		uint64 word;
		uint64 special;

		memcpy(&word, p, sizeof(word));
		special = zero_bytes(word ^ format->delimiters) | zero_bytes(word ^ format->quotes) |
				  zero_bytes(word ^ EACH_BYTE('\n')) | zero_bytes(word ^ EACH_BYTE('\r'));
		if (special != 0)
			return p + pg_rightmost_one_pos64(special) / 8;
		p += sizeof(word);
	}
#endif
	while (p < end && !format->special[(unsigned char) *p])
		p++;
	return p;
}

static inline bool
read_field(CqCsvFormat *format, Cursor *cursor, int number, CqField *field, CqDecodeError *error)
{
	const char *start = cursor->p;
	const char *p = skip_ordinary(format, start, cursor->end);
	Size len;

	cursor->p = p;
	if (p < cursor->end && *p == format->options.quote)
		return read_quoted(format, cursor, start, number, field, error);
	len = (Size) (p - start);
	cq_field_set_text(field,
					  is_null_text(format, start, len) ? CQ_FIELD_NULL : CQ_FIELD_STRING,
					  start,
					  len);
	return leave_field(format, cursor, error);
}

/* A field that begins at start and has its first quote where the cursor is. */
static bool
read_quoted(CqCsvFormat *format, Cursor *cursor, const char *start, int number, CqField *field,
			CqDecodeError *error)
{
	StringInfo unquoted = format->unquoted;
	int begin = unquoted->len;

	if (start == cursor->p && take_plain_quoted(format, cursor, field))
		return leave_field(format, cursor, error);
	appendBinaryStringInfo(unquoted, start, (int) (cursor->p - start));
	do
	{
		if (!append_quoted(format, cursor))
			return cq_decode_fail(error,
								  ERRCODE_BAD_COPY_FILE_FORMAT,
								  "the payload is not a row of CSV: field %d has no closing quote",
								  number + 1);
		start = cursor->p;
		cursor->p = skip_ordinary(format, start, cursor->end);
		appendBinaryStringInfo(unquoted, start, (int) (cursor->p - start));
	} while (cursor->p < cursor->end && *cursor->p == format->options.quote);
	cq_field_set_text(field,
					  CQ_FIELD_STRING,
					  unquoted->data + begin,
					  (Size) (unquoted->len - begin));
	return leave_field(format, cursor, error);
}

/* The usual case: all of the field is quoted, with no quote or escape in it. */
static bool
take_plain_quoted(const CqCsvFormat *format, Cursor *cursor, CqField *field)
{
	const char *start = cursor->p + 1;
	const char *quote = find_byte(start, cursor->end, format->options.quote);

	if (quote == cursor->end || format->options.escape != format->options.quote ||
		(quote + 1 < cursor->end &&
		 (quote[1] == format->options.quote || !format->special[(unsigned char) quote[1]])))
		return false;
	cq_field_set_text(field, CQ_FIELD_STRING, start, (Size) (quote - start));
	cursor->p = quote + 1;
	return true;
}

static inline const char *
find_byte(const char *p, const char *end, char byte)
{
	const char *found = memchr(p, byte, (Size) (end - p));

	return found ? found : end;
}

/* What is between the quote at the cursor and its partner; false if that is missing. */
static bool
append_quoted(CqCsvFormat *format, Cursor *cursor)
{
	const char quote = format->options.quote;
	const char escape = format->options.escape;
	const char *p = cursor->p + 1;

	for (;;)
	{
		const char *start = p;

		if (quote == escape)
			p = find_byte(p, cursor->end, quote);
		else
			while (p < cursor->end && *p != quote && *p != escape)
				p++;
		appendBinaryStringInfo(format->unquoted, start, (int) (p - start));
		if (p == cursor->end)
			return false;
		if (*p == escape && p + 1 < cursor->end && (p[1] == escape || p[1] == quote))
			p++;
		else if (*p == quote)
			break;
		appendStringInfoChar(format->unquoted, *p++);
	}
	cursor->p = p + 1;
	return true;
}

/* Step over what ends a field: a delimiter, a line end, or the end of all. */
static inline bool
leave_field(const CqCsvFormat *format, Cursor *cursor, CqDecodeError *error)
{
	Size len = 1;
	char c;

	cursor->more = cursor->p < cursor->end && *cursor->p == format->options.delimiter;
	if (!cursor->more)
	{
		if (cursor->p == cursor->end)
			return true;
		c = *cursor->p;
		if (c == '\r' && cursor->end - cursor->p >= 2 && cursor->p[1] == '\n')
			len = 2;
		if (cursor->line_end_len == 0)
		{
			cursor->line_end_len = len;
			cursor->line_end = c;
		}
		if (cursor->line_end_len != len || cursor->line_end != c)
			return cq_decode_fail(error,
								  ERRCODE_BAD_COPY_FILE_FORMAT,
								  "the payload has different line ends");
	}
	cursor->p += len;
	return true;
}

static inline bool
is_null_text(const CqCsvFormat *format, const char *text, Size len)
{
	return len == format->null_len && memcmp(text, format->options.null_text, len) == 0;
}

static bool
convert_row(CqCsvFormat *format, Datum *values, bool *nulls, CqDecodeError *error)
{
	int i;

	for (i = 0; i < format->ncolumns; i++)
	{
		const CsvColumn *column = &format->columns[i];
		CqField *field = &format->fields[i];

		if (column->converter == NULL)
			continue;
		if (column->force_not_null && field->kind == CQ_FIELD_NULL)
			cq_field_set_text(field, CQ_FIELD_STRING, format->options.null_text, format->null_len);
		else if (column->force_null && field->kind == CQ_FIELD_STRING &&
				 is_null_text(format, field->text, field->len))
			field->kind = CQ_FIELD_NULL;
		if (!cq_convert(column->converter,
						field,
						&values[column->index],
						&nulls[column->index],
						error))
			return false;
	}
	return true;
}
