/*
 * producer.h
 *	  Writing records to topics: sent, and acknowledged by the brokers.
 */
#pragma once

#include "postgres.h"

typedef struct CqKafkaProducer CqKafkaProducer;

#define CQ_ANY_PARTITION (-1)
#define CQ_NO_TIMESTAMP	 (-1)

typedef struct CqHeader
{
	const char *name;
	const char *value; /* NULL = none */
	Size value_len;
} CqHeader;

/* A record to be written. */
typedef struct CqMessage
{
	int32 partition;	 /* or CQ_ANY_PARTITION: by the key, if there is one */
	int64 timestamp_ms;	 /* since 1970; or CQ_NO_TIMESTAMP: when it is sent */
	const char *payload; /* NULL = no value */
	Size payload_len;
	const char *key; /* NULL = no key */
	Size key_len;
	int nheaders;
	const CqHeader *headers;
} CqMessage;

/*
 * A producer for the brokers of a server with a user's mapping.  It connects in
 * the background and is kept for later calls of the session.  Inside a
 * transaction.
 */
extern CqKafkaProducer *cq_kafka_producer_get(Oid server_id, Oid user);

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
 * or not.  The producer is not used again.  Neither throws nor waits.
 */
extern void cq_kafka_producer_abandon(CqKafkaProducer *producer);
