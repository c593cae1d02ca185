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

/*
 * A new configuration for a consumer that reads this many partitions.  The
 * caller owns it.
 */
extern rd_kafka_conf_t *cq_kafka_settings_consumer(const CqKafkaSettings *settings,
												   int npartitions);

/* How often to ask for the topic's partitions; 0 = not said. */
extern int cq_kafka_settings_refresh_ms(const CqKafkaSettings *settings);

/* Patterns of brokers that may be connected to; NULL = any. */
extern const char *cq_kafka_settings_allowed(const CqKafkaSettings *settings);

/* Overwrite the secrets.  Needs no memory; may be called twice. */
extern void cq_kafka_settings_wipe(CqKafkaSettings *settings);
