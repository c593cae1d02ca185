/*
 * skew.c
 *	  Which partitions are read next, and how much of each.
 *
 * Replaying history, the partitions of a topic would run through days of event
 * time at different speeds, and all windows in between would be open.  So one
 * that is more than max_skew ahead of another with a backlog is left alone, and
 * none is given more records in a poll than will take it there, judged by how
 * far its last ones have taken it.  Of a partition whose pace is not known a
 * few records are read first, and then more and more.
 *
 * The partition that is lowest is never left alone, so somebody always goes on.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "source/kafka/consumer.h"

#define FIRST_FETCH_US (5 * INT64CONST(1000000))
#define FIRST_QUOTA	   16
#define QUOTA_GROWTH   4

static bool has_backlog(const CqKafkaSource *src, int partition);
static bool is_beginning(const CqKafkaFetcher *f);
static void pace_learn(const CqPartition *p, CqKafkaFetcher *f);
static TimestampTz limit_of(const CqKafkaSource *src, const CqKafkaSkew *skew, int partition);

void
cq_kafka_skew_find(const CqKafkaSource *src, CqKafkaSkew *skew)
{
	const CqStream *stream = src->base.stream;
	int i;

	skew->matters =
		stream->event_time != 0 && stream->max_skew_us >= 0 && src->base.npartitions > 1;
	skew->wait = false;
	skew->lowest_partition = -1;
	skew->lowest = skew->second = DT_NOEND;
	for (i = 0; i < src->base.npartitions && skew->matters; i++)
	{
		TimestampTz time = src->base.partitions[i].max_event_time;
		const CqKafkaFetcher *f = cq_kafka_fetcher(src, i);

		if (f->phase != CQ_KAFKA_READING || !has_backlog(src, i))
			continue;
		if (time == DT_NOBEGIN)
			skew->wait = skew->wait || is_beginning(f);
		else if (time < skew->lowest)
		{
			skew->second = skew->lowest;
			skew->lowest = time;
			skew->lowest_partition = i;
		}
		else
			skew->second = Min(skew->second, time);
	}
}

/* An open producer transaction in front of us is no backlog: nobody knows when it ends. */
static bool
has_backlog(const CqKafkaSource *src, int partition)
{
	const CqPartition *p = &src->base.partitions[partition];
	const CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);

	if (f->count > f->taken || rd_kafka_queue_length(f->queue) > 0)
		return true;
	return f->eof < 0 && p->end_offset > p->next_offset;
}

/* Before the first answers nobody knows. */
bool
cq_kafka_has_backlog(CqSource *source)
{
	CqKafkaSource *src = (CqKafkaSource *) source;
	int i;

	if (source->npartitions == 0)
		return !cq_kafka_knows_partitions(src);
	for (i = 0; i < source->npartitions; i++)
	{
		const CqKafkaFetcher *f = cq_kafka_fetcher(src, i);

		if (f->phase == CQ_KAFKA_UNVERIFIED ||
			(f->phase == CQ_KAFKA_READING && (has_backlog(src, i) || is_beginning(f))))
			return true;
	}
	return false;
}

static bool
is_beginning(const CqKafkaFetcher *f)
{
	return !f->begun && cq_kafka_clock_us() - f->assigned_us < FIRST_FETCH_US;
}

bool
cq_kafka_skew_allows(const CqKafkaSource *src, const CqKafkaSkew *skew, int partition)
{
	TimestampTz time = src->base.partitions[partition].max_event_time;

	if (!skew->matters || time == DT_NOBEGIN)
		return true;
	return !skew->wait && time <= limit_of(src, skew, partition);
}

/* How far this partition may go: so much further than the lowest of the others with a backlog. */
static TimestampTz
limit_of(const CqKafkaSource *src, const CqKafkaSkew *skew, int partition)
{
	TimestampTz other = partition == skew->lowest_partition ? skew->second : skew->lowest;
	int64 max_skew_us = src->base.stream->max_skew_us;

	return other > DT_NOEND - max_skew_us - 1 ? DT_NOEND : other + max_skew_us;
}

int
cq_kafka_skew_quota(CqKafkaSource *src, const CqKafkaSkew *skew, int partition, int max)
{
	const CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);
	TimestampTz limit = limit_of(src, skew, partition);
	int quota;

	if (!skew->matters)
		return max;
	pace_learn(p, f);
	quota = Min(f->quota, max);
	if (limit != DT_NOEND && p->max_event_time != DT_NOBEGIN && f->pace_us > 0)
		quota = (int) Min(quota, Max(limit - p->max_event_time, 0) / f->pace_us + 1);
	return quota;
}

/* From what the records of the last poll have done to the partition's time. */
static void
pace_learn(const CqPartition *p, CqKafkaFetcher *f)
{
	f->quota = Max(f->quota, FIRST_QUOTA);
	if (f->gave > 0 && f->time_before != DT_NOBEGIN)
		f->pace_us = Max(p->max_event_time - f->time_before, 0) / f->gave;
	if (f->gave >= f->quota)
		f->quota = Min(f->quota, PG_INT32_MAX / QUOTA_GROWTH) * QUOTA_GROWTH;
	f->gave = 0;
	f->time_before = p->max_event_time;
}
