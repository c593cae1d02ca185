/*
 * rows.c
 *	  ROWS: what a window's stage rows are, in order of arrival, until it closes.
 *
 * For queries that cannot be kept as groups with transition values: the close
 * query gets the rows themselves.  They are only ever added, so chunks are
 * only ever appended, and deleted with their pane.  Where a pane is a slice of
 * several windows they are given out for each, together with the window.
 */
#include "postgres.h"

#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "compat.h"
#include "operator/shape.h"

typedef struct CqStoredRow
{
	struct CqStoredRow *next;
} CqStoredRow;

static void rows_create(CqOperator *operator, const CqPlan * plan);
static void rows_init_pane(CqOperator *operator, CqPane * pane);
static void rows_free_pane(CqPane *pane);
static void rows_fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls);
static void rows_emit(CqOperator *operator, CqPane * pane, TimestampTz start, TimestampTz end,
					  Tuplestorestate *rows);
static void rows_save(CqOperator *operator, CqPane * pane);
static CqLoaded rows_load(CqOperator *operator, CqPane * pane, CqReader *reader);
static TupleDesc stored_desc_build(TupleDesc closed, int nkeys);
static void rows_take_part(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part);
static CqStoredRow *row_store(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls);
static bool row_matters(CqOperator *operator, CqPane * pane, const Datum *values,
						const bool *nulls);

const CqShapeOps cq_shape_rows = {
	.newest_first = false,
	.create = rows_create,
	.init_pane = rows_init_pane,
	.free_pane = rows_free_pane,
	.fold = rows_fold,
	.emit = rows_emit,
	.save = rows_save,
	.rewrite = NULL,
	.load = rows_load,
	.take_part = rows_take_part,
};

static inline MinimalTuple
row_tuple(CqStoredRow *row)
{
	return (MinimalTuple) ((char *) row + MAXALIGN(sizeof(CqStoredRow)));
}

static void
rows_create(CqOperator *operator, const CqPlan * plan)
{
	TupleDesc desc;
	int i;

	if (plan->window.kind == CQ_WINDOW_NONE)
		elog(ERROR, "a query without windows cannot keep its rows");
	operator->nkeys = plan->nkeys;
	operator->keys = palloc(Max(plan->nkeys, 1) * sizeof(CqKey));
	for (i = 0; i < plan->nkeys; i++)
		operator->keys[i] = plan->keys[i];
	desc = operator->stored_desc = stored_desc_build(operator->closed_desc, plan->nkeys);
	operator->codecs = palloc0(Max(desc->natts, 1) * sizeof(CqCodec));
	for (i = 0; i < desc->natts; i++)
		cq_codec_init(&operator->codecs[i], TupleDescAttr(desc, i)->atttypid, operator->context);
	operator->values = palloc0((plan->nkeys + desc->natts + 1) * sizeof(Datum));
	operator->nulls = palloc0((plan->nkeys + desc->natts + 1) * sizeof(bool));
	operator->slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	if (plan->top)
	{
		operator->top = cq_top_create(plan->top, operator->context);
		operator->top_values = palloc0((desc->natts + 1) * sizeof(Datum));
		operator->top_nulls = palloc0((desc->natts + 1) * sizeof(bool));
	}
}

/* The columns that are kept: those behind the ones that say which window. */
static TupleDesc
stored_desc_build(TupleDesc closed, int nkeys)
{
	TupleDesc desc = CreateTemplateTupleDesc(closed->natts - nkeys);
	int i;

	for (i = 1; i <= desc->natts; i++)
		TupleDescCopyEntry(desc, i, closed, nkeys + i);
	return desc;
}

static void
rows_init_pane(CqOperator *operator, CqPane * pane)
{
}

static void
rows_free_pane(CqPane *pane)
{
	if (pane->top)
		cq_top_seen_free(pane->top);
}

/* Column 0 of a stage row is the ordinal, which means nothing later. */
static void
rows_fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls)
{
	TupleDesc desc = operator->stored_desc;
	CqStoredRow *row;
	int i;

	if (operator->top && !row_matters(operator, pane, values, nulls))
		return;
	for (i = 0; i < desc->natts; i++)
	{
		Datum value = values[i + 1];

		/* rows outlive what they point to: TOAST tables, expanded objects */
		if (!nulls[i + 1] && TupleDescAttr(desc, i)->attlen == -1 &&
			VARATT_IS_EXTERNAL(DatumGetPointer(value)))
			value = PointerGetDatum(PG_DETOAST_DATUM(value));
		operator->values[i] = value;
		operator->nulls[i] = nulls[i + 1];
	}
	row = row_store(operator, pane, operator->values, operator->nulls);
	if (pane->unsaved == NULL)
		pane->unsaved = row;
}

/* May the close query's answer depend on this stage row? */
static bool
row_matters(CqOperator *operator, CqPane * pane, const Datum *values, const bool *nulls)
{
	CqStoredRow *row;

	if (pane->top == NULL)
	{
		pane->top = cq_top_seen_create(operator->context);
		for (row = pane->first; row; row = row->next)
		{
			Size natts = operator->stored_desc->natts;

			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(row_tuple(row), operator->slot, false);
			slot_getallattrs(operator->slot);
			memcpy(operator->top_values + 1, operator->slot->tts_values, natts * sizeof(Datum));
			memcpy(operator->top_nulls + 1, operator->slot->tts_isnull, natts * sizeof(bool));
			(void)
				cq_top_admits(operator->top, pane->top, operator->top_values, operator->top_nulls);
		}
		ExecClearTuple(operator->slot);
	}
	return cq_top_admits(operator->top, pane->top, values, nulls);
}

static CqStoredRow *
row_store(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls)
{
	MinimalTuple tuple = cq_compat_form_minimal_tuple(operator->stored_desc, values, nulls);
	Size head = MAXALIGN(sizeof(CqStoredRow));
	CqStoredRow *row = cq_pane_alloc(operator, pane, head + tuple->t_len);

	row->next = NULL;
	memcpy(row_tuple(row), tuple, tuple->t_len);
	pfree(tuple);
	if (pane->last)
		pane->last->next = row;
	else
		pane->first = row;
	pane->last = row;
	return row;
}

static void
rows_emit(CqOperator *operator, CqPane * pane, TimestampTz start, TimestampTz end,
		  Tuplestorestate *rows)
{
	TupleTableSlot *slot = operator->slot;
	int nkeys = operator->nkeys;
	Size n = operator->stored_desc->natts;
	CqStoredRow *row;

	cq_window_values(operator, operator->scratch, start, end);
	for (row = pane->first; row; row = row->next)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(row_tuple(row), slot, false);
		if (nkeys == 0)
		{
			tuplestore_puttupleslot(rows, slot);
			continue;
		}
		slot_getallattrs(slot);
		memcpy(&operator->values[nkeys], slot->tts_values, n * sizeof(Datum));
		memcpy(&operator->nulls[nkeys], slot->tts_isnull, n * sizeof(bool));
		tuplestore_putvalues(rows, operator->closed_desc, operator->values, operator->nulls);
	}
	ExecClearTuple(slot);
	MemoryContextReset(operator->scratch);
}

static void
rows_save(CqOperator *operator, CqPane * pane)
{
	StringInfoData bytes;
	CqStoredRow *row;

	if (pane->unsaved == NULL)
		return;
	initStringInfo(&bytes);
	for (row = pane->unsaved; row; row = row->next)
	{
		MemoryContext old = MemoryContextSwitchTo(operator->scratch);

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(row_tuple(row), operator->slot, false);
		slot_getallattrs(operator->slot);
		resetStringInfo(&bytes);
		cq_codec_put_row(operator->codecs,
						 operator->stored_desc->natts,
						 &bytes,
						 operator->slot->tts_values,
						 operator->slot->tts_isnull);
		MemoryContextSwitchTo(old);
		cq_chunklog_append(operator->log, &pane->chunks, pane->start, NULL, bytes.data, bytes.len);
		MemoryContextReset(operator->scratch);
	}
	ExecClearTuple(operator->slot);
	pane->unsaved = NULL;
	pfree(bytes.data);
}

static CqLoaded
rows_load(CqOperator *operator, CqPane * pane, CqReader *reader)
{
	CqLoaded loaded = {.live = true};

	cq_codec_get_row(operator->codecs,
					 operator->stored_desc->natts,
					 reader,
					 operator->values,
					 operator->nulls);
	row_store(operator, pane, operator->values, operator->nulls);
	return loaded;
}

/* Rows that another part's make unneeded do no harm. */
static void
rows_take_part(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part)
{
	CqStoredRow *row;

	for (row = part->first; row; row = row->next)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(row_tuple(row), operator->slot, false);
		slot_getallattrs(operator->slot);
		row_store(operator, pane, operator->slot->tts_values, operator->slot->tts_isnull);
	}
	ExecClearTuple(operator->slot);
}
