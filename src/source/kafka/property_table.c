/*
 * property_table.c
 *	  The classification of librdkafka's properties.
 *
 * Deny by default: what is not listed cannot be set.  Listed are all names of
 * every librdkafka up to 2.14, hidden and deprecated ones included, so that
 * test/tools/check_properties can tell a new property from a forgotten one.
 * The reasons of the classes:
 *
 * banned: loads code (plugin.library.paths is opened by rd_kafka_conf_set()
 * itself), runs a shell (sasl.kerberos.kinit.cmd), installs signal handlers,
 * changes OpenSSL for the whole process, writes files, starts a thread that
 * takes PostgreSQL's signals (test.mock.*), belongs to group membership, or
 * can only be a C pointer.
 *
 * fixed: the extension's correctness rests on the value.
 *
 * privileged: acts with the identity of the host, reaches other addresses
 * than brokers, or weakens a check of the peer.
 */
#include "source/kafka/property_table.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TEXT 4096
#define MAX_PEM	 (1024 * 1024)

/* What follows the name in a row of the table. */
#define BANNED						CQ_KAFKA_BANNED, CQ_KAFKA_TEXT
#define FIXED						CQ_KAFKA_FIXED, CQ_KAFKA_TEXT
#define FILE_NAME					CQ_KAFKA_FILE, CQ_KAFKA_TEXT, 0, MAX_TEXT
#define PRIVILEGED					CQ_KAFKA_PRIVILEGED, CQ_KAFKA_TEXT, 0, MAX_TEXT
#define SECRET						CQ_KAFKA_SECRET, CQ_KAFKA_TEXT, 0, MAX_TEXT
#define SECRET_PEM					CQ_KAFKA_SECRET, CQ_KAFKA_TEXT, 0, MAX_PEM
#define BOOLEAN						CQ_KAFKA_TUNABLE, CQ_KAFKA_BOOLEAN
#define OUT_CHOICE(choices)			CQ_KAFKA_TUNABLE, CQ_KAFKA_CHOICE, 0, 0, choices, NULL, true
#define TEXT(size)					CQ_KAFKA_TUNABLE, CQ_KAFKA_TEXT, 0, size
#define INTEGER(min, max)			CQ_KAFKA_TUNABLE, CQ_KAFKA_INTEGER, min, max
#define OUT_INTEGER(min, max)		CQ_KAFKA_TUNABLE, CQ_KAFKA_INTEGER, min, max, NULL, NULL, true
#define CHOICE(choices, privileged) CQ_KAFKA_TUNABLE, CQ_KAFKA_CHOICE, 0, 0, choices, privileged

static const CqKafkaProperty properties[] = {
	/* code, process-wide effects, files written */
	{"plugin.library.paths", BANNED},
	{"interceptors", BANNED},
	{"sasl.kerberos.kinit.cmd", BANNED},
	{"ssl.engine.location", BANNED},
	{"ssl.engine.id", BANNED},
	{"ssl_engine_callback_data", BANNED},
	{"ssl.providers", BANNED},
	{"internal.termination.signal", BANNED},
	{"test.mock.num.brokers", BANNED},
	{"test.mock.broker.rtt", BANNED},
	{"ut_handle_ProduceResponse", BANNED},
	{"offset.store.path", BANNED},
	{"offset.store.method", BANNED},
	{"offset.store.sync.interval.ms", BANNED},
	{"enable.sasl.oauthbearer.unsecure.jwt", BANNED},
	{"sasl.oauthbearer.config", BANNED},
	{"sasl.jaas.config", BANNED},
	{"ssl.truststore.location", BANNED},
	/* pointers */
	{"error_cb", BANNED},
	{"throttle_cb", BANNED},
	{"stats_cb", BANNED},
	{"log_cb", BANNED},
	{"background_event_cb", BANNED},
	{"socket_cb", BANNED},
	{"connect_cb", BANNED},
	{"closesocket_cb", BANNED},
	{"open_cb", BANNED},
	{"resolve_cb", BANNED},
	{"consume_cb", BANNED},
	{"rebalance_cb", BANNED},
	{"offset_commit_cb", BANNED},
	{"dr_cb", BANNED},
	{"dr_msg_cb", BANNED},
	{"partitioner_cb", BANNED},
	{"msg_order_cmp", BANNED},
	{"oauthbearer_token_refresh_cb", BANNED},
	{"ssl.certificate.verify_cb", BANNED},
	{"opaque", BANNED},
	{"default_topic_conf", BANNED},
	{"ssl_key", BANNED},
	{"ssl_certificate", BANNED},
	{"ssl_ca", BANNED},
	{"enabled_events", BANNED},
	{"enable_sasl_queue", BANNED},
	/* without meaning here, or without effect any more */
	{"builtin.features", BANNED},
	{"topic.blacklist", BANNED},
	{"queuing.strategy", BANNED},
	{"api.version.request", BANNED},
	{"api.version.request.timeout.ms", BANNED},
	{"api.version.fallback.ms", BANNED},
	{"broker.version.fallback", BANNED},
	{"socket.blocking.max.ms", BANNED},
	{"reconnect.backoff.jitter.ms", BANNED},
	{"metadata.request.timeout.ms", BANNED},
	{"topic.metadata.refresh.fast.cnt", BANNED},
	{"produce.offset.report", BANNED},
	{"enable.sparse.connections", BANNED},
	{"client.software.name", BANNED},
	{"client.software.version", BANNED},
	{"consume.callback.max.messages", BANNED},
	{"max.in.flight.requests.per.connection", BANNED},
	{"max.in.flight", BANNED},
	{"socket.max.fails", BANNED},
	/* group membership */
	{"group.protocol", BANNED},
	{"group.protocol.type", BANNED},
	{"group.remote.assignor", BANNED},
	{"group.instance.id", BANNED},
	{"partition.assignment.strategy", BANNED},
	{"session.timeout.ms", BANNED},
	{"heartbeat.interval.ms", BANNED},
	{"coordinator.query.interval.ms", BANNED},
	{"max.poll.interval.ms", BANNED},
	{"share.acknowledgement.mode", BANNED},
	{"max.poll.records", BANNED},

	{"bootstrap.servers", FIXED},
	{"metadata.broker.list", FIXED},
	{"group.id", FIXED},
	{"enable.auto.commit", FIXED},
	{"auto.commit.enable", FIXED},
	{"auto.commit.interval.ms", FIXED},
	{"enable.auto.offset.store", FIXED},
	{"auto.offset.reset", FIXED},
	{"isolation.level", FIXED},
	{"enable.partition.eof", FIXED},
	{"check.crcs", FIXED},
	{"allow.auto.create.topics", FIXED},
	{"log.queue", FIXED},
	{"log_level", FIXED},
	{"log.thread.name", FIXED},
	{"log.connection.close", FIXED},
	{"enable.random.seed", FIXED},
	{"statistics.interval.ms", FIXED},
	{"enable.metrics.push", FIXED},
	{"debug", FIXED},
	{"sasl.kerberos.min.time.before.relogin", FIXED},
	{"transactional.id", FIXED},
	{"enable.idempotence", FIXED},
	{"acks", FIXED},
	{"request.required.acks", FIXED},
	{"enable.gapless.guarantee", FIXED},
	{"message.send.max.retries", FIXED},
	{"retries", FIXED},
	{"delivery.report.only.error", FIXED},

	{"ssl.ca.location", FILE_NAME},
	{"https.ca.location", FILE_NAME},
	{"ssl.certificate.location", FILE_NAME},
	{"ssl.key.location", FILE_NAME},
	{"ssl.crl.location", FILE_NAME},
	{"ssl.keystore.location", FILE_NAME},
	{"sasl.kerberos.keytab", FILE_NAME},
	{"sasl.oauthbearer.assertion.private.key.file", FILE_NAME},
	{"sasl.oauthbearer.assertion.file", FILE_NAME},
	{"sasl.oauthbearer.assertion.jwt.template.file", FILE_NAME},

	{"ssl.ca.certificate.stores", PRIVILEGED},
	{"sasl.oauthbearer.token.endpoint.url", PRIVILEGED},
	{"sasl.oauthbearer.metadata.authentication.type", PRIVILEGED},
	{"sasl.oauthbearer.grant.type", PRIVILEGED},
	{"sasl.oauthbearer.assertion.algorithm", PRIVILEGED},
	{"sasl.oauthbearer.assertion.claim.aud", PRIVILEGED},
	{"sasl.oauthbearer.assertion.claim.exp.seconds", PRIVILEGED},
	{"sasl.oauthbearer.assertion.claim.iss", PRIVILEGED},
	{"sasl.oauthbearer.assertion.claim.jti.include", PRIVILEGED},
	{"sasl.oauthbearer.assertion.claim.nbf.seconds", PRIVILEGED},
	{"sasl.oauthbearer.assertion.claim.sub", PRIVILEGED},
	{"sasl.kerberos.principal", PRIVILEGED},
	{"sasl.kerberos.service.name", PRIVILEGED},
	{"ssl.cipher.suites", PRIVILEGED},
	{"ssl.curves.list", PRIVILEGED},
	{"ssl.sigalgs.list", PRIVILEGED},
	{"client.dns.lookup", PRIVILEGED},
	{"broker.address.family", PRIVILEGED},
	{"metadata.recovery.strategy", PRIVILEGED},
	{"metadata.recovery.rebootstrap.trigger.ms", PRIVILEGED},
	{"sasl.mechanisms", CHOICE("PLAIN SCRAM-SHA-256 SCRAM-SHA-512 OAUTHBEARER", "GSSAPI")},
	{"sasl.mechanism", CHOICE("PLAIN SCRAM-SHA-256 SCRAM-SHA-512 OAUTHBEARER", "GSSAPI")},
	{"sasl.oauthbearer.method", CHOICE("default", "oidc")},
	{"enable.ssl.certificate.verification", CHOICE("true", "false")},
	{"ssl.endpoint.identification.algorithm", CHOICE("https", "none")},
	/* with credentials, the plaintext ones need pipeline.allow_plaintext */
	{"security.protocol",
	 CHOICE("plaintext ssl sasl_plaintext sasl_ssl PLAINTEXT SSL SASL_PLAINTEXT SASL_SSL", NULL)},

	{"sasl.username", SECRET},
	{"sasl.password", SECRET},
	{"ssl.key.pem", SECRET_PEM},
	{"ssl.key.password", SECRET},
	{"ssl.certificate.pem", SECRET_PEM},
	{"ssl.keystore.password", SECRET},
	{"sasl.oauthbearer.client.id", SECRET},
	{"sasl.oauthbearer.client.secret", SECRET},
	{"sasl.oauthbearer.client.credentials.client.id", SECRET},
	{"sasl.oauthbearer.client.credentials.client.secret", SECRET},
	{"sasl.oauthbearer.assertion.private.key.pem", SECRET_PEM},
	{"sasl.oauthbearer.assertion.private.key.passphrase", SECRET},
	{"sasl.oauthbearer.scope", SECRET},
	{"sasl.oauthbearer.extensions", SECRET},
	{"sasl.oauthbearer.sub.claim.name", SECRET},
	{"ssl.ca.pem", TEXT(MAX_PEM)},
	{"https.ca.pem", TEXT(MAX_PEM)},

	{"client.id", TEXT(255)},
	{"client.rack", TEXT(255)},
	{"fetch.wait.max.ms", INTEGER(1, 5000)},
	{"fetch.min.bytes", INTEGER(1, 1048576)},
	{"fetch.max.bytes", INTEGER(1000000, 1000000000)},
	{"fetch.message.max.bytes", INTEGER(1024, 1000000000)},
	{"max.partition.fetch.bytes", INTEGER(1024, 1000000000)},
	{"fetch.error.backoff.ms", INTEGER(50, 60000)},
	{"fetch.queue.backoff.ms", INTEGER(1, 60000)},
	{"queued.min.messages", INTEGER(1, 1000000)},
	{"queued.max.messages.kbytes", INTEGER(64, 2097151)},
	{"receive.message.max.bytes", INTEGER(1000000, 2147483647)},
	{"message.max.bytes", INTEGER(1000, 1000000000)},
	{"message.copy.max.bytes", INTEGER(0, 1000000000)},
	{"socket.timeout.ms", INTEGER(1000, 300000)},
	{"socket.connection.setup.timeout.ms", INTEGER(1000, 300000)},
	{"socket.keepalive.enable", BOOLEAN},
	{"socket.nagle.disable", BOOLEAN},
	{"socket.send.buffer.bytes", INTEGER(0, 16777216)},
	{"socket.receive.buffer.bytes", INTEGER(0, 16777216)},
	{"connections.max.idle.ms", INTEGER(0, 2147483647)},
	{"reconnect.backoff.ms", INTEGER(50, 60000)},
	{"reconnect.backoff.max.ms", INTEGER(50, 600000)},
	{"retry.backoff.ms", INTEGER(50, 60000)},
	{"retry.backoff.max.ms", INTEGER(50, 600000)},
	{"topic.metadata.refresh.interval.ms", INTEGER(500, 300000)},
	{"topic.metadata.refresh.fast.interval.ms", INTEGER(50, 60000)},
	{"topic.metadata.refresh.sparse", BOOLEAN},
	{"topic.metadata.propagation.max.ms", INTEGER(0, 300000)},
	{"metadata.max.age.ms", INTEGER(1000, 86400000)},
	{"broker.address.ttl", INTEGER(0, 86400000)},

	{"compression.codec", OUT_CHOICE("none gzip snappy lz4 zstd")},
	{"compression.type", OUT_CHOICE("none gzip snappy lz4 zstd")},
	{"compression.level", OUT_INTEGER(-1, 12)},
	{"linger.ms", OUT_INTEGER(0, 900000)},
	{"queue.buffering.max.ms", OUT_INTEGER(0, 900000)},
	{"queue.buffering.max.messages", OUT_INTEGER(1, 10000000)},
	{"queue.buffering.max.kbytes", OUT_INTEGER(1, 2097151)},
	{"queue.buffering.backpressure.threshold", OUT_INTEGER(1, 1000000)},
	{"batch.size", OUT_INTEGER(1, 1000000000)},
	{"batch.num.messages", OUT_INTEGER(1, 1000000)},
	{"request.timeout.ms", OUT_INTEGER(1, 900000)},
	{"message.timeout.ms", OUT_INTEGER(1000, 900000)},
	{"delivery.timeout.ms", OUT_INTEGER(1000, 900000)},
	{"transaction.timeout.ms", OUT_INTEGER(1000, 900000)},
	{"sticky.partitioning.linger.ms", OUT_INTEGER(0, 900000)},
	{"partitioner",
	 OUT_CHOICE("random consistent consistent_random murmur2 murmur2_random fnv1a fnv1a_random")},
};

static bool text_valid(const char *value, int64_t size);
static bool integer_valid(const char *value, int64_t min, int64_t max);
static bool word_in(const char *words, const char *value);

const CqKafkaProperty *
cq_kafka_property_find(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(properties) / sizeof(properties[0]); i++)
		if (strcmp(properties[i].name, name) == 0)
			return &properties[i];
	return NULL;
}

bool
cq_kafka_property_valid(const CqKafkaProperty *property, const char *value)
{
	switch (property->kind)
	{
		case CQ_KAFKA_TEXT:
			return text_valid(value, property->max);
		case CQ_KAFKA_INTEGER:
			return integer_valid(value, property->min, property->max);
		case CQ_KAFKA_BOOLEAN:
			return word_in("true false", value);
		case CQ_KAFKA_CHOICE:
			return word_in(property->choices, value) ||
				   cq_kafka_property_privileged(property, value);
	}
	return false;
}

bool
cq_kafka_property_privileged(const CqKafkaProperty *property, const char *value)
{
	return property->privileged != NULL && word_in(property->privileged, value);
}

/* Certificates have line ends; nothing needs any other control character. */
static bool
text_valid(const char *value, int64_t size)
{
	const char *p;

	if (value[0] == '\0' || (int64_t) strlen(value) > size)
		return false;
	for (p = value; *p != '\0'; p++)
	{
		unsigned char c = (unsigned char) *p;

		if ((c < ' ' && c != '\n' && c != '\r' && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

/* Decimal digits only: nothing that two parsers could read differently. */
static bool
integer_valid(const char *value, int64_t min, int64_t max)
{
	const char *digits = value[0] == '-' ? value + 1 : value;
	long long number;

	if (digits[0] == '\0' || strlen(digits) > 12 || digits[strspn(digits, "0123456789")] != '\0')
		return false;
	number = strtoll(value, NULL, 10);
	return number >= min && number <= max;
}

static bool
word_in(const char *words, const char *value)
{
	size_t len = strlen(value);
	const char *p = words;

	if (len == 0 || strchr(value, ' ') != NULL)
		return false;
	while ((p = strstr(p, value)) != NULL)
	{
		bool starts = p == words || p[-1] == ' ';

		if (starts && (p[len] == ' ' || p[len] == '\0'))
			return true;
		p += len;
	}
	return false;
}
