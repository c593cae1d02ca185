/*
 * group_table.h
 *	  The groups of a pane, by the hash of their key.
 *
 * Linear hashing: there is one slot more after each insertion that would
 * otherwise make the chains longer than one on average, and only the slot that
 * it is split off is looked at.  So no insertion takes longer than another.  A
 * group's slot depends on the low bits of its hash; so all groups whose
 * hashes end in the same bits are found by looking at a few slots.
 */
#pragma once

#include "postgres.h"

#include "storage/itemptr.h"

#include "state/vector.h"

#define CQ_TABLE_PAGE_SHIFT 10

/*
 * The head of a group.  It is followed, at 8-byte boundaries, by a
 * CqGroupRow where there are result rows to be updated, the aggregates'
 * states, and the key.
 */
typedef struct CqGroup
{
	struct CqGroup *next; /* in its slot */
	uint32 hash;
	uint32 chunk;	 /* that has the version saved last; 0 = none; see also running.c */
	uint32 key_size; /* see CqKeyCodec.size */
	uint8 flags;
	uint8 kind; /* of entry; 0 = a group */
} CqGroup;

/* Where the parts of a kind of entry are. */
typedef struct CqGroupLayout
{
	uint32 states_offset;
	uint32 states_size;
	uint32 key_offset;
} CqGroupLayout;

static inline Size
cq_group_size(const CqGroupLayout *layout, const CqGroup *group)
{
	return layout->key_offset + (group->key_size & ~(uint32) 7);
}

#define CQ_GROUP_DIRTY	   0x01 /* in its pane's list of touched groups */
#define CQ_GROUP_NEW	   0x02 /* did not exist at the last commit */
#define CQ_GROUP_RECENT	   0x04 /* touched since the hand passed */
#define CQ_GROUP_IN_BUCKET 0x08 /* chunk is its bucket's and has it as it is in memory */
#define CQ_GROUP_SEEN	   0x10 /* mark of a verification */
#define CQ_GROUP_GONE	   0x20 /* will be freed when that is committed; see CqPane.gone */
#define CQ_GROUP_MERGED	   0x40 /* a session that took in one with a row, which goes away */

/* Where the group's row in the result table is. */
typedef struct CqGroupRow
{
	int64 gid;
	ItemPointerData tid;
	bool exists;
	bool behind; /* the group has changed since the row was written */
} CqGroupRow;

typedef struct CqGroupTable
{
	CqVector slots; /* of CqGroup *: chains */
	uint32 nslots;
	uint32 mask; /* the least 2^n - 1 that is not less than the last slot */
	int64 ngroups;
} CqGroupTable;

/* An empty table; false if memory is short. */
extern bool cq_group_table_init(CqGroupTable *table, CqArena *arena);

/* One slot more; does nothing when memory is short. */
extern void cq_group_table_split(CqGroupTable *table);

extern void cq_group_table_remove(CqGroupTable *table, CqGroup *group);

static inline CqGroup **
cq_group_table_at(const CqGroupTable *table, uint32 i)
{
	return &((CqGroup **) table->slots
				 .pages[i >> CQ_TABLE_PAGE_SHIFT])[i & ((1U << CQ_TABLE_PAGE_SHIFT) - 1)];
}

static inline uint32
cq_group_table_slot(const CqGroupTable *table, uint32 hash)
{
	uint32 i = hash & table->mask;

	return i < table->nslots ? i : i & (table->mask >> 1);
}

/* The chain that a group with this hash is in, or belongs into. */
static inline CqGroup **
cq_group_table_chain(const CqGroupTable *table, uint32 hash)
{
	return cq_group_table_at(table, cq_group_table_slot(table, hash));
}

/* Its chain must have been looked up before: it must not be there already. */
static inline void
cq_group_table_insert(CqGroupTable *table, CqGroup *group)
{
	CqGroup **chain;

	if (table->ngroups >= table->nslots)
		cq_group_table_split(table);
	chain = cq_group_table_chain(table, group->hash);
	group->next = *chain;
	*chain = group;
	table->ngroups++;
}

/* All groups, or those whose hashes end in given bits; may be removed as they come. */
typedef struct CqGroupScan
{
	const CqGroupTable *table;
	uint32 slot;
	uint32 step; /* 0 = one slot only */
	uint32 prefix;
	uint32 mask;
	CqGroup *next;
} CqGroupScan;

extern void cq_group_scan_begin(CqGroupScan *scan, const CqGroupTable *table, uint32 prefix,
								int bits);
extern CqGroup *cq_group_scan_next(CqGroupScan *scan);
