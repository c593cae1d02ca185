/*
 * read_state.h
 *	  What the files behind read.h share.
 */
#pragma once

#include "postgres.h"

#include "lib/ilist.h"

#include "source/kafka/client.h"
#include "source/kafka/read.h"

#define CQ_READ_BATCH 256 /* messages taken out of a queue at once */

/* Offsets [start, end). */
typedef struct CqOffsetRange
{
	int64 start;
	int64 end;
} CqOffsetRange;

typedef struct CqReadLog
{
	CqKafkaBounds bounds;
	int64 at_time; /* where records not before CqKafkaRead.from_ms begin */

	CqOffsetRange *ranges; /* ascending, apart; of the last start */
	int nranges;
	int at;			/* the one that is being read */
	int64 position; /* no record in front of it is wanted any more */
	bool touched;

	rd_kafka_queue_t *queue; /* NULL = not open */
	bool assigned;
	int queue_left; /* in it after the last fetch */
	int queue_peak; /* most since new ones last arrived */
} CqReadLog;

struct CqKafkaRead
{
	MemoryContext context;
	MemoryContext ranges; /* of the last start */
	MemoryContextCallback on_reset;
	dlist_node node;
	bool open;

	char *topic;
	char *name;
	char *server;
	int nwanted; /* 0 = all */
	int32 *wanted;
	CqKafkaSettings *settings;
	CqKafkaClient *client;
	int wake_read;
	int wake_write;
	int timeout_ms;
	int64 heard_us; /* monotonic; when the last answer came, or we began to wait for one */
	rd_kafka_resp_err_t failure; /* last seen */

	int nlogs; /* -1 = not known */
	CqReadLog *logs;
	uint64 ticket;
	int64 from_ms; /* that at_time of the logs is for */
	int next_log;  /* to be opened */
	int nopen;
	int turn; /* the log that was read last */

	int current; /* log that the messages in hand are of */
	int count;
	int taken;
	rd_kafka_message_t *messages[CQ_READ_BATCH];
	CqRecord record;
	CqKafkaReadStats stats;
};

/* read_bounds.c: what the brokers say of the topic. */

/* Find out, once, which partitions there are and from where to where their logs go. */
extern void cq_kafka_read_find_logs(CqKafkaRead *read);

/* Where in each log a time begins; or, with CQ_KAFKA_ANY_TIME, its bounds. */
extern void cq_kafka_read_ask_bounds(CqKafkaRead *read, int64 from_ms);

/* read_log.c: one partition's log. */

/* Which of its offsets are wanted. */
extern void cq_kafka_read_log_plan(CqKafkaRead *read, CqReadLog *log, const CqKafkaSlice *slices,
								   int nslices);

/* Have it fetched from where it begins to be wanted. */
extern void cq_kafka_read_log_open(CqKafkaRead *read, CqReadLog *log);

/* Nothing more is wanted of it. */
extern void cq_kafka_read_log_finish(CqKafkaRead *read, CqReadLog *log);

/* Give its queue back.  Neither throws nor waits. */
extern void cq_kafka_read_log_close(CqKafkaRead *read, CqReadLog *log);

/* So many messages were taken out of its queue: have more fetched in time. */
extern void cq_kafka_read_log_took(CqKafkaRead *read, CqReadLog *log, int taken);

/* Is the message, of the log in hand, a record that is wanted?  If so it is read->record. */
extern bool cq_kafka_read_log_accept(CqKafkaRead *read, rd_kafka_message_t *message);

/* read.c */

/* What will not be better when it is tried again. */
extern void cq_kafka_read_fail(CqKafkaRead *read, rd_kafka_resp_err_t error) CQ_NORETURN;

/* The brokers are there: the time in which they must answer begins again. */
extern void cq_kafka_read_heard(CqKafkaRead *read);

/* Wait for the brokers, for interrupts too; an error if they are silent for too long. */
extern void cq_kafka_read_wait(CqKafkaRead *read);
