/*
 * chunklog.c
 *	  Operator state on disk: packed entries in the chunk table of a view.
 *
 * A chunk is up to CHUNK_CAPACITY bytes of entries of one pane, written once
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
 * aggregates and window.  State that another definition or another major
 * version wrote is never interpreted; loading it stops the view.
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
#include "state/chunklog.h"

#define CHUNK_CAPACITY 8000
#define CHUNK_MAGIC	   UINT64CONST(0x32306b6e75684371) /* also tells the byte order */
#define ROW_OVERHEAD   56							   /* of a table row around data */
#define CLEAN_PERCENT  50
#define CLEAN_SLACK	   (64 * 1024)
#define CLEAN_MINIMUM  (32 * 1024)
#define BUFFER_KEPT	   (1024 * 1024)
#define NOT_A_BUCKET   0xFFFFFFFFU
#define TABLE_SHIFT	   9 /* chunk structs per page of their vector */

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
	uint64 seed;
	uint32 pg_major;
	uint32 nentries;
	uint32 bits; /* of the prefix; NOT_A_BUCKET in the log */
	uint32 prefix;
	uint64 length; /* of all parts together, header included */
} ChunkHeader;

typedef enum ChunkKind
{
	CHUNK_UNUSED,
	CHUNK_LOG,
	CHUNK_BUCKET,
	CHUNK_DOOMED
} ChunkKind;

typedef struct Chunk
{
	CqChunkList *list;
	CqChunkNumber previous; /* in its list */
	CqChunkNumber next;		/* in its list, or of the doomed or unused */
	CqChunkNumber fill_previous;
	CqChunkNumber fill_next;
	uint32 nentries;
	uint32 live;
	uint32 stored;		 /* bytes in the table, overhead included */
	ItemPointerData tid; /* of the only part */
	uint16 nparts;
	ItemPointerData *tids; /* if there are several */
	uint8 kind;
	int8 fill; /* class; -1 = none */
} Chunk;

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

/* One row of the table, while scanning it. */
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
static void visit_rows(CqChunkLog *log, Relation relation, const ChunkRow *rows, int nparts,
					   TupleTableSlot *slot, CqChunkVisitor visit, void *arg);
static void read_part(CqChunkLog *log, Relation relation, const ItemPointerData *tid, int part,
					  TupleTableSlot *slot, CqChunkData *chunk);
static void read_header(CqChunkLog *log, CqChunkData *chunk);
static void check_header(CqChunkLog *log, const ChunkHeader *header, int64 length);
static inline Chunk *chunk_at(const CqChunkLog *log, CqChunkNumber number);
static CqChunkNumber chunk_create(CqChunkLog *log, ChunkKind kind, CqChunkList *list);
static void chunk_classify(CqChunkLog *log, CqChunkNumber number);
static void chunk_declassify(CqChunkLog *log, CqChunkNumber number);
static void chunk_doom(CqChunkLog *log, CqChunkNumber number);
static ItemPointerData *chunk_tids(CqChunkLog *log, CqChunkNumber number, int nparts);
static void write_chunk(CqChunkLog *log, CqChunkNumber number, int64 pane, uint32 bits,
						uint32 prefix, StringInfo bytes);
static void write_part(CqChunkLog *log, CqChunkNumber number, int64 seq, int64 pane, int part,
					   const char *data, Size length);
static void delete_doomed(CqChunkLog *log);
static void out_of_memory(const CqChunkLog *log) CQ_NORETURN;

void
cq_chunk_table_init(CqChunkTable *table, CqArena *arena, uint64 seed)
{
	memset(table, 0, sizeof(CqChunkTable));
	cq_vector_init(&table->chunks, arena, sizeof(Chunk), TABLE_SHIFT);
	table->nchunks = 1; /* number 0 stands for none */
	table->next_seq = 1;
	table->seed = seed;
}

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

bool
cq_chunklog_is_current(const CqChunkLog *log, Relation relation)
{
	return log->table->filenumber == relation->rd_rel->relfilenode;
}

/* VACUUM FULL and the like move rows; the caller reloads after an error. */
void
cq_chunklog_check(const CqChunkLog *log, Relation relation)
{
	if (!cq_chunklog_is_current(log, relation))
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("table \"%s\" was rewritten", RelationGetRelationName(relation)),
				errdetail("The operator state will be read anew."));
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */

void
cq_chunklog_scan(CqChunkLog *log, Relation relation, bool newest_first,
				 bool (*wanted)(void *arg, int64 pane), CqChunkVisitor visit, void *arg)
{
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	ChunkRow *rows;
	int64 nrows;
	int64 from;
	int64 to;

	check_table(relation);
	rows = collect_rows(relation, GetActiveSnapshot(), &nrows);
	if (nrows > 0)
		log->table->next_seq = Max(log->table->next_seq, rows[nrows - 1].seq + 1);

	if (wanted)
		nrows = choose_rows(rows, nrows, wanted, arg);
	if (newest_first)
		for (to = nrows; to > 0; to = from)
		{
			for (from = to - 1; from > 0 && rows[from - 1].seq == rows[from].seq;)
				from--;
			visit_rows(log, relation, &rows[from], (int) (to - from), slot, visit, arg);
		}
	else
		for (from = 0; from < nrows; from = to)
		{
			for (to = from + 1; to < nrows && rows[to].seq == rows[from].seq;)
				to++;
			visit_rows(log, relation, &rows[from], (int) (to - from), slot, visit, arg);
		}
	ExecDropSingleTupleTableSlot(slot);
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
visit_rows(CqChunkLog *log, Relation relation, const ChunkRow *rows, int nparts,
		   TupleTableSlot *slot, CqChunkVisitor visit, void *arg)
{
	CqChunkData chunk = {.seq = rows[0].seq, .pane = rows[0].pane, .nparts = nparts};
	ItemPointerData one = rows[0].tid;
	ItemPointerData *tids = nparts == 1 ? &one : palloc(nparts * sizeof(ItemPointerData));
	int i;

	CHECK_FOR_INTERRUPTS();
	resetStringInfo(&log->reading);
	for (i = 0; i < nparts; i++)
	{
		tids[i] = rows[i].tid;
		read_part(log, relation, &tids[i], i, slot, &chunk);
	}
	chunk.tids = tids;
	read_header(log, &chunk);
	visit(arg, &chunk);
	if (tids != &one)
		pfree(tids);
}

/* Append the data of one part to log->reading. */
static void
read_part(CqChunkLog *log, Relation relation, const ItemPointerData *tid, int part,
		  TupleTableSlot *slot, CqChunkData *chunk)
{
	ItemPointerData place = *tid;
	struct varlena *data;
	bool isnull;

	if (!table_tuple_fetch_row_version(relation, &place, GetActiveSnapshot(), slot))
		cq_reader_damaged();
	slot_getallattrs(slot);
	chunk->seq = DatumGetInt64(slot->tts_values[COLUMN_SEQ]);
	if (DatumGetInt32(slot->tts_values[COLUMN_PART]) != part)
		cq_reader_damaged();
	chunk->pane = DatumGetInt64(slot->tts_values[COLUMN_PANE]);
	data = (struct varlena *) DatumGetPointer(slot_getattr(slot, COLUMN_DATA + 1, &isnull));
	if (isnull)
		cq_reader_damaged();
	if (VARATT_IS_EXTENDED(data) && !VARATT_IS_SHORT(data))
		data = pg_detoast_datum_packed(data);
	appendBinaryStringInfo(&log->reading, VARDATA_ANY(data), (int) VARSIZE_ANY_EXHDR(data));
	ExecClearTuple(slot);
}

static void
read_header(CqChunkLog *log, CqChunkData *chunk)
{
	ChunkHeader header;

	chunk->reader.at = log->reading.data;
	chunk->reader.end = log->reading.data + log->reading.len;
	memcpy(&header, cq_reader_take(&chunk->reader, sizeof(header)), sizeof(header));
	check_header(log, &header, log->reading.len);
	log->table->seed = header.seed;
	chunk->is_bucket = header.bits != NOT_A_BUCKET;
	chunk->bits = chunk->is_bucket ? (int) header.bits : 0;
	chunk->prefix = header.prefix;
	chunk->nentries = chunk->left = header.nentries;
	chunk->stored = log->reading.len + (int64) chunk->nparts * ROW_OVERHEAD;
	chunk->scribbled = NULL;
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
	if (header->length != (uint64) length || (header->bits != NOT_A_BUCKET && header->bits > 32))
		cq_reader_damaged();
}

bool
cq_chunk_next(CqChunkData *chunk, uint32 *hash, CqReader *entry)
{
	uint32 length;

	/* receive functions may overwrite the byte behind an entry for a moment */
	if (chunk->scribbled)
		*chunk->scribbled = chunk->saved;
	if (chunk->left == 0)
		return false;
	chunk->left--;
	memcpy(&length, cq_reader_take(&chunk->reader, sizeof(length)), sizeof(length));
	memcpy(hash, cq_reader_take(&chunk->reader, sizeof(*hash)), sizeof(*hash));
	entry->at = cq_reader_take(&chunk->reader, length);
	entry->end = entry->at + length;
	chunk->scribbled = entry->end;
	chunk->saved = *entry->end;
	return true;
}

bool
cq_chunklog_place(const CqChunkLog *log, CqChunkNumber number, ItemPointer tid)
{
	Chunk *chunk;

	if (number >= log->table->nchunks)
		return false;
	chunk = chunk_at(log, number);
	if (chunk->kind == CHUNK_LOG || chunk->kind == CHUNK_BUCKET)
		*tid = chunk->tids ? chunk->tids[0] : chunk->tid;
	else
		ItemPointerSetInvalid(tid);
	return true;
}

void
cq_chunklog_fetch(CqChunkLog *log, Relation relation, CqChunkNumber number, CqChunkData *data)
{
	Chunk *chunk = chunk_at(log, number);
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	bool saved = TransactionIdIsValid(log->saved_by) &&
				 TransactionIdEquals(log->saved_by, GetTopTransactionIdIfAny());
	int i;

	/* it may be of an earlier save of this transaction, which its snapshot does not know */
	if (saved)
	{
		PushCopiedSnapshot(GetActiveSnapshot());
		UpdateActiveSnapshotCommandId();
	}
	memset(data, 0, sizeof(CqChunkData));
	data->number = number;
	data->nparts = chunk->nparts;
	data->tids = chunk->tids ? chunk->tids : &chunk->tid;
	resetStringInfo(&log->reading);
	for (i = 0; i < data->nparts; i++)
		read_part(log, relation, &data->tids[i], i, slot, data);
	ExecDropSingleTupleTableSlot(slot);
	if (saved)
		PopActiveSnapshot();
	read_header(log, data);
	if (data->nentries != chunk->nentries)
		cq_reader_damaged();
}

CqChunkNumber
cq_chunklog_register(CqChunkLog *log, CqChunkData *data, CqChunkList *list)
{
	CqChunkNumber number = chunk_create(log, data->is_bucket ? CHUNK_BUCKET : CHUNK_LOG, list);
	Chunk *chunk;

	if (data->nparts > 1)
		memcpy(chunk_tids(log, number, data->nparts),
			   data->tids,
			   data->nparts * sizeof(ItemPointerData));
	chunk = chunk_at(log, number);
	chunk->nparts = (uint16) data->nparts;
	chunk->tid = data->tids[0];
	chunk->stored = (uint32) data->stored;
	chunk->nentries = data->nentries;
	log->table->stored += chunk->stored;
	data->number = number;
	return number;
}

/* Bytes of an entry of a chunk, overhead included, on average. */
static inline int64
entry_size(const Chunk *chunk)
{
	return chunk->nentries ? chunk->stored / chunk->nentries : 0;
}

void
cq_chunklog_registered(CqChunkLog *log, CqChunkNumber number, uint32 live)
{
	Chunk *chunk = chunk_at(log, number);

	chunk->live = live;
	log->table->live += live * entry_size(chunk);
	if (live == 0)
		chunk_doom(log, number);
	else
		chunk_classify(log, number);
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */

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
		Chunk *chunk;

		/* rewriting chunks that are nearly full gains nothing */
		while (class < CQ_FILL_CLASSES - 1 && table->fill[class] == 0)
			class ++;
		if (class == CQ_FILL_CLASSES - 1)
			break;
		number = table->fill[class];
		chunk = chunk_at(log, number);
		chunk_declassify(log, number);
		stored -= chunk->stored;
		budget -= chunk->live * entry_size(chunk);
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
	Chunk *chunk;

	if (log->open && (log->open_list != list || log->buffer.len + size > CHUNK_CAPACITY))
		cq_chunklog_flush(log);
	if (log->open == 0)
	{
		log->open = chunk_create(log, CHUNK_LOG, list);
		log->open_list = list;
		log->open_pane = pane;
		resetStringInfo(&log->buffer);
		enlargeStringInfo(&log->buffer, CHUNK_CAPACITY);
		log->buffer.len = sizeof(ChunkHeader);
	}
	cq_chunk_put(&log->buffer, hash, data, length);
	chunk = chunk_at(log, log->open);
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
	write_chunk(log, number, log->open_pane, NOT_A_BUCKET, 0, &log->buffer);
	chunk_classify(log, number);
}

CqChunkNumber
cq_chunklog_write_bucket(CqChunkLog *log, CqChunkList *list, int64 pane, uint32 prefix, int bits,
						 const StringInfoData *entries, uint32 nentries)
{
	CqChunkNumber number;
	Chunk *chunk;

	cq_chunklog_flush(log);
	number = chunk_create(log, CHUNK_BUCKET, list);
	chunk = chunk_at(log, number);
	chunk->nentries = chunk->live = nentries;
	resetStringInfo(&log->buffer);
	enlargeStringInfo(&log->buffer, (int) sizeof(ChunkHeader) + entries->len);
	log->buffer.len = sizeof(ChunkHeader);
	appendBinaryStringInfo(&log->buffer, entries->data, entries->len);
	write_chunk(log, number, pane, (uint32) bits, prefix, &log->buffer);
	return number;
}

/* bytes: room for the header, then the entries. */
static void
write_chunk(CqChunkLog *log, CqChunkNumber number, int64 pane, uint32 bits, uint32 prefix,
			StringInfo bytes)
{
	Chunk *chunk = chunk_at(log, number);
	ChunkHeader header = {.magic = CHUNK_MAGIC,
						  .identity = log->identity,
						  .seed = log->table->seed,
						  .pg_major = CQ_PG_MAJOR,
						  .nentries = chunk->nentries,
						  .bits = bits,
						  .prefix = prefix,
						  .length = bytes->len};
	int nparts = (bytes->len + CHUNK_CAPACITY - 1) / CHUNK_CAPACITY;
	int64 seq = log->table->next_seq++;
	int at = 0;
	int part;

	if (nparts > PG_UINT16_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("the state of one group is too large to be saved"),
				errdetail("It takes %d bytes.", bytes->len));
	memcpy(bytes->data, &header, sizeof(header));
	if (nparts > 1)
		(void) chunk_tids(log, number, nparts);
	chunk->nparts = (uint16) nparts;
	for (part = 0; part < nparts; part++)
	{
		int length = Min(CHUNK_CAPACITY, bytes->len - at);

		write_part(log, number, seq, pane, part, bytes->data + at, length);
		at += length;
	}
	chunk = chunk_at(log, number);
	chunk->stored = (uint32) (bytes->len + nparts * ROW_OVERHEAD);
	log->table->stored += chunk->stored;
	log->table->live += chunk->live * entry_size(chunk);
	log->written += chunk->stored;
}

static void
write_part(CqChunkLog *log, CqChunkNumber number, int64 seq, int64 pane, int part, const char *data,
		   Size length)
{
	Chunk *chunk = chunk_at(log, number);
	TupleTableSlot *slot = log->slot;
	struct varlena *bytes = palloc(VARHDRSZ + length);

	SET_VARSIZE(bytes, VARHDRSZ + length);
	memcpy(VARDATA(bytes), data, length);
	ExecClearTuple(slot);
	slot->tts_values[COLUMN_SEQ] = Int64GetDatum(seq);
	slot->tts_values[COLUMN_PANE] = Int64GetDatum(pane);
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
		log->buffer.data = MemoryContextAlloc(log->context, CHUNK_CAPACITY);
		log->buffer.maxlen = CHUNK_CAPACITY;
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
		Chunk *chunk = chunk_at(log, number);
		int i;

		CHECK_FOR_INTERRUPTS();
		for (i = 0; i < chunk->nparts; i++)
			simple_table_tuple_delete(log->relation,
									  chunk->tids ? &chunk->tids[i] : &chunk->tid,
									  GetActiveSnapshot());
		table->stored -= chunk->stored;
		table->deleted += chunk->stored;
		table->doomed = chunk->next;
		if (chunk->tids)
			cq_arena_free(table->chunks.arena,
						  chunk->tids,
						  chunk->nparts * sizeof(ItemPointerData));
		memset(chunk, 0, sizeof(Chunk));
		chunk->next = table->unused;
		table->unused = number;
	}
}

/* ------------------------------------------------------------------------
 * Chunks
 * ------------------------------------------------------------------------
 */

static inline Chunk *
chunk_at(const CqChunkLog *log, CqChunkNumber number)
{
	Assert(number > 0 && number < log->table->nchunks);
	return cq_vector_at(&log->table->chunks, number);
}

static CqChunkNumber
chunk_create(CqChunkLog *log, ChunkKind kind, CqChunkList *list)
{
	CqChunkTable *table = log->table;
	CqChunkNumber number = table->unused;
	Chunk *chunk;

	if (number)
		table->unused = chunk_at(log, number)->next;
	else
	{
		if (!cq_vector_reserve(&table->chunks, table->nchunks + 1))
			out_of_memory(log);
		number = table->nchunks++;
	}
	chunk = chunk_at(log, number);
	memset(chunk, 0, sizeof(Chunk));
	chunk->kind = kind;
	chunk->fill = -1;
	chunk->list = list;
	chunk->previous = list->last;
	if (list->last)
		chunk_at(log, list->last)->next = number;
	else
		list->first = number;
	list->last = number;
	return number;
}

static ItemPointerData *
chunk_tids(CqChunkLog *log, CqChunkNumber number, int nparts)
{
	ItemPointerData *tids =
		cq_arena_alloc(log->table->chunks.arena, nparts * sizeof(ItemPointerData));

	if (tids == NULL)
		out_of_memory(log);
	chunk_at(log, number)->nparts = (uint16) nparts;
	return chunk_at(log, number)->tids = tids;
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

/* Put a log chunk with the others that are as full; those in parts are never cleaned. */
static void
chunk_classify(CqChunkLog *log, CqChunkNumber number)
{
	Chunk *chunk = chunk_at(log, number);
	int64 live = chunk->live * entry_size(chunk);
	int class = (int) Min(live * CQ_FILL_CLASSES / CHUNK_CAPACITY, CQ_FILL_CLASSES - 1);

	if (chunk->kind != CHUNK_LOG || chunk->nparts != 1 || chunk->fill == class)
		return;
	chunk_declassify(log, number);
	chunk->fill = (int8) class;
	chunk->fill_previous = 0;
	chunk->fill_next = log->table->fill[class];
	if (chunk->fill_next)
		chunk_at(log, chunk->fill_next)->fill_previous = number;
	log->table->fill[class] = number;
}

static void
chunk_declassify(CqChunkLog *log, CqChunkNumber number)
{
	Chunk *chunk = chunk_at(log, number);

	if (chunk->fill < 0)
		return;
	if (chunk->fill_previous)
		chunk_at(log, chunk->fill_previous)->fill_next = chunk->fill_next;
	else
		log->table->fill[chunk->fill] = chunk->fill_next;
	if (chunk->fill_next)
		chunk_at(log, chunk->fill_next)->fill_previous = chunk->fill_previous;
	chunk->fill = -1;
}

/* Have a chunk deleted by the save under way or the next one. */
static void
chunk_doom(CqChunkLog *log, CqChunkNumber number)
{
	Chunk *chunk = chunk_at(log, number);

	Assert(chunk->kind == CHUNK_LOG || chunk->kind == CHUNK_BUCKET);
	if (number == log->open)
		return; /* it is classified when it is written */
	chunk_declassify(log, number);
	if (chunk->previous)
		chunk_at(log, chunk->previous)->next = chunk->next;
	else
		chunk->list->first = chunk->next;
	if (chunk->next)
		chunk_at(log, chunk->next)->previous = chunk->previous;
	else
		chunk->list->last = chunk->previous;
	chunk->list = NULL;
	chunk->kind = CHUNK_DOOMED;
	chunk->next = log->table->doomed;
	log->table->doomed = number;
}

void
cq_chunklog_release(CqChunkLog *log, CqChunkNumber number)
{
	Chunk *chunk = chunk_at(log, number);

	Assert(chunk->live > 0);
	chunk->live--;
	log->table->live -= entry_size(chunk);

	/* a bucket is known to its pane, and lives until it is written again */
	if (chunk->kind == CHUNK_BUCKET)
		return;
	if (chunk->live == 0)
		chunk_doom(log, number);
	else if (chunk->fill >= 0)
		chunk_classify(log, number);
}

void
cq_chunklog_obsolete(CqChunkLog *log, CqChunkNumber number)
{
	Chunk *chunk = chunk_at(log, number);

	log->table->live -= chunk->live * entry_size(chunk);
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
	return chunk_at(log, number)->next;
}

uint32
cq_chunklog_live(const CqChunkLog *log, CqChunkNumber number)
{
	return chunk_at(log, number)->live;
}

CqChunkList *
cq_chunklog_list(const CqChunkLog *log, CqChunkNumber number)
{
	return chunk_at(log, number)->list;
}
