/*
 * encoder.h
 *	  From the values of a stream's columns to a record: what the decoder undoes.
 */
#pragma once

#include "postgres.h"

#include "source/message.h"
#include "source/stream.h"

typedef struct CqEncoder CqEncoder;

/*
 * An encoder for all columns of a stream.  Lives in the current memory context.
 * Error if no record can have these columns (two are in the same place of a
 * document).
 */
extern CqEncoder *cq_encoder_create(const CqStream *stream);

/*
 * Encode a row (the stream's natts) so that it reads back equal.  A row without any
 * value in its payload becomes a record without one.  Throws if a value cannot be
 * sent.  What the message points to is in the encoder or in the current memory
 * context, and stays until the next call.
 */
extern void cq_encoder_encode(CqEncoder *encoder, const Datum *values, const bool *nulls,
							  CqMessage *message);
