/*
 * aggregate_setup.c
 *	  Looking aggregates up: what the planner asks about them, and what it takes
 *	  to run them.
 */
#include "postgres.h"

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
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "operator/aggregate.h"
#include "operator/operator.h"

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
	running->size =
		running->kind != CQ_FAST_NONE ? cq_fast_size(running->kind) : sizeof(AggStatePerGroupData);
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
