/*
 * position.h
 *	  How far a reader of a local stream has come: which transactions' rows it
 *	  has read.
 */
#pragma once

#include "postgres.h"

#include "utils/snapshot.h"

/* Transactions that have ended, as in pg_snapshot, with ids that do not wrap around. */
typedef struct CqXidSnapshot
{
	uint64 xmin; /* all before it have ended */
	uint64 xmax; /* none from it on has */
	int nxip;
	uint64 *xip; /* ascending: those between that have not */
} CqXidSnapshot;

/*
 * All rows of the era's transactions in old were read; if reading, also those of
 * new up to (xid, seq) in that order (xid = 0: none yet).
 */
typedef struct CqLocalPosition
{
	int32 era;
	CqXidSnapshot old;
	bool reading;
	CqXidSnapshot new;
	uint64 xid;
	int64 seq;
} CqLocalPosition;

/* Transaction ids to be read, both ends included. */
typedef struct CqXidRange
{
	uint64 first;
	uint64 last;
	int64 after_seq; /* rows of the first behind this only; PG_INT64_MIN = all */
} CqXidRange;

/* Everything is allocated in the current memory context. */

/* From an MVCC snapshot of this transaction; its own id counts as not ended. */
extern void cq_xid_snapshot_take(CqXidSnapshot *xids, Snapshot snapshot);
extern void cq_xid_snapshot_nothing(CqXidSnapshot *xids);
extern void cq_xid_snapshot_everything(CqXidSnapshot *xids);
extern void cq_xid_snapshot_copy(CqXidSnapshot *to, const CqXidSnapshot *from);
extern bool cq_xid_snapshot_sees(const CqXidSnapshot *xids, uint64 xid);

/* Had everything that had ended in the one also ended in the other? */
extern bool cq_xid_snapshot_within(const CqXidSnapshot *inner, const CqXidSnapshot *outer);

/* Text form, for the position row; error if it is not one. */
extern char *cq_local_position_format(const CqLocalPosition *position);
extern void cq_local_position_parse(const char *text, CqLocalPosition *position);

/*
 * What is left to read of a position that is reading: ranges of transactions
 * that have ended in new and had not in old, ascending.  Returns how many.
 */
extern int cq_local_position_ranges(const CqLocalPosition *position, CqXidRange **ranges);
