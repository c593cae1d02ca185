/*
 * read.c
 *	  A topic as it is now, or parts of it, from the first record to the last.
 *
 * Unlike a source this waits: the caller has nothing else to do.  It waits for its
 * latch and the client's pipe only, so that interrupts are answered at once, and
 * no longer than the brokers may be silent.
 *
 * The ends of the logs are asked for once.  They are last stable offsets: what open
 * transactions have written is behind them, and what comes later is, too.  A log
 * has been read when a record at or behind its end is seen, or the client says
 * that there is none; the end itself need not be a record's (transactions' markers,
 * compaction).
 *
 * Which offsets are wanted of a log is a list of ranges.  Between two of them the
 * log is read and thrown away if they are near, else the client is sent on.
 *
 * Memory: the client keeps a queue per partition that is read, and only
 * MAX_OPEN are at a time.  All of it hangs in a context whose reset gives back what
 * palloc does not know; also before the process exits.
 */
#include "postgres.h"

#include <unistd.h>

#include "foreign/foreign.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "errors.h"
#include "monitor/wait_event.h"
#include "source/kafka/client.h"
#include "source/kafka/read.h"
#include "source/kafka/record.h"

#define MAX_OPEN		8	 /* partitions read at a time */
#define BATCH			256	 /* messages taken out of a queue at once */
#define NEAR_OFFSETS	1000 /* cheaper to read than to jump over */
#define FETCH_WAIT_MS	5	 /* there is no use in waiting for what is not wanted */
#define REFRESH_MS		300000
#define ASK_AGAIN_MS	200
#define LONGEST_WAIT_MS 1000

/* Offsets [start, end). */
typedef struct OffsetRange
{
	int64 start;
	int64 end;
} OffsetRange;

typedef struct ReadLog
{
	CqKafkaBounds bounds;
	int64 at_time; /* where records not before CqKafkaRead.from_ms begin */

	OffsetRange *ranges; /* ascending, apart; of the last start */
	int nranges;
	int at;			/* the one that is being read */
	int64 position; /* no record in front of it is wanted any more */
	bool touched;

	rd_kafka_queue_t *queue; /* NULL = not open */
	bool assigned;
	int queue_left; /* in it after the last fetch */
	int queue_peak; /* most since new ones last arrived */
} ReadLog;

struct CqKafkaRead
{
	MemoryContext context;
	MemoryContext ranges; /* of the last start */
	MemoryContextCallback on_reset;
	dlist_node node;
	bool open;

	char *topic;
	char *name;
	char *server;
	int nwanted; /* 0 = all */
	int32 *wanted;
	CqKafkaSettings *settings;
	CqKafkaClient *client;
	int wake_read;
	int wake_write;
	int timeout_ms;
	int64 heard_us; /* monotonic; when the last answer came, or we began to wait for one */
	rd_kafka_resp_err_t failure; /* last seen */

	int nlogs; /* -1 = not known */
	ReadLog *logs;
	uint64 ticket;
	int64 from_ms; /* that at_time of the logs is for */
	int next_log;  /* to be opened */
	int nopen;
	int turn; /* the log that was read last */

	int current; /* log that the messages in hand are of */
	int count;
	int taken;
	rd_kafka_message_t *messages[BATCH];
	CqRecord record;
	CqKafkaReadStats stats;
};

static dlist_head open_reads = DLIST_STATIC_INIT(open_reads);

static void read_connect(CqKafkaRead *read, const CqKafkaTopic *topic);
static void find_logs(CqKafkaRead *read);
static bool wants(const CqKafkaRead *read, int32 id);
static void ask_bounds(CqKafkaRead *read, int64 from_ms);
static CqKafkaAnswer *ask_logs(CqKafkaRead *read, int64 from_ms);
static bool answer_usable(CqKafkaRead *read, const CqKafkaAnswer *answer);
static CqKafkaAnswer *wait_answer(CqKafkaRead *read, CqKafkaAnswerKind kind, uint64 ticket);
static void fail_for_good(CqKafkaRead *read, rd_kafka_resp_err_t error) CQ_NORETURN;
static bool is_final(rd_kafka_resp_err_t error);
static void read_rewind(CqKafkaRead *read);
static int64 lowest_time(const CqKafkaSlice *slices, int nslices);
static void log_plan(CqKafkaRead *read, ReadLog *log, const CqKafkaSlice *slices, int nslices);
static int compare_ranges(const void *a, const void *b);
static void open_logs(CqKafkaRead *read);
static void log_open(CqKafkaRead *read, ReadLog *log);
static void log_close(CqKafkaRead *read, ReadLog *log);
static void log_finish(CqKafkaRead *read, ReadLog *log);
static void log_assign(CqKafkaRead *read, ReadLog *log, bool add);
static void log_jump(CqKafkaRead *read, ReadLog *log);
static bool fetch(CqKafkaRead *read);
static bool fetch_from(CqKafkaRead *read, int index);
static void nudge(CqKafkaRead *read, ReadLog *log, int taken);
static bool accept_message(CqKafkaRead *read, rd_kafka_message_t *message);
static void accept_error(CqKafkaRead *read, ReadLog *log, rd_kafka_message_t *message);
static void give_back(CqKafkaRead *read);
static void wait_for_news(CqKafkaRead *read);
static void check_health(CqKafkaRead *read);
static void heard(CqKafkaRead *read);
static void refuse_silence(CqKafkaRead *read);
static void release(void *arg);
static void release_all(void);

CqKafkaRead *
cq_kafka_read_open(const CqKafkaTopic *topic, MemoryContext parent)
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
read_connect(CqKafkaRead *read, const CqKafkaTopic *topic)
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
	heard(read);
	MemoryContextSwitchTo(old);
}

const CqKafkaBounds *
cq_kafka_read_bounds(CqKafkaRead *read, int *n)
{
	CqKafkaBounds *bounds;
	int i;

	find_logs(read);
	bounds = palloc(sizeof(CqKafkaBounds) * (read->nlogs + 1));
	for (i = 0; i < read->nlogs; i++)
		bounds[i] = read->logs[i].bounds;
	*n = read->nlogs;
	return bounds;
}

/* Once: which partitions there are, and from where to where their logs go. */
static void
find_logs(CqKafkaRead *read)
{
	CqKafkaAnswer *answer;
	rd_kafka_resp_err_t error;
	int npartitions;
	int i;

	if (read->nlogs >= 0)
		return;
	heard(read);
	do
	{
		answer = wait_answer(read, CQ_KAFKA_ANSWER_METADATA, 0);
		error = answer->error;
		npartitions = answer->npartitions;
		free(answer);
		if (error != RD_KAFKA_RESP_ERR_NO_ERROR && is_final(error))
			fail_for_good(read, error);
		read->failure = error;
	} while (error != RD_KAFKA_RESP_ERR_NO_ERROR);
	heard(read);
	read->logs = MemoryContextAllocZero(read->context, sizeof(ReadLog) * (npartitions + 1));
	read->nlogs = 0;
	for (i = 0; i < npartitions; i++)
		if (wants(read, i))
			read->logs[read->nlogs++].bounds.id = i;
	read->stats.partitions = read->nlogs;
	if (read->nlogs > 0)
		ask_bounds(read, CQ_KAFKA_ANY_TIME);
}

static bool
wants(const CqKafkaRead *read, int32 id)
{
	int i;

	for (i = 0; i < read->nwanted; i++)
		if (read->wanted[i] == id)
			return true;
	return read->nwanted == 0;
}

/* The bounds stay those of the first answer. */
static void
ask_bounds(CqKafkaRead *read, int64 from_ms)
{
	CqKafkaAnswer *answer = ask_logs(read, from_ms);
	int i;

	for (i = 0; i < read->nlogs; i++)
	{
		ReadLog *log = &read->logs[i];
		const CqKafkaLog *told = &answer->logs[i];

		Assert(told->id == log->bounds.id);
		if (from_ms == CQ_KAFKA_ANY_TIME)
		{
			log->bounds.low = told->low;
			log->bounds.high = told->high;
		}
		log->at_time = told->at_time;
	}
	read->from_ms = from_ms;
	free(answer);
	heard(read);
}

/* Until all partitions' brokers have answered. */
static CqKafkaAnswer *
ask_logs(CqKafkaRead *read, int64 from_ms)
{
	int32 *ids = palloc(sizeof(int32) * read->nlogs);
	int delay_ms = 0;
	int i;

	for (i = 0; i < read->nlogs; i++)
		ids[i] = read->logs[i].bounds.id;
	for (;;)
	{
		CqKafkaAnswer *answer;

		if (!cq_kafka_control_ask_logs(cq_kafka_client_control(read->client),
									   ++read->ticket,
									   ids,
									   read->nlogs,
									   from_ms == CQ_KAFKA_ANY_TIME ? CQ_KAFKA_NO_TIME : from_ms,
									   delay_ms))
			ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
		answer = wait_answer(read, CQ_KAFKA_ANSWER_LOGS, read->ticket);
		if (answer_usable(read, answer))
		{
			pfree(ids);
			return answer;
		}
		free(answer);
		if (is_final(read->failure))
			fail_for_good(read, read->failure);
		delay_ms = ASK_AGAIN_MS;
	}
}

static bool
answer_usable(CqKafkaRead *read, const CqKafkaAnswer *answer)
{
	int i;

	read->failure = answer->error;
	for (i = 0; i < answer->nlogs && read->failure == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
		read->failure = answer->logs[i].error;
	return read->failure == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* The answer is to be given to free(). */
static CqKafkaAnswer *
wait_answer(CqKafkaRead *read, CqKafkaAnswerKind kind, uint64 ticket)
{
	for (;;)
	{
		CqKafkaAnswer *answer = cq_kafka_control_take(cq_kafka_client_control(read->client));

		if (answer == NULL)
			wait_for_news(read);
		else if (answer->kind == kind && answer->ticket == ticket)
			return answer;
		else
			free(answer);
	}
}

static bool
is_final(rd_kafka_resp_err_t error)
{
	switch (error)
	{
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
			return true;
		default:
			return false;
	}
}

static void
fail_for_good(CqKafkaRead *read, rd_kafka_resp_err_t error)
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

	find_logs(read);
	read_rewind(read);
	if (from_ms != CQ_KAFKA_ANY_TIME && from_ms != read->from_ms && read->nlogs > 0)
		ask_bounds(read, from_ms);
	MemoryContextReset(read->ranges);
	for (i = 0; i < read->nlogs; i++)
		log_plan(read, &read->logs[i], slices, nslices);
	heard(read);
}

static void
read_rewind(CqKafkaRead *read)
{
	int i;

	give_back(read);
	for (i = 0; i < read->nlogs; i++)
		if (read->logs[i].assigned)
			log_finish(read, &read->logs[i]);
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

static void
log_plan(CqKafkaRead *read, ReadLog *log, const CqKafkaSlice *slices, int nslices)
{
	OffsetRange *ranges = MemoryContextAlloc(read->ranges, sizeof(OffsetRange) * (nslices + 1));
	int n = 0;
	int i;

	for (i = 0; i < nslices; i++)
	{
		const CqKafkaSlice *slice = &slices[i];
		OffsetRange range;

		if (log->bounds.id < slice->first_partition || log->bounds.id >= slice->end_partition)
			continue;
		range.start = Max(log->bounds.low, slice->first_offset);
		if (slice->from_ms != CQ_KAFKA_ANY_TIME)
			range.start = Max(range.start, log->at_time);
		range.end = Min(log->bounds.high, slice->end_offset);
		if (range.start < range.end)
			ranges[n++] = range;
	}
	qsort(ranges, n, sizeof(OffsetRange), compare_ranges);
	log->ranges = ranges;
	log->nranges = 0;
	log->at = 0;
	for (i = 0; i < n; i++)
	{
		OffsetRange *last = &ranges[log->nranges - 1];

		if (log->nranges > 0 && ranges[i].start <= last->end)
			last->end = Max(last->end, ranges[i].end);
		else
			ranges[log->nranges++] = ranges[i];
	}
	if (log->nranges > 0)
		log->position = ranges[0].start;
}

static int
compare_ranges(const void *a, const void *b)
{
	const OffsetRange *left = a;
	const OffsetRange *right = b;

	return left->start < right->start ? -1 : left->start > right->start;
}

const CqRecord *
cq_kafka_read_next(CqKafkaRead *read)
{
	bool waited = false;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		while (read->taken < read->count)
			if (accept_message(read, read->messages[read->taken++]))
				return &read->record;
		give_back(read);
		open_logs(read);
		if (read->nopen == 0)
			return NULL;
		if (fetch(read))
			continue;
		/* the time in which nobody asked does not count */
		if (!waited)
			heard(read);
		waited = true;
		wait_for_news(read);
	}
}

static void
open_logs(CqKafkaRead *read)
{
	for (; read->nopen < MAX_OPEN && read->next_log < read->nlogs; read->next_log++)
		if (read->logs[read->next_log].nranges > 0)
			log_open(read, &read->logs[read->next_log]);
}

/*
 * The queue is looked up each time, as in assignment.c; what is left in it of an
 * earlier time goes.
 */
static void
log_open(CqKafkaRead *read, ReadLog *log)
{
	rd_kafka_message_t *stale[64];
	ssize_t n;
	ssize_t i;

	log->queue = rd_kafka_queue_get_partition(cq_kafka_client_handle(read->client),
											  read->topic,
											  log->bounds.id);
	if (log->queue == NULL)
		fail_for_good(read, RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION);
	read->nopen++;
	rd_kafka_queue_forward(log->queue, NULL);
	do
	{
		n = rd_kafka_consume_batch_queue(log->queue, 0, stale, lengthof(stale));
		for (i = 0; i < n; i++)
			rd_kafka_message_destroy(stale[i]);
	} while (n > 0);
	rd_kafka_queue_io_event_enable(log->queue, cq_kafka_client_wake_fd(read->client), "", 1);
	log->queue_left = 0;
	log->queue_peak = 0;
	log_assign(read, log, true);
	log->touched = true;
}

/* Neither throws nor waits. */
static void
log_close(CqKafkaRead *read, ReadLog *log)
{
	if (log->queue == NULL)
		return;
	rd_kafka_queue_io_event_enable(log->queue, -1, NULL, 0);
	rd_kafka_queue_destroy(log->queue);
	log->queue = NULL;
	read->nopen--;
}

/* Nothing more is wanted of it. */
static void
log_finish(CqKafkaRead *read, ReadLog *log)
{
	log->at = log->nranges;
	log_assign(read, log, false);
	log_close(read, log);
	heard(read);
}

/* Returns when librdkafka's main thread has taken note; that thread never waits for a broker. */
static void
log_assign(CqKafkaRead *read, ReadLog *log, bool add)
{
	rd_kafka_t *handle = cq_kafka_client_handle(read->client);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_error_t *error;

	rd_kafka_topic_partition_list_add(list, read->topic, log->bounds.id)->offset = log->position;
	error = add ? rd_kafka_incremental_assign(handle, list)
				: rd_kafka_incremental_unassign(handle, list);
	rd_kafka_topic_partition_list_destroy(list);
	log->assigned = add;
	if (error)
	{
		rd_kafka_resp_err_t code = rd_kafka_error_code(error);

		rd_kafka_error_destroy(error);
		fail_for_good(read, code);
	}
}

/*
 * Go on at the next range.  What is under way of the offsets in between is dropped
 * when it comes, so it does not matter when the client takes note.
 */
static void
log_jump(CqKafkaRead *read, ReadLog *log)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_error_t *error;
	bool ok;

	if (log->ranges[log->at].start - log->position <= NEAR_OFFSETS)
		return;
	log->position = log->ranges[log->at].start;
	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, read->topic, log->bounds.id)->offset = log->position;
	error = rd_kafka_seek_partitions(cq_kafka_client_handle(read->client), list, 0);
	ok = error == NULL && (list->elems[0].err == RD_KAFKA_RESP_ERR_NO_ERROR ||
						   list->elems[0].err == RD_KAFKA_RESP_ERR__IN_PROGRESS);
	if (error)
		rd_kafka_error_destroy(error);
	rd_kafka_topic_partition_list_destroy(list);
	if (!ok)
		ereport(ERROR,
				errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
				errmsg("could not read partition %d of topic \"%s\" from offset %lld on",
					   log->bounds.id,
					   read->topic,
					   (long long) log->position));
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
	ReadLog *log = &read->logs[index];
	ssize_t n;

	if (rd_kafka_queue_length(log->queue) == 0)
		return false;
	n = rd_kafka_consume_batch_queue(log->queue, 0, read->messages, BATCH);
	if (n <= 0)
		return false;
	read->current = index;
	read->count = (int) n;
	read->taken = 0;
	nudge(read, log, (int) n);
	return true;
}

/* See nudge_fetchers() in consumer.c. */
static void
nudge(CqKafkaRead *read, ReadLog *log, int taken)
{
	int length = (int) rd_kafka_queue_length(log->queue);

	if (length > log->queue_left - taken)
		log->queue_peak = length + taken;
	log->queue_left = length;
	if (length <= log->queue_peak / 2 && log->position + taken + length < log->bounds.high)
		cq_kafka_control_nudge(cq_kafka_client_control(read->client), &log->bounds.id, 1);
}

static bool
accept_message(CqKafkaRead *read, rd_kafka_message_t *message)
{
	ReadLog *log = &read->logs[read->current];
	int64 offset = message->offset;
	bool wanted;

	if (unlikely(message->err != RD_KAFKA_RESP_ERR_NO_ERROR))
	{
		accept_error(read, log, message);
		return false;
	}
	/* late from before a jump, or the log is done with */
	if (log->at == log->nranges || offset < log->position)
		return false;
	log->position = offset + 1;
	while (log->at < log->nranges && offset >= log->ranges[log->at].end)
		log->at++;
	wanted = log->at < log->nranges && offset >= log->ranges[log->at].start;
	if (wanted)
	{
		cq_kafka_record_fill(&read->record, read->current, message);
		read->stats.records++;
		read->stats.bytes += read->record.payload_len + read->record.key_len;
	}
	if (log->at < log->nranges && log->position >= log->ranges[log->at].end)
		log->at++;
	if (log->at == log->nranges)
		log_finish(read, log);
	else
		log_jump(read, log);
	return wanted;
}

static void
accept_error(CqKafkaRead *read, ReadLog *log, rd_kafka_message_t *message)
{
	if (log->at == log->nranges)
		return;
	switch (message->err)
	{
		case RD_KAFKA_RESP_ERR__PARTITION_EOF:
			/* all that can be read was; a broker that is behind says so too early */
			if (message->offset >= log->ranges[log->nranges - 1].end)
				log_finish(read, log);
			return;
		case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
		case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
			ereport(ERROR,
					errcode(ERRCODE_FDW_ERROR),
					errmsg("could not read partition %d of topic \"%s\" from offset %lld on",
						   log->bounds.id,
						   read->topic,
						   (long long) log->position),
					errdetail("Records were deleted from the topic while it was read."),
					errhint("Repeat the query."));
			break;
		default:
			read->failure = message->err;
			if (!cq_kafka_error_passes(message->err))
				fail_for_good(read, message->err);
	}
}

static void
give_back(CqKafkaRead *read)
{
	int i;

	if (read->count > 0)
		heard(read);
	for (i = 0; i < read->count; i++)
		rd_kafka_message_destroy(read->messages[i]);
	read->count = 0;
	read->taken = 0;
}

static void
wait_for_news(CqKafkaRead *read)
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
		fail_for_good(read, RD_KAFKA_RESP_ERR__AUTHENTICATION);
}

static void
heard(CqKafkaRead *read)
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
		log_close(read, &read->logs[i]);
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
