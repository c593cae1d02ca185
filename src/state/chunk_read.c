/*
 * chunk_read.c
 *	  Reading chunks: all of a table, or one.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "errors.h"
#include "state/chunk.h"

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
static void check_header(CqChunkLog *log, const CqChunkHeader *header, int64 length);

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
	static const Oid types[CQ_CHUNK_COLUMNS] = {INT8OID, INT8OID, INT4OID, BYTEAOID};
	TupleDesc desc = RelationGetDescr(relation);
	int i;

	if (desc->natts != CQ_CHUNK_COLUMNS)
		elog(ERROR,
			 "chunk table \"%s\" has %d columns",
			 RelationGetRelationName(relation),
			 desc->natts);
	for (i = 0; i < CQ_CHUNK_COLUMNS; i++)
		if (TupleDescAttr(desc, i)->atttypid != types[i])
			elog(ERROR,
				 "column %d of chunk table \"%s\" has another type",
				 i + 1,
				 RelationGetRelationName(relation));
}

void
cq_chunk_panes_visit(Relation relation, void (*visit)(void *arg, int64 pane), void *arg)
{
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	TableScanDesc scan = table_beginscan(relation, GetActiveSnapshot(), 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(slot, CQ_CHUNK_PANE + 1);
		visit(arg, DatumGetInt64(slot->tts_values[CQ_CHUNK_PANE]));
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

uint64
cq_chunk_table_digest(Relation relation)
{
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	TableScanDesc scan;
	uint64 digest = 0;

	check_table(relation);
	scan = table_beginscan(relation, GetActiveSnapshot(), 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		digest +=
			cq_chunk_part_digest(DatumGetInt64(slot->tts_values[CQ_CHUNK_SEQ]),
								 DatumGetInt32(slot->tts_values[CQ_CHUNK_PART]),
								 toast_raw_datum_size(slot->tts_values[CQ_CHUNK_DATA]) - VARHDRSZ);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return digest;
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
		slot_getsomeattrs(slot, CQ_CHUNK_PART + 1);
		row->seq = DatumGetInt64(slot->tts_values[CQ_CHUNK_SEQ]);
		row->pane = DatumGetInt64(slot->tts_values[CQ_CHUNK_PANE]);
		row->part = DatumGetInt32(slot->tts_values[CQ_CHUNK_PART]);
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
	chunk->seq = DatumGetInt64(slot->tts_values[CQ_CHUNK_SEQ]);
	if (DatumGetInt32(slot->tts_values[CQ_CHUNK_PART]) != part)
		cq_reader_damaged();
	chunk->pane = DatumGetInt64(slot->tts_values[CQ_CHUNK_PANE]);
	data = (struct varlena *) DatumGetPointer(slot_getattr(slot, CQ_CHUNK_DATA + 1, &isnull));
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
	CqChunkHeader header;

	chunk->reader.at = log->reading.data;
	chunk->reader.end = log->reading.data + log->reading.len;
	memcpy(&header, cq_reader_take(&chunk->reader, sizeof(header)), sizeof(header));
	check_header(log, &header, log->reading.len);
	log->table->seed = header.seed;
	chunk->is_bucket = header.bits != CQ_NOT_A_BUCKET;
	chunk->bits = chunk->is_bucket ? (int) header.bits : 0;
	chunk->prefix = header.prefix;
	chunk->nentries = chunk->left = header.nentries;
	chunk->stored = log->reading.len + (int64) chunk->nparts * CQ_CHUNK_OVERHEAD;
	chunk->scribbled = NULL;
}

static void
check_header(CqChunkLog *log, const CqChunkHeader *header, int64 length)
{
	if (header->magic != CQ_CHUNK_MAGIC)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("operator state has an unknown format"),
				errdetail("It was written by another version of the extension, or on a machine "
						  "with another byte order."),
				errhint("Drop and create the continuous view to compute it anew."));
	if (header->pg_major < CQ_STATE_OLDEST_MAJOR || header->pg_major > CQ_STATE_NEWEST_MAJOR)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("operator state was written by PostgreSQL %u", header->pg_major),
				errdetail("This server is PostgreSQL %d.", CQ_PG_MAJOR),
				errhint("Compute the continuous view anew with pipeline.replay()."));
	if (header->identity != log->identity)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("operator state does not belong to this query"),
				errdetail("A type, aggregate or window of the query is not the one it was written "
						  "with."),
				errhint("Compute the continuous view anew with pipeline.replay()."));
	if (header->length != (uint64) length || (header->bits != CQ_NOT_A_BUCKET && header->bits > 32))
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

void
cq_chunklog_fetch(CqChunkLog *log, Relation relation, CqChunkNumber number, CqChunkData *data)
{
	CqChunk *chunk = cq_chunk_at(log, number);
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
	data->tids = cq_chunk_places(chunk);
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
