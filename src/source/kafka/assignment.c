/*
 * assignment.c
 *	  Where partitions are read from: assigning, going back, checking.
 *
 * A partition is assigned at its position, or at a record that must be ours
 * before it.  Going back after an abort is done among the records in hand if
 * they reach back far enough, else in the log.
 *
 * librdkafka's calls here return at once or wait for its main thread only,
 * which never waits for a broker.
 */
#include "postgres.h"

#include "errors.h"
#include "source/kafka/consumer.h"

static bool rewind_in_memory(const CqPartition *p, CqKafkaFetcher *f);
static void drop_messages(CqKafkaFetcher *f);
static void queue_open(CqKafkaSource *src, int partition);
static void assignment_change(CqKafkaSource *src, const int *partitions, int n, bool add);

void
cq_kafka_assign(CqKafkaSource *src, const int *partitions, int n)
{
	int i;

	assignment_change(src, partitions, n, false);
	for (i = 0; i < n; i++)
	{
		CqPartition *p = &src->base.partitions[partitions[i]];
		CqKafkaFetcher *f = cq_kafka_fetcher(src, partitions[i]);

		cq_kafka_fetcher_release(f);
		queue_open(src, partitions[i]);
		f->phase = CQ_KAFKA_READING;
		f->problem = CQ_KAFKA_FINE;
		f->begun = false;
		f->assigned_us = cq_kafka_clock_us();
		f->floor = p->next_offset;
		f->beyond = 0;
	}
	assignment_change(src, partitions, n, true);
}

/*
 * A partition that vanished and came back has another queue than before, so it
 * is looked up each time.  Errors in it carry no version (R2); those of the
 * time before go now.
 */
static void
queue_open(CqKafkaSource *src, int partition)
{
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);
	rd_kafka_message_t *stale[64];
	ssize_t n;
	ssize_t i;

	f->queue = rd_kafka_queue_get_partition(cq_kafka_client_handle(src->client),
											src->topic,
											src->base.partitions[partition].id);
	if (f->queue == NULL)
		ereport(ERROR,
				errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
				errmsg("could not read partition %d of topic \"%s\"",
					   src->base.partitions[partition].id,
					   src->topic));
	rd_kafka_queue_forward(f->queue, NULL);
	do
	{
		n = rd_kafka_consume_batch_queue(f->queue, 0, stale, lengthof(stale));
		for (i = 0; i < n; i++)
			rd_kafka_message_destroy(stale[i]);
	} while (n > 0);
	rd_kafka_queue_io_event_enable(f->queue, cq_kafka_client_wake_fd(src->client), "", 1);
}

/* Returns when librdkafka's main thread has taken note; that thread never waits for a broker. */
static void
assignment_change(CqKafkaSource *src, const int *partitions, int n, bool add)
{
	rd_kafka_t *handle = cq_kafka_client_handle(src->client);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);
	rd_kafka_error_t *error = NULL;
	int i;

	for (i = 0; i < n; i++)
	{
		CqPartition *p = &src->base.partitions[partitions[i]];
		CqKafkaFetcher *f = cq_kafka_fetcher(src, partitions[i]);

		if (f->assigned == add)
			continue;
		rd_kafka_topic_partition_list_add(list, src->topic, p->id)->offset =
			f->checking ? f->check_offset : p->next_offset;
		f->assigned = add;
	}
	if (list->cnt > 0)
		error = add ? rd_kafka_incremental_assign(handle, list)
					: rd_kafka_incremental_unassign(handle, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (error)
	{
		rd_kafka_resp_err_t code = rd_kafka_error_code(error);

		rd_kafka_error_destroy(error);
		ereport(ERROR,
				errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
				errmsg("could not read topic \"%s\"", src->topic),
				errdetail("The Kafka client reports: %s.", rd_kafka_err2str(code)));
	}
}

void
cq_kafka_fetcher_release(CqKafkaFetcher *f)
{
	drop_messages(f);
	if (f->queue)
	{
		rd_kafka_queue_io_event_enable(f->queue, -1, NULL, 0);
		rd_kafka_queue_destroy(f->queue);
		f->queue = NULL;
	}
}

static void
drop_messages(CqKafkaFetcher *f)
{
	int i;

	for (i = 0; i < f->count; i++)
		rd_kafka_message_destroy(f->messages[i]);
	f->count = 0;
	f->taken = 0;
	f->handed = 0;
	f->eof = -1;
	f->queue_left = 0;
	f->queue_peak = 0;
}

void
cq_kafka_distrust(CqKafkaSource *src, int partition)
{
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);

	if (f->phase != CQ_KAFKA_READING)
		return;
	f->phase = CQ_KAFKA_UNVERIFIED;
	f->eof = -1;
	src->base.partitions[partition].caught_up = false;
}

/*
 * A topic that is deleted, created again and filled in a moment gives no error:
 * fetching goes on at the same offset of another log, and the anchor is soon a
 * record of that one.  An older record tells.
 */
void
cq_kafka_check_reference(CqKafkaSource *src, int partition)
{
	CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);

	if (f->phase != CQ_KAFKA_READING || f->checking || !f->begun ||
		p->anchor_offset == f->reference_offset)
		return;
	if (f->reference_offset < 0 || f->reference_offset >= p->next_offset)
	{
		f->reference_offset = p->anchor_offset;
		f->reference_hash = p->anchor_hash;
		return;
	}
	f->checking = true;
	f->check_offset = f->reference_offset;
	f->check_hash = f->reference_hash;
	p->caught_up = false;
	cq_kafka_seek_log(src, partition, f->check_offset);
}

void
cq_kafka_seek(CqSource *source)
{
	CqKafkaSource *src = (CqKafkaSource *) source;
	int i;

	src->nstretches = 0;
	for (i = 0; i < source->npartitions; i++)
	{
		CqKafkaFetcher *f = cq_kafka_fetcher(src, i);
		CqPartition *p = &source->partitions[i];

		p->caught_up = false;
		if (f->phase != CQ_KAFKA_READING)
			drop_messages(f);
		else if (!rewind_in_memory(p, f))
		{
			f->checking = false;
			cq_kafka_seek_log(src, i, p->next_offset);
		}
	}
}

static bool
rewind_in_memory(const CqPartition *p, CqKafkaFetcher *f)
{
	int64 behind = f->count > 0 ? f->messages[f->count - 1]->offset + 1 : f->floor;

	behind = Max(behind, f->eof);
	if (p->next_offset < f->floor || p->next_offset > behind)
		return false;
	f->taken = 0;
	while (f->taken < f->count && f->messages[f->taken]->offset < p->next_offset)
		f->taken++;
	f->handed = f->taken;
	return true;
}

/*
 * A seek is lost on a partition whose fetching has not begun, and ends no
 * fetching that an error has ended; then the partition is assigned anew.
 */
void
cq_kafka_seek_log(CqKafkaSource *src, int partition, int64 offset)
{
	CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_error_t *error;
	bool ok;

	if (!f->begun)
	{
		cq_kafka_assign(src, &partition, 1);
		return;
	}
	drop_messages(f);
	f->floor = p->next_offset;
	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, src->topic, p->id)->offset = offset;
	error = rd_kafka_seek_partitions(cq_kafka_client_handle(src->client), list, 0);
	ok = error == NULL && (list->elems[0].err == RD_KAFKA_RESP_ERR_NO_ERROR ||
						   list->elems[0].err == RD_KAFKA_RESP_ERR__IN_PROGRESS);
	if (error)
		rd_kafka_error_destroy(error);
	rd_kafka_topic_partition_list_destroy(list);
	if (!ok)
		cq_kafka_distrust(src, partition);
}
