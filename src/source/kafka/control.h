/*
 * control.h
 *	  A thread that asks brokers the questions that block.
 *
 * Plain C: no symbol of PostgreSQL may be reached from the thread.  Questions
 * and answers are passed in queues under a mutex; answers also wake the main
 * thread through a file descriptor.
 */
#pragma once

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct CqKafkaControl CqKafkaControl;

/* What is known of one partition's log. */
typedef struct CqKafkaLog
{
	int32_t id;
	int64_t low;	 /* first offset kept */
	int64_t high;	 /* behind the last record that a reader of committed records may see */
	int64_t at_time; /* first record at or after the asked time, high if none */
	rd_kafka_resp_err_t error;
} CqKafkaLog;

typedef enum CqKafkaAnswerKind
{
	CQ_KAFKA_ANSWER_METADATA,
	CQ_KAFKA_ANSWER_LOGS,
	CQ_KAFKA_ANSWER_TOPICS
} CqKafkaAnswerKind;

typedef struct CqKafkaAnswer
{
	struct CqKafkaAnswer *next;
	CqKafkaAnswerKind kind;
	uint64_t ticket;  /* of the question; 0 = nobody asked */
	int64_t begun_us; /* monotonic; when the brokers were asked */
	rd_kafka_resp_err_t error;
	int npartitions; /* METADATA */
	int nlogs;		 /* LOGS */
	int ntopics;	 /* TOPICS: as many pairs of "name\0partitions\0" are behind this struct */
	size_t topics_size;
	CqKafkaLog logs[];
} CqKafkaAnswer;

#define CQ_KAFKA_NO_TIME INT64_MIN

/*
 * Start the thread for one topic.  It asks for the topic's metadata at once,
 * then every refresh_ms (more often while the answer is bad); without a topic
 * (NULL) for the names of all of them.  The caller has all signals blocked.
 * NULL if there is no memory or no thread.
 */
extern CqKafkaControl *cq_kafka_control_start(rd_kafka_t *handle, const char *topic, int refresh_ms,
											  int wake_fd);

/* Ask for the metadata out of turn. */
extern void cq_kafka_control_ask_metadata(CqKafkaControl *control);

/*
 * Ask for the bounds of partitions' logs, and for the first records at or
 * after time_ms unless that is CQ_KAFKA_NO_TIME.  False = out of memory.
 */
extern bool cq_kafka_control_ask_logs(CqKafkaControl *control, uint64_t ticket, const int32_t *ids,
									  int n, int64_t time_ms, int delay_ms);

/* The same about a topic that is not the thread's own. */
extern bool cq_kafka_control_ask_logs_of(CqKafkaControl *control, const char *topic,
										 uint64_t ticket, const int32_t *ids, int n);

/*
 * Make librdkafka look at the queues of these partitions again (see
 * consumer.c), soon but not too often.  There is no answer.
 */
extern void cq_kafka_control_nudge(CqKafkaControl *control, const int32_t *ids, int n);

/* The oldest answer, to be given to free(); NULL if there is none. */
extern CqKafkaAnswer *cq_kafka_control_take(CqKafkaControl *control);

/* Tell the thread to end; does not wait. */
extern void cq_kafka_control_stop(CqKafkaControl *control);

/* Wait for the thread's end, for as long as a request takes, and free everything. */
extern void cq_kafka_control_join(CqKafkaControl *control);

/* Monotonic clock. */
extern int64_t cq_kafka_clock_us(void);
