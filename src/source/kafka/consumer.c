/*
 * consumer.c
 *	  The way of the records: from librdkafka's queues to the worker.
 *
 * Every partition has its own queue, so that the reader decides whose records
 * come next.  poll() takes from the partition with the lowest event time
 * first, and not at all from one that is too far ahead (skew.c).
 *
 * Records stay librdkafka's; a fetcher holds the pointers until the poll after
 * their advance().
 *
 * Invariants
 *	R1. Offsets of a partition are handed out in ascending order, none below
 *		its position.  What comes again after a reconnect is dropped; gaps
 *		(compaction, aborted transactions, control records) are accepted.
 *	R2. Nothing fetched before a seek is handed out after it: librdkafka drops
 *		what carries an older version of the partition, and the version is
 *		raised before the calls here return.
 *	R3. A partition whose queue gave an error that may hide records is not read
 *		further, so its position stays in front of them.
 *	R4. The position moves behind records that are not handed out (aborted,
 *		control) only by the end-of-partition event that follows them.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "errors.h"
#include "source/kafka/consumer.h"
#include "source/kafka/record.h"

#define MIN_SHARE  256 /* records taken from one partition before the next has its turn */
#define MAX_NUDGES 16
#define FAR_ANCHOR 10000 /* offsets; a seek is cheaper than fetching that much again */

static int readable_in_order(CqKafkaSource *src, const CqKafkaSkew *skew);
static int compare_turns(const void *a, const void *b, void *arg);
static void nudge_fetchers(CqKafkaSource *src, int norder);
static void release_taken(CqKafkaFetcher *f);
static void records_reserve(CqKafkaSource *src, int max);
static int hand_out(CqKafkaSource *src, int partition, int want, int at);
static void stretch_add(CqKafkaSource *src, int partition, int count);
static bool fetch(CqKafkaSource *src, int partition, int want);
static bool accept_message(CqKafkaSource *src, int partition, rd_kafka_message_t *message);
static bool accept_record(CqKafkaSource *src, int partition, rd_kafka_message_t *message);
static void accept_eof(CqKafkaSource *src, int partition, int64 offset);
static void accept_error(CqKafkaSource *src, int partition, rd_kafka_resp_err_t error);
static bool record_matches(CqKafkaSource *src, int partition, rd_kafka_message_t *message);
static void settle_eof(CqKafkaSource *src, int partition);
static uint64 message_hash(rd_kafka_message_t *message);
static int32 message_epoch(rd_kafka_message_t *message);

int
cq_kafka_poll(CqSource *source, int max)
{
	CqKafkaSource *src = (CqKafkaSource *) source;
	CqKafkaSkew skew;
	int n = 0;
	int before;
	int share;
	int norder;
	int i;

	cq_kafka_drain_wakeups(src);
	records_reserve(src, max);
	src->nstretches = 0;
	for (i = 0; i < source->npartitions; i++)
		release_taken(cq_kafka_fetcher(src, i));
	cq_kafka_skew_find(src, &skew);
	norder = readable_in_order(src, &skew);
	if (norder == 0)
		return 0;
	for (i = 0; i < norder; i++)
		cq_kafka_fetcher(src, src->order[i])->left =
			cq_kafka_skew_quota(src, &skew, src->order[i], max);
	share = Max(max / norder, MIN_SHARE);
	do
	{
		before = n;
		for (i = 0; i < norder && n < max; i++)
			n += hand_out(src, src->order[i], Min(share, max - n), n);
	} while (n < max && n > before);
	for (i = 0; i < norder; i++)
		settle_eof(src, src->order[i]);
	nudge_fetchers(src, norder);
	return n;
}

/* What makes the descriptor readable is looked for in the queues themselves, after this. */
void
cq_kafka_drain_wakeups(CqKafkaSource *src)
{
	cq_kafka_wake_drain(src->wake_read);
}

/* Partitions that may be polled now, into src->order. */
static int
readable_in_order(CqKafkaSource *src, const CqKafkaSkew *skew)
{
	int n = 0;
	int i;

	if (src->order_capacity < src->base.npartitions)
	{
		src->order_capacity = src->base.npartitions * 2;
		src->order = MemoryContextAlloc(src->base.context, sizeof(int) * src->order_capacity);
	}
	for (i = 0; i < src->base.npartitions; i++)
	{
		CqKafkaFetcher *f = cq_kafka_fetcher(src, i);

		if (f->phase != CQ_KAFKA_READING || !cq_kafka_skew_allows(src, skew, i))
			continue;
		if (f->limit >= 0 && src->base.partitions[i].next_offset >= f->limit)
			continue;
		if (f->count > f->taken || rd_kafka_queue_length(f->queue) > 0)
			src->order[n++] = i;
	}
	if (n > 1)
		qsort_arg(src->order, n, sizeof(int), compare_turns, src);
	return n;
}

static int
compare_turns(const void *a, const void *b, void *arg)
{
	CqKafkaSource *src = arg;
	int left = *(const int *) a;
	int right = *(const int *) b;
	TimestampTz left_time = src->base.partitions[left].max_event_time;
	TimestampTz right_time = src->base.partitions[right].max_event_time;
	uint64 left_turn = cq_kafka_fetcher(src, left)->turn;
	uint64 right_turn = cq_kafka_fetcher(src, right)->turn;

	if (src->base.stream->event_time != 0 && left_time != right_time)
		return left_time < right_time ? -1 : 1;
	if (left_turn != right_turn)
		return left_turn < right_turn ? -1 : 1;
	return left < right ? -1 : 1;
}

/*
 * librdkafka stops fetching from a broker when the queues of all its
 * partitions are full, and notices only up to a second later that they are
 * not any more.  So a queue that was emptied by half without new arrivals is
 * a reason to wake it.
 */
static void
nudge_fetchers(CqKafkaSource *src, int norder)
{
	int32 ids[MAX_NUDGES];
	int n = 0;
	int i;

	for (i = 0; i < norder && n < MAX_NUDGES; i++)
	{
		const CqPartition *p = &src->base.partitions[src->order[i]];
		CqKafkaFetcher *f = cq_kafka_fetcher(src, src->order[i]);
		int64 behind;
		int length;

		if (f->phase != CQ_KAFKA_READING)
			continue;
		length = rd_kafka_queue_length(f->queue);
		if (length > f->queue_left)
			f->queue_peak = length;
		f->queue_left = length;
		behind = f->count > 0 ? f->messages[f->count - 1]->offset + 1 : p->next_offset;
		if (length <= f->queue_peak / 2 && f->eof < 0 && behind + length < p->end_offset)
			ids[n++] = p->id;
	}
	if (n > 0)
		cq_kafka_control_nudge(cq_kafka_client_control(src->client), ids, n);
}

static void
release_taken(CqKafkaFetcher *f)
{
	int i;

	if (f->taken > 0)
	{
		f->floor = f->messages[f->taken - 1]->offset + 1;
		for (i = 0; i < f->taken; i++)
			rd_kafka_message_destroy(f->messages[i]);
		f->count -= f->taken;
		memmove(f->messages, f->messages + f->taken, sizeof(rd_kafka_message_t *) * f->count);
		f->taken = 0;
	}
	f->handed = 0;
}

static void
records_reserve(CqKafkaSource *src, int max)
{
	if (src->records_capacity >= max)
		return;
	if (src->base.records)
		pfree(src->base.records);
	src->base.records = NULL;
	src->records_capacity = 0;
	src->base.records = MemoryContextAllocZero(src->base.context, sizeof(CqRecord) * max);
	src->records_capacity = max;
}

/* Give out up to want records of a partition, from records[at] on. */
static int
hand_out(CqKafkaSource *src, int partition, int want, int at)
{
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);
	int n;
	int i;

	want = Min(want, f->left);
	while (f->count - f->handed < want && f->phase == CQ_KAFKA_READING &&
		   fetch(src, partition, want - (f->count - f->handed)))
		continue;
	f->turn = ++src->turn;
	n = Min(want, f->count - f->handed);
	while (f->limit >= 0 && n > 0 && f->messages[f->handed + n - 1]->offset >= f->limit)
		n--;
	if (n == 0)
		return 0;
	for (i = 0; i < n; i++)
		cq_kafka_record_fill(&src->base.records[at + i], partition, f->messages[f->handed + i]);
	f->handed += n;
	f->left -= n;
	f->gave += n;
	stretch_add(src, partition, n);
	return n;
}

static void
stretch_add(CqKafkaSource *src, int partition, int count)
{
	if (src->nstretches == src->stretches_capacity)
	{
		int capacity = Max(src->stretches_capacity * 2, 16);

		src->stretches =
			src->stretches
				? repalloc(src->stretches, sizeof(CqKafkaStretch) * capacity)
				: MemoryContextAlloc(src->base.context, sizeof(CqKafkaStretch) * capacity);
		src->stretches_capacity = capacity;
	}
	src->stretches[src->nstretches].partition = partition;
	src->stretches[src->nstretches].count = count;
	src->nstretches++;
}

/*
 * Take up to want messages out of a partition's queue.  True if there were some
 * and all of them were dropped: then it is worth looking for more.
 */
static bool
fetch(CqKafkaSource *src, int partition, int want)
{
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);
	rd_kafka_message_t **arrived;
	ssize_t n;
	ssize_t i;
	int before = f->count;

	if (f->rereading || f->checking)
		want = Max(want, MIN_SHARE);
	if (f->count + want > f->capacity)
	{
		int capacity = f->count + Max(want, MIN_SHARE);

		f->messages = f->messages ? repalloc(f->messages, sizeof(rd_kafka_message_t *) * capacity)
								  : MemoryContextAlloc(src->base.context,
													   sizeof(rd_kafka_message_t *) * capacity);
		f->capacity = capacity;
	}
	arrived = f->messages + f->count;
	n = rd_kafka_consume_batch_queue(f->queue, 0, arrived, want);
	f->queue_left -= n;
	if (n > 0)
		f->begun = true;
	/* what is accepted moves down over what is not; nothing here can throw */
	for (i = 0; i < n; i++)
	{
		rd_kafka_message_t *message = arrived[i];

		if (f->phase == CQ_KAFKA_READING && accept_message(src, partition, message))
			f->messages[f->count++] = message;
		else
			rd_kafka_message_destroy(message);
	}
	if (f->count > before)
		cq_kafka_refresh_end(src, partition);
	return n > 0 && f->count == before;
}

static inline bool
accept_message(CqKafkaSource *src, int partition, rd_kafka_message_t *message)
{
	if (likely(message->err == RD_KAFKA_RESP_ERR_NO_ERROR))
		return accept_record(src, partition, message);
	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
		accept_eof(src, partition, message->offset);
	else
		accept_error(src, partition, message->err);
	return false;
}

static bool
accept_record(CqKafkaSource *src, int partition, rd_kafka_message_t *message)
{
	CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);
	int64 expected = f->count > 0 ? f->messages[f->count - 1]->offset + 1 : p->next_offset;

	if (unlikely(f->checking))
	{
		f->checking = false;
		f->rereading = true;
		if (!record_matches(src, partition, message))
			return false;
		if (message->offset < expected)
		{
			if (expected - message->offset > FAR_ANCHOR)
				cq_kafka_seek_log(src, partition, p->next_offset);
			return false;
		}
	}
	if (unlikely(message->offset < expected))
	{
		f->dropped += !f->rereading;
		return false;
	}
	f->rereading = false;
	f->eof = -1;
	p->caught_up = false;
	return true;
}

/*
 * A record that is missing was compacted away, or retention took it; another
 * one in its place is not ours.
 */
static bool
record_matches(CqKafkaSource *src, int partition, rd_kafka_message_t *message)
{
	CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);

	if (message->offset != f->check_offset || message_hash(message) == f->check_hash)
	{
		f->reference_offset = p->anchor_offset;
		f->reference_hash = p->anchor_hash;
		return true;
	}
	if (src->accept_loss)
	{
		cq_kafka_distrust(src, partition);
		f->forgive = true;
		return false;
	}
	f->phase = CQ_KAFKA_STOPPED;
	f->problem = CQ_KAFKA_RECREATED;
	return false;
}

static void
accept_eof(CqKafkaSource *src, int partition, int64 offset)
{
	CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);
	int64 expected = f->count > 0 ? f->messages[f->count - 1]->offset + 1 : p->next_offset;

	f->checking = false;
	if (offset < expected)
		cq_kafka_distrust(src, partition);
	else
		f->eof = offset;
}

/* R3: only errors that librdkafka is known to retry by itself are passed over. */
static void
accept_error(CqKafkaSource *src, int partition, rd_kafka_resp_err_t error)
{
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);

	if (cq_kafka_error_passes(error))
		return;
	switch (error)
	{
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
			cq_kafka_control_ask_metadata(cq_kafka_client_control(src->client));
			cq_kafka_distrust(src, partition);
			return;
		case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
		case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
			cq_kafka_distrust(src, partition);
			return;
		default:
			f->phase = CQ_KAFKA_STOPPED;
			f->problem = CQ_KAFKA_BROKEN;
			f->error = error;
			return;
	}
}

void
cq_kafka_refresh_end(CqKafkaSource *src, int partition)
{
	CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);
	int64 low;
	int64 high;

	if (rd_kafka_get_watermark_offsets(cq_kafka_client_handle(src->client),
									   src->topic,
									   p->id,
									   &low,
									   &high) != RD_KAFKA_RESP_ERR_NO_ERROR ||
		high < 0)
		return;
	p->end_offset = Max(p->end_offset, high);
	p->caught_up = f->phase == CQ_KAFKA_READING && f->eof >= 0 && f->count == f->taken &&
				   p->next_offset == p->end_offset && rd_kafka_queue_length(f->queue) == 0;
	if (f->eof >= 0 && f->count == f->taken && high < p->next_offset)
		cq_kafka_distrust(src, partition);
}

/*
 * Everything in front of the readable end was taken over: so was what is not
 * handed out there (R4).
 */
static void
settle_eof(CqKafkaSource *src, int partition)
{
	CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);

	if (f->taken < f->count)
	{
		/* nothing but what is not handed out is left in front of the limit */
		if (f->limit >= 0 && f->messages[f->taken]->offset >= f->limit)
			p->next_offset = Max(p->next_offset, f->limit);
		return;
	}
	if (f->eof < 0)
		return;
	p->next_offset = Max(p->next_offset, f->limit >= 0 ? Min(f->eof, f->limit) : f->eof);
	cq_kafka_refresh_end(src, partition);
}

void
cq_kafka_advance(CqSource *source, int n)
{
	CqKafkaSource *src = (CqKafkaSource *) source;
	int i;

	for (i = 0; i < src->nstretches && n > 0; i++)
	{
		CqKafkaStretch *stretch = &src->stretches[i];
		CqPartition *p = &source->partitions[stretch->partition];
		CqKafkaFetcher *f = cq_kafka_fetcher(src, stretch->partition);
		int count = Min(stretch->count, n);
		rd_kafka_message_t *last;

		n -= count;
		f->taken += count;
		last = f->messages[f->taken - 1];
		p->next_offset = last->offset + 1;
		p->anchor_offset = last->offset;
		p->anchor_hash = message_hash(last);
		p->leader_epoch = message_epoch(last);
		settle_eof(src, stretch->partition);
	}
	src->nstretches = 0;
}

/* Of what a record is made of, as Kafka keeps it; stable over versions and restarts. */
static uint64
message_hash(rd_kafka_message_t *message)
{
	rd_kafka_timestamp_type_t type;
	uint64 hash = (uint64) rd_kafka_message_timestamp(message, &type);

	hash = hash_bytes_extended(message->key,
							   message->key ? (int) message->key_len : 0,
							   hash + (message->key != NULL));
	return hash_bytes_extended(message->payload,
							   message->payload ? (int) message->len : 0,
							   hash + (message->payload != NULL));
}

static int32
message_epoch(rd_kafka_message_t *message)
{
#if RD_KAFKA_VERSION >= 0x020100ff
	return rd_kafka_message_leader_epoch(message);
#else
	return -1;
#endif
}

bool
cq_kafka_ready(CqSource *source)
{
	CqKafkaSource *src = (CqKafkaSource *) source;
	CqKafkaSkew skew;

	cq_kafka_drain_wakeups(src);
	cq_kafka_skew_find(src, &skew);
	return readable_in_order(src, &skew) > 0;
}
