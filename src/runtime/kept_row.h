/*
 * kept_row.h
 *	  The row of a record that has no payload, in a dead letter and back.
 */
#pragma once

#include "postgres.h"

#include "access/tupdesc.h"

#include "decode/decoder.h"

/*
 * A row as JSON, in UTF-8, in the current memory context.  *whole is set to
 * whether it reads as the same row again.
 */
extern char *cq_kept_row_write(TupleDesc desc, const Datum *values, const bool *nulls, bool *whole);

/*
 * The stream as if such JSON were the payload of its records.  Names of columns are the
 * stream's; nothing is copied but the columns.
 */
extern CqStream *cq_kept_row_stream(const CqStream *stream);

/*
 * May columns have been renamed since?  What was is not to be told; then *error is
 * filled and the answer is false.
 */
extern bool cq_kept_row_fits(const CqStream *stream, const char *json, Size len,
							 CqDecodeError *error);
