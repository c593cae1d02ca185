/*
 * proposal.c
 *	  From a sample of a topic's records to the definition of a stream.
 *
 * Formats are tried from the one that says most to the one that says least:
 * JSON, CSV, text, bytes.  What does not come from the payload is offered as
 * columns of metadata; it costs nothing until a view reads it.
 */
#include "postgres.h"

#include <ctype.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"

#include "infer/proposal.h"

static void propose_format(CqProposal *proposal);
static void remark_records(CqProposal *proposal);
static void add_metadata(CqProposal *proposal);
static void add_metadata_column(CqProposal *proposal, const char *name, const char *type,
								const char *metadata);
static bool all_text(const CqSample *sample, bool of_keys);
static bool is_text(const char *bytes, Size len);
static bool name_taken(const CqProposal *proposal, const char *name);

CqProposal *
cq_proposal_make(const CqProposalRequest *request, const CqSample *sample)
{
	CqProposal *proposal = palloc0(sizeof(CqProposal));
	int i;

	proposal->request = request;
	proposal->sample = sample;
	proposal->out_of_orderness_us = -1;
	proposal->read = palloc0(sizeof(bool) * (sample->nrecords + 1));
	for (i = 0; i < sample->nrecords; i++)
		proposal->nvalues += sample->records[i].value != NULL;
	if (proposal->nvalues > 0)
		propose_format(proposal);
	else
	{
		proposal->nothing = sample->nskipped > 0   ? "its records are too long to be looked at"
							: sample->nrecords > 0 ? "its records have no values"
												   : "it has no records";
		proposal->format = "raw";
		(void) cq_proposal_column(proposal, "payload", "text");
	}
	add_metadata(proposal);
	cq_proposal_event_time(proposal);
	return proposal;
}

static void
propose_format(CqProposal *proposal)
{
	if (!cq_proposal_json(proposal) && !cq_proposal_csv(proposal))
		cq_proposal_raw(proposal);
	remark_records(proposal);
}

static void
remark_records(CqProposal *proposal)
{
	int tombstones = proposal->sample->nrecords - proposal->nvalues;
	int bad = proposal->nvalues - proposal->nread;

	if (bad > 0 && strcmp(proposal->format, "json") == 0)
		cq_proposal_remark(proposal,
						   "%d of %d records %s not a JSON object: for a view, a bad record.",
						   bad,
						   proposal->nvalues,
						   bad == 1 ? "is" : "are");
	if (tombstones > 0)
		cq_proposal_remark(proposal,
						   "%d of %d records have no value (tombstones): NULL in every column of "
						   "the payload.",
						   tombstones,
						   proposal->sample->nrecords);
	if (proposal->sample->nskipped > 0)
		cq_proposal_remark(proposal,
						   "%d records were too long to be looked at.",
						   proposal->sample->nskipped);
}

void
cq_proposal_raw(CqProposal *proposal)
{
	const CqSample *sample = proposal->sample;
	bool text = all_text(sample, false);
	int registry = 0;
	int i;

	for (i = 0; i < sample->nrecords; i++)
	{
		const CqSampleRecord *record = &sample->records[i];

		proposal->read[i] = record->value != NULL;
		registry += record->value != NULL && record->value_len > 5 && record->value[0] == '\0';
	}
	proposal->format = "raw";
	proposal->nread = proposal->nvalues;
	(void) cq_proposal_column(proposal, "payload", text ? "text" : "bytea");
	if (registry == proposal->nvalues)
		cq_proposal_remark(proposal,
						   "The records begin with a zero byte, as those do that were written with "
						   "a schema registry (Avro, Protobuf): these formats cannot be read yet.");
	else
		cq_proposal_remark(proposal,
						   "The records are neither JSON objects nor CSV: %s.",
						   text ? "text" : "bytes");
}

static void
add_metadata(CqProposal *proposal)
{
	const CqSample *sample = proposal->sample;
	bool keys = sample->nrecords == 0;
	bool headers = false;
	int i;

	for (i = 0; i < sample->nrecords; i++)
	{
		keys |= sample->records[i].key != NULL;
		headers |= sample->records[i].has_headers;
	}
	if (keys)
		add_metadata_column(proposal,
							"kafka_key",
							all_text(sample, true) ? "text" : "bytea",
							"key");
	add_metadata_column(proposal, "kafka_partition", "integer", "partition");
	add_metadata_column(proposal, "kafka_offset", "bigint", "offset");
	add_metadata_column(proposal, "kafka_timestamp", "timestamptz", "timestamp");
	if (headers)
		add_metadata_column(proposal, "kafka_headers", "jsonb", "headers");
}

static void
add_metadata_column(CqProposal *proposal, const char *name, const char *type, const char *metadata)
{
	cq_proposal_column(proposal, name, type)->metadata = metadata;
}

static bool
all_text(const CqSample *sample, bool of_keys)
{
	int i;

	for (i = 0; i < sample->nrecords; i++)
	{
		const CqSampleRecord *record = &sample->records[i];

		if (of_keys ? !is_text(record->key, record->key_len)
					: !is_text(record->value, record->value_len))
			return false;
	}
	return true;
}

static bool
is_text(const char *bytes, Size len)
{
	return bytes == NULL || (memchr(bytes, '\0', len) == NULL &&
							 pg_encoding_verifymbstr(PG_UTF8, bytes, (int) len) == (int) len);
}

CqProposedColumn *
cq_proposal_column(CqProposal *proposal, const char *name, const char *type)
{
	static const char *const system_columns[] =
		{"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", NULL};
	CqProposedColumn *column = palloc0(sizeof(CqProposedColumn));
	int room = NAMEDATALEN - 1;
	char *unique = pnstrdup(name, pg_mbcliplen(name, (int) strlen(name), room));
	int number;
	int i;

	for (i = 0; system_columns[i]; i++)
		if (strcmp(unique, system_columns[i]) == 0)
			unique = psprintf("%s_", unique);
	for (number = 2; name_taken(proposal, unique); number++)
	{
		char *suffix = psprintf("_%d", number);
		int len = pg_mbcliplen(name, (int) strlen(name), room - (int) strlen(suffix));

		unique = psprintf("%.*s%s", len, name, suffix);
	}
	column->name = unique;
	column->type = type;
	proposal->columns = lappend(proposal->columns, column);
	return column;
}

static bool
name_taken(const CqProposal *proposal, const char *name)
{
	ListCell *lc;

	foreach (lc, proposal->columns)
		if (strcmp(((CqProposedColumn *) lfirst(lc))->name, name) == 0)
			return true;
	return false;
}

void
cq_proposal_remark(CqProposal *proposal, const char *format, ...)
{
	StringInfoData remark;

	initStringInfo(&remark);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, format);
		needed = appendStringInfoVA(&remark, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&remark, needed);
	}
	proposal->remarks = lappend(proposal->remarks, remark.data);
}

char *
cq_proposal_table_name(const char *topic)
{
	char *name = cq_name_from(topic);

	name[pg_mbcliplen(name, (int) strlen(name), NAMEDATALEN - 1)] = '\0';
	return name;
}
