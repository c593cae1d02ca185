/*
 * sample.h
 *	  Records of a topic that were read to find out what is in it.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct CqSampleRecord
{
	int32 partition;
	int64 offset;
	TimestampTz timestamp; /* the broker's; DT_NOBEGIN if none */
	bool has_headers;
	char *key; /* NULL = no key */
	Size key_len;
	char *value; /* NULL = tombstone */
	Size value_len;
} CqSampleRecord;

typedef struct CqSample
{
	int npartitions;	  /* that were read */
	int topic_partitions; /* that the topic has */
	int64 log_length;	  /* offsets that there are in those read */
	int nrecords;
	CqSampleRecord *records; /* by partition and offset */
	int nfirst;				 /* of them from the beginning of longer logs */
	int nskipped;			 /* records left out because they were too long */
} CqSample;
