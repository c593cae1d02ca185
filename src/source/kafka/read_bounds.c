/*
 * read_bounds.c
 *	  Which partitions a topic has, and from where to where their logs go.
 *
 * The ends of the logs are asked for once.  They are last stable offsets: what open
 * transactions have written is behind them, and what comes later is, too.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "compat.h"
#include "source/kafka/read_state.h"

#define ASK_AGAIN_MS 200

static bool wants(const CqKafkaRead *read, int32 id);
static CqKafkaAnswer *ask_logs(CqKafkaRead *read, int64 from_ms);
static bool answer_usable(CqKafkaRead *read, const CqKafkaAnswer *answer);
static CqKafkaAnswer *wait_answer(CqKafkaRead *read, CqKafkaAnswerKind kind, uint64 ticket);
static bool is_final(rd_kafka_resp_err_t error);

void
cq_kafka_read_find_logs(CqKafkaRead *read)
{
	CqKafkaAnswer *answer;
	rd_kafka_resp_err_t error;
	int npartitions;
	int i;

	if (read->nlogs >= 0)
		return;
	cq_kafka_read_heard(read);
	do
	{
		answer = wait_answer(read, CQ_KAFKA_ANSWER_METADATA, 0);
		error = answer->error;
		npartitions = answer->npartitions;
		free(answer);
		if (error != RD_KAFKA_RESP_ERR_NO_ERROR && is_final(error))
			cq_kafka_read_fail(read, error);
		read->failure = error;
	} while (error != RD_KAFKA_RESP_ERR_NO_ERROR);
	cq_kafka_read_heard(read);
	read->logs = MemoryContextAllocZero(read->context, sizeof(CqReadLog) * (npartitions + 1));
	read->nlogs = 0;
	for (i = 0; i < npartitions; i++)
		if (wants(read, i))
			read->logs[read->nlogs++].bounds.id = i;
	read->stats.partitions = read->nlogs;
	if (read->nlogs > 0)
		cq_kafka_read_ask_bounds(read, CQ_KAFKA_ANY_TIME);
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
void
cq_kafka_read_ask_bounds(CqKafkaRead *read, int64 from_ms)
{
	CqKafkaAnswer *answer = ask_logs(read, from_ms);
	int i;

	for (i = 0; i < read->nlogs; i++)
	{
		CqReadLog *log = &read->logs[i];
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
	cq_kafka_read_heard(read);
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
			cq_kafka_read_fail(read, read->failure);
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
			cq_kafka_read_wait(read);
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
