/*
 * chunklog.h
 *	  Operator state on disk: packed entries in the chunk table of a view.
 */
#pragma once

#include "postgres.h"

#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "storage/itemptr.h"
#include "utils/rel.h"

#include "state/codec.h"
#include "state/vector.h"

typedef struct CqChunkLog CqChunkLog;

/* Chunks by number, from 1; 0 stands for none. */
typedef uint32 CqChunkNumber;

/* The chunks of a pane, in the order of writing. */
typedef struct CqChunkList
{
	CqChunkNumber first;
	CqChunkNumber last;
} CqChunkList;

#define CQ_FILL_CLASSES 8

/* What is known of a chunk table; in shared memory, part of the state of a view. */
typedef struct CqChunkTable
{
	CqVector chunks;
	uint32 nchunks; /* numbers in use so far */
	CqChunkNumber unused;
	CqChunkNumber doomed;				 /* to be deleted by the next save */
	CqChunkNumber fill[CQ_FILL_CLASSES]; /* chunks that can be cleaned, by live bytes */
	int64 next_seq;
	int64 stored;  /* bytes in the table */
	int64 live;	   /* of them, in entries that are not obsolete */
	int64 deleted; /* since the last vacuum */
	int64 written_mean;
	uint64 digest;	/* of the chunks in the table, see cq_chunk_table_digest() */
	uint64 seed;	/* of the hashes in it */
	Oid filenumber; /* the table's when it was read; TIDs are valid for it */
} CqChunkTable;

extern void cq_chunk_table_init(CqChunkTable *table, CqArena *arena, uint64 seed);

/* identity: whose state it is; see chunklog.c.  Lives in context. */
extern CqChunkLog *cq_chunklog_create(CqChunkTable *table, uint64 identity, MemoryContext context);

/* Do the places of chunks that the table knows still hold?  check: error if not. */
extern bool cq_chunklog_is_current(const CqChunkLog *log, Relation relation);
extern void cq_chunklog_check(const CqChunkLog *log, Relation relation);

/* A chunk as it was read. */
typedef struct CqChunkData
{
	CqChunkNumber number; /* 0 while it is not registered */
	int64 seq;
	int64 pane;
	bool is_bucket;
	int bits; /* of a bucket: hashes of all entries end in these bits of prefix */
	uint32 prefix;
	uint32 nentries;
	int nparts;
	const ItemPointerData *tids;
	int64 stored;

	/* what is left to read */
	uint32 left;
	CqReader reader;
	char *scribbled;
	char saved;
} CqChunkData;

/* The next entry, its hash before it; false at the end.  Entries may be skipped half-read. */
extern bool cq_chunk_next(CqChunkData *chunk, uint32 *hash, CqReader *entry);

/*
 * Visit all chunks under the active snapshot, oldest or newest first.  The
 * seed is taken over from the table before the first.  wanted: of which panes;
 * NULL = all.  Of the others the log knows nothing then, so it must not be used
 * to save anything of those.
 */
typedef void (*CqChunkVisitor)(void *arg, CqChunkData *chunk);
extern void cq_chunklog_scan(CqChunkLog *log, Relation relation, bool newest_first,
							 bool (*wanted)(void *arg, int64 pane), CqChunkVisitor visit,
							 void *arg);

/*
 * Which chunks a table has, under the active snapshot: a sum over their parts, from
 * numbers and lengths, which tells a table that has lost rows, or is of another
 * time, from the right one.
 */
extern uint64 cq_chunk_table_digest(Relation relation);

/* Visit the panes of all parts of chunks that the active snapshot sees, in no order. */
extern void cq_chunk_panes_visit(Relation relation, void (*visit)(void *arg, int64 pane),
								 void *arg);

/*
 * Where a chunk's first part is; invalid if the number is not in use.  False
 * when there are no more numbers.
 */
extern bool cq_chunklog_place(const CqChunkLog *log, CqChunkNumber number, ItemPointer tid);

/* From a visitor, while loading: note the chunk, of which live entries are of use. */
extern CqChunkNumber cq_chunklog_register(CqChunkLog *log, CqChunkData *chunk, CqChunkList *list);
extern void cq_chunklog_registered(CqChunkLog *log, CqChunkNumber number, uint32 live);

/* Read one chunk; what is in *chunk is valid until the next call. */
extern void cq_chunklog_fetch(CqChunkLog *log, Relation relation, CqChunkNumber number,
							  CqChunkData *chunk);

/* A save: begin; append the panes' entries, pane by pane, a flush after each; end. */
extern void cq_chunklog_begin(CqChunkLog *log, Relation relation);

/*
 * Chunks whose live entries are to be written again, so that they become
 * empty.  Returns how many; *numbers is allocated.
 */
extern int cq_chunklog_victims(CqChunkLog *log, CqChunkNumber **numbers);

/* Write an entry; returns the chunk that it is in. */
extern CqChunkNumber cq_chunklog_append(CqChunkLog *log, CqChunkList *list, int64 pane, uint32 hash,
										const char *data, Size length);
extern void cq_chunklog_flush(CqChunkLog *log);

/* Add an entry, in the form of chunks, to what write_bucket() will be given. */
extern void cq_chunk_put(StringInfo entries, uint32 hash, const char *data, Size length);
extern CqChunkNumber cq_chunklog_write_bucket(CqChunkLog *log, CqChunkList *list, int64 pane,
											  uint32 prefix, int bits,
											  const StringInfoData *entries, uint32 nentries);
extern void cq_chunklog_end(CqChunkLog *log);

/* The version of an entry in this chunk is obsolete. */
extern void cq_chunklog_release(CqChunkLog *log, CqChunkNumber number);

/* Nothing in this chunk is of use any more. */
extern void cq_chunklog_obsolete(CqChunkLog *log, CqChunkNumber number);

/* A pane is gone: its chunks are deleted by the save under way or the next. */
extern void cq_chunklog_drop(CqChunkLog *log, CqChunkList *list);

/* Where the oldest chunk of the log among them is in the order of writing; of none: behind all. */
extern int64 cq_chunklog_oldest(const CqChunkLog *log, const CqChunkList *list);

/* The next chunk of its pane, 0 after the last; whose it is; its place; entries that are of use. */
extern CqChunkNumber cq_chunklog_next(const CqChunkLog *log, CqChunkNumber number);
extern CqChunkList *cq_chunklog_list(const CqChunkLog *log, CqChunkNumber number);
extern int64 cq_chunklog_seq(const CqChunkLog *log, CqChunkNumber number);
extern uint32 cq_chunklog_live(const CqChunkLog *log, CqChunkNumber number);
