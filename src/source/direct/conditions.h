/*
 * conditions.h
 *	  What the conditions of a query say about where in a topic its records are.
 */
#pragma once

#include "postgres.h"

#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"

#include "source/kafka/read.h"
#include "source/stream.h"

typedef struct CqConditions CqConditions;

/*
 * The part of a condition that says something, in terms of the stream's metadata
 * columns and of what does not change during a scan; NULL if there is none.  What
 * fulfils the condition fulfils the part.  varno: the stream's place among the
 * query's relations.
 */
extern Expr *cq_condition_reduce(const CqStream *stream, Index varno, Expr *condition);

/* Of all records, the share that such parts let pass; a guess. */
extern double cq_condition_share(const CqStream *stream, Index varno, List *parts, double records);

/* Prepare parts, all of which must hold, for evaluation. */
extern CqConditions *cq_conditions_prepare(const CqStream *stream, Index varno, List *parts,
										   PlanState *parent);

/*
 * Where the records are, by what parameters are now.  Allocated in the current
 * memory context.
 */
extern CqKafkaSlice *cq_conditions_evaluate(CqConditions *conditions, ExprContext *econtext,
											int *nslices);
