/*
 * kafka.h
 *	  What a Kafka source offers beyond the common interface of sources.
 */
#pragma once

#include "postgres.h"

#include "source/source.h"

/*
 * Give up what a log does not hold any more, where maintain() would otherwise
 * stop the view: go on at the log's first record.  Returns how many offsets
 * were given up by that so far; before the brokers have answered, that is 0,
 * and cq_kafka_source_lost() tells later.  Holds until the source is closed.
 */
extern int64 cq_kafka_source_accept_loss(CqSource *source);

/*
 * Are all partitions known that there are to read?  What is found later is new.
 * There may be none, for a shard of a stream with few partitions.
 */
extern bool cq_kafka_source_begun(CqSource *source);

/* Monotonic time that its partitions' caught_up and end_offset tell of; 0 = nothing is known. */
extern int64 cq_kafka_source_known_us(CqSource *source);

/* How many offsets were given up since the source was opened. */
extern int64 cq_kafka_source_lost(CqSource *source);

/* Records that came again after a reconnect and were dropped. */
extern int64 cq_kafka_source_dropped(CqSource *source);
