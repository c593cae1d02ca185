/*
 * produce.c
 *	  Write made-up orders to a Kafka topic, to a CSV file or to both.
 *
 * Event number i goes to partition i modulo the number of partitions, in
 * order, from one idempotent producer: so the offset of every event is known
 * beforehand.  At the end the topic's end offsets are compared with what was
 * counted, and any difference (another writer, a lost record) is an error.
 * The CSV file therefore is the truth about the topic, ready for COPY.
 */
#define _GNU_SOURCE
#include "events.h"

#include <errno.h>
#include <getopt.h>
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define BLOCK_EVENTS   1000 /* handed to the client together */
#define MAX_PARTITIONS 1024
#define TIMEOUT_MS	   30000
#define LEADER_POLL_MS 100

typedef enum Transaction
{
	TRANSACTION_NONE,
	TRANSACTION_COMMIT,
	TRANSACTION_ABORT,
	TRANSACTION_HANG /* left open: readers of committed records stop in front of it */
} Transaction;

typedef struct Job
{
	EventSpec spec;
	int64_t first;
	int64_t count;
	int partitions;
	int64_t offsets[MAX_PARTITIONS]; /* next one, per partition */
	bool base_given;
	double rate; /* events per second; 0 = as fast as possible */
	bool keyed;
	Transaction transaction;
	const char *brokers;
	const char *topic;
	const char *compression;
	const char *csv_path;
} Job;

static int64_t failed_deliveries;

static void usage(FILE *out);
static void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void parse_arguments(Job *job, int argc, char **argv);
static bool parse_event_option(EventSpec *spec, int option, const char *value);
static bool parse_job_option(Job *job, int option, const char *value);
static int64_t parse_count(const char *name, const char *text);
static double parse_share(const char *name, const char *text);
static int64_t parse_duration_us(const char *name, const char *text);
static int64_t parse_time_us(const char *text);
static int parse_choice(const char *name, const char *text, const char *const *choices);
static void parse_base(Job *job, char *text);
static rd_kafka_t *producer_open(const Job *job);
static void transaction_check(const char *step, rd_kafka_error_t *error);
static void delivery_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque);
static void offsets_read(rd_kafka_t *rk, const Job *job, int64_t *offsets);
static int64_t send_all(rd_kafka_t *rk, Job *job, FILE *csv);
static void send_end(rd_kafka_t *rk, const Job *job);
static size_t block_fill(Job *job, FILE *csv, int64_t seq, rd_kafka_message_t *message,
						 char *buffer);
static void block_send(rd_kafka_t *rk, rd_kafka_topic_t *topic, rd_kafka_message_t *messages,
					   size_t count);
static void pace(rd_kafka_t *rk, const Job *job, double started, int64_t done);
static double now_s(void);

int
main(int argc, char **argv)
{
	static Job job;
	rd_kafka_t *rk = NULL;
	FILE *csv = NULL;
	double started;
	int64_t bytes;

	parse_arguments(&job, argc, argv);
	if (job.csv_path != NULL)
	{
		csv = strcmp(job.csv_path, "-") == 0 ? stdout : fopen(job.csv_path, "w");
		if (csv == NULL)
			die("could not open file \"%s\": %s", job.csv_path, strerror(errno));
	}
	if (job.topic != NULL)
	{
		rk = producer_open(&job);
		if (!job.base_given)
			offsets_read(rk, &job, job.offsets);
	}
	started = now_s();
	bytes = send_all(rk, &job, csv);
	if (csv != NULL && (fflush(csv) != 0 || ferror(csv) || (csv != stdout && fclose(csv) != 0)))
		die("could not write file \"%s\": %s", job.csv_path, strerror(errno));
	if (rk != NULL)
	{
		double seconds = now_s() - started;

		fprintf(stderr,
				"produced %lld events, %lld bytes in %.2f s (%.0f events/s)\n",
				(long long) job.count,
				(long long) bytes,
				seconds,
				(double) job.count / seconds);
		if (job.transaction != TRANSACTION_HANG)
			rd_kafka_destroy(rk);
	}
	return 0;
}

static void
usage(FILE *out)
{
	fputs(
		"Usage: produce [--brokers LIST --topic NAME] [--csv FILE] --count N [options]\n"
		"\n"
		"  --brokers LIST       bootstrap servers\n"
		"  --topic NAME         topic to write to; must exist\n"
		"  --csv FILE           also (or, without a topic, only) write the rows here; \"-\" = stdout\n"
		"                       partition,offset,seq,key,customer_id,amount,ordered_at,country,bad\n"
		"  --count N            number of events\n"
		"  --first N            number of the first event (0)\n"
		"  --partitions P       event i goes to partition i mod P (1)\n"
		"  --base O0,O1,...     first offset per partition (default: the topic's end, or what\n"
		"                       the events before --first took)\n"
		"  --seed N             another seed, other events (1)\n"
		"  --keys N             number of different values of \"key\" (1000)\n"
		"  --customers N        number of different values of \"customer_id\" (1000)\n"
		"  --start TIME         event time of event 0: now, epoch seconds or an ISO date with an\n"
		"                       optional time, UTC (2025-01-01)\n"
		"  --step TIME          event time from one event to the next; us, ms, s, min, h (1ms)\n"
		"  --disorder TIME      events are at most this much before their turn (0)\n"
		"  --late-share F       share of events that are --late-by older than that (0)\n"
		"  --late-by TIME       (10min)\n"
		"  --bad-share F        share of records that are damaged (0)\n"
		"  --bad-kind KIND      json, amount, time or mixed (json)\n"
		"  --time FORMAT        iso, epoch_s, epoch_ms or epoch_us (iso)\n"
		"  --size BYTES         pad records to this size (300)\n"
		"  --keyed              use \"key\" as the key of the Kafka record too\n"
		"  --rate N             events per second (0 = no limit)\n"
		"  --compression NAME   none, lz4, gzip, snappy, zstd (lz4)\n"
		"  --transaction END    write in one transaction and commit, abort or hang\n",
		out);
}

static void
die(const char *format, ...)
{
	va_list args;

	fputs("produce: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void
parse_arguments(Job *job, int argc, char **argv)
{
	static const struct option options[] = {{"brokers", required_argument, NULL, 'b'},
											{"topic", required_argument, NULL, 't'},
											{"csv", required_argument, NULL, 'c'},
											{"count", required_argument, NULL, 'n'},
											{"first", required_argument, NULL, 'f'},
											{"partitions", required_argument, NULL, 'p'},
											{"base", required_argument, NULL, 'o'},
											{"seed", required_argument, NULL, 's'},
											{"keys", required_argument, NULL, 'k'},
											{"customers", required_argument, NULL, 'u'},
											{"start", required_argument, NULL, 'S'},
											{"step", required_argument, NULL, 'T'},
											{"disorder", required_argument, NULL, 'd'},
											{"late-share", required_argument, NULL, 'l'},
											{"late-by", required_argument, NULL, 'L'},
											{"bad-share", required_argument, NULL, 'x'},
											{"bad-kind", required_argument, NULL, 'X'},
											{"time", required_argument, NULL, 'F'},
											{"size", required_argument, NULL, 'z'},
											{"keyed", no_argument, NULL, 'K'},
											{"rate", required_argument, NULL, 'r'},
											{"compression", required_argument, NULL, 'Z'},
											{"transaction", required_argument, NULL, 'A'},
											{"help", no_argument, NULL, 'h'},
											{NULL, 0, NULL, 0}};
	EventSpec *spec = &job->spec;
	char *base = NULL;
	int c;

	spec->seed = 1;
	spec->keys = spec->customers = 1000;
	spec->start_us = INT64_C(1735689600000000); /* 2025-01-01 */
	spec->step_us = 1000;
	spec->late_by_us = INT64_C(600000000);
	spec->size = 300;
	job->count = -1;
	job->partitions = 1;
	job->compression = "lz4";
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (c == 'h')
		{
			usage(stdout);
			exit(0);
		}
		if (c == 'o')
			base = optarg;
		else if (!parse_event_option(spec, c, optarg) && !parse_job_option(job, c, optarg))
		{
			usage(stderr);
			exit(1);
		}
	}
	if (optind != argc || job->count < 0 || (job->topic == NULL && job->csv_path == NULL) ||
		(job->topic == NULL) != (job->brokers == NULL))
	{
		usage(stderr);
		exit(1);
	}
	if (job->partitions < 1 || job->partitions > MAX_PARTITIONS || spec->keys < 1 ||
		spec->customers < 1 || spec->size > EVENT_MAX_SIZE - 512)
		die("an argument is out of range");
	if (spec->start_us < spec->disorder_us + spec->late_by_us)
		die("event times before 1970 are not supported");
	parse_base(job, base);
}

/* What the events look like. */
static bool
parse_event_option(EventSpec *spec, int option, const char *value)
{
	static const char *const kinds[] = {"json", "amount", "time", "mixed", NULL};
	static const char *const formats[] = {"iso", "epoch_s", "epoch_ms", "epoch_us", NULL};

	switch (option)
	{
		case 's':
			spec->seed = (uint64_t) parse_count("seed", value);
			return true;
		case 'k':
			spec->keys = parse_count("keys", value);
			return true;
		case 'u':
			spec->customers = parse_count("customers", value);
			return true;
		case 'S':
			spec->start_us = parse_time_us(value);
			return true;
		case 'T':
			spec->step_us = parse_duration_us("step", value);
			return true;
		case 'd':
			spec->disorder_us = parse_duration_us("disorder", value);
			return true;
		case 'l':
			spec->late_share = parse_share("late-share", value);
			return true;
		case 'L':
			spec->late_by_us = parse_duration_us("late-by", value);
			return true;
		case 'x':
			spec->bad_share = parse_share("bad-share", value);
			return true;
		case 'X':
			spec->bad_kind = (BadKind) parse_choice("bad-kind", value, kinds);
			return true;
		case 'F':
			spec->time_format = (TimeFormat) parse_choice("time", value, formats);
			return true;
		case 'z':
			spec->size = (int) parse_count("size", value);
			return true;
		default:
			return false;
	}
}

/* Where they go and how. */
static bool
parse_job_option(Job *job, int option, const char *value)
{
	static const char *const ends[] = {"none", "commit", "abort", "hang", NULL};

	switch (option)
	{
		case 'b':
			job->brokers = value;
			return true;
		case 't':
			job->topic = value;
			return true;
		case 'c':
			job->csv_path = value;
			return true;
		case 'n':
			job->count = parse_count("count", value);
			return true;
		case 'f':
			job->first = parse_count("first", value);
			return true;
		case 'p':
			job->partitions = (int) parse_count("partitions", value);
			return true;
		case 'K':
			job->keyed = true;
			return true;
		case 'r':
			job->rate = (double) parse_count("rate", value);
			return true;
		case 'Z':
			job->compression = value;
			return true;
		case 'A':
			job->transaction = (Transaction) parse_choice("transaction", value, ends);
			return true;
		default:
			return false;
	}
}

static int64_t
parse_count(const char *name, const char *text)
{
	char *end;
	long long value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < 0)
		die("--%s must be a whole number, not \"%s\"", name, text);
	return value;
}

static double
parse_share(const char *name, const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= 0 && value <= 1))
		die("--%s must be between 0 and 1, not \"%s\"", name, text);
	return value;
}

static int64_t
parse_duration_us(const char *name, const char *text)
{
	static const struct
	{
		const char *unit;
		double us;
	} units[] = {{"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"min", 6e7}, {"h", 3.6e9}};
	char *end;
	double value = strtod(text, &end);

	if (end != text && value >= 0)
	{
		if (value == 0 && *end == '\0')
			return 0;
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		{
			if (strcmp(end, units[i].unit) == 0)
				return (int64_t) (value * units[i].us);
		}
	}
	die("--%s must be a number with a unit (us, ms, s, min, h), not \"%s\"", name, text);
}

static int64_t
parse_time_us(const char *text)
{
	struct tm tm = {0};
	char *end;
	long long epoch_s;

	if (strcmp(text, "now") == 0)
		return (int64_t) (now_s() * 1e6);
	epoch_s = strtoll(text, &end, 10);
	if (end != text && *end == '\0')
		return epoch_s * 1000000;
	end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (end == NULL)
		end = strptime(text, "%Y-%m-%d", &tm);
	if (end == NULL || (*end != '\0' && strcmp(end, "Z") != 0))
		die("--start is no time: \"%s\"", text);
	return (int64_t) timegm(&tm) * 1000000;
}

static int
parse_choice(const char *name, const char *text, const char *const *choices)
{
	for (int i = 0; choices[i] != NULL; i++)
	{
		if (strcmp(choices[i], text) == 0)
			return i;
	}
	die("--%s cannot be \"%s\"", name, text);
}

/* Without --base, each partition holds its share of the events before the first. */
static void
parse_base(Job *job, char *text)
{
	char *item = text == NULL ? NULL : strtok(text, ",");

	job->base_given = text != NULL;
	for (int p = 0; p < job->partitions; p++)
	{
		if (text == NULL)
			job->offsets[p] = job->first / job->partitions + (p < job->first % job->partitions);
		else if (item == NULL)
			die("--base must have one offset for each of the %d partitions", job->partitions);
		else
		{
			job->offsets[p] = parse_count("base", item);
			item = strtok(NULL, ",");
		}
	}
}

static rd_kafka_t *
producer_open(const Job *job)
{
	const char *settings[][2] = {{"bootstrap.servers", job->brokers},
								 {"compression.codec", job->compression},
								 {"enable.idempotence", "true"},
								 {"delivery.report.only.error", "true"},
								 {"linger.ms", job->rate > 0 ? "1" : "20"},
								 {"batch.size", "1000000"},
								 {"batch.num.messages", "10000"},
								 {"queue.buffering.max.messages", "400000"},
								 {"queue.buffering.max.kbytes", "400000"},
								 {"message.timeout.ms", "60000"},
								 {"log_level", "3"},
								 {"transactional.id", "produce"}};
	size_t nsettings = sizeof(settings) / sizeof(settings[0]);
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char error[512];
	rd_kafka_t *rk;

	if (job->transaction == TRANSACTION_NONE)
		nsettings--;
	for (size_t i = 0; i < nsettings; i++)
	{
		if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], error, sizeof(error)) !=
			RD_KAFKA_CONF_OK)
			die("%s", error);
	}
	rd_kafka_conf_set_dr_msg_cb(conf, delivery_report);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (rk == NULL)
		die("could not create the producer: %s", error);
	if (job->transaction != TRANSACTION_NONE)
	{
		transaction_check("initialise", rd_kafka_init_transactions(rk, TIMEOUT_MS));
		transaction_check("begin", rd_kafka_begin_transaction(rk));
	}
	return rk;
}

static void
transaction_check(const char *step, rd_kafka_error_t *error)
{
	if (error != NULL)
		die("could not %s the transaction: %s", step, rd_kafka_error_string(error));
}

/* Called for failures only. */
static void
delivery_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	(void) rk;
	(void) opaque;
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	if (failed_deliveries++ == 0)
		fprintf(stderr, "produce: %s\n", rd_kafka_err2str(message->err));
}

/* A topic that was just created has no leader for a moment. */
static void
offsets_read(rd_kafka_t *rk, const Job *job, int64_t *offsets)
{
	for (int p = 0; p < job->partitions; p++)
	{
		int64_t low;
		rd_kafka_resp_err_t err;
		int tries = TIMEOUT_MS / LEADER_POLL_MS;

		do
			err =
				rd_kafka_query_watermark_offsets(rk, job->topic, p, &low, &offsets[p], TIMEOUT_MS);
		while ((err == RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION ||
				err == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) &&
			   tries-- > 0 && rd_kafka_poll(rk, LEADER_POLL_MS) >= 0);
		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("could not read the offsets of partition %d of topic \"%s\": %s",
				p,
				job->topic,
				rd_kafka_err2str(err));
	}
}

/* Send and write all events; returns the bytes of JSON.  rk and csv may be NULL. */
static int64_t
send_all(rd_kafka_t *rk, Job *job, FILE *csv)
{
	static rd_kafka_message_t messages[BLOCK_EVENTS];
	char *buffer = malloc((size_t) BLOCK_EVENTS * (size_t) (job->spec.size + 512));
	rd_kafka_topic_t *topic = rk == NULL ? NULL : rd_kafka_topic_new(rk, job->topic, NULL);
	double started = now_s();
	int64_t bytes = 0;

	if (buffer == NULL)
		die("out of memory");
	for (int64_t done = 0; done < job->count;)
	{
		int64_t left = job->count - done;
		int64_t block = job->rate > 0 ? (int64_t) (job->rate / 100) + 1 : BLOCK_EVENTS;
		size_t filled = 0;

		block = block > BLOCK_EVENTS ? BLOCK_EVENTS : block;
		block = block > left ? left : block;
		for (char *p = buffer; filled < (size_t) block; filled++)
		{
			size_t length =
				block_fill(job, csv, job->first + done + (int64_t) filled, &messages[filled], p);

			p += length;
			bytes += (int64_t) messages[filled].len;
		}
		done += block;
		if (rk != NULL)
		{
			block_send(rk, topic, messages, filled);
			pace(rk, job, started, done);
		}
	}
	if (rk != NULL)
	{
		send_end(rk, job);
		rd_kafka_topic_destroy(topic);
	}
	free(buffer);
	return bytes;
}

/* Wait for delivery, end the transaction, and see that nobody else wrote to the topic. */
static void
send_end(rd_kafka_t *rk, const Job *job)
{
	int64_t ends[MAX_PARTITIONS];

	if (rd_kafka_flush(rk, 2 * TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("could not deliver all events in time");
	if (failed_deliveries > 0)
		die("%lld events were not delivered", (long long) failed_deliveries);
	if (job->transaction == TRANSACTION_COMMIT)
		transaction_check("commit", rd_kafka_commit_transaction(rk, TIMEOUT_MS));
	if (job->transaction == TRANSACTION_ABORT)
		transaction_check("abort", rd_kafka_abort_transaction(rk, TIMEOUT_MS));
	if (job->transaction != TRANSACTION_NONE)
		return; /* its end takes an offset of its own */
	offsets_read(rk, job, ends);
	for (int p = 0; p < job->partitions; p++)
	{
		if (ends[p] != job->offsets[p])
			die("partition %d of topic \"%s\" ends at offset %lld instead of %lld",
				p,
				job->topic,
				(long long) ends[p],
				(long long) job->offsets[p]);
	}
}

/* Make one event; returns how much of the buffer its message takes. */
static size_t
block_fill(Job *job, FILE *csv, int64_t seq, rd_kafka_message_t *message, char *buffer)
{
	int partition = (int) (seq % job->partitions);
	int64_t offset = job->offsets[partition]++;
	Event event;
	size_t key_length = 0;

	event_make(&job->spec, seq, &event);
	if (csv != NULL)
	{
		char line[512];

		fwrite(line, 1, event_csv(&event, partition, offset, line), csv);
	}
	memset(message, 0, sizeof(*message));
	message->partition = partition;
	message->payload = buffer;
	message->len = event_json(&job->spec, &event, buffer);
	if (job->keyed)
	{
		message->key = buffer + message->len;
		key_length = (size_t) sprintf(message->key, "%lld", (long long) event.key);
		message->key_len = key_length;
	}
	return message->len + key_length;
}

/* Hand a block to the client, waiting while its queue is full. */
static void
block_send(rd_kafka_t *rk, rd_kafka_topic_t *topic, rd_kafka_message_t *messages, size_t count)
{
	while (count > 0)
	{
		size_t kept = 0;

		rd_kafka_produce_batch(topic,
							   RD_KAFKA_PARTITION_UA,
							   RD_KAFKA_MSG_F_COPY | RD_KAFKA_MSG_F_PARTITION,
							   messages,
							   (int) count);
		for (size_t i = 0; i < count; i++)
		{
			if (messages[i].err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
				messages[kept++] = messages[i];
			else if (messages[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
				die("could not send an event: %s", rd_kafka_err2str(messages[i].err));
		}
		count = kept;
		rd_kafka_poll(rk, count > 0 ? 5 : 0);
		if (failed_deliveries > 0)
			die("the topic does not take our events");
	}
}

/* Wait until it is time for the event after the done ones. */
static void
pace(rd_kafka_t *rk, const Job *job, double started, int64_t done)
{
	if (job->rate > 0)
	{
		double due = started + (double) done / job->rate;

		for (double left = due - now_s(); left > 0.0005; left = due - now_s())
			rd_kafka_poll(rk, left > 1 ? 1000 : (int) (left * 1000) + 1);
	}
}

static double
now_s(void)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	return (double) now.tv_sec + (double) now.tv_usec / 1e6;
}
