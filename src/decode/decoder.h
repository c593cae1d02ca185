/*
 * decoder.h
 *	  From a record's bytes to the values of a stream's columns.
 */
#pragma once

#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"

#include "source/source.h"
#include "source/stream.h"

typedef struct CqDecoder CqDecoder;

/* Why a record could not be decoded. */
typedef struct CqDecodeError
{
	int sqlstate;
	const char *message; /* names column and reason; may quote the record's content */
} CqDecodeError;

/*
 * Append the headers of a Kafka record as a JSON object, in UTF-8; false if it has
 * none, and then nothing is appended.
 */
extern bool cq_record_headers(const CqRecord *record, StringInfo json);

/*
 * A decoder for the given columns (attribute numbers, not offset by
 * FirstLowInvalidHeapAttributeNumber) of a stream.  Columns that generated
 * columns among them need are added.  Lives in the current memory context.
 */
extern CqDecoder *cq_decoder_create(const CqStream *stream, const Bitmapset *columns);

/*
 * Decode one record into values and nulls (the stream's natts; columns not
 * wanted become NULL).  Values are allocated in the current memory context.
 *
 * Returns false and fills *error when the record is bad.  May also throw: input
 * functions of types without a fast path, and generation expressions, report
 * bad values by ereport; callers decode inside a subtransaction and treat such
 * an error as the record's.
 */
extern bool cq_decoder_decode(CqDecoder *decoder, const CqRecord *record, Datum *values,
							  bool *nulls, CqDecodeError *error);

/* What to say of a record for which it threw: the message, with the column that it is about. */
extern const char *cq_decode_thrown(const ErrorData *error);
