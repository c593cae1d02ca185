/*
 * generated.c
 *	  Columns computed from other columns of the same record.
 *
 * PostgreSQL leaves generated columns of a foreign table to its wrapper.  Their
 * expressions refer to ordinary columns only, so one pass over them is enough.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/tupdesc.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

#include "decode/format.h"

typedef struct GeneratedColumn
{
	int index; /* in values and nulls */
	const char *name;
	bool typbyval;
	int16 typlen;
	ExprState *state;
} GeneratedColumn;

struct CqGeneratedColumns
{
	int ncolumns;
	GeneratedColumn *columns;
	ExprContext *econtext;
	TupleTableSlot *slot; /* shows the record's values to the expressions */
};

static TupleDesc describe_stream(const CqStream *stream);

Bitmapset *
cq_generated_needs(const CqStream *stream, const Bitmapset *columns)
{
	Bitmapset *needed = bms_copy(columns);
	int i;

	for (i = 0; i < stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &stream->columns[i];
		Bitmapset *attributes = NULL;
		int member = -1;

		if (column->dropped || column->generation == NULL || !bms_is_member(i + 1, columns))
			continue;
		pull_varattnos(column->generation, 1, &attributes);
		while ((member = bms_next_member(attributes, member)) >= 0)
		{
			int attnum = member + FirstLowInvalidHeapAttributeNumber;

			if (attnum > 0)
				needed = bms_add_member(needed, attnum);
		}
	}
	return needed;
}

CqGeneratedColumns *
cq_generated_create(const CqStream *stream, const Bitmapset *columns)
{
	CqGeneratedColumns *generated = NULL;
	EState *estate = NULL;
	int i;

	for (i = 0; i < stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &stream->columns[i];
		GeneratedColumn *added;

		if (column->dropped || column->generation == NULL || !bms_is_member(i + 1, columns))
			continue;
		if (generated == NULL)
		{
			generated = palloc0(sizeof(CqGeneratedColumns));
			generated->columns = palloc(sizeof(GeneratedColumn) * stream->ncolumns);
			estate = CreateExecutorState();
			generated->econtext = GetPerTupleExprContext(estate);
			generated->slot = MakeSingleTupleTableSlot(describe_stream(stream), &TTSOpsVirtual);
			generated->slot->tts_tableOid = stream->relid;
			generated->econtext->ecxt_scantuple = generated->slot;
		}
		added = &generated->columns[generated->ncolumns++];
		added->index = i;
		added->name = column->name;
		get_typlenbyval(column->type, &added->typlen, &added->typbyval);
		added->state = ExecPrepareExpr((Expr *) column->generation, estate);
	}
	return generated;
}

void
cq_generated_compute(CqGeneratedColumns *generated, Datum *values, bool *nulls)
{
	TupleTableSlot *slot = generated->slot;
	int i;

	ExecClearTuple(slot);
	slot->tts_values = values;
	slot->tts_isnull = nulls;
	ExecStoreVirtualTuple(slot);
	for (i = 0; i < generated->ncolumns; i++)
	{
		const GeneratedColumn *column = &generated->columns[i];
		ErrorContextCallback context;
		bool isnull;
		Datum value;

		if (!nulls[column->index])
			continue;
		cq_column_context_push(&context, column->name);
		value = ExecEvalExprSwitchContext(column->state, generated->econtext, &isnull);
		cq_column_context_pop(&context);
		if (!isnull)
			values[column->index] = datumCopy(value, column->typbyval, column->typlen);
		nulls[column->index] = isnull;
	}
	ResetExprContext(generated->econtext);
}

/* Dropped columns get a type that exists; nothing refers to them. */
static TupleDesc
describe_stream(const CqStream *stream)
{
	TupleDesc tupdesc = CreateTemplateTupleDesc(stream->ncolumns);
	int i;

	for (i = 0; i < stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &stream->columns[i];

		TupleDescInitEntry(tupdesc,
						   (AttrNumber) (i + 1),
						   column->dropped ? "" : column->name,
						   column->dropped ? INT4OID : column->type,
						   column->dropped ? -1 : column->typmod,
						   0);
	}
	return tupdesc;
}
