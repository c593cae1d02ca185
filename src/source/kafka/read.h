/*
 * read.h
 *	  A topic as it is now, or parts of it, from the first record to the last:
 *	  what is read outside of views.
 */
#pragma once

#include "postgres.h"

#include "nodes/pg_list.h"

#include "source/source.h"

typedef struct CqKafkaRead CqKafkaRead;

/* Which topic, and as whom. */
typedef struct CqKafkaReadTopic
{
	Oid server_id;
	Oid user; /* whose user mapping is used */
	const char *topic;
	const char *name;	 /* of the stream, for messages */
	List *partition_ids; /* integer list; NIL = all */
} CqKafkaReadTopic;

#define CQ_KAFKA_ANY_TIME PG_INT64_MIN

/*
 * Records with all of: a partition in [first_partition, end_partition), an offset
 * in [first_offset, end_offset), a timestamp not before from_ms (milliseconds since
 * 1970).  The last is only a promise that nobody wants others: some may come.
 */
typedef struct CqKafkaSlice
{
	int64 first_partition;
	int64 end_partition;
	int64 first_offset;
	int64 end_offset;
	int64 from_ms;
} CqKafkaSlice;

/* All there is. */
#define CQ_KAFKA_WHOLE ((CqKafkaSlice){0, PG_INT64_MAX, 0, PG_INT64_MAX, CQ_KAFKA_ANY_TIME})

/* A log as it was when it was first looked at. */
typedef struct CqKafkaBounds
{
	int32 id;
	int64 low;	/* first offset kept */
	int64 high; /* behind the last record of a committed transaction: the last stable offset */
} CqKafkaBounds;

typedef struct CqKafkaReadStats
{
	int partitions; /* of the topic that the stream reads */
	int touched;	/* of which something was read */
	int64 records;	/* handed out */
	int64 bytes;	/* of their values and keys */
} CqKafkaReadStats;

/*
 * Begin to connect; waits for nothing.  The read lives in a context of its own
 * beneath the given one and ends with it.
 */
extern CqKafkaRead *cq_kafka_read_open(const CqKafkaReadTopic *topic, MemoryContext context);

/*
 * The topic's partitions and the bounds of their logs, which stay the same for as
 * long as the read lives.  This and the following wait, for interrupts too, and
 * give an error if the brokers do not answer for as long as the server's
 * "socket.timeout.ms".
 */
extern const CqKafkaBounds *cq_kafka_read_bounds(CqKafkaRead *read, int *n);

/* (Re)start: from here on hand out what is in any of these slices, each record once. */
extern void cq_kafka_read_start(CqKafkaRead *read, const CqKafkaSlice *slices, int nslices);

/*
 * The next record, or NULL behind the last.  Those of a partition come in order.  It
 * stays valid until the next call.
 */
extern const CqRecord *cq_kafka_read_next(CqKafkaRead *read);

extern void cq_kafka_read_stats(const CqKafkaRead *read, CqKafkaReadStats *stats);

/* Give up everything at once; safe on one that is half open. */
extern void cq_kafka_read_close(CqKafkaRead *read);
