/*
 * count.h
 *	  Windows that are so many events of a group, private to this folder.
 */
#pragma once

#include "postgres.h"

#include "access/htup.h"

/*
 * Before the states of a group's open windows, and saved with them: how many events
 * the group has had.
 */
typedef struct CqCount
{
	int64 events;
} CqCount;

/*
 * CHANGES: before the states of a window, the number of its row, whether it is there,
 * and whether the window has changed since it was written.
 */
typedef struct CqCountRow
{
	int64 gid;
	int32 exists;
	int32 behind;
} CqCountRow;

/* A window that is complete, until the end of the checkpoint. */
typedef struct CqCompleted
{
	struct CqCompleted *next;
	CqCountRow row;
	MinimalTuple closed;
} CqCompleted;

/* What the operator of count windows has besides, in memory of its own. */
typedef struct CqCounts
{
	int64 size;
	int64 slide;
	int slots;		/* windows of a group that are open together, at most */
	Size slot_size; /* of one of them: row, states */
	Size row_size;
	MemoryContext context; /* of what is complete */
	CqCompleted *first;	   /* in the order of events */
	CqCompleted *last;
	Size bytes;
	int64 n;
	int64 gone_since; /* windows that have left their values behind in a pane's memory */
} CqCounts;
