/*
 * maintain.c
 *	  What a Kafka source knows by asking: partitions, bounds of their logs, and
 *	  whether the brokers are there.
 *
 * Answers come from the control thread.  Each kind of question has at most one
 * under way; its ticket tells which answer belongs to it.
 *
 *	newcomers	partitions that the task does not know yet: where to begin
 *	verify		partitions that are not read: is the position within the log?
 *	probe		partitions that are read: are their brokers there, and where do
 *				the logs end?
 *	mark		where do the logs end now (wait_for)
 *
 * Invariants
 *	V1. A partition is read only after an answer put its position within its
 *		log, and then from the last record processed (the anchor), which must
 *		be the same record as before.  This is repeated after all brokers were
 *		lost, after an error of the partition, and after the topic was missing:
 *		whenever another log may stand in the place of the old one.
 *	V2. A loss is never passed over: it stops the view, unless somebody
 *		accepted it, and then it is counted.
 *	V3. What a broker may say by mistake for a moment (no such topic, a shorter
 *		log, fewer partitions) is believed when said three times.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "clock.h"
#include "errors.h"
#include "source/kafka/consumer.h"
#include "source/kafka/kafka.h"

#define CONFIRMATIONS		3
#define RETRY_MS			500
#define PROBE_MS			5000 /* between routine questions for the ends of the logs */
#define FRESH_US			(15 * INT64CONST(1000000)) /* an older answer says nothing about now */
#define REFRESH_INTERVAL_US 20000

static CqKafkaAnswer *next_answer(CqKafkaSource *src);
static bool take_answer(CqKafkaSource *src, const CqKafkaAnswer *answer);
static void take_metadata(CqKafkaSource *src, const CqKafkaAnswer *answer);
static void take_topic_missing(CqKafkaSource *src);
static void take_partition_count(CqKafkaSource *src, int count);
static bool take_newcomers(CqKafkaSource *src, const CqKafkaAnswer *answer);
static int64 start_offset(const CqKafkaSource *src, const CqKafkaLog *log);
static void take_verification(CqKafkaSource *src, const CqKafkaAnswer *answer);
static bool verify_partition(CqKafkaSource *src, int partition, const CqKafkaLog *log);
static bool position_settled(CqKafkaSource *src, int partition, const CqKafkaLog *log);
static int64 forgive(CqKafkaSource *src, int partition, int64 low, int64 high);
static void take_probe(CqKafkaSource *src, const CqKafkaAnswer *answer);
static void note_failure(CqKafkaSource *src, rd_kafka_resp_err_t error);
static void report_problems(CqKafkaSource *src);
static void report_problem(CqKafkaSource *src, int partition);
static void ask_questions(CqKafkaSource *src);
static int collect_newcomers(const CqKafkaSource *src, int32 *ids);
static uint64 ask_logs(CqKafkaSource *src, const int32 *ids, int n, int64 time_ms, int delay_ms);
static void ask_probe(CqKafkaSource *src, const int32 *ids, int n);
static void watch_health(CqKafkaSource *src);
static void refresh_ends(CqKafkaSource *src);

bool
cq_kafka_maintain(CqSource *source)
{
	CqKafkaSource *src = (CqKafkaSource *) source;
	CqKafkaAnswer *answer;
	bool changed = false;

	if (src->client == NULL)
		cq_kafka_reopen_client(src);
	cq_kafka_drain_wakeups(src);
	watch_health(src);
	while ((answer = next_answer(src)) != NULL)
	{
		changed |= take_answer(src, answer);
		pfree(answer);
	}
	if (src->topic_partitions > src->sized_for && src->nwanted == 0)
		cq_kafka_reopen_client(src);
	report_problems(src);
	ask_questions(src);
	refresh_ends(src);
	return changed;
}

static void
watch_health(CqKafkaSource *src)
{
	const CqKafkaHealth *health = cq_kafka_client_events(src->client, src->name);
	int i;

	if (health->fatal || rd_kafka_fatal_error(cq_kafka_client_handle(src->client), NULL, 0) !=
							 RD_KAFKA_RESP_ERR_NO_ERROR)
		ereport(ERROR,
				errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
				errmsg("Kafka client of stream \"%s\" has failed", src->name));
	src->trouble_us = health->trouble_us;
	if (health->all_down_us <= src->all_down_us)
		return;
	src->all_down_us = health->all_down_us;
	src->hurry = true;
	for (i = 0; i < src->base.npartitions; i++)
		cq_kafka_distrust(src, i);
}

/* In PostgreSQL's memory, so that an error while it is dealt with leaks nothing. */
static CqKafkaAnswer *
next_answer(CqKafkaSource *src)
{
	CqKafkaAnswer *answer = cq_kafka_control_take(cq_kafka_client_control(src->client));
	CqKafkaAnswer *copy;
	Size size;

	if (answer == NULL)
		return NULL;
	size = sizeof(CqKafkaAnswer) + sizeof(CqKafkaLog) * answer->nlogs;
	copy =
		MemoryContextAllocExtended(CurrentMemoryContext, size, MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
	if (copy)
		memcpy(copy, answer, size);
	free(answer);
	if (copy == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	return copy;
}

/* Returns true if partitions were added. */
static bool
take_answer(CqKafkaSource *src, const CqKafkaAnswer *answer)
{
	if (answer->kind == CQ_KAFKA_ANSWER_METADATA)
	{
		take_metadata(src, answer);
		return false;
	}
	if (cq_kafka_answer_complete(answer))
		src->answered_us = Max(src->answered_us, answer->begun_us);
	else
		note_failure(src, answer->error);
	if (answer->ticket == src->newcomers_ticket)
	{
		src->newcomers_ticket = 0;
		return take_newcomers(src, answer);
	}
	if (answer->ticket == src->verify_ticket)
	{
		src->verify_ticket = 0;
		take_verification(src, answer);
	}
	else if (answer->ticket == src->probe_ticket)
	{
		src->probe_ticket = 0;
		take_probe(src, answer);
	}
	else
		cq_kafka_take_mark_ends(src, answer);
	return false;
}

bool
cq_kafka_answer_complete(const CqKafkaAnswer *answer)
{
	int i;

	for (i = 0; i < answer->nlogs; i++)
		if (answer->logs[i].error != RD_KAFKA_RESP_ERR_NO_ERROR)
			return false;
	return answer->error == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void
note_failure(CqKafkaSource *src, rd_kafka_resp_err_t error)
{
	src->failed_us = cq_kafka_clock_us();
	src->failure = error;
}

static void
take_metadata(CqKafkaSource *src, const CqKafkaAnswer *answer)
{
	switch (answer->error)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
			src->metadata_us = Max(src->metadata_us, answer->begun_us);
			if (src->base.npartitions == 0)
				src->answered_us = Max(src->answered_us, answer->begun_us);
			src->missing_answers = 0;
			take_partition_count(src, answer->npartitions);
			break;
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
			src->answered_us = Max(src->answered_us, answer->begun_us);
			take_topic_missing(src);
			break;
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
			ereport(ERROR,
					errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
					errmsg("could not read topic \"%s\"", src->topic),
					errdetail("The brokers answered: %s.", rd_kafka_err2str(answer->error)));
			break;
		default:
			note_failure(src, answer->error);
			break;
	}
}

static void
take_topic_missing(CqKafkaSource *src)
{
	src->doubt = true;
	src->missing_answers++;
	if (!src->read_before || src->accept_loss)
		ereport(ERROR,
				errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
				errmsg("topic \"%s\" does not exist yet", src->topic),
				errhint("The view begins to read it once it was created."));
	if (src->missing_answers >= CONFIRMATIONS)
		ereport(
			ERROR,
			errcode(CQ_ERRCODE_STOP),
			errmsg("topic \"%s\" is missing", src->topic),
			errdetail(
				"The view has read from it before, and the brokers say that it does not exist now."),
			errhint(
				"Create it with its old records, or call pipeline.resume(view, accept_loss => true) "
				"to begin anew with what a new topic of that name holds."));
}

static void
take_partition_count(CqKafkaSource *src, int count)
{
	int32 highest = -1;
	int i;

	for (i = 0; i < src->base.npartitions; i++)
		if (cq_kafka_fetcher(src, i)->phase != CQ_KAFKA_EXCLUDED)
			highest = Max(highest, src->base.partitions[i].id);
	if (highest >= count)
	{
		src->doubt = true;
		if (++src->shrunk_answers >= CONFIRMATIONS)
			ereport(
				ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("topic \"%s\" has fewer partitions than before", src->topic),
				errdetail(
					"The view has read partition %d; the topic has %d partitions now, so it was "
					"deleted and created again.",
					highest,
					count));
		cq_kafka_control_ask_metadata(cq_kafka_client_control(src->client));
		return;
	}
	src->shrunk_answers = 0;
	src->topic_partitions = count;
	src->read_before = true;
	for (i = 0; i < src->base.npartitions; i++)
		if (src->doubt)
			cq_kafka_distrust(src, i);
		else
			cq_kafka_check_reference(src, i);
	src->doubt = false;
}

/*
 * Partitions of the first answer at the first start begin as the stream says,
 * all of them at once; those that are created later at their first record,
 * since all of their records are new.
 */
static bool
take_newcomers(CqKafkaSource *src, const CqKafkaAnswer *answer)
{
	bool added = false;
	int i;

	if (answer->error != RD_KAFKA_RESP_ERR_NO_ERROR ||
		(src->first_start && !cq_kafka_answer_complete(answer)))
		return false;
	for (i = 0; i < answer->nlogs; i++)
	{
		const CqKafkaLog *log = &answer->logs[i];
		CqPartition p = {0};

		if (log->error != RD_KAFKA_RESP_ERR_NO_ERROR || cq_kafka_find_partition(src, log->id) >= 0)
			continue;
		p.id = log->id;
		p.next_offset = start_offset(src, log);
		p.start_offset = p.next_offset;
		p.leader_epoch = -1;
		p.anchor_offset = CQ_OFFSET_UNKNOWN;
		p.max_event_time = DT_NOBEGIN;
		cq_kafka_add_partition(src, &p);
		added = true;
	}
	src->first_start = src->first_start && !added;
	/* the bounds are known already: no need to ask again */
	take_verification(src, answer);
	return added;
}

static int64
start_offset(const CqKafkaSource *src, const CqKafkaLog *log)
{
	if (!src->first_start || src->start == CQ_START_EARLIEST)
		return log->low;
	if (src->start == CQ_START_LATEST)
		return log->high;
	return Max(log->at_time, log->low);
}

static void
take_verification(CqKafkaSource *src, const CqKafkaAnswer *answer)
{
	int *verified;
	int n = 0;
	int i;

	if (answer->error != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	/* the answer may be older than the reason for doubt */
	if (answer->begun_us <= src->all_down_us || src->doubt)
		return;
	verified = palloc(sizeof(int) * (answer->nlogs + 1));
	for (i = 0; i < answer->nlogs; i++)
	{
		int partition = cq_kafka_find_partition(src, answer->logs[i].id);

		if (partition >= 0 && verify_partition(src, partition, &answer->logs[i]))
			verified[n++] = partition;
	}
	if (n > 0)
		cq_kafka_assign(src, verified, n);
	pfree(verified);
}

/* Returns true if the partition can be read. */
static bool
verify_partition(CqKafkaSource *src, int partition, const CqKafkaLog *log)
{
	CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);

	if (log->error != RD_KAFKA_RESP_ERR_NO_ERROR || f->phase != CQ_KAFKA_UNVERIFIED)
		return false;
	f->log_low = log->low;
	f->log_high = log->high;
	if (!position_settled(src, partition, log))
		return false;
	p->end_offset = log->high;
	f->checking = p->anchor_offset != CQ_OFFSET_UNKNOWN && p->anchor_offset >= log->low &&
				  p->anchor_offset < p->next_offset;
	f->check_offset = p->anchor_offset;
	f->check_hash = p->anchor_hash;
	return true;
}

static bool
position_settled(CqKafkaSource *src, int partition, const CqKafkaLog *log)
{
	CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);
	bool below = p->next_offset < log->low;
	bool above = p->next_offset > log->high;

	if (above && !f->forgive && ++f->beyond < CONFIRMATIONS)
		return false;
	if (!below && !above && !f->forgive)
		return true;
	if (src->accept_loss)
	{
		src->lost += forgive(src, partition, log->low, log->high);
		return true;
	}
	f->phase = CQ_KAFKA_STOPPED;
	f->problem = below ? CQ_KAFKA_GAP : CQ_KAFKA_TRUNCATED;
	return false;
}

/*
 * Go on at the first record of the log.  Returns how many offsets are given
 * up; of a log that is not the old one, nobody can say.
 */
static int64
forgive(CqKafkaSource *src, int partition, int64 low, int64 high)
{
	CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);
	bool same_log = p->next_offset <= high && !f->forgive;
	int64 lost = same_log ? Max(low - p->next_offset, 0) : 0;

	if (!same_log)
		p->start_offset = low;
	p->next_offset = low;
	p->anchor_offset = CQ_OFFSET_UNKNOWN;
	p->anchor_hash = 0;
	f->reference_offset = CQ_OFFSET_UNKNOWN;
	p->leader_epoch = -1;
	p->caught_up = false;
	f->forgive = false;
	f->beyond = 0;
	return lost;
}

int64
cq_kafka_source_accept_loss(CqSource *source)
{
	CqKafkaSource *src = (CqKafkaSource *) source;
	int i;

	src->accept_loss = true;
	src->missing_answers = 0;
	for (i = 0; i < source->npartitions; i++)
	{
		CqKafkaFetcher *f = cq_kafka_fetcher(src, i);

		if (f->phase != CQ_KAFKA_STOPPED)
			continue;
		f->phase = CQ_KAFKA_UNVERIFIED;
		f->forgive = f->problem == CQ_KAFKA_RECREATED;
		if (f->problem == CQ_KAFKA_GAP || f->problem == CQ_KAFKA_TRUNCATED)
			src->lost += forgive(src, i, f->log_low, f->log_high);
		f->problem = CQ_KAFKA_FINE;
	}
	return src->lost;
}

int
cq_kafka_find_partition(const CqKafkaSource *src, int32 id)
{
	int i;

	for (i = 0; i < src->base.npartitions; i++)
		if (src->base.partitions[i].id == id)
			return i;
	return -1;
}

static void
report_problems(CqKafkaSource *src)
{
	int i;

	for (i = 0; i < src->base.npartitions; i++)
		if (cq_kafka_fetcher(src, i)->phase == CQ_KAFKA_STOPPED)
			report_problem(src, i);
}

static void
report_problem(CqKafkaSource *src, int partition)
{
	const CqPartition *p = &src->base.partitions[partition];
	CqKafkaFetcher *f = cq_kafka_fetcher(src, partition);

	switch (f->problem)
	{
		case CQ_KAFKA_GAP:
			ereport(
				ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("records of topic \"%s\" were deleted before stream \"%s\" could be read",
					   src->topic,
					   src->name),
				errdetail(
					"Partition %d: the next offset to read is %lld, and the log begins at %lld: "
					"retention gap of %lld offsets.",
					p->id,
					(long long) p->next_offset,
					(long long) f->log_low,
					(long long) (f->log_low - p->next_offset)),
				errhint(
					"Call pipeline.resume(view, accept_loss => true) to go on at the first record "
					"that is left."));
			break;
		case CQ_KAFKA_TRUNCATED:
			ereport(
				ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("topic \"%s\" was truncated, or deleted and created again", src->topic),
				errdetail(
					"Partition %d: the next offset to read is %lld, but the log ends at %lld.",
					p->id,
					(long long) p->next_offset,
					(long long) f->log_high),
				errhint(
					"Call pipeline.resume(view, accept_loss => true) to go on at the first record "
					"of the log."));
			break;
		case CQ_KAFKA_RECREATED:
			ereport(
				ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("topic \"%s\" was truncated, or deleted and created again", src->topic),
				errdetail(
					"Partition %d: the record at offset %lld is not the one that was read there.",
					p->id,
					(long long) f->check_offset),
				errhint(
					"Call pipeline.resume(view, accept_loss => true) to go on at the first record "
					"of the log."));
			break;
		case CQ_KAFKA_BROKEN:
		case CQ_KAFKA_FINE:
			ereport(ERROR,
					errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
					errmsg("could not read partition %d of topic \"%s\"", p->id, src->topic),
					errdetail("The Kafka client reports at or behind offset %lld: %s.",
							  (long long) p->next_offset,
							  rd_kafka_err2str(f->error)));
			break;
	}
}

static void
ask_questions(CqKafkaSource *src)
{
	int room = Max(src->base.npartitions, src->topic_partitions) + 1;
	int32 *ids = palloc(sizeof(int32) * room);
	/* questions are repeated until they are answered well: not too fast */
	int delay_ms = src->hurry ? 0 : RETRY_MS;
	bool by_time = src->first_start && src->start == CQ_START_TIMESTAMP;
	bool newcomers;
	int n;

	n = collect_newcomers(src, ids);
	newcomers = n > 0;
	/* those that a shard without any finds from now on are new */
	if (src->shards > 0 && !newcomers && src->topic_partitions >= 0)
		src->first_start = false;
	if (newcomers && src->newcomers_ticket == 0)
		src->newcomers_ticket =
			ask_logs(src, ids, n, by_time ? src->start_ms : CQ_KAFKA_NO_TIME, delay_ms);
	n = cq_kafka_collect_ids(src, CQ_KAFKA_UNVERIFIED, ids);
	if (n > 0 && src->verify_ticket == 0 && !src->doubt)
		src->verify_ticket = ask_logs(src, ids, n, CQ_KAFKA_NO_TIME, delay_ms);
	if (src->newcomers_ticket != 0 || src->verify_ticket != 0)
		src->hurry = false;
	ask_probe(src, ids, cq_kafka_collect_ids(src, CQ_KAFKA_READING, ids));
	cq_kafka_ask_marks(src, ids, newcomers);
	pfree(ids);
}

int
cq_kafka_collect_ids(const CqKafkaSource *src, CqKafkaPhase phase, int32 *ids)
{
	int n = 0;
	int i;

	for (i = 0; i < src->base.npartitions; i++)
		if (cq_kafka_fetcher(src, i)->phase == phase)
			ids[n++] = src->base.partitions[i].id;
	return n;
}

static int
collect_newcomers(const CqKafkaSource *src, int32 *ids)
{
	int n = 0;
	int32 id;

	for (id = 0; id < src->topic_partitions; id++)
		if (cq_kafka_wants(src, id) && cq_kafka_find_partition(src, id) < 0)
			ids[n++] = id;
	return n;
}

bool
cq_kafka_knows_partitions(const CqKafkaSource *src)
{
	return src->topic_partitions >= 0 && !src->first_start;
}

static uint64
ask_logs(CqKafkaSource *src, const int32 *ids, int n, int64 time_ms, int delay_ms)
{
	uint64 ticket = ++src->next_ticket;

	if (!cq_kafka_control_ask_logs(cq_kafka_client_control(src->client),
								   ticket,
								   ids,
								   n,
								   time_ms,
								   delay_ms))
		return 0;
	return ticket;
}

/*
 * A broker that does not answer and does not close the connection gives no
 * sign for long; so there is always a question on its way, or about to be.
 */
static void
ask_probe(CqKafkaSource *src, const int32 *ids, int n)
{
	bool suspicious = src->answered_us <= src->trouble_us || cq_kafka_unreachable(&src->base);

	if (n == 0 || (src->probe_ticket != 0 && !(suspicious && src->probe_slow)))
		return;
	src->probe_slow = !suspicious;
	src->probe_asked_us = cq_clock_us();
	src->probe_ticket = ask_logs(src, ids, n, CQ_KAFKA_NO_TIME, suspicious ? RETRY_MS : PROBE_MS);
}

/* A question that is under way may have been answered in part before. */
bool
cq_kafka_known_since(CqSource *source, int64 at_us)
{
	CqKafkaSource *src = (CqKafkaSource *) source;
	int32 *ids;
	int n;

	if (src->known_us >= at_us)
		return true;
	if (src->client == NULL || (src->probe_ticket != 0 && src->probe_asked_us >= at_us))
		return false;
	ids = palloc(sizeof(int32) * (source->npartitions + 1));
	n = cq_kafka_collect_ids(src, CQ_KAFKA_READING, ids);
	if (n > 0)
	{
		src->probe_slow = false;
		src->probe_asked_us = cq_clock_us();
		src->probe_ticket = ask_logs(src, ids, n, CQ_KAFKA_NO_TIME, 0);
	}
	pfree(ids);
	return false;
}

static void
take_probe(CqKafkaSource *src, const CqKafkaAnswer *answer)
{
	int i;

	if (!cq_kafka_answer_complete(answer))
		return;
	src->known_us = src->probe_asked_us;
	for (i = 0; i < answer->nlogs; i++)
	{
		int partition = cq_kafka_find_partition(src, answer->logs[i].id);
		CqPartition *p;

		if (partition < 0 || cq_kafka_fetcher(src, partition)->phase != CQ_KAFKA_READING)
			continue;
		p = &src->base.partitions[partition];
		p->end_offset = Max(p->end_offset, answer->logs[i].high);
		if (p->end_offset > p->next_offset)
			p->caught_up = false;
	}
}

/*
 * Out of reach, or not known to be within reach: at least one partition's
 * broker gave no answer lately.  Without partitions none is asked.
 */
bool
cq_kafka_unreachable(CqSource *source)
{
	CqKafkaSource *src = (CqKafkaSource *) source;

	return src->answered_us == 0 || src->answered_us <= Max(src->failed_us, src->all_down_us) ||
		   (source->npartitions > 0 && cq_kafka_clock_us() - src->answered_us > FRESH_US);
}

/* New records make a partition busy when they are fetched; the log's end says so earlier. */
static void
refresh_ends(CqKafkaSource *src)
{
	int64 now = cq_kafka_clock_us();
	int i;

	if (now - src->refreshed_us < REFRESH_INTERVAL_US)
		return;
	src->refreshed_us = now;
	for (i = 0; i < src->base.npartitions; i++)
		if (cq_kafka_fetcher(src, i)->phase == CQ_KAFKA_READING)
			cq_kafka_refresh_end(src, i);
}
