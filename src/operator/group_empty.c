/*
 * group_empty.c
 *	  Groups that have lost all their rows.
 *
 * Where rows are taken back (a view that reads another one whose rows change), a group
 * may end up without any.  It has no row in the result table then, but its entry stays,
 * and is saved as others are: the last version of an entry counts (C1), and older
 * ones may be in chunks that are there for the sake of other groups.  If the group
 * comes back it is the same one.
 *
 * Keys that come and go for ever, as in GROUP BY total, would leave ever more of them.
 * So when they may be more than half of a pane's groups, all others are written anew
 * and all chunks that there were are dropped: nothing is left that has to be told.
 *
 * Where groups are in buckets, too, that would be too much to write.  But an entry that
 * is in a bucket's chunk alone, of which the log has nothing older, is the only version
 * there is; so when the bucket is written again it is left out if the group is empty
 * (bucket.c).
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "operator/shape.h"

#define EMPTIED_MINIMUM 1000

static void group_drop(CqOperator *operator, CqPane * pane, CqGroup *group);
static void group_write(CqOperator *operator, CqPane * pane, CqGroup *group);

void
cq_groups_drop_empty(CqOperator *operator, CqPane * pane)
{
	CqGroupScan scan;
	CqGroup *group;

	if (pane->buckets ||
		pane->behind || operator->emptied<EMPTIED_MINIMUM || operator->emptied * 2<pane->ngroups)
		return;
	Assert(pane->touched == NULL && pane->gone == NULL);
	cq_chunklog_flush(operator->log);
	cq_chunklog_drop(operator->log, &pane->chunks);
	cq_group_scan_begin(&scan, &pane->groups, 0, 0);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (cq_group_is_empty(operator, group))
			group_drop(operator, pane, group);
		else
			group_write(operator, pane, group);
	}
	if (!operator->aggregates->flat)
		cq_groups_renew_memory(operator, pane);
	operator->emptied = 0;
}

/* A save is under way: an abort would mean reading the chunks again. */
static void
group_drop(CqOperator *operator, CqPane * pane, CqGroup *group)
{
	Assert(!operator->state->current);
	cq_group_table_remove(&pane->groups, group);
	cq_arena_free(&pane->arena, group, cq_group_size(&operator->kinds[0].layout, group));
	pane->ngroups--;
	operator->state->ngroups--;
}

static void
group_write(CqOperator *operator, CqPane * pane, CqGroup *group)
{
	resetStringInfo(&operator->bytes);
	cq_group_put(operator, pane, group, &operator->bytes);
	group->chunk = cq_chunklog_append(operator->log,
									  &pane->chunks,
									  cq_pane_number(operator, pane),
									  group->hash,
									  operator->bytes.data,
									  operator->bytes.len);
	MemoryContextReset(operator->scratch);
}
