/*
 * source.c
 *	  Opening and closing a Kafka source.
 *
 * PostgreSQL is the coordinator: the source is told its positions, keeps them
 * in CqSource.partitions, and stores nothing itself.
 *
 * Opening waits for nothing.  The source begins without a partition (first
 * start) or with the saved ones, none of which is read before it was compared
 * with its log (maintain.c).
 *
 * Memory: a context of the source's own, whose reset callback gives back what
 * palloc does not know: messages, queues, the client, the pipe.  That is also
 * done before the process exits, while messages can still be reached.
 */
#include "postgres.h"

#include <unistd.h>

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "source/kafka/consumer.h"
#include "source/kafka/kafka.h"

#define REFRESH_MS		  30000
#define LIKELY_PARTITIONS 4 /* while their number is not known */
#define FETCH_WAIT_MS	  50

static dlist_head open_sources = DLIST_STATIC_INIT(open_sources);

static void source_close(CqSource *source);
static void remember_stream(CqKafkaSource *src, const CqStream *stream);
static void remember_positions(CqKafkaSource *src, const CqPartition *partitions, int npartitions);
static int64 kafka_time(TimestampTz time);
static void open_pipe(CqKafkaSource *src);
static void open_client(CqKafkaSource *src);
static void release(void *arg);
static void release_client(CqKafkaSource *src);
static void release_all(void);

static const CqSourceOps kafka_ops = {
	.poll = cq_kafka_poll,
	.advance = cq_kafka_advance,
	.seek = cq_kafka_seek,
	.ready = cq_kafka_ready,
	.has_backlog = cq_kafka_has_backlog,
	.maintain = cq_kafka_maintain,
	.mark_end = cq_kafka_mark_end,
	.reached = cq_kafka_reached,
	.place = cq_kafka_place,
	.limit = cq_kafka_limit,
	.unreachable = cq_kafka_unreachable,
	.known_since = cq_kafka_known_since,
	.close = source_close,
};

CqSource *
cq_kafka_source_open(const CqStream *stream, Oid owner, const CqPartition *partitions,
					 int npartitions, MemoryContext parent)
{
	MemoryContext context =
		AllocSetContextCreate(parent, "pipeline kafka source", ALLOCSET_DEFAULT_SIZES);
	CqKafkaSource *src = MemoryContextAllocZero(context, sizeof(CqKafkaSource));

	src->base.ops = &kafka_ops;
	src->base.stream = stream;
	src->base.context = context;
	src->base.wakeup_fd = -1;
	cq_source_init_parts(&src->base);
	src->wake_read = -1;
	src->wake_write = -1;
	src->open = true;
	dlist_init(&src->marks);
	dlist_push_head(&open_sources, &src->node);
	src->on_reset.func = release;
	src->on_reset.arg = src;
	MemoryContextRegisterResetCallback(context, &src->on_reset);
	cq_kafka_client_at_exit(release_all);
	PG_TRY();
	{
		remember_stream(src, stream);
		remember_positions(src, partitions, npartitions);
		src->settings = cq_kafka_settings_load(stream->server_id, owner, context);
		src->refresh_ms = cq_kafka_settings_refresh_ms(src->settings);
		if (src->refresh_ms == 0)
			src->refresh_ms = REFRESH_MS;
		open_pipe(src);
		open_client(src);
	}
	PG_CATCH();
	{
		MemoryContextDelete(context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return &src->base;
}

static void
remember_positions(CqKafkaSource *src, const CqPartition *partitions, int npartitions)
{
	int i;

	src->topic_partitions = -1;
	src->first_start = src->first_start && npartitions == 0;
	src->read_before = npartitions > 0;
	src->first_mark = cq_kafka_clock_us();
	src->next_mark = src->first_mark;
	for (i = 0; i < npartitions; i++)
		cq_kafka_add_partition(src, &partitions[i]);
}

/* The stream's definition may be freed and read again while the source is open. */
static void
remember_stream(CqKafkaSource *src, const CqStream *stream)
{
	ListCell *lc;

	src->topic = MemoryContextStrdup(src->base.context, stream->topic);
	src->name = MemoryContextStrdup(src->base.context, stream->name);
	src->start = stream->start;
	if (stream->start == CQ_START_TIMESTAMP)
		src->start_ms = kafka_time(stream->start_time);
	src->wanted = MemoryContextAlloc(src->base.context,
									 sizeof(int32) * (list_length(stream->partition_ids) + 1));
	foreach (lc, stream->partition_ids)
		src->wanted[src->nwanted++] = lfirst_int(lc);
	src->shard = stream->shard;
	src->shards = stream->shards;
	src->first_start = !stream->begun;
}

/* Kafka counts milliseconds since 1970; rounded up, since the start is "not before". */
static int64
kafka_time(TimestampTz time)
{
	int64 us;

	if (TIMESTAMP_IS_NOBEGIN(time))
		return 0;
	if (TIMESTAMP_IS_NOEND(time))
		return PG_INT64_MAX;
	us = time + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY * USECS_PER_SEC;
	return us <= 0 ? 0 : (us + 999) / 1000;
}

bool
cq_kafka_wants(const CqKafkaSource *src, int32 id)
{
	int i;

	if (src->shards > 0 && id % src->shards != src->shard)
		return false;
	for (i = 0; i < src->nwanted; i++)
		if (src->wanted[i] == id)
			return true;
	return src->nwanted == 0;
}

void
cq_kafka_add_partition(CqKafkaSource *src, const CqPartition *partition)
{
	CqSource *base = &src->base;
	MemoryContext old = MemoryContextSwitchTo(base->context);
	CqKafkaFetcher *fetcher = palloc0(sizeof(CqKafkaFetcher));
	CqPartition *p;

	fetcher->phase = cq_kafka_wants(src, partition->id) ? CQ_KAFKA_UNVERIFIED : CQ_KAFKA_EXCLUDED;
	fetcher->eof = -1;
	fetcher->reference_offset = CQ_OFFSET_UNKNOWN;
	fetcher->floor = partition->next_offset;
	fetcher->limit = CQ_OFFSET_UNKNOWN;
	fetcher->time_before = DT_NOBEGIN;
	if (base->partitions == NULL)
		base->partitions = palloc(sizeof(CqPartition));
	else
		base->partitions =
			repalloc(base->partitions, sizeof(CqPartition) * (base->npartitions + 1));
	p = &base->partitions[base->npartitions];
	*p = *partition;
	p->cursor = NULL;
	p->out_of_orderness_us = base->stream->out_of_orderness_us;
	p->end_offset = CQ_OFFSET_UNKNOWN;
	p->caught_up = fetcher->phase == CQ_KAFKA_EXCLUDED;
	p->idle = false;
	p->caught_up_since_us = p->idle_due_us = 0;
	p->source_private = fetcher;
	base->npartitions++;
	MemoryContextSwitchTo(old);
}

static void
open_pipe(CqKafkaSource *src)
{
	int ends[2];

	cq_kafka_wake_pipe(ends, src->name);
	src->wake_read = ends[0];
	src->wake_write = ends[1];
	src->base.wakeup_fd = ends[0];
}

static void
open_client(CqKafkaSource *src)
{
	CqKafkaFetching fetching = {.wait_ms = FETCH_WAIT_MS};
	int npartitions = src->topic_partitions;

	if (src->nwanted > 0)
		npartitions = src->nwanted;
	if (npartitions <= 0)
		npartitions = LIKELY_PARTITIONS;
	src->sized_for = Max(npartitions, src->base.npartitions);
	fetching.npartitions = src->sized_for;
	src->client = cq_kafka_client_open(src->settings,
									   &fetching,
									   src->topic,
									   src->refresh_ms,
									   src->wake_write);
	src->newcomers_ticket = 0;
	src->verify_ticket = 0;
	src->probe_ticket = 0;
	src->all_down_us = 0;
	src->trouble_us = 0;
	src->hurry = true;
}

void
cq_kafka_reopen_client(CqKafkaSource *src)
{
	dlist_iter iter;
	int i;

	release_client(src);
	for (i = 0; i < src->base.npartitions; i++)
		cq_kafka_distrust(src, i);
	dlist_foreach (iter, &src->marks)
	{
		CqKafkaMark *mark = dlist_container(CqKafkaMark, node, iter.cur);

		mark->asked = mark->answered;
	}
	open_client(src);
}

static void
release_client(CqKafkaSource *src)
{
	int i;

	for (i = 0; i < src->base.npartitions; i++)
	{
		CqKafkaFetcher *fetcher = cq_kafka_fetcher(src, i);

		cq_kafka_fetcher_release(fetcher);
		fetcher->assigned = false;
	}
	src->nstretches = 0;
	cq_kafka_client_close(src->client);
	src->client = NULL;
}

static void
source_close(CqSource *source)
{
	MemoryContextDelete(source->context);
}

/* Neither throws nor allocates; a source that is only half open, or released before, is fine. */
static void
release(void *arg)
{
	CqKafkaSource *src = arg;

	if (!src->open)
		return;
	src->open = false;
	dlist_delete(&src->node);
	release_client(src);
	if (src->wake_read >= 0)
		close(src->wake_read);
	if (src->wake_write >= 0)
		close(src->wake_write);
	src->wake_read = -1;
	src->wake_write = -1;
	cq_kafka_settings_wipe(src->settings);
}

static void
release_all(void)
{
	while (!dlist_is_empty(&open_sources))
		release(dlist_head_element(CqKafkaSource, node, &open_sources));
}

bool
cq_kafka_source_begun(CqSource *source)
{
	return cq_kafka_knows_partitions((CqKafkaSource *) source);
}

int64
cq_kafka_source_known_us(CqSource *source)
{
	return ((CqKafkaSource *) source)->known_us;
}

int64
cq_kafka_source_lost(CqSource *source)
{
	return ((CqKafkaSource *) source)->lost;
}

int64
cq_kafka_source_dropped(CqSource *source)
{
	CqKafkaSource *src = (CqKafkaSource *) source;
	int64 dropped = 0;
	int i;

	for (i = 0; i < source->npartitions; i++)
		dropped += cq_kafka_fetcher(src, i)->dropped;
	return dropped;
}
