/*
 * conditions.c
 *	  What the conditions of a query say about where in a topic its records are.
 *
 * Comparisons of the partition, offset and timestamp columns with what does not
 * change during a scan are looked for beneath AND and OR.  Each stands for slices
 * of the topic: OR puts slices together, AND intersects them.  Whatever else there
 * is stands for the whole topic.  All conditions are checked again on the rows, so
 * slices may be too large, never too small.
 *
 * Timestamps
 *	Timestamps that producers give ascend only roughly.  Kafka can tell the first
 *	record that is not before a time: every record in front of it is, so that is where
 *	to begin for "at or after".  It cannot tell the last one, so "before" is no
 *	reason to stop: an earlier time may follow anywhere.  Brokers look times up in
 *	an index with an entry for several records, which may name the last record of
 *	that very time; so the millisecond before it is asked for.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "source/direct/conditions.h"

#define MAX_SLICES	   100000 /* more than that are not intersected */
#define LIKELY_PARTS   4	  /* partitions of a topic */
#define MS_DIGITS	   3	  /* of a fraction of a second that a column must keep */
#define EPOCH_SHIFT_US ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

typedef enum ConditionKind
{
	CONDITION_AND,
	CONDITION_OR,
	CONDITION_COMPARE
} ConditionKind;

typedef struct Condition
{
	ConditionKind kind;
	int nparts; /* AND, OR */
	struct Condition *parts;
	CqMetadata metadata; /* COMPARE */
	int strategy;		 /* of a B-tree, the column on the left */
	Oid type;			 /* of the value, or of the array's elements */
	bool is_array;		 /* equal to any of its elements */
	ExprState *value;
} Condition;

struct CqConditions
{
	Condition all; /* AND */
};

typedef struct Slices
{
	int n;
	int allocated;
	CqKafkaSlice *slices;
} Slices;

/* A comparison with the column on the left. */
typedef struct Comparison
{
	const CqStreamColumn *column;
	int strategy;
	Expr *value;
	bool is_array;
} Comparison;

static bool comparison_recognise(const CqStream *stream, Index varno, Expr *expr,
								 Comparison *comparison);
static const CqStreamColumn *place_column(const CqStream *stream, Index varno, Node *node);
static bool value_usable(Index varno, Node *value);
static bool type_usable(const Comparison *comparison, Oid type);
static Oid value_type(const Comparison *comparison);
static Expr *reduce_list(const CqStream *stream, Index varno, BoolExpr *expr);
static double share_of(const CqStream *stream, Index varno, Expr *part, double records);
static void prepare(Condition *condition, const CqStream *stream, Index varno, Expr *part,
					PlanState *parent);
static void prepare_list(Condition *condition, ConditionKind kind, const CqStream *stream,
						 Index varno, List *parts, PlanState *parent);
/* Adds to the result. */
static void evaluate(const Condition *condition, ExprContext *econtext, Slices *result);
static void evaluate_all(const Condition *condition, ExprContext *econtext, Slices *result);
static void intersect(Slices *result, const Slices *other);
static void compare_array(const Condition *condition, Datum array, Slices *result);
static void compare_value(const Condition *condition, Datum value, Slices *result);
static bool slice_restrict(CqKafkaSlice *slice, const Condition *condition, Datum value);
static bool bounds_restrict(int64 *first, int64 *end, int strategy, int64 value);
static bool time_restrict(CqKafkaSlice *slice, int64 time_us);
static void slices_add(Slices *slices, const CqKafkaSlice *slice);

Expr *
cq_condition_reduce(const CqStream *stream, Index varno, Expr *condition)
{
	Comparison comparison;

	if (is_andclause(condition) || is_orclause(condition))
		return reduce_list(stream, varno, (BoolExpr *) condition);
	return comparison_recognise(stream, varno, condition, &comparison) ? condition : NULL;
}

/* Of AND some arms will do; of OR all must say something. */
static Expr *
reduce_list(const CqStream *stream, Index varno, BoolExpr *expr)
{
	List *parts = NIL;
	ListCell *lc;

	foreach (lc, expr->args)
	{
		Expr *part = cq_condition_reduce(stream, varno, lfirst(lc));

		if (part != NULL)
			parts = lappend(parts, part);
		else if (expr->boolop == OR_EXPR)
			return NULL;
	}
	if (list_length(parts) <= 1)
		return parts == NIL ? NULL : linitial(parts);
	return makeBoolExpr(expr->boolop, parts, -1);
}

static bool
comparison_recognise(const CqStream *stream, Index varno, Expr *expr, Comparison *comparison)
{
	List *args;
	Oid op;
	Oid family;

	comparison->is_array = IsA(expr, ScalarArrayOpExpr);
	if (IsA(expr, OpExpr))
	{
		op = ((OpExpr *) expr)->opno;
		args = ((OpExpr *) expr)->args;
	}
	else if (comparison->is_array && ((ScalarArrayOpExpr *) expr)->useOr)
	{
		op = ((ScalarArrayOpExpr *) expr)->opno;
		args = ((ScalarArrayOpExpr *) expr)->args;
	}
	else
		return false;
	if (list_length(args) != 2)
		return false;
	comparison->column = place_column(stream, varno, linitial(args));
	comparison->value = lsecond(args);
	if (comparison->column == NULL && !comparison->is_array)
	{
		op = get_commutator(op);
		comparison->column = place_column(stream, varno, lsecond(args));
		comparison->value = linitial(args);
	}
	if (comparison->column == NULL || !OidIsValid(op) ||
		!value_usable(varno, (Node *) comparison->value))
		return false;
	family = get_opclass_family(GetDefaultOpClass(comparison->column->type, BTREE_AM_OID));
	comparison->strategy = get_op_opfamily_strategy(op, family);
	if (comparison->strategy == 0 ||
		(comparison->is_array && comparison->strategy != BTEqualStrategyNumber))
		return false;
	return type_usable(comparison, value_type(comparison));
}

static const CqStreamColumn *
place_column(const CqStream *stream, Index varno, Node *node)
{
	Var *var = (Var *) node;
	const CqStreamColumn *column;

	if (!IsA(node, Var) || var->varno != varno || var->varlevelsup != 0 || var->varattno <= 0)
		return NULL;
	column = &stream->columns[var->varattno - 1];
	switch (column->metadata)
	{
		case CQ_METADATA_PARTITION:
		case CQ_METADATA_OFFSET:
			return column;
		case CQ_METADATA_TIMESTAMP:
			/* with fewer digits it is rounded, maybe upwards */
			return column->typmod < 0 || column->typmod >= MS_DIGITS ? column : NULL;
		default:
			return NULL;
	}
}

static bool
value_usable(Index varno, Node *value)
{
	ListCell *lc;

	if (contain_volatile_functions(value) || contain_subplans(value))
		return false;
	foreach (lc, pull_var_clause(value, PVC_RECURSE_PLACEHOLDERS))
		if (((Var *) lfirst(lc))->varno == varno)
			return false;
	return true;
}

/* The operators of a family compare different types; what dates mean depends on the zone. */
static bool
type_usable(const Comparison *comparison, Oid type)
{
	if (comparison->column->metadata != CQ_METADATA_TIMESTAMP)
		return type == INT2OID || type == INT4OID || type == INT8OID;
	return type == comparison->column->type && comparison->strategy >= BTEqualStrategyNumber;
}

static Oid
value_type(const Comparison *comparison)
{
	Oid type = exprType((Node *) comparison->value);

	return comparison->is_array ? get_base_element_type(type) : type;
}

double
cq_condition_share(const CqStream *stream, Index varno, List *parts, double records)
{
	double share = 1;
	ListCell *lc;

	foreach (lc, parts)
		share *= share_of(stream, varno, lfirst(lc), records);
	return share;
}

static double
share_of(const CqStream *stream, Index varno, Expr *part, double records)
{
	Comparison comparison;
	double share = 0;
	ListCell *lc;

	if (is_andclause(part))
		return cq_condition_share(stream, varno, ((BoolExpr *) part)->args, records);
	if (is_orclause(part))
	{
		foreach (lc, ((BoolExpr *) part)->args)
			share += share_of(stream, varno, lfirst(lc), records);
		return Min(share, 1);
	}
	if (!comparison_recognise(stream, varno, part, &comparison))
		return 1;
	if (comparison.strategy != BTEqualStrategyNumber ||
		comparison.column->metadata == CQ_METADATA_TIMESTAMP)
		return 1.0 / 3;
	share = comparison.column->metadata == CQ_METADATA_OFFSET ? LIKELY_PARTS / Max(records, 1)
															  : 1.0 / LIKELY_PARTS;
	return Min(1, comparison.is_array ? share * 10 : share);
}

CqConditions *
cq_conditions_prepare(const CqStream *stream, Index varno, List *parts, PlanState *parent)
{
	CqConditions *conditions = palloc0(sizeof(CqConditions));

	prepare_list(&conditions->all, CONDITION_AND, stream, varno, parts, parent);
	return conditions;
}

static void
prepare_list(Condition *condition, ConditionKind kind, const CqStream *stream, Index varno,
			 List *parts, PlanState *parent)
{
	int i;

	condition->kind = kind;
	condition->nparts = list_length(parts);
	condition->parts = palloc0(sizeof(Condition) * (condition->nparts + 1));
	for (i = 0; i < condition->nparts; i++)
		prepare(&condition->parts[i], stream, varno, list_nth(parts, i), parent);
}

static void
prepare(Condition *condition, const CqStream *stream, Index varno, Expr *part, PlanState *parent)
{
	Comparison comparison;

	if (IsA(part, BoolExpr))
	{
		prepare_list(condition,
					 is_orclause(part) ? CONDITION_OR : CONDITION_AND,
					 stream,
					 varno,
					 ((BoolExpr *) part)->args,
					 parent);
		return;
	}
	if (!comparison_recognise(stream, varno, part, &comparison))
		elog(ERROR, "condition on a record's place was not recognised again");
	condition->kind = CONDITION_COMPARE;
	condition->metadata = comparison.column->metadata;
	condition->strategy = comparison.strategy;
	condition->is_array = comparison.is_array;
	condition->type = value_type(&comparison);
	condition->value = ExecInitExpr(comparison.value, parent);
}

CqKafkaSlice *
cq_conditions_evaluate(CqConditions *conditions, ExprContext *econtext, int *nslices)
{
	Slices result = {0};

	evaluate(&conditions->all, econtext, &result);
	*nslices = result.n;
	return result.slices;
}

static void
evaluate(const Condition *condition, ExprContext *econtext, Slices *result)
{
	bool isnull;
	Datum value;
	int i;

	switch (condition->kind)
	{
		case CONDITION_AND:
			evaluate_all(condition, econtext, result);
			return;
		case CONDITION_OR:
			for (i = 0; i < condition->nparts; i++)
				evaluate(&condition->parts[i], econtext, result);
			return;
		case CONDITION_COMPARE:
			value = ExecEvalExprSwitchContext(condition->value, econtext, &isnull);
			if (isnull)
				return;
			if (condition->is_array)
				compare_array(condition, value, result);
			else
				compare_value(condition, value, result);
			return;
	}
}

static void
evaluate_all(const Condition *condition, ExprContext *econtext, Slices *result)
{
	Slices all = {0};
	int i;

	slices_add(&all, &CQ_KAFKA_WHOLE);
	for (i = 0; i < condition->nparts && all.n > 0; i++)
	{
		Slices part = {0};

		evaluate(&condition->parts[i], econtext, &part);
		intersect(&all, &part);
	}
	for (i = 0; i < all.n; i++)
		slices_add(result, &all.slices[i]);
}

/* Too many are left as they are: that is too much, but not too little. */
static void
intersect(Slices *result, const Slices *other)
{
	Slices both = {0};
	int i;
	int j;

	if ((double) result->n * other->n > MAX_SLICES)
		return;
	for (i = 0; i < result->n; i++)
		for (j = 0; j < other->n; j++)
		{
			const CqKafkaSlice *a = &result->slices[i];
			const CqKafkaSlice *b = &other->slices[j];
			CqKafkaSlice slice;

			slice.first_partition = Max(a->first_partition, b->first_partition);
			slice.end_partition = Min(a->end_partition, b->end_partition);
			slice.first_offset = Max(a->first_offset, b->first_offset);
			slice.end_offset = Min(a->end_offset, b->end_offset);
			slice.from_ms = Max(a->from_ms, b->from_ms);
			if (slice.first_partition < slice.end_partition &&
				slice.first_offset < slice.end_offset)
				slices_add(&both, &slice);
		}
	*result = both;
}

static void
compare_array(const Condition *condition, Datum array, Slices *result)
{
	int16 typlen;
	bool typbyval;
	char typalign;
	Datum *values;
	bool *nulls;
	int n;
	int i;

	get_typlenbyvalalign(condition->type, &typlen, &typbyval, &typalign);
	deconstruct_array(DatumGetArrayTypeP(array),
					  condition->type,
					  typlen,
					  typbyval,
					  typalign,
					  &values,
					  &nulls,
					  &n);
	for (i = 0; i < n; i++)
		if (!nulls[i])
			compare_value(condition, values[i], result);
}

static void
compare_value(const Condition *condition, Datum value, Slices *result)
{
	CqKafkaSlice slice = CQ_KAFKA_WHOLE;

	if (slice_restrict(&slice, condition, value))
		slices_add(result, &slice);
}

/* False if nothing is left. */
static bool
slice_restrict(CqKafkaSlice *slice, const Condition *condition, Datum value)
{
	int64 number;

	if (condition->metadata == CQ_METADATA_TIMESTAMP)
		return time_restrict(slice, DatumGetTimestampTz(value));
	number = condition->type == INT2OID	  ? DatumGetInt16(value)
			 : condition->type == INT4OID ? DatumGetInt32(value)
										  : DatumGetInt64(value);
	if (condition->metadata == CQ_METADATA_PARTITION)
		return bounds_restrict(&slice->first_partition,
							   &slice->end_partition,
							   condition->strategy,
							   number);
	return bounds_restrict(&slice->first_offset, &slice->end_offset, condition->strategy, number);
}

/* No record has the largest number as its offset, so it may serve as an end. */
static bool
bounds_restrict(int64 *first, int64 *end, int strategy, int64 value)
{
	int64 behind = value == PG_INT64_MAX ? value : value + 1;

	if (strategy == BTEqualStrategyNumber || strategy == BTGreaterEqualStrategyNumber)
		*first = Max(*first, value);
	else if (strategy == BTGreaterStrategyNumber)
		*first = Max(*first, behind);
	if (strategy == BTEqualStrategyNumber || strategy == BTLessEqualStrategyNumber)
		*end = Min(*end, behind);
	else if (strategy == BTLessStrategyNumber)
		*end = Min(*end, value);
	return *first < *end;
}

/* Equal, at or after, after: all begin at the same record. */
static bool
time_restrict(CqKafkaSlice *slice, int64 time_us)
{
	int64 us;

	if (time_us == DT_NOEND)
		return false;
	if (time_us == DT_NOBEGIN)
		return true;
	us = time_us + EPOCH_SHIFT_US;
	/* rounded up to milliseconds, and the one before it; see above */
	if (us > 1000)
		slice->from_ms = (us + 999) / 1000 - 1;
	return true;
}

static void
slices_add(Slices *slices, const CqKafkaSlice *slice)
{
	if (slices->n == slices->allocated)
	{
		slices->allocated = Max(slices->allocated * 2, 4);
		slices->slices =
			slices->slices ? repalloc_huge(slices->slices, sizeof(CqKafkaSlice) * slices->allocated)
						   : palloc(sizeof(CqKafkaSlice) * slices->allocated);
	}
	slices->slices[slices->n++] = *slice;
}
