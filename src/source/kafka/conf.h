/*
 * conf.h
 *	  From a server's and a user mapping's options to librdkafka's settings.
 */
#pragma once

#include "postgres.h"

#include <librdkafka/rdkafka.h>

typedef struct CqKafkaSettings CqKafkaSettings;

/*
 * Read and check the options of a foreign server and of owner's user mapping
 * (or PUBLIC's, or none) with the rights of the server's owner.  Inside a
 * transaction; the result is allocated in context.
 */
extern CqKafkaSettings *cq_kafka_settings_load(Oid server, Oid owner, MemoryContext context);

/* How a consumer reads. */
typedef struct CqKafkaFetching
{
	int npartitions; /* at a time */
	int wait_ms;	 /* that a broker may wait for new records before it answers */
} CqKafkaFetching;

/* A new configuration for a consumer.  The caller owns it. */
extern rd_kafka_conf_t *cq_kafka_settings_consumer(const CqKafkaSettings *settings,
												   const CqKafkaFetching *fetching);

/* Likewise for a producer: every record is acknowledged by all replicas, and none written twice. */
extern rd_kafka_conf_t *cq_kafka_settings_producer(const CqKafkaSettings *settings);

/* Do both lead to the same connections? */
extern bool cq_kafka_settings_equal(const CqKafkaSettings *a, const CqKafkaSettings *b);

/* How often to ask for the topic's partitions; 0 = not said. */
extern int cq_kafka_settings_refresh_ms(const CqKafkaSettings *settings);

/* The longest record, in bytes. */
extern int64 cq_kafka_settings_message_bytes(const CqKafkaSettings *settings);

/* How long a broker may take for an answer. */
extern int cq_kafka_settings_timeout_ms(const CqKafkaSettings *settings);

/* Patterns of brokers that may be connected to; NULL = any. */
extern const char *cq_kafka_settings_allowed(const CqKafkaSettings *settings);

/* Overwrite the secrets.  Needs no memory; may be called twice. */
extern void cq_kafka_settings_wipe(CqKafkaSettings *settings);
