/*
 * read.c
 *	  A topic as it is now, or parts of it, from the first record to the last.
 *
 * Unlike a source this waits: the caller has nothing else to do.  It waits for its
 * latch and the client's pipe only, so that interrupts are answered at once, and
 * no longer than the brokers may be silent.
 *
 * Memory: the client keeps a queue per partition that is read, and only
 * MAX_OPEN are at a time.  All of it hangs in a context whose reset gives back what
 * palloc does not know; also before the process exits.
 */
#include "postgres.h"

#include <unistd.h>

#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "errors.h"
#include "monitor/wait_event.h"
#include "source/kafka/read_state.h"

#define MAX_OPEN		8 /* partitions read at a time */
#define FETCH_WAIT_MS	5 /* there is no use in waiting for what is not wanted */
#define REFRESH_MS		300000
#define LONGEST_WAIT_MS 1000

static dlist_head open_reads = DLIST_STATIC_INIT(open_reads);

static void read_connect(CqKafkaRead *read, const CqKafkaReadTopic *topic);
static void read_rewind(CqKafkaRead *read);
static int64 lowest_time(const CqKafkaSlice *slices, int nslices);
static void open_logs(CqKafkaRead *read);
static bool fetch(CqKafkaRead *read);
static bool fetch_from(CqKafkaRead *read, int index);
static void give_back(CqKafkaRead *read);
static void check_health(CqKafkaRead *read);
static void refuse_silence(CqKafkaRead *read);
static void release(void *arg);
static void release_all(void);

CqKafkaRead *
cq_kafka_read_open(const CqKafkaReadTopic *topic, MemoryContext parent)
{
	MemoryContext context =
		AllocSetContextCreate(parent, "pipeline kafka read", ALLOCSET_DEFAULT_SIZES);
	CqKafkaRead *read = MemoryContextAllocZero(context, sizeof(CqKafkaRead));

	read->context = context;
	read->wake_read = -1;
	read->wake_write = -1;
	read->nlogs = -1;
	read->from_ms = CQ_KAFKA_ANY_TIME;
	read->open = true;
	dlist_push_head(&open_reads, &read->node);
	read->on_reset.func = release;
	read->on_reset.arg = read;
	MemoryContextRegisterResetCallback(context, &read->on_reset);
	cq_kafka_client_at_exit(release_all);
	PG_TRY();
	{
		read_connect(read, topic);
	}
	PG_CATCH();
	{
		MemoryContextDelete(context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return read;
}

static void
read_connect(CqKafkaRead *read, const CqKafkaReadTopic *topic)
{
	CqKafkaFetching fetching = {.npartitions = MAX_OPEN, .wait_ms = FETCH_WAIT_MS};
	MemoryContext old = MemoryContextSwitchTo(read->context);
	ListCell *lc;
	int ends[2];

	read->ranges =
		AllocSetContextCreate(read->context, "pipeline kafka ranges", ALLOCSET_SMALL_SIZES);
	read->topic = pstrdup(topic->topic);
	read->name = pstrdup(topic->name);
	read->server = GetForeignServer(topic->server_id)->servername;
	read->wanted = palloc(sizeof(int32) * (list_length(topic->partition_ids) + 1));
	foreach (lc, topic->partition_ids)
		read->wanted[read->nwanted++] = lfirst_int(lc);
	read->settings = cq_kafka_settings_load(topic->server_id, topic->user, read->context);
	read->timeout_ms = cq_kafka_settings_timeout_ms(read->settings);
	cq_kafka_wake_pipe(ends, read->name);
	read->wake_read = ends[0];
	read->wake_write = ends[1];
	read->client =
		cq_kafka_client_open(read->settings, &fetching, read->topic, REFRESH_MS, read->wake_write);
	cq_kafka_read_heard(read);
	MemoryContextSwitchTo(old);
}

const CqKafkaBounds *
cq_kafka_read_bounds(CqKafkaRead *read, int *n)
{
	CqKafkaBounds *bounds;
	int i;

	cq_kafka_read_find_logs(read);
	bounds = palloc(sizeof(CqKafkaBounds) * (read->nlogs + 1));
	for (i = 0; i < read->nlogs; i++)
		bounds[i] = read->logs[i].bounds;
	*n = read->nlogs;
	return bounds;
}

void
cq_kafka_read_fail(CqKafkaRead *read, rd_kafka_resp_err_t error)
{
	if (error == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
		error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("topic \"%s\" of stream \"%s\" does not exist", read->topic, read->name),
				errdetail("So say the brokers of server \"%s\".", read->server));
	ereport(ERROR,
			errcode(ERRCODE_FDW_ERROR),
			errmsg("cannot read topic \"%s\" of stream \"%s\"", read->topic, read->name),
			errdetail("The Kafka client reports: %s.", rd_kafka_err2str(error)));
}

void
cq_kafka_read_start(CqKafkaRead *read, const CqKafkaSlice *slices, int nslices)
{
	int64 from_ms = lowest_time(slices, nslices);
	int i;

	cq_kafka_read_find_logs(read);
	read_rewind(read);
	if (from_ms != CQ_KAFKA_ANY_TIME && from_ms != read->from_ms && read->nlogs > 0)
		cq_kafka_read_ask_bounds(read, from_ms);
	MemoryContextReset(read->ranges);
	for (i = 0; i < read->nlogs; i++)
		cq_kafka_read_log_plan(read, &read->logs[i], slices, nslices);
	cq_kafka_read_heard(read);
}

static void
read_rewind(CqKafkaRead *read)
{
	int i;

	give_back(read);
	for (i = 0; i < read->nlogs; i++)
		if (read->logs[i].assigned)
			cq_kafka_read_log_finish(read, &read->logs[i]);
	Assert(read->nopen == 0);
	read->next_log = 0;
}

/* Of several times the lowest stands for all: it leaves out least.  ANY is lower than any. */
static int64
lowest_time(const CqKafkaSlice *slices, int nslices)
{
	int64 lowest = PG_INT64_MAX;
	int i;

	for (i = 0; i < nslices; i++)
		if (slices[i].from_ms != CQ_KAFKA_ANY_TIME)
			lowest = Min(lowest, slices[i].from_ms);
	return lowest == PG_INT64_MAX ? CQ_KAFKA_ANY_TIME : lowest;
}

const CqRecord *
cq_kafka_read_next(CqKafkaRead *read)
{
	bool waited = false;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		while (read->taken < read->count)
			if (cq_kafka_read_log_accept(read, read->messages[read->taken++]))
				return &read->record;
		give_back(read);
		open_logs(read);
		if (read->nopen == 0)
			return NULL;
		if (fetch(read))
			continue;
		/* the time in which nobody asked does not count */
		if (!waited)
			cq_kafka_read_heard(read);
		waited = true;
		cq_kafka_read_wait(read);
	}
}

static void
open_logs(CqKafkaRead *read)
{
	for (; read->nopen < MAX_OPEN && read->next_log < read->nlogs; read->next_log++)
		if (read->logs[read->next_log].nranges > 0)
			cq_kafka_read_log_open(read, &read->logs[read->next_log]);
}

/* Take messages out of one partition's queue, the next that has some.  False if none has. */
static bool
fetch(CqKafkaRead *read)
{
	int i;

	for (i = 1; i <= read->nlogs; i++)
	{
		int index = (read->turn + i) % read->nlogs;

		if (read->logs[index].queue != NULL && fetch_from(read, index))
		{
			read->turn = index;
			return true;
		}
	}
	return false;
}

static bool
fetch_from(CqKafkaRead *read, int index)
{
	CqReadLog *log = &read->logs[index];
	ssize_t n;

	if (rd_kafka_queue_length(log->queue) == 0)
		return false;
	n = rd_kafka_consume_batch_queue(log->queue, 0, read->messages, CQ_READ_BATCH);
	if (n <= 0)
		return false;
	read->current = index;
	read->count = (int) n;
	read->taken = 0;
	cq_kafka_read_log_took(read, log, (int) n);
	return true;
}

static void
give_back(CqKafkaRead *read)
{
	int i;

	if (read->count > 0)
		cq_kafka_read_heard(read);
	for (i = 0; i < read->count; i++)
		rd_kafka_message_destroy(read->messages[i]);
	read->count = 0;
	read->taken = 0;
}

void
cq_kafka_read_wait(CqKafkaRead *read)
{
	int64 left_ms;

	check_health(read);
	left_ms = read->timeout_ms - (cq_kafka_clock_us() - read->heard_us) / 1000;
	if (left_ms <= 0)
		refuse_silence(read);
	(void) WaitLatchOrSocket(MyLatch,
							 WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 read->wake_read,
							 (long) Min(left_ms, LONGEST_WAIT_MS),
							 cq_wait_event(CQ_WAIT_KAFKA_READ));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	cq_kafka_wake_drain(read->wake_read);
}

/* A name or password that is refused once will be refused again. */
static void
check_health(CqKafkaRead *read)
{
	const CqKafkaHealth *health = cq_kafka_client_events(read->client, read->name);

	if (health->last_error != RD_KAFKA_RESP_ERR_NO_ERROR)
		read->failure = health->last_error;
	if (health->last_error == RD_KAFKA_RESP_ERR__AUTHENTICATION &&
		health->trouble_us > read->heard_us)
		cq_kafka_read_fail(read, RD_KAFKA_RESP_ERR__AUTHENTICATION);
}

void
cq_kafka_read_heard(CqKafkaRead *read)
{
	read->heard_us = cq_kafka_clock_us();
}

static void
refuse_silence(CqKafkaRead *read)
{
	ereport(ERROR,
			errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
			errmsg("could not read topic \"%s\" of stream \"%s\"", read->topic, read->name),
			errdetail("The brokers of server \"%s\" did not answer for %d milliseconds; the last "
					  "problem was: %s.",
					  read->server,
					  read->timeout_ms,
					  read->failure == RD_KAFKA_RESP_ERR_NO_ERROR
						  ? "none"
						  : rd_kafka_err2str(read->failure)),
			errhint("How long to wait is the server's option \"socket.timeout.ms\"."));
}

void
cq_kafka_read_stats(const CqKafkaRead *read, CqKafkaReadStats *stats)
{
	int i;

	*stats = read->stats;
	for (i = 0; i < read->nlogs; i++)
		stats->touched += read->logs[i].touched;
}

void
cq_kafka_read_close(CqKafkaRead *read)
{
	MemoryContextDelete(read->context);
}

/* Neither throws nor allocates. */
static void
release(void *arg)
{
	CqKafkaRead *read = arg;
	int i;

	if (!read->open)
		return;
	read->open = false;
	dlist_delete(&read->node);
	for (i = 0; i < read->count; i++)
		rd_kafka_message_destroy(read->messages[i]);
	read->count = 0;
	for (i = 0; i < read->nlogs; i++)
		cq_kafka_read_log_close(read, &read->logs[i]);
	cq_kafka_client_close(read->client);
	read->client = NULL;
	if (read->wake_read >= 0)
		close(read->wake_read);
	if (read->wake_write >= 0)
		close(read->wake_write);
	cq_kafka_settings_wipe(read->settings);
}

static void
release_all(void)
{
	while (!dlist_is_empty(&open_reads))
		release(dlist_head_element(CqKafkaRead, node, &open_reads));
}
