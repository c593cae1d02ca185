/*
 * aggregate.c
 *	  Running aggregates outside of an executor node.
 *
 * An aggregate's functions ask, through fmgr's context pointer, about the node
 * they run in: which memory outlives the call, what the Aggref looks like.  So
 * they get an AggState, filled in as far as those questions go and never
 * executed.  (A WindowAggState would be simpler but answers less.)
 *
 * A transition value is kept by the rules of nodeAgg.c: by-reference ones are
 * copied into the memory of the group's pane and the previous one is freed,
 * unless the function returned what it was given, or an expanded object that
 * already lives there.
 *
 * To disk go the bytes of fast states; transition values of ordinary types
 * through their codec; internal ones through the aggregate's serialisation
 * function.  Reading an internal one back is what a parallel plan's leader
 * does with a worker's: deserialise it into scratch memory, then combine it
 * into an empty state, which copies it.
 *
 * Combining two states goes by nodeAgg.c's rules for such a leader, too.  It
 * hands combine functions an internal state that was made for the purpose and
 * that they may spoil, so here they get a copy.
 *
 * Where rows are taken back an aggregate runs as over a moving frame, by the rules of
 * nodeWindowAgg.c: a transition function, its inverse, and a count of the rows that
 * are in the transition value, since of none it must be what it was at first.  But
 * where that node would begin anew with the rows of the frame, as an inverse could
 * not do it, there are no rows here, and the view stops.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "executor/executor.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/memutils.h"
#include "utils/regproc.h"

#include "errors.h"
#include "operator/aggregate.h"

/* What is said of a state that is not fast before it is saved. */
#define STATE_IS_NULL  1
#define STATE_IS_UNSET 2

/* State of an aggregate that is not fast. */
typedef AggStatePerGroupData SlowState;

/* The same where rows are taken back. */
typedef struct RetractableState
{
	SlowState slow;
	int64 n; /* rows in the transition value */
} RetractableState;

static void advance_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *state,
						   const Datum *values, const bool *nulls, ExprContext *memory);
static void init_slowly(CqRunningAggregate *running, SlowState *state, ExprContext *memory);
static void change_numeric(CqAggregates *all, CqRunningAggregate *running, SlowState *state,
						   const Datum *values, const bool *nulls, bool takes_back,
						   ExprContext *memory);
static void retract_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *state,
						   const Datum *values, const bool *nulls, ExprContext *memory);
static void note_taken(const CqAggregates *all, SlowState *state);
static void refuse_null(const CqRunningAggregate *running);
static void free_value(CqRunningAggregate *running, SlowState *state);
static void combine_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *into,
						   ExprContext *memory, SlowState *from, ExprContext *from_memory);
static Datum keep_transition(CqRunningAggregate *running, SlowState *state, Datum value,
							 bool isnull, ExprContext *memory);
static Datum copy_value(AggStatePerTrans trans, Datum value, ExprContext *memory);
static Datum finish_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *state,
						   ExprContext *memory, bool keep, bool *isnull);
static bytea *serialise(CqAggregates *all, CqRunningAggregate *running, SlowState *state,
						ExprContext *memory);
static Datum deserialise(CqAggregates *all, CqRunningAggregate *running, bytea *bytes,
						 ExprContext *memory, bool *isnull);
static void put_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *state,
					   ExprContext *memory, StringInfo out);
static void get_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *state,
					   ExprContext *memory, CqReader *reader);

ExprContext *
cq_aggregates_memory(CqAggregates *aggregates)
{
	return aggregates->all_fast ? NULL : CreateStandaloneExprContext();
}

void
cq_aggregates_free_memory(ExprContext *memory)
{
	if (memory)
		FreeExprContext(memory, true);
}

void
cq_aggregates_init(CqAggregates *all, char *states, ExprContext *memory)
{
	int i;

	if (all->all_fast)
		return;
	for (i = 0; i < all->n; i++)
	{
		CqRunningAggregate *running = &all->aggregates[i];

		if (running->kind == CQ_FAST_NONE)
			init_slowly(running, (SlowState *) (states + running->offset), memory);
	}
}

static void
init_slowly(CqRunningAggregate *running, SlowState *state, ExprContext *memory)
{
	AggStatePerTrans trans = running->trans;
	MemoryContext old = MemoryContextSwitchTo(memory->ecxt_per_tuple_memory);

	state->transValue =
		trans->initValueIsNull
			? (Datum) 0
			: datumCopy(trans->initValue, trans->transtypeByVal, trans->transtypeLen);
	MemoryContextSwitchTo(old);
	state->transValueIsNull = trans->initValueIsNull;
	state->noTransValue = trans->initValueIsNull;
}

void
cq_aggregates_advance(CqAggregates *all, char *states, const Datum *values, const bool *nulls,
					  ExprContext *memory)
{
	CqRunningAggregate *running = all->aggregates;
	CqRunningAggregate *end = running + all->n;

	for (; running < end; running++)
	{
		int column = running->filter_column;

		if (running->set >= 0 || (column >= 0 && (nulls[column] || !DatumGetBool(values[column]))))
			continue;
		if (running->kind == CQ_FAST_COUNT_ROWS)
			++*(int64 *) (states + running->offset);
		else if (running->kind != CQ_FAST_NONE)
		{
			column = running->arg_columns[0];
			if (!nulls[column])
				cq_fast_advance(running->kind,
								running->width,
								states + running->offset,
								values[column]);
		}
		else
			advance_slowly(all,
						   running,
						   (SlowState *) (states + running->offset),
						   values,
						   nulls,
						   memory);
	}
}

uint64
cq_aggregates_set_mask(const CqAggregates *all, int set, const Datum *values, const bool *nulls)
{
	uint64 mask = 0;
	int i;

	for (i = 0; i < all->n; i++)
	{
		const CqRunningAggregate *running = &all->aggregates[i];
		int column = running->filter_column;

		if (running->set != set || nulls[running->arg_columns[0]])
			continue;
		if (column < 0 || (!nulls[column] && DatumGetBool(values[column])))
			mask |= running->set_bit;
	}
	return mask;
}

void
cq_aggregates_advance_set(CqAggregates *all, int set, uint64 mask, char *states,
						  const Datum *values)
{
	int i;

	for (i = 0; i < all->n; i++)
	{
		CqRunningAggregate *running = &all->aggregates[i];

		if (running->set == set && (mask & running->set_bit) != 0)
			cq_fast_advance(running->kind,
							running->width,
							states + running->offset,
							values[running->arg_columns[0]]);
	}
}

static void
advance_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *state,
			   const Datum *values, const bool *nulls, ExprContext *memory)
{
	AggStatePerTrans trans = running->trans;
	FunctionCallInfo call = trans->transfn_fcinfo;
	MemoryContext old;
	Datum result;
	int i;

	if (running->numeric != CQ_NUMERIC_NONE)
	{
		change_numeric(all, running, state, values, nulls, false, memory);
		return;
	}
	for (i = 0; i < running->nargs; i++)
	{
		call->args[i + 1].value = values[running->arg_columns[i]];
		call->args[i + 1].isnull = nulls[running->arg_columns[i]];
		if (call->args[i + 1].isnull && trans->transfn.fn_strict)
			return;
	}
	note_taken(all, state);
	if (trans->transfn.fn_strict)
	{
		if (state->noTransValue)
		{
			/* the first input becomes the first transition value */
			state->transValue = copy_value(trans, call->args[1].value, memory);
			state->transValueIsNull = false;
			state->noTransValue = false;
			return;
		}
		if (state->transValueIsNull)
			return;
	}

	all->node->curaggcontext = memory;
	all->node->curpertrans = trans;
	old = MemoryContextSwitchTo(all->scratch);
	call->args[0].value = state->transValue;
	call->args[0].isnull = state->transValueIsNull;
	call->isnull = false;
	result = FunctionCallInvoke(call);
	all->node->curpertrans = NULL;
	if (all->retracts && call->isnull)
		refuse_null(running);
	if (!trans->transtypeByVal && DatumGetPointer(result) != DatumGetPointer(state->transValue))
		result = keep_transition(running, state, result, call->isnull, memory);
	state->transValue = result;
	state->transValueIsNull = call->isnull;
	MemoryContextSwitchTo(old);
}

static void
note_taken(const CqAggregates *all, SlowState *state)
{
	if (all->retracts)
		((RetractableState *) state)->n++;
}

static void
refuse_null(const CqRunningAggregate *running)
{
	ereport(ERROR,
			errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			errmsg("transition function of aggregate %s over rows that change returned NULL",
				   format_procedure(running->agg->aggref->aggfnoid)));
}

static void
change_numeric(CqAggregates *all, CqRunningAggregate *running, SlowState *state,
			   const Datum *values, const bool *nulls, bool takes_back, ExprContext *memory)
{
	int column = running->arg_columns[0];
	bool isnull = state->transValueIsNull;
	MemoryContext old;
	Datum value;

	if (nulls[column])
		return;
	old = MemoryContextSwitchTo(all->scratch);
	value = cq_numeric_change(state->transValue, &isnull, values[column], takes_back);
	state->transValue = keep_transition(running, state, value, isnull, memory);
	state->transValueIsNull = isnull;
	MemoryContextSwitchTo(old);
}

/* ------------------------------------------------------------------------
 * Rows taken back
 * ------------------------------------------------------------------------
 */

void
cq_aggregates_retract(CqAggregates *all, char *states, const Datum *values, const bool *nulls,
					  ExprContext *memory)
{
	int i;

	Assert(all->retracts);
	for (i = 0; i < all->n; i++)
	{
		CqRunningAggregate *running = &all->aggregates[i];
		char *state = states + running->offset;
		int column = running->filter_column;

		if (column >= 0 && (nulls[column] || !DatumGetBool(values[column])))
			continue;
		if (running->kind == CQ_FAST_COUNT_ROWS)
			--*(int64 *) state;
		else if (running->kind != CQ_FAST_NONE)
		{
			column = running->arg_columns[0];
			if (!nulls[column])
				cq_fast_retract(running->kind, running->width, state, values[column]);
		}
		else if (running->numeric != CQ_NUMERIC_NONE)
			change_numeric(all, running, (SlowState *) state, values, nulls, true, memory);
		else
			retract_slowly(all, running, (SlowState *) state, values, nulls, memory);
	}
}

/*
 * With the last row its transition value goes, too.  Internal ones cannot be freed;
 * what their inverse leaves of no rows is as good as new.
 */
static void
retract_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *state,
			   const Datum *values, const bool *nulls, ExprContext *memory)
{
	int64 *n = &((RetractableState *) state)->n;
	AggStatePerTrans trans = running->trans;
	FunctionCallInfo call = running->inverse_call;
	MemoryContext old;
	Datum result;
	int i;

	for (i = 0; i < running->nargs; i++)
	{
		call->args[i + 1].value = values[running->arg_columns[i]];
		call->args[i + 1].isnull = nulls[running->arg_columns[i]];
		if (call->args[i + 1].isnull && trans->transfn.fn_strict)
			return;
	}
	if (*n <= 0 || state->transValueIsNull)
		elog(ERROR, "there is nothing that could be taken back from an aggregate");
	if (--*n == 0 && !running->internal)
	{
		free_value(running, state);
		init_slowly(running, state, memory);
		return;
	}

	all->node->curaggcontext = memory;
	all->node->curpertrans = trans;
	old = MemoryContextSwitchTo(all->scratch);
	call->args[0].value = state->transValue;
	call->args[0].isnull = false;
	call->isnull = false;
	result = FunctionCallInvoke(call);
	all->node->curpertrans = NULL;
	if (call->isnull)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("a value of aggregate %s could not be taken back",
					   format_procedure(running->agg->aggref->aggfnoid)),
				errdetail("Its inverse transition function returned NULL."),
				errhint("Drop the view, and use another aggregate."));
	if (!trans->transtypeByVal && DatumGetPointer(result) != DatumGetPointer(state->transValue))
		result = keep_transition(running, state, result, false, memory);
	state->transValue = result;
	MemoryContextSwitchTo(old);
}

void
cq_aggregates_combine(CqAggregates *all, char *states, ExprContext *memory, char *others,
					  ExprContext *others_memory)
{
	CqRunningAggregate *running = all->aggregates;
	CqRunningAggregate *end = running + all->n;

	for (; running < end; running++)
	{
		char *into = states + running->offset;
		char *from = others + running->offset;

		/* one with DISTINCT takes the members of its set */
		if (running->set >= 0)
			continue;
		if (running->kind == CQ_FAST_COUNT_ROWS || running->kind == CQ_FAST_COUNT)
			*(int64 *) into += *(int64 *) from;
		else if (running->kind != CQ_FAST_NONE)
			cq_fast_combine(running->kind, into, from);
		else
			combine_slowly(all,
						   running,
						   (SlowState *) into,
						   memory,
						   (SlowState *) from,
						   others_memory);
	}
}

void
cq_aggregates_take_back(CqAggregates *all, char *states, const char *others)
{
	int i;

	for (i = 0; i < all->n; i++)
		cq_fast_take_back(all->aggregates[i].kind,
						  states + all->aggregates[i].offset,
						  others + all->aggregates[i].offset);
}

static void
combine_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *into, ExprContext *memory,
			   SlowState *from, ExprContext *from_memory)
{
	AggStatePerTrans trans = running->trans;
	FunctionCallInfo call = running->combine_call;
	Datum value = from->transValue;
	bool isnull = from->transValueIsNull;
	MemoryContext old;
	Datum result;

	if (running->combine.fn_strict)
	{
		if (isnull)
			return;
		if (into->noTransValue)
		{
			into->transValue = copy_value(trans, value, memory);
			into->transValueIsNull = false;
			into->noTransValue = false;
			return;
		}
		if (into->transValueIsNull)
			return;
	}

	old = MemoryContextSwitchTo(all->scratch);
	if (running->internal && !isnull)
		value =
			deserialise(all, running, serialise(all, running, from, from_memory), memory, &isnull);
	else
		value = MakeExpandedObjectReadOnly(value, isnull, trans->transtypeLen);
	all->node->curaggcontext = memory;
	all->node->curpertrans = trans;
	call->args[0].value = into->transValue;
	call->args[0].isnull = into->transValueIsNull;
	call->args[1].value = value;
	call->args[1].isnull = isnull;
	call->isnull = false;
	result = FunctionCallInvoke(call);
	all->node->curpertrans = NULL;
	if (!trans->transtypeByVal && DatumGetPointer(result) != DatumGetPointer(into->transValue))
		result = keep_transition(running, into, result, call->isnull, memory);
	into->transValue = result;
	/* of two states that are NULL functions make a null pointer that they do not call NULL */
	into->transValueIsNull = call->isnull || (running->internal && DatumGetPointer(result) == NULL);
	/* a strict transition function would take its next argument for the first one */
	into->noTransValue = into->noTransValue && from->noTransValue;
	MemoryContextSwitchTo(old);
}

/* A new by-reference transition value: into the pane's memory, and free the old one. */
static Datum
keep_transition(CqRunningAggregate *running, SlowState *state, Datum value, bool isnull,
				ExprContext *memory)
{
	AggStatePerTrans trans = running->trans;

	if (isnull)
		value = (Datum) 0; /* so that pointers can be compared without looking at the flags */
	else if (!DatumIsReadWriteExpandedObject(value, false, trans->transtypeLen) ||
			 MemoryContextGetParent(DatumGetEOHP(value)->eoh_context) !=
				 memory->ecxt_per_tuple_memory)
		value = copy_value(trans, value, memory);
	free_value(running, state);
	return value;
}

static void
free_value(CqRunningAggregate *running, SlowState *state)
{
	AggStatePerTrans trans = running->trans;

	if (trans->transtypeByVal || state->transValueIsNull)
		return;
	if (DatumIsReadWriteExpandedObject(state->transValue, false, trans->transtypeLen))
		DeleteExpandedObject(state->transValue);
	else
		pfree(DatumGetPointer(state->transValue));
}

/*
 * Copy a transition value into a pane's memory.  The state outlives the rows
 * of joined tables, so a value may not stay in such a table's TOAST table.
 */
static Datum
copy_value(AggStatePerTrans trans, Datum value, ExprContext *memory)
{
	MemoryContext old = MemoryContextSwitchTo(memory->ecxt_per_tuple_memory);

	if (trans->transtypeLen == -1 && VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value)))
		value = PointerGetDatum(detoast_external_attr((struct varlena *) DatumGetPointer(value)));
	else
		value = datumCopy(value, trans->transtypeByVal, trans->transtypeLen);
	MemoryContextSwitchTo(old);
	return value;
}

void
cq_aggregates_finish(CqAggregates *all, char *states, ExprContext *memory, bool keep, Datum *values,
					 bool *nulls)
{
	MemoryContext old = MemoryContextSwitchTo(all->scratch);
	int i;

	for (i = 0; i < all->n; i++)
	{
		CqRunningAggregate *running = &all->aggregates[i];
		char *state = states + running->offset;

		if (running->kind != CQ_FAST_NONE)
			values[i] = cq_fast_finish(running->kind, running->width, state, &nulls[i]);
		else
			values[i] = finish_slowly(all, running, (SlowState *) state, memory, keep, &nulls[i]);
	}
	MemoryContextSwitchTo(old);
}

static Datum
finish_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *state, ExprContext *memory,
			  bool keep, bool *isnull)
{
	FunctionCallInfo call = running->final_call;
	SlowState copy;
	Datum result;
	int i;

	if (running->numeric != CQ_NUMERIC_NONE)
	{
		*isnull = state->transValueIsNull;
		return cq_numeric_finish(running->numeric, state->transValue, isnull);
	}
	if (call == NULL)
	{
		*isnull = state->transValueIsNull;
		return *isnull ? (Datum) 0
					   : MakeExpandedObjectReadOnly(state->transValue,
													false,
													running->trans->transtypeLen);
	}
	if (keep && running->final_overwrites)
	{
		CqReader reader;

		resetStringInfo(&all->copy);
		put_slowly(all, running, state, memory, &all->copy);
		reader.at = all->copy.data;
		reader.end = all->copy.data + all->copy.len;
		get_slowly(all, running, &copy, all->node->tmpcontext, &reader);
		state = &copy;
		memory = all->node->tmpcontext;
	}

	call->args[0].value = MakeExpandedObjectReadOnly(state->transValue,
													 state->transValueIsNull,
													 running->trans->transtypeLen);
	call->args[0].isnull = state->transValueIsNull;
	for (i = 1; i < running->agg->numFinalArgs; i++)
	{
		call->args[i].value = (Datum) 0;
		call->args[i].isnull = true;
	}
	*isnull = true;
	if (running->agg->finalfn.fn_strict &&
		(state->transValueIsNull || running->agg->numFinalArgs > 1))
		return (Datum) 0;

	all->node->curaggcontext = memory;
	all->node->curperagg = running->agg;
	call->isnull = false;
	result = FunctionCallInvoke(call);
	all->node->curperagg = NULL;
	*isnull = call->isnull;
	return result;
}

/* ------------------------------------------------------------------------
 * To disk and back
 * ------------------------------------------------------------------------
 */

void
cq_aggregates_put(CqAggregates *all, char *states, ExprContext *memory, StringInfo out)
{
	MemoryContext old = MemoryContextSwitchTo(all->scratch);
	int i;

	for (i = 0; i < all->n; i++)
	{
		CqRunningAggregate *running = &all->aggregates[i];
		char *state = states + running->offset;

		if (running->kind != CQ_FAST_NONE)
			appendBinaryStringInfo(out, state, running->size);
		else
			put_slowly(all, running, (SlowState *) state, memory, out);
		if (all->retracts && running->kind == CQ_FAST_NONE)
			appendBinaryStringInfo(out, (char *) &((RetractableState *) state)->n, sizeof(int64));
	}
	MemoryContextSwitchTo(old);
}

void
cq_aggregates_get(CqAggregates *all, char *states, ExprContext *memory, CqReader *reader)
{
	MemoryContext old = MemoryContextSwitchTo(all->scratch);
	int i;

	for (i = 0; i < all->n; i++)
	{
		CqRunningAggregate *running = &all->aggregates[i];
		char *state = states + running->offset;

		if (running->kind != CQ_FAST_NONE)
			memcpy(state, cq_reader_take(reader, running->size), running->size);
		else
			get_slowly(all, running, (SlowState *) state, memory, reader);
		if (all->retracts && running->kind == CQ_FAST_NONE)
			memcpy(&((RetractableState *) state)->n,
				   cq_reader_take(reader, sizeof(int64)),
				   sizeof(int64));
	}
	MemoryContextSwitchTo(old);
}

void
cq_aggregate_skip(CqAggregates *all, int number, CqReader *reader)
{
	CqRunningAggregate *running = &all->aggregates[number];
	MemoryContext old;
	uint32 length;
	char flags;

	if (running->kind != CQ_FAST_NONE)
	{
		(void) cq_reader_take(reader, running->size);
		return;
	}
	flags = *(char *) cq_reader_take(reader, 1);
	if ((flags & STATE_IS_NULL) == 0 && running->internal)
	{
		memcpy(&length, cq_reader_take(reader, sizeof(length)), sizeof(length));
		(void) cq_reader_take(reader, length);
	}
	else if ((flags & STATE_IS_NULL) == 0)
	{
		old = MemoryContextSwitchTo(all->scratch);
		(void) cq_codec_get(&running->codec, reader);
		MemoryContextSwitchTo(old);
	}
	if (all->retracts)
		(void) cq_reader_take(reader, sizeof(int64));
}

/* An internal state as bytes in scratch memory, and such bytes as a state there. */
static bytea *
serialise(CqAggregates *all, CqRunningAggregate *running, SlowState *state, ExprContext *memory)
{
	FunctionCallInfo call = running->trans->serialfn_fcinfo;
	Datum bytes;

	all->node->curaggcontext = memory;
	all->node->curpertrans = running->trans;
	call->args[0].value = state->transValue;
	call->args[0].isnull = false;
	call->isnull = false;
	bytes = FunctionCallInvoke(call);
	all->node->curpertrans = NULL;
	if (call->isnull)
		elog(ERROR, "function %u returned NULL", call->flinfo->fn_oid);
	return DatumGetByteaPP(bytes);
}

static Datum
deserialise(CqAggregates *all, CqRunningAggregate *running, bytea *bytes, ExprContext *memory,
			bool *isnull)
{
	FunctionCallInfo call = running->trans->deserialfn_fcinfo;
	Datum state;

	all->node->curaggcontext = memory;
	all->node->curpertrans = running->trans;
	call->args[0].value = PointerGetDatum(bytes);
	call->args[0].isnull = false;
	call->args[1].value = (Datum) 0;
	call->args[1].isnull = false;
	call->isnull = false;
	state = FunctionCallInvoke(call);
	all->node->curpertrans = NULL;
	*isnull = call->isnull;
	return state;
}

static void
put_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *state, ExprContext *memory,
		   StringInfo out)
{
	char flags =
		(state->transValueIsNull ? STATE_IS_NULL : 0) | (state->noTransValue ? STATE_IS_UNSET : 0);
	bytea *bytes;
	uint32 length;

	appendStringInfoCharMacro(out, flags);
	if (state->transValueIsNull)
		return;
	if (!running->internal)
	{
		cq_codec_put(&running->codec,
					 out,
					 MakeExpandedObjectReadOnly(state->transValue,
												false,
												running->trans->transtypeLen));
		return;
	}
	bytes = serialise(all, running, state, memory);
	length = VARSIZE_ANY_EXHDR(bytes);
	appendBinaryStringInfo(out, (char *) &length, sizeof(length));
	appendBinaryStringInfo(out, VARDATA_ANY(bytes), length);
}

static void
get_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *state, ExprContext *memory,
		   CqReader *reader)
{
	FunctionCallInfo combine = running->combine_call;
	char flags = *(char *) cq_reader_take(reader, 1);
	MemoryContext old;
	uint32 length;
	bytea *bytes;

	state->transValue = (Datum) 0;
	state->transValueIsNull = (flags & STATE_IS_NULL) != 0;
	state->noTransValue = (flags & STATE_IS_UNSET) != 0;
	if (state->transValueIsNull)
		return;
	if (!running->internal)
	{
		old = MemoryContextSwitchTo(all->scratch);
		state->transValue = cq_codec_get(&running->codec, reader);
		MemoryContextSwitchTo(memory->ecxt_per_tuple_memory);
		state->transValue = datumCopy(state->transValue,
									  running->trans->transtypeByVal,
									  running->trans->transtypeLen);
		MemoryContextSwitchTo(old);
		return;
	}

	memcpy(&length, cq_reader_take(reader, sizeof(length)), sizeof(length));
	old = MemoryContextSwitchTo(all->scratch);
	bytes = palloc(VARHDRSZ + length);
	SET_VARSIZE(bytes, VARHDRSZ + length);
	memcpy(VARDATA(bytes), cq_reader_take(reader, length), length);

	combine->args[1].value = deserialise(all, running, bytes, memory, &combine->args[1].isnull);
	all->node->curaggcontext = memory;
	all->node->curpertrans = running->trans;
	combine->args[0].value = (Datum) 0;
	combine->args[0].isnull = true;
	combine->isnull = false;
	state->transValue = FunctionCallInvoke(combine);
	state->transValueIsNull = combine->isnull;
	all->node->curpertrans = NULL;
	MemoryContextSwitchTo(old);
}
