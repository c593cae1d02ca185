/*
 * rowlist.c
 *	  Rows of a stage query set aside, to be given out later in the order of
 *	  their events.
 *
 * All rows are in memory: a batch has a bounded number of events, and a plan
 * that returns very many rows for each would not get far either way.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "utils/memutils.h"

#include "plan/rowlist.h"

typedef struct CqListedRow
{
	int ordinal;
	int seq; /* place among all rows, to keep the sort stable */
	MinimalTuple tuple;
} CqListedRow;

struct CqRowList
{
	MemoryContext context;
	TupleTableSlot *slot;
	int64 nrows;
	int64 allocated;
	int64 nevents;
	bool sorted;
	CqListedRow *rows;
};

static int row_compare(const void *a, const void *b);

CqRowList *
cq_row_list_create(TupleDesc desc)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pipeline stage rows", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CqRowList *list = palloc0(sizeof(CqRowList));

	list->context = context;
	list->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(desc), &TTSOpsMinimalTuple);
	list->sorted = true;
	list->allocated = 256;
	list->rows = palloc(sizeof(CqListedRow) * list->allocated);
	MemoryContextSwitchTo(old);
	return list;
}

void
cq_row_list_add(CqRowList *list, int ordinal, TupleTableSlot *row)
{
	MemoryContext old = MemoryContextSwitchTo(list->context);
	CqListedRow *entry;

	if (list->nrows >= PG_INT32_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("a batch of events gives more than %d rows", PG_INT32_MAX));
	if (list->nrows == list->allocated)
	{
		list->allocated *= 2;
		list->rows = repalloc_huge(list->rows, sizeof(CqListedRow) * list->allocated);
	}
	entry = &list->rows[list->nrows];
	entry->ordinal = ordinal;
	entry->seq = (int) list->nrows;
	entry->tuple = ExecCopySlotMinimalTuple(row);
	if (list->nrows > 0 && entry[-1].ordinal > ordinal)
		list->sorted = false;
	list->nrows++;
	MemoryContextSwitchTo(old);
}

void
cq_row_list_give(CqRowList *list, CqRowConsumer consume, void *arg)
{
	int64 i;

	if (!list->sorted)
		qsort(list->rows, list->nrows, sizeof(CqListedRow), row_compare);
	list->sorted = true;
	list->nevents = 0;
	for (i = 0; i < list->nrows; i++)
	{
		CqListedRow *entry = &list->rows[i];

		if (i == 0 || entry->ordinal != entry[-1].ordinal)
			list->nevents++;
		ExecStoreMinimalTuple(entry->tuple, list->slot, false);
		consume(arg, entry->ordinal, list->slot);
		ExecClearTuple(list->slot);
	}
}

int64
cq_row_list_count(const CqRowList *list)
{
	return list->nrows;
}

int64
cq_row_list_events(const CqRowList *list)
{
	return list->nevents;
}

void
cq_row_list_free(CqRowList *list)
{
	ExecDropSingleTupleTableSlot(list->slot);
	MemoryContextDelete(list->context);
}

static int
row_compare(const void *a, const void *b)
{
	const CqListedRow *left = a;
	const CqListedRow *right = b;

	if (left->ordinal != right->ordinal)
		return left->ordinal < right->ordinal ? -1 : 1;
	return left->seq < right->seq ? -1 : 1;
}
