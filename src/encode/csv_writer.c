/*
 * csv_writer.c
 *	  Rows as lines of CSV, as COPY with the same options would write them.
 */
#include "postgres.h"

#include "decode/format.h"
#include "encode/writer.h"

typedef struct CsvField
{
	int index; /* in values and nulls */
	CqWriter *writer;
	const char *name; /* in a header */
} CsvField;

struct CqCsvWriter
{
	CqCsvOptions options;
	int nfields;
	CsvField *fields;
};

static const char *name_in_header(const CqStreamColumn *column);
static void append_field(const CqCsvOptions *options, const char *text, StringInfo out);
static bool needs_quotes(const CqCsvOptions *options, const char *text);

CqCsvWriter *
cq_csv_writer_create(const CqStream *stream)
{
	CqCsvWriter *writer = palloc0(sizeof(CqCsvWriter));
	int i;

	writer->options = stream->csv;
	writer->fields = palloc0(sizeof(CsvField) * (stream->ncolumns + 1));
	for (i = 0; i < stream->ncolumns; i++)
	{
		CsvField *field = &writer->fields[writer->nfields];

		if (!cq_column_in_payload(&stream->columns[i]))
			continue;
		field->index = i;
		field->writer = cq_writer_create(&stream->columns[i]);
		field->name = name_in_header(&stream->columns[i]);
		writer->nfields++;
	}
	return writer;
}

/* As csv.c expects it. */
static const char *
name_in_header(const CqStreamColumn *column)
{
	StringInfoData name;
	ListCell *lc;

	initStringInfo(&name);
	foreach (lc, column->path)
		appendStringInfo(&name, "%s%s", name.len > 0 ? "." : "", (char *) lfirst(lc));
	return name.data;
}

void
cq_csv_writer_write(const CqCsvWriter *writer, const Datum *values, const bool *nulls,
					StringInfo out)
{
	const CqCsvOptions *options = &writer->options;
	StringInfoData text;
	int i;

	for (i = 0; options->header != CQ_CSV_HEADER_NONE && i < writer->nfields; i++)
	{
		append_field(options, writer->fields[i].name, out);
		appendStringInfoChar(out, i < writer->nfields - 1 ? options->delimiter : '\n');
	}
	initStringInfo(&text);
	for (i = 0; i < writer->nfields; i++)
	{
		const CsvField *field = &writer->fields[i];

		if (i > 0)
			appendStringInfoChar(out, options->delimiter);
		if (nulls[field->index])
		{
			appendStringInfoString(out, options->null_text);
			continue;
		}
		resetStringInfo(&text);
		cq_write_text(field->writer, values[field->index], &text);
		append_field(options, text.data, out);
	}
	pfree(text.data);
}

static void
append_field(const CqCsvOptions *options, const char *text, StringInfo out)
{
	const char *p;

	if (!needs_quotes(options, text))
	{
		appendStringInfoString(out, text);
		return;
	}
	appendStringInfoChar(out, options->quote);
	for (p = text; *p != '\0'; p++)
	{
		if (*p == options->quote || *p == options->escape)
			appendStringInfoChar(out, options->escape);
		appendStringInfoChar(out, *p);
	}
	appendStringInfoChar(out, options->quote);
}

static bool
needs_quotes(const CqCsvOptions *options, const char *text)
{
	const char *p;

	if (strcmp(text, options->null_text) == 0)
		return true;
	for (p = text; *p != '\0'; p++)
		if (*p == options->delimiter || *p == options->quote || *p == '\n' || *p == '\r')
			return true;
	return false;
}
