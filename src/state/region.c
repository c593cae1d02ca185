/*
 * region.c
 *	  The shared memory that operator state lives in: extents, and whose they are.
 *
 * The region is part of PostgreSQL's main shared memory, which is mapped at the
 * same address in all processes; so what is in it may point into it, and the
 * pointers mean the same to whichever worker comes next.  It is as large as
 * pipeline.state_memory says, for all views together, and never grows: the
 * memory of state is bounded by construction.
 *
 * It is an array of extents of 256 kB, each owned by one store (the state of
 * one view).  A store divides its extents into blocks of 4 kB times a power of
 * two, kept track of by a bitmap of pages per extent; larger pieces are runs
 * of whole extents.  An extent that has become empty is free for others at once.
 *
 * The registry says which stores there are.  A store outlives the worker that
 * made it; it is a cache of the view's chunk table, so one that nobody is
 * attached to is kept only until somebody else needs the memory.
 *
 * Shares.  A store may have what is left when every other attached store has
 * what it holds, or half of an even share of the region if that is more.  So a
 * view that comes late finds at least that much, once the others have given
 * back what they hold above their limit; they look at it after each checkpoint,
 * and when there is nothing to do, once a second.  A store that is being read from
 * disk cannot give anything up yet, and may have grown to what it is when there
 * were fewer: it may have all that is free, and shrinks with its first checkpoint.
 *
 * Invariants
 *	R1. An extent's owner changes under the lock alone.
 *	R2. The bitmap, the links and the count of pages of a store's extents are
 *		changed by the process attached to it alone.
 *	R3. All extents of a store are found by a scan for their owner: nothing
 *		that died in the middle of something can leak one.
 *
 * After a crash of any process PostgreSQL makes its shared memory anew, and the
 * region is empty.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "settings.h"
#include "state/region.h"

#define PAGES_PER_EXTENT (CQ_EXTENT_SIZE / CQ_PAGE_SIZE)
#define NO_EXTENT		 PG_UINT32_MAX

typedef struct Extent
{
	CqStoreNumber owner;
	uint32 previous; /* of the store's extents that have a free page */
	uint32 next;
	bool reserved; /* held for memory elsewhere */
	uint64 used;   /* a bit per page */
} Extent;

typedef struct Entry
{
	bool in_use;
	bool dropped; /* to be freed when its process lets go */
	bool loading;
	CqStoreKey key;
	pid_t pid; /* attached; 0 = none */
	void *root;
	uint64 detached_at; /* in order of letting go */
	uint32 nextents;	/* reserved ones included */
	uint32 nreserved;
	uint32 npages;	/* in use; the attached process's own */
	uint32 partial; /* first extent with a free page; likewise */
} Entry;

typedef struct CqRegion
{
	LWLock *lock;
	char *base; /* of the first extent */
	uint32 nextents;
	uint32 nfree;
	uint32 search; /* where the last free extent was found */
	uint32 nentries;
	uint64 detach_count;
	Entry *entries;
	Extent *extents;
} CqRegion;

static CqRegion *region = NULL;
static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

static void request_shmem(void);
static void startup_shmem(void);
static uint32 extents_wanted(void);
static Size head_size(void);
static Size region_size(void);
static Entry *entry_find(const CqStoreKey *key);
static Entry *entry_free(void);
static Entry *entry_oldest_idle(void);
static void entry_clear(Entry *entry);
static uint32 share_of_each(uint32 *attached);
static uint32 entry_limit(const Entry *entry);
static bool extents_make_free(uint32 n);
static uint32 extents_find(uint32 n);
static uint32 extents_take(Entry *entry, uint32 n);
static void extents_give_back(Entry *entry, uint32 first, uint32 n);
static void partial_link(Entry *entry, uint32 index);
static void partial_unlink(Entry *entry, uint32 index);
static bool leaves_enough(CqStoreNumber number, Size size, int keep);
static int run_of_pages(uint64 used, int order);

void
cq_region_init(void)
{
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

static uint32
extents_wanted(void)
{
	return (uint32) ((Size) cq_state_memory_kb * 1024 / CQ_EXTENT_SIZE);
}

/* Everything but the extents themselves. */
static Size
head_size(void)
{
	Size size = MAXALIGN(sizeof(CqRegion));

	/* dropped views may be with their workers for a moment while new ones come */
	size = add_size(size, MAXALIGN(mul_size(2 * cq_max_tasks, sizeof(Entry))));
	return add_size(size, MAXALIGN(mul_size(extents_wanted(), sizeof(Extent))));
}

static Size
region_size(void)
{
	/* extents begin at a page, so that blocks are aligned to their size up to that */
	return add_size(head_size() + CQ_PAGE_SIZE, mul_size(extents_wanted(), CQ_EXTENT_SIZE));
}

static void
request_shmem(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(region_size());
	RequestNamedLWLockTranche("pipeline_ext_state", 1);
}

/* The extents are not touched: memory that no state has used yet costs nothing. */
static void
startup_shmem(void)
{
	bool found;

	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	region = ShmemInitStruct("pipeline_ext state", region_size(), &found);
	if (!found)
	{
		char *place = (char *) region;
		uint32 i;

		memset(region, 0, head_size());
		region->lock = &(GetNamedLWLockTranche("pipeline_ext_state"))->lock;
		region->nextents = region->nfree = extents_wanted();
		region->nentries = 2 * cq_max_tasks;
		place += MAXALIGN(sizeof(CqRegion));
		region->entries = (Entry *) place;
		place += MAXALIGN(region->nentries * sizeof(Entry));
		region->extents = (Extent *) place;
		place += MAXALIGN(region->nextents * sizeof(Extent));
		region->base = (char *) TYPEALIGN(CQ_PAGE_SIZE, place);
		for (i = 0; i < region->nextents; i++)
			region->extents[i].owner = CQ_NO_STORE;
	}
	LWLockRelease(AddinShmemInitLock);
}

/* ------------------------------------------------------------------------
 * The registry
 * ------------------------------------------------------------------------
 */

CqStoreNumber
cq_region_attach(const CqStoreKey *key, void **root)
{
	Entry *entry;
	pid_t other = 0;

	LWLockAcquire(region->lock, LW_EXCLUSIVE);
	entry = entry_find(key);
	if (entry == NULL)
	{
		entry = entry_free();
		if (entry == NULL && (entry = entry_oldest_idle()) != NULL)
			entry_clear(entry);
		if (entry)
		{
			memset(entry, 0, sizeof(Entry));
			entry->in_use = true;
			entry->key = *key;
			entry->partial = NO_EXTENT;
		}
	}
	else if (entry->pid != 0 && entry->pid != MyProcPid)
		other = entry->pid;
	if (entry && other == 0)
	{
		entry->pid = MyProcPid;
		entry->loading = false;
		*root = entry->root;
	}
	LWLockRelease(region->lock);

	if (other != 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("operator state is in use by process %d", (int) other));
	if (entry == NULL)
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("no place is left for the state of another continuous view"),
				errhint("Increase \"pipeline.max_tasks\" and restart the server."));
	return (CqStoreNumber) (entry - region->entries);
}

static Entry *
entry_find(const CqStoreKey *key)
{
	uint32 i;

	Assert(LWLockHeldByMe(region->lock));
	for (i = 0; i < region->nentries; i++)
	{
		Entry *entry = &region->entries[i];

		if (entry->in_use && !entry->dropped && entry->key.database == key->database &&
			entry->key.view == key->view && entry->key.shard == key->shard)
			return entry;
	}
	return NULL;
}

static Entry *
entry_free(void)
{
	uint32 i;

	for (i = 0; i < region->nentries; i++)
		if (!region->entries[i].in_use)
			return &region->entries[i];
	return NULL;
}

/* The store that nobody has been attached to for longest; NULL if all are in use. */
static Entry *
entry_oldest_idle(void)
{
	Entry *oldest = NULL;
	uint32 i;

	Assert(LWLockHeldByMeInMode(region->lock, LW_EXCLUSIVE));
	for (i = 0; i < region->nentries; i++)
	{
		Entry *entry = &region->entries[i];

		if (entry->in_use && entry->pid == 0 &&
			(oldest == NULL || entry->detached_at < oldest->detached_at))
			oldest = entry;
	}
	return oldest;
}

void
cq_region_detach(CqStoreNumber number)
{
	Entry *entry = &region->entries[number];

	LWLockAcquire(region->lock, LW_EXCLUSIVE);
	if (entry->in_use && entry->pid == MyProcPid)
	{
		entry->pid = 0;
		entry->detached_at = ++region->detach_count;
		if (entry->dropped || entry->root == NULL)
			entry_clear(entry);
	}
	LWLockRelease(region->lock);
}

void
cq_region_set_root(CqStoreNumber number, void *root)
{
	Assert(region->entries[number].pid == MyProcPid);
	region->entries[number].root = root;
}

void
cq_region_clear(CqStoreNumber number)
{
	Entry *entry = &region->entries[number];
	Entry before;

	Assert(entry->pid == MyProcPid);
	LWLockAcquire(region->lock, LW_EXCLUSIVE);
	before = *entry;
	entry_clear(entry);
	entry->in_use = true;
	entry->dropped = before.dropped; /* others set it at any time */
	entry->key = before.key;
	entry->pid = before.pid;
	entry->partial = NO_EXTENT;
	LWLockRelease(region->lock);
}

/* Caller must hold the lock exclusively.  All extents go back; the entry is free (R3). */
static void
entry_clear(Entry *entry)
{
	CqStoreNumber number = (CqStoreNumber) (entry - region->entries);
	uint32 i;

	Assert(LWLockHeldByMeInMode(region->lock, LW_EXCLUSIVE));
	for (i = 0; i < region->nextents; i++)
		if (region->extents[i].owner == number)
		{
			region->extents[i].owner = CQ_NO_STORE;
			region->nfree++;
		}
	memset(entry, 0, sizeof(Entry));
}

void
cq_region_drop(Oid database, int64 view)
{
	uint32 i;

	if (region == NULL)
		return;
	LWLockAcquire(region->lock, LW_EXCLUSIVE);
	for (i = 0; i < region->nentries; i++)
	{
		Entry *entry = &region->entries[i];

		if (!entry->in_use || entry->key.database != database ||
			(view != 0 && entry->key.view != view))
			continue;
		entry->dropped = true;
		if (entry->pid == 0)
			entry_clear(entry);
	}
	LWLockRelease(region->lock);
}

/* ------------------------------------------------------------------------
 * Extents
 * ------------------------------------------------------------------------
 */

/* Half of an even share, and among how many.  Caller must hold the lock. */
static uint32
share_of_each(uint32 *attached)
{
	uint32 i;

	*attached = 0;
	for (i = 0; i < region->nentries; i++)
		if (region->entries[i].in_use && region->entries[i].pid != 0)
			++*attached;
	return region->nextents / (2 * Max(*attached, 1));
}

/* How many extents a store may have.  Caller must hold the lock. */
static uint32
entry_limit(const Entry *entry)
{
	uint32 attached;
	uint32 share = share_of_each(&attached);
	uint64 others = 0;
	uint32 i;

	for (i = 0; i < region->nentries; i++)
	{
		const Entry *other = &region->entries[i];

		if (other != entry && other->in_use && other->pid != 0)
			others += entry->loading ? other->nextents : Max(other->nextents, share);
	}
	return others >= region->nextents - share ? share : region->nextents - (uint32) others;
}

/* Make sure that n extents are free, by throwing out stores that nobody is attached to. */
static bool
extents_make_free(uint32 n)
{
	while (region->nfree < n)
	{
		Entry *idle = entry_oldest_idle();

		if (idle == NULL)
			return false;
		entry_clear(idle);
	}
	return true;
}

/* The first of n free extents in a row; NO_EXTENT if there are none. */
static uint32
extents_find(uint32 n)
{
	uint32 start = n == 1 ? region->search : 0;
	uint32 run = 0;
	uint32 i;

	for (i = 0; i < region->nextents; i++)
	{
		uint32 index = (start + i) % region->nextents;

		if (index == 0)
			run = 0;
		run = region->extents[index].owner == CQ_NO_STORE ? run + 1 : 0;
		if (run == n)
		{
			if (n == 1)
				region->search = index;
			return index - n + 1;
		}
	}
	return NO_EXTENT;
}

/* Caller must hold the lock exclusively.  The pages of the extents are all in use. */
static uint32
extents_take(Entry *entry, uint32 n)
{
	CqStoreNumber number = (CqStoreNumber) (entry - region->entries);
	uint32 first;
	uint32 i;

	if (entry->nextents + n > entry_limit(entry) || !extents_make_free(n))
		return NO_EXTENT;
	while ((first = extents_find(n)) == NO_EXTENT)
	{
		/* enough are free, but not in a row */
		Entry *idle = entry_oldest_idle();

		if (idle == NULL)
			return NO_EXTENT;
		entry_clear(idle);
	}
	for (i = first; i < first + n; i++)
	{
		region->extents[i].owner = number;
		region->extents[i].used = PG_UINT64_MAX;
		region->extents[i].reserved = false;
	}
	region->nfree -= n;
	entry->nextents += n;
	return first;
}

static void
extents_give_back(Entry *entry, uint32 first, uint32 n)
{
	uint32 i;

	LWLockAcquire(region->lock, LW_EXCLUSIVE);
	for (i = first; i < first + n; i++)
		region->extents[i].owner = CQ_NO_STORE;
	region->nfree += n;
	entry->nextents -= n;
	LWLockRelease(region->lock);
}

/* ------------------------------------------------------------------------
 * Blocks
 * ------------------------------------------------------------------------
 */

void *
cq_region_alloc(CqStoreNumber number, Size *size, int keep)
{
	Entry *entry = &region->entries[number];
	uint32 npages;
	uint32 index;
	int order;
	int page;

	Assert(entry->pid == MyProcPid);
	if (keep > 0 && !leaves_enough(number, *size, keep))
		return NULL;
	if (*size > CQ_EXTENT_SIZE)
	{
		uint32 n = (uint32) ((*size + CQ_EXTENT_SIZE - 1) / CQ_EXTENT_SIZE);

		LWLockAcquire(region->lock, LW_EXCLUSIVE);
		index = extents_take(entry, n);
		LWLockRelease(region->lock);
		if (index == NO_EXTENT)
			return NULL;
		*size = (Size) n * CQ_EXTENT_SIZE;
		entry->npages += n * PAGES_PER_EXTENT;
		return region->base + (Size) index * CQ_EXTENT_SIZE;
	}

	npages = (uint32) ((*size + CQ_PAGE_SIZE - 1) / CQ_PAGE_SIZE);
	order = pg_ceil_log2_32(Max(npages, 1));
	npages = 1U << order;
	page = -1;
	for (index = entry->partial; index != NO_EXTENT; index = region->extents[index].next)
		if ((page = run_of_pages(region->extents[index].used, order)) >= 0)
			break;
	if (index == NO_EXTENT)
	{
		LWLockAcquire(region->lock, LW_EXCLUSIVE);
		index = extents_take(entry, 1);
		LWLockRelease(region->lock);
		if (index == NO_EXTENT)
			return NULL;
		region->extents[index].used = 0;
		partial_link(entry, index);
		page = 0;
	}
	region->extents[index].used |=
		(npages == PAGES_PER_EXTENT ? PG_UINT64_MAX : (UINT64CONST(1) << npages) - 1) << page;
	if (region->extents[index].used == PG_UINT64_MAX)
		partial_unlink(entry, index);
	entry->npages += npages;
	*size = (Size) npages * CQ_PAGE_SIZE;
	return region->base + (Size) index * CQ_EXTENT_SIZE + (Size) page * CQ_PAGE_SIZE;
}

static bool
leaves_enough(CqStoreNumber number, Size size, int keep)
{
	CqRegionRoom room;

	cq_region_room(number, &room);
	/* nothing has changed yet that would have to be remembered */
	if (region->entries[number].loading)
		keep = Min(keep, 1);
	return room.used + size + room.limit / CQ_KEEP_PARTS * keep <= room.limit;
}

/* The first of 2^order unused pages, aligned to that number; -1 if there are none. */
static int
run_of_pages(uint64 used, int order)
{
	static const uint64 aligned[] = {
		PG_UINT64_MAX,
		UINT64CONST(0x5555555555555555),
		UINT64CONST(0x1111111111111111),
		UINT64CONST(0x0101010101010101),
		UINT64CONST(0x0001000100010001),
		UINT64CONST(0x0000000100000001),
		UINT64CONST(1),
	};
	uint64 free_pages = ~used;
	int i;

	for (i = 0; i < order; i++)
		free_pages &= free_pages >> (1 << i);
	free_pages &= aligned[order];
	return free_pages == 0 ? -1 : pg_rightmost_one_pos64(free_pages);
}

void
cq_region_free(CqStoreNumber number, void *block, Size size)
{
	Entry *entry = &region->entries[number];
	Size at = (char *) block - region->base;
	uint32 index = (uint32) (at / CQ_EXTENT_SIZE);
	uint32 npages = (uint32) (size / CQ_PAGE_SIZE);
	Extent *extent = &region->extents[index];

	Assert(entry->pid == MyProcPid && extent->owner == number);
	entry->npages -= npages;
	if (npages >= PAGES_PER_EXTENT)
	{
		extents_give_back(entry, index, npages / PAGES_PER_EXTENT);
		return;
	}
	if (extent->used == PG_UINT64_MAX)
		partial_link(entry, index);
	extent->used &= ~(((UINT64CONST(1) << npages) - 1) << (at % CQ_EXTENT_SIZE / CQ_PAGE_SIZE));
	if (extent->used == 0)
	{
		partial_unlink(entry, index);
		extents_give_back(entry, index, 1);
	}
}

static void
partial_link(Entry *entry, uint32 index)
{
	region->extents[index].previous = NO_EXTENT;
	region->extents[index].next = entry->partial;
	if (entry->partial != NO_EXTENT)
		region->extents[entry->partial].previous = index;
	entry->partial = index;
}

static void
partial_unlink(Entry *entry, uint32 index)
{
	Extent *extent = &region->extents[index];

	if (extent->previous != NO_EXTENT)
		region->extents[extent->previous].next = extent->next;
	else
		entry->partial = extent->next;
	if (extent->next != NO_EXTENT)
		region->extents[extent->next].previous = extent->previous;
}

bool
cq_region_reserve(CqStoreNumber number, Size bytes)
{
	Entry *entry = &region->entries[number];
	uint32 wanted = (uint32) ((bytes + CQ_EXTENT_SIZE - 1) / CQ_EXTENT_SIZE);
	bool enough = true;
	uint32 i;

	Assert(entry->pid == MyProcPid);
	if (wanted == entry->nreserved)
		return true;
	LWLockAcquire(region->lock, LW_EXCLUSIVE);
	while (enough && entry->nreserved < wanted)
	{
		uint32 index = extents_take(entry, 1);

		enough = index != NO_EXTENT;
		if (enough)
		{
			region->extents[index].reserved = true;
			entry->nreserved++;
		}
	}
	for (i = 0; i < region->nextents && entry->nreserved > wanted; i++)
		if (region->extents[i].owner == number && region->extents[i].reserved)
		{
			region->extents[i].owner = CQ_NO_STORE;
			region->nfree++;
			entry->nextents--;
			entry->nreserved--;
		}
	LWLockRelease(region->lock);
	return enough;
}

void
cq_region_set_loading(CqStoreNumber number, bool loading)
{
	Assert(region->entries[number].pid == MyProcPid);
	region->entries[number].loading = loading;
}

void
cq_region_room(CqStoreNumber number, CqRegionRoom *room)
{
	Entry *entry = &region->entries[number];
	uint32 attached;
	uint32 share;

	LWLockAcquire(region->lock, LW_SHARED);
	room->limit = (Size) entry_limit(entry) * CQ_EXTENT_SIZE;
	share = share_of_each(&attached);
	LWLockRelease(region->lock);
	room->most = (Size) (region->nextents - (attached - 1) * share) * CQ_EXTENT_SIZE;
	room->held = (Size) entry->nextents * CQ_EXTENT_SIZE;
	room->used = (Size) entry->npages * CQ_PAGE_SIZE + (Size) entry->nreserved * CQ_EXTENT_SIZE;
}

Size
cq_region_bytes_in_use(void)
{
	Size bytes = 0;

	if (region)
	{
		LWLockAcquire(region->lock, LW_SHARED);
		bytes = (Size) (region->nextents - region->nfree) * CQ_EXTENT_SIZE;
		LWLockRelease(region->lock);
	}
	return bytes;
}
