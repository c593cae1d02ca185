/*
 * chunk_convert.c
 *	  Chunks of one table written to another, each entry as something else.
 *
 * One chunk is in memory at a time.  Entries stay in the order in which they were
 * written, the obsolete ones, too, so that the same ones are obsolete.  A bucket stays
 * one; a chunk of the log may become two.  Two never become one: a chunk has an entry
 * of a group once, by which whoever reads it knows the newest.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "state/chunk.h"
#include "state/chunk_convert.h"

typedef struct Conversion
{
	CqEntryConverter convert;
	void *arg;
	CqChunkLog *log; /* that is read; its table has the seed */
	uint64 identity;
	Relation to;
	TupleTableSlot *slot;
	BulkInsertState bulk;
	MemoryContext scratch;
	StringInfoData entry; /* what one has become */
	int64 next_seq;

	/* being written */
	StringInfoData bytes;
	uint32 nentries;
	int64 pane;
} Conversion;

static void chunk_visit(void *arg, CqChunkData *chunk);
static void chunk_begin(Conversion *conversion, int64 pane);
static void chunk_end(Conversion *conversion, uint32 bits, uint32 prefix);

void
cq_chunks_convert(Relation from, uint64 from_identity, Relation to, uint64 to_identity,
				  CqEntryConverter convert, void *arg)
{
	CqChunkTable table = {.next_seq = 1};
	Conversion conversion = {
		.convert = convert,
		.arg = arg,
		.identity = to_identity,
		.to = to,
		.next_seq = 1,
	};

	conversion.log = cq_chunklog_create(&table, from_identity, CurrentMemoryContext);
	conversion.slot = table_slot_create(to, NULL);
	conversion.bulk = GetBulkInsertState();
	conversion.scratch =
		AllocSetContextCreate(CurrentMemoryContext, "pipeline entries", ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&conversion.entry);
	initStringInfo(&conversion.bytes);
	cq_chunklog_scan(conversion.log, from, false, NULL, chunk_visit, &conversion);
	FreeBulkInsertState(conversion.bulk);
	ExecDropSingleTupleTableSlot(conversion.slot);
	MemoryContextDelete(conversion.scratch);
	pfree(conversion.entry.data);
	pfree(conversion.bytes.data);
}

static void
chunk_visit(void *arg, CqChunkData *chunk)
{
	Conversion *conversion = arg;
	CqReader entry;
	uint32 hash;

	while (cq_chunk_next(chunk, &hash, &entry))
	{
		MemoryContext old = MemoryContextSwitchTo(conversion->scratch);

		resetStringInfo(&conversion->entry);
		conversion->convert(conversion->arg, &entry, &conversion->entry);
		MemoryContextSwitchTo(old);
		if (!chunk->is_bucket && conversion->nentries > 0 &&
			conversion->bytes.len + 2 * sizeof(uint32) + conversion->entry.len > CQ_CHUNK_CAPACITY)
			chunk_end(conversion, CQ_NOT_A_BUCKET, 0);
		if (conversion->nentries == 0)
			chunk_begin(conversion, chunk->pane);
		cq_chunk_put(&conversion->bytes,
					 hash,
					 conversion->entry.data,
					 (Size) conversion->entry.len);
		conversion->nentries++;
	}
	if (chunk->is_bucket)
		chunk_end(conversion, (uint32) chunk->bits, chunk->prefix);
	else
		chunk_end(conversion, CQ_NOT_A_BUCKET, 0);
	MemoryContextReset(conversion->scratch);
}

static void
chunk_begin(Conversion *conversion, int64 pane)
{
	conversion->pane = pane;
	resetStringInfo(&conversion->bytes);
	enlargeStringInfo(&conversion->bytes, CQ_CHUNK_CAPACITY);
	conversion->bytes.len = sizeof(CqChunkHeader);
}

/* Nothing, if nothing was put in. */
static void
chunk_end(Conversion *conversion, uint32 bits, uint32 prefix)
{
	CqChunkHeader header = {.magic = CQ_CHUNK_MAGIC,
							.identity = conversion->identity,
							.seed = conversion->log->table->seed,
							.pg_major = CQ_PG_MAJOR,
							.nentries = conversion->nentries,
							.bits = bits,
							.prefix = prefix,
							.length = conversion->bytes.len};

	if (conversion->nentries == 0)
		return;
	memcpy(conversion->bytes.data, &header, sizeof(header));
	cq_chunk_insert(conversion->to,
					conversion->slot,
					conversion->bulk,
					conversion->next_seq++,
					conversion->pane,
					&conversion->bytes,
					NULL);
	conversion->nentries = 0;
}
