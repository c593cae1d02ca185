/*
 * format.h
 *	  What decoder.c hands the work to, for each format and for what does not
 *	  come from the payload.
 */
#pragma once

#include "postgres.h"

#include "decode/decoder.h"
#include "decode/value.h"
#include "nodes/bitmapset.h"

/* Is the column filled from the payload? */
static inline bool
cq_column_in_payload(const CqStreamColumn *column)
{
	return !column->dropped && column->metadata == CQ_METADATA_NONE && column->generation == NULL;
}

/*
 * Check that bytes are text in UTF-8 and have no zero byte.  What names them in
 * the message ("the payload").
 */
extern bool cq_check_text(const char *what, const char *text, Size len, CqDecodeError *error);

/*
 * A payload, which must be there, as text in UTF-8, converted from the stream's
 * encoding.  Throws if it cannot be converted.
 */
extern bool cq_payload_text(const CqStream *stream, const CqRecord *record, const char **text,
							Size *len, CqDecodeError *error);

/*
 * A whole payload as one field, which stays as it is if there is no payload.
 * as_bytes: it need not be text.
 */
extern bool cq_payload_field(const CqStream *stream, const CqRecord *record, bool as_bytes,
							 CqField *field, CqDecodeError *error);

/* Is the column's value made of bytes that need not be text? */
extern bool cq_column_takes_bytes(const CqStreamColumn *column);

/* Empty a buffer, and give back what an exceptionally large record made of it. */
extern void cq_buffer_begin(StringInfo buffer);

/* json_format.c: columns by their paths */
typedef struct CqJsonFormat CqJsonFormat;

extern CqJsonFormat *cq_json_format_create(const CqStream *stream, const Bitmapset *columns,
										   StringInfo scratch);
extern bool cq_json_format_decode(CqJsonFormat *format, const CqRecord *record, Datum *values,
								  bool *nulls, CqDecodeError *error);

/* csv.c: columns by their position */
typedef struct CqCsvFormat CqCsvFormat;

extern CqCsvFormat *cq_csv_format_create(const CqStream *stream, const Bitmapset *columns,
										 StringInfo scratch);
extern bool cq_csv_format_decode(CqCsvFormat *format, const CqRecord *record, Datum *values,
								 bool *nulls, CqDecodeError *error);

/* raw.c: one column for all of it */
typedef struct CqRawFormat CqRawFormat;

extern CqRawFormat *cq_raw_format_create(const CqStream *stream, const Bitmapset *columns,
										 StringInfo scratch);
extern bool cq_raw_format_decode(CqRawFormat *format, const CqRecord *record, Datum *values,
								 bool *nulls, CqDecodeError *error);

/* metadata.c: columns from the record's coordinates */
typedef struct CqMetadataColumns CqMetadataColumns;

extern CqMetadataColumns *cq_metadata_create(const CqStream *stream, const Bitmapset *columns,
											 StringInfo scratch);
extern bool cq_metadata_decode(CqMetadataColumns *metadata, const CqRecord *record, Datum *values,
							   bool *nulls, CqDecodeError *error);

/* generated.c: columns computed from others */
typedef struct CqGeneratedColumns CqGeneratedColumns;

/* The columns together with those that generated ones among them need. */
extern Bitmapset *cq_generated_needs(const CqStream *stream, const Bitmapset *columns);

/* NULL if none of the columns is generated. */
extern CqGeneratedColumns *cq_generated_create(const CqStream *stream, const Bitmapset *columns);

/* Compute those that are NULL so far; the others came with the row. */
extern void cq_generated_compute(CqGeneratedColumns *generated, Datum *values, bool *nulls);
