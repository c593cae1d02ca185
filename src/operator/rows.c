/*
 * rows.c
 *	  ROWS: what a window's stage rows are, in order of arrival, until it closes.
 *
 * For queries that cannot be kept as groups with transition values: the close
 * query gets the rows themselves.  They are only ever added, so chunks are
 * only ever appended, and deleted with their pane.  Where a pane is a slice of
 * several windows they are given out for each, together with the window.
 *
 * When memory is short the saved rows of a pane, which come first, are simply
 * forgotten: when the window closes they are read from its chunks, in order,
 * up to the chunk that was the last one then.
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

typedef void (*RowCallback)(CqOperator *operator, CqPane * pane, const Datum *values,
							const bool *nulls, void *arg);

static void rows_create(CqOperator *operator, const CqPlan * plan);
static void rows_init_pane(CqOperator *operator, CqPane * pane);
static void rows_fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls);
static void rows_emit(CqOperator *operator, CqPane * pane, TimestampTz start, TimestampTz end,
					  Tuplestorestate *rows);
static TupleDesc stored_desc_build(TupleDesc closed, int nkeys);
static void emit_row(CqOperator *operator, CqPane * pane, const Datum *values, const bool *nulls,
					 void *rows);
static bool row_matters(CqOperator *operator, CqPane * pane, const Datum *values,
						const bool *nulls);
static void top_look_at(CqOperator *operator, CqPane * pane, const Datum *values, const bool *nulls,
						void *arg);
static void visit_disk(CqOperator *operator, CqPane * pane, RowCallback visit, void *arg);
static void rows_save(CqOperator *operator, CqPane * pane);
static void rows_load(CqOperator *operator, CqPane * pane, CqChunkData *chunk);
static void rows_take_part(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part);
static void take_row(CqOperator *other, CqPane *part, const Datum *values, const bool *nulls,
					 void *arg);
static void rows_evict(CqOperator *operator, CqPane * pane, CqEvict how);
static void rows_verify_begin(CqPane *pane);
static void rows_verify(CqOperator *operator, CqPane * pane, CqChunkData *chunk,
						CqVerification *check);
static void rows_verify_end(CqOperator *operator, CqPane * pane, CqVerification *check);
static CqStoredRow *row_store(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls);
static void row_put(CqOperator *operator, CqStoredRow * row);
static void row_free(CqPane *pane, CqStoredRow *row);

const CqShapeOps cq_shape_rows = {
	.newest_first = false,
	.create = rows_create,
	.init_pane = rows_init_pane,
	.fold = rows_fold,
	.emit = rows_emit,
	.save = rows_save,
	.rewrite = NULL,
	.load = rows_load,
	.take_part = rows_take_part,
	.evict = rows_evict,
	.verify_begin = rows_verify_begin,
	.verify = rows_verify,
	.verify_end = rows_verify_end,
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

/* Column 0 of a stage row is the ordinal, which means nothing later. */
static void
rows_fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls)
{
	TupleDesc desc = operator->stored_desc;
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
	(void) row_store(operator, pane, operator->values, operator->nulls);
	pane->ngroups++;
	operator->state->ngroups++;
	operator->state->touched_groups++;
	operator->state->changed = true;
}

/* May the close query's answer depend on this stage row? */
static bool
row_matters(CqOperator *operator, CqPane * pane, const Datum *values, const bool *nulls)
{
	CqStoredRow *row;

	if (pane->top_instance != operator->instance)
	{
		pane->top = cq_top_seen_create(operator->context);
		pane->top_instance = operator->instance;
		if (pane->on_disk)
			visit_disk(operator, pane, top_look_at, NULL);
		for (row = pane->first; row; row = row->next)
		{
			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(row_tuple(row), operator->slot, false);
			slot_getallattrs(operator->slot);
			top_look_at(operator,
						pane,
						operator->slot->tts_values,
						operator->slot->tts_isnull,
						NULL);
		}
		ExecClearTuple(operator->slot);
	}
	return cq_top_admits(operator->top, pane->top, values, nulls);
}

static void
top_look_at(CqOperator *operator, CqPane * pane, const Datum *values, const bool *nulls, void *arg)
{
	Size natts = operator->stored_desc->natts;

	memcpy(operator->top_values + 1, values, natts * sizeof(Datum));
	memcpy(operator->top_nulls + 1, nulls, natts * sizeof(bool));
	(void) cq_top_admits(operator->top, pane->top, operator->top_values, operator->top_nulls);
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
row_free(CqPane *pane, CqStoredRow *row)
{
	cq_arena_free(&pane->arena, row, MAXALIGN(sizeof(CqStoredRow)) + row_tuple(row)->t_len);
}

static void
rows_emit(CqOperator *operator, CqPane * pane, TimestampTz start, TimestampTz end,
		  Tuplestorestate *rows)
{
	TupleTableSlot *slot = operator->slot;
	CqStoredRow *row;

	cq_window_values(operator, operator->emitting, start, end);
	if (pane->on_disk)
		visit_disk(operator, pane, emit_row, rows);
	for (row = pane->first; row; row = row->next)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(row_tuple(row), slot, false);
		if (operator->nkeys == 0)
		{
			tuplestore_puttupleslot(rows, slot);
			continue;
		}
		slot_getallattrs(slot);
		emit_row(operator, pane, slot->tts_values, slot->tts_isnull, rows);
	}
	ExecClearTuple(slot);
	MemoryContextReset(operator->emitting);
}

/* A row behind the columns that say which window. */
static void
emit_row(CqOperator *operator, CqPane * pane, const Datum *values, const bool *nulls, void *rows)
{
	Size n = operator->stored_desc->natts;

	memcpy(&operator->values[operator->nkeys], values, n * sizeof(Datum));
	memcpy(&operator->nulls[operator->nkeys], nulls, n * sizeof(bool));
	tuplestore_putvalues((Tuplestorestate *) rows,
						 operator->closed_desc,
						 operator->values,
						 operator->nulls);
}

/* Call back with the pane's rows that are on disk only. */
static void
visit_disk(CqOperator *operator, CqPane * pane, RowCallback visit, void *arg)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pipeline rows", ALLOCSET_DEFAULT_SIZES);
	CqChunkNumber number = pane->chunks.first;
	CqChunkData chunk;
	CqReader entry;
	uint32 hash;
	Datum *values = palloc(operator->stored_desc->natts * sizeof(Datum));
	bool *nulls = palloc(operator->stored_desc->natts * sizeof(bool));

	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		CHECK_FOR_INTERRUPTS();
		cq_chunklog_fetch(operator->log, operator->relation, number, &chunk);
		while (cq_chunk_next(&chunk, &hash, &entry))
		{
			cq_codec_get_row(operator->codecs, operator->stored_desc->natts, &entry, values, nulls);
			visit(operator, pane, values, nulls, arg);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		if (number == pane->on_disk)
			break;
		number = cq_chunklog_next(operator->log, number);
	}
	MemoryContextDelete(context);
	pfree(values);
	pfree(nulls);
}

bool
cq_rows_have_come(const CqPane *pane)
{
	return (pane->saved ? pane->saved->next : pane->first) != NULL;
}

static void
rows_save(CqOperator *operator, CqPane * pane)
{
	CqStoredRow *row = pane->saved ? pane->saved->next : pane->first;

	for (; row; row = row->next)
	{
		MemoryContext old = MemoryContextSwitchTo(operator->scratch);

		CHECK_FOR_INTERRUPTS();
		row_put(operator, row);
		(void) cq_chunklog_append(operator->log,
								  &pane->chunks,
								  pane->start,
								  0,
								  operator->bytes.data,
								  operator->bytes.len);
		MemoryContextSwitchTo(old);
		MemoryContextReset(operator->scratch);
		pane->saved = row;
	}
	ExecClearTuple(operator->slot);
}

/* The entry of a row into operator->bytes. */
static void
row_put(CqOperator *operator, CqStoredRow * row)
{
	ExecStoreMinimalTuple(row_tuple(row), operator->slot, false);
	slot_getallattrs(operator->slot);
	resetStringInfo(&operator->bytes);
	cq_codec_put_row(operator->codecs,
					 operator->stored_desc->natts,
					 &operator->bytes,
					 operator->slot->tts_values,
					 operator->slot->tts_isnull);
}

static void
rows_load(CqOperator *operator, CqPane * pane, CqChunkData *chunk)
{
	CqChunkNumber number = cq_chunklog_register(operator->log, chunk, &pane->chunks);
	CqReader entry;
	uint32 hash;

	if (!cq_operator_has_room(operator))
		rows_evict(operator, pane, CQ_EVICT_ALL);
	if (!cq_operator_has_room(operator))
		pane->on_disk = number;
	while (pane->on_disk != number && cq_chunk_next(chunk, &hash, &entry))
	{
		MemoryContext old = MemoryContextSwitchTo(operator->scratch);

		cq_codec_get_row(operator->codecs,
						 operator->stored_desc->natts,
						 &entry,
						 operator->values,
						 operator->nulls);
		if (entry.at != entry.end)
			cq_reader_damaged();
		pane->saved = row_store(operator, pane, operator->values, operator->nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(operator->scratch);
	}
	pane->ngroups += chunk->nentries;
	operator->state->ngroups += chunk->nentries;
	/* chunks do not say what was shown of a window that is open */
	pane->behind = operator->shows_open && pane->end> operator->shown_to;
	cq_chunklog_registered(operator->log, number, chunk->nentries);
}

/* Whole panes at a time; there is no telling rows that are used from others. */
static void
rows_evict(CqOperator *operator, CqPane * pane, CqEvict how)
{
	CqStoredRow *row;

	if (pane->saved == NULL || (how == CQ_EVICT_COLD && pane == operator->current))
		return;
	while ((row = pane->first) != NULL)
	{
		bool last = row == pane->saved;

		pane->first = row->next;
		row_free(pane, row);
		if (last)
			break;
	}
	if (pane->first == NULL)
	{
		pane->last = NULL;
		cq_arena_release(&pane->arena);
	}
	pane->saved = NULL;
	pane->on_disk = pane->chunks.last;
	operator->state->evictions++;
}

void
cq_rows_undo(CqState *state, CqPane *pane)
{
	CqStoredRow *row = pane->saved ? pane->saved->next : pane->first;

	while (row)
	{
		CqStoredRow *next = row->next;

		row_free(pane, row);
		pane->ngroups--;
		state->ngroups--;
		row = next;
	}
	if (pane->saved)
		pane->saved->next = NULL;
	else
		pane->first = NULL;
	pane->last = pane->saved;
	pane->top_instance = 0; /* what it made of those rows goes with the operator */
}

/* Rows are compared in their order; those on disk only have nothing to be compared with. */
static void
rows_verify(CqOperator *operator, CqPane * pane, CqChunkData *chunk, CqVerification *check)
{
	CqReader entry;
	uint32 hash;

	check->ngroups += chunk->nentries;
	if (pane->on_disk && !pane->disk_passed)
	{
		pane->disk_passed = chunk->number == pane->on_disk;
		return;
	}
	while (cq_chunk_next(chunk, &hash, &entry))
	{
		CqStoredRow *row = pane->checked;

		if (row == NULL)
		{
			cq_verify_fail(check,
						   psprintf("chunk %u has a row that is not in memory", chunk->number));
			return;
		}
		row_put(operator, row);
		if (operator->bytes.len != entry.end - entry.at ||
			memcmp(operator->bytes.data, entry.at, operator->bytes.len) != 0)
		{
			cq_verify_fail(check, psprintf("chunk %u has another row than memory", chunk->number));
			return;
		}
		pane->checked = row->next;
	}
	ExecClearTuple(operator->slot);
}

static void
rows_verify_begin(CqPane *pane)
{
	pane->checked = pane->first;
	pane->disk_passed = false;
}

static void
rows_verify_end(CqOperator *operator, CqPane * pane, CqVerification *check)
{
	ExecClearTuple(operator->slot);
	if (pane->checked)
		cq_verify_fail(check, pstrdup("memory has a row that is in no chunk"));
}

/* Where rows of another part go. */
typedef struct Taking
{
	CqOperator *operator;
	CqPane *pane;
} Taking;

/* Rows that another part's make unneeded do no harm. */
static void
rows_take_part(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part)
{
	Taking taking = {.operator= operator, .pane = pane };
	CqStoredRow *row;

	if (part->on_disk)
		visit_disk(other, part, take_row, &taking);
	for (row = part->first; row; row = row->next)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(row_tuple(row), operator->slot, false);
		slot_getallattrs(operator->slot);
		take_row(other, part, operator->slot->tts_values, operator->slot->tts_isnull, &taking);
	}
	ExecClearTuple(operator->slot);
}

static void
take_row(CqOperator *other, CqPane *part, const Datum *values, const bool *nulls, void *arg)
{
	Taking *taking = arg;
	CqState *state = taking->operator->state;

	(void) row_store(taking->operator,
					 taking->pane,
					 unconstify(Datum *, values),
					 unconstify(bool *, nulls));
	taking->pane->ngroups++;
	state->ngroups++;
	state->touched_groups++;
	state->changed = true;
}
