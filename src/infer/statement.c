/*
 * statement.c
 *	  A proposal as a CREATE FOREIGN TABLE statement with comments.
 *
 * Examples in the comments are what senders sent: nothing of it may end a
 * comment or disturb a terminal.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "infer/proposal.h"
#include "infer/span.h"

#define MAX_INDENT 64 /* comments of columns are aligned up to here */

static void append_header(StringInfo out, const CqProposal *proposal);
static void append_comment(StringInfo out, const char *text);
static int column_width(const CqProposedColumn *column);
static void append_column(StringInfo out, const CqProposal *proposal,
						  const CqProposedColumn *column, int indent);
static char *column_definition(const CqProposedColumn *column);
static void append_option(StringInfo out, const char *name, const char *value);
static char *column_comment(const CqProposal *proposal, const CqProposedColumn *column);
static void append_example(StringInfo comment, const CqValues *values);
static char *sampled_from(const CqSample *sample);

char *
cq_proposal_statement(const CqProposal *proposal)
{
	const CqProposalRequest *request = proposal->request;
	StringInfoData out;
	int width = 0;
	ListCell *lc;

	initStringInfo(&out);
	append_header(&out, proposal);
	appendStringInfoString(&out, "CREATE FOREIGN TABLE ");
	if (request->schema)
		appendStringInfo(&out, "%s.", quote_identifier(request->schema));
	appendStringInfo(&out,
					 "%s (\n",
					 quote_identifier(request->table ? request->table
													 : cq_proposal_table_name(request->topic)));
	foreach (lc, proposal->columns)
		width = Max(width, column_width(lfirst(lc)));
	foreach (lc, proposal->columns)
		append_column(&out, proposal, lfirst(lc), Min(width, MAX_INDENT));
	appendStringInfo(&out, ") SERVER %s OPTIONS (", quote_identifier(request->server));
	appendStringInfo(&out, "topic %s", quote_literal_cstr(request->topic));
	append_option(&out, "format", proposal->format);
	foreach (lc, proposal->options)
		append_option(&out,
					  lfirst_node(DefElem, lc)->defname,
					  defGetString(lfirst_node(DefElem, lc)));
	if (proposal->event_time)
		append_option(&out, "event_time", proposal->event_time);
	if (proposal->event_time && proposal->out_of_orderness_us >= 0)
		append_option(&out, "out_of_orderness", cq_span_exact(proposal->out_of_orderness_us));
	appendStringInfoString(&out, ");");
	return out.data;
}

static void
append_header(StringInfo out, const CqProposal *proposal)
{
	const CqSample *sample = proposal->sample;
	ListCell *lc;

	append_comment(out,
				   psprintf("Topic \"%s\": sample of %d record%s from %d of %d partition%s%s.",
							proposal->request->topic,
							sample->nrecords,
							sample->nrecords == 1 ? "" : "s",
							sample->npartitions,
							sample->topic_partitions,
							sample->topic_partitions == 1 ? "" : "s",
							sampled_from(sample)));
	if (proposal->nothing)
		append_comment(out,
					   psprintf("Nothing can be said about its format: %s.", proposal->nothing));
	foreach (lc, proposal->remarks)
		append_comment(out, lfirst(lc));
}

static char *
sampled_from(const CqSample *sample)
{
	if (sample->nfirst == 0)
		return "";
	return psprintf(", which have about %lld: %d from the beginnings, the others from the ends",
					(long long) sample->log_length,
					sample->nfirst);
}

/* A line of its own, or several. */
static void
append_comment(StringInfo out, const char *text)
{
	const char *p;

	appendStringInfoString(out, "-- ");
	for (p = text; *p != '\0'; p++)
		appendStringInfoChar(out, (unsigned char) *p < ' ' || *p == 0x7F ? ' ' : *p);
	appendStringInfoChar(out, '\n');
}

/* Of a column's line, with the comma and two spaces behind it. */
static int
column_width(const CqProposedColumn *column)
{
	char *definition = column_definition(column);

	return column->values ? pg_mbstrlen(definition) + 3 : 0;
}

static void
append_column(StringInfo out, const CqProposal *proposal, const CqProposedColumn *column,
			  int indent)
{
	char *definition = column_definition(column);
	bool last = column == llast(proposal->columns);

	appendStringInfo(out, "%s%s", definition, last ? "" : ",");
	if (column->values)
	{
		appendStringInfoSpaces(out, Max(indent - pg_mbstrlen(definition) - !last, 1));
		append_comment(out, column_comment(proposal, column));
	}
	else
		appendStringInfoChar(out, '\n');
}

static char *
column_definition(const CqProposedColumn *column)
{
	StringInfoData line;
	StringInfoData options;

	initStringInfo(&options);
	if (column->field)
		append_option(&options, "field", column->field);
	if (column->metadata)
		append_option(&options, "metadata", column->metadata);
	if (column->time_format)
		append_option(&options, "format", column->time_format);
	initStringInfo(&line);
	appendStringInfo(&line, "  %s %s", quote_identifier(column->name), column->type);
	if (options.len > 0)
		appendStringInfo(&line, " OPTIONS (%s)", options.data + 2);
	if (column->generated)
		appendStringInfo(&line, " GENERATED ALWAYS AS (%s) STORED", column->generated);
	return line.data;
}

/* One more of a list of options; the first has a comma in front, too. */
static void
append_option(StringInfo out, const char *name, const char *value)
{
	appendStringInfo(out, ", %s %s", quote_identifier(name), quote_literal_cstr(value));
}

/* In how many records it is, what is odd about it, and an example. */
static char *
column_comment(const CqProposal *proposal, const CqProposedColumn *column)
{
	const CqValues *values = column->values;
	StringInfoData comment;

	initStringInfo(&comment);
	if (values->count + values->nulls == proposal->nread)
		appendStringInfoString(&comment, "in every record");
	else
		appendStringInfo(&comment,
						 "in %d of %d records",
						 values->count + values->nulls,
						 proposal->nread);
	if (values->nulls > 0 && values->count > 0)
		appendStringInfo(&comment, ", %d of them null", values->nulls);
	if (column->remark)
		appendStringInfo(&comment, "; %s", column->remark);
	append_example(&comment, values);
	return comment.data;
}

static void
append_example(StringInfo comment, const CqValues *values)
{
	char *text = cq_text_from_utf8(values->example, values->example_len);

	if (text == NULL)
		appendStringInfoString(comment, "; the database's encoding cannot hold all of it");
	else if (values->example_len > 0)
		appendStringInfo(comment, "; as in %s%s", text, values->cut ? "..." : "");
}
