/*
 * consumer.h
 *	  A Kafka source's own view of itself, shared by the files of this folder.
 */
#pragma once

#include "postgres.h"

#include "lib/ilist.h"

#include <librdkafka/rdkafka.h>

#include "source/kafka/client.h"
#include "source/source.h"

typedef enum CqKafkaPhase
{
	CQ_KAFKA_UNVERIFIED, /* not read until its position was compared with its log */
	CQ_KAFKA_READING,
	CQ_KAFKA_EXCLUDED, /* the stream's option "partitions" leaves it out */
	CQ_KAFKA_STOPPED   /* not read any more; see problem */
} CqKafkaPhase;

typedef enum CqKafkaProblem
{
	CQ_KAFKA_FINE,
	CQ_KAFKA_GAP,		/* the log begins behind our position */
	CQ_KAFKA_TRUNCATED, /* the log ends in front of our position */
	CQ_KAFKA_RECREATED, /* another record is where our last one was */
	CQ_KAFKA_BROKEN		/* the client gave an error that it does not mend itself */
} CqKafkaProblem;

/* CqPartition.source_private */
typedef struct CqKafkaFetcher
{
	CqKafkaPhase phase;
	CqKafkaProblem problem;
	rd_kafka_resp_err_t error; /* BROKEN */
	int64 log_low;			   /* bounds of the log when the problem was found */
	int64 log_high;
	bool forgive; /* go on at the log's first record, wherever the position is */
	int beyond;	  /* answers in a row that put the log's end in front of our position */

	bool assigned; /* known to librdkafka */
	bool begun;	   /* something arrived since it was assigned */
	bool checking; /* the first record must be the one with this offset and hash */
	int64 check_offset;
	uint64 check_hash;
	int64 reference_offset; /* a record that we know is ours, older than the anchor; -1 if none */
	uint64 reference_hash;
	int64 assigned_us; /* monotonic */
	rd_kafka_queue_t *queue;

	/*
	 * Records in hand: [0, taken) were taken over by advance() and go at the
	 * next poll, [taken, handed) were given out by the last poll.  floor: the
	 * lowest position that can be gone back to in memory.
	 */
	rd_kafka_message_t **messages;
	int capacity;
	int count;
	int taken;
	int handed;
	int64 floor;
	int64 limit;	/* no record from this offset on is handed out; -1 = all are */
	int64 eof;		/* the readable end was here, behind the records in hand; -1 if not */
	int queue_left; /* in the queue after the last poll */
	int queue_peak; /* most that were found there since new ones last arrived */
	uint64 turn;	/* when it was last polled */

	/* skew.c: how far records take it */
	int quota;				 /* most that it may give in a poll by what it gave before */
	int left;				 /* of what it may give in this poll */
	int gave;				 /* in the last poll */
	TimestampTz time_before; /* its max_event_time then */
	int64 pace_us;			 /* event time per record, as of the last poll that had any */

	bool rereading; /* what lies between a checked record and our position */
	int64 dropped;	/* records in front of our position that came again */
} CqKafkaFetcher;

/* Records of one partition that stand together in CqSource.records. */
typedef struct CqKafkaStretch
{
	int partition;
	int count;
} CqKafkaStretch;

/* A mark_end() that has not been seen to be reached. */
typedef struct CqKafkaMark
{
	dlist_node node;
	int64 ticket;
	int64 made_us;
	uint64 question; /* ticket of the question that is under way */
	int retries;
	bool asked;
	bool answered;
	int nends;
	int32 *ids;
	int64 *ends;
} CqKafkaMark;

typedef struct CqKafkaSource
{
	CqSource base;
	MemoryContextCallback on_reset;
	dlist_node node; /* in the list of open sources of this process */
	bool open;

	char *topic;
	char *name; /* of the stream, for messages */
	CqStart start;
	int64 start_ms; /* CQ_START_TIMESTAMP, in Kafka's time */
	int nwanted;	/* option "partitions"; 0 = all */
	int32 *wanted;
	int shard; /* of the partitions those with id % shards = shard; shards = 0: all */
	int shards;
	CqKafkaSettings *settings;
	int refresh_ms;

	CqKafkaClient *client;
	int sized_for; /* partitions that the client's buffers are sized for */
	int wake_read;
	int wake_write;

	int topic_partitions; /* -1 = not known */
	bool first_start;	  /* positions are still to be found as the "start" option says */
	bool read_before;	  /* so the topic did exist */
	bool doubt;			  /* brokers said there is no such topic; verify later */
	int missing_answers;
	int shrunk_answers;
	bool accept_loss;
	int64 lost;

	/* questions under way; 0 = none */
	uint64 next_ticket;
	uint64 newcomers_ticket;
	uint64 verify_ticket;
	uint64 probe_ticket;
	bool probe_slow; /* it is a routine one */
	bool hurry;		 /* ask without delay */

	int64 probe_asked_us; /* monotonic, as the following */
	int64 known_us;		  /* when the last probe was asked that all partitions answered */

	int64 metadata_us; /* monotonic; when the last good answers were asked for */
	int64 answered_us;
	int64 failed_us; /* likewise of the last bad one */
	rd_kafka_resp_err_t failure;
	int64 all_down_us; /* as in CqKafkaHealth, as far as taken note of */
	int64 trouble_us;
	int64 refreshed_us;

	int64 first_mark;
	int64 next_mark;
	dlist_head marks;

	int records_capacity;
	CqKafkaStretch *stretches;
	int nstretches;
	int stretches_capacity;
	int *order; /* scratch of poll */
	int order_capacity;
	uint64 turn;
} CqKafkaSource;

/* How far partitions are from each other; see skew.c. */
typedef struct CqKafkaSkew
{
	bool matters;		  /* there are several, and they have event times */
	bool wait;			  /* one whose records have not begun to arrive may be far behind */
	int lowest_partition; /* of those with a backlog; -1 = none */
	TimestampTz lowest;	  /* its highest event time; DT_NOEND */
	TimestampTz second;	  /* that of the next; DT_NOEND */
} CqKafkaSkew;

static inline CqKafkaFetcher *
cq_kafka_fetcher(const CqKafkaSource *src, int partition)
{
	return (CqKafkaFetcher *) src->base.partitions[partition].source_private;
}

/* consumer.c: the way of the records */
extern int cq_kafka_poll(CqSource *source, int max);
extern void cq_kafka_advance(CqSource *source, int n);
extern bool cq_kafka_ready(CqSource *source);
extern bool cq_kafka_has_backlog(CqSource *source);

/* Make wakeup_fd unreadable.  What woke us is looked for in the queues and answers, after this. */
extern void cq_kafka_drain_wakeups(CqKafkaSource *src);

/* Compare a partition's position with its log's end as last told by a fetch. */
extern void cq_kafka_refresh_end(CqKafkaSource *src, int partition);

/*
 * skew.c.  find: how do partitions stand to each other now?  allows: may this one
 * be read?  quota: at most how many of its records, in the poll that begins; at
 * least one.
 */
extern void cq_kafka_skew_find(const CqKafkaSource *src, CqKafkaSkew *skew);
extern bool cq_kafka_skew_allows(const CqKafkaSource *src, const CqKafkaSkew *skew, int partition);
extern int cq_kafka_skew_quota(CqKafkaSource *src, const CqKafkaSkew *skew, int partition, int max);

/*
 * assignment.c
 */

extern void cq_kafka_seek(CqSource *source);

/* Begin to read partitions at their positions, or at the record to be checked. */
extern void cq_kafka_assign(CqKafkaSource *src, const int *partitions, int n);

/* Have the log read from an offset on; what is in hand is given back. */
extern void cq_kafka_seek_log(CqKafkaSource *src, int partition, int64 offset);

/* Give back records and queues of a partition; librdkafka may go on fetching. */
extern void cq_kafka_fetcher_release(CqKafkaFetcher *fetcher);

/* Read no further until the position has been compared with the log again. */
extern void cq_kafka_distrust(CqKafkaSource *src, int partition);

/*
 * Look whether the log still has a record that we read some time ago, if more
 * were read since.
 */
extern void cq_kafka_check_reference(CqKafkaSource *src, int partition);

/* maintain.c: everything that is known by asking */
extern bool cq_kafka_maintain(CqSource *source);
extern bool cq_kafka_unreachable(CqSource *source);
extern bool cq_kafka_known_since(CqSource *source, int64 at_us);

/* Are all partitions known that there are to read? */
extern bool cq_kafka_knows_partitions(const CqKafkaSource *src);

/* Index into CqSource.partitions by Kafka's number; -1 if there is none. */
extern int cq_kafka_find_partition(const CqKafkaSource *src, int32 id);

/* Kafka's numbers of all partitions in a phase; returns how many. */
extern int cq_kafka_collect_ids(const CqKafkaSource *src, CqKafkaPhase phase, int32 *ids);

/* Does the answer tell about all partitions that were asked for? */
extern bool cq_kafka_answer_complete(const CqKafkaAnswer *answer);

/* marks.c */
extern int64 cq_kafka_mark_end(CqSource *source);
extern bool cq_kafka_reached(CqSource *source, int64 ticket);

/* Ask for the ends of marks that have none; ids is scratch for the numbers of all partitions. */
extern void cq_kafka_ask_marks(CqKafkaSource *src, int32 *ids, bool newcomers);
extern void cq_kafka_take_mark_ends(CqKafkaSource *src, const CqKafkaAnswer *answer);

/* place.c */
extern CqPlace cq_kafka_place(CqSource *source, const CqPartition *partitions, int npartitions);
extern void cq_kafka_limit(CqSource *source, const CqPartition *partitions, int npartitions);

/* source.c */
extern bool cq_kafka_wants(const CqKafkaSource *src, int32 id);
extern void cq_kafka_add_partition(CqKafkaSource *src, const CqPartition *partition);

/* Open the client again, with buffers sized for the number of partitions that is known now. */
extern void cq_kafka_reopen_client(CqKafkaSource *src);
