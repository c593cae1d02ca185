/*
 * chunk.h
 *	  What a chunk is, private to this folder: chunk_table.c knows which there are,
 *	  chunk_read.c reads them, chunklog.c writes them.
 */
#pragma once

#include "postgres.h"

#include "common/hashfn.h"

#include "state/chunklog.h"

#define CQ_CHUNK_CAPACITY 8000
#define CQ_CHUNK_MAGIC	  UINT64CONST(0x32306b6e75684371) /* also tells the byte order */
#define CQ_CHUNK_OVERHEAD 56							  /* of a table row around data */
#define CQ_NOT_A_BUCKET	  0xFFFFFFFFU

enum
{
	CQ_CHUNK_SEQ,
	CQ_CHUNK_PANE,
	CQ_CHUNK_PART,
	CQ_CHUNK_DATA,
	CQ_CHUNK_COLUMNS
};

typedef struct CqChunkHeader
{
	uint64 magic;
	uint64 identity;
	uint64 seed;
	uint32 pg_major;
	uint32 nentries;
	uint32 bits; /* of the prefix; CQ_NOT_A_BUCKET in the log */
	uint32 prefix;
	uint64 length; /* of all parts together, header included */
} CqChunkHeader;

typedef enum CqChunkKind
{
	CQ_CHUNK_UNUSED,
	CQ_CHUNK_LOG,
	CQ_CHUNK_BUCKET,
	CQ_CHUNK_DOOMED
} CqChunkKind;

typedef struct CqChunk
{
	CqChunkList *list;
	union
	{
		ItemPointerData only;  /* of the only part */
		ItemPointerData *each; /* if there are several */
	} tid;
	int64 seq;				/* in the table; 0 while it is being filled */
	CqChunkNumber previous; /* in its list */
	CqChunkNumber next;		/* in its list, or of the doomed or unused */
	CqChunkNumber fill_previous;
	CqChunkNumber fill_next;
	uint32 nentries;
	uint32 live;
	uint32 stored; /* bytes in the table, overhead included */
	uint16 nparts;
	uint8 kind;
	int8 fill; /* class; -1 = none */
} CqChunk;

/* What one part adds: its chunk's number, its own, and the length of its data. */
static inline uint64
cq_chunk_part_digest(int64 seq, int part, int64 length)
{
	return hash_bytes_uint32_extended((uint32) seq, ((uint64) length << 32) ^ (uint64) part);
}

/* Where its parts are: as many as there are. */
static inline ItemPointerData *
cq_chunk_places(CqChunk *chunk)
{
	return chunk->nparts > 1 ? chunk->tid.each : &chunk->tid.only;
}

struct CqChunkLog
{
	CqChunkTable *table;
	MemoryContext context;
	uint64 identity;
	StringInfoData reading;

	/* the save under way */
	Relation relation;
	TupleTableSlot *slot;
	CqChunkNumber open; /* being filled */
	CqChunkList *open_list;
	int64 open_pane;
	StringInfoData buffer;
	int64 written;

	TransactionId saved_by; /* the last transaction that has saved */
};

/* By its number, from 1. */
static inline CqChunk *
cq_chunk_at(const CqChunkLog *log, CqChunkNumber number)
{
	Assert(number > 0 && number < log->table->nchunks);
	return cq_vector_at(&log->table->chunks, number);
}

/* Bytes of an entry of a chunk, overhead included, on average. */
static inline int64
cq_chunk_entry_size(const CqChunk *chunk)
{
	return chunk->nentries ? chunk->stored / chunk->nentries : 0;
}

/* Rows that the bytes of a chunk take; error if there are too many. */
extern int cq_chunk_parts(int length);

/* Insert them; bulk and places, where they are then, may be NULL. */
extern void cq_chunk_insert(Relation relation, TupleTableSlot *slot,
							struct BulkInsertStateData *bulk, int64 seq, int64 pane,
							const StringInfoData *bytes, ItemPointerData *places);

/* What one chunk adds to its table's digest. */
extern uint64 cq_chunk_digest(const CqChunk *chunk);

/* A new one, last in a list; error if there is no memory to know of it. */
extern CqChunkNumber cq_chunk_create(CqChunkLog *log, CqChunkKind kind, CqChunkList *list);

/* Room for the places of its parts, if there are several. */
extern void cq_chunk_make_places(CqChunkLog *log, CqChunkNumber number, int nparts);

/* Put a log chunk with the others that are as full, or take it out from there. */
extern void cq_chunk_classify(CqChunkLog *log, CqChunkNumber number);
extern void cq_chunk_declassify(CqChunkLog *log, CqChunkNumber number);
