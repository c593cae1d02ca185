/*
 * aggregate.h
 *	  Running aggregates outside of an executor node: their states live in
 *	  groups that outlast any plan, and go to disk and back.
 */
#pragma once

#include "postgres.h"

#include "executor/nodeAgg.h"
#include "lib/stringinfo.h"
#include "nodes/execnodes.h"

#include "operator/fast_aggregate.h"
#include "operator/numeric_sum.h"
#include "plan/plan.h"
#include "state/codec.h"

typedef struct CqAggregateState CqAggregateState;

/* One aggregate of a plan. */
typedef struct CqRunningAggregate
{
	CqFastKind kind;
	int width;	 /* of a fast one's integer argument */
	Size offset; /* of its state in a group's states */
	Size size;
	int nargs;
	int *arg_columns;  /* in the stage rows */
	int filter_column; /* -1 = none */
	int set;		   /* of the values it has taken, -1 = no DISTINCT */
	uint64 set_bit;

	CqNumericKind numeric; /* not fast either, but without functions; trans is filled in a little */

	/* not fast: */
	AggStatePerTrans trans;
	AggStatePerAgg agg;
	FunctionCallInfo final_call;
	bool internal;		   /* the transition value is a pointer into the unknown */
	bool final_overwrites; /* the final function may change the transition value */
	CqCodec codec;		   /* of the transition value, unless internal */
	FmgrInfo combine;	   /* if internal, or if the plan combines states */
	FunctionCallInfo combine_call;
	FmgrInfo inverse; /* where values can be taken back */
	FunctionCallInfo inverse_call;
} CqRunningAggregate;

typedef struct CqAggregates
{
	int n;
	CqRunningAggregate *aggregates;
	Size states_size; /* of all states of a group, a multiple of 8 */
	bool all_fast;
	bool reversible;	   /* states that were combined can be taken back */
	bool retracts;		   /* single rows can be taken back */
	bool flat;			   /* states are all there is: nothing is in memory of its own */
	AggState *node;		   /* what aggregate functions believe to run under */
	MemoryContext scratch; /* results and garbage of aggregate functions; reset by the caller */
	StringInfoData copy;
} CqAggregates;

/*
 * Look up the aggregates of a plan, as the current user, who must be allowed to
 * call them.  Everything lives in context.
 */
extern CqAggregates *cq_aggregates_create(const CqPlan *plan, MemoryContext context);

/*
 * An owner for transition values that are not in the states themselves: all of
 * a pane's groups share one.  NULL where all aggregates are fast.  Freed by
 * cq_aggregates_free_memory(), or with the current memory context.
 */
extern ExprContext *cq_aggregates_memory(CqAggregates *aggregates);
extern void cq_aggregates_free_memory(ExprContext *memory);

/* The states of a group without rows; states is zeroed memory, 8-byte aligned. */
extern void cq_aggregates_init(CqAggregates *aggregates, char *states, ExprContext *memory);

/* Take one row into the states. */
extern void cq_aggregates_advance(CqAggregates *aggregates, char *states, const Datum *values,
								  const bool *nulls, ExprContext *memory);

/* If they retract: take back a row that was taken in. */
extern void cq_aggregates_retract(CqAggregates *aggregates, char *states, const Datum *values,
								  const bool *nulls, ExprContext *memory);

/*
 * Aggregates with DISTINCT are not advanced by that.  Which of a set's would
 * take this row's value, as a mask of their bits; and advance those of a mask.
 */
extern uint64 cq_aggregates_set_mask(const CqAggregates *aggregates, int set, const Datum *values,
									 const bool *nulls);
extern void cq_aggregates_advance_set(CqAggregates *aggregates, int set, uint64 mask, char *states,
									  const Datum *values);

/*
 * Take the states of a group over other rows into its states; those stay as
 * they are.  The plan must be one that combines states; aggregates with DISTINCT
 * are left out.
 */
extern void cq_aggregates_combine(CqAggregates *aggregates, char *states, ExprContext *memory,
								  char *others, ExprContext *others_memory);

/* If they are reversible: undo that, with the same states. */
extern void cq_aggregates_take_back(CqAggregates *aggregates, char *states, const char *others);

/*
 * The aggregates' results; what is not by value points into the states or into
 * scratch.  The states are spoilt for further use unless keep is set.
 */
extern void cq_aggregates_finish(CqAggregates *aggregates, char *states, ExprContext *memory,
								 bool keep, Datum *values, bool *nulls);

/* The states to bytes and back (into states that were not initialised). */
extern void cq_aggregates_put(CqAggregates *aggregates, char *states, ExprContext *memory,
							  StringInfo out);
extern void cq_aggregates_get(CqAggregates *aggregates, char *states, ExprContext *memory,
							  CqReader *reader);

/* Go over what was saved of one of them. */
extern void cq_aggregate_skip(CqAggregates *aggregates, int number, CqReader *reader);

/* Names everything that determines what the bytes mean; appended to out. */
extern void cq_aggregates_describe(const CqPlan *plan, StringInfo out);
