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
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_agg.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "compat.h"
#include "errors.h"
#include "operator/aggregate.h"
#include "operator/operator.h"

/* State of an aggregate that is not fast. */
typedef AggStatePerGroupData SlowState;

/* What is looked up about an aggregate while setting it up. */
typedef struct Lookup
{
	Aggref *aggref;
	FormData_pg_aggregate form;
	Oid owner;
	Oid inputs[FUNC_MAX_ARGS];
	int ninputs;
	Oid transtype;
} Lookup;

static bool distinct_is_incremental(const Aggref *aggref);
static HeapTuple fetch_aggregate(const Aggref *aggref, Lookup *lookup);
static void describe_one(const CqAggregate *aggregate, StringInfo out);
static void setup(CqAggregates *all, CqRunningAggregate *running, const CqAggregate *planned,
				  int number, bool combined);
static void setup_transition(CqAggregates *all, CqRunningAggregate *running, Lookup *lookup);
static void setup_initial_value(CqRunningAggregate *running, Lookup *lookup, HeapTuple tuple);
static void setup_final(CqAggregates *all, CqRunningAggregate *running, Lookup *lookup);
static void setup_saving(CqAggregates *all, CqRunningAggregate *running, Lookup *lookup);
static void setup_combine(CqAggregates *all, CqRunningAggregate *running, Lookup *lookup);
static FunctionCallInfo setup_call(CqAggregates *all, FmgrInfo *function, Oid id, Expr *expression,
								   int nargs, Oid collation);
static void check_executable(Oid function, Oid role, ObjectType kind);
static void advance_slowly(CqAggregates *all, CqRunningAggregate *running, SlowState *state,
						   const Datum *values, const bool *nulls, ExprContext *memory);
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

/* ------------------------------------------------------------------------
 * What the planner asks
 * ------------------------------------------------------------------------
 */

bool
cq_aggregate_is_incremental(const Aggref *aggref, const char **why)
{
	Lookup lookup;
	int i;

	*why = NULL;
	if (aggref->aggdistinct != NIL && !distinct_is_incremental(aggref))
		*why = "it has DISTINCT";
	else if (aggref->aggorder != NIL && aggref->aggkind == AGGKIND_NORMAL)
		*why = "it has ORDER BY";
	else if (aggref->aggkind != AGGKIND_NORMAL)
		*why = "it needs its whole input in order";
	if (*why)
		return false;

	ReleaseSysCache(fetch_aggregate(aggref, &lookup));
	if (lookup.transtype != INTERNALOID)
		return cq_codec_supports(lookup.transtype, why);

	if (!OidIsValid(lookup.form.aggserialfn) || !OidIsValid(lookup.form.aggdeserialfn) ||
		!OidIsValid(lookup.form.aggcombinefn))
	{
		*why = "its internal state cannot be saved and combined";
		return false;
	}

	/* array_agg()'s serialisation keeps elements as they are, with OIDs of user-defined types */
	for (i = 0; i < lookup.ninputs && lookup.form.aggserialfn < FirstNormalObjectId; i++)
		if (lookup.inputs[i] >= FirstNormalObjectId)
		{
			*why =
				psprintf("its internal state may contain values of type %s as they are in memory",
						 format_type_be(lookup.inputs[i]));
			return false;
		}
	return true;
}

/*
 * The result may not depend on the order in which values come, nor on which of
 * several equal ones is taken.
 */
static bool
distinct_is_incremental(const Aggref *aggref)
{
	const char *why;
	Oid type;
	int width;

	if (list_length(aggref->args) != 1 || list_length(aggref->aggdistinct) != 1)
		return false;
	type = exprType((Node *) linitial_node(TargetEntry, aggref->args)->expr);
	switch (cq_fast_kind(aggref->aggfnoid, &width))
	{
		case CQ_FAST_NONE:
		case CQ_FAST_COUNT_ROWS:
		case CQ_FAST_SUM_FLOAT4:
		case CQ_FAST_SUM_FLOAT8:
			return false;
		default:
			return cq_codec_supports(type, &why) &&
				   op_hashjoinable(linitial_node(SortGroupClause, aggref->aggdistinct)->eqop, type);
	}
}

bool
cq_aggregate_is_combinable(const Aggref *aggref)
{
	Lookup lookup;

	ReleaseSysCache(fetch_aggregate(aggref, &lookup));
	return OidIsValid(lookup.form.aggcombinefn);
}

/* Fill in what pg_aggregate and pg_proc say; the caller releases the tuple of the former. */
static HeapTuple
fetch_aggregate(const Aggref *aggref, Lookup *lookup)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(aggref->aggfnoid));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", aggref->aggfnoid);
	lookup->owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);

	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggref->aggfnoid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggref->aggfnoid);
	memcpy(&lookup->form, GETSTRUCT(tuple), sizeof(FormData_pg_aggregate));

	lookup->aggref = copyObject(unconstify(Aggref *, aggref));
	lookup->ninputs = get_aggregate_argtypes(lookup->aggref, lookup->inputs);
	lookup->transtype = resolve_aggregate_transtype(aggref->aggfnoid,
													lookup->form.aggtranstype,
													lookup->inputs,
													lookup->ninputs);

	/* the planner would have done this */
	lookup->aggref->aggtranstype = lookup->transtype;
	return tuple;
}

void
cq_aggregates_describe(const CqPlan *plan, StringInfo out)
{
	int i;

	for (i = 0; i < plan->naggregates; i++)
		describe_one(&plan->aggregates[i], out);
}

static void
describe_one(const CqAggregate *aggregate, StringInfo out)
{
	Lookup lookup;
	int width;
	int i;

	ReleaseSysCache(fetch_aggregate(aggregate->aggref, &lookup));
	appendStringInfo(out,
					 "%s,%s,%d(",
					 format_procedure_qualified(aggregate->aggref->aggfnoid),
					 format_type_extended(lookup.transtype, -1, FORMAT_TYPE_FORCE_QUALIFY),
					 (int) cq_fast_kind(aggregate->aggref->aggfnoid, &width));
	for (i = 0; i < lookup.ninputs; i++)
		appendStringInfo(out,
						 "%s,",
						 format_type_extended(lookup.inputs[i], -1, FORMAT_TYPE_FORCE_QUALIFY));
	appendStringInfoString(out, ")");
	if (aggregate->set >= 0)
		appendStringInfo(out, "set %d bit %d", aggregate->set, aggregate->set_bit);
	appendStringInfoChar(out, ';');
}

/* ------------------------------------------------------------------------
 * Setting up
 * ------------------------------------------------------------------------
 */

CqAggregates *
cq_aggregates_create(const CqPlan *plan, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	CqAggregates *all = palloc0(sizeof(CqAggregates));
	EState *estate = CreateExecutorState();
	Size n = Max(plan->naggregates, 1);
	int i;

	all->n = plan->naggregates;
	all->aggregates = palloc0(n * sizeof(CqRunningAggregate));
	all->all_fast = all->flat = all->reversible = true;
	initStringInfo(&all->copy);

	all->node = makeNode(AggState);
	all->node->ss.ps.state = estate;
	all->node->tmpcontext = CreateExprContext(estate);
	all->node->ss.ps.ps_ExprContext = all->node->tmpcontext;
	all->node->pertrans = palloc0(n * sizeof(AggStatePerTransData));
	all->node->peragg = palloc0(n * sizeof(AggStatePerAggData));
	all->node->numaggs = all->n;
	all->node->numtrans = all->n;
	all->scratch = all->node->tmpcontext->ecxt_per_tuple_memory;

	for (i = 0; i < all->n; i++)
		setup(all,
			  &all->aggregates[i],
			  &plan->aggregates[i],
			  i,
			  plan->sliced || plan->window.kind == CQ_WINDOW_SESSION ||
				  (plan->divided && !plan->disjoint));
	MemoryContextSwitchTo(old);
	return all;
}

static void
setup(CqAggregates *all, CqRunningAggregate *running, const CqAggregate *planned, int number,
	  bool combined)
{
	Lookup lookup;
	HeapTuple tuple;
	const char *why;

	if (!cq_aggregate_is_incremental(planned->aggref, &why))
		elog(ERROR,
			 "aggregate %s cannot be kept incrementally: %s",
			 format_procedure(planned->aggref->aggfnoid),
			 why);
	check_executable(planned->aggref->aggfnoid, GetUserId(), OBJECT_AGGREGATE);

	running->nargs = planned->nargs;
	running->arg_columns = palloc(Max(planned->nargs, 1) * sizeof(int));
	if (planned->nargs > 0)
		memcpy(running->arg_columns, planned->arg_columns, planned->nargs * sizeof(int));
	running->filter_column = planned->filter_column;
	running->set = planned->set;
	running->set_bit = planned->set >= 0 ? UINT64CONST(1) << planned->set_bit : 0;
	running->kind = cq_fast_kind(planned->aggref->aggfnoid, &running->width);
	all->reversible &= cq_fast_is_reversible(running->kind);
	running->offset = all->states_size;
	running->size = running->kind != CQ_FAST_NONE ? cq_fast_size(running->kind) : sizeof(SlowState);
	all->states_size = MAXALIGN(running->offset + running->size);
	if (running->kind != CQ_FAST_NONE)
		return;

	all->all_fast = false;
	running->trans = &all->node->pertrans[number];
	running->agg = &all->node->peragg[number];
	tuple = fetch_aggregate(planned->aggref, &lookup);
	setup_transition(all, running, &lookup);
	setup_initial_value(running, &lookup, tuple);
	setup_final(all, running, &lookup);
	setup_saving(all, running, &lookup);
	all->flat &= running->trans->transtypeByVal && !running->internal;
	if (running->internal || combined)
		setup_combine(all, running, &lookup);
	running->agg->aggref = lookup.aggref;
	running->agg->transno = number;
	ReleaseSysCache(tuple);
}

static void
setup_transition(CqAggregates *all, CqRunningAggregate *running, Lookup *lookup)
{
	AggStatePerTrans trans = running->trans;
	Aggref *aggref = lookup->aggref;
	Expr *expression;

	check_executable(lookup->form.aggtransfn, lookup->owner, OBJECT_FUNCTION);
	if (running->nargs != lookup->ninputs)
		elog(ERROR,
			 "aggregate %s has %d arguments, not %d",
			 format_procedure(aggref->aggfnoid),
			 lookup->ninputs,
			 running->nargs);

	trans->aggref = aggref;
	trans->aggshared = false;
	trans->aggCollation = aggref->inputcollid;
	trans->transfn_oid = lookup->form.aggtransfn;
	trans->aggtranstype = lookup->transtype;
	trans->numInputs = list_length(aggref->args);
	trans->numTransInputs = lookup->ninputs;
	get_typlenbyval(lookup->transtype, &trans->transtypeLen, &trans->transtypeByVal);

	build_aggregate_transfn_expr(lookup->inputs,
								 lookup->ninputs,
								 0,
								 aggref->aggvariadic,
								 lookup->transtype,
								 aggref->inputcollid,
								 trans->transfn_oid,
								 InvalidOid,
								 &expression,
								 NULL);
	trans->transfn_fcinfo = setup_call(all,
									   &trans->transfn,
									   trans->transfn_oid,
									   expression,
									   lookup->ninputs + 1,
									   aggref->inputcollid);
}

static void
setup_initial_value(CqRunningAggregate *running, Lookup *lookup, HeapTuple tuple)
{
	AggStatePerTrans trans = running->trans;
	Datum literal =
		SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &trans->initValueIsNull);

	trans->initValue = (Datum) 0;
	if (!trans->initValueIsNull)
	{
		Oid function;
		Oid parameter;

		getTypeInputInfo(lookup->transtype, &function, &parameter);
		trans->initValue =
			OidInputFunctionCall(function, TextDatumGetCString(literal), parameter, -1);
	}
	else if (trans->transfn.fn_strict &&
			 (lookup->ninputs < 1 || !IsBinaryCoercible(lookup->inputs[0], lookup->transtype)))
		/* the first argument is to become the first transition value */
		ereport(ERROR,
				errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				errmsg("aggregate %s needs to have compatible input type and transition type",
					   format_procedure(lookup->aggref->aggfnoid)));
}

static void
setup_final(CqAggregates *all, CqRunningAggregate *running, Lookup *lookup)
{
	AggStatePerAgg agg = running->agg;
	Aggref *aggref = lookup->aggref;
	Expr *expression;

	agg->finalfn_oid = lookup->form.aggfinalfn;
	agg->numFinalArgs = lookup->form.aggfinalextra ? lookup->ninputs + 1 : 1;
	get_typlenbyval(aggref->aggtype, &agg->resulttypeLen, &agg->resulttypeByVal);
	running->final_overwrites = lookup->form.aggfinalmodify != AGGMODIFY_READ_ONLY;
	if (!OidIsValid(agg->finalfn_oid))
		return;

	check_executable(agg->finalfn_oid, lookup->owner, OBJECT_FUNCTION);
	build_aggregate_finalfn_expr(lookup->inputs,
								 agg->numFinalArgs,
								 lookup->transtype,
								 aggref->aggtype,
								 aggref->inputcollid,
								 agg->finalfn_oid,
								 &expression);
	running->final_call = setup_call(all,
									 &agg->finalfn,
									 agg->finalfn_oid,
									 expression,
									 agg->numFinalArgs,
									 aggref->inputcollid);
}

static void
setup_saving(CqAggregates *all, CqRunningAggregate *running, Lookup *lookup)
{
	AggStatePerTrans trans = running->trans;
	Expr *expression;

	running->internal = lookup->transtype == INTERNALOID;
	if (!running->internal)
	{
		cq_codec_init(&running->codec, lookup->transtype, CurrentMemoryContext);
		return;
	}

	trans->serialfn_oid = lookup->form.aggserialfn;
	trans->deserialfn_oid = lookup->form.aggdeserialfn;
	check_executable(trans->serialfn_oid, lookup->owner, OBJECT_FUNCTION);
	check_executable(trans->deserialfn_oid, lookup->owner, OBJECT_FUNCTION);

	build_aggregate_serialfn_expr(trans->serialfn_oid, &expression);
	trans->serialfn_fcinfo =
		setup_call(all, &trans->serialfn, trans->serialfn_oid, expression, 1, InvalidOid);
	build_aggregate_deserialfn_expr(trans->deserialfn_oid, &expression);
	trans->deserialfn_fcinfo =
		setup_call(all, &trans->deserialfn, trans->deserialfn_oid, expression, 2, InvalidOid);
}

static void
setup_combine(CqAggregates *all, CqRunningAggregate *running, Lookup *lookup)
{
	Oid both[2] = {lookup->transtype, lookup->transtype};
	Expr *expression;

	check_executable(lookup->form.aggcombinefn, lookup->owner, OBJECT_FUNCTION);
	build_aggregate_transfn_expr(both,
								 2,
								 0,
								 false,
								 lookup->transtype,
								 lookup->aggref->inputcollid,
								 lookup->form.aggcombinefn,
								 InvalidOid,
								 &expression,
								 NULL);
	running->combine_call = setup_call(all,
									   &running->combine,
									   lookup->form.aggcombinefn,
									   expression,
									   2,
									   lookup->aggref->inputcollid);
	if (running->internal && running->combine.fn_strict)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				errmsg("combine function of aggregate %s must not be declared STRICT",
					   format_procedure(lookup->aggref->aggfnoid)));
}

static FunctionCallInfo
setup_call(CqAggregates *all, FmgrInfo *function, Oid id, Expr *expression, int nargs,
		   Oid collation)
{
	FunctionCallInfo call = palloc0(SizeForFunctionCallInfo(nargs));

	fmgr_info(id, function);
	fmgr_info_set_expr((Node *) expression, function);
	InitFunctionCallInfoData(*call, function, nargs, collation, (Node *) all->node, NULL);
	return call;
}

static void
check_executable(Oid function, Oid role, ObjectType kind)
{
	AclResult result = cq_compat_function_aclcheck(function, role);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, kind, get_func_name(function));
	InvokeFunctionExecuteHook(function);
}

/* ------------------------------------------------------------------------
 * Running
 * ------------------------------------------------------------------------
 */

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
		SlowState *state = (SlowState *) (states + running->offset);
		AggStatePerTrans trans = running->trans;
		MemoryContext old;

		if (running->kind != CQ_FAST_NONE)
			continue;
		old = MemoryContextSwitchTo(memory->ecxt_per_tuple_memory);
		state->transValue =
			trans->initValueIsNull
				? (Datum) 0
				: datumCopy(trans->initValue, trans->transtypeByVal, trans->transtypeLen);
		MemoryContextSwitchTo(old);
		state->transValueIsNull = trans->initValueIsNull;
		state->noTransValue = trans->initValueIsNull;
	}
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

	for (i = 0; i < running->nargs; i++)
	{
		call->args[i + 1].value = values[running->arg_columns[i]];
		call->args[i + 1].isnull = nulls[running->arg_columns[i]];
		if (call->args[i + 1].isnull && trans->transfn.fn_strict)
			return;
	}
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
	if (!trans->transtypeByVal && DatumGetPointer(result) != DatumGetPointer(state->transValue))
		result = keep_transition(running, state, result, call->isnull, memory);
	state->transValue = result;
	state->transValueIsNull = call->isnull;
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
	if (!state->transValueIsNull)
	{
		if (DatumIsReadWriteExpandedObject(state->transValue, false, trans->transtypeLen))
			DeleteExpandedObject(state->transValue);
		else
			pfree(DatumGetPointer(state->transValue));
	}
	return value;
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
	}
	MemoryContextSwitchTo(old);
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

#define STATE_IS_NULL  1
#define STATE_IS_UNSET 2

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
