/*
 * conf.c
 *	  The configuration of consumers and producers.
 *
 * Options were checked when they were set, but roles lose rights and servers
 * change owners; so they are checked again here, with the rights of the
 * server's owner at the time of use.
 *
 * Memory: librdkafka prefetches into a queue per partition.  Half of
 * pipeline.kafka_memory is divided among the partitions' queues; the other
 * half is for what has left a queue and is being processed, and for answers on
 * their way.  A topic with very many partitions gets small queues rather than
 * more memory.
 *
 * A broker has one outstanding fetch per consumer.  While it waits for one
 * partition's new records, no other partition of that broker is asked for, so
 * the wait bounds how fast a backlog drains beside idle partitions: it is kept
 * short.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "settings.h"
#include "source/kafka/brokers.h"
#include "source/kafka/conf.h"
#include "source/kafka/properties.h"
#include "source/kafka/property_table.h"

#define GROUP_ID			"pipeline_ext"
#define MIN_QUEUE_KB		64
#define MAX_PARTITION_FETCH 1048576 /* librdkafka's default */
#define MIN_FETCH_BYTES		1000000 /* not less than message.max.bytes */
#define MAX_FETCH_BYTES		52428800
#define COMPRESSION			4 /* a queue is looked at before a fetch, not while it is unpacked */
#define TIMEOUT_MS			30000

typedef struct Setting
{
	char *name;
	char *value;
	bool secret;
} Setting;

struct CqKafkaSettings
{
	char *server_name;
	bool unrestricted; /* the server belongs to a superuser */
	char *brokers;
	char *allowed; /* NULL if unrestricted */
	int count;
	Setting *settings;
};

typedef enum Role
{
	CONSUMER = 1,
	PRODUCER = 2,
	BOTH = 3
} Role;

/* What we would rather have than librdkafka's own defaults; applied first. */
static const struct
{
	Role role;
	const char *name;
	const char *value;
} preferred[] = {
	{BOTH, "client.id", "pipeline_ext"},
	{BOTH, "reconnect.backoff.max.ms", "2000"},
	{BOTH, "socket.keepalive.enable", "true"},
	{BOTH, "socket.timeout.ms", "30000"},
	{CONSUMER, "fetch.queue.backoff.ms", "10"},	 /* not known before 2.2 */
	{PRODUCER, "message.timeout.ms", "30000"},	 /* a COMMIT waits so long */
	{PRODUCER, "linger.ms", "1"},				 /* likewise */
	{PRODUCER, "partitioner", "murmur2_random"}, /* as clients in Java do */
	{PRODUCER,
	 "topic.metadata.propagation.max.ms",
	 "2000"}, /* a topic that is not there will not come */
};

/* Settings that correctness rests on; applied last. */
static const struct
{
	Role role;
	const char *name;
	const char *value;
	bool optional; /* not known to every version or build */
} fixed[] = {
	{CONSUMER, "group.id", GROUP_ID, false},
	{CONSUMER, "auto.offset.reset", "error", false},
	{CONSUMER, "enable.auto.commit", "false", false},
	{CONSUMER, "enable.auto.offset.store", "false", false},
	{CONSUMER, "isolation.level", "read_committed", false},
	{CONSUMER, "enable.partition.eof", "true", false},
	{CONSUMER, "check.crcs", "true", false},
	{CONSUMER, "allow.auto.create.topics", "false", false},
	{PRODUCER, "enable.idempotence", "true", false},
	{PRODUCER, "acks", "all", false},
	{BOTH, "log.queue", "true", false},
	{BOTH, "log.thread.name", "false", false},
	{BOTH, "enable.random.seed", "false", false},
	{BOTH, "statistics.interval.ms", "0", false},
	{BOTH, "enable.metrics.push", "false", true},
	{BOTH, "sasl.kerberos.min.time.before.relogin", "0", true}, /* never run kinit */
};

static void add_options(CqKafkaSettings *settings, List *options, Oid catalog, Oid role);
static List *mapping_options(Oid user, Oid server);
static void credentials_check(const CqKafkaSettings *settings);
static const char *setting_value(const CqKafkaSettings *settings, const char *name);
static int64 setting_number(const CqKafkaSettings *settings, const char *name, int64 otherwise);
static bool sized_by_us(const char *name);
static rd_kafka_conf_t *conf_create(const CqKafkaSettings *settings, Role role,
									const CqKafkaFetching *fetching);
static const char *apply_preferred(const CqKafkaSettings *settings, Role role,
								   rd_kafka_conf_t *conf);
static const char *apply_settings(const CqKafkaSettings *settings, Role role,
								  rd_kafka_conf_t *conf);
static bool consumer_only(const char *name);
static const char *apply_buffer(const CqKafkaSettings *settings, rd_kafka_conf_t *conf);
static const char *apply_sizes(const CqKafkaSettings *settings, rd_kafka_conf_t *conf,
							   const CqKafkaFetching *fetching);
static const char *apply_fixed(Role role, rd_kafka_conf_t *conf);
static bool set_number(rd_kafka_conf_t *conf, const char *name, int64 value);
static rd_kafka_conf_res_t set(rd_kafka_conf_t *conf, const char *name, const char *value);

CqKafkaSettings *
cq_kafka_settings_load(Oid server_id, Oid owner, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	ForeignServer *server = GetForeignServer(server_id);
	List *mapping = mapping_options(owner, server_id);
	CqKafkaSettings *settings = palloc0(sizeof(CqKafkaSettings));

	settings->server_name = server->servername;
	settings->unrestricted = superuser_arg(server->owner);
	if (!settings->unrestricted)
		settings->allowed = pstrdup(cq_allowed_brokers ? cq_allowed_brokers : "");
	settings->settings =
		palloc0(sizeof(Setting) * (list_length(server->options) + list_length(mapping) + 1));
	add_options(settings, server->options, ForeignServerRelationId, server->owner);
	add_options(settings, mapping, UserMappingRelationId, server->owner);
	if (settings->brokers == NULL)
		ereport(ERROR,
				errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				errmsg("foreign server \"%s\" has no option \"bootstrap_servers\"",
					   server->servername));
	credentials_check(settings);
	MemoryContextSwitchTo(old);
	return settings;
}

static void
add_options(CqKafkaSettings *settings, List *options, Oid catalog, Oid role)
{
	ListCell *lc;

	foreach (lc, options)
	{
		DefElem *option = lfirst(lc);
		char *value = defGetString(option);
		Setting *setting;

		if (catalog == ForeignServerRelationId && strcmp(option->defname, "bootstrap_servers") == 0)
		{
			cq_kafka_brokers_check(value, role);
			settings->brokers = value;
			continue;
		}
		cq_kafka_property_check_for(option->defname, value, catalog, role);
		setting = &settings->settings[settings->count++];
		setting->name = option->defname;
		setting->value = value;
		setting->secret = cq_kafka_property_find(option->defname)->class == CQ_KAFKA_SECRET;
	}
}

/* Unlike GetUserMapping(): no mapping is no error. */
static List *
mapping_options(Oid user, Oid server)
{
	HeapTuple tuple;
	Datum options;
	bool isnull;
	List *result = NIL;

	tuple =
		SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(user), ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
								ObjectIdGetDatum(InvalidOid),
								ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		return NIL;
	options =
		SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		result = untransformRelOptions(options);
	ReleaseSysCache(tuple);
	return result;
}

/*
 * What single properties cannot show: secrets on an open line, and SASL with
 * the default mechanism, which would be the host's Kerberos identity.
 */
static void
credentials_check(const CqKafkaSettings *settings)
{
	const char *protocol = setting_value(settings, "security.protocol");
	bool tls = protocol &&
			   (pg_strcasecmp(protocol, "ssl") == 0 || pg_strcasecmp(protocol, "sasl_ssl") == 0);
	bool sasl = protocol && pg_strncasecmp(protocol, "sasl_", 5) == 0;
	int i;

	if (sasl && !setting_value(settings, "sasl.mechanism") &&
		!setting_value(settings, "sasl.mechanisms"))
		ereport(ERROR,
				errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				errmsg("foreign server \"%s\" needs the option \"sasl.mechanism\"",
					   settings->server_name),
				errdetail("Its option \"security.protocol\" asks for SASL."));
	if (tls || cq_allow_plaintext)
		return;
	for (i = 0; i < settings->count; i++)
		if (settings->settings[i].secret)
			ereport(
				ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg(
					"credentials for foreign server \"%s\" cannot be sent over an unencrypted connection",
					settings->server_name),
				errhint(
					"Set the server's option \"security.protocol\" to \"ssl\" or \"sasl_ssl\"; a "
					"superuser can allow it by the setting \"pipeline.allow_plaintext\"."));
}

static const char *
setting_value(const CqKafkaSettings *settings, const char *name)
{
	int i;

	for (i = 0; i < settings->count; i++)
		if (strcmp(settings->settings[i].name, name) == 0)
			return settings->settings[i].value;
	return NULL;
}

static int64
setting_number(const CqKafkaSettings *settings, const char *name, int64 otherwise)
{
	const char *value = setting_value(settings, name);

	return value ? strtoll(value, NULL, 10) : otherwise;
}

int
cq_kafka_settings_refresh_ms(const CqKafkaSettings *settings)
{
	return (int) setting_number(settings, "topic.metadata.refresh.interval.ms", 0);
}

int
cq_kafka_settings_timeout_ms(const CqKafkaSettings *settings)
{
	return (int) setting_number(settings, "socket.timeout.ms", TIMEOUT_MS);
}

int64
cq_kafka_settings_message_bytes(const CqKafkaSettings *settings)
{
	return setting_number(settings, "message.max.bytes", MIN_FETCH_BYTES);
}

const char *
cq_kafka_settings_allowed(const CqKafkaSettings *settings)
{
	return settings->allowed;
}

void
cq_kafka_settings_wipe(CqKafkaSettings *settings)
{
	int i;

	for (i = 0; settings && i < settings->count; i++)
		if (settings->settings[i].secret)
			explicit_bzero(settings->settings[i].value, strlen(settings->settings[i].value));
}

bool
cq_kafka_settings_equal(const CqKafkaSettings *a, const CqKafkaSettings *b)
{
	int i;

	if (strcmp(a->brokers, b->brokers) != 0 || a->unrestricted != b->unrestricted ||
		a->count != b->count || (a->allowed && strcmp(a->allowed, b->allowed) != 0))
		return false;
	for (i = 0; i < a->count; i++)
		if (strcmp(a->settings[i].name, b->settings[i].name) != 0 ||
			strcmp(a->settings[i].value, b->settings[i].value) != 0)
			return false;
	return true;
}

rd_kafka_conf_t *
cq_kafka_settings_consumer(const CqKafkaSettings *settings, const CqKafkaFetching *fetching)
{
	return conf_create(settings, CONSUMER, fetching);
}

rd_kafka_conf_t *
cq_kafka_settings_producer(const CqKafkaSettings *settings)
{
	return conf_create(settings, PRODUCER, NULL);
}

/*
 * librdkafka's own message may quote the value, so only the property's name is
 * passed on.
 */
static rd_kafka_conf_t *
conf_create(const CqKafkaSettings *settings, Role role, const CqKafkaFetching *fetching)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	const char *bad;

	rd_kafka_conf_set_events(conf,
							 RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG |
								 (role == PRODUCER ? RD_KAFKA_EVENT_DR : 0));
	if (settings->allowed)
		rd_kafka_conf_set_connect_cb(conf, cq_kafka_broker_connect);
	bad = set(conf, "bootstrap.servers", settings->brokers) == RD_KAFKA_CONF_OK
			  ? NULL
			  : "bootstrap.servers";
	if (bad == NULL)
		bad = apply_preferred(settings, role, conf);
	if (bad == NULL)
		bad = apply_settings(settings, role, conf);
	if (bad == NULL)
		bad =
			role == CONSUMER ? apply_sizes(settings, conf, fetching) : apply_buffer(settings, conf);
	if (bad == NULL)
		bad = apply_fixed(role, conf);
	if (bad == NULL)
		return conf;
	rd_kafka_conf_destroy(conf);
	ereport(ERROR,
			errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			errmsg("could not set Kafka client property \"%s\"", bad),
			errdetail("librdkafka %s does not know the property or refuses its value.",
					  rd_kafka_version_str()));
	return NULL;
}

/* These return the name of a property that could not be set, or NULL. */
static const char *
apply_preferred(const CqKafkaSettings *settings, Role role, rd_kafka_conf_t *conf)
{
	int i;

	for (i = 0; i < lengthof(preferred); i++)
	{
		if ((preferred[i].role & role) == 0)
			continue;
		/* a longer first pause than the longest one is refused */
		if (strcmp(preferred[i].name, "reconnect.backoff.max.ms") == 0 &&
			setting_value(settings, "reconnect.backoff.ms"))
			continue;
		if (set(conf, preferred[i].name, preferred[i].value) == RD_KAFKA_CONF_INVALID)
			return preferred[i].name;
	}
	return NULL;
}

static const char *
apply_settings(const CqKafkaSettings *settings, Role role, rd_kafka_conf_t *conf)
{
	int i;

	for (i = 0; i < settings->count; i++)
	{
		const Setting *setting = &settings->settings[i];

		if (role == CONSUMER &&
			(sized_by_us(setting->name) || cq_kafka_property_find(setting->name)->producer))
			continue;
		if (role == PRODUCER && consumer_only(setting->name))
			continue;
		if (set(conf, setting->name, setting->value) != RD_KAFKA_CONF_OK)
			return setting->name;
	}
	return NULL;
}

/* The client would log a warning about each. */
static bool
consumer_only(const char *name)
{
	static const char *const prefixes[] =
		{"fetch.", "queued.", "max.partition.fetch.", "max.poll.", "session.", "heartbeat."};
	int i;

	for (i = 0; i < lengthof(prefixes); i++)
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static bool
sized_by_us(const char *name)
{
	return strcmp(name, "queued.max.messages.kbytes") == 0 ||
		   strcmp(name, "fetch.message.max.bytes") == 0 ||
		   strcmp(name, "max.partition.fetch.bytes") == 0 || strcmp(name, "fetch.max.bytes") == 0 ||
		   strcmp(name, "fetch.wait.max.ms") == 0;
}

static const char *
apply_sizes(const CqKafkaSettings *settings, rd_kafka_conf_t *conf, const CqKafkaFetching *fetching)
{
	int64 queue_kb = Max(cq_kafka_memory_kb / 2 / Max(fetching->npartitions, 1), MIN_QUEUE_KB);
	int64 partition_bytes = Min(queue_kb * 1024 / COMPRESSION, MAX_PARTITION_FETCH);
	int64 fetch_bytes = Min((int64) cq_kafka_memory_kb * 1024 / 2, MAX_FETCH_BYTES);
	int64 message_bytes = cq_kafka_settings_message_bytes(settings);

	queue_kb = Min(queue_kb, setting_number(settings, "queued.max.messages.kbytes", queue_kb));
	partition_bytes =
		Min(queue_kb * 1024, setting_number(settings, "fetch.message.max.bytes", partition_bytes));
	partition_bytes = Min(queue_kb * 1024,
						  setting_number(settings, "max.partition.fetch.bytes", partition_bytes));
	fetch_bytes = Min(fetch_bytes, setting_number(settings, "fetch.max.bytes", fetch_bytes));
	fetch_bytes = Max(fetch_bytes, message_bytes);
	if (!set_number(conf, "queued.max.messages.kbytes", queue_kb))
		return "queued.max.messages.kbytes";
	if (!set_number(conf, "fetch.message.max.bytes", partition_bytes))
		return "fetch.message.max.bytes";
	if (!set_number(conf, "fetch.max.bytes", fetch_bytes))
		return "fetch.max.bytes";
	if (!set_number(conf,
					"fetch.wait.max.ms",
					setting_number(settings, "fetch.wait.max.ms", fetching->wait_ms)))
		return "fetch.wait.max.ms";
	return NULL;
}

/* What waits to be sent is bounded like what was fetched. */
static const char *
apply_buffer(const CqKafkaSettings *settings, rd_kafka_conf_t *conf)
{
	int64 kb = setting_number(settings, "queue.buffering.max.kbytes", cq_kafka_memory_kb);

	return set_number(conf, "queue.buffering.max.kbytes", Min(kb, cq_kafka_memory_kb))
			   ? NULL
			   : "queue.buffering.max.kbytes";
}

static const char *
apply_fixed(Role role, rd_kafka_conf_t *conf)
{
	int i;

	for (i = 0; i < lengthof(fixed); i++)
	{
		rd_kafka_conf_res_t result;

		if ((fixed[i].role & role) == 0)
			continue;
		result = set(conf, fixed[i].name, fixed[i].value);
		if (result != RD_KAFKA_CONF_OK && !fixed[i].optional)
			return fixed[i].name;
	}
	return NULL;
}

static bool
set_number(rd_kafka_conf_t *conf, const char *name, int64 value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", (long long) value);
	return set(conf, name, text) == RD_KAFKA_CONF_OK;
}

static rd_kafka_conf_res_t
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char error[512];

	return rd_kafka_conf_set(conf, name, value, error, sizeof(error));
}
