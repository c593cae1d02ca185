/*
 * read_log.c
 *	  One partition's log, while it is read.
 *
 * Which offsets are wanted of it is a list of ranges.  Between two of them the log is
 * read and thrown away if they are near, else the client is sent on.
 *
 * It has been read when a record at or behind its end is seen, or the client says
 * that there is none; the end itself need not be a record's (transactions' markers,
 * compaction).
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "compat.h"
#include "errors.h"
#include "source/kafka/read_state.h"
#include "source/kafka/record.h"

#define NEAR_OFFSETS 1000 /* cheaper to read than to jump over */

static int compare_ranges(const void *a, const void *b);
static void log_assign(CqKafkaRead *read, CqReadLog *log, bool add);
static void log_jump(CqKafkaRead *read, CqReadLog *log);
static void accept_error(CqKafkaRead *read, CqReadLog *log, rd_kafka_message_t *message);

void
cq_kafka_read_log_plan(CqKafkaRead *read, CqReadLog *log, const CqKafkaSlice *slices, int nslices)
{
	CqOffsetRange *ranges = MemoryContextAlloc(read->ranges, sizeof(CqOffsetRange) * (nslices + 1));
	int n = 0;
	int i;

	for (i = 0; i < nslices; i++)
	{
		const CqKafkaSlice *slice = &slices[i];
		CqOffsetRange range;

		if (log->bounds.id < slice->first_partition || log->bounds.id >= slice->end_partition)
			continue;
		range.start = Max(log->bounds.low, slice->first_offset);
		if (slice->from_ms != CQ_KAFKA_ANY_TIME)
			range.start = Max(range.start, log->at_time);
		range.end = Min(log->bounds.high, slice->end_offset);
		if (range.start < range.end)
			ranges[n++] = range;
	}
	qsort(ranges, n, sizeof(CqOffsetRange), compare_ranges);
	log->ranges = ranges;
	log->nranges = 0;
	log->at = 0;
	for (i = 0; i < n; i++)
	{
		CqOffsetRange *last = &ranges[log->nranges - 1];

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
	const CqOffsetRange *left = a;
	const CqOffsetRange *right = b;

	return left->start < right->start ? -1 : left->start > right->start;
}

/*
 * The queue is looked up each time, as in assignment.c; what is left in it of an
 * earlier time goes.
 */
void
cq_kafka_read_log_open(CqKafkaRead *read, CqReadLog *log)
{
	rd_kafka_message_t *stale[64];
	ssize_t n;
	ssize_t i;

	log->queue = rd_kafka_queue_get_partition(cq_kafka_client_handle(read->client),
											  read->topic,
											  log->bounds.id);
	if (log->queue == NULL)
		cq_kafka_read_fail(read, RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION);
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
void
cq_kafka_read_log_close(CqKafkaRead *read, CqReadLog *log)
{
	if (log->queue == NULL)
		return;
	rd_kafka_queue_io_event_enable(log->queue, -1, NULL, 0);
	rd_kafka_queue_destroy(log->queue);
	log->queue = NULL;
	read->nopen--;
}

/* Nothing more is wanted of it. */
void
cq_kafka_read_log_finish(CqKafkaRead *read, CqReadLog *log)
{
	log->at = log->nranges;
	log_assign(read, log, false);
	cq_kafka_read_log_close(read, log);
	cq_kafka_read_heard(read);
}

/* Returns when librdkafka's main thread has taken note; that thread never waits for a broker. */
static void
log_assign(CqKafkaRead *read, CqReadLog *log, bool add)
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
		cq_kafka_read_fail(read, code);
	}
}

/*
 * Go on at the next range.  What is under way of the offsets in between is dropped
 * when it comes, so it does not matter when the client takes note.
 */
static void
log_jump(CqKafkaRead *read, CqReadLog *log)
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

/* See nudge_fetchers() in consumer.c. */
void
cq_kafka_read_log_took(CqKafkaRead *read, CqReadLog *log, int taken)
{
	int length = (int) rd_kafka_queue_length(log->queue);

	if (length > log->queue_left - taken)
		log->queue_peak = length + taken;
	log->queue_left = length;
	if (length <= log->queue_peak / 2 && log->position + taken + length < log->bounds.high)
		cq_kafka_control_nudge(cq_kafka_client_control(read->client), &log->bounds.id, 1);
}

bool
cq_kafka_read_log_accept(CqKafkaRead *read, rd_kafka_message_t *message)
{
	CqReadLog *log = &read->logs[read->current];
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
		cq_kafka_read_log_finish(read, log);
	else
		log_jump(read, log);
	return wanted;
}

static void
accept_error(CqKafkaRead *read, CqReadLog *log, rd_kafka_message_t *message)
{
	if (log->at == log->nranges)
		return;
	switch (message->err)
	{
		case RD_KAFKA_RESP_ERR__PARTITION_EOF:
			/* all that can be read was; a broker that is behind says so too early */
			if (message->offset >= log->ranges[log->nranges - 1].end)
				cq_kafka_read_log_finish(read, log);
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
				cq_kafka_read_fail(read, message->err);
	}
}
