/*
 * whole.h
 *	  Does what a view has saved belong together?
 */
#pragma once

#include "postgres.h"

#include "catalog/rows.h"

/* Of a position's chunk tables as they are now, for whoever rewrites them and its row. */
extern uint64 cq_position_digest(const CqView *view, int64 position);

/* Have the chunk tables of one of the view's positions the state that its row says? */
extern bool cq_position_has_state(const CqView *view, int64 position);

/*
 * What of a view is missing, or of another time than its positions, as a phrase for
 * users; NULL = nothing, or a worker changes it just now.
 */
extern char *cq_view_torn(const CqView *view);

/*
 * Let the view's positions have the state and the rows that there are.  False if it
 * has no position.
 */
extern bool cq_view_take_as_is(const CqView *view);
