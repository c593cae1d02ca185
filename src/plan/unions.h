/*
 * unions.h
 *	  UNION ALL of streams, taken apart into its branches.
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"

/*
 * If all that a normalised query reads of streams comes out of one UNION ALL, the
 * query with each of its branches in its place, in their order; NIL otherwise, or
 * where a branch does more than to filter and to join a stream.  *sort_dropped:
 * the union had an ORDER BY of its own.
 */
extern List *cq_union_branches(const Query *tree, bool *sort_dropped);
