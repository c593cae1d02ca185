/*
 * properties.c
 *	  Rights to set client properties.
 *
 * Nothing here calls librdkafka: setting a property in a scratch configuration
 * "just to see whether it is valid" would already load a plugin.
 *
 * Error messages name the property, never its value, which may be a secret.
 * For files they do not say whether a file exists either.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "settings.h"
#include "source/kafka/brokers.h"
#include "source/kafka/properties.h"
#include "source/kafka/property_table.h"

static void place_check(const CqKafkaProperty *property, Oid catalog);
static void file_check(const CqKafkaProperty *property, const char *path, Oid role);
static void superuser_check(const CqKafkaProperty *property, Oid role);

void
cq_kafka_property_check(const char *name, const char *value, Oid catalog)
{
	cq_kafka_property_check_for(name, value, catalog, GetUserId());
}

void
cq_kafka_property_check_for(const char *name, const char *value, Oid catalog, Oid role)
{
	const CqKafkaProperty *property = cq_kafka_property_find(name);

	if (property == NULL)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				errmsg("unknown Kafka client property \"%s\"", name),
				errhint("Names are those of librdkafka's documentation, in lower case."));
	if (property->class == CQ_KAFKA_BANNED)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				errmsg("Kafka client property \"%s\" cannot be used in a database server", name));
	if (property->class == CQ_KAFKA_FIXED)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				errmsg("Kafka client property \"%s\" is set by the extension", name),
				strcmp(name, "bootstrap.servers") == 0 || strcmp(name, "metadata.broker.list") == 0
					? errhint("Name the brokers in the server's option \"bootstrap_servers\".")
					: errhint("Leave it out."));
	place_check(property, catalog);
	if (!cq_kafka_property_valid(property, value))
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				errmsg("invalid value for Kafka client property \"%s\"", name),
				property->kind == CQ_KAFKA_INTEGER
					? errhint("Use a whole number from %lld to %lld.",
							  (long long) property->min,
							  (long long) property->max)
					: 0,
				property->kind == CQ_KAFKA_BOOLEAN ? errhint("Use \"true\" or \"false\".") : 0,
				property->kind == CQ_KAFKA_CHOICE ? errhint("Use one of: %s.", property->choices)
												  : 0);
	if (property->class == CQ_KAFKA_FILE)
		file_check(property, value, role);
	if (property->class == CQ_KAFKA_PRIVILEGED || cq_kafka_property_privileged(property, value))
		superuser_check(property, role);
}

/* Options of a server can be read by everybody, those of a user mapping only by its user. */
static void
place_check(const CqKafkaProperty *property, Oid catalog)
{
	if (catalog == UserMappingRelationId)
	{
		if (property->class != CQ_KAFKA_SECRET && property->class != CQ_KAFKA_FILE)
			ereport(ERROR,
					errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					errmsg("Kafka client property \"%s\" cannot be set in a user mapping",
						   property->name),
					errhint("Set it in the foreign server."));
	}
	else if (catalog == ForeignServerRelationId)
	{
		if (property->class == CQ_KAFKA_SECRET)
			ereport(ERROR,
					errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					errmsg("Kafka client property \"%s\" cannot be set in a foreign server",
						   property->name),
					errdetail("The options of a foreign server can be read by every user."),
					errhint("Set it in a user mapping."));
	}
	else
		ereport(
			ERROR,
			errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			errmsg(
				"Kafka client property \"%s\" can be set only in a foreign server or user mapping",
				property->name));
}

static void
file_check(const CqKafkaProperty *property, const char *path, Oid role)
{
	char *canonical = pstrdup(path);
	char *directory = pstrdup(cq_ssl_directory ? cq_ssl_directory : "");
	bool inside;

	if (!superuser_arg(role) && !has_privs_of_role(role, ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to set Kafka client property \"%s\"", property->name),
				errdetail("It names a file on the server: only superusers and members of role "
						  "\"pg_read_server_files\" may set it."));
	canonicalize_path(canonical);
	canonicalize_path(directory);
	inside = is_absolute_path(canonical) && !path_contains_parent_reference(canonical);
	if (directory[0] != '\0')
		inside = inside && path_is_prefix_of_path(directory, canonical);
	else
		inside = inside && superuser_arg(role);
	if (!inside)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("file named by Kafka client property \"%s\" is not in an allowed directory",
					   property->name),
				errhint(
					"Use an absolute path below the directory that \"pipeline.ssl_dir\" names."));
}

static void
superuser_check(const CqKafkaProperty *property, Oid role)
{
	if (superuser_arg(role))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied to set Kafka client property \"%s\"", property->name),
			property->class == CQ_KAFKA_PRIVILEGED
				? errdetail("Only superusers may set it.")
				: errdetail("Only superusers may choose this value."));
}

void
cq_kafka_brokers_check(const char *brokers, Oid role)
{
	const char *patterns = cq_allowed_brokers ? cq_allowed_brokers : "";
	char *rest = pstrdup(brokers);
	char *broker;
	int count = 0;

	while ((broker = strsep(&rest, ",")) != NULL)
	{
		char *trimmed = cq_kafka_broker_trim(broker);

		if (!cq_kafka_broker_valid(trimmed))
			ereport(ERROR,
					errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					errmsg("invalid list of Kafka brokers"),
					errdetail("Entry %d is not of the form host:port.", count + 1));
		count++;
		if (superuser_arg(role) ||
			cq_kafka_broker_match(patterns, trimmed) != CQ_KAFKA_BROKER_DENIED)
			continue;
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to use Kafka broker \"%s\"", trimmed),
				errhint("A superuser can list it in \"pipeline.allowed_brokers\"."));
	}
}
