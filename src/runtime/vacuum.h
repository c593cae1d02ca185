/*
 * vacuum.h
 *	  Keeping a view's chunk table small.
 */
#pragma once

#include "postgres.h"

#include "storage/block.h"

/*
 * Is another vacuum due for a chunk table of that many blocks, of which vacuumed
 * were there after its last vacuum?  stored: bytes of the chunks in it;
 * deleted: of those deleted since.
 */
extern bool cq_vacuum_due(BlockNumber blocks, BlockNumber vacuumed, int64 stored, int64 deleted);

/* Vacuum a table in transactions of its own; skipped if somebody has it locked. */
extern void cq_vacuum(Oid relid);
