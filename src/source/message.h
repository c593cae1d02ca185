/*
 * message.h
 *	  A record that is to be written to a topic.
 */
#pragma once

#include "postgres.h"

#define CQ_ANY_PARTITION (-1)
#define CQ_NO_TIMESTAMP	 (-1)

typedef struct CqHeader
{
	const char *name;
	const char *value; /* NULL = none */
	Size value_len;
} CqHeader;

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
