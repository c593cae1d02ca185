/*
 * source.h
 *	  Where records come from: one interface over Kafka topics and local
 *	  streams.
 *
 * A source hands out records of its partitions in the order of each
 * partition, starting at the given positions, and never waits.  It does not
 * store positions: the caller does, in the transaction that makes use of the
 * records durable.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

#include "source/stream.h"

#define CQ_OFFSET_UNKNOWN (-1)

/* Number of the partition that rows of history are in; those of streams count from 0. */
#define CQ_HISTORY_PARTITION (-1)

/*
 * One partition of a stream as its task sees it.  The fields under "saved"
 * make up its part of the task's position row; the source sets the position,
 * the watermark code the event times.
 */
typedef struct CqPartition
{
	/* saved with each checkpoint */
	int32 stream;				/* number of its stream among those that the task reads, from 0 */
	int32 id;					/* Kafka's number; 0 for a local stream */
	int64 next_offset;			/* Kafka: position.  Local: rows read so far */
	int64 start_offset;			/* Kafka: where this task began to read */
	int32 leader_epoch;			/* of the last record, -1 if unknown */
	int64 anchor_offset;		/* last record processed, CQ_OFFSET_UNKNOWN if none */
	uint64 anchor_hash;			/* of that record's timestamp, key and value */
	char *cursor;				/* local: snapshots and place between them, as text; else NULL */
	TimestampTz max_event_time; /* highest seen, or promised; DT_NOBEGIN if none */
	int64 max_disorder_us;		/* furthest that an event was behind max_event_time */
	int64 out_of_orderness_us;	/* the stream's bound on that */

	/* known to this worker only */
	int64 end_offset;			/* log's end (high watermark) or CQ_OFFSET_UNKNOWN */
	TimestampTz last_record_at; /* timestamp of the last one taken; 0 = none */
	bool caught_up;				/* the last answer put the log's end at our position */
	bool idle;					/* caught up for idle_timeout */
	int64 caught_up_since_us;	/* clock of idleness; when the present spell began; 0 = none */
	int64 idle_due_us;			/* monotonic; when idle_timeout was over; 0 = not yet */
	void *source_private;
} CqPartition;

/* What is known of a record that was a dead letter, besides its bytes. */
typedef struct CqStoredRecord
{
	int64 id;
	int32 partition;	 /* Kafka's number, or CQ_HISTORY_PARTITION */
	const char *headers; /* as a column shows them; NULL = there were none */
	Size headers_len;
} CqStoredRecord;

/* One undecoded record.  Pointers stay valid until the next cq_source_poll(). */
typedef struct CqRecord
{
	int32 partition;	   /* index into CqSource.partitions */
	int64 offset;		   /* Kafka's, or the local row's sequence number */
	TimestampTz timestamp; /* broker's, or the local row's insertion; DT_NOBEGIN if none */
	const char *payload;   /* NULL = no value (tombstone); not terminated */
	Size payload_len;
	const char *key; /* NULL = no key */
	Size key_len;
	void *native; /* Kafka: rd_kafka_message_t *, for headers.  NULL: local, or stored */
	const CqStoredRecord *stored; /* if native is NULL: it comes from a dead letter; else NULL */
	Datum *values;				  /* local: the row, natts of the stream; else NULL */
	bool *nulls;
} CqRecord;

/* How the position of a source lies to another one in the same stream. */
typedef enum CqPlace
{
	CQ_PLACE_SAME,	 /* the same records are read and the same are not */
	CQ_PLACE_BEHIND, /* by reading on, and nothing else, it becomes the other */
	CQ_PLACE_AHEAD,	 /* the other way round */
	CQ_PLACE_APART	 /* neither, or it cannot be told now */
} CqPlace;

struct CqSource;

typedef struct CqSourceOps
{
	/*
	 * Fetch up to max records without waiting into source->records; returns
	 * how many.  Called inside a transaction with an active snapshot.  The
	 * same records come again after cq_source_seek() to the old positions.
	 */
	int (*poll)(struct CqSource *source, int max);

	/*
	 * After records [0, n) of the last poll were taken over: move the
	 * partitions' positions (next_offset, cursor, anchor, leader_epoch) behind
	 * them.  n may be less than polled; the others come again with the next
	 * poll.
	 */
	void (*advance)(struct CqSource *source, int n);

	/* Go back to the positions now in source->partitions, after an abort. */
	void (*seek)(struct CqSource *source);

	/*
	 * Is there, as far as is known without asking, something to poll?
	 * Outside of transactions.
	 */
	bool (*ready)(struct CqSource *source);

	/*
	 * Is there, or may there be, something to poll that others should wait for?
	 * Not what an open transaction keeps back: nobody knows when that ends.
	 */
	bool (*has_backlog)(struct CqSource *source);

	/*
	 * Housekeeping outside of transactions: take in answers about partitions
	 * and log ends, ask anew when due, report errors by ereport (CQ_ERRCODE_STOP
	 * for a retention gap, a deleted or recreated topic).  Returns true if
	 * source->partitions changed (a partition was found).
	 */
	bool (*maintain)(struct CqSource *source);

	/*
	 * Begin to find out where the logs end now; reached() tells for the same
	 * ticket, later, whether all records up to there have been handed out and
	 * taken over by advance().
	 */
	int64 (*mark_end)(struct CqSource *source);
	bool (*reached)(struct CqSource *source, int64 ticket);

	/*
	 * Where are we, seen from the position saved in these partitions?  Inside a
	 * transaction with an active snapshot, with nothing polled that was not
	 * taken over.
	 */
	CqPlace (*place)(struct CqSource *source, const CqPartition *partitions, int npartitions);

	/*
	 * From now on read up to the position saved in these partitions and no
	 * further; NULL: without a limit again.  Where we are ahead of it we stay.
	 */
	void (*limit)(struct CqSource *source, const CqPartition *partitions, int npartitions);

	/* Is the source out of reach now (time that must not count as idle)? */
	bool (*unreachable)(struct CqSource *source);

	/*
	 * Do caught_up and end_offset tell of monotonic time at_us or later?  If
	 * not, the source asks, and wakeup_fd says when there is an answer.
	 */
	bool (*known_since)(struct CqSource *source, int64 at_us);

	/* Give up everything; safe on a half-opened source and inside proc_exit. */
	void (*close)(struct CqSource *source);
} CqSourceOps;

typedef struct CqSource
{
	const CqSourceOps *ops;
	const CqStream *stream; /* of several: the first */
	int nparts; /* sources of one stream each that it is made of, by number of the stream */
	struct CqSource **parts; /* most often it is the only one itself */
	MemoryContext context;	 /* of the source; lives as long as the worker's run */
	int npartitions;
	CqPartition *partitions; /* may be reallocated by maintain() */
	CqRecord *records;		 /* of the last poll */
	int wakeup_fd; /* readable when poll may have something; -1 = latch only, or parts have it */
	struct CqSource *self; /* what parts is of a source of one stream */
} CqSource;

/*
 * Open a source for a stream at the given positions (npartitions = 0: first
 * start, as the stream's "start" option says).  owner is the view's owner,
 * whose user mapping is used.  Called inside a transaction; does not wait.
 */
extern CqSource *cq_kafka_source_open(const CqStream *stream, Oid owner,
									  const CqPartition *partitions, int npartitions,
									  MemoryContext context);
extern CqSource *cq_local_source_open(const CqStream *stream, Oid owner,
									  const CqPartition *partitions, int npartitions,
									  MemoryContext context);

/*
 * One source of several, which are its own from now on; the order gives the numbers
 * of their streams.  A poll gives records of one of them.  context outlives it.
 */
extern CqSource *cq_several_source_open(CqSource **parts, int nparts, MemoryContext context);

/* For a source of one stream: it is its own only part. */
static inline void
cq_source_init_parts(CqSource *source)
{
	source->self = source;
	source->nparts = 1;
	source->parts = &source->self;
}

static inline const CqStoredRecord *
cq_record_stored(const CqRecord *record)
{
	return record->native ? NULL : record->stored;
}

/* The stream of a partition, by its index into source->partitions. */
static inline const CqStream *
cq_source_stream(const CqSource *source, int partition)
{
	return source->parts[source->partitions[partition].stream]->stream;
}

/*
 * A Kafka record's headers, in order; a name may come more than once.  Returns
 * how many there are.  The arrays are allocated in the current memory context,
 * names and values belong to the record; a value may be NULL and is not
 * terminated.
 */
extern int cq_kafka_record_headers(const CqRecord *record, const char ***names,
								   const char ***values, Size **value_lens);

/* Kafka's number of a Kafka record's partition. */
extern int32 cq_kafka_record_partition(const CqRecord *record);
