/*
 * producer.h
 *	  Writing records to topics: sent, and acknowledged by the brokers.
 */
#pragma once

#include "postgres.h"

#include "source/message.h"

typedef struct CqKafkaProducer CqKafkaProducer;

/*
 * A producer for the brokers of a server with a user's mapping.  It connects in
 * the background and is kept at least until the transaction ends.  Inside a
 * transaction.
 */
extern CqKafkaProducer *cq_kafka_producer_get(Oid server_id, Oid user);

/* The longest record that it sends. */
extern int64 cq_kafka_producer_max_bytes(const CqKafkaProducer *producer);

/* Waits, for interrupts too, while more is under way than memory allows. */
extern void cq_kafka_producer_send(CqKafkaProducer *producer, const char *topic,
								   const CqMessage *message);

/*
 * Wait, for interrupts too, until all that was sent is acknowledged.  Error if a
 * record is not, after the server's "message.timeout.ms" at the latest.
 */
extern void cq_kafka_producer_flush(CqKafkaProducer *producer);

/*
 * Have nothing more to do with what was sent and not acknowledged: it may be written
 * or not.  The producer, if there still is one, is not used again.  Neither throws
 * nor waits.
 */
extern void cq_kafka_producer_abandon(Oid server_id, Oid user);

/*
 * Close all but the few that were used last.  Not while one of them is in use: at the
 * end of a transaction.  Neither throws nor waits.
 */
extern void cq_kafka_producer_keep_few(void);
