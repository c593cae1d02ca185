/*
 * upgraded.c
 *	  What pg_upgrade does not keep.
 *
 * It moves tables as they are, ours with the database's identity among them, so that
 * views go on by themselves.  But the catalogs are restored from a dump, and that
 * does not know that the parts of a view or of a local stream belong to it: without
 * this they would survive it.  After a restore adopt() sees to it; here a probe does,
 * whenever the server starts, before any worker does.  Mostly there is nothing to do,
 * which takes a look at one dependency for each.
 */
#include "postgres.h"

#include "access/xact.h"

#include "catalog/rows.h"
#include "ddl/parts.h"
#include "ddl/upgraded.h"
#include "source/local/local.h"

static List *our_views(void);

void
cq_upgraded_settle(void)
{
	bool upgraded = false;
	ListCell *lc;

	foreach (lc, our_views())
	{
		CqView view;

		if (!cq_view_load(*(int64 *) lfirst(lc), &view) ||
			cq_parts_view_of(view.result) == view.view)
			continue;
		cq_parts_record(&view);
		CommandCounterIncrement();
		upgraded = true;
	}
	if (upgraded)
		foreach (lc, cq_local_streams())
			cq_local_stream_settle(lfirst_oid(lc));
}

/* Not those that were restored from elsewhere. */
static List *
our_views(void)
{
	List *views = NIL;
	ListCell *lc;

	foreach (lc, cq_view_ids())
	{
		CqTask task;

		if (cq_task_load(*(int64 *) lfirst(lc), &task) && cq_task_is_ours(&task))
			views = lappend(views, lfirst(lc));
	}
	return views;
}
