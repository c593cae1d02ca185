/*
 * sampler.c
 *	  Which topics are there, and what do some of their records look like?
 *
 * A session asks and waits, unlike a worker, which never waits for a broker.
 * But its waits end with any interrupt, and after a time; nothing here calls
 * what blocks in librdkafka.
 *
 * A topic is read in rounds, each with one stretch of consecutive records from
 * each of some partitions: the beginnings of the logs, together with all of
 * the logs that are short; then the ends of the others.  If nothing but
 * tombstones was found, a third round looks for values anywhere.
 *
 * Memory: records are copied out of librdkafka's, up to a number of bytes; of
 * a stretch that has had its share, none more are taken.  What palloc does not
 * know is given back by the sampler's reset callback.
 */
#include "postgres.h"

#include <unistd.h>

#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errors.h"
#include "monitor/wait_event.h"
#include "source/kafka/client.h"
#include "source/kafka/record.h"
#include "source/kafka/sampler.h"

#define REFRESH_MS		 300000
#define MAX_PARTITIONS	 64				   /* read of one topic */
#define MAX_RECORD_BYTES (4 * 1024 * 1024) /* longer ones are left out */
#define MAX_BYTES		 (64 * 1024 * 1024)
#define FIRST_SHARE		 5 /* one in so many is from a log's beginning */
#define BATCH			 64
#define SLICE_MS		 100
#define FETCH_WAIT_MS	 10
#define GIVE_UP_US		 (3 * INT64CONST(1000000)) /* all brokers have been down for so long */

/* Consecutive records of a partition. */
typedef struct Stretch
{
	int32 partition;
	int64 from;
	int64 until;
	int wanted;
	bool first; /* the beginning of a longer log */
	bool done;
	Size bytes;
	rd_kafka_queue_t *queue;
} Stretch;

struct CqKafkaSampler
{
	MemoryContext context;
	MemoryContextCallback on_reset;
	bool open;
	char *server;
	CqKafkaSettings *settings;
	CqKafkaClient *client;
	int wake[2]; /* a pipe: to read from, to write to */
	int64 timeout_us;
	uint64 next_ticket;
	int64 deadline_us; /* of the present wait; monotonic, as the following */
	int64 answered_us;
	int64 down_us; /* since when no broker could be reached; 0 = some can */

	/* reading a topic */
	const char *topic;
	Stretch *stretches;
	int nstretches;
	bool values_only;
	Size bytes;
	Size stretch_bytes; /* each stretch's share */
	rd_kafka_message_t *messages[BATCH];
	int nmessages;
	rd_kafka_resp_err_t error; /* that ended a stretch */
	CqSample *sample;
	int capacity; /* of its records */
};

static void release(void *arg);
static void begin_wait(CqKafkaSampler *s);
static bool wait_for_news(CqKafkaSampler *s);
static void check_health(CqKafkaSampler *s);
static void unreachable(CqKafkaSampler *s, rd_kafka_resp_err_t error) CQ_NORETURN;
static CqKafkaAnswer *next_answer(CqKafkaSampler *s);
static List *unpack_topics(const CqKafkaAnswer *answer);
static int compare_topics(const ListCell *a, const ListCell *b);
static CqKafkaAnswer *ask_logs(CqKafkaSampler *s, const CqKafkaTopic *topic);
static int usable_logs(CqKafkaLog *logs, int n, rd_kafka_resp_err_t *error);
static int choose_partitions(CqKafkaLog *logs, int n, int size, int *wanted);
static int compare_lengths(const void *a, const void *b);
static void plan_round(CqKafkaSampler *s, const CqKafkaLog *logs, const int *wanted, int n,
					   int round);
static void read_round(CqKafkaSampler *s);
static void stretches_open(CqKafkaSampler *s);
static void drop_messages(CqKafkaSampler *s, Stretch *stretch);
static void stretches_close(CqKafkaSampler *s);
static void change_assignment(CqKafkaSampler *s, bool add);
static bool read_stretch(CqKafkaSampler *s, Stretch *stretch);
static void take_message(CqKafkaSampler *s, Stretch *stretch, rd_kafka_message_t *message);
static void keep_record(CqKafkaSampler *s, Stretch *stretch, rd_kafka_message_t *message);
static char *copy_bytes(const void *bytes, Size len);
static int count_values(const CqSample *sample);
static int compare_records(const void *a, const void *b);

CqKafkaSampler *
cq_kafka_sampler_open(Oid server, Oid user, int64 timeout_us)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pipeline kafka sampler",
												  ALLOCSET_DEFAULT_SIZES);
	CqKafkaSampler *s = MemoryContextAllocZero(context, sizeof(CqKafkaSampler));
	CqKafkaFetching fetching = {.npartitions = MAX_PARTITIONS, .wait_ms = FETCH_WAIT_MS};

	s->context = context;
	s->open = true;
	s->wake[0] = s->wake[1] = -1;
	s->timeout_us = timeout_us;
	s->on_reset.func = release;
	s->on_reset.arg = s;
	MemoryContextRegisterResetCallback(context, &s->on_reset);
	PG_TRY();
	{
		s->server = MemoryContextStrdup(context, GetForeignServer(server)->servername);
		s->settings = cq_kafka_settings_load(server, user, context);
		cq_kafka_wake_pipe(s->wake, s->server);
		s->client = cq_kafka_client_open(s->settings, &fetching, NULL, REFRESH_MS, s->wake[1]);
	}
	PG_CATCH();
	{
		MemoryContextDelete(context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return s;
}

void
cq_kafka_sampler_close(CqKafkaSampler *s)
{
	MemoryContextDelete(s->context);
}

/* Neither throws nor allocates; fine for what is only half open. */
static void
release(void *arg)
{
	CqKafkaSampler *s = arg;
	int i;

	if (!s->open)
		return;
	s->open = false;
	stretches_close(s);
	cq_kafka_client_close(s->client);
	s->client = NULL;
	for (i = 0; i < 2; i++)
		if (s->wake[i] >= 0)
			close(s->wake[i]);
	cq_kafka_settings_wipe(s->settings);
}

static void
begin_wait(CqKafkaSampler *s)
{
	s->deadline_us = cq_kafka_clock_us() + s->timeout_us;
}

/* Wait until there may be something new, with interrupts.  False if the time is over. */
static bool
wait_for_news(CqKafkaSampler *s)
{
	int64 left_us = s->deadline_us - cq_kafka_clock_us();

	if (left_us <= 0)
		return false;
	(void) WaitLatchOrSocket(MyLatch,
							 WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 s->wake[0],
							 (long) Min(left_us / 1000 + 1, SLICE_MS),
							 cq_wait_event(CQ_WAIT_KAFKA_READ));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	cq_kafka_wake_drain(s->wake[0]);
	check_health(s);
	return true;
}

static void
check_health(CqKafkaSampler *s)
{
	const CqKafkaHealth *health = cq_kafka_client_events(s->client, s->server);
	int64 now_us = cq_kafka_clock_us();

	if (health->fatal)
		unreachable(s, RD_KAFKA_RESP_ERR__FATAL);
	if (health->trouble_us > s->answered_us &&
		health->last_error == RD_KAFKA_RESP_ERR__AUTHENTICATION)
		unreachable(s, health->last_error);
	if (health->all_down_us <= s->answered_us)
		s->down_us = 0;
	else if (s->down_us == 0)
		s->down_us = now_us;
	else if (now_us - s->down_us > GIVE_UP_US)
		unreachable(s, health->last_error);
}

static void
unreachable(CqKafkaSampler *s, rd_kafka_resp_err_t error)
{
	ereport(ERROR,
			errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
			errmsg("could not reach the brokers of server \"%s\"", s->server),
			error != RD_KAFKA_RESP_ERR_NO_ERROR
				? errdetail("The Kafka client reports: %s.", rd_kafka_err2str(error))
				: 0,
			error == RD_KAFKA_RESP_ERR__AUTHENTICATION
				? errhint("Compare the options of the user mapping, and \"security.protocol\" and "
						  "\"sasl.mechanism\" of the server, with what the brokers ask for.")
				: errhint("Compare the server's options \"bootstrap_servers\" and "
						  "\"security.protocol\" with the addresses that the brokers listen on.  "
						  "What the client met with is in the log of PostgreSQL."));
}

/* The next answer in PostgreSQL's memory; waits for it. */
static CqKafkaAnswer *
next_answer(CqKafkaSampler *s)
{
	CqKafkaAnswer *answer;
	CqKafkaAnswer *copy;
	Size size;

	while ((answer = cq_kafka_control_take(cq_kafka_client_control(s->client))) == NULL)
		if (!wait_for_news(s))
			unreachable(s, RD_KAFKA_RESP_ERR__TIMED_OUT);
	size = sizeof(CqKafkaAnswer) + sizeof(CqKafkaLog) * answer->nlogs + answer->topics_size;
	copy =
		MemoryContextAllocExtended(CurrentMemoryContext, size, MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
	if (copy)
		memcpy(copy, answer, size);
	free(answer);
	if (copy == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	if (copy->error == RD_KAFKA_RESP_ERR_NO_ERROR)
		s->answered_us = cq_kafka_clock_us();
	return copy;
}

List *
cq_kafka_sampler_topics(CqKafkaSampler *s)
{
	begin_wait(s);
	for (;;)
	{
		CqKafkaAnswer *answer = next_answer(s);

		if (answer->kind != CQ_KAFKA_ANSWER_TOPICS)
			continue;
		if (answer->error == RD_KAFKA_RESP_ERR_NO_ERROR)
			return unpack_topics(answer);
		if (cq_kafka_clock_us() >= s->deadline_us)
			unreachable(s, answer->error);
	}
}

static List *
unpack_topics(const CqKafkaAnswer *answer)
{
	const char *p = (const char *) answer->logs;
	List *topics = NIL;
	int i;

	for (i = 0; i < answer->ntopics; i++)
	{
		CqKafkaTopic *topic = palloc(sizeof(CqKafkaTopic));

		topic->name = pstrdup(p);
		p += strlen(p) + 1;
		topic->npartitions = atoi(p);
		p += strlen(p) + 1;
		topics = lappend(topics, topic);
	}
	list_sort(topics, compare_topics);
	return topics;
}

static int
compare_topics(const ListCell *a, const ListCell *b)
{
	return strcmp(((CqKafkaTopic *) lfirst(a))->name, ((CqKafkaTopic *) lfirst(b))->name);
}

CqSample *
cq_kafka_sampler_read(CqKafkaSampler *s, const CqKafkaTopic *topic, int size, const char **problem)
{
	CqSample *sample = palloc0(sizeof(CqSample));
	CqKafkaAnswer *answer;
	rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;
	int *wanted;
	int n;
	int round;

	begin_wait(s);
	s->topic = topic->name;
	s->sample = sample;
	s->bytes = 0;
	s->capacity = 0;
	s->error = RD_KAFKA_RESP_ERR_NO_ERROR;
	sample->topic_partitions = topic->npartitions;
	answer = ask_logs(s, topic);
	n = usable_logs(answer->logs, answer->nlogs, &error);
	if (answer->error != RD_KAFKA_RESP_ERR_NO_ERROR)
		error = answer->error;
	wanted = palloc(sizeof(int) * (n + 1));
	n = choose_partitions(answer->logs, n, size, wanted);
	sample->npartitions = n;
	for (round = 0; round < 3 && n > 0 && s->error == RD_KAFKA_RESP_ERR_NO_ERROR; round++)
	{
		if (round == 2 && count_values(sample) > 0)
			break;
		plan_round(s, answer->logs, wanted, n, round);
		read_round(s);
	}
	if (sample->nrecords == 0 && error == RD_KAFKA_RESP_ERR_NO_ERROR)
		error = s->error;
	if (sample->nrecords == 0 && error != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		*problem = psprintf("The brokers answered: %s.", rd_kafka_err2str(error));
		return NULL;
	}
	qsort(sample->records, sample->nrecords, sizeof(CqSampleRecord), compare_records);
	return sample;
}

static CqKafkaAnswer *
ask_logs(CqKafkaSampler *s, const CqKafkaTopic *topic)
{
	int32 *ids = palloc(sizeof(int32) * (topic->npartitions + 1));
	uint64 ticket = ++s->next_ticket;
	CqKafkaAnswer *answer;
	int i;

	for (i = 0; i < topic->npartitions; i++)
		ids[i] = i;
	if (!cq_kafka_control_ask_logs_of(cq_kafka_client_control(s->client),
									  topic->name,
									  ticket,
									  ids,
									  topic->npartitions))
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	do
		answer = next_answer(s);
	while (answer->kind != CQ_KAFKA_ANSWER_LOGS || answer->ticket != ticket);
	return answer;
}

/* Move the logs that have something in them to the front.  *error: what one is not known for. */
static int
usable_logs(CqKafkaLog *logs, int n, rd_kafka_resp_err_t *error)
{
	int usable = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		if (logs[i].error != RD_KAFKA_RESP_ERR_NO_ERROR)
			*error = logs[i].error;
		else if (logs[i].high > logs[i].low)
			logs[usable++] = logs[i];
	}
	return usable;
}

/*
 * Choose partitions evenly if there are too many, and divide size records among
 * them: what a short log does not have, longer ones give.
 */
static int
choose_partitions(CqKafkaLog *logs, int n, int size, int *wanted)
{
	int chosen = Min(n, MAX_PARTITIONS);
	int i;

	for (i = 0; i < chosen; i++)
		logs[i] = logs[(int64) i * n / chosen];
	qsort(logs, chosen, sizeof(CqKafkaLog), compare_lengths);
	for (i = 0; i < chosen; i++)
	{
		int share = Max(size / (chosen - i), 1);

		wanted[i] = (int) Min(logs[i].high - logs[i].low, share);
		size = Max(size - wanted[i], 0);
	}
	return chosen;
}

static int
compare_lengths(const void *a, const void *b)
{
	const CqKafkaLog *left = a;
	const CqKafkaLog *right = b;
	int64 difference = (left->high - left->low) - (right->high - right->low);

	if (difference == 0)
		return left->id - right->id;
	return difference < 0 ? -1 : 1;
}

static void
plan_round(CqKafkaSampler *s, const CqKafkaLog *logs, const int *wanted, int n, int round)
{
	int i;

	s->stretches = MemoryContextAllocZero(s->context, sizeof(Stretch) * n);
	s->nstretches = 0;
	s->values_only = round == 2;
	s->stretch_bytes = MAX_BYTES / 2 / n;
	for (i = 0; i < n; i++)
	{
		Stretch *stretch = &s->stretches[s->nstretches];
		int64 length = logs[i].high - logs[i].low;
		bool whole = length <= wanted[i] || round == 2;
		int first = wanted[i] == 1 ? 0 : Max(wanted[i] / FIRST_SHARE, 1);

		if (round == 0)
			s->sample->log_length += length;
		stretch->partition = logs[i].id;
		stretch->from = logs[i].low;
		stretch->until = logs[i].high;
		stretch->wanted = wanted[i];
		if (!whole && round == 0)
		{
			stretch->first = true;
			stretch->until = logs[i].low + first;
		}
		else if (!whole)
			stretch->from = logs[i].high - (wanted[i] - first);
		if ((whole ? round != 1 : true) && stretch->from < stretch->until)
			s->nstretches++;
		else
			MemSet(stretch, 0, sizeof(Stretch));
	}
}

/* Read all stretches at the same time, until each is done. */
static void
read_round(CqKafkaSampler *s)
{
	int left = s->nstretches;
	int i;

	begin_wait(s);
	stretches_open(s);
	while (left > 0)
	{
		bool moved = false;

		left = 0;
		for (i = 0; i < s->nstretches; i++)
		{
			moved |= read_stretch(s, &s->stretches[i]);
			left += !s->stretches[i].done;
		}
		CHECK_FOR_INTERRUPTS();
		if (left == 0 || moved)
			continue;
		if (!wait_for_news(s))
		{
			if (s->sample->nrecords == 0 && !s->values_only)
				unreachable(s, RD_KAFKA_RESP_ERR__TIMED_OUT);
			break;
		}
	}
	stretches_close(s);
}

/* Queues are separated before anything is fetched, and hold nothing of an earlier round. */
static void
stretches_open(CqKafkaSampler *s)
{
	rd_kafka_t *handle = cq_kafka_client_handle(s->client);
	int i;

	for (i = 0; i < s->nstretches; i++)
	{
		Stretch *stretch = &s->stretches[i];

		stretch->queue = rd_kafka_queue_get_partition(handle, s->topic, stretch->partition);
		if (stretch->queue == NULL)
		{
			stretch->done = true;
			continue;
		}
		rd_kafka_queue_forward(stretch->queue, NULL);
		drop_messages(s, stretch);
		rd_kafka_queue_io_event_enable(stretch->queue, cq_kafka_client_wake_fd(s->client), "", 1);
	}
	change_assignment(s, true);
}

static void
drop_messages(CqKafkaSampler *s, Stretch *stretch)
{
	ssize_t n;
	ssize_t i;

	do
	{
		n = rd_kafka_consume_batch_queue(stretch->queue, 0, s->messages, BATCH);
		for (i = 0; i < n; i++)
			rd_kafka_message_destroy(s->messages[i]);
	} while (n > 0);
}

/* Gives back everything that librdkafka lent; neither throws nor allocates PostgreSQL's memory. */
static void
stretches_close(CqKafkaSampler *s)
{
	int i;

	for (i = 0; i < s->nmessages; i++)
		if (s->messages[i] != NULL)
			rd_kafka_message_destroy(s->messages[i]);
	s->nmessages = 0;
	for (i = 0; i < s->nstretches; i++)
	{
		if (s->stretches[i].queue == NULL)
			continue;
		rd_kafka_queue_io_event_enable(s->stretches[i].queue, -1, NULL, 0);
		rd_kafka_queue_destroy(s->stretches[i].queue);
		s->stretches[i].queue = NULL;
	}
	if (s->nstretches > 0)
		change_assignment(s, false);
	s->nstretches = 0;
}

/* A failure shows in that nothing can be read. */
static void
change_assignment(CqKafkaSampler *s, bool add)
{
	rd_kafka_t *handle = cq_kafka_client_handle(s->client);
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_error_t *error;
	int i;

	list = rd_kafka_topic_partition_list_new(s->nstretches);
	for (i = 0; i < s->nstretches; i++)
		rd_kafka_topic_partition_list_add(list, s->topic, s->stretches[i].partition)->offset =
			s->stretches[i].from;
	error = add ? rd_kafka_incremental_assign(handle, list)
				: rd_kafka_incremental_unassign(handle, list);
	if (error != NULL)
	{
		s->error = rd_kafka_error_code(error);
		rd_kafka_error_destroy(error);
	}
	rd_kafka_topic_partition_list_destroy(list);
}

/* Take what has arrived of a stretch; false if that was nothing. */
static bool
read_stretch(CqKafkaSampler *s, Stretch *stretch)
{
	int i;

	if (stretch->done)
		return false;
	s->nmessages = (int) rd_kafka_consume_batch_queue(stretch->queue, 0, s->messages, BATCH);
	if (s->nmessages <= 0)
	{
		s->nmessages = 0;
		return false;
	}
	s->answered_us = cq_kafka_clock_us();
	for (i = 0; i < s->nmessages; i++)
	{
		if (!stretch->done)
			take_message(s, stretch, s->messages[i]);
		rd_kafka_message_destroy(s->messages[i]);
		s->messages[i] = NULL;
	}
	s->nmessages = 0;
	return true;
}

static void
take_message(CqKafkaSampler *s, Stretch *stretch, rd_kafka_message_t *message)
{
	if (cq_kafka_error_passes(message->err))
		return;
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		stretch->done = true;
		/* the log's end, or retention was faster: no failure */
		if (message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF &&
			message->err != RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
			s->error = message->err;
		return;
	}
	if (message->offset < stretch->until)
		keep_record(s, stretch, message);
	if (message->offset >= stretch->until - 1 || stretch->wanted == 0 ||
		stretch->bytes >= s->stretch_bytes || s->bytes >= MAX_BYTES)
		stretch->done = true;
}

static void
keep_record(CqKafkaSampler *s, Stretch *stretch, rd_kafka_message_t *message)
{
	CqSample *sample = s->sample;
	Size len = message->len + message->key_len;
	CqSampleRecord *record;
	rd_kafka_headers_t *headers;

	if (message->payload == NULL && s->values_only)
		return;
	if (len > MAX_RECORD_BYTES)
	{
		sample->nskipped++;
		return;
	}
	if (sample->nrecords == s->capacity)
	{
		s->capacity = Max(s->capacity * 2, 256);
		sample->records = sample->records
							  ? repalloc_huge(sample->records, sizeof(CqSampleRecord) * s->capacity)
							  : palloc(sizeof(CqSampleRecord) * s->capacity);
	}
	record = &sample->records[sample->nrecords];
	record->partition = message->partition;
	record->offset = message->offset;
	record->timestamp = cq_kafka_message_timestamp(message);
	record->has_headers = rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR;
	record->key_len = message->key ? message->key_len : 0;
	record->key = copy_bytes(message->key, record->key_len);
	record->value_len = message->payload ? message->len : 0;
	record->value = copy_bytes(message->payload, record->value_len);
	sample->nrecords++;
	sample->nfirst += stretch->first;
	stretch->wanted--;
	stretch->bytes += len;
	s->bytes += len;
}

static char *
copy_bytes(const void *bytes, Size len)
{
	char *copy;

	if (bytes == NULL)
		return NULL;
	copy = palloc(len + 1);
	memcpy(copy, bytes, len);
	copy[len] = '\0';
	return copy;
}

static int
count_values(const CqSample *sample)
{
	int count = 0;
	int i;

	for (i = 0; i < sample->nrecords; i++)
		count += sample->records[i].value != NULL;
	return count;
}

static int
compare_records(const void *a, const void *b)
{
	const CqSampleRecord *left = a;
	const CqSampleRecord *right = b;

	if (left->partition != right->partition)
		return left->partition < right->partition ? -1 : 1;
	if (left->offset != right->offset)
		return left->offset < right->offset ? -1 : 1;
	return 0;
}
