/*
 * key.h
 *	  Group keys as compact bytes: packing, hashing, comparing.
 */
#pragma once

#include "postgres.h"

#include "state/codec.h"

typedef struct CqKeyColumn
{
	CqCodec codec;
	int source;	   /* index in the rows given to cq_key_pack() */
	uint8 align;   /* 1, 2, 4 or 8 */
	bool by_image; /* equal if and only if the bytes are */
	Oid collation;
	FmgrInfo equal;	  /* unless by_image */
	FmgrInfo hash;	  /* fn_oid invalid: the type cannot be hashed */
	bool hash_seeded; /* hash takes a seed and gives 64 bits */
} CqKeyColumn;

/*
 * A packed key is its values, each at its type's alignment, varlena ones with a
 * plain 4-byte header, padded with zeros to a multiple of 8.  If some are NULL a
 * bitmap that says which comes first, and the lowest bit of the key's size is
 * set.  Its values can be used in place.
 */
typedef struct CqKeyCodec
{
	int ncolumns;
	CqKeyColumn *columns;
	bool all_by_image;
	bool all_raw;  /* packed keys can go to disk as they are */
	bool one_word; /* one column, by value and by image */
	uint64 seed[3];
	Size bitmap_size;

	/* the key packed last */
	char *bytes;
	uint32 size; /* its length, a multiple of 8; plus CQ_KEY_HAS_NULLS */
	uint32 hash;

	/* private */
	Size capacity;
	Datum *values;
	bool *nulls;
	Datum *stored_values;
	bool *stored_nulls;
	MemoryContext context;
} CqKeyCodec;

#define CQ_KEY_HAS_NULLS	1
#define CQ_KEY_LENGTH(size) ((Size) ((size) & ~(uint32) 7))

/* Describe a column; equality is the operator that GROUP BY uses. */
extern void cq_key_column_init(CqKeyColumn *column, int source, Oid type, Oid collation,
							   Oid equality, MemoryContext context);

/* A codec for these columns (taken over); buffers live in context. */
extern CqKeyCodec *cq_key_create(CqKeyColumn *columns, int ncolumns, MemoryContext context);

/* Hashes depend on a number that nobody outside can know. */
extern void cq_key_seed(CqKeyCodec *codec, uint64 seed);

/* Pack the key of a row into codec->bytes, size, hash; may leave garbage in the current context. */
extern void cq_key_pack(CqKeyCodec *codec, const Datum *values, const bool *nulls);

/* Make a stored key the one packed last; hash is the one that it had when it was packed. */
extern void cq_key_take(CqKeyCodec *codec, const char *stored, uint32 size, uint32 hash);

/* Is a stored key equal to the one packed last? */
extern bool cq_key_equals_slowly(CqKeyCodec *codec, const char *stored, uint32 size);

static inline bool
cq_key_equals(CqKeyCodec *codec, const char *stored, uint32 size)
{
	const uint64 *a = (const uint64 *) codec->bytes;
	const uint64 *b = (const uint64 *) stored;
	uint32 i;

	if (!codec->all_by_image)
		return cq_key_equals_slowly(codec, stored, size);
	if (size != codec->size)
		return false;
	for (i = 0; i < size / sizeof(uint64); i++)
		if (a[i] != b[i])
			return false;
	return true;
}

/* The values of a stored key; they point into it. */
extern void cq_key_unpack(CqKeyCodec *codec, const char *stored, uint32 size, Datum *values,
						  bool *nulls);

/* A stored key to a form for disk, and from there to the key packed last. */
extern void cq_key_put(CqKeyCodec *codec, StringInfo out, const char *stored, uint32 size);

/* The current context may get garbage. */
extern void cq_key_get(CqKeyCodec *codec, CqReader *reader);
