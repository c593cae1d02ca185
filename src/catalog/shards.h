/*
 * shards.h
 *	  Which shards a view with several workers has.
 */
#pragma once

#include "postgres.h"

#include "nodes/pg_list.h"

#define CQ_SHARD_RETIRED (-1)
#define CQ_MAX_WORKERS	 64

/* A shard besides the first one, which is the view itself. */
typedef struct CqShardRow
{
	int64 id; /* of its slot and its row of checkpoints */
	int64 view;
	int number; /* 1 .. n - 1; retired: no worker, but perhaps state that is still needed */
	Oid chunks; /* InvalidOid if none */
} CqShardRow;

/* In the order of their numbers, retired ones first; NIL: the view has one worker. */
extern List *cq_shards_of_view(int64 view); /* of CqShardRow * */

/* The view that a position is one of: itself unless it is a shard's. */
extern int64 cq_shard_view(int64 id);

/* Ids of all positions that have a worker, the view's own first: list of int64 *. */
extern List *cq_view_positions(int64 view);

extern void cq_shard_insert(const CqShardRow *shard);
extern void cq_shard_set_number(int64 id, int number);
extern void cq_shards_delete(int64 view); /* with their checkpoints */

/* Remove a retired shard: its rows and its tables, whatever is in them. */
extern void cq_shard_remove(const CqShardRow *shard);
