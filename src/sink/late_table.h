/*
 * late_table.h
 *	  What the columns of a view's table of late rows are.
 */
#pragma once

#include "postgres.h"

#include "access/tupdesc.h"

#include "plan/plan.h"

typedef struct CqLateColumn
{
	const char *name;
	Oid type;
	int32 typmod;
	Oid collation;
} CqLateColumn;

/*
 * Columns for what the view reads of its streams; where they are named and typed
 * alike, one for all of them.  Of several streams there is one more, which says
 * whose event a row is.  CQ_LATE_COLUMNS about the lateness follow.
 */
typedef struct CqLateLayout
{
	int ncolumns;
	CqLateColumn *columns;
	int nstreams;
	int **places; /* by stream and attribute number - 1: from 0, -1 = is not read */
} CqLateLayout;

/* late_windows, arrived_at, watermark, partition, offset; which of them, from 0, is arrived_at. */
#define CQ_LATE_COLUMNS	   5
#define CQ_LATE_ARRIVED_AT 1

/* In the current memory context; the streams must be there. */
extern CqLateLayout *cq_late_layout(const CqPlan *plan);

/* Does a table have these columns? */
extern bool cq_late_layout_fits(const CqLateLayout *layout, TupleDesc desc);
