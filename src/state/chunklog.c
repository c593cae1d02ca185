/*
 * chunklog.c
 *	  Operator state on disk: packed entries in the chunk table of a view.
 *
 * A chunk is up to CHUNK_CAPACITY bytes of entries of one pane, written once
 * and never changed: a row (seq, pane, part, data) of the table.  An entry that
 * is larger has a chunk of its own, in several parts.  An entry written again
 * makes its older version dead; a chunk whose entries are all dead is deleted,
 * by TID, as the table has no index.
 *
 * Chunks with few live entries would pile up, so each save also rewrites the
 * live entries of the emptiest chunks.  How many is bounded by what the last
 * saves wrote: as long as chunks are half empty on average, the emptiest ones
 * give back at least as much as it costs to rewrite them, and the table stays
 * at about CLEAN_RATIO times its live contents.
 *
 * Invariants
 *	C1. The last version of each entry, by seq, is the committed state; what
 *		memory knows about chunks is what the table holds.
 *	C2. A chunk written by a save is not deleted by the same save.
 *	C3. Chunks of one pane are all in its list, until it is dropped.
 *
 * Each chunk begins with a header that says who wrote it: layout version,
 * PostgreSQL's major version, and the identity of the state, a hash over keys,
 * aggregates and window.  State that another definition or another major
 * version wrote is never interpreted; loading it stops the view.
 *
 * Memory: chunks are known by small structs in the log's context.  After an
 * abort the log no longer agrees with the table and must be thrown away.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "errors.h"
#include "state/chunklog.h"

#define CHUNK_CAPACITY 8000
#define CHUNK_MAGIC	   UINT64CONST(0x31306b6e75684371) /* also tells the byte order */
#define ROW_OVERHEAD   56							   /* of a table row around data */
#define FILL_CLASSES   8
#define CLEAN_RATIO	   2
#define CLEAN_SLACK	   (64 * 1024)
#define CLEAN_MINIMUM  (32 * 1024)
#define BUFFER_KEPT	   (1024 * 1024)

enum
{
	COLUMN_SEQ,
	COLUMN_PANE,
	COLUMN_PART,
	COLUMN_DATA,
	NCOLUMNS
};

typedef struct ChunkHeader
{
	uint64 magic;
	uint64 identity;
	uint32 pg_major;
	uint32 nentries;
	uint64 length; /* of all parts together, header included */
} ChunkHeader;

struct CqChunk
{
	dlist_node pane_link;
	dlist_node fill_link;
	dlist_head entries; /* live ones that have owners */
	int64 seq;
	int64 pane;
	int64 stored; /* bytes in the table, overhead included */
	int64 live;	  /* of the entries */
	bool in_pane;
	bool in_class;
	bool doomed;
	int nparts;
	ItemPointerData tid;   /* of the only part */
	ItemPointerData *tids; /* if there are several */
};

struct CqChunkLog
{
	MemoryContext context;
	uint64 identity;
	int64 next_seq;
	int64 stored;
	int64 live;
	Oid filenumber; /* the table's when it was read; TIDs are valid for it */

	dlist_head fill[FILL_CLASSES]; /* chunks that can be cleaned, by live bytes */
	dlist_head doomed;			   /* to be deleted by the next save */

	/* the save under way */
	Relation relation;
	TupleTableSlot *slot;
	CqChunk *open; /* being filled */
	StringInfoData buffer;
	uint32 nentries;
	int64 written;		/* by this save */
	int64 written_mean; /* by the last ones */
};

/* One row of the table, while loading. */
typedef struct ChunkRow
{
	int64 seq;
	int64 pane;
	int32 part;
	ItemPointerData tid;
} ChunkRow;

static void check_table(Relation relation);
static ChunkRow *collect_rows(Relation relation, Snapshot snapshot, int64 *nrows);
static int64 choose_rows(ChunkRow *rows, int64 nrows, bool (*wanted)(void *arg, int64 pane),
						 void *arg);
static int compare_rows(const void *a, const void *b);
static void load_chunk(CqChunkLog *log, Relation relation, const ChunkRow *rows, int nparts,
					   CqChunkReader read, void *arg, MemoryContext scratch);
static void assemble(CqChunkLog *log, Relation relation, const ChunkRow *rows, int nparts);
static void check_header(CqChunkLog *log, const ChunkHeader *header, int64 length);
static CqChunk *chunk_create(CqChunkLog *log, int64 seq, int64 pane);
static void chunk_classify(CqChunkLog *log, CqChunk *chunk);
static void chunk_doom(CqChunkLog *log, CqChunk *chunk);
static void entry_release(CqChunkLog *log, CqEntry *entry);
static void open_chunk(CqChunkLog *log, int64 pane);
static void write_part(CqChunkLog *log, CqChunk *chunk, int part, const char *data, Size length);

CqChunkLog *
cq_chunklog_create(uint64 identity, MemoryContext context)
{
	CqChunkLog *log = MemoryContextAllocZero(context, sizeof(CqChunkLog));
	MemoryContext old = MemoryContextSwitchTo(context);
	int i;

	log->context = context;
	log->identity = identity;
	log->next_seq = 1;
	for (i = 0; i < FILL_CLASSES; i++)
		dlist_init(&log->fill[i]);
	dlist_init(&log->doomed);
	initStringInfo(&log->buffer);
	MemoryContextSwitchTo(old);
	return log;
}

void
cq_chunklog_load(CqChunkLog *log, Relation relation, bool newest_first,
				 bool (*wanted)(void *arg, int64 pane), CqChunkReader read, void *arg,
				 MemoryContext scratch)
{
	ChunkRow *rows;
	int64 nrows;
	int64 from;
	int64 to;

	check_table(relation);
	log->filenumber = relation->rd_rel->relfilenode;
	log->slot = table_slot_create(relation, NULL);
	rows = collect_rows(relation, GetActiveSnapshot(), &nrows);
	if (nrows > 0)
		log->next_seq = rows[nrows - 1].seq + 1;
	if (wanted)
		nrows = choose_rows(rows, nrows, wanted, arg);

	if (newest_first)
		for (to = nrows; to > 0; to = from)
		{
			for (from = to - 1; from > 0 && rows[from - 1].seq == rows[from].seq;)
				from--;
			load_chunk(log, relation, &rows[from], (int) (to - from), read, arg, scratch);
		}
	else
		for (from = 0; from < nrows; from = to)
		{
			for (to = from + 1; to < nrows && rows[to].seq == rows[from].seq;)
				to++;
			load_chunk(log, relation, &rows[from], (int) (to - from), read, arg, scratch);
		}
	ExecDropSingleTupleTableSlot(log->slot);
	log->slot = NULL;
	if (rows)
		pfree(rows);
}

/* Is this a chunk table?  Somebody else made it, so look. */
static void
check_table(Relation relation)
{
	static const Oid types[NCOLUMNS] = {INT8OID, INT8OID, INT4OID, BYTEAOID};
	TupleDesc desc = RelationGetDescr(relation);
	int i;

	if (desc->natts != NCOLUMNS)
		elog(ERROR,
			 "chunk table \"%s\" has %d columns",
			 RelationGetRelationName(relation),
			 desc->natts);
	for (i = 0; i < NCOLUMNS; i++)
		if (TupleDescAttr(desc, i)->atttypid != types[i])
			elog(ERROR,
				 "column %d of chunk table \"%s\" has another type",
				 i + 1,
				 RelationGetRelationName(relation));
}

/* Where all chunk rows are, in order of seq and part. */
static ChunkRow *
collect_rows(Relation relation, Snapshot snapshot, int64 *nrows)
{
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	TableScanDesc scan = table_beginscan(relation, snapshot, 0, NULL);
	int64 capacity = 1024;
	ChunkRow *rows = palloc(capacity * sizeof(ChunkRow));
	bool sorted = true;

	*nrows = 0;
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		ChunkRow *row;

		CHECK_FOR_INTERRUPTS();
		if (*nrows == capacity)
		{
			capacity *= 2;
			rows = repalloc_huge(rows, capacity * sizeof(ChunkRow));
		}
		row = &rows[(*nrows)++];
		slot_getsomeattrs(slot, COLUMN_PART + 1);
		row->seq = DatumGetInt64(slot->tts_values[COLUMN_SEQ]);
		row->pane = DatumGetInt64(slot->tts_values[COLUMN_PANE]);
		row->part = DatumGetInt32(slot->tts_values[COLUMN_PART]);
		row->tid = slot->tts_tid;
		if (*nrows > 1 && compare_rows(row - 1, row) > 0)
			sorted = false;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	if (!sorted)
		qsort(rows, *nrows, sizeof(ChunkRow), compare_rows);
	return rows;
}

/* Chunks are chosen as a whole: the rows of one are of one pane. */
static int64
choose_rows(ChunkRow *rows, int64 nrows, bool (*wanted)(void *arg, int64 pane), void *arg)
{
	int64 kept = 0;
	int64 i;

	for (i = 0; i < nrows; i++)
		if (wanted(arg, rows[i].pane))
			rows[kept++] = rows[i];
	return kept;
}

static int
compare_rows(const void *a, const void *b)
{
	const ChunkRow *x = a;
	const ChunkRow *y = b;

	if (x->seq != y->seq)
		return x->seq < y->seq ? -1 : 1;
	return x->part < y->part ? -1 : x->part > y->part;
}

static void
load_chunk(CqChunkLog *log, Relation relation, const ChunkRow *rows, int nparts, CqChunkReader read,
		   void *arg, MemoryContext scratch)
{
	CqChunk *chunk = chunk_create(log, rows[0].seq, rows[0].pane);
	ChunkHeader header;
	CqReader reader;
	uint32 i;

	CHECK_FOR_INTERRUPTS();
	assemble(log, relation, rows, nparts);
	chunk->stored = log->buffer.len + (int64) nparts * ROW_OVERHEAD;
	chunk->nparts = nparts;
	chunk->tid = rows[0].tid;
	if (nparts > 1)
	{
		chunk->tids = MemoryContextAlloc(log->context, nparts * sizeof(ItemPointerData));
		for (i = 0; i < (uint32) nparts; i++)
			chunk->tids[i] = rows[i].tid;
	}
	log->stored += chunk->stored;

	reader.at = log->buffer.data;
	reader.end = log->buffer.data + log->buffer.len;
	memcpy(&header, cq_reader_take(&reader, sizeof(header)), sizeof(header));
	check_header(log, &header, log->buffer.len);

	for (i = 0; i < header.nentries; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(scratch);
		uint32 length;
		CqReader entry;
		CqLoaded loaded;
		char saved;

		memcpy(&length, cq_reader_take(&reader, sizeof(length)), sizeof(length));
		entry.at = cq_reader_take(&reader, length);
		entry.end = entry.at + length;

		/* receive functions may overwrite the byte behind for a moment */
		saved = *entry.end;
		loaded = read(arg, chunk->pane, &entry);
		*entry.end = saved;
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);

		if (!chunk->in_pane)
		{
			dlist_push_tail(loaded.chunks, &chunk->pane_link);
			chunk->in_pane = true;
		}
		if (!loaded.live)
			continue;
		chunk->live += sizeof(length) + length;
		log->live += sizeof(length) + length;
		if (loaded.owner)
		{
			loaded.owner->chunk = chunk;
			loaded.owner->size = sizeof(length) + length;
			dlist_push_tail(&chunk->entries, &loaded.owner->link);
		}
	}
	if (chunk->live == 0)
		chunk_doom(log, chunk);
	else
		chunk_classify(log, chunk);
}

/* The data of all parts of a chunk into log->buffer. */
static void
assemble(CqChunkLog *log, Relation relation, const ChunkRow *rows, int nparts)
{
	int i;

	resetStringInfo(&log->buffer);
	for (i = 0; i < nparts; i++)
	{
		ItemPointerData tid = rows[i].tid;
		struct varlena *data;
		bool isnull;

		if (rows[i].part != i || rows[i].pane != rows[0].pane ||
			!table_tuple_fetch_row_version(relation, &tid, GetActiveSnapshot(), log->slot))
			cq_reader_damaged();
		data =
			(struct varlena *) DatumGetPointer(slot_getattr(log->slot, COLUMN_DATA + 1, &isnull));
		if (isnull)
			cq_reader_damaged();
		data = pg_detoast_datum_packed(data);
		appendBinaryStringInfo(&log->buffer, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
		ExecClearTuple(log->slot);
	}
}

static void
check_header(CqChunkLog *log, const ChunkHeader *header, int64 length)
{
	if (header->magic != CHUNK_MAGIC)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("operator state has an unknown format"),
				errdetail("It was written by another version of the extension, or on a machine "
						  "with another byte order."),
				errhint("Drop and create the continuous view to compute it anew."));
	if (header->pg_major != CQ_PG_MAJOR)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("operator state was written by PostgreSQL %u", header->pg_major),
				errdetail("This server is PostgreSQL %d.", CQ_PG_MAJOR),
				errhint("Drop and create the continuous view to compute it anew."));
	if (header->identity != log->identity)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("operator state does not belong to this query"),
				errdetail("A type, aggregate or window of the query is not the one it was written "
						  "with."),
				errhint("Drop and create the continuous view to compute it anew."));
	if (header->length != (uint64) length)
		cq_reader_damaged();
}

void
cq_chunklog_begin(CqChunkLog *log, Relation relation)
{
	/* VACUUM FULL and the like move rows; the caller reloads after an error */
	if (relation->rd_rel->relfilenode != log->filenumber)
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("table \"%s\" was rewritten", RelationGetRelationName(relation)),
				errdetail("The operator state will be read anew."));
	log->relation = relation;
	log->slot = table_slot_create(relation, NULL);
	log->written = 0;
}

void
cq_chunklog_clean(CqChunkLog *log, void (*rewrite)(void *arg, int64 pane, CqEntry *entry),
				  void *arg)
{
	int64 budget = Max(log->written_mean, CLEAN_MINIMUM);
	int64 stored = log->stored;
	int i = 0;

	while (budget > 0 && stored > CLEAN_RATIO * log->live + CLEAN_SLACK)
	{
		CqChunk *chunk;
		dlist_iter iter;

		/* rewriting chunks that are nearly full gains nothing */
		while (i < FILL_CLASSES - 1 && dlist_is_empty(&log->fill[i]))
			i++;
		if (i == FILL_CLASSES - 1)
			break;
		chunk = dlist_container(CqChunk, fill_link, dlist_pop_head_node(&log->fill[i]));
		chunk->in_class = false;
		stored -= chunk->stored;
		budget -= chunk->live;
		dlist_foreach (iter, &chunk->entries)
			rewrite(arg, chunk->pane, dlist_container(CqEntry, link, iter.cur));
	}
}

void
cq_chunklog_append(CqChunkLog *log, dlist_head *chunks, int64 pane, CqEntry *owner,
				   const char *data, Size length)
{
	uint32 prefix = (uint32) length;
	Size size = sizeof(prefix) + length;

	if (length > MaxAllocSize / 2)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("the state of one group is too large to be saved"),
				errdetail("It takes %zu bytes.", length));
	if (owner && owner->chunk)
		entry_release(log, owner);
	if (log->open && (log->open->pane != pane || log->buffer.len + size > CHUNK_CAPACITY))
		cq_chunklog_flush(log);
	if (log->open == NULL)
	{
		open_chunk(log, pane);
		dlist_push_tail(chunks, &log->open->pane_link);
		log->open->in_pane = true;
	}

	appendBinaryStringInfo(&log->buffer, (char *) &prefix, sizeof(prefix));
	appendBinaryStringInfo(&log->buffer, data, (int) length);
	log->nentries++;
	log->open->live += size;
	log->live += size;
	if (owner)
	{
		owner->chunk = log->open;
		owner->size = size;
		dlist_push_tail(&log->open->entries, &owner->link);
	}
}

static void
open_chunk(CqChunkLog *log, int64 pane)
{
	resetStringInfo(&log->buffer);
	enlargeStringInfo(&log->buffer, CHUNK_CAPACITY);
	memset(log->buffer.data, 0, sizeof(ChunkHeader));
	log->buffer.len = sizeof(ChunkHeader);
	log->nentries = 0;
	log->open = chunk_create(log, log->next_seq++, pane);
}

void
cq_chunklog_flush(CqChunkLog *log)
{
	CqChunk *chunk = log->open;
	ChunkHeader header = {.magic = CHUNK_MAGIC,
						  .identity = log->identity,
						  .pg_major = CQ_PG_MAJOR,
						  .nentries = log->nentries,
						  .length = log->buffer.len};
	int at = 0;
	int part;

	if (chunk == NULL)
		return;
	memcpy(log->buffer.data, &header, sizeof(header));
	chunk->nparts = (log->buffer.len + CHUNK_CAPACITY - 1) / CHUNK_CAPACITY;
	if (chunk->nparts > 1)
		chunk->tids = MemoryContextAlloc(log->context, chunk->nparts * sizeof(ItemPointerData));
	for (part = 0; part < chunk->nparts; part++)
	{
		int length = Min(CHUNK_CAPACITY, log->buffer.len - at);

		write_part(log, chunk, part, log->buffer.data + at, length);
		at += length;
	}
	chunk->stored = log->buffer.len + (int64) chunk->nparts * ROW_OVERHEAD;
	log->stored += chunk->stored;
	log->written += chunk->stored;
	log->open = NULL;
	chunk_classify(log, chunk);
}

static void
write_part(CqChunkLog *log, CqChunk *chunk, int part, const char *data, Size length)
{
	TupleTableSlot *slot = log->slot;
	struct varlena *bytes = palloc(VARHDRSZ + length);

	SET_VARSIZE(bytes, VARHDRSZ + length);
	memcpy(VARDATA(bytes), data, length);
	ExecClearTuple(slot);
	slot->tts_values[COLUMN_SEQ] = Int64GetDatum(chunk->seq);
	slot->tts_values[COLUMN_PANE] = Int64GetDatum(chunk->pane);
	slot->tts_values[COLUMN_PART] = Int32GetDatum(part);
	slot->tts_values[COLUMN_DATA] = PointerGetDatum(bytes);
	memset(slot->tts_isnull, 0, NCOLUMNS * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	table_tuple_insert(log->relation,
					   slot,
					   GetCurrentCommandId(true),
					   TABLE_INSERT_NO_LOGICAL,
					   NULL);
	if (chunk->tids)
		chunk->tids[part] = slot->tts_tid;
	else
		chunk->tid = slot->tts_tid;
	ExecClearTuple(slot);
	pfree(bytes);
}

void
cq_chunklog_end(CqChunkLog *log)
{
	cq_chunklog_flush(log);
	while (!dlist_is_empty(&log->doomed))
	{
		CqChunk *chunk = dlist_container(CqChunk, pane_link, dlist_pop_head_node(&log->doomed));
		int i;

		CHECK_FOR_INTERRUPTS();
		for (i = 0; i < chunk->nparts; i++)
			simple_table_tuple_delete(log->relation,
									  chunk->tids ? &chunk->tids[i] : &chunk->tid,
									  GetActiveSnapshot());
		log->stored -= chunk->stored;
		if (chunk->tids)
			pfree(chunk->tids);
		pfree(chunk);
	}
	ExecDropSingleTupleTableSlot(log->slot);
	log->slot = NULL;
	log->relation = NULL;
	if (log->buffer.maxlen > BUFFER_KEPT)
	{
		pfree(log->buffer.data);
		log->buffer.data = MemoryContextAlloc(log->context, CHUNK_CAPACITY);
		log->buffer.maxlen = CHUNK_CAPACITY;
		resetStringInfo(&log->buffer);
	}
	log->written_mean = (log->written_mean * 3 + log->written) / 4;

	/* a later save of this transaction may delete what this one wrote (C2) */
	CommandCounterIncrement();
}

void
cq_chunklog_drop(CqChunkLog *log, dlist_head *chunks)
{
	while (!dlist_is_empty(chunks))
	{
		CqChunk *chunk = dlist_container(CqChunk, pane_link, dlist_head_node(chunks));

		log->live -= chunk->live;
		chunk->live = 0;
		dlist_init(&chunk->entries);
		chunk_doom(log, chunk);
	}
}

void
cq_chunklog_sizes(const CqChunkLog *log, int64 *total, int64 *live)
{
	*total = log->stored;
	*live = log->live;
}

static CqChunk *
chunk_create(CqChunkLog *log, int64 seq, int64 pane)
{
	CqChunk *chunk = MemoryContextAllocZero(log->context, sizeof(CqChunk));

	chunk->seq = seq;
	chunk->pane = pane;
	dlist_init(&chunk->entries);
	return chunk;
}

/* Put a chunk with the others that are as full; those in parts are never cleaned. */
static void
chunk_classify(CqChunkLog *log, CqChunk *chunk)
{
	int class = Min(chunk->live * FILL_CLASSES / CHUNK_CAPACITY, FILL_CLASSES - 1);

	if (chunk->in_class)
		dlist_delete(&chunk->fill_link);
	chunk->in_class = chunk->nparts == 1 && !dlist_is_empty(&chunk->entries);
	if (chunk->in_class)
		dlist_push_tail(&log->fill[class], &chunk->fill_link);
}

/* Have a chunk deleted by the save under way or the next one. */
static void
chunk_doom(CqChunkLog *log, CqChunk *chunk)
{
	Assert(!chunk->doomed && chunk->live == 0);
	chunk->doomed = true;
	if (chunk->in_class)
		dlist_delete(&chunk->fill_link);
	chunk->in_class = false;
	if (chunk->in_pane)
		dlist_delete(&chunk->pane_link);
	chunk->in_pane = false;
	dlist_push_tail(&log->doomed, &chunk->pane_link);
}

/* The version of an entry that was saved last is dead. */
static void
entry_release(CqChunkLog *log, CqEntry *entry)
{
	CqChunk *chunk = entry->chunk;

	dlist_delete(&entry->link);
	chunk->live -= entry->size;
	log->live -= entry->size;
	entry->chunk = NULL;
	entry->size = 0;
	if (chunk->live == 0)
		chunk_doom(log, chunk);
	else if (chunk->in_class)
		chunk_classify(log, chunk);
}
