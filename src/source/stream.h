/*
 * stream.h
 *	  What a stream is: the foreign table's columns and options, read from the
 *	  catalog and checked.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "foreign/foreign.h"
#include "nodes/pg_list.h"
#include "nodes/primnodes.h"

/* So many streams may a view read. */
#define CQ_MAX_STREAMS 16

typedef enum CqStreamKind
{
	CQ_STREAM_KAFKA,
	CQ_STREAM_LOCAL
} CqStreamKind;

typedef enum CqFormat
{
	CQ_FORMAT_ROW, /* local streams: the row as it was inserted */
	CQ_FORMAT_JSON,
	CQ_FORMAT_CSV,
	CQ_FORMAT_RAW
} CqFormat;

typedef enum CqOnError
{
	CQ_ON_ERROR_DEAD_LETTER,
	CQ_ON_ERROR_STOP,
	CQ_ON_ERROR_SKIP
} CqOnError;

/* A column that is filled from the record's coordinates, not its payload. */
typedef enum CqMetadata
{
	CQ_METADATA_NONE,
	CQ_METADATA_KEY,
	CQ_METADATA_TOPIC,
	CQ_METADATA_PARTITION,
	CQ_METADATA_OFFSET,
	CQ_METADATA_TIMESTAMP,
	CQ_METADATA_HEADERS,
	CQ_METADATA_PAYLOAD /* all of it, whatever the stream's format takes out of it */
} CqMetadata;

static inline bool
cq_metadata_is_bytes(CqMetadata metadata)
{
	return metadata == CQ_METADATA_KEY || metadata == CQ_METADATA_PAYLOAD;
}

/* How a time is sent when not in PostgreSQL's own or ISO form. */
typedef enum CqTimeFormat
{
	CQ_TIME_FORMAT_TEXT,
	CQ_TIME_FORMAT_EPOCH_S,
	CQ_TIME_FORMAT_EPOCH_MS,
	CQ_TIME_FORMAT_EPOCH_US
} CqTimeFormat;

/* How a value is sent when not in the text form of its type. */
typedef enum CqBytesFormat
{
	CQ_BYTES_TEXT,
	CQ_BYTES_BASE64, /* bytea */
	CQ_BYTES_BINARY	 /* numbers and the like as PostgreSQL sends them: in network byte order */
} CqBytesFormat;

typedef enum CqCsvHeader
{
	CQ_CSV_HEADER_NONE,
	CQ_CSV_HEADER_SKIP, /* each record begins with a line that is no row ... */
	CQ_CSV_HEADER_MATCH /* ... and has the names of the columns */
} CqCsvHeader;

/* What the options of COPY say. */
typedef struct CqCsvOptions
{
	char delimiter;
	char quote;
	char escape;
	const char *null_text;
	CqCsvHeader header;
} CqCsvOptions;

typedef enum CqStart
{
	CQ_START_EARLIEST,
	CQ_START_LATEST,
	CQ_START_TIMESTAMP
} CqStart;

typedef struct CqStreamColumn
{
	AttrNumber attnum;
	char *name;
	bool dropped;
	Oid type;
	int32 typmod;
	Oid collation;
	List *path; /* of char *: keys from the document's root to the value */
	CqMetadata metadata;
	CqTimeFormat time_format;
	CqBytesFormat bytes_format;
	bool force_null;	 /* CSV, as in COPY */
	bool force_not_null; /* likewise */
	Node *generation;	 /* expression of a generated column (Vars of varno 1), else NULL */
} CqStreamColumn;

typedef struct CqStream
{
	Oid relid;
	Oid server_id;
	char *name; /* for messages */
	CqStreamKind kind;
	CqFormat format;
	int ncolumns;			 /* natts of the foreign table, dropped ones included */
	CqStreamColumn *columns; /* columns[attnum - 1] */

	AttrNumber event_time; /* 0 = processing time */
	int64 out_of_orderness_us;
	int64 idle_timeout_us; /* -1 = off */
	int64 max_ahead_us;	   /* -1 = off */
	int64 max_skew_us;
	CqOnError on_error;
	List *primary_key;	 /* of AttrNumber (integer list) */
	List *partition_key; /* likewise */

	Oid history_of; /* of this stream it holds rows that come before the first record */

	/* Kafka */
	char *topic;
	CqCsvOptions csv;
	int encoding;		 /* of text in the payload; UTF-8 in JSON */
	List *partition_ids; /* integer list; NIL = all */
	int shard;			 /* of a view with several workers: partitions with id % shards = shard */
	int shards;			 /* 0 = all */
	bool begun;			 /* likewise: what is found from now on are new partitions */
	int64 view;			 /* that it was loaded for, with what its slot counted as changes then */
	uint64 change;
	CqStart start;
	TimestampTz start_time;

	/* local */
	struct CqFeed *feed;   /* filled by another view, whose name is then the stream's; else NULL */
	Oid backing_tables[3]; /* hidden tables that keep the rows, rotated */
	Oid sequence;
	int64 retention_us; /* -1 = until every view has read them */
} CqStream;

/*
 * Read and check a stream's definition.  Everything is allocated in the
 * current memory context.  Error if relid is not a foreign table of one of our
 * two wrappers, or if an option does not make sense.
 */
extern CqStream *cq_stream_load(Oid relid);

/*
 * The same of a hidden stream with history of another one, whose columns it has:
 * rows mean what they would mean there, in any order.
 */
extern CqStream *cq_stream_load_history(Oid relid, Oid of);

/* The stream that users know. */
static inline Oid
cq_stream_shown(const CqStream *stream)
{
	return OidIsValid(stream->history_of) ? stream->history_of : stream->relid;
}

/* Is this a server for streams of ours, and for which? */
extern bool cq_server_kind(Oid server_id, CqStreamKind *kind);

/* Do its records have names for values: keys of JSON, a header that must match? */
static inline bool
cq_stream_has_fields(const CqStream *stream)
{
	return stream->format == CQ_FORMAT_JSON ||
		   (stream->format == CQ_FORMAT_CSV && stream->csv.header == CQ_CSV_HEADER_MATCH);
}

/* Is this relation a stream of ours? */
extern bool cq_is_stream(Oid relid);

/* Are the foreign tables of this server streams? */
extern bool cq_is_stream_server(Oid server_id);
