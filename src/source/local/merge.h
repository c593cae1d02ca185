/*
 * merge.h
 *	  Rows of a local stream's hidden tables in the order of (era, xid, seq).
 */
#pragma once

#include "postgres.h"

#include "access/htup.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "source/local/layout.h"
#include "source/local/position.h"

typedef struct CqLocalRow
{
	HeapTuple tuple; /* valid until the next one is asked for */
	Relation table;
	int table_index;
	uint64 xid;
	int64 seq;
} CqLocalRow;

typedef struct CqLocalMerge CqLocalMerge;

/*
 * Open the tables that are not empty, locked for as long as the merge is open.
 * Then any number of times: choose a range of transactions of one era, and read
 * its rows that the snapshot sees.
 */
extern CqLocalMerge *cq_local_merge_open(const CqLocalLayout *layout, Snapshot snapshot);
extern void cq_local_merge_range(CqLocalMerge *merge, int32 era, const CqXidRange *range);
extern bool cq_local_merge_next(CqLocalMerge *merge, CqLocalRow *row);
extern void cq_local_merge_close(CqLocalMerge *merge);

/* The same for one table: its last row, and its first of an era from a transaction id on. */
extern bool cq_local_last_row(Relation table, Snapshot snapshot, int32 *era, uint64 *xid,
							  int64 *seq);
extern bool cq_local_first_xid(Relation table, Snapshot snapshot, int32 era, uint64 from,
							   uint64 *xid);
