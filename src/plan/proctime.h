/*
 * proctime.h
 *	  pipeline.proctime() in a continuous view's query.
 */
#pragma once

#include "postgres.h"

#include "plan/path.h"
#include "plan/plan.h"

/* Is it a call of the function? */
extern bool cq_is_proctime(const Node *expr);

/* Refuse a query over several inputs that has windows of it, or calls it above them. */
extern void cq_proctime_check_several(const CqPlan *plan, const char *view_name);

/* Refuse a query that calls it where there is no event, or not one by one. */
extern void cq_proctime_check(const CqPath *path, const CqPlan *plan);
