/*
 * nexmark.c
 *	  Write the events of a streaming benchmark to a Kafka topic, to a CSV file
 *	  or to both.
 *
 * Event i goes to partition i modulo the number of partitions, in order.  With
 * --sentinel each partition gets one more event, far ahead of all others, so
 * that all their windows close.
 *
 * With --pace events are sent by a schedule that was made before and waits for
 * nobody; an event's time is the moment it should be sent at.  So whoever takes
 * the time until it is seen somewhere also counts what it waited here.
 */
#define _GNU_SOURCE
#include "nexmark_events.h"

#include <errno.h>
#include <getopt.h>
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define BLOCK_EVENTS	  1000
#define TIMEOUT_MS		  60000
#define SENTINEL_AHEAD_US INT64_C(172800000000)		/* two days: past the end of a day, too */
#define DEFAULT_START_US  INT64_C(1436918400000000) /* 2015-07-15 */

typedef struct Job
{
	NexmarkSpec spec;
	bool ysb;
	int64_t first;
	int64_t count;
	int partitions;
	bool sentinel;
	double pace;  /* events per second; 0 = as fast as possible */
	double begin; /* of a paced run: when its first event is due */
	const char *brokers;
	const char *topic;
	const char *csv_path;
	const char *ads_path;
} Job;

static int64_t failed_deliveries;

static void usage(FILE *out);
static void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void parse_arguments(Job *job, int argc, char **argv);
static FILE *open_file(const char *path);
static void close_file(FILE *file, const char *path);
static void write_ads(const char *path);
static rd_kafka_t *producer_open(const Job *job);
static void delivery_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque);
static void send_all(const Job *job, rd_kafka_t *rk, rd_kafka_topic_t *topic, FILE *csv);
static size_t event_write(const Job *job, int64_t place, char *json, FILE *csv);
static void block_send(rd_kafka_t *rk, rd_kafka_topic_t *topic, rd_kafka_message_t *messages,
					   int count);
static int64_t due_now(const Job *job, rd_kafka_t *rk, int64_t done);
static double now_s(void);

int
main(int argc, char **argv)
{
	static Job job;
	rd_kafka_t *rk = NULL;
	rd_kafka_topic_t *topic = NULL;
	FILE *csv = NULL;
	double started;

	parse_arguments(&job, argc, argv);
	if (job.ads_path != NULL)
		write_ads(job.ads_path);
	if (job.csv_path != NULL)
		csv = open_file(job.csv_path);
	if (job.topic != NULL)
	{
		rk = producer_open(&job);
		topic = rd_kafka_topic_new(rk, job.topic, NULL);
		if (topic == NULL)
			die("could not open topic \"%s\"", job.topic);
	}
	started = now_s();
	send_all(&job, rk, topic, csv);
	if (csv != NULL)
		close_file(csv, job.csv_path);
	if (rk != NULL)
	{
		if (rd_kafka_flush(rk, TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR || failed_deliveries > 0)
			die("not all events were delivered");
		fprintf(stderr,
				"produced %lld events in %.2f s\n",
				(long long) job.count,
				now_s() - started);
		rd_kafka_topic_destroy(topic);
		rd_kafka_destroy(rk);
	}
	return 0;
}

static void
usage(FILE *out)
{
	fputs("Usage: nexmark [--brokers LIST --topic NAME] [--csv FILE] --count N [options]\n"
		  "\n"
		  "  --ysb                events of the Yahoo streaming benchmark in place of Nexmark's\n"
		  "  --brokers LIST       bootstrap servers\n"
		  "  --topic NAME         topic to write to; must exist\n"
		  "  --csv FILE           the same events for COPY; \"-\" = stdout\n"
		  "                       Nexmark: place,kind,auction,bidder,price,channel,time,sentinel\n"
		  "                       Yahoo: place,ad,kind,time,sentinel\n"
		  "  --ads FILE           Yahoo's advertisements: ad,ad_id,campaign_id\n"
		  "  --count N            number of events\n"
		  "  --first N            place of the first event (0)\n"
		  "  --partitions P       event i goes to partition i mod P (2)\n"
		  "  --seed N             other events (1)\n"
		  "  --rate N             events per second of event time (10000)\n"
		  "  --group N            shuffle so many neighbouring events (1)\n"
		  "  --start SECONDS      event time of event 0, since 1970 (2015-07-15)\n"
		  "  --late-share F       share of events that are up to --late-ms older than that (0)\n"
		  "  --late-ms N          (8000)\n"
		  "  --sentinel           a last event per partition, two days ahead\n"
		  "  --pace N             send N events per second; event time is when to send\n",
		  out);
}

static void
die(const char *format, ...)
{
	va_list args;

	fputs("nexmark: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static double
parse_number(const char *name, const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= 0) || value > 1e15)
		die("--%s must be a number, not \"%s\"", name, text);
	return value;
}

static void
parse_arguments(Job *job, int argc, char **argv)
{
	static const struct option options[] = {{"brokers", required_argument, NULL, 'b'},
											{"topic", required_argument, NULL, 't'},
											{"csv", required_argument, NULL, 'c'},
											{"ads", required_argument, NULL, 'a'},
											{"count", required_argument, NULL, 'n'},
											{"first", required_argument, NULL, 'f'},
											{"partitions", required_argument, NULL, 'p'},
											{"seed", required_argument, NULL, 's'},
											{"rate", required_argument, NULL, 'r'},
											{"group", required_argument, NULL, 'g'},
											{"start", required_argument, NULL, 'T'},
											{"late-share", required_argument, NULL, 'l'},
											{"late-ms", required_argument, NULL, 'L'},
											{"pace", required_argument, NULL, 'P'},
											{"sentinel", no_argument, NULL, 'S'},
											{"ysb", no_argument, NULL, 'y'},
											{"help", no_argument, NULL, 'h'},
											{NULL, 0, NULL, 0}};
	NexmarkSpec *spec = &job->spec;
	int index;
	int c;

	spec->seed = 1;
	spec->start_us = DEFAULT_START_US;
	spec->rate = 10000;
	spec->group = 1;
	spec->late_us = 8000000;
	job->count = -1;
	job->partitions = 2;
	while ((c = getopt_long(argc, argv, "", options, &index)) != -1)
	{
		double number = 0;

		if (strchr("nfpsrgTlLP", c) != NULL)
			number = parse_number(options[index].name, optarg);
		switch (c)
		{
			case 'b':
				job->brokers = optarg;
				break;
			case 't':
				job->topic = optarg;
				break;
			case 'c':
				job->csv_path = optarg;
				break;
			case 'a':
				job->ads_path = optarg;
				break;
			case 'n':
				job->count = (int64_t) number;
				break;
			case 'f':
				job->first = (int64_t) number;
				break;
			case 'p':
				job->partitions = (int) number;
				break;
			case 's':
				spec->seed = (uint64_t) number;
				break;
			case 'r':
				spec->rate = number;
				break;
			case 'g':
				spec->group = (int64_t) number;
				break;
			case 'T':
				spec->start_us = (int64_t) (number * 1000) * 1000;
				break;
			case 'l':
				spec->late_share = number;
				break;
			case 'L':
				spec->late_us = (int64_t) (number * 1000);
				break;
			case 'P':
				job->pace = number;
				break;
			case 'S':
				job->sentinel = true;
				break;
			case 'y':
				job->ysb = true;
				break;
			default:
				usage(c == 'h' ? stdout : stderr);
				exit(c != 'h');
		}
	}
	if (optind != argc || job->count < 0 || (job->topic == NULL) != (job->brokers == NULL))
	{
		usage(stderr);
		exit(1);
	}
	if (job->partitions < 1 || spec->rate <= 0 || spec->group < 1 || spec->group % 953 == 0 ||
		spec->late_us < 1000)
		die("an argument is out of range");
	if (job->pace > 0)
	{
		spec->rate = job->pace;
		/* the client is connected by then */
		job->begin = now_s() + 0.2;
		spec->start_us = (int64_t) (job->begin * 1e6);
		/* the event at the first place is due first */
		spec->start_us -= (int64_t) ((double) job->first * 1000 / spec->rate) * 1000;
	}
}

static FILE *
open_file(const char *path)
{
	FILE *file = strcmp(path, "-") == 0 ? stdout : fopen(path, "w");

	if (file == NULL)
		die("could not open file \"%s\": %s", path, strerror(errno));
	return file;
}

static void
close_file(FILE *file, const char *path)
{
	if (fflush(file) != 0 || ferror(file) || (file != stdout && fclose(file) != 0))
		die("could not write file \"%s\": %s", path, strerror(errno));
}

static void
write_ads(const char *path)
{
	FILE *file = open_file(path);
	char line[NEXMARK_MAX_SIZE];

	for (int ad = 0; ad < YSB_ADS; ad++)
		fwrite(line, 1, ysb_ad_csv(ad, line), file);
	close_file(file, path);
}

static rd_kafka_t *
producer_open(const Job *job)
{
	const char *settings[][2] = {{"bootstrap.servers", job->brokers},
								 {"compression.codec", "lz4"},
								 {"enable.idempotence", "true"},
								 {"delivery.report.only.error", "true"},
								 {"linger.ms", job->pace > 0 ? "1" : "20"},
								 {"batch.size", "1000000"},
								 {"batch.num.messages", "10000"},
								 {"queue.buffering.max.messages", "400000"},
								 {"queue.buffering.max.kbytes", "400000"},
								 {"log_level", "3"}};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char error[512];
	rd_kafka_t *rk;

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
	{
		if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], error, sizeof(error)) !=
			RD_KAFKA_CONF_OK)
			die("%s", error);
	}
	rd_kafka_conf_set_dr_msg_cb(conf, delivery_report);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (rk == NULL)
		die("could not create the producer: %s", error);
	return rk;
}

/* Called for failures only. */
static void
delivery_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	(void) rk;
	(void) opaque;
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR && failed_deliveries++ == 0)
		fprintf(stderr, "nexmark: %s\n", rd_kafka_err2str(message->err));
}

/* rk and csv may be NULL. */
static void
send_all(const Job *job, rd_kafka_t *rk, rd_kafka_topic_t *topic, FILE *csv)
{
	static rd_kafka_message_t messages[BLOCK_EVENTS];
	static char texts[BLOCK_EVENTS][NEXMARK_MAX_SIZE];
	int64_t count = job->count + (job->sentinel ? job->partitions : 0);

	for (int64_t done = 0; done < count;)
	{
		int64_t n = count - done < BLOCK_EVENTS ? count - done : BLOCK_EVENTS;

		if (job->pace > 0)
		{
			int64_t due = due_now(job, rk, done);

			n = due < n ? due : n;
		}
		for (int64_t i = 0; i < n; i++)
		{
			int64_t place = job->first + done + i;

			memset(&messages[i], 0, sizeof(messages[i]));
			messages[i].payload = texts[i];
			messages[i].len = event_write(job, place, texts[i], csv);
			messages[i].partition = (int32_t) (place % job->partitions);
		}
		if (rk != NULL)
			block_send(rk, topic, messages, (int) n);
		done += n;
	}
}

static size_t
event_write(const Job *job, int64_t place, char *json, FILE *csv)
{
	bool sentinel = place >= job->first + job->count;
	int64_t ahead_us = job->spec.start_us + SENTINEL_AHEAD_US +
					   (int64_t) ((double) place / job->spec.rate) * 1000000;
	char line[NEXMARK_MAX_SIZE];
	size_t line_len;
	size_t len;

	if (job->ysb)
	{
		YsbEvent event;

		ysb_make(&job->spec, place, &event);
		if (sentinel)
			event.time_us = ahead_us;
		len = ysb_json(&event, json);
		line_len = csv == NULL ? 0 : ysb_csv(&event, place, sentinel, line);
	}
	else
	{
		NexmarkEvent event;

		if (sentinel)
			nexmark_sentinel(&job->spec, place, ahead_us, &event);
		else
			nexmark_make(&job->spec, place, &event);
		len = nexmark_json(&event, json);
		line_len = csv == NULL ? 0 : nexmark_csv(&event, place, sentinel, line);
	}
	if (csv != NULL && fwrite(line, 1, line_len, csv) != line_len)
		die("could not write: %s", strerror(errno));
	return len;
}

/* Hand over to the client, waiting while its queue is full. */
static void
block_send(rd_kafka_t *rk, rd_kafka_topic_t *topic, rd_kafka_message_t *messages, int count)
{
	while (count > 0)
	{
		int left = 0;

		rd_kafka_produce_batch(topic,
							   RD_KAFKA_PARTITION_UA,
							   RD_KAFKA_MSG_F_COPY | RD_KAFKA_MSG_F_PARTITION,
							   messages,
							   count);
		for (int i = 0; i < count; i++)
		{
			if (messages[i].err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
				messages[left++] = messages[i];
			else if (messages[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
				die("could not send: %s", rd_kafka_err2str(messages[i].err));
		}
		rd_kafka_poll(rk, left > 0 ? 10 : 0);
		count = left;
	}
}

/* How many events are due and not sent; waits until there is one. */
static int64_t
due_now(const Job *job, rd_kafka_t *rk, int64_t done)
{
	for (;;)
	{
		double passed = now_s() - job->begin;
		int64_t due = passed < 0 ? 0 : (int64_t) (passed * job->pace) + 1;

		if (due > done)
			return due - done;
		if (rk != NULL)
			rd_kafka_poll(rk, 1);
		else
			nanosleep(&(struct timespec){0, 1000000}, NULL);
	}
}

static double
now_s(void)
{
	struct timeval tv;

	gettimeofday(&tv, NULL);
	return (double) tv.tv_sec + (double) tv.tv_usec / 1e6;
}
