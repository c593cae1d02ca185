/*
 * batch.h
 *	  Events decoded together, with what is settled about each before any
 *	  plan runs.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/itemptr.h"

typedef struct CqEvent
{
	TimestampTz time;	   /* event time; valid if has_time */
	TimestampTz watermark; /* the view's, before this event; DT_NOBEGIN if none yet */
	TimestampTz arrival;   /* when the worker took it in */
	int64 offset;
	int32 partition; /* index into the source's partitions */
	int32 record;	 /* index into the source's records */
	bool has_time;	 /* false: event time is NULL or infinite */
	bool retracts;	 /* takes back an earlier event with the same values */
} CqEvent;

typedef struct CqBatch
{
	MemoryContext context; /* holds all below; reset per batch */
	int nevents;
	int stream; /* number of the stream that they are of, ... */
	int natts;	/* ... which has so many columns */
	CqEvent *events;
	Datum *values; /* nevents rows of natts; columns not needed are NULL */
	bool *nulls;
} CqBatch;

/* An event's ordinal in its batch travels through plans as the row's ctid. */
static inline void
cq_ordinal_to_tid(int ordinal, ItemPointer tid)
{
	ItemPointerSet(tid, (BlockNumber) (ordinal / 1024), (OffsetNumber) (ordinal % 1024 + 1));
}

static inline int
cq_ordinal_from_tid(ItemPointer tid)
{
	return (int) (ItemPointerGetBlockNumberNoCheck(tid) * 1024 +
				  ItemPointerGetOffsetNumberNoCheck(tid) - 1);
}
