/*
 * chunklog.c
 *	  Operator state on disk: packed entries in the chunk table of a view.
 *
 * A chunk is up to CQ_CHUNK_CAPACITY bytes of entries of one pane, written once
 * and never changed: a row (seq, pane, part, data) of the table.  What is
 * larger is in several parts.  An entry written again makes its older version
 * obsolete; a chunk without entries of use is deleted, by TID, as the table has
 * no index.
 *
 * There are two kinds.  The log has what changed, in the order of checkpoints.
 * A bucket has all entries of a pane whose hashes end in the same bits, as they
 * were when it was written: it makes whatever older chunks have of them
 * obsolete.  Buckets are what memory gives up (see bucket.c).
 *
 * Log chunks with few live entries would pile up, so each save also writes the
 * live entries of the emptiest ones again, until chunks hold CLEAN_PERCENT more
 * than what is live.  How much is bounded by what the last saves wrote,
 * themselves included: what it takes, and no more.  With the rows that are
 * deleted and not yet vacuumed (runtime/vacuum.c), the table stays within twice
 * its live contents.  Which entries of a chunk are live is found out by reading
 * it: that costs a page now and then, where keeping it in mind would cost memory
 * for every group.
 *
 * Invariants
 *	C1. The last version of each entry, by seq, is the committed state; what
 *		memory knows about chunks is what the table holds.
 *	C2. Chunks of one pane are all in its list, until it is dropped.
 *	C3. Rows are deleted at the end of a save, by a later command than those
 *		that may have written them.
 *
 * Each chunk begins with a header that says who wrote it: layout version,
 * PostgreSQL's major version, and the identity of the state, a hash over keys,
 * aggregates and window.  State that another definition wrote, or a version of
 * PostgreSQL with other forms of it, is never interpreted; loading it stops the view.
 *
 * Memory: chunks are known by structs of 56 bytes in the state's shared memory,
 * which mean nothing after an abort of the transaction that changed them; the
 * state is read anew then.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "errors.h"
#include "state/chunk.h"

#define CLEAN_PERCENT 50
#define CLEAN_SLACK	  (64 * 1024)
#define CLEAN_MINIMUM (32 * 1024)
#define BUFFER_KEPT	  (1024 * 1024)

static void write_chunk(CqChunkLog *log, CqChunkNumber number, int64 pane, uint32 bits,
						uint32 prefix, StringInfo bytes);
static void delete_doomed(CqChunkLog *log);

CqChunkLog *
cq_chunklog_create(CqChunkTable *table, uint64 identity, MemoryContext context)
{
	CqChunkLog *log = MemoryContextAllocZero(context, sizeof(CqChunkLog));
	MemoryContext old = MemoryContextSwitchTo(context);

	log->table = table;
	log->context = context;
	log->identity = identity;
	initStringInfo(&log->buffer);
	initStringInfo(&log->reading);
	MemoryContextSwitchTo(old);
	return log;
}

void
cq_chunklog_begin(CqChunkLog *log, Relation relation)
{
	cq_chunklog_check(log, relation);
	log->relation = relation;
	log->slot = table_slot_create(relation, NULL);
	log->written = 0;
	log->open = 0;
}

int
cq_chunklog_victims(CqChunkLog *log, CqChunkNumber **numbers)
{
	CqChunkTable *table = log->table;
	int64 budget = Max(table->written_mean, CLEAN_MINIMUM);
	int64 stored = table->stored;
	int capacity = 16;
	int class = 0;
	int n = 0;

	*numbers = palloc(capacity * sizeof(CqChunkNumber));
	while (budget > 0 && stored > table->live + table->live / 100 * CLEAN_PERCENT + CLEAN_SLACK)
	{
		CqChunkNumber number;
		CqChunk *chunk;

		/* rewriting chunks that are nearly full gains nothing */
		while (class < CQ_FILL_CLASSES - 1 && table->fill[class] == 0)
			class ++;
		if (class == CQ_FILL_CLASSES - 1)
			break;
		number = table->fill[class];
		chunk = cq_chunk_at(log, number);
		cq_chunk_declassify(log, number);
		stored -= chunk->stored;
		budget -= chunk->live * cq_chunk_entry_size(chunk);
		if (n == capacity)
		{
			capacity *= 2;
			*numbers = repalloc(*numbers, capacity * sizeof(CqChunkNumber));
		}
		(*numbers)[n++] = number;
	}
	return n;
}

void
cq_chunk_put(StringInfo entries, uint32 hash, const char *data, Size length)
{
	uint32 prefix = (uint32) length;

	if (length > MaxAllocSize / 2)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("the state of one group is too large to be saved"),
				errdetail("It takes %zu bytes.", length));
	appendBinaryStringInfo(entries, (char *) &prefix, sizeof(prefix));
	appendBinaryStringInfo(entries, (char *) &hash, sizeof(hash));
	appendBinaryStringInfo(entries, data, (int) length);
}

CqChunkNumber
cq_chunklog_append(CqChunkLog *log, CqChunkList *list, int64 pane, uint32 hash, const char *data,
				   Size length)
{
	Size size = 2 * sizeof(uint32) + length;
	CqChunk *chunk;

	if (log->open && (log->open_list != list || log->buffer.len + size > CQ_CHUNK_CAPACITY))
		cq_chunklog_flush(log);
	if (log->open == 0)
	{
		log->open = cq_chunk_create(log, CQ_CHUNK_LOG, list);
		log->open_list = list;
		log->open_pane = pane;
		resetStringInfo(&log->buffer);
		enlargeStringInfo(&log->buffer, CQ_CHUNK_CAPACITY);
		log->buffer.len = sizeof(CqChunkHeader);
	}
	cq_chunk_put(&log->buffer, hash, data, length);
	chunk = cq_chunk_at(log, log->open);
	chunk->nentries++;
	chunk->live++;
	return log->open;
}

void
cq_chunklog_flush(CqChunkLog *log)
{
	CqChunkNumber number = log->open;

	if (number == 0)
		return;
	log->open = 0;
	write_chunk(log, number, log->open_pane, CQ_NOT_A_BUCKET, 0, &log->buffer);
	cq_chunk_classify(log, number);
}

CqChunkNumber
cq_chunklog_write_bucket(CqChunkLog *log, CqChunkList *list, int64 pane, uint32 prefix, int bits,
						 const StringInfoData *entries, uint32 nentries)
{
	CqChunkNumber number;
	CqChunk *chunk;

	cq_chunklog_flush(log);
	number = cq_chunk_create(log, CQ_CHUNK_BUCKET, list);
	chunk = cq_chunk_at(log, number);
	chunk->nentries = chunk->live = nentries;
	resetStringInfo(&log->buffer);
	enlargeStringInfo(&log->buffer, (int) sizeof(CqChunkHeader) + entries->len);
	log->buffer.len = sizeof(CqChunkHeader);
	appendBinaryStringInfo(&log->buffer, entries->data, entries->len);
	write_chunk(log, number, pane, (uint32) bits, prefix, &log->buffer);
	return number;
}

/* bytes: room for the header, then the entries. */
static void
write_chunk(CqChunkLog *log, CqChunkNumber number, int64 pane, uint32 bits, uint32 prefix,
			StringInfo bytes)
{
	CqChunk *chunk = cq_chunk_at(log, number);
	CqChunkHeader header = {.magic = CQ_CHUNK_MAGIC,
							.identity = log->identity,
							.seed = log->table->seed,
							.pg_major = CQ_PG_MAJOR,
							.nentries = chunk->nentries,
							.bits = bits,
							.prefix = prefix,
							.length = bytes->len};
	int nparts = cq_chunk_parts(bytes->len);
	int64 seq = log->table->next_seq++;

	chunk->seq = seq;
	memcpy(bytes->data, &header, sizeof(header));
	if (nparts > 1)
		cq_chunk_make_places(log, number, nparts);
	chunk = cq_chunk_at(log, number);
	chunk->nparts = (uint16) nparts;
	cq_chunk_insert(log->relation, log->slot, NULL, seq, pane, bytes, cq_chunk_places(chunk));
	chunk->stored = (uint32) (bytes->len + nparts * CQ_CHUNK_OVERHEAD);
	log->table->stored += chunk->stored;
	log->table->digest += cq_chunk_digest(chunk);
	log->table->live += chunk->live * cq_chunk_entry_size(chunk);
	log->written += chunk->stored;
}

int
cq_chunk_parts(int length)
{
	int nparts = (length + CQ_CHUNK_CAPACITY - 1) / CQ_CHUNK_CAPACITY;

	if (nparts > PG_UINT16_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("the state of one group is too large to be saved"),
				errdetail("It takes %d bytes.", length));
	return nparts;
}

void
cq_chunk_insert(Relation relation, TupleTableSlot *slot, struct BulkInsertStateData *bulk,
				int64 seq, int64 pane, const StringInfoData *bytes, ItemPointerData *places)
{
	int nparts = cq_chunk_parts(bytes->len);
	int at = 0;
	int part;

	for (part = 0; part < nparts; part++)
	{
		int length = Min(CQ_CHUNK_CAPACITY, bytes->len - at);
		struct varlena *data = palloc(VARHDRSZ + length);

		SET_VARSIZE(data, VARHDRSZ + length);
		memcpy(VARDATA(data), bytes->data + at, length);
		ExecClearTuple(slot);
		slot->tts_values[CQ_CHUNK_SEQ] = Int64GetDatum(seq);
		slot->tts_values[CQ_CHUNK_PANE] = Int64GetDatum(pane);
		slot->tts_values[CQ_CHUNK_PART] = Int32GetDatum(part);
		slot->tts_values[CQ_CHUNK_DATA] = PointerGetDatum(data);
		memset(slot->tts_isnull, 0, CQ_CHUNK_COLUMNS * sizeof(bool));
		ExecStoreVirtualTuple(slot);
		table_tuple_insert(relation,
						   slot,
						   GetCurrentCommandId(true),
						   TABLE_INSERT_NO_LOGICAL,
						   bulk);
		if (places)
			places[part] = slot->tts_tid;
		ExecClearTuple(slot);
		pfree(data);
		at += length;
	}
}

void
cq_chunklog_end(CqChunkLog *log)
{
	CqChunkTable *table = log->table;

	cq_chunklog_flush(log);

	/* C3; and a later save of this transaction may read and delete what this one wrote */
	log->saved_by = GetTopTransactionId();
	CommandCounterIncrement();
	delete_doomed(log);
	ExecDropSingleTupleTableSlot(log->slot);
	log->slot = NULL;
	log->relation = NULL;
	if (log->buffer.maxlen > BUFFER_KEPT)
	{
		pfree(log->buffer.data);
		log->buffer.data = MemoryContextAlloc(log->context, CQ_CHUNK_CAPACITY);
		log->buffer.maxlen = CQ_CHUNK_CAPACITY;
		resetStringInfo(&log->buffer);
	}
	table->written_mean = (table->written_mean * 3 + log->written) / 4;
}

static void
delete_doomed(CqChunkLog *log)
{
	CqChunkTable *table = log->table;

	while (table->doomed)
	{
		CqChunkNumber number = table->doomed;
		CqChunk *chunk = cq_chunk_at(log, number);
		int i;

		CHECK_FOR_INTERRUPTS();
		for (i = 0; i < chunk->nparts; i++)
			simple_table_tuple_delete(log->relation,
									  &cq_chunk_places(chunk)[i],
									  GetActiveSnapshot());
		table->stored -= chunk->stored;
		table->digest -= cq_chunk_digest(chunk);
		table->deleted += chunk->stored;
		table->doomed = chunk->next;
		if (chunk->nparts > 1)
			cq_arena_free(table->chunks.arena,
						  chunk->tid.each,
						  chunk->nparts * sizeof(ItemPointerData));
		memset(chunk, 0, sizeof(CqChunk));
		chunk->next = table->unused;
		table->unused = number;
	}
}
