/*
 * import.c
 *	  IMPORT FOREIGN SCHEMA from a Kafka server.
 *
 * Kafka has no schemas.  The schema "kafka" stands for all topics, and any
 * other for the topics that begin with its name and a dot, hyphen or
 * underscore, whose tables are named after the rest.
 *
 * LIMIT TO and EXCEPT name topics or tables.  PostgreSQL itself compares only
 * the names of tables, so a topic that is named by LIMIT TO gives its table the
 * name as it was written there.
 *
 * Topics that begin with an underscore belong to Kafka and its tools, and are
 * left out unless they are named.  All others get a table, so that nothing is
 * missing: a topic of which nothing is known yet gets one for raw text.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "infer/import.h"
#include "infer/proposal.h"
#include "source/kafka/sampler.h"
#include "source/options.h"

#define EVERYTHING	 "kafka"
#define DEFAULT_SIZE 1000
#define MAX_BOUND_US (365 * USECS_PER_DAY)
#define TIMEOUT_US	 (30 * INT64CONST(1000000)) /* for an answer of the brokers */

typedef struct Import
{
	ImportForeignSchemaStmt *stmt;
	int sample_size;
	bool import_empty;
	CqProposalRequest request; /* what is the same for all topics */
	List *names;			   /* of tables so far; char * */
} Import;

static void parse_options(Import *import);
static int parse_size(const char *value);
static List *import_all(Import *import, CqKafkaSampler *sampler);
static const char *table_of_topic(Import *import, const char *topic);
static bool after_prefix(const char *topic, const char *prefix, const char **rest);
static const char *listed_as(const ImportForeignSchemaStmt *stmt, const char *topic,
							 const char *table);
static const char *unique_name(Import *import, const char *table);
static char *import_topic(Import *import, CqKafkaSampler *sampler, const CqKafkaTopic *topic,
						  const char *table);
static void check_found(const Import *import, List *topics);

List *
cq_import_topics(ImportForeignSchemaStmt *stmt, Oid server)
{
	Import import = {.stmt = stmt, .sample_size = DEFAULT_SIZE, .import_empty = true};
	CqKafkaSampler *sampler;
	List *statements = NIL;

	import.request.server = stmt->server_name;
	import.request.out_of_orderness_us = -1;
	parse_options(&import);
	sampler = cq_kafka_sampler_open(server, GetUserId(), TIMEOUT_US);
	PG_TRY();
	{
		statements = import_all(&import, sampler);
	}
	PG_FINALLY();
	{
		cq_kafka_sampler_close(sampler);
	}
	PG_END_TRY();
	return statements;
}

static void
parse_options(Import *import)
{
	ListCell *lc;

	foreach (lc, import->stmt->options)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "sample_size") == 0)
			import->sample_size = parse_size(defGetString(option));
		else if (strcmp(option->defname, "event_time") == 0)
			import->request.event_time = defGetString(option);
		else if (strcmp(option->defname, "out_of_orderness") == 0)
			import->request.out_of_orderness_us =
				cq_option_interval(option->defname, defGetString(option), 0, MAX_BOUND_US, false);
		else if (strcmp(option->defname, "import_empty") == 0)
			import->import_empty = defGetBoolean(option);
		else
			ereport(ERROR,
					errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					errmsg("invalid option \"%s\" of IMPORT FOREIGN SCHEMA", option->defname),
					errhint("Valid options are: sample_size, event_time, out_of_orderness, "
							"import_empty."));
	}
}

static int
parse_size(const char *value)
{
	char *end;
	long size = strtol(value, &end, 10);

	if (end == value || *end != '\0' || size < 1 || size > CQ_SAMPLE_MAX_RECORDS)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				errmsg("invalid value of option \"sample_size\""),
				errhint("It is a number of records between 1 and %d.", CQ_SAMPLE_MAX_RECORDS));
	return (int) size;
}

static List *
import_all(Import *import, CqKafkaSampler *sampler)
{
	List *topics = cq_kafka_sampler_topics(sampler);
	List *statements = NIL;
	ListCell *lc;

	check_found(import, topics);
	foreach (lc, topics)
	{
		CqKafkaTopic *topic = lfirst(lc);
		const char *table = table_of_topic(import, topic->name);
		char *statement;

		if (table == NULL)
			continue;
		statement = import_topic(import, sampler, topic, unique_name(import, table));
		if (statement)
			statements = lappend(statements, statement);
	}
	return statements;
}

/* Say what is not there rather than import nothing. */
static void
check_found(const Import *import, List *topics)
{
	const ImportForeignSchemaStmt *stmt = import->stmt;
	const char *rest;
	bool found = false;
	ListCell *lc;
	ListCell *lc2;

	foreach (lc, topics)
		found |= after_prefix(((CqKafkaTopic *) lfirst(lc))->name, stmt->remote_schema, &rest);
	if (!found && strcmp(stmt->remote_schema, EVERYTHING) != 0)
		ereport(ERROR,
				errcode(ERRCODE_FDW_SCHEMA_NOT_FOUND),
				errmsg("server \"%s\" has no topics that begin with \"%s\" and a dot, hyphen or "
					   "underscore",
					   stmt->server_name,
					   stmt->remote_schema),
				errhint("IMPORT FOREIGN SCHEMA kafka stands for all topics."));
	if (stmt->list_type != FDW_IMPORT_SCHEMA_LIMIT_TO)
		return;
	foreach (lc, stmt->table_list)
	{
		const char *name = lfirst_node(RangeVar, lc)->relname;

		found = false;
		foreach (lc2, topics)
		{
			const char *topic = ((CqKafkaTopic *) lfirst(lc2))->name;

			found |= after_prefix(topic, stmt->remote_schema, &rest) &&
					 (strcmp(topic, name) == 0 || strcmp(rest, name) == 0 ||
					  strcmp(cq_proposal_table_name(rest), name) == 0);
		}
		if (!found)
			ereport(WARNING,
					errcode(ERRCODE_FDW_TABLE_NOT_FOUND),
					errmsg("server \"%s\" has no topic \"%s\" to import", stmt->server_name, name));
	}
}

/* NULL if the topic is not to be imported. */
static const char *
table_of_topic(Import *import, const char *topic)
{
	const ImportForeignSchemaStmt *stmt = import->stmt;
	const char *rest;
	const char *table;
	const char *listed;

	if (!after_prefix(topic, stmt->remote_schema, &rest))
		return NULL;
	table = cq_proposal_table_name(rest);
	listed = listed_as(stmt, topic, table);
	if (listed == NULL)
		listed = listed_as(stmt, rest, table);
	switch (stmt->list_type)
	{
		case FDW_IMPORT_SCHEMA_LIMIT_TO:
			return listed;
		case FDW_IMPORT_SCHEMA_EXCEPT:
			return listed || *topic == '_' ? NULL : table;
		case FDW_IMPORT_SCHEMA_ALL:
		default:
			return *topic == '_' ? NULL : table;
	}
}

/* Is the topic in the schema?  rest: its name there. */
static bool
after_prefix(const char *topic, const char *prefix, const char **rest)
{
	size_t len = strlen(prefix);

	*rest = topic;
	if (strcmp(prefix, EVERYTHING) == 0)
		return true;
	if (strncmp(topic, prefix, len) != 0 || topic[len] == '\0' ||
		strchr(".-_", topic[len]) == NULL || topic[len + 1] == '\0')
		return false;
	*rest = topic + len + 1;
	return true;
}

/* How LIMIT TO or EXCEPT names it; NULL if not at all. */
static const char *
listed_as(const ImportForeignSchemaStmt *stmt, const char *topic, const char *table)
{
	ListCell *lc;

	foreach (lc, stmt->table_list)
	{
		const char *name = lfirst_node(RangeVar, lc)->relname;

		if (strcmp(name, topic) == 0 || strcmp(name, table) == 0)
			return name;
	}
	return NULL;
}

/* a.b and a_b are two topics. */
static const char *
unique_name(Import *import, const char *table)
{
	const char *name = table;
	int number = 2;
	ListCell *lc;

	for (lc = list_head(import->names); lc != NULL;)
	{
		if (strcmp(lfirst(lc), name) != 0)
		{
			lc = lnext(import->names, lc);
			continue;
		}
		name = psprintf("%.*s_%d",
						pg_mbcliplen(table, (int) strlen(table), NAMEDATALEN - 8),
						table,
						number++);
		lc = list_head(import->names);
	}
	import->names = lappend(import->names, (void *) name);
	return name;
}

/*
 * The statement for one topic; NULL if it is left out.  Samples may be large,
 * so nothing else is kept.
 */
static char *
import_topic(Import *import, CqKafkaSampler *sampler, const CqKafkaTopic *topic, const char *table)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pipeline import of a topic",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CqProposalRequest request = import->request;
	CqSample unknown = {0};
	const char *problem = NULL;
	CqSample *sample = cq_kafka_sampler_read(sampler, topic, import->sample_size, &problem);
	CqProposal *proposal;
	char *statement = NULL;

	request.topic = topic->name;
	request.table = table;
	proposal = cq_proposal_make(&request, sample ? sample : &unknown);
	if (proposal->nothing && import->import_empty)
		ereport(WARNING,
				errcode(ERRCODE_WARNING),
				errmsg("nothing can be inferred about topic \"%s\"", topic->name),
				errdetail("%s", problem ? problem : psprintf("At present %s.", proposal->nothing)),
				errhint("Foreign table \"%s\" has one column for all of the payload; when there "
						"are records, define it again with pipeline.infer_columns().",
						table));
	if (proposal->nothing == NULL || import->import_empty)
		statement = MemoryContextStrdup(old, cq_proposal_statement(proposal));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return statement;
}
