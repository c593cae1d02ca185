/*
 * codec.h
 *	  Values to bytes and back, in a form that outlives this process, this
 *	  cluster's OIDs and a dump.
 */
#pragma once

#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"

#include "compat.h"

typedef enum CqCodecMethod
{
	CQ_CODEC_BY_VALUE, /* the type's bytes as they are */
	CQ_CODEC_FIXED,
	CQ_CODEC_VARLENA,
	CQ_CODEC_SENT /* what the type's send function makes of it */
} CqCodecMethod;

typedef struct CqCodec
{
	CqCodecMethod method;
	Oid type; /* domains resolved */
	int16 typlen;
	bool typbyval;
	char typalign;
	FmgrInfo send;
	FmgrInfo receive;
	Oid receive_param;
} CqCodec;

/* Bytes being read; functions below raise CQ_ERRCODE_STOP when there are too few. */
typedef struct CqReader
{
	char *at; /* writable, and so is the byte at end: receive functions may scribble */
	char *end;
} CqReader;

/* Can values of this type be written and read back?  *why is set to a phrase when not. */
extern bool cq_codec_supports(Oid type, const char **why);

/* Error with a hint if not. */
extern void cq_codec_check(Oid type);

/* Error if the type is not supported.  Caches of functions live in context. */
extern void cq_codec_init(CqCodec *codec, Oid type, MemoryContext context);

/* One value that is not NULL; read allocates in the current memory context. */
extern void cq_codec_put(CqCodec *codec, StringInfo out, Datum value);
extern Datum cq_codec_get(CqCodec *codec, CqReader *reader);

/* A row of n values, NULLs included. */
extern void cq_codec_put_row(CqCodec *codecs, int n, StringInfo out, const Datum *values,
							 const bool *nulls);
extern void cq_codec_get_row(CqCodec *codecs, int n, CqReader *reader, Datum *values, bool *nulls);

extern void *cq_reader_take(CqReader *reader, Size n);

/* Error: these bytes are not what was written. */
extern void cq_reader_damaged(void) CQ_NORETURN;
