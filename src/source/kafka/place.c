/*
 * place.c
 *	  A Kafka source's position compared with another, and reading no further
 *	  than that.
 */
#include "postgres.h"

#include "source/kafka/consumer.h"

static const CqPartition *find_saved(const CqPartition *partitions, int npartitions, int32 id);

CqPlace
cq_kafka_place(CqSource *source, const CqPartition *partitions, int npartitions)
{
	bool behind = false;
	bool ahead = false;
	int i;

	if (npartitions != source->npartitions)
		return CQ_PLACE_APART;
	for (i = 0; i < source->npartitions; i++)
	{
		const CqPartition *ours = &source->partitions[i];
		const CqPartition *theirs = find_saved(partitions, npartitions, ours->id);

		if (theirs == NULL)
			return CQ_PLACE_APART;
		/* the same place, but another record before it: one of the logs is no more */
		if (ours->anchor_offset == theirs->anchor_offset &&
			ours->anchor_offset != CQ_OFFSET_UNKNOWN && ours->anchor_hash != theirs->anchor_hash)
			return CQ_PLACE_APART;
		behind = behind || ours->next_offset < theirs->next_offset;
		ahead = ahead || ours->next_offset > theirs->next_offset;
	}
	if (behind && ahead)
		return CQ_PLACE_APART;
	if (behind)
		return CQ_PLACE_BEHIND;
	return ahead ? CQ_PLACE_AHEAD : CQ_PLACE_SAME;
}

/* A partition that the other does not know yet is not read meanwhile. */
void
cq_kafka_limit(CqSource *source, const CqPartition *partitions, int npartitions)
{
	int i;

	for (i = 0; i < source->npartitions; i++)
	{
		CqPartition *p = &source->partitions[i];
		const CqPartition *other = find_saved(partitions, npartitions, p->id);
		CqKafkaFetcher *fetcher = p->source_private;

		fetcher->limit = CQ_OFFSET_UNKNOWN;
		if (partitions)
			fetcher->limit = other ? other->next_offset : p->next_offset;
	}
}

static const CqPartition *
find_saved(const CqPartition *partitions, int npartitions, int32 id)
{
	int i;

	for (i = 0; i < npartitions; i++)
		if (partitions[i].id == id)
			return &partitions[i];
	return NULL;
}
