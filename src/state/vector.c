/*
 * vector.c
 *	  Arrays in an arena that grow without moving what they hold.
 */
#include "postgres.h"

#include "state/vector.h"

#define FIRST_ELEMENTS 32
#define FIRST_PAGES	   8

static bool first_page_grow(CqVector *vector, uint32 n);
static bool pages_grow(CqVector *vector);

void
cq_vector_init(CqVector *vector, CqArena *arena, uint32 size, uint32 shift)
{
	memset(vector, 0, sizeof(CqVector));
	vector->arena = arena;
	vector->size = size;
	vector->shift = shift;
}

bool
cq_vector_reserve(CqVector *vector, uint32 n)
{
	uint32 per_page = 1U << vector->shift;
	Size page_size = (Size) per_page * vector->size;

	if (n <= vector->capacity)
		return true;
	if (vector->capacity < per_page && !first_page_grow(vector, Min(n, per_page)))
		return false;
	while (vector->capacity < n)
	{
		char *page;

		if (vector->npages == vector->pages_capacity && !pages_grow(vector))
			return false;
		page = cq_arena_alloc(vector->arena, page_size);
		if (page == NULL)
			return false;
		memset(page, 0, page_size);
		vector->pages[vector->npages++] = page;
		vector->capacity += per_page;
	}
	return true;
}

static bool
first_page_grow(CqVector *vector, uint32 n)
{
	uint32 capacity = Max(vector->capacity, FIRST_ELEMENTS);
	Size old_size = (Size) vector->capacity * vector->size;
	char *page;

	while (capacity < n)
		capacity *= 2;
	capacity = Min(capacity, 1U << vector->shift);
	if (vector->pages == NULL && !pages_grow(vector))
		return false;
	page = cq_arena_alloc(vector->arena, (Size) capacity * vector->size);
	if (page == NULL)
		return false;
	memset(page + old_size, 0, (Size) capacity * vector->size - old_size);
	if (vector->npages > 0)
	{
		memcpy(page, vector->pages[0], old_size);
		cq_arena_free(vector->arena, vector->pages[0], old_size);
	}
	vector->pages[0] = page;
	vector->npages = 1;
	vector->capacity = capacity;
	return true;
}

static bool
pages_grow(CqVector *vector)
{
	uint32 capacity = Max(vector->pages_capacity * 2, FIRST_PAGES);
	char **pages = cq_arena_alloc(vector->arena, capacity * sizeof(char *));

	if (pages == NULL)
		return false;
	if (vector->pages)
	{
		memcpy(pages, vector->pages, vector->npages * sizeof(char *));
		cq_arena_free(vector->arena, vector->pages, vector->pages_capacity * sizeof(char *));
	}
	vector->pages = pages;
	vector->pages_capacity = capacity;
	return true;
}

void
cq_vector_free(CqVector *vector)
{
	uint32 i;

	for (i = 0; i < vector->npages; i++)
		cq_arena_free(vector->arena,
					  vector->pages[i],
					  (Size) Min(vector->capacity, 1U << vector->shift) * vector->size);
	if (vector->pages)
		cq_arena_free(vector->arena, vector->pages, vector->pages_capacity * sizeof(char *));
	cq_vector_init(vector, vector->arena, vector->size, vector->shift);
}
