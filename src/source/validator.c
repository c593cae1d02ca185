/*
 * validator.c
 *	  Validators of both foreign-data wrappers.
 *
 * PostgreSQL calls them with all options of one object - server, user mapping,
 * foreign table or column - whenever one of them was changed.
 *
 * Properties of librdkafka stand on servers and user mappings only; which of
 * them, and to what they may be set, is settled in the Kafka source.  Their
 * values may be secrets and never appear in a message here.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"

#include "compat.h"
#include "source/kafka/properties.h"
#include "source/options.h"

#define MAX_BROKERS 100

static void validate(Datum options, Oid catalog, CqStreamKind kind);
static void validate_server(List *defs, CqStreamKind kind);
static void validate_user_mapping(List *defs, CqStreamKind kind);
static void refuse_all(List *defs, const char *object);
static void check_bootstrap_servers(char *value);
static void bad_brokers(const char *hint) CQ_NORETURN;
static bool is_broker(const char *broker);

PG_FUNCTION_INFO_V1(cq_kafka_validator);
PG_FUNCTION_INFO_V1(cq_local_validator);

Datum
cq_kafka_validator(PG_FUNCTION_ARGS)
{
	validate(PG_GETARG_DATUM(0), PG_GETARG_OID(1), CQ_STREAM_KAFKA);
	PG_RETURN_VOID();
}

Datum
cq_local_validator(PG_FUNCTION_ARGS)
{
	validate(PG_GETARG_DATUM(0), PG_GETARG_OID(1), CQ_STREAM_LOCAL);
	PG_RETURN_VOID();
}

static void
validate(Datum options, Oid catalog, CqStreamKind kind)
{
	List *defs = untransformRelOptions(options);
	CqStreamOptions stream;
	CqColumnOptions column;

	if (catalog == ForeignTableRelationId)
		cq_stream_options_parse(defs, kind, &stream);
	else if (catalog == AttributeRelationId)
		cq_column_options_parse(defs, kind, &column);
	else if (catalog == ForeignServerRelationId)
		validate_server(defs, kind);
	else if (catalog == UserMappingRelationId)
		validate_user_mapping(defs, kind);
	else
		refuse_all(defs, "foreign-data wrapper");
}

static void
validate_server(List *defs, CqStreamKind kind)
{
	bool has_brokers = false;
	ListCell *lc;

	if (kind == CQ_STREAM_LOCAL)
	{
		refuse_all(defs, "server for local streams");
		return;
	}
	foreach (lc, defs)
	{
		DefElem *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, "bootstrap_servers") != 0)
			cq_kafka_property_check(def->defname, defGetString(def), ForeignServerRelationId);
		else
		{
			check_bootstrap_servers(defGetString(def));
			cq_kafka_brokers_check(defGetString(def), GetUserId());
			has_brokers = true;
		}
	}
	if (!has_brokers)
		ereport(ERROR,
				errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				errmsg("option \"bootstrap_servers\" of a Kafka server is required"),
				errhint("Name one or more brokers, as in OPTIONS (bootstrap_servers "
						"'host1:9092,host2:9092')."));
}

static void
validate_user_mapping(List *defs, CqStreamKind kind)
{
	ListCell *lc;

	if (kind == CQ_STREAM_LOCAL)
	{
		refuse_all(defs, "user mapping for local streams");
		return;
	}
	foreach (lc, defs)
	{
		DefElem *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, "bootstrap_servers") == 0)
			ereport(ERROR,
					errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					errmsg("option \"bootstrap_servers\" does not belong in a user mapping"),
					errhint("It is an option of the server: CREATE SERVER ... OPTIONS "
							"(bootstrap_servers 'host1:9092,host2:9092')."));
		cq_kafka_property_check(def->defname, defGetString(def), UserMappingRelationId);
	}
}

static void
refuse_all(List *defs, const char *object)
{
	if (defs != NIL)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				errmsg("invalid option \"%s\"", linitial_node(DefElem, defs)->defname),
				errhint("A %s has no options.", object));
}

static void
check_bootstrap_servers(char *value)
{
	char *rest = pstrdup(value);
	char *broker;
	int count = 0;

	while ((broker = strsep(&rest, ",")) != NULL)
	{
		while (*broker == ' ')
			broker++;
		if (!is_broker(broker))
			bad_brokers("It is a list like 'host1:9092,host2:9092'.");
		count++;
	}
	if (count > MAX_BROKERS)
		bad_brokers("It names more than 100 brokers; a few are enough.");
}

static void
bad_brokers(const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			errmsg("invalid value of option \"bootstrap_servers\""),
			errhint("%s", hint));
}

/* host, host:port, [address] or [address]:port */
static bool
is_broker(const char *broker)
{
	const char *host_chars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	const char *port;
	long number;
	char *end;

	if (*broker == '[')
	{
		port = strchr(broker, ']');
		if (port == NULL || strspn(broker + 1, "0123456789abcdefABCDEF:.") != port - broker - 1)
			return false;
		port++;
	}
	else
		port = broker + strspn(broker, host_chars);
	if (port == broker)
		return false;
	if (*port == '\0')
		return true;
	if (*port++ != ':' || *port < '0' || *port > '9')
		return false;
	number = strtol(port, &end, 10);
	return *end == '\0' && number >= 1 && number <= 65535;
}
