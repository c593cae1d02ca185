/*
 * view_plan.h
 *	  The plan of a continuous view that is in the catalog.
 */
#pragma once

#include "postgres.h"

#include "catalog/rows.h"
#include "plan/plan.h"

/* As the current user: the view's owner, under its settings.  divided: see cq_plan_query(). */
extern CqPlan *cq_view_plan(const CqView *view, bool divided);
