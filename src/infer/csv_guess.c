/*
 * csv_guess.c
 *	  Streams of CSV: a column for each field of a row.
 *
 * Nearly any text is CSV of some number of fields, so more is asked for: the
 * same number of fields, two at least, in every record; and something that
 * prose does not have: fields that are numbers, times and the like, or a header.
 *
 * A header is a record, the same in all partitions, most often the first, whose
 * fields look like names while the other records have no text in some of the
 * columns.  Or each record has the header as a line of its own in front of its
 * row.
 */
#include "postgres.h"

#include <ctype.h>

#include "commands/defrem.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"

#include "infer/proposal.h"

#define MAX_FIELDS 1000
#define MAX_TRIES  4 /* records that look like a header */

/* A row taken apart; texts are not terminated. */
typedef struct Row
{
	int nfields;
	char **fields; /* NULL = empty and not quoted */
	int *lens;
	char *unquoted; /* what the fields point into */
} Row;

typedef struct Guess
{
	const CqSample *sample;
	char delimiter;
	int nfields;
	Row row;
	int header;		 /* record that is one; -1 if none is */
	Size own_header; /* length of the line that each record begins with; 0 if none */
	CqValues *values;
} Guess;

static bool fits(Guess *guess);
static Size common_line(const CqSample *sample);
static bool split(const char *text, Size len, char delimiter, Row *row);
static bool split_record(Guess *guess, const CqSampleRecord *record);
static const char *split_quoted(const char *p, const char *end, char **out);
static void collect(Guess *guess);
static int find_header(Guess *guess);
static bool looks_like_header(const Row *row);
static bool is_name(const char *text, int len);
static bool same_value(const CqSampleRecord *a, const CqSampleRecord *b);
static bool has_types(const Guess *guess);
static void add_columns(CqProposal *proposal, Guess *guess);
static void add_option(CqProposal *proposal, const char *name, const char *value);
static char *header_name(Guess *guess, int i);

bool
cq_proposal_csv(CqProposal *proposal)
{
	static const char delimiters[] = {',', ';', '\t', '|'};
	const CqSample *sample = proposal->sample;
	Guess guess = {.sample = sample};
	int i;

	guess.row.fields = palloc(sizeof(char *) * MAX_FIELDS);
	guess.row.lens = palloc(sizeof(int) * MAX_FIELDS);
	guess.own_header = common_line(sample);
	for (i = 0; i < lengthof(delimiters); i++)
	{
		guess.delimiter = delimiters[i];
		if (!fits(&guess))
			continue;
		guess.header = guess.own_header > 0 ? -1 : find_header(&guess);
		collect(&guess);
		if (!has_types(&guess))
			continue;
		proposal->format = "csv";
		add_columns(proposal, &guess);
		return true;
	}
	return false;
}

/* Have all records the same number of fields, and more than one? */
static bool
fits(Guess *guess)
{
	int i;

	guess->nfields = 0;
	for (i = 0; i < guess->sample->nrecords; i++)
	{
		const CqSampleRecord *record = &guess->sample->records[i];

		CHECK_FOR_INTERRUPTS();
		if (record->value == NULL)
			continue;
		if (!split_record(guess, record))
			return false;
		if (guess->nfields == 0)
			guess->nfields = guess->row.nfields;
		if (guess->row.nfields != guess->nfields)
			return false;
	}
	return guess->nfields > 1;
}

/* Length of the line that all records have in front of others; 0 if there is none. */
static Size
common_line(const CqSample *sample)
{
	const char *line = NULL;
	Size len = 0;
	int count = 0;
	int i;

	for (i = 0; i < sample->nrecords; i++)
	{
		const CqSampleRecord *record = &sample->records[i];
		const char *end;

		if (record->value == NULL)
			continue;
		if (line == NULL)
		{
			line = record->value;
			end = memchr(line, '\n', record->value_len);
			len = end ? (Size) (end + 1 - line) : 0;
		}
		if (len == 0 || record->value_len <= len || memcmp(record->value, line, len) != 0)
			return 0;
		count++;
	}
	return count > 1 ? len : 0;
}

/* The row of a record. */
static bool
split_record(Guess *guess, const CqSampleRecord *record)
{
	return split(record->value + guess->own_header,
				 record->value_len - guess->own_header,
				 guess->delimiter,
				 &guess->row);
}

/* False if this is not one row of text. */
static bool
split(const char *text, Size len, char delimiter, Row *row)
{
	const char *p = text;
	const char *end = text + len;
	char *out;

	if (len == 0 || memchr(text, '\0', len) != NULL ||
		pg_encoding_verifymbstr(PG_UTF8, text, (int) len) != (int) len)
		return false;
	if (end > p && end[-1] == '\n')
		end--;
	if (end > p && end[-1] == '\r')
		end--;
	if (row->unquoted)
		pfree(row->unquoted);
	row->unquoted = out = palloc(len + 1);
	for (row->nfields = 0; row->nfields < MAX_FIELDS; p++)
	{
		char *field = out;
		bool quoted = p < end && *p == '"';

		if (quoted && (p = split_quoted(p + 1, end, &out)) == NULL)
			return false;
		while (!quoted && p < end && *p != delimiter)
		{
			if (*p == '"' || *p == '\n' || *p == '\r')
				return false;
			*out++ = *p++;
		}
		row->fields[row->nfields] = out == field && !quoted ? NULL : field;
		row->lens[row->nfields++] = (int) (out - field);
		if (p == end)
			return true;
		if (*p != delimiter)
			return false;
	}
	return false;
}

/* Returns what is behind the closing quote; NULL if there is none. */
static const char *
split_quoted(const char *p, const char *end, char **out)
{
	for (; p < end; p++)
	{
		if (*p == '"' && (p + 1 == end || p[1] != '"'))
			return p + 1;
		p += *p == '"';
		*(*out)++ = *p;
	}
	return NULL;
}

/* Take in all values but those of the header. */
static void
collect(Guess *guess)
{
	const CqSample *sample = guess->sample;
	int i;
	int j;

	guess->values = palloc0(sizeof(CqValues) * guess->nfields);
	for (i = 0; i < sample->nrecords; i++)
	{
		const CqSampleRecord *record = &sample->records[i];

		if (record->value == NULL ||
			(guess->header >= 0 && same_value(record, &sample->records[guess->header])))
			continue;
		(void) split_record(guess, record);
		for (j = 0; j < guess->nfields; j++)
		{
			if (guess->row.fields[j] == NULL)
				guess->values[j].nulls++;
			else
				cq_values_add_text(&guess->values[j],
								   guess->row.fields[j],
								   (Size) guess->row.lens[j],
								   i,
								   sample->nrecords);
		}
	}
}

/* The record that is a header; -1 if there is none. */
static int
find_header(Guess *guess)
{
	const CqSample *sample = guess->sample;
	int tries = 0;
	int i;

	guess->header = -1;
	for (i = 0; i < sample->nrecords && tries < MAX_TRIES; i++)
	{
		if (sample->records[i].value == NULL)
			continue;
		(void) split_record(guess, &sample->records[i]);
		if (!looks_like_header(&guess->row))
			continue;
		tries++;
		guess->header = i;
		collect(guess);
		if (has_types(guess))
			return i;
	}
	return -1;
}

static bool
looks_like_header(const Row *row)
{
	int i;
	int j;

	for (i = 0; i < row->nfields; i++)
	{
		if (row->fields[i] == NULL || !is_name(row->fields[i], row->lens[i]))
			return false;
		for (j = 0; j < i; j++)
			if (row->lens[i] == row->lens[j] &&
				memcmp(row->fields[i], row->fields[j], row->lens[i]) == 0)
				return false;
	}
	return true;
}

/* A letter or underscore, and then few that are not. */
static bool
is_name(const char *text, int len)
{
	int i;

	if (len == 0 || len >= NAMEDATALEN || (!isalpha((unsigned char) *text) && *text != '_') ||
		(len == 4 && memcmp(text, "true", 4) == 0) || (len == 5 && memcmp(text, "false", 5) == 0))
		return false;
	for (i = 0; i < len; i++)
		if (!isalnum((unsigned char) text[i]) && strchr("_ .-#/()", text[i]) == NULL &&
			(unsigned char) text[i] < 0x80)
			return false;
	return true;
}

static bool
same_value(const CqSampleRecord *a, const CqSampleRecord *b)
{
	return a->value_len == b->value_len && memcmp(a->value, b->value, a->value_len) == 0;
}

/* Is something in it that is not just text? */
static bool
has_types(const Guess *guess)
{
	int i;

	for (i = 0; i < guess->nfields; i++)
		if (guess->values[i].count > 0 &&
			strcmp(cq_values_type(&guess->values[i], "").type, "text") != 0)
			return true;
	return false;
}

static void
add_columns(CqProposal *proposal, Guess *guess)
{
	const CqSample *sample = guess->sample;
	int headers = 0;
	int i;

	for (i = 0; i < sample->nrecords; i++)
	{
		if (sample->records[i].value == NULL)
			continue;
		proposal->read[i] =
			guess->header < 0 || !same_value(&sample->records[i], &sample->records[guess->header]);
		proposal->nread += proposal->read[i];
		headers += !proposal->read[i];
	}
	for (i = 0; i < guess->nfields; i++)
	{
		char *name = header_name(guess, i);
		CqValueType type = cq_values_type(&guess->values[i], name);
		CqProposedColumn *column = cq_proposal_column(proposal, name, type.type);

		column->values = &guess->values[i];
		column->time_format = type.time_format;
		column->is_time = type.is_time;
		column->remark = type.remark ? pstrdup(type.remark) : NULL;
		column->depth = 1;
	}
	if (guess->delimiter != ',')
		add_option(proposal, "delimiter", psprintf("%c", guess->delimiter));
	if (guess->own_header > 0)
		add_option(proposal, "header", "true");
	else if (guess->header >= 0)
		cq_proposal_remark(proposal,
						   "The record at offset %lld of partition %d is a header, which gave the "
						   "columns their names%s; views will take it for a bad record.",
						   (long long) sample->records[guess->header].offset,
						   sample->records[guess->header].partition,
						   headers > 1 ? psprintf(" (%d such records)", headers) : "");
	else
		cq_proposal_remark(proposal, "There is no header: give the columns names of your own.");
}

static void
add_option(CqProposal *proposal, const char *name, const char *value)
{
	proposal->options =
		lappend(proposal->options,
				makeDefElem(pstrdup(name), (Node *) makeString(pstrdup(value)), -1));
}

static char *
header_name(Guess *guess, int i)
{
	const CqSampleRecord *record = NULL;
	char *text;
	Size len;

	if (guess->own_header > 0)
	{
		for (record = guess->sample->records; record->value == NULL;)
			record++;
		len = guess->own_header;
	}
	else if (guess->header >= 0)
	{
		record = &guess->sample->records[guess->header];
		len = record->value_len;
	}
	if (record == NULL || !split(record->value, len, guess->delimiter, &guess->row) ||
		i >= guess->row.nfields || guess->row.fields[i] == NULL)
		return psprintf("column%d", i + 1);
	text = cq_text_from_utf8(guess->row.fields[i], guess->row.lens[i]);
	return text ? cq_name_from(text) : psprintf("column%d", i + 1);
}
