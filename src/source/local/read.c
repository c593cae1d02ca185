/*
 * read.c
 *	  SELECT from a local stream: what its hidden tables still hold.
 *
 * Rows are read under the query's own snapshot, table after table, the oldest
 * first, each from its beginning: so they come in the order of their offsets, if
 * one transaction inserts at a time.  Rights were checked on the foreign table.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "optimizer/plancat.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "source/local/fdw.h"
#include "source/local/layout.h"

struct CqLocalRead
{
	MemoryContext context; /* the query's; a scan is called in that of a row */
	Snapshot snapshot;
	Relation tables[CQ_LOCAL_TABLES]; /* oldest first */
	CqLocalColumns *columns[CQ_LOCAL_TABLES];
	TupleTableSlot *row; /* of the table that is being read */
	TableScanDesc scan;	 /* NULL = none begun */
	int table;			 /* that is being read */
};

static void end_table(CqLocalRead *read);
static bool next_row(CqLocalRead *read);

CqLocalRead *
cq_local_read_begin(Relation stream, EState *estate)
{
	CqLocalRead *read = palloc0(sizeof(CqLocalRead));
	CqLocalLayout layout;
	int current;
	int i;

	cq_local_layout_load(RelationGetRelid(stream), &layout);
	current = cq_local_current_table(&layout);
	read->context = CurrentMemoryContext;
	read->snapshot = estate->es_snapshot;
	for (i = 0; i < CQ_LOCAL_TABLES; i++)
	{
		Oid relid = layout.tables[(current + 1 + i) % CQ_LOCAL_TABLES];

		read->tables[i] = table_open(relid, AccessShareLock);
		read->columns[i] = cq_local_columns_load(stream, read->tables[i]);
	}
	return read;
}

void
cq_local_read_next(CqLocalRead *read, TupleTableSlot *slot)
{
	CqLocalColumns *columns;
	TupleDesc desc = slot->tts_tupleDescriptor;
	int i;

	ExecClearTuple(slot);
	if (!next_row(read))
		return;
	columns = read->columns[read->table];
	slot_getallattrs(read->row);
	for (i = 0; i < columns->natts; i++)
	{
		AttrNumber hidden = columns->hidden[i];

		slot->tts_isnull[i] = true;
		if (hidden == InvalidAttrNumber)
			continue;
		if (columns->metadata[i] == CQ_METADATA_NONE)
		{
			slot->tts_values[i] = read->row->tts_values[hidden - 1];
			slot->tts_isnull[i] = read->row->tts_isnull[hidden - 1];
			continue;
		}
		slot->tts_values[i] =
			cq_local_metadata_value(columns->metadata[i],
									TupleDescAttr(desc, i)->atttypid,
									DatumGetInt64(read->row->tts_values[CQ_LOCAL_SEQ - 1]),
									DatumGetTimestampTz(
										read->row->tts_values[CQ_LOCAL_INSERTED_AT - 1]));
		slot->tts_isnull[i] = false;
	}
	ExecStoreVirtualTuple(slot);
}

static bool
next_row(CqLocalRead *read)
{
	for (; read->table < CQ_LOCAL_TABLES; read->table++)
	{
		Relation table = read->tables[read->table];

		if (read->scan == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(read->context);

			read->row = table_slot_create(table, NULL);
			read->scan = table_beginscan_strat(table, read->snapshot, 0, NULL, true, false);
			MemoryContextSwitchTo(old);
		}
		if (table_scan_getnextslot(read->scan, ForwardScanDirection, read->row))
			return true;
		end_table(read);
	}
	return false;
}

static void
end_table(CqLocalRead *read)
{
	if (read->scan == NULL)
		return;
	table_endscan(read->scan);
	ExecDropSingleTupleTableSlot(read->row);
	read->scan = NULL;
}

void
cq_local_read_restart(CqLocalRead *read)
{
	end_table(read);
	read->table = 0;
}

void
cq_local_read_end(CqLocalRead *read)
{
	int i;

	end_table(read);
	for (i = 0; i < CQ_LOCAL_TABLES; i++)
		table_close(read->tables[i], NoLock);
}

bool
cq_local_read_estimate(Oid relid, double *rows, double *pages)
{
	CqLocalLayout layout;
	int i;

	*rows = 0;
	*pages = 0;
	if (!cq_local_layout_find(relid, &layout))
		return false;
	for (i = 0; i < CQ_LOCAL_TABLES; i++)
	{
		Relation table = table_open(layout.tables[i], AccessShareLock);
		BlockNumber table_pages;
		double table_rows;
		double all_visible;

		estimate_rel_size(table, NULL, &table_pages, &table_rows, &all_visible);
		*rows += table_rows;
		*pages += table_pages;
		table_close(table, NoLock);
	}
	return true;
}
