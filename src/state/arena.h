/*
 * arena.h
 *	  Memory of a store, given out in small pieces and taken back one by one or
 *	  all together.
 */
#pragma once

#include "postgres.h"

#include "state/region.h"

/* Pieces up to this size are kept apart by 8 bytes, larger ones by powers of two. */
#define CQ_ARENA_FINE	 1024
#define CQ_ARENA_CLASSES (CQ_ARENA_FINE / 8 + 1 + 6)

typedef struct CqArenaBlock CqArenaBlock;
typedef struct CqArenaPiece CqArenaPiece;

/* In shared memory, zeroed and then given to init(). */
typedef struct CqArena
{
	CqStoreNumber store;
	int keep; /* see cq_region_alloc() */
	CqArenaBlock *blocks;
	char *at;
	Size left;
	Size bytes; /* in all blocks */
	Size spare; /* of it, in pieces that were given back */
	CqArenaPiece *pieces[CQ_ARENA_CLASSES];
} CqArena;

extern void cq_arena_init(CqArena *arena, CqStoreNumber store, int keep);

/* n bytes, 8-byte aligned, not zeroed; NULL if the store may have no more. */
extern void *cq_arena_alloc_slowly(CqArena *arena, Size n);

/* Give a piece back; n as it was asked for. */
extern void cq_arena_free(CqArena *arena, void *piece, Size n);

/* Give all of it back. */
extern void cq_arena_release(CqArena *arena);

static inline void *
cq_arena_alloc(CqArena *arena, Size n)
{
	Size size = MAXALIGN(n);
	char *piece = arena->at;

	if (size > arena->left || size > CQ_ARENA_FINE || arena->pieces[size / 8] != NULL)
		return cq_arena_alloc_slowly(arena, n);
	arena->at += size;
	arena->left -= size;
	return piece;
}
