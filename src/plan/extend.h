/*
 * extend.h
 *	  A continuous view's query gets more columns.
 */
#pragma once

#include "postgres.h"

#include "compat.h"
#include "nodes/parsenodes.h"
#include "plan/plan.h"

/*
 * The query that stands for the wanted one from now on; both as analysed and not
 * rewritten.  Error with a hint unless it is the old one with columns behind those that
 * there are.  marks: groups of windows have what was before, so aggregates that are
 * new must not be shown of them.
 */
extern Query *cq_extend_query(const Query *old, const Query *wanted, bool marks,
							  const char *view_name);

/*
 * How the state that one plan keeps becomes that of another, whose query has more
 * columns.  Of one input.
 */
typedef struct CqConversion
{
	const CqPlan *from;
	const CqPlan *to;
	bool same;	 /* what is saved stays as it is */
	int *origin; /* AGGREGATE: by aggregate of the new plan, which one of the old; -1 = none */
	int missed;	 /* the one that counts what was missed by the new ones; -1 = none does */
} CqConversion;

/* By input, as many as the new plan has; error with a hint if it is not possible. */
extern CqConversion *cq_extend_state(const CqPlan *from, const CqPlan *to, const char *view_name);

/* An output expression without the mark that stands for what it may miss, and the mark's number. */
extern Node *cq_extend_unmarked(Node *expr, int *number);

/* Of the aggregate that counts what was missed since an alteration; 0 = it is another one. */
extern int cq_extend_mark_number(Node *expr);

/* Error: columns cannot be added; detail is a sentence that says why. */
extern void cq_extend_refuse(const char *view_name, const char *detail) CQ_NORETURN;
