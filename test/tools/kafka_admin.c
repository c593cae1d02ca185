/*
 * kafka_admin.c
 *	  Change topics of a broker: what tools/kafka needs without starting a
 *	  Java program each time.
 *
 * Every command returns when the change is visible to a client that asks for
 * metadata, so that a test can go on at once.
 */
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIMEOUT_MS 30000
#define POLL_MS	   50

static void usage(void) __attribute__((noreturn));
static void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static int64_t parse_count(const char *text);
static rd_kafka_t *client_open(const char *brokers);
static void topic_create(rd_kafka_t *rk, int argc, char **argv);
static void topic_delete(rd_kafka_t *rk, const char *name);
static void topic_add_partitions(rd_kafka_t *rk, const char *name, int total);
static void topic_list(rd_kafka_t *rk);
static void delete_records(rd_kafka_t *rk, const char *name, int partition, int64_t offset);
static void offsets_print(rd_kafka_t *rk, const char *name);
static rd_kafka_event_t *reply_wait(rd_kafka_queue_t *queue);
static void topic_results_check(rd_kafka_event_t *reply, const rd_kafka_topic_result_t **results,
								size_t count);
static int partition_count(rd_kafka_t *rk, const char *name);
static void partitions_wait(rd_kafka_t *rk, const char *name, int wanted);

int
main(int argc, char **argv)
{
	rd_kafka_t *rk;

	if (argc < 3)
		usage();
	rk = client_open(argv[1]);
	argc -= 3;
	if (strcmp(argv[2], "create") == 0 && argc >= 2)
		topic_create(rk, argc, argv + 3);
	else if (strcmp(argv[2], "delete") == 0 && argc == 1)
		topic_delete(rk, argv[3]);
	else if (strcmp(argv[2], "add-partitions") == 0 && argc == 2)
		topic_add_partitions(rk, argv[3], (int) parse_count(argv[4]));
	else if (strcmp(argv[2], "delete-records") == 0 && argc == 3)
		delete_records(rk, argv[3], (int) parse_count(argv[4]), parse_count(argv[5]));
	else if (strcmp(argv[2], "offsets") == 0 && argc == 1)
		offsets_print(rk, argv[3]);
	else if (strcmp(argv[2], "list") == 0 && argc == 0)
		topic_list(rk);
	else
		usage();
	rd_kafka_destroy(rk);
	return 0;
}

static void
usage(void)
{
	fputs("Usage: kafka_admin BROKERS COMMAND\n"
		  "\n"
		  "  create TOPIC PARTITIONS [NAME=VALUE ...]  create a topic, with these settings\n"
		  "  delete TOPIC\n"
		  "  add-partitions TOPIC TOTAL                until there are TOTAL of them\n"
		  "  delete-records TOPIC PARTITION OFFSET     those before OFFSET\n"
		  "  offsets TOPIC                             print partition, first and next offset\n"
		  "  list                                      print the names of the topics\n",
		  stderr);
	exit(1);
}

static void
die(const char *format, ...)
{
	va_list args;

	fputs("kafka_admin: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static int64_t
parse_count(const char *text)
{
	char *end;
	long long value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < 0)
		die("\"%s\" is no whole number", text);
	return value;
}

static rd_kafka_t *
client_open(const char *brokers)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char error[512];
	rd_kafka_t *rk;

	if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, error, sizeof(error)) !=
		RD_KAFKA_CONF_OK)
		die("%s", error);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (rk == NULL)
		die("could not create the client: %s", error);
	return rk;
}

static void
topic_create(rd_kafka_t *rk, int argc, char **argv)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	char error[512];
	int partitions = (int) parse_count(argv[1]);
	rd_kafka_NewTopic_t *topic;
	rd_kafka_event_t *reply;
	const rd_kafka_topic_result_t **results;
	size_t count;

	topic = rd_kafka_NewTopic_new(argv[0], partitions, 1, error, sizeof(error));
	if (topic == NULL)
		die("%s", error);
	for (int i = 2; i < argc; i++)
	{
		char *value = strchr(argv[i], '=');

		if (value == NULL)
			usage();
		*value++ = '\0';
		if (rd_kafka_NewTopic_set_config(topic, argv[i], value) != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("could not use setting \"%s\"", argv[i]);
	}
	rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
	reply = reply_wait(queue);
	results =
		rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(reply), &count);
	topic_results_check(reply, results, count);
	partitions_wait(rk, argv[0], partitions);
	rd_kafka_event_destroy(reply);
	rd_kafka_NewTopic_destroy(topic);
	rd_kafka_queue_destroy(queue);
}

static void
topic_delete(rd_kafka_t *rk, const char *name)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(name);
	rd_kafka_event_t *reply;
	const rd_kafka_topic_result_t **results;
	size_t count;

	rd_kafka_DeleteTopics(rk, &topic, 1, NULL, queue);
	reply = reply_wait(queue);
	results =
		rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(reply), &count);
	topic_results_check(reply, results, count);
	partitions_wait(rk, name, 0);
	rd_kafka_event_destroy(reply);
	rd_kafka_DeleteTopic_destroy(topic);
	rd_kafka_queue_destroy(queue);
}

static void
topic_add_partitions(rd_kafka_t *rk, const char *name, int total)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	char error[512];
	rd_kafka_NewPartitions_t *change;
	rd_kafka_event_t *reply;
	const rd_kafka_topic_result_t **results;
	size_t count;

	change = rd_kafka_NewPartitions_new(name, (size_t) total, error, sizeof(error));
	if (change == NULL)
		die("%s", error);
	rd_kafka_CreatePartitions(rk, &change, 1, NULL, queue);
	reply = reply_wait(queue);
	results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(reply),
													  &count);
	topic_results_check(reply, results, count);
	partitions_wait(rk, name, total);
	rd_kafka_event_destroy(reply);
	rd_kafka_NewPartitions_destroy(change);
	rd_kafka_queue_destroy(queue);
}

static void
delete_records(rd_kafka_t *rk, const char *name, int partition, int64_t offset)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_topic_partition_list_t *before = rd_kafka_topic_partition_list_new(1);
	rd_kafka_DeleteRecords_t *request;
	rd_kafka_event_t *reply;
	const rd_kafka_topic_partition_list_t *results;

	rd_kafka_topic_partition_list_add(before, name, partition)->offset = offset;
	request = rd_kafka_DeleteRecords_new(before);
	rd_kafka_DeleteRecords(rk, &request, 1, NULL, queue);
	reply = reply_wait(queue);
	results = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(reply));
	for (int i = 0; i < results->cnt; i++)
	{
		if (results->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("partition %d of topic \"%s\": %s",
				results->elems[i].partition,
				results->elems[i].topic,
				rd_kafka_err2str(results->elems[i].err));
	}
	rd_kafka_event_destroy(reply);
	rd_kafka_DeleteRecords_destroy(request);
	rd_kafka_topic_partition_list_destroy(before);
	rd_kafka_queue_destroy(queue);
}

static void
offsets_print(rd_kafka_t *rk, const char *name)
{
	int count = partition_count(rk, name);

	if (count == 0)
		die("topic \"%s\" does not exist", name);
	for (int p = 0; p < count; p++)
	{
		int64_t low;
		int64_t high;
		rd_kafka_resp_err_t err;

		err = rd_kafka_query_watermark_offsets(rk, name, p, &low, &high, TIMEOUT_MS);
		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("partition %d of topic \"%s\": %s", p, name, rd_kafka_err2str(err));
		printf("%d %lld %lld\n", p, (long long) low, (long long) high);
	}
}

static void
topic_list(rd_kafka_t *rk)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 1, NULL, &metadata, TIMEOUT_MS);

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("could not read the list of topics: %s", rd_kafka_err2str(err));
	for (int i = 0; i < metadata->topic_cnt; i++)
		puts(metadata->topics[i].topic);
	rd_kafka_metadata_destroy(metadata);
}

static rd_kafka_event_t *
reply_wait(rd_kafka_queue_t *queue)
{
	rd_kafka_event_t *reply = rd_kafka_queue_poll(queue, TIMEOUT_MS);

	if (reply == NULL)
		die("the broker does not answer");
	if (rd_kafka_event_error(reply) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("%s", rd_kafka_event_error_string(reply));
	return reply;
}

static void
topic_results_check(rd_kafka_event_t *reply, const rd_kafka_topic_result_t **results, size_t count)
{
	(void) reply; /* owns the results */
	for (size_t i = 0; i < count; i++)
	{
		if (rd_kafka_topic_result_error(results[i]) != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("topic \"%s\": %s",
				rd_kafka_topic_result_name(results[i]),
				rd_kafka_topic_result_error_string(results[i]));
	}
}

/* Zero if there is no such topic (yet, or any more). */
static int
partition_count(rd_kafka_t *rk, const char *name)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 1, NULL, &metadata, TIMEOUT_MS);
	int count = 0;

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("could not read the list of topics: %s", rd_kafka_err2str(err));
	for (int i = 0; i < metadata->topic_cnt; i++)
	{
		const struct rd_kafka_metadata_topic *topic = &metadata->topics[i];

		if (strcmp(topic->topic, name) != 0 || topic->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			continue;
		/* count a partition once it has a leader: only then can it be used */
		for (int p = 0; p < topic->partition_cnt; p++)
			count += topic->partitions[p].leader >= 0;
	}
	rd_kafka_metadata_destroy(metadata);
	return count;
}

static void
partitions_wait(rd_kafka_t *rk, const char *name, int wanted)
{
	time_t give_up = time(NULL) + TIMEOUT_MS / 1000;

	while (partition_count(rk, name) != wanted)
	{
		if (time(NULL) > give_up)
			die("topic \"%s\" does not get %d partitions", name, wanted);
		rd_kafka_poll(rk, POLL_MS);
	}
}
