/*
 * property_table.h
 *	  Who may set which of librdkafka's properties, as plain data.
 *
 * Needs neither PostgreSQL nor librdkafka, so that a test program can compare
 * it with the list of properties of the librdkafka it is built against.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef enum CqKafkaPropertyClass
{
	CQ_KAFKA_BANNED,	 /* runs code, changes the process, or makes no sense here */
	CQ_KAFKA_FIXED,		 /* decided by the extension */
	CQ_KAFKA_FILE,		 /* names a file on the server */
	CQ_KAFKA_PRIVILEGED, /* uses the identity of the host or weakens a check */
	CQ_KAFKA_SECRET,	 /* user mappings only */
	CQ_KAFKA_TUNABLE
} CqKafkaPropertyClass;

typedef enum CqKafkaPropertyKind
{
	CQ_KAFKA_TEXT,
	CQ_KAFKA_INTEGER, /* in [min, max] */
	CQ_KAFKA_BOOLEAN,
	CQ_KAFKA_CHOICE /* one of choices */
} CqKafkaPropertyKind;

typedef struct CqKafkaProperty
{
	const char *name;
	CqKafkaPropertyClass class;
	CqKafkaPropertyKind kind;
	int64_t min;
	int64_t max;
	const char *choices;	/* separated by spaces, without privileged ones */
	const char *privileged; /* values that only a superuser may choose, likewise; NULL if none */
	bool producer;			/* of no use to a consumer */
} CqKafkaProperty;

/* NULL if the name is unknown.  Names are lower case and matched exactly. */
extern const CqKafkaProperty *cq_kafka_property_find(const char *name);

/* Does the value have the right form and lie within the bounds? */
extern bool cq_kafka_property_valid(const CqKafkaProperty *property, const char *value);

/* Is this a value that only a superuser may choose? */
extern bool cq_kafka_property_privileged(const CqKafkaProperty *property, const char *value);
