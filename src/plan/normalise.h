/*
 * normalise.h
 *	  Bring a view's query into the form that the rest of the planner reads:
 *	  views of streams expanded, WITH queries put where they are used.
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "utils/rel.h"

/* A view that was replaced by what it reads: the right to read it is still to be checked. */
typedef struct CqExpandedView
{
	RangeTblEntry *rte; /* as it stood in the query */
	Node *permissions;	/* its permission entry, where they are kept apart */
} CqExpandedView;

/*
 * A normalised copy of a query (parsed and analysed, not rewritten).  Ordinary
 * views that read a stream become sub-queries and are listed in *views (of
 * CqExpandedView *); so do those that read a feed's view, which itself becomes
 * the feed and is listed, too.  Other views are left to the rewriter.
 */
extern Query *cq_normalise(const Query *query, const List *feeds, List **views);

/* Does the tree read a stream, directly or through views? */
extern bool cq_reads_stream(Node *tree);

/* A copy of a view's query, without the range table entries that only its rule needs. */
extern Query *cq_view_definition(Relation view);
