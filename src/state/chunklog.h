/*
 * chunklog.h
 *	  Operator state on disk: packed entries in the chunk table of a view.
 */
#pragma once

#include "postgres.h"

#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "utils/rel.h"

#include "state/codec.h"

typedef struct CqChunkLog CqChunkLog;
typedef struct CqChunk CqChunk;

/* Where the last saved version of an entry is; zeroed when it was never saved. */
typedef struct CqEntry
{
	dlist_node link;
	CqChunk *chunk;
	uint32 size;
} CqEntry;

/* A log that has read nothing yet.  identity: whose state it is; see chunklog.c. */
extern CqChunkLog *cq_chunklog_create(uint64 identity, MemoryContext context);

/*
 * What the reader makes of an entry.  chunks: the pane's list of chunks.  An
 * entry that is live and can be replaced later has an owner; one that only
 * goes with its pane has none.
 */
typedef struct CqLoaded
{
	dlist_head *chunks;
	CqEntry *owner;
	bool live;
} CqLoaded;

typedef CqLoaded (*CqChunkReader)(void *arg, int64 pane, CqReader *entry);

/*
 * Read all entries under the active snapshot, oldest or newest chunks first;
 * within a chunk always in the order of writing.  scratch is reset often.
 * wanted: which panes; NULL = all.  Of the others the log knows nothing then, so
 * it must not be used to save entries of those.
 */
extern void cq_chunklog_load(CqChunkLog *log, Relation relation, bool newest_first,
							 bool (*wanted)(void *arg, int64 pane), CqChunkReader read, void *arg,
							 MemoryContext scratch);

/* A save: begin; append the panes' entries, pane by pane, a flush after each; end. */
extern void cq_chunklog_begin(CqChunkLog *log, Relation relation);

/*
 * Choose entries to be written again although they did not change, so that the
 * chunks they are in become empty; rewrite() is told each.
 */
extern void cq_chunklog_clean(CqChunkLog *log,
							  void (*rewrite)(void *arg, int64 pane, CqEntry *entry), void *arg);

/* owner may be NULL, see CqLoaded. */
extern void cq_chunklog_append(CqChunkLog *log, dlist_head *chunks, int64 pane, CqEntry *owner,
							   const char *data, Size length);
extern void cq_chunklog_flush(CqChunkLog *log);
extern void cq_chunklog_end(CqChunkLog *log);

/*
 * A pane is gone: its chunks are deleted by the next save.  Entries in them are
 * not touched any more and may have been freed.
 */
extern void cq_chunklog_drop(CqChunkLog *log, dlist_head *chunks);

/* Bytes in the chunk table, and how many of them are live entries. */
extern void cq_chunklog_sizes(const CqChunkLog *log, int64 *total, int64 *live);
