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
 * whose event a row is.  CQ_LATE_COLUMNS about the lateness follow, and columns that the
 * view reads since it was altered.
 */
typedef enum CqLateOwn
{
	CQ_LATE_WINDOWS,
	CQ_LATE_ARRIVED_AT,
	CQ_LATE_WATERMARK,
	CQ_LATE_PARTITION,
	CQ_LATE_OFFSET,
	CQ_LATE_COLUMNS
} CqLateOwn;

typedef struct CqLateLayout
{
	int ncolumns;
	CqLateColumn *columns;
	int *column_places; /* where in the table they stand, from 0 */
	int nstreams;
	int *nattributes;		   /* by stream: attributes, dropped ones included */
	int **numbers;			   /* by stream and attribute number - 1: from 0, -1 = is not read */
	int whose;				   /* of several streams: number of the column that says which */
	int ours[CQ_LATE_COLUMNS]; /* where those about the lateness stand */
} CqLateLayout;

/* Where the value of a stream's column, by attribute number - 1, stands; -1 = nowhere. */
static inline int
cq_late_place(const CqLateLayout *layout, int stream, int column)
{
	int number = layout->numbers[stream][column];

	return number < 0 ? -1 : layout->column_places[number];
}

/*
 * In the current memory context; the streams must be there.  places: of a view's table
 * that got columns later, where they stand (CqView.late_places); NIL = in order.
 */
extern CqLateLayout *cq_late_layout(const CqPlan *plan, List *places);

/* Does a table have these columns? */
extern bool cq_late_layout_fits(const CqLateLayout *layout, TupleDesc desc);
