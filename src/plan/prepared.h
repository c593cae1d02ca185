/*
 * prepared.h
 *	  Plans of stage and close queries, and watching what they depend on.
 */
#pragma once

#include "postgres.h"

#include "lib/ilist.h"
#include "nodes/plannodes.h"

#include "plan/plan.h"
#include "plan/stage.h"

struct CqPrepared
{
	MemoryContext context; /* holds all of this */
	PlannedStmt *stmt;
	List *relations;   /* of Oid */
	List *inval_items; /* of PlanInvalItem * */
	bool stale;
	dlist_node node; /* among all of this process */
	bool linked;

	/* stage queries */
	Oid stream;
	bool has_joins;
	bool has_scan;			 /* the planner may find that there can be no rows at all */
	int rescan_param;		 /* stands for "another batch" among the plan's parameters */
	bool keeps_order;		 /* rows come in the order of events, unless a hash join spills */
	struct CqPrepared *drip; /* for a few events at a time; NULL = the same plan */

	/* close queries */
	int ninputs;
	TupleDesc *closed_descs;
	char **closed_names;
};

/* Rewrite a query (views, row security); scribbles on it. */
extern Query *cq_rewrite(Query *query);

/*
 * Plan a query that is part of a view's plan, with or without hash joins; a new
 * context below parent holds the result.
 */
extern CqPrepared *cq_prepared_create(const CqPlan *plan, const Query *query, bool hash_joins,
									  MemoryContext parent);

/*
 * Between these two calls the settings hold under which plans are made and
 * executed (work_mem).  Undone by an abort, too.
 */
extern int cq_prepared_settings_enter(void);
extern void cq_prepared_settings_leave(int nest_level);
