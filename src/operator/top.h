/*
 * top.h
 *	  Rows of a window that cannot be in the answer because enough others come
 *	  before them.
 */
#pragma once

#include "postgres.h"

#include "plan/plan.h"

/* How rows are ranked; set up once per operator. */
typedef struct CqTopRanker CqTopRanker;

/* The best rows seen in one pane. */
typedef struct CqTopSeen CqTopSeen;

extern CqTopRanker *cq_top_create(const CqTop *top, MemoryContext context);

/* What was seen in a pane; all memory is in a child of the given context. */
extern CqTopSeen *cq_top_seen_create(MemoryContext context);
extern void cq_top_seen_free(CqTopSeen *seen);

/*
 * May this stage row be among the first?  If so it counts for later ones.  Called
 * with a short-lived current memory context.
 */
extern bool cq_top_admits(CqTopRanker *ranker, CqTopSeen *seen, const Datum *values,
						  const bool *nulls);
