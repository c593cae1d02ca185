/*
 * region.h
 *	  The shared memory that operator state lives in: extents, and whose they are.
 */
#pragma once

#include "postgres.h"

#define CQ_EXTENT_SIZE (256 * 1024)
#define CQ_PAGE_SIZE   (4 * 1024)

/* A store's number: which entry of the registry it is. */
typedef uint32 CqStoreNumber;

#define CQ_NO_STORE ((CqStoreNumber) PG_UINT32_MAX)

/* From _PG_init: request and start-up hooks. */
extern void cq_region_init(void);

/*
 * Whose state it is.  A key is never used for anything else while it is
 * registered: drop() comes before.
 */
typedef struct CqStoreKey
{
	Oid database;
	int64 view;
	int32 shard;
} CqStoreKey;

/*
 * Take the registry's entry of a key for this process, a new one if there is
 * none.  *root is what cq_region_set_root() left there, NULL for a new one.
 * Error if no entry is free or another process has it.
 */
extern CqStoreNumber cq_region_attach(const CqStoreKey *key, void **root);

/* Let go of an entry; its memory stays for the next worker unless it was dropped meanwhile. */
extern void cq_region_detach(CqStoreNumber number);

extern void cq_region_set_root(CqStoreNumber number, void *root);

/* Give back all memory of an entry that this process is attached to. */
extern void cq_region_clear(CqStoreNumber number);

/*
 * A view is gone, or all of a database: their memory is free now, or as soon as
 * the worker that has it lets go.  view 0 stands for all.
 */
extern void cq_region_drop(Oid database, int64 view);

/*
 * Blocks of 4 kB to 256 kB, powers of two, aligned to their size; more than
 * that in whole extents.  *size is rounded up to what was given.  NULL if the
 * store may not have it, or if less than keep sixteenths of its limit would be
 * left: for those whose memory is given up by means of further memory.
 */
#define CQ_KEEP_PARTS 16
extern void *cq_region_alloc(CqStoreNumber number, Size *size, int keep);
extern void cq_region_free(CqStoreNumber number, void *block, Size size);

/* Hold this much of the store's limit for memory elsewhere; false if it cannot be had. */
extern bool cq_region_reserve(CqStoreNumber number, Size bytes);

/* While a store is read from disk its share is no limit: what is free is. */
extern void cq_region_set_loading(CqStoreNumber number, bool loading);

typedef struct CqRegionRoom
{
	Size limit; /* what the store may have now */
	Size most;	/* and could have if others had no more than their shares */
	Size held;	/* extents that it has, those held for memory elsewhere included */
	Size used;	/* blocks in use, likewise */
} CqRegionRoom;

extern void cq_region_room(CqStoreNumber number, CqRegionRoom *room);

/* Extents in use by anybody, for tests and views. */
extern Size cq_region_bytes_in_use(void);
