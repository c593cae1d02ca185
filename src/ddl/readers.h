/*
 * readers.h
 *	  Which continuous views read an object, and whether they still could be made.
 */
#pragma once

#include "postgres.h"

#include "nodes/pg_list.h"

#include "catalog/rows.h"

/*
 * OIDs of the continuous views whose query names the object, or with sub_id one
 * column of it; with through_views also by way of ordinary views.  Views that
 * were restored and not adopted yet are left out.
 */
extern List *cq_readers(Oid class_id, Oid object_id, int sub_id, bool through_views);

/* OIDs of the continuous views that read a column of the type, or of arrays of it, or show one. */
extern List *cq_readers_of_type(Oid type);

/*
 * Plan the views again, with what was changed in this transaction: an error says
 * what they cannot use.  Their workers would meet it, and wait for its end.
 */
extern void cq_readers_check(List *views);

/* Is this a continuous view that is at home here, and not merely restored from a dump? */
extern bool cq_readers_find(Oid relid, CqView *view);
