/*
 * marks.c
 *	  "Everything that the source holds now": marks at the ends of the logs.
 *
 * A mark first waits for metadata newer than itself, so that partitions that
 * existed when it was made are among those whose ends are asked for.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "source/kafka/consumer.h"

#define RETRY_MS 500

int64
cq_kafka_mark_end(CqSource *source)
{
	CqKafkaSource *src = (CqKafkaSource *) source;
	CqKafkaMark *mark = MemoryContextAllocZero(source->context, sizeof(CqKafkaMark));

	mark->ticket = src->next_mark++;
	mark->made_us = cq_kafka_clock_us();
	dlist_push_tail(&src->marks, &mark->node);
	if (src->client)
		cq_kafka_control_ask_metadata(cq_kafka_client_control(src->client));
	return mark->ticket;
}

/* Marks wait until the partitions are known that existed when they were made. */
void
cq_kafka_ask_marks(CqKafkaSource *src, int32 *ids, bool newcomers)
{
	dlist_iter iter;
	int n;

	if (src->topic_partitions < 0 || newcomers)
		return;
	dlist_foreach (iter, &src->marks)
	{
		CqKafkaMark *mark = dlist_container(CqKafkaMark, node, iter.cur);

		if (mark->asked || src->metadata_us < mark->made_us)
			continue;
		n = cq_kafka_collect_ids(src, CQ_KAFKA_READING, ids);
		n += cq_kafka_collect_ids(src, CQ_KAFKA_UNVERIFIED, ids + n);
		if (n == 0)
		{
			/* a shard without partitions */
			mark->asked = mark->answered = true;
			mark->ids = MemoryContextAlloc(src->base.context, sizeof(int32));
			mark->ends = MemoryContextAlloc(src->base.context, sizeof(int64));
			continue;
		}
		mark->question = cq_kafka_control_ask_logs(cq_kafka_client_control(src->client),
												   src->next_ticket + 1,
												   ids,
												   n,
												   CQ_KAFKA_NO_TIME,
												   mark->retries++ > 0 ? RETRY_MS : 0)
							 ? ++src->next_ticket
							 : 0;
		mark->asked = mark->question != 0;
	}
}

/*
 * The high watermark counts, which is behind the end of what can be read while
 * a producer's transaction is open; it is known from fetches only.
 */
void
cq_kafka_take_mark_ends(CqKafkaSource *src, const CqKafkaAnswer *answer)
{
	dlist_iter iter;

	dlist_foreach (iter, &src->marks)
	{
		CqKafkaMark *mark = dlist_container(CqKafkaMark, node, iter.cur);
		int i;

		if (!mark->asked || mark->answered || mark->question != answer->ticket)
			continue;
		mark->asked = cq_kafka_answer_complete(answer);
		if (!mark->asked)
			return;
		mark->answered = true;
		mark->nends = answer->nlogs;
		mark->ids = MemoryContextAlloc(src->base.context, sizeof(int32) * (answer->nlogs + 1));
		mark->ends = MemoryContextAlloc(src->base.context, sizeof(int64) * (answer->nlogs + 1));
		for (i = 0; i < answer->nlogs; i++)
		{
			int partition = cq_kafka_find_partition(src, answer->logs[i].id);

			mark->ids[i] = answer->logs[i].id;
			mark->ends[i] = answer->logs[i].high;
			if (partition >= 0)
				mark->ends[i] = Max(mark->ends[i], src->base.partitions[partition].end_offset);
		}
		return;
	}
}

bool
cq_kafka_reached(CqSource *source, int64 ticket)
{
	CqKafkaSource *src = (CqKafkaSource *) source;
	dlist_iter iter;

	if (ticket < src->first_mark || ticket >= src->next_mark)
		return false;
	dlist_foreach (iter, &src->marks)
	{
		CqKafkaMark *mark = dlist_container(CqKafkaMark, node, iter.cur);
		int i;

		if (mark->ticket != ticket)
			continue;
		if (!mark->answered)
			return false;
		for (i = 0; i < mark->nends; i++)
		{
			int partition = cq_kafka_find_partition(src, mark->ids[i]);

			if (partition < 0 || source->partitions[partition].next_offset < mark->ends[i])
				return false;
		}
		dlist_delete(&mark->node);
		pfree(mark->ids);
		pfree(mark->ends);
		pfree(mark);
		return true;
	}
	return true;
}
