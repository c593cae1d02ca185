/*
 * writer.h
 *	  From a Datum to text: as a value of JSON, or as a field of its own.
 *
 * Text is in the database's encoding.  Nothing depends on the session's settings.
 */
#pragma once

#include "postgres.h"

#include "lib/stringinfo.h"

#include "source/stream.h"

typedef struct CqWriter CqWriter;

/* A writer for a column's type; lives in the current memory context. */
extern CqWriter *cq_writer_create(const CqStreamColumn *column);

/* Append a value that is not null: as JSON ... */
extern void cq_write_json(CqWriter *writer, Datum value, StringInfo out);

/* ... or as its type's input function takes it ... */
extern void cq_write_text(CqWriter *writer, Datum value, StringInfo out);

/* ... or its bytes, if they are not text: those of bytea, or in binary form. */
extern void cq_write_bytes(CqWriter *writer, Datum value, StringInfo out);

/* formats: what encoder.c hands the payload to */
typedef struct CqJsonWriter CqJsonWriter;
typedef struct CqCsvWriter CqCsvWriter;

extern CqJsonWriter *cq_json_writer_create(const CqStream *stream);
extern void cq_json_writer_write(const CqJsonWriter *writer, const Datum *values, const bool *nulls,
								 StringInfo out);
extern CqCsvWriter *cq_csv_writer_create(const CqStream *stream);
extern void cq_csv_writer_write(const CqCsvWriter *writer, const Datum *values, const bool *nulls,
								StringInfo out);
