/*
 * chunk_table.c
 *	  What is known of the chunks of a table: where they are, how much of each is
 *	  of use, which ones go.
 */
#include "postgres.h"

#include "errors.h"
#include "state/chunk.h"

#define TABLE_SHIFT 9 /* chunk structs per page of their vector */

static void chunk_doom(CqChunkLog *log, CqChunkNumber number);
static void out_of_memory(const CqChunkLog *log) CQ_NORETURN;

void
cq_chunk_table_init(CqChunkTable *table, CqArena *arena, uint64 seed)
{
	memset(table, 0, sizeof(CqChunkTable));
	cq_vector_init(&table->chunks, arena, sizeof(CqChunk), TABLE_SHIFT);
	table->nchunks = 1; /* number 0 stands for none */
	table->next_seq = 1;
	table->seed = seed;
}

bool
cq_chunklog_place(const CqChunkLog *log, CqChunkNumber number, ItemPointer tid)
{
	CqChunk *chunk;

	if (number >= log->table->nchunks)
		return false;
	chunk = cq_chunk_at(log, number);
	if (chunk->kind == CQ_CHUNK_LOG || chunk->kind == CQ_CHUNK_BUCKET)
		*tid = cq_chunk_places(chunk)[0];
	else
		ItemPointerSetInvalid(tid);
	return true;
}

CqChunkNumber
cq_chunklog_register(CqChunkLog *log, CqChunkData *data, CqChunkList *list)
{
	CqChunkNumber number =
		cq_chunk_create(log, data->is_bucket ? CQ_CHUNK_BUCKET : CQ_CHUNK_LOG, list);
	CqChunk *chunk;

	if (data->nparts > 1)
		cq_chunk_make_places(log, number, data->nparts);
	chunk = cq_chunk_at(log, number);
	chunk->seq = data->seq;
	chunk->nparts = (uint16) data->nparts;
	memcpy(cq_chunk_places(chunk), data->tids, data->nparts * sizeof(ItemPointerData));
	chunk->stored = (uint32) data->stored;
	chunk->nentries = data->nentries;
	log->table->stored += chunk->stored;
	log->table->digest += cq_chunk_digest(chunk);
	data->number = number;
	return number;
}

void
cq_chunklog_registered(CqChunkLog *log, CqChunkNumber number, uint32 live)
{
	CqChunk *chunk = cq_chunk_at(log, number);

	chunk->live = live;
	log->table->live += live * cq_chunk_entry_size(chunk);
	if (live == 0)
		chunk_doom(log, number);
	else
		cq_chunk_classify(log, number);
}

CqChunkNumber
cq_chunk_create(CqChunkLog *log, CqChunkKind kind, CqChunkList *list)
{
	CqChunkTable *table = log->table;
	CqChunkNumber number = table->unused;
	CqChunk *chunk;

	if (number)
		table->unused = cq_chunk_at(log, number)->next;
	else
	{
		if (!cq_vector_reserve(&table->chunks, table->nchunks + 1))
			out_of_memory(log);
		number = table->nchunks++;
	}
	chunk = cq_chunk_at(log, number);
	memset(chunk, 0, sizeof(CqChunk));
	chunk->kind = kind;
	chunk->fill = -1;
	chunk->list = list;
	chunk->previous = list->last;
	if (list->last)
		cq_chunk_at(log, list->last)->next = number;
	else
		list->first = number;
	list->last = number;
	return number;
}

void
cq_chunk_make_places(CqChunkLog *log, CqChunkNumber number, int nparts)
{
	ItemPointerData *places =
		cq_arena_alloc(log->table->chunks.arena, nparts * sizeof(ItemPointerData));
	CqChunk *chunk;

	if (places == NULL)
		out_of_memory(log);
	chunk = cq_chunk_at(log, number);
	chunk->tid.each = places;
	chunk->nparts = (uint16) nparts;
}

/* Memory that others hold beyond their share will be given back; try again then. */
static void
out_of_memory(const CqChunkLog *log)
{
	CqRegionRoom region;
	bool own_fault;

	cq_region_room(log->table->chunks.arena->store, &region);
	own_fault = region.used + CQ_EXTENT_SIZE > region.limit;
	ereport(ERROR,
			errcode(own_fault ? CQ_ERRCODE_STATE_FULL : ERRCODE_OUT_OF_MEMORY),
			errmsg("the chunks of operator state do not fit into memory"),
			errdetail("%u chunks are known; the state takes %zu of %zu kB.",
					  log->table->nchunks,
					  region.used / 1024,
					  region.limit / 1024),
			errhint("Increase \"pipeline.state_memory\"."));
}

/* All parts but the last are full. */
uint64
cq_chunk_digest(const CqChunk *chunk)
{
	int64 left = (int64) chunk->stored - (int64) chunk->nparts * CQ_CHUNK_OVERHEAD;
	uint64 digest = 0;
	int part;

	for (part = 0; part < chunk->nparts; part++)
	{
		digest += cq_chunk_part_digest(chunk->seq, part, Min(left, CQ_CHUNK_CAPACITY));
		left -= CQ_CHUNK_CAPACITY;
	}
	return digest;
}

/* Put a log chunk with the others that are as full; those in parts are never cleaned. */
void
cq_chunk_classify(CqChunkLog *log, CqChunkNumber number)
{
	CqChunk *chunk = cq_chunk_at(log, number);
	int64 live = chunk->live * cq_chunk_entry_size(chunk);
	int class = (int) Min(live * CQ_FILL_CLASSES / CQ_CHUNK_CAPACITY, CQ_FILL_CLASSES - 1);

	if (chunk->kind != CQ_CHUNK_LOG || chunk->nparts != 1 || chunk->fill == class)
		return;
	cq_chunk_declassify(log, number);
	chunk->fill = (int8) class;
	chunk->fill_previous = 0;
	chunk->fill_next = log->table->fill[class];
	if (chunk->fill_next)
		cq_chunk_at(log, chunk->fill_next)->fill_previous = number;
	log->table->fill[class] = number;
}

void
cq_chunk_declassify(CqChunkLog *log, CqChunkNumber number)
{
	CqChunk *chunk = cq_chunk_at(log, number);

	if (chunk->fill < 0)
		return;
	if (chunk->fill_previous)
		cq_chunk_at(log, chunk->fill_previous)->fill_next = chunk->fill_next;
	else
		log->table->fill[chunk->fill] = chunk->fill_next;
	if (chunk->fill_next)
		cq_chunk_at(log, chunk->fill_next)->fill_previous = chunk->fill_previous;
	chunk->fill = -1;
}

/* Have a chunk deleted by the save under way or the next one. */
static void
chunk_doom(CqChunkLog *log, CqChunkNumber number)
{
	CqChunk *chunk = cq_chunk_at(log, number);

	Assert(chunk->kind == CQ_CHUNK_LOG || chunk->kind == CQ_CHUNK_BUCKET);
	if (number == log->open)
		return; /* it is classified when it is written */
	cq_chunk_declassify(log, number);
	if (chunk->previous)
		cq_chunk_at(log, chunk->previous)->next = chunk->next;
	else
		chunk->list->first = chunk->next;
	if (chunk->next)
		cq_chunk_at(log, chunk->next)->previous = chunk->previous;
	else
		chunk->list->last = chunk->previous;
	chunk->list = NULL;
	chunk->kind = CQ_CHUNK_DOOMED;
	chunk->next = log->table->doomed;
	log->table->doomed = number;
}

void
cq_chunklog_release(CqChunkLog *log, CqChunkNumber number)
{
	CqChunk *chunk = cq_chunk_at(log, number);

	Assert(chunk->live > 0);
	chunk->live--;
	log->table->live -= cq_chunk_entry_size(chunk);

	/* a bucket is known to its pane, and lives until it is written again */
	if (chunk->kind == CQ_CHUNK_BUCKET)
		return;
	if (chunk->live == 0)
		chunk_doom(log, number);
	else if (chunk->fill >= 0)
		cq_chunk_classify(log, number);
}

void
cq_chunklog_obsolete(CqChunkLog *log, CqChunkNumber number)
{
	CqChunk *chunk = cq_chunk_at(log, number);

	log->table->live -= chunk->live * cq_chunk_entry_size(chunk);
	chunk->live = 0;
	chunk_doom(log, number);
}

void
cq_chunklog_drop(CqChunkLog *log, CqChunkList *list)
{
	while (list->first)
		cq_chunklog_obsolete(log, list->first);
}

CqChunkNumber
cq_chunklog_next(const CqChunkLog *log, CqChunkNumber number)
{
	return cq_chunk_at(log, number)->next;
}

int64
cq_chunklog_seq(const CqChunkLog *log, CqChunkNumber number)
{
	return cq_chunk_at(log, number)->seq;
}

int64
cq_chunklog_oldest(const CqChunkLog *log, const CqChunkList *list)
{
	int64 oldest = PG_INT64_MAX;
	CqChunkNumber number;

	for (number = list->first; number; number = cq_chunk_at(log, number)->next)
	{
		const CqChunk *chunk = cq_chunk_at(log, number);

		if (chunk->kind == CQ_CHUNK_LOG && number != log->open)
			oldest = Min(oldest, chunk->seq);
	}
	return oldest;
}

uint32
cq_chunklog_live(const CqChunkLog *log, CqChunkNumber number)
{
	return cq_chunk_at(log, number)->live;
}

CqChunkList *
cq_chunklog_list(const CqChunkLog *log, CqChunkNumber number)
{
	return cq_chunk_at(log, number)->list;
}
