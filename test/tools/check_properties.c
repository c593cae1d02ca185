/*
 * check_properties.c
 *	  Has every property of this librdkafka been classified?
 *
 * Walks the default configuration of the librdkafka it is linked with, and the
 * names that such a dump leaves out (aliases, and what older and newer versions
 * hide), and fails on any that src/source/kafka/property_table.c does not
 * list.  Otherwise a new library could bring a dangerous property that nobody
 * has looked at; unlisted ones cannot be set, but they belong on the list.
 *
 * It also checks that bounds of tunable properties lie within the library's,
 * so that a value that passes validation does not fail at use.
 */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "source/kafka/property_table.h"

static const char *const not_in_dump[] = {
	"bootstrap.servers",
	"max.in.flight",
	"sasl.mechanism",
	"max.partition.fetch.bytes",
	"linger.ms",
	"retries",
	"compression.type",
	"acks",
	"delivery.timeout.ms",
	"ssl_key",
	"ssl_certificate",
	"ssl_ca",
	"interceptors",
	"opaque",
	"default_topic_conf",
	"error_cb",
	"throttle_cb",
	"stats_cb",
	"log_cb",
	"background_event_cb",
	"socket_cb",
	"connect_cb",
	"closesocket_cb",
	"open_cb",
	"resolve_cb",
	"consume_cb",
	"rebalance_cb",
	"offset_commit_cb",
	"dr_cb",
	"dr_msg_cb",
	"partitioner_cb",
	"msg_order_cmp",
	"oauthbearer_token_refresh_cb",
	"ssl.certificate.verify_cb",
	"ssl_engine_callback_data",
	"ssl.truststore.location",
	"sasl.jaas.config",
	"offset.store.path",
	"offset.store.sync.interval.ms",
	"client.software.name",
	"client.software.version",
	"internal.termination.signal",
};

static int failures;

static void check_names(const char **dump, size_t count);
static void check_name(const char *name);
static void check_bounds(const CqKafkaProperty *property, long long value);

int
main(void)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_conf_t *topic_conf = rd_kafka_topic_conf_new();
	size_t count;
	const char **dump;
	size_t i;

	dump = rd_kafka_conf_dump(conf, &count);
	check_names(dump, count);
	rd_kafka_conf_dump_free(dump, count);
	dump = rd_kafka_topic_conf_dump(topic_conf, &count);
	check_names(dump, count);
	rd_kafka_conf_dump_free(dump, count);
	for (i = 0; i < sizeof(not_in_dump) / sizeof(not_in_dump[0]); i++)
		check_name(not_in_dump[i]);
	rd_kafka_topic_conf_destroy(topic_conf);
	rd_kafka_conf_destroy(conf);
	if (failures > 0)
		return 1;
	printf("all properties of librdkafka %s are classified\n", rd_kafka_version_str());
	return 0;
}

static void
check_names(const char **dump, size_t count)
{
	size_t i;

	for (i = 0; i < count; i += 2)
		check_name(dump[i]);
}

static void
check_name(const char *name)
{
	const CqKafkaProperty *property = cq_kafka_property_find(name);

	if (property == NULL)
	{
		fprintf(stderr, "not classified: %s\n", name);
		failures++;
	}
	else if (property->class == CQ_KAFKA_TUNABLE && property->kind == CQ_KAFKA_INTEGER)
	{
		check_bounds(property, property->min);
		check_bounds(property, property->max);
	}
}

static void
check_bounds(const CqKafkaProperty *property, long long value)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char text[32];
	char error[512];

	snprintf(text, sizeof(text), "%lld", value);
	if (rd_kafka_conf_set(conf, property->name, text, error, sizeof(error)) ==
		RD_KAFKA_CONF_INVALID)
	{
		fprintf(stderr, "%s: bound %s is refused by librdkafka\n", property->name, text);
		failures++;
	}
	rd_kafka_conf_destroy(conf);
}
