/*
 * vacuum.h
 *	  Keeping a view's chunk table small.
 */
#pragma once

#include "postgres.h"

#include "storage/block.h"

/*
 * Is another vacuum due for a chunk table of that many blocks, which hold
 * chunk_bytes and of which vacuumed were there after its last vacuum?
 */
extern bool cq_vacuum_due(BlockNumber blocks, BlockNumber vacuumed, int64 chunk_bytes);

/* Vacuum a table in transactions of its own; skipped if somebody has it locked. */
extern void cq_vacuum(Oid relid);
