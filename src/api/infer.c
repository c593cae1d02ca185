/*
 * infer.c
 *	  pipeline.infer_columns(): what is in a topic.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "errors.h"
#include "infer/proposal.h"
#include "monitor/slots.h"
#include "source/kafka/sampler.h"
#include "source/stream.h"

#define MAX_LISTED	   10 /* topics named in a hint */
#define MAX_TIMEOUT_US USECS_PER_DAY

static Oid usable_server(const char *name);
static void parse_table_name(text *name, CqProposalRequest *request);
static int64 timeout_us(const Interval *timeout);
static CqProposal *infer(CqKafkaSampler *sampler, const CqProposalRequest *request, int size);
static const CqKafkaTopic *find_topic(List *topics, const CqProposalRequest *request);
static char *similar_topics(List *topics, const char *name);
static void nothing_to_say(const CqProposal *proposal) CQ_NORETURN;
static int unpack(Datum array, Oid type, Datum **values, bool **nulls);
static void set_bytes(Datum value, char **bytes, Size *len);

PG_FUNCTION_INFO_V1(cq_infer_columns);
PG_FUNCTION_INFO_V1(cq_infer_from_records);

Datum
cq_infer_columns(PG_FUNCTION_ARGS)
{
	CqProposalRequest request = {.out_of_orderness_us = -1};
	CqKafkaSampler *sampler;
	CqProposal *proposal = NULL;
	int size;

	cq_require_preload();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(4))
		PG_RETURN_NULL();
	request.server = NameStr(*PG_GETARG_NAME(0));
	request.topic = text_to_cstring(PG_GETARG_TEXT_PP(1));
	size = PG_GETARG_INT32(2);
	if (size < 1 || size > CQ_SAMPLE_MAX_RECORDS)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("sample size %d is out of range", size),
				errdetail("It is between 1 and %d records.", CQ_SAMPLE_MAX_RECORDS));
	if (!PG_ARGISNULL(3))
		parse_table_name(PG_GETARG_TEXT_PP(3), &request);
	sampler = cq_kafka_sampler_open(usable_server(request.server),
									GetUserId(),
									timeout_us(PG_GETARG_INTERVAL_P(4)));
	PG_TRY();
	{
		proposal = infer(sampler, &request, size);
	}
	PG_FINALLY();
	{
		cq_kafka_sampler_close(sampler);
	}
	PG_END_TRY();
	if (proposal->nothing)
		nothing_to_say(proposal);
	PG_RETURN_TEXT_P(cstring_to_text(cq_proposal_statement(proposal)));
}

static Oid
usable_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, false);
	AclResult result = cq_compat_server_aclcheck(server->serverid, GetUserId());
	CqStreamKind kind;

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FOREIGN_SERVER, name);
	if (!cq_server_kind(server->serverid, &kind) || kind != CQ_STREAM_KAFKA)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("server \"%s\" has no topics", name),
				errhint("Name a server of the wrapper pipeline_kafka."));
	return server->serverid;
}

static void
parse_table_name(text *name, CqProposalRequest *request)
{
	List *names = textToQualifiedNameList(name);

	if (list_length(names) > 2)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("improper relation name: \"%s\"", text_to_cstring(name)));
	request->table = strVal(llast(names));
	if (list_length(names) == 2)
		request->schema = strVal(linitial(names));
}

static int64
timeout_us(const Interval *timeout)
{
	if (timeout->month != 0 || timeout->day != 0 || timeout->time < 1000 ||
		timeout->time > MAX_TIMEOUT_US)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("timeout is out of range"),
				errdetail("It is between 1 millisecond and 24 hours."));
	return timeout->time;
}

static CqProposal *
infer(CqKafkaSampler *sampler, const CqProposalRequest *request, int size)
{
	const CqKafkaTopic *topic = find_topic(cq_kafka_sampler_topics(sampler), request);
	const char *problem = NULL;
	CqSample *sample = cq_kafka_sampler_read(sampler, topic, size, &problem);

	if (sample == NULL)
		ereport(ERROR,
				errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
				errmsg("could not read topic \"%s\" of server \"%s\"",
					   request->topic,
					   request->server),
				errdetail("%s", problem));
	return cq_proposal_make(request, sample);
}

static const CqKafkaTopic *
find_topic(List *topics, const CqProposalRequest *request)
{
	ListCell *lc;

	foreach (lc, topics)
		if (strcmp(((CqKafkaTopic *) lfirst(lc))->name, request->topic) == 0)
			return lfirst(lc);
	ereport(ERROR,
			errcode(ERRCODE_UNDEFINED_OBJECT),
			errmsg("topic \"%s\" of server \"%s\" does not exist, or this user may not see it",
				   request->topic,
				   request->server),
			errhint("%s", similar_topics(topics, request->topic)));
	return NULL;
}

/* The topic that was meant, if there is one that looks like it, or a few that there are. */
static char *
similar_topics(List *topics, const char *name)
{
	int length = (int) strlen(name);
	int best = Min(length / 2, 4);
	const char *nearest = NULL;
	StringInfoData list;
	int listed = 0;
	ListCell *lc;

	initStringInfo(&list);
	foreach (lc, topics)
	{
		const char *other = ((CqKafkaTopic *) lfirst(lc))->name;
		int other_length = (int) strlen(other);
		int distance = best + 1;

		if (*other == '_')
			continue;
		if (length <= 255 && other_length <= 255)
			distance = varstr_levenshtein_less_equal(name,
													 length,
													 other,
													 other_length,
													 1,
													 1,
													 1,
													 best,
													 true);
		if (distance <= best)
		{
			nearest = other;
			best = distance - 1;
		}
		if (listed++ < MAX_LISTED)
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", other);
	}
	if (nearest)
		return psprintf("Perhaps you meant the topic \"%s\".", nearest);
	if (listed == 0)
		return "There are no topics that this user may see.";
	return psprintf("There are: %s%s.", list.data, listed > MAX_LISTED ? " and others" : "");
}

static void
nothing_to_say(const CqProposal *proposal)
{
	const CqProposalRequest *request = proposal->request;

	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("nothing can be inferred about topic \"%s\" of server \"%s\"",
				   request->topic,
				   request->server),
			errdetail("At present %s.", proposal->nothing),
			errhint("Call it again when there are records, or begin with: CREATE FOREIGN TABLE %s "
					"(payload text) SERVER %s OPTIONS (topic %s, format 'raw').",
					quote_identifier(request->table ? request->table
													: cq_proposal_table_name(request->topic)),
					quote_identifier(request->server),
					quote_literal_cstr(request->topic)));
}

Datum
cq_infer_from_records(PG_FUNCTION_ARGS)
{
	CqProposalRequest request = {.server = "shop", .out_of_orderness_us = -1};
	CqSample sample = {.npartitions = 1, .topic_partitions = 1};
	Datum *payloads = NULL;
	Datum *times = NULL;
	Datum *keys = NULL;
	bool *nulls[3] = {NULL, NULL, NULL};
	int ntimes = 0;
	int nkeys = 0;
	int i;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	request.topic = text_to_cstring(PG_GETARG_TEXT_PP(0));
	sample.nrecords = unpack(PG_GETARG_DATUM(1), BYTEAOID, &payloads, &nulls[0]);
	if (!PG_ARGISNULL(2))
		ntimes = unpack(PG_GETARG_DATUM(2), TIMESTAMPTZOID, &times, &nulls[1]);
	if (!PG_ARGISNULL(3))
		nkeys = unpack(PG_GETARG_DATUM(3), BYTEAOID, &keys, &nulls[2]);
	sample.records = palloc0(sizeof(CqSampleRecord) * (sample.nrecords + 1));
	sample.log_length = sample.nrecords;
	for (i = 0; i < sample.nrecords; i++)
	{
		CqSampleRecord *record = &sample.records[i];

		record->offset = i;
		record->timestamp = i < ntimes && !nulls[1][i] ? DatumGetTimestampTz(times[i]) : DT_NOBEGIN;
		if (!nulls[0][i])
			set_bytes(payloads[i], &record->value, &record->value_len);
		if (i < nkeys && !nulls[2][i])
			set_bytes(keys[i], &record->key, &record->key_len);
	}
	PG_RETURN_TEXT_P(cstring_to_text(cq_proposal_statement(cq_proposal_make(&request, &sample))));
}

static int
unpack(Datum array, Oid type, Datum **values, bool **nulls)
{
	int count;

	deconstruct_array(DatumGetArrayTypeP(array),
					  type,
					  type == BYTEAOID ? -1 : sizeof(TimestampTz),
					  type != BYTEAOID && FLOAT8PASSBYVAL,
					  type == BYTEAOID ? TYPALIGN_INT : TYPALIGN_DOUBLE,
					  values,
					  nulls,
					  &count);
	return count;
}

static void
set_bytes(Datum value, char **bytes, Size *len)
{
	bytea *copy = DatumGetByteaPP(value);

	*bytes = VARDATA_ANY(copy);
	*len = VARSIZE_ANY_EXHDR(copy);
}
