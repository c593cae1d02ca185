/*
 * arena.c
 *	  Memory of a store, in small pieces.
 *
 * An arena has blocks of the region, each twice as large as the one before, up
 * to a whole extent.  Pieces are cut off the newest block; one that was given
 * back is kept for the next request of its size.  A piece that would take much
 * of a block has a block of its own, which goes back with it.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"

#include "state/arena.h"

#define LARGEST_SHARED (32 * 1024)

struct CqArenaBlock
{
	CqArenaBlock *previous;
	CqArenaBlock *next;
	Size size;
	Size unused; /* keeps what follows 16-byte aligned */
};

struct CqArenaPiece
{
	CqArenaPiece *next;
};

static int size_class(Size *size);
static CqArenaBlock *block_add(CqArena *arena, Size size);

void
cq_arena_init(CqArena *arena, CqStoreNumber store, int keep)
{
	memset(arena, 0, sizeof(CqArena));
	arena->store = store;
	arena->keep = keep;
}

/* The class of a size, which is rounded up to what its pieces have. */
static int
size_class(Size *size)
{
	int log;

	*size = MAXALIGN(Max(*size, 1));
	if (*size <= CQ_ARENA_FINE)
		return (int) (*size / 8);
	log = pg_ceil_log2_64(*size);
	*size = (Size) 1 << log;
	return CQ_ARENA_FINE / 8 + log - 10;
}

void *
cq_arena_alloc_slowly(CqArena *arena, Size n)
{
	CqArenaPiece *piece;
	CqArenaBlock *block;
	int class;

	if (n > LARGEST_SHARED)
	{
		block = block_add(arena, n + sizeof(CqArenaBlock));
		return block ? (char *) block + sizeof(CqArenaBlock) : NULL;
	}
	class = size_class(&n);
	piece = arena->pieces[class];
	if (piece)
	{
		arena->pieces[class] = piece->next;
		arena->spare -= n;
		return piece;
	}
	if (n > arena->left)
	{
		Size size = Min(Max(arena->bytes, CQ_PAGE_SIZE), CQ_EXTENT_SIZE);

		block = block_add(arena, Max(size, n + sizeof(CqArenaBlock)));
		if (block == NULL && size > n + sizeof(CqArenaBlock))
			block = block_add(arena, n + sizeof(CqArenaBlock));
		if (block == NULL)
			return NULL;
		if (arena->left >= 8 && arena->left <= CQ_ARENA_FINE)
			cq_arena_free(arena, arena->at, arena->left);
		arena->at = (char *) block + sizeof(CqArenaBlock);
		arena->left = block->size - sizeof(CqArenaBlock);
	}
	piece = (CqArenaPiece *) arena->at;
	arena->at += n;
	arena->left -= n;
	return piece;
}

static CqArenaBlock *
block_add(CqArena *arena, Size size)
{
	CqArenaBlock *block = cq_region_alloc(arena->store, &size, arena->keep);

	if (block == NULL)
		return NULL;
	block->size = size;
	block->previous = NULL;
	block->next = arena->blocks;
	if (arena->blocks)
		arena->blocks->previous = block;
	arena->blocks = block;
	arena->bytes += size;
	return block;
}

void
cq_arena_free(CqArena *arena, void *memory, Size n)
{
	CqArenaPiece *piece = memory;
	int class;

	if (n > LARGEST_SHARED)
	{
		CqArenaBlock *block = (CqArenaBlock *) ((char *) memory - sizeof(CqArenaBlock));

		if (block->previous)
			block->previous->next = block->next;
		else
			arena->blocks = block->next;
		if (block->next)
			block->next->previous = block->previous;
		arena->bytes -= block->size;
		cq_region_free(arena->store, block, block->size);
		return;
	}
	class = size_class(&n);
	piece->next = arena->pieces[class];
	arena->pieces[class] = piece;
	arena->spare += n;
}

void
cq_arena_release(CqArena *arena)
{
	CqArenaBlock *block = arena->blocks;

	while (block)
	{
		CqArenaBlock *next = block->next;

		cq_region_free(arena->store, block, block->size);
		block = next;
	}
	cq_arena_init(arena, arena->store, arena->keep);
}
