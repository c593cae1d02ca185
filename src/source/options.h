/*
 * options.h
 *	  Options of streams and their columns, parsed from what CREATE FOREIGN
 *	  TABLE said.
 */
#pragma once

#include "postgres.h"

#include "source/stream.h"

/* A stream's own options.  Columns are still names: only their relation knows them. */
typedef struct CqStreamOptions
{
	char *event_time; /* NULL = processing time */
	bool has_out_of_orderness;
	int64 out_of_orderness_us;
	int64 idle_timeout_us;
	int64 max_ahead_us;
	int64 max_skew_us;
	CqOnError on_error;
	List *primary_key;	 /* of char * */
	List *partition_key; /* of char * */

	/* Kafka */
	char *topic;
	CqFormat format;
	CqCsvOptions csv;
	int encoding;
	CqStart start;
	TimestampTz start_time;
	List *partition_ids;

	/* local */
	int64 retention_us;
	char *backing; /* stem of the hidden tables' names; NULL = none yet */
	int32 era;
} CqStreamOptions;

typedef struct CqColumnOptions
{
	List *path; /* NIL = the column's name */
	CqMetadata metadata;
	CqTimeFormat time_format;
	CqBytesFormat bytes_format;
	bool force_null;
	bool force_not_null;
} CqColumnOptions;

/* Parse lists of DefElem; error with a hint on what is unknown, malformed or out of bounds. */
extern void cq_stream_options_parse(List *defs, CqStreamKind kind, CqStreamOptions *options);
extern void cq_column_options_parse(List *defs, CqStreamKind kind, CqColumnOptions *options);

/*
 * A length of time in microseconds.  Days are of 24 hours, months are refused.
 * may_be_off: the word "off" gives -1.
 */
extern int64 cq_option_interval(const char *name, const char *value, int64 min_us, int64 max_us,
								bool may_be_off);

/* earliest, latest or a point in time, taken as UTC where it names no zone. */
extern void cq_option_start(const char *name, const char *value, CqStart *start, TimestampTz *time);
