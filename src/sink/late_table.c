/*
 * late_table.c
 *	  What the columns of a view's table of late rows are.
 *
 * A view that joins streams has one table for the late events of all of them:
 * one place to look at, and one name to choose.  Columns of two streams that are
 * named alike but typed differently are told apart by the second stream's name.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "nodes/bitmapset.h"

#include "sink/late_table.h"
#include "source/stream.h"

static void arrange(CqLateLayout *layout, List *places);
static int column_number(CqLateLayout *layout, const CqStream *stream,
						 const CqStreamColumn *column);
static const CqLateColumn *column_named(const CqLateLayout *layout, const char *name);
static const char *free_name(const CqLateLayout *layout, const char *name);
static int column_add(CqLateLayout *layout, const CqLateColumn *column);

CqLateLayout *
cq_late_layout(const CqPlan *plan, List *places)
{
	CqLateLayout *layout = palloc0(sizeof(CqLateLayout));
	int i;

	layout->nstreams = plan->nstreams;
	layout->nattributes = palloc(sizeof(int) * plan->nstreams);
	layout->numbers = palloc(sizeof(int *) * plan->nstreams);
	for (i = 0; i < plan->nstreams; i++)
	{
		const CqStream *stream = cq_stream_load(plan->streams[i].relid);
		int column;

		layout->nattributes[i] = stream->ncolumns;
		layout->numbers[i] = palloc(sizeof(int) * Max(stream->ncolumns, 1));
		for (column = 0; column < stream->ncolumns; column++)
			layout->numbers[i][column] =
				bms_is_member(column + 1, plan->streams[i].columns)
					? column_number(layout, stream, &stream->columns[column])
					: -1;
	}
	if (plan->nstreams > 1)
	{
		CqLateColumn whose = {free_name(layout, "stream"), REGCLASSOID, -1, InvalidOid};

		layout->whose = column_add(layout, &whose);
	}
	arrange(layout, places);
	return layout;
}

/* Columns that were added later stand behind all others. */
static void
arrange(CqLateLayout *layout, List *places)
{
	Bitmapset *taken = NULL;
	int place = 0;
	int i;

	layout->column_places = palloc(sizeof(int) * Max(layout->ncolumns, 1));
	for (i = 0; i < layout->ncolumns; i++)
	{
		layout->column_places[i] = i < list_length(places) ? list_nth_int(places, i) : i;
		taken = bms_add_member(taken, layout->column_places[i]);
	}
	for (i = 0; i < CQ_LATE_COLUMNS; i++, place++)
	{
		while (bms_is_member(place, taken))
			place++;
		layout->ours[i] = place;
	}
}

static int
column_number(CqLateLayout *layout, const CqStream *stream, const CqStreamColumn *column)
{
	CqLateColumn wanted = {column->name, column->type, column->typmod, column->collation};
	const CqLateColumn *same = column_named(layout, column->name);

	if (same != NULL && same->type == wanted.type && same->typmod == wanted.typmod &&
		same->collation == wanted.collation)
		return (int) (same - layout->columns);
	if (same != NULL)
		wanted.name = free_name(layout, makeObjectName(stream->name, column->name, NULL));
	return column_add(layout, &wanted);
}

static const CqLateColumn *
column_named(const CqLateLayout *layout, const char *name)
{
	int i;

	for (i = 0; i < layout->ncolumns; i++)
		if (strcmp(layout->columns[i].name, name) == 0)
			return &layout->columns[i];
	return NULL;
}

static const char *
free_name(const CqLateLayout *layout, const char *name)
{
	while (column_named(layout, name) != NULL)
		name = makeObjectName("_", name, NULL);
	return name;
}

static int
column_add(CqLateLayout *layout, const CqLateColumn *column)
{
	Size size = sizeof(CqLateColumn) * (layout->ncolumns + 1);

	layout->columns = layout->columns ? repalloc(layout->columns, size) : palloc(size);
	layout->columns[layout->ncolumns] = *column;
	return layout->ncolumns++;
}

bool
cq_late_layout_fits(const CqLateLayout *layout, TupleDesc desc)
{
	int i;

	if (desc->natts != layout->ncolumns + CQ_LATE_COLUMNS)
		return false;
	for (i = 0; i < layout->ncolumns; i++)
	{
		int place = layout->column_places[i];

		if (place >= desc->natts || TupleDescAttr(desc, place)->atttypid != layout->columns[i].type)
			return false;
	}
	return true;
}
