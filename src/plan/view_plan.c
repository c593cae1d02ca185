/*
 * view_plan.c
 *	  The plan of a continuous view that is in the catalog.
 */
#include "postgres.h"

#include "utils/lsyscache.h"

#include "catalog/feeds.h"
#include "plan/view_plan.h"

CqPlan *
cq_view_plan(const CqView *view, bool divided)
{
	return cq_plan_query(cq_plan_stored_query(view->query),
						 view->options.emit,
						 cq_view_options_corrected_by(&view->options),
						 divided,
						 cq_feeds_of_view(view->id),
						 get_rel_name(view->view));
}
