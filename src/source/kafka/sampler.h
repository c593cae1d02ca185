/*
 * sampler.h
 *	  Which topics are there, and what do some of their records look like?
 *
 * For a session that waits for the answer: all calls wait, with interrupts.
 */
#pragma once

#include "postgres.h"

#include "nodes/pg_list.h"

#include "infer/sample.h"

#define CQ_SAMPLE_MAX_RECORDS 10000

typedef struct CqKafkaSampler CqKafkaSampler;

typedef struct CqKafkaTopic
{
	char *name;
	int npartitions;
} CqKafkaTopic;

/*
 * Connect to a server's brokers with the user mapping of a role.  Every wait
 * for an answer ends with an error after timeout_us.  Lives in the current
 * memory context, and ends with it.
 */
extern CqKafkaSampler *cq_kafka_sampler_open(Oid server, Oid user, int64 timeout_us);

/* All topics that the user may see, as a list of CqKafkaTopic, by name. */
extern List *cq_kafka_sampler_topics(CqKafkaSampler *sampler);

/*
 * Read about size records of a topic, spread over its partitions: most of them
 * from the ends of the logs, some from the beginnings.
 *
 * Returns NULL and says why in *problem, a sentence, if the brokers do not let
 * this topic be read.
 */
extern CqSample *cq_kafka_sampler_read(CqKafkaSampler *sampler, const CqKafkaTopic *topic, int size,
									   const char **problem);

/* Disconnect; does not wait. */
extern void cq_kafka_sampler_close(CqKafkaSampler *sampler);
