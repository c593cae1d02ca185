/*
 * replacement.c
 *	  All rows of a window in a result table, replaced where they differ.
 *
 * The rows that are there are put into a hash table by what they look like, byte for
 * byte.  Each row that is to be there takes an equal one out, if there is one, and is
 * written if not.  What is left over is deleted.  So a row that stays the same is not
 * touched, and which of several equal ones stays does not matter.
 *
 * Memory: the rows that are there, until the end; bounded by what state may have.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "errors.h"
#include "settings.h"
#include "sink/replacement.h"

/* Rows between two looks at how much memory they take. */
#define ROWS_PER_CHECK 1000

/* A row that is there. */
typedef struct OldRow
{
	struct OldRow *next; /* with the same hash */
	ItemPointerData tid;
	MinimalTuple tuple;
} OldRow;

typedef struct OldRows
{
	uint32 hash;
	OldRow *first;
} OldRows;

struct CqReplacement
{
	MemoryContext context;
	CqOutput *output;
	TupleDesc desc;			  /* of the table ... */
	const AttrNumber *places; /* ... where in it the columns stand, from 0; NULL = in order */
	int natts;				  /* of them, the view's */
	int64 window;
	int64 *next_number;
	HTAB *old;			  /* NULL = there is none */
	TupleTableSlot *slot; /* an old row */
	Datum *values;		  /* a new one, with the hidden columns */
	bool *nulls;
};

static void old_rows_collect(CqReplacement *replacement);
static void old_row_add(CqReplacement *replacement, TupleTableSlot *slot);
static void check_memory(const CqReplacement *replacement);
static bool old_row_take(CqReplacement *replacement, const Datum *values, const bool *nulls);
static int place_of(const CqReplacement *replacement, int column);
static uint32 row_hash(const CqReplacement *replacement, const Datum *values, const bool *nulls,
					   bool is_stored);
static bool row_equals(CqReplacement *replacement, const OldRow *row, const Datum *values,
					   const bool *nulls);
static void old_rows_delete(CqReplacement *replacement);

CqReplacement *
cq_replacement_begin(CqOutput *output, int64 window, bool fresh, int64 *next_number)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pipeline rows of a window",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CqReplacement *replacement = palloc0(sizeof(CqReplacement));

	replacement->context = context;
	replacement->output = output;
	replacement->desc = RelationGetDescr(cq_output_relation(output));
	replacement->places = cq_output_places(output);
	replacement->natts = replacement->desc->natts - 2;
	replacement->window = window;
	replacement->next_number = next_number;
	replacement->values = palloc(sizeof(Datum) * replacement->desc->natts);
	replacement->nulls = palloc0(sizeof(bool) * replacement->desc->natts);
	if (!fresh)
		old_rows_collect(replacement);
	MemoryContextSwitchTo(old);
	return replacement;
}

/* By the primary key, whose first column is the window. */
static void
old_rows_collect(CqReplacement *replacement)
{
	Relation relation = cq_output_relation(replacement->output);
	Relation index = index_open(cq_compat_primary_key(relation), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	HASHCTL control = {.keysize = sizeof(uint32),
					   .entrysize = sizeof(OldRows),
					   .hcxt = replacement->context};
	IndexScanDesc scan;
	ScanKeyData key;
	int64 n = 0;

	replacement->old =
		hash_create("pipeline rows", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	replacement->slot = MakeSingleTupleTableSlot(replacement->desc, &TTSOpsMinimalTuple);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(replacement->window));
	scan = cq_compat_index_beginscan(relation, index, GetActiveSnapshot(), 1);
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		old_row_add(replacement, slot);
		if (++n % ROWS_PER_CHECK == 0)
			check_memory(replacement);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
}

static void
old_row_add(CqReplacement *replacement, TupleTableSlot *slot)
{
	OldRow *row = palloc(sizeof(OldRow));
	OldRows *rows;
	uint32 hash;
	bool found;

	slot_getallattrs(slot);
	hash = row_hash(replacement, slot->tts_values, slot->tts_isnull, true);
	row->tid = slot->tts_tid;
	row->tuple = ExecCopySlotMinimalTuple(slot);
	rows = hash_search(replacement->old, &hash, HASH_ENTER, &found);
	row->next = found ? rows->first : NULL;
	rows->first = row;
}

static void
check_memory(const CqReplacement *replacement)
{
	if (MemoryContextMemAllocated(replacement->context, true) / 1024 <= (Size) cq_state_memory_kb)
		return;
	ereport(ERROR,
			errcode(CQ_ERRCODE_STOP),
			errmsg("rows of a window that changes do not fit into memory"),
			errdetail("The rows that the query gives for a window are compared with those that "
					  "are there."),
			errhint("Increase \"pipeline.state_memory\", or let the query give fewer rows for a "
					"window, or make the windows shorter."));
}

void
cq_replacement_row(CqReplacement *replacement, Datum *values, bool *nulls)
{
	if (replacement->old && old_row_take(replacement, values, nulls))
		return;
	memcpy(replacement->values, values, sizeof(Datum) * replacement->natts);
	memcpy(replacement->nulls, nulls, sizeof(bool) * replacement->natts);
	replacement->values[replacement->natts] = Int64GetDatum(replacement->window);
	replacement->values[replacement->natts + 1] = Int64GetDatum((*replacement->next_number)++);
	cq_output_insert(replacement->output, replacement->values, replacement->nulls);
}

/* Take an old row that is equal out of those that will be deleted; false if there is none. */
static bool
old_row_take(CqReplacement *replacement, const Datum *values, const bool *nulls)
{
	uint32 hash = row_hash(replacement, values, nulls, false);
	OldRows *rows = hash_search(replacement->old, &hash, HASH_FIND, NULL);
	OldRow **link;

	for (link = rows ? &rows->first : NULL; link && *link; link = &(*link)->next)
		if (row_equals(replacement, *link, values, nulls))
		{
			*link = (*link)->next;
			return true;
		}
	return false;
}

static int
place_of(const CqReplacement *replacement, int column)
{
	return replacement->places ? replacement->places[column] : column;
}

/* is_stored: the values are in the order of the table. */
static uint32
row_hash(const CqReplacement *replacement, const Datum *values, const bool *nulls, bool is_stored)
{
	uint32 hash = 0;
	int i;

	for (i = 0; i < replacement->natts; i++)
	{
		int place = place_of(replacement, i);
		Form_pg_attribute att = TupleDescAttr(replacement->desc, place);
		int at = is_stored ? place : i;
		uint32 of_value = nulls[at] ? 0 : datum_image_hash(values[at], att->attbyval, att->attlen);

		hash = hash_combine(hash, of_value);
	}
	return hash;
}

static bool
row_equals(CqReplacement *replacement, const OldRow *row, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot = replacement->slot;
	bool equal = true;
	int i;

	ExecStoreMinimalTuple(row->tuple, slot, false);
	slot_getallattrs(slot);
	for (i = 0; i < replacement->natts && equal; i++)
	{
		int place = place_of(replacement, i);
		Form_pg_attribute att = TupleDescAttr(replacement->desc, place);

		equal = nulls[i] == slot->tts_isnull[place] &&
				(nulls[i] ||
				 datum_image_eq(values[i], slot->tts_values[place], att->attbyval, att->attlen));
	}
	ExecClearTuple(slot);
	return equal;
}

void
cq_replacement_end(CqReplacement *replacement)
{
	if (replacement->old)
	{
		old_rows_delete(replacement);
		ExecDropSingleTupleTableSlot(replacement->slot);
	}
	MemoryContextDelete(replacement->context);
}

/* Those that nothing was equal to. */
static void
old_rows_delete(CqReplacement *replacement)
{
	HASH_SEQ_STATUS sequence;
	OldRows *rows;
	OldRow *row;

	hash_seq_init(&sequence, replacement->old);
	while ((rows = hash_seq_search(&sequence)) != NULL)
		for (row = rows->first; row; row = row->next)
		{
			CHECK_FOR_INTERRUPTS();
			cq_output_delete_at(replacement->output, &row->tid);
		}
}
