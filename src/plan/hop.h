/*
 * hop.h
 *	  pipeline.hop(), cumulate(), session() and count_window() in a continuous
 *	  view's query: recognised, not executed.
 */
#pragma once

#include "postgres.h"

#include "nodes/primnodes.h"

#include "plan/path.h"
#include "plan/plan.h"

/* Is it a call of one of them? */
extern bool cq_is_hop(const Node *expr);

/* Are windows of this kind written as such a call? */
extern bool cq_hop_is_kind(CqWindowKind kind);

/*
 * The call, if a range table entry is one that gives every row beside it one value,
 * or all of its windows; NULL if it is anything else.
 */
extern FuncExpr *cq_call_in_from(const Query *query, int rti);

/*
 * Is this expression of the split level such a window, or its start or end?
 * *role says which.  plan->window must be set.
 */
extern bool cq_hop_is_window(const CqPath *path, const CqPlan *plan, Node *expr, CqKeyRole *role);

/* Is there such a window anywhere in an expression of the split level? */
extern bool cq_hop_is_in(const CqPath *path, const CqPlan *plan, Node *expr);

/*
 * Refuse a query with such a window if the levels up to its split level pair
 * windows with something else.
 */
extern void cq_hop_check_step(const CqPath *path);

/*
 * Have a stage query not compute the windows, which the operator finds by itself, nor
 * tumbling ones in FROM; to be called when its outputs are complete.
 */
extern void cq_hop_strip(const CqPath *path, const CqPlan *plan, Query *stage, int from);

/* Refuse a query without session or count windows if it calls session() or count_window(). */
extern void cq_hop_refuse_ungrouped(const CqPath *path);

/* Refuse a close query over several inputs if it makes windows: it would make all of each row. */
extern void cq_hop_refuse_above(Query *close, const char *view_name);

/* Refuse the query if anything but the operator would need the windows, or need them twice. */
extern void cq_hop_check_rest(const CqPath *path, const CqPlan *plan);
