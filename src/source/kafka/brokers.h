/*
 * brokers.h
 *	  Which broker addresses may be connected to.
 *
 * Plain C: the check of a connection runs on threads of librdkafka.
 */
#pragma once

#include <stdbool.h>

struct sockaddr;

typedef enum CqKafkaBrokerMatch
{
	CQ_KAFKA_BROKER_DENIED,
	CQ_KAFKA_BROKER_WILDCARD, /* allowed by a pattern with a wildcard in its host */
	CQ_KAFKA_BROKER_NAMED	  /* its host is listed literally */
} CqKafkaBrokerMatch;

/* Is this "host", "host:port" or "[v6 address]:port", and nothing else? */
extern bool cq_kafka_broker_valid(const char *broker);

/* Cut off spaces at both ends, in place. */
extern char *cq_kafka_broker_trim(char *broker);

/*
 * Compare a broker with patterns "host:port", separated by commas.  "*" stands
 * for any characters of a host, or for any port; a pattern without a port
 * means 9092.
 */
extern CqKafkaBrokerMatch cq_kafka_broker_match(const char *patterns, const char *broker);

/*
 * connect() for librdkafka that refuses addresses which the patterns (opaque)
 * do not allow, whoever named them: a broker's answer can name any address.
 */
extern int cq_kafka_broker_connect(int fd, const struct sockaddr *address, int address_len,
								   const char *broker, void *opaque);
