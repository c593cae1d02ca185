/*
 * client.h
 *	  One librdkafka handle with its threads, from creation to the end of the
 *	  process.
 */
#pragma once

#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "source/kafka/conf.h"
#include "source/kafka/control.h"

typedef struct CqKafkaClient CqKafkaClient;

/* What events have told since the client was opened. */
typedef struct CqKafkaHealth
{
	int64 all_down_us; /* monotonic; when all brokers were last lost, 0 = never */
	int64 trouble_us;  /* likewise for any one broker */
	int32 last_error;  /* rd_kafka_resp_err_t of the last trouble */
	bool fatal;
} CqKafkaHealth;

/*
 * Create a consumer's handle and its control thread for a topic, or for finding
 * out which topics there are (NULL; control.h).  Nothing is waited for.  The
 * client lives outside of PostgreSQL's memory; cq_kafka_client_close() must be
 * called for it.  wake_fd: written to when there may be something to read; the
 * client makes a duplicate of it.
 */
extern CqKafkaClient *cq_kafka_client_open(const CqKafkaSettings *settings,
										   const CqKafkaFetching *fetching, const char *topic,
										   int refresh_ms, int wake_fd);

/* Likewise a producer's handle, without a control thread. */
extern CqKafkaClient *cq_kafka_client_open_producer(const CqKafkaSettings *settings, int wake_fd);

extern rd_kafka_t *cq_kafka_client_handle(CqKafkaClient *client);
extern CqKafkaControl *cq_kafka_client_control(CqKafkaClient *client);

/* Descriptor for rd_kafka_queue_io_event_enable(); stays open as long as the handle. */
extern int cq_kafka_client_wake_fd(CqKafkaClient *client);

/* Take in the client's events: log what it logs, note errors. */
extern const CqKafkaHealth *cq_kafka_client_events(CqKafkaClient *client, const char *stream);

/*
 * A producer's next event that tells of records sent, to be given to
 * rd_kafka_event_destroy(); NULL if there is none now.  Others are taken in.
 */
extern rd_kafka_event_t *cq_kafka_client_delivery(CqKafkaClient *client, const char *server);

/*
 * Give up the handle: a thread destroys it, which can take as long as a name
 * server or a broker likes.  All messages and queues must have been given
 * back.  Does not wait, never fails.
 */
extern void cq_kafka_client_close(CqKafkaClient *client);

/*
 * A pipe for wake_fd, of which neither end blocks: ends[0] to read from, ends[1]
 * to give to the client.  Its owner closes it.
 */
extern void cq_kafka_wake_pipe(int ends[2], const char *stream);

/* Make ends[0] unreadable. */
extern void cq_kafka_wake_drain(int read_end);

/*
 * Have a function called when the process exits, before the clients that are
 * still being destroyed are waited for.
 */
extern void cq_kafka_client_at_exit(void (*release)(void));
