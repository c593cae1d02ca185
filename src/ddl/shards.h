/*
 * shards.h
 *	  Giving a view several workers, and another number of them.
 */
#pragma once

#include "postgres.h"

#include "catalog/rows.h"
#include "monitor/slots.h"
#include "plan/plan.h"

/* Why a view that has one worker again is not yet like others, see runtime/retired.c. */
#define CQ_SHARDS_REMAIN "It had several workers, and one is taking over what the others kept."
#define CQ_SHARDS_REMAIN_HINT                                                                      \
	"Try again in a moment; if its rows are kept until a window closes, when none is open."

/* Error, with a hint, if a view with this plan cannot have so many workers. */
extern void cq_shards_check(const CqPlan *plan, int workers, const char *view_name);

/* Make all shards of a new view but the first. */
extern void cq_shards_create(const CqView *view, int workers);

/*
 * Have a view read by another number of workers.  Those that run lose their
 * positions; what takes effect at commit is queued.
 */
extern void cq_shards_alter(const CqView *view, int workers);

/* cq_slots_at_commit() for all positions of a view. */
extern void cq_shards_at_commit(CqSlotAction action, int64 view);
