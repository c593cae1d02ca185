/*
 * family.h
 *	  Streams that are partitions or children of other tables, or have children.
 */
#pragma once

#include "postgres.h"

#include "nodes/pg_list.h"

/*
 * OIDs of the streams among a relation and all that inherit from it: what is
 * altered of the relation is altered of them, too.  Any relation may be given.
 */
extern List *cq_family_streams(Oid relid);

/*
 * A relation came under a parent in this transaction: error if a continuous view
 * cannot be computed any more because a stream is among its relatives.
 */
extern void cq_family_check(Oid child);
