/*
 * feeds.c
 *	  Rows of pipeline_data.feeds.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "catalog/feeds.h"
#include "catalog/rows.h"
#include "catalog/tables.h"

enum
{
	COL_RELATION = 1,
	COL_VIEW,
	COL_SOURCE,
	COL_TIME_COLUMN,
	COL_TIME_ROLE,
	COL_WINDOW_US,
	COL_GIVES,
	COL_COUNT = COL_GIVES
};

static List *feeds_where(AttrNumber column, int64 id);
static CqFeed *feed_from_row(Relation rel, HeapTuple row);
static int compare_relations(const ListCell *a, const ListCell *b);

static const char *const roles[] = {
	[CQ_TIME_NONE] = "none",
	[CQ_TIME_EVENT] = "time",
	[CQ_TIME_RANGE] = "range",
	[CQ_TIME_START] = "start",
	[CQ_TIME_END] = "end",
};

static const char *const modes[] = {
	[CQ_FEED_ROWS] = "rows",
	[CQ_FEED_CHANGES] = "changes",
	[CQ_FEED_FINAL] = "final rows",
};

List *
cq_feeds_of_view(int64 view)
{
	return feeds_where(COL_VIEW, view);
}

List *
cq_feeds_of_source(int64 source)
{
	return feeds_where(COL_SOURCE, source);
}

static List *
feeds_where(AttrNumber column, int64 id)
{
	Relation rel = cq_table_open("feeds", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	List *feeds = NIL;
	HeapTuple row;
	bool isnull;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		if (DatumGetInt64(heap_getattr(row, column, RelationGetDescr(rel), &isnull)) == id)
			feeds = lappend(feeds, feed_from_row(rel, row));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	list_sort(feeds, compare_relations);
	return feeds;
}

CqFeed *
cq_feed_of_stream(Oid relation)
{
	Relation rel = cq_table_open("feeds", AccessShareLock);
	HeapTuple row = cq_table_find(rel, COL_RELATION, ObjectIdGetDatum(relation));
	CqFeed *feed = HeapTupleIsValid(row) ? feed_from_row(rel, row) : NULL;

	table_close(rel, AccessShareLock);
	return feed;
}

static CqFeed *
feed_from_row(Relation rel, HeapTuple row)
{
	CqFeed *feed = palloc0(sizeof(CqFeed));
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT];
	CqView source;
	int i;

	heap_deform_tuple(row, RelationGetDescr(rel), values, nulls);
	feed->relation = DatumGetObjectId(values[COL_RELATION - 1]);
	feed->view = DatumGetInt64(values[COL_VIEW - 1]);
	feed->source = DatumGetInt64(values[COL_SOURCE - 1]);
	if (cq_view_load(feed->source, &source))
		feed->source_view = source.view;
	for (i = 0; i < lengthof(modes); i++)
		if (strcmp(modes[i], TextDatumGetCString(values[COL_GIVES - 1])) == 0)
			feed->mode = (CqFeedMode) i;
	if (nulls[COL_TIME_COLUMN - 1])
		return feed;
	feed->time.column = (AttrNumber) DatumGetInt32(values[COL_TIME_COLUMN - 1]);
	for (i = 0; i < lengthof(roles); i++)
		if (strcmp(roles[i], TextDatumGetCString(values[COL_TIME_ROLE - 1])) == 0)
			feed->time.role = (CqTimeRole) i;
	if (!nulls[COL_WINDOW_US - 1])
		feed->time.window_us = DatumGetInt64(values[COL_WINDOW_US - 1]);
	return feed;
}

static int
compare_relations(const ListCell *a, const ListCell *b)
{
	const CqFeed *left = lfirst(a);
	const CqFeed *right = lfirst(b);

	return (left->relation > right->relation) - (left->relation < right->relation);
}

void
cq_feed_insert(const CqFeed *feed)
{
	Relation rel = cq_table_open("feeds", RowExclusiveLock);
	bool timed = feed->time.role != CQ_TIME_NONE;
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT] = {false};

	values[COL_RELATION - 1] = ObjectIdGetDatum(feed->relation);
	values[COL_VIEW - 1] = Int64GetDatum(feed->view);
	values[COL_SOURCE - 1] = Int64GetDatum(feed->source);
	values[COL_TIME_COLUMN - 1] = Int32GetDatum(feed->time.column);
	values[COL_TIME_ROLE - 1] = CStringGetTextDatum(roles[feed->time.role]);
	values[COL_WINDOW_US - 1] = Int64GetDatum(feed->time.window_us);
	values[COL_GIVES - 1] = CStringGetTextDatum(modes[feed->mode]);
	nulls[COL_TIME_COLUMN - 1] = nulls[COL_TIME_ROLE - 1] = !timed;
	nulls[COL_WINDOW_US - 1] = !timed || feed->time.window_us == 0;
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

void
cq_feed_set_mode(CqFeed *feed, CqFeedMode mode)
{
	Relation rel = cq_table_open("feeds", RowExclusiveLock);
	HeapTuple row = cq_table_find(rel, COL_RELATION, ObjectIdGetDatum(feed->relation));
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT] = {false};
	bool replace[COL_COUNT] = {false};

	if (!HeapTupleIsValid(row))
		elog(ERROR, "feed %u is not in the catalog", feed->relation);
	feed->mode = mode;
	values[COL_GIVES - 1] = CStringGetTextDatum(modes[mode]);
	replace[COL_GIVES - 1] = true;
	row = heap_modify_tuple(row, RelationGetDescr(rel), values, nulls, replace);
	CatalogTupleUpdate(rel, &row->t_self, row);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}
