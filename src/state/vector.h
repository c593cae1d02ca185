/*
 * vector.h
 *	  Arrays in an arena that grow without moving what they hold.
 *
 * A vector has pages of equal numbers of elements; only while the first page
 * is all there is, it is smaller, and moves when it grows.  So growing by one
 * never costs more than copying a few kilobytes, however large the vector is,
 * and needs no large piece of memory.  Elements are zeroed when they come into
 * being.
 */
#pragma once

#include "postgres.h"

#include "state/arena.h"

typedef struct CqVector
{
	CqArena *arena;
	char **pages;
	uint32 npages;
	uint32 pages_capacity;
	uint32 size;	 /* of an element */
	uint32 shift;	 /* elements per page, as a power of two */
	uint32 capacity; /* elements in all pages */
} CqVector;

extern void cq_vector_init(CqVector *vector, CqArena *arena, uint32 size, uint32 shift);

/* Have room for n elements; false, and nothing changed, if memory is short. */
extern bool cq_vector_reserve(CqVector *vector, uint32 n);

extern void cq_vector_free(CqVector *vector);

static inline void *
cq_vector_at(const CqVector *vector, uint32 i)
{
	return vector->pages[i >> vector->shift] +
		   (Size) (i & ((1U << vector->shift) - 1)) * vector->size;
}
