/*
 * direct.h
 *	  SELECT from a Kafka stream outside of continuous views: what its topic holds
 *	  now.
 */
#pragma once

#include "postgres.h"

#include "commands/explain.h"
#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"

/* Planning */
extern void cq_direct_size(PlannerInfo *root, RelOptInfo *rel, Oid relid);
extern void cq_direct_paths(PlannerInfo *root, RelOptInfo *rel);
extern ForeignScan *cq_direct_plan(PlannerInfo *root, RelOptInfo *rel, List *tlist, List *clauses,
								   Plan *outer_plan);

/* Execution.  Nothing is connected before the first row is asked for. */
typedef struct CqDirectRead CqDirectRead;

extern CqDirectRead *cq_direct_begin(ForeignScanState *node);
extern void cq_direct_next(CqDirectRead *read,
						   TupleTableSlot *slot); /* leaves it empty at the end */
extern void cq_direct_restart(CqDirectRead *read);
extern void cq_direct_end(CqDirectRead *read);

/* read: NULL if the plan is only shown. */
extern void cq_direct_explain(ForeignScanState *node, CqDirectRead *read, ExplainState *es);

/* What a plan has in fdw_private: numbers of the columns to decode; NIL = all. */
#define CQ_DIRECT_COLUMNS(plan) ((plan)->fdw_private)
