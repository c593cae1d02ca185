/*
 * producer.c
 *	  Writing records to topics.
 *
 * Producers are idempotent: the client repeats what was not acknowledged without
 * writing it twice or out of order.  Each record is acknowledged by all replicas
 * that are in sync.
 *
 * Connecting takes longer than writing a record, so producers, one for each server
 * and user, are kept for the session's next transactions: a few, those that were used
 * last, since each has threads and sockets.  Settings are read anew for each
 * transaction, and if they are others now, so is the producer.  One that has failed,
 * or that was left with records under way, is given up.
 *
 * Waiting is for the latch and the client's pipe.  That it ends is up to the client,
 * which reports each record as failed after message.timeout.ms.
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
#include "source/kafka/producer.h"

#define LONGEST_WAIT_MS 1000
#define MAX_ARGUMENTS	7
#define MAX_KEPT		4 /* between transactions */

struct CqKafkaProducer
{
	dlist_node node;
	MemoryContext context;
	Oid server_id;
	Oid user;
	CqKafkaSettings *settings;
	CqKafkaClient *client;
	char *server;
	int wake_read;
	int wake_write;
	int64 under_way; /* sent and not reported yet */

	/* the first that failed since the last flush */
	rd_kafka_resp_err_t failure;
	int32 failed_partition;
	char *failed_topic; /* malloc'ed */
};

/* the one that was asked for last is the first */
static dlist_head producers = DLIST_STATIC_INIT(producers);

static CqKafkaProducer *find_producer(Oid server_id, Oid user);
static CqKafkaProducer *open_producer(Oid server_id, Oid user, CqKafkaSettings *settings,
									  MemoryContext context);
static rd_kafka_error_t *produce(CqKafkaProducer *producer, const char *topic,
								 const CqMessage *message);
static rd_kafka_headers_t *make_headers(const CqMessage *message);
static void take_reports(CqKafkaProducer *producer);
static void note_failure(CqKafkaProducer *producer, const rd_kafka_message_t *message);
static void check_failure(CqKafkaProducer *producer);
static void refuse(const char *topic, int32 partition, rd_kafka_resp_err_t error) CQ_NORETURN;
static void wait_for_reports(CqKafkaProducer *producer);
static void give_up(CqKafkaProducer *producer);
static void give_up_all(void);

CqKafkaProducer *
cq_kafka_producer_get(Oid server_id, Oid user)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pipeline kafka producer",
												  ALLOCSET_SMALL_SIZES);
	CqKafkaSettings *settings = cq_kafka_settings_load(server_id, user, context);
	CqKafkaProducer *producer = find_producer(server_id, user);

	if (producer && producer->under_way == 0 &&
		!cq_kafka_settings_equal(producer->settings, settings))
	{
		give_up(producer);
		producer = NULL;
	}
	if (producer == NULL)
		return open_producer(server_id, user, settings, context);
	cq_kafka_settings_wipe(settings);
	MemoryContextDelete(context);
	dlist_move_head(&producers, &producer->node);
	return producer;
}

static CqKafkaProducer *
find_producer(Oid server_id, Oid user)
{
	dlist_iter iter;

	dlist_foreach (iter, &producers)
	{
		CqKafkaProducer *producer = dlist_container(CqKafkaProducer, node, iter.cur);

		if (producer->server_id == server_id && producer->user == user)
			return producer;
	}
	return NULL;
}

/* Until nothing can throw any more all belongs to the caller's context. */
static CqKafkaProducer *
open_producer(Oid server_id, Oid user, CqKafkaSettings *settings, MemoryContext context)
{
	CqKafkaProducer *producer = MemoryContextAllocZero(context, sizeof(CqKafkaProducer));
	int ends[2];

	producer->context = context;
	producer->server_id = server_id;
	producer->user = user;
	producer->settings = settings;
	producer->server = MemoryContextStrdup(context, GetForeignServer(server_id)->servername);
	cq_kafka_client_at_exit(give_up_all);
	cq_kafka_wake_pipe(ends, producer->server);
	PG_TRY();
	{
		producer->client = cq_kafka_client_open_producer(settings, ends[1]);
	}
	PG_CATCH();
	{
		close(ends[0]);
		close(ends[1]);
		PG_RE_THROW();
	}
	PG_END_TRY();
	producer->wake_read = ends[0];
	producer->wake_write = ends[1];
	MemoryContextSetParent(context, TopMemoryContext);
	dlist_push_head(&producers, &producer->node);
	return producer;
}

int64
cq_kafka_producer_max_bytes(const CqKafkaProducer *producer)
{
	return cq_kafka_settings_message_bytes(producer->settings);
}

void
cq_kafka_producer_send(CqKafkaProducer *producer, const char *topic, const CqMessage *message)
{
	for (;;)
	{
		rd_kafka_error_t *error = produce(producer, topic, message);
		rd_kafka_resp_err_t code;

		if (error == NULL)
			break;
		code = rd_kafka_error_code(error);
		rd_kafka_error_destroy(error);
		if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			refuse(topic, message->partition, code);
		take_reports(producer);
		check_failure(producer);
		wait_for_reports(producer);
	}
	producer->under_way++;
	/* reports are taken in as they come, or they would pile up */
	if (producer->under_way % 1024 == 0)
	{
		take_reports(producer);
		check_failure(producer);
		CHECK_FOR_INTERRUPTS();
	}
}

/* The client copies everything. */
static rd_kafka_error_t *
produce(CqKafkaProducer *producer, const char *topic, const CqMessage *message)
{
	rd_kafka_headers_t *headers = make_headers(message);
	rd_kafka_vu_t arguments[MAX_ARGUMENTS];
	rd_kafka_error_t *error;
	int n = 0;

	arguments[n].vtype = RD_KAFKA_VTYPE_TOPIC;
	arguments[n++].u.cstr = topic;
	arguments[n].vtype = RD_KAFKA_VTYPE_PARTITION;
	arguments[n++].u.i32 =
		message->partition == CQ_ANY_PARTITION ? RD_KAFKA_PARTITION_UA : message->partition;
	arguments[n].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
	arguments[n++].u.i = RD_KAFKA_MSG_F_COPY;
	arguments[n].vtype = RD_KAFKA_VTYPE_VALUE;
	arguments[n].u.mem.ptr = unconstify(char *, message->payload);
	arguments[n++].u.mem.size = message->payload_len;
	arguments[n].vtype = RD_KAFKA_VTYPE_KEY;
	arguments[n].u.mem.ptr = unconstify(char *, message->key);
	arguments[n++].u.mem.size = message->key_len;
	if (message->timestamp_ms != CQ_NO_TIMESTAMP)
	{
		arguments[n].vtype = RD_KAFKA_VTYPE_TIMESTAMP;
		arguments[n++].u.i64 = message->timestamp_ms;
	}
	if (headers)
	{
		arguments[n].vtype = RD_KAFKA_VTYPE_HEADERS;
		arguments[n++].u.headers = headers;
	}
	error = rd_kafka_produceva(cq_kafka_client_handle(producer->client), arguments, n);
	/* they are the client's own if it took the record */
	if (error && headers)
		rd_kafka_headers_destroy(headers);
	return error;
}

static rd_kafka_headers_t *
make_headers(const CqMessage *message)
{
	rd_kafka_headers_t *headers;
	int i;

	if (message->nheaders == 0)
		return NULL;
	headers = rd_kafka_headers_new(message->nheaders);
	for (i = 0; i < message->nheaders; i++)
	{
		const CqHeader *header = &message->headers[i];
		rd_kafka_resp_err_t error =
			rd_kafka_header_add(headers,
								header->name,
								-1,
								header->value,
								header->value ? (ssize_t) header->value_len : 0);

		if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			rd_kafka_headers_destroy(headers);
			elog(ERROR, "could not add a header to a record: %s", rd_kafka_err2str(error));
		}
	}
	return headers;
}

void
cq_kafka_producer_flush(CqKafkaProducer *producer)
{
	for (;;)
	{
		take_reports(producer);
		check_failure(producer);
		if (producer->under_way == 0)
			return;
		wait_for_reports(producer);
	}
}

static void
take_reports(CqKafkaProducer *producer)
{
	rd_kafka_event_t *event;

	while ((event = cq_kafka_client_delivery(producer->client, producer->server)) != NULL)
	{
		const rd_kafka_message_t *message;

		while ((message = rd_kafka_event_message_next(event)) != NULL)
		{
			producer->under_way--;
			if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
				note_failure(producer, message);
		}
		rd_kafka_event_destroy(event);
	}
}

/* Must not throw: an event is in hand. */
static void
note_failure(CqKafkaProducer *producer, const rd_kafka_message_t *message)
{
	if (producer->failure != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	producer->failure = message->err;
	producer->failed_partition = message->partition;
	producer->failed_topic = message->rkt ? strdup(rd_kafka_topic_name(message->rkt)) : NULL;
}

static void
check_failure(CqKafkaProducer *producer)
{
	if (producer->failure != RD_KAFKA_RESP_ERR_NO_ERROR)
		refuse(producer->failed_topic ? pstrdup(producer->failed_topic) : "",
			   producer->failed_partition,
			   producer->failure);
}

static void
refuse(const char *topic, int32 partition, rd_kafka_resp_err_t error)
{
	const char *hint = "Records of this transaction may be in the topic or not.";

	switch (error)
	{
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
			ereport(ERROR,
					errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("topic \"%s\" does not exist", topic));
			break;
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
			ereport(ERROR,
					errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("partition %d of topic \"%s\" does not exist", partition, topic));
			break;
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
			hint =
				"The server's option \"message.max.bytes\" and the topic's \"max.message.bytes\" "
				"limit it.";
			break;
		case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
			hint =
				"How long to wait is the server's option \"message.timeout.ms\". Records of this "
				"transaction may be in the topic or not.";
			break;
		default:
			break;
	}
	ereport(ERROR,
			errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
			errmsg("could not write to topic \"%s\"", topic),
			errdetail("The Kafka client reports: %s.", rd_kafka_err2str(error)),
			errhint("%s", hint));
}

static void
wait_for_reports(CqKafkaProducer *producer)
{
	(void) WaitLatchOrSocket(MyLatch,
							 WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 producer->wake_read,
							 LONGEST_WAIT_MS,
							 cq_wait_event(CQ_WAIT_KAFKA_PRODUCE));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	cq_kafka_wake_drain(producer->wake_read);
}

/* The process's exit may have been faster. */
void
cq_kafka_producer_abandon(Oid server_id, Oid user)
{
	CqKafkaProducer *producer = find_producer(server_id, user);

	if (producer)
		give_up(producer);
}

void
cq_kafka_producer_keep_few(void)
{
	dlist_mutable_iter iter;
	int kept = 0;

	dlist_foreach_modify (iter, &producers)
		if (++kept > MAX_KEPT)
			give_up(dlist_container(CqKafkaProducer, node, iter.cur));
}

static void
give_up(CqKafkaProducer *producer)
{
	dlist_delete(&producer->node);
	if (producer->under_way > 0)
		(void) rd_kafka_purge(cq_kafka_client_handle(producer->client),
							  RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
								  RD_KAFKA_PURGE_F_NON_BLOCKING);
	cq_kafka_client_close(producer->client);
	close(producer->wake_read);
	close(producer->wake_write);
	free(producer->failed_topic);
	cq_kafka_settings_wipe(producer->settings);
	MemoryContextDelete(producer->context);
}

static void
give_up_all(void)
{
	while (!dlist_is_empty(&producers))
		give_up(dlist_head_element(CqKafkaProducer, node, &producers));
}
