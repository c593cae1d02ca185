/*
 * record.h
 *	  librdkafka's messages as records.
 */
#pragma once

#include "postgres.h"

#include "utils/timestamp.h"

#include <librdkafka/rdkafka.h>

#include "source/source.h"

/* Microseconds from 1970, where Kafka counts from, to PostgreSQL's epoch. */
#define CQ_KAFKA_EPOCH_SHIFT_US                                                                    \
	((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY * USECS_PER_SEC)

/* Producers may set any number; what PostgreSQL has no timestamp for counts as none. */
static inline TimestampTz
cq_kafka_message_timestamp(rd_kafka_message_t *message)
{
	rd_kafka_timestamp_type_t type;
	int64 ms = rd_kafka_message_timestamp(message, &type);
	TimestampTz result;

	if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || ms < PG_INT64_MIN / 2000 ||
		ms > PG_INT64_MAX / 2000)
		return DT_NOBEGIN;
	result = ms * 1000 - CQ_KAFKA_EPOCH_SHIFT_US;
	return IS_VALID_TIMESTAMP(result) ? result : DT_NOBEGIN;
}

/* The record points into the message.  partition: its index for who reads the record. */
static inline void
cq_kafka_record_fill(CqRecord *record, int partition, rd_kafka_message_t *message)
{
	record->partition = partition;
	record->offset = message->offset;
	record->timestamp = cq_kafka_message_timestamp(message);
	record->payload = message->payload;
	record->payload_len = message->payload ? message->len : 0;
	record->key = message->key;
	record->key_len = message->key ? message->key_len : 0;
	record->native = message;
}

/* Is this an error of fetching that librdkafka is known to mend by itself? */
static inline bool
cq_kafka_error_passes(rd_kafka_resp_err_t error)
{
	switch (error)
	{
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__RESOLVE:
		case RD_KAFKA_RESP_ERR__WAIT_COORD:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
		case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
			return true;
		default:
			return false;
	}
}
