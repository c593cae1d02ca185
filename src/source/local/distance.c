/*
 * distance.c
 *	  How many rows of a local stream lie between two positions.
 *
 * All transactions that "to" has read have ended, so any later snapshot sees
 * their rows.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "source/local/distance.h"
#include "source/local/merge.h"

static void finish_difference(CqLocalPosition *position);
static int64 count_rows(CqLocalMerge *merge, const CqLocalPosition *position, TimestampTz since);

int64
cq_local_rows_between(Oid relid, const char *from, const char *to, TimestampTz since)
{
	CqLocalPosition at;
	CqLocalPosition end;
	CqXidSnapshot *last;
	CqLocalLayout layout;
	CqLocalMerge *merge;
	int64 rows = 0;

	cq_local_position_parse(from, &at);
	cq_local_position_parse(to, &end);
	last = end.reading ? &end.new : &end.old;
	cq_local_layout_load(relid, &layout);
	merge = cq_local_merge_open(&layout, GetActiveSnapshot());
	if (at.reading)
	{
		rows += count_rows(merge, &at, since);
		finish_difference(&at);
	}
	while (at.era < end.era)
	{
		cq_xid_snapshot_everything(&at.new);
		rows += count_rows(merge, &at, since);
		finish_difference(&at);
	}
	if (at.era > end.era || !cq_xid_snapshot_within(&at.old, last))
		rows = -1;
	else
	{
		at.new = *last;
		rows += count_rows(merge, &at, since);
		if (end.reading)
			rows -= count_rows(merge, &end, since);
	}
	cq_local_merge_close(merge);
	return Max(rows, -1);
}

/* See local_source.c. */
static void
finish_difference(CqLocalPosition *position)
{
	position->old = position->new;
	if (position->new.xmax == PG_UINT64_MAX)
	{
		position->era++;
		cq_xid_snapshot_nothing(&position->old);
	}
	position->reading = false;
	position->xid = 0;
	position->seq = 0;
}

/* What is left of the difference between old and new. */
static int64
count_rows(CqLocalMerge *merge, const CqLocalPosition *position, TimestampTz since)
{
	CqLocalPosition difference = *position;
	CqXidRange *ranges;
	CqLocalRow row;
	int64 rows = 0;
	int nranges;
	int i;

	difference.reading = true;
	nranges = cq_local_position_ranges(&difference, &ranges);
	for (i = 0; i < nranges; i++)
	{
		cq_local_merge_range(merge, position->era, &ranges[i]);
		while (cq_local_merge_next(merge, &row))
		{
			bool isnull;
			Datum inserted_at =
				heap_getattr(row.tuple, CQ_LOCAL_INSERTED_AT, RelationGetDescr(row.table), &isnull);

			CHECK_FOR_INTERRUPTS();
			rows += DatumGetTimestampTz(inserted_at) >= since;
		}
	}
	pfree(ranges);
	return rows;
}
