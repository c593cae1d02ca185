/*
 * stage_plan.h
 *	  Making a stage query's plan rewindable, and finding out what it does to
 *	  the order of events.
 */
#pragma once

#include "postgres.h"

#include "nodes/execnodes.h"

#include "plan/prepared.h"

/* Fill in what stage.c needs to know about the plan in prepared->stmt; changes the plan. */
extern void cq_stage_plan_mark(CqPrepared *prepared);

/*
 * Would a hash join of the plan read a table again for each batch, because its
 * hash table cannot be kept?
 */
extern bool cq_stage_plan_rereads(CqPrepared *prepared);

/* The executor's state of the scan of the stream, NULL if it is not below this node. */
extern PlanState *cq_stage_plan_scan(PlanState *node, int rescan_param);

/* Has a hash join above the scan of the stream spilled to disk, so that rows are out of order? */
extern bool cq_stage_plan_spilled(PlanState *node, int rescan_param);
