/*
 * feeds.h
 *	  Making one continuous view readable by another.
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "catalog/rows.h"
#include "plan/plan.h"

/*
 * If a query reads no stream but a continuous view, make the feed through which
 * the view number "id", called view_name, will read it.  Returns the list of
 * feeds, of CqFeed *.  What is read stands still until the transaction ends.
 */
extern List *cq_feeds_create(const Query *query, int64 id, const char *view_name);

/*
 * Write into the feeds what the views that they come from hold now; history = false:
 * none of it.  plan is the reader's, which settles what changing rows become.
 */
extern void cq_feeds_fill(const List *feeds, const CqPlan *plan, bool history,
						  const char *view_name);

/* Does the view, which may have no more than one worker then, have readers?  Error if it has. */
extern void cq_feeds_refuse_workers(const CqView *view, int workers);
