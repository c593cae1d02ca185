/*
 * numeric_sum.h
 *	  Sums of numeric from which values can be taken back.
 */
#pragma once

#include "postgres.h"

typedef enum CqNumericKind
{
	CQ_NUMERIC_NONE,
	CQ_NUMERIC_SUM,
	CQ_NUMERIC_AVG
} CqNumericKind;

/* Is this aggregate kept in this way, where values can be taken back? */
extern CqNumericKind cq_numeric_kind(Oid aggregate);

/*
 * A state is a bytea, or NULL for no values.  change: one with a value more, or with
 * one less that was taken before; *isnull is that of the old state, and of the new
 * one.  Both allocate in the current memory context.
 */
extern Datum cq_numeric_change(Datum state, bool *isnull, Datum value, bool takes_back);
extern Datum cq_numeric_finish(CqNumericKind kind, Datum state, bool *isnull);
