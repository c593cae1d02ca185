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
#include "utils/fmgroids.h"
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
static HeapTuple fetch_aggregate(const Aggref *aggref, bool moving, Lookup *lookup);
static void use_moving(Form_pg_aggregate form);
static bool moving_is_saved(const Aggref *aggref, const char **why);
static void describe_one(const CqAggregate *aggregate, StringInfo out);
static void setup(CqAggregates *all, CqRunningAggregate *running, const CqAggregate *planned,
				  int number, bool combined);
static void setup_transition(CqAggregates *all, CqRunningAggregate *running, Lookup *lookup);
static void setup_initial_value(CqRunningAggregate *running, Lookup *lookup, HeapTuple tuple,
								AttrNumber column);
static void setup_numeric(CqAggregates *all, CqRunningAggregate *running, Oid aggregate);
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

	ReleaseSysCache(fetch_aggregate(aggref, false, &lookup));
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

	ReleaseSysCache(fetch_aggregate(aggref, false, &lookup));
	return OidIsValid(lookup.form.aggcombinefn);
}

/* Fill in what pg_aggregate and pg_proc say; the caller releases the tuple of the former. */
static HeapTuple
fetch_aggregate(const Aggref *aggref, bool moving, Lookup *lookup)
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
	if (moving)
		use_moving(&lookup->form);

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

/* The functions for a frame of rows that moves, which can leave values behind. */
static void
use_moving(Form_pg_aggregate form)
{
	if (form->aggmtransfn != form->aggtransfn || form->aggmtranstype != form->aggtranstype)
		form->aggserialfn = form->aggdeserialfn = form->aggcombinefn = InvalidOid;
	form->aggtransfn = form->aggmtransfn;
	form->aggtranstype = form->aggmtranstype;
	form->aggfinalfn = form->aggmfinalfn;
	form->aggfinalextra = form->aggmfinalextra;
	form->aggfinalmodify = form->aggmfinalmodify;
}

bool
cq_aggregate_can_retract(const Aggref *aggref, const char **why)
{
	int width;

	*why = NULL;
	if (aggref->aggdistinct != NIL)
		*why = "it has DISTINCT";
	else if (aggref->aggorder != NIL || aggref->aggkind != AGGKIND_NORMAL)
		*why = "it needs its input in order";
	if (*why)
		return false;
	return cq_fast_kind_retracting(aggref->aggfnoid, &width) != CQ_FAST_NONE ||
		   cq_numeric_kind(aggref->aggfnoid) != CQ_NUMERIC_NONE || moving_is_saved(aggref, why);
}

static bool
moving_is_saved(const Aggref *aggref, const char **why)
{
	Lookup lookup;

	ReleaseSysCache(fetch_aggregate(aggref, false, &lookup));
	if (!OidIsValid(lookup.form.aggminvtransfn))
	{
		*why = "it has no inverse transition function";
		return false;
	}
	/* that of other aggregates over numeric cannot tell how many digits are left */
	if (lookup.form.aggminvtransfn == F_NUMERIC_ACCUM_INV)
	{
		*why = "its inverse transition function cannot always do it";
		return false;
	}
	ReleaseSysCache(fetch_aggregate(aggref, true, &lookup));
	if (lookup.transtype != INTERNALOID)
		return cq_codec_supports(lookup.transtype, why);
	if (OidIsValid(lookup.form.aggserialfn) && OidIsValid(lookup.form.aggdeserialfn) &&
		OidIsValid(lookup.form.aggcombinefn))
		return true;
	*why = "its internal state cannot be saved";
	return false;
}

void
cq_aggregates_describe(const CqPlan *plan, StringInfo out)
{
	int i;

	if (plan->retracts)
		appendStringInfoString(out, "retracts;");
	for (i = 0; i < plan->naggregates; i++)
		describe_one(&plan->aggregates[i], out);
}

static void
describe_one(const CqAggregate *aggregate, StringInfo out)
{
	Lookup lookup;
	int width;
	int i;

	ReleaseSysCache(fetch_aggregate(aggregate->aggref, false, &lookup));
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
	all->retracts = plan->retracts;
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
	Size slow_size = sizeof(AggStatePerGroupData) + (all->retracts ? sizeof(int64) : 0);
	Lookup lookup;
	HeapTuple tuple;
	const char *why;

	if (all->retracts ? !cq_aggregate_can_retract(planned->aggref, &why)
					  : !cq_aggregate_is_incremental(planned->aggref, &why))
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
	running->kind = all->retracts
						? cq_fast_kind_retracting(planned->aggref->aggfnoid, &running->width)
						: cq_fast_kind(planned->aggref->aggfnoid, &running->width);
	all->reversible &= cq_fast_is_reversible(running->kind);
	running->offset = all->states_size;
	running->size = running->kind != CQ_FAST_NONE ? cq_fast_size(running->kind) : slow_size;
	all->states_size = MAXALIGN(running->offset + running->size);
	if (running->kind != CQ_FAST_NONE)
		return;

	all->all_fast = false;
	running->trans = &all->node->pertrans[number];
	running->agg = &all->node->peragg[number];
	if (all->retracts && cq_numeric_kind(planned->aggref->aggfnoid) != CQ_NUMERIC_NONE)
	{
		setup_numeric(all, running, planned->aggref->aggfnoid);
		return;
	}
	tuple = fetch_aggregate(planned->aggref, all->retracts, &lookup);
	setup_transition(all, running, &lookup);
	setup_initial_value(running,
						&lookup,
						tuple,
						all->retracts ? Anum_pg_aggregate_aggminitval
									  : Anum_pg_aggregate_agginitval);
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
	Oid inverse = all->retracts ? lookup->form.aggminvtransfn : InvalidOid;
	Expr *expression;
	Expr *inverse_expression;

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
								 inverse,
								 &expression,
								 &inverse_expression);
	trans->transfn_fcinfo = setup_call(all,
									   &trans->transfn,
									   trans->transfn_oid,
									   expression,
									   lookup->ninputs + 1,
									   aggref->inputcollid);
	if (!OidIsValid(inverse))
		return;
	check_executable(inverse, lookup->owner, OBJECT_FUNCTION);
	running->inverse_call = setup_call(all,
									   &running->inverse,
									   inverse,
									   inverse_expression,
									   lookup->ninputs + 1,
									   aggref->inputcollid);
}

/* As much as is needed to keep a bytea that is NULL at first. */
static void
setup_numeric(CqAggregates *all, CqRunningAggregate *running, Oid aggregate)
{
	all->flat = false;
	running->numeric = cq_numeric_kind(aggregate);
	running->trans->initValueIsNull = true;
	get_typlenbyval(BYTEAOID, &running->trans->transtypeLen, &running->trans->transtypeByVal);
	cq_codec_init(&running->codec, BYTEAOID, CurrentMemoryContext);
}

static void
setup_initial_value(CqRunningAggregate *running, Lookup *lookup, HeapTuple tuple, AttrNumber column)
{
	AggStatePerTrans trans = running->trans;
	Datum literal = SysCacheGetAttr(AGGFNOID, tuple, column, &trans->initValueIsNull);

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
