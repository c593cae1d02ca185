/*
 * group_table.c
 *	  The groups of a pane, by the hash of their key.
 */
#include "postgres.h"

#include "state/group_table.h"

#define FIRST_SLOTS 32
#define MOST_SLOTS	(1U << 30)

bool
cq_group_table_init(CqGroupTable *table, CqArena *arena)
{
	memset(table, 0, sizeof(CqGroupTable));
	cq_vector_init(&table->slots, arena, sizeof(CqGroup *), CQ_TABLE_PAGE_SHIFT);
	if (!cq_vector_reserve(&table->slots, FIRST_SLOTS))
		return false;
	table->nslots = FIRST_SLOTS;
	table->mask = FIRST_SLOTS - 1;
	return true;
}

void
cq_group_table_split(CqGroupTable *table)
{
	uint32 added = table->nslots;
	CqGroup **link;
	CqGroup **target;

	if (added >= MOST_SLOTS || !cq_vector_reserve(&table->slots, added + 1))
		return;
	table->nslots = added + 1;
	if (added > table->mask)
		table->mask = table->mask * 2 + 1;
	link = cq_group_table_at(table, added & (table->mask >> 1));
	target = cq_group_table_at(table, added);
	while (*link)
	{
		CqGroup *group = *link;

		if ((group->hash & table->mask) == added)
		{
			*link = group->next;
			group->next = *target;
			*target = group;
		}
		else
			link = &group->next;
	}
}

void
cq_group_table_remove(CqGroupTable *table, CqGroup *group)
{
	CqGroup **link = cq_group_table_chain(table, group->hash);

	while (*link != group)
		link = &(*link)->next;
	*link = group->next;
	table->ngroups--;
}

void
cq_group_scan_begin(CqGroupScan *scan, const CqGroupTable *table, uint32 prefix, int bits)
{
	scan->table = table;
	scan->prefix = prefix;
	scan->mask = bits >= 32 ? PG_UINT32_MAX : (1U << bits) - 1;
	if (scan->mask > table->mask >> 1)
	{
		/* at least as many bits as tell slots apart: all are in one */
		scan->slot = cq_group_table_slot(table, prefix);
		scan->step = 0;
	}
	else
	{
		scan->slot = prefix;
		scan->step = scan->mask + 1;
	}
	scan->next = *cq_group_table_at(table, scan->slot);
}

CqGroup *
cq_group_scan_next(CqGroupScan *scan)
{
	for (;;)
	{
		CqGroup *group = scan->next;

		if (group)
		{
			scan->next = group->next;
			if ((group->hash & scan->mask) == scan->prefix)
				return group;
			continue;
		}
		if (scan->step == 0 || scan->slot + scan->step >= scan->table->nslots)
			return NULL;
		scan->slot += scan->step;
		scan->next = *cq_group_table_at(scan->table, scan->slot);
	}
}
