/*
 * output.h
 *	  Rows into a view's result table and its late table.
 */
#pragma once

#include "postgres.h"

#include "executor/tuptable.h"
#include "storage/itemptr.h"
#include "utils/rel.h"

/*
 * Hidden columns of a result table whose rows change, the last ones: the group's or
 * the row's number, and before it where windows are replaced the window.
 */
#define CQ_RESULT_GID	 "_gid"
#define CQ_RESULT_WINDOW "_window"

typedef struct CqOutput CqOutput;

/* Open for one transaction; the relation must be locked RowExclusive. */
extern CqOutput *cq_output_begin(Relation relation);

/*
 * The same of a result table.  Its columns are c1 .. cn and the hidden ones behind them,
 * wherever they stand in the table.
 */
extern CqOutput *cq_output_begin_result(Relation relation);

/* Where those columns stand, from 0; NULL if they are in order. */
extern AttrNumber *cq_result_places(TupleDesc desc);

/* Queue one row (the relation's natts); values are copied. */
extern void cq_output_insert(CqOutput *output, Datum *values, bool *nulls);

/*
 * Insert or update the row of a group, found by its hidden _gid, which is the
 * result table's last column.  values are those of the other columns.  *tid is
 * where the row was last known to be (invalid = unknown), and is updated.
 */
extern void cq_output_upsert(CqOutput *output, int64 gid, bool is_new, ItemPointer tid,
							 Datum *values, bool *nulls);

/*
 * The columns of such a group's row as it was when the transaction began, until the
 * next call; error if it is not there.
 */
extern void cq_output_row(CqOutput *output, int64 gid, ItemPointer tid, Datum **values,
						  bool **nulls);

/* Delete the row of a group, tid as for upsert(); or the row at a place. */
extern void cq_output_delete(CqOutput *output, int64 gid, ItemPointer tid);
extern void cq_output_delete_at(CqOutput *output, ItemPointer tid);

/* How many rows the table has more than when it was opened, queued ones included. */
extern int64 cq_output_growth(const CqOutput *output);

/* The table that it writes to, and where in that the columns stand (see above). */
extern Relation cq_output_relation(const CqOutput *output);
extern const AttrNumber *cq_output_places(const CqOutput *output);

/* Write what is queued and close; returns the number of rows written. */
extern int64 cq_output_end(CqOutput *output);
