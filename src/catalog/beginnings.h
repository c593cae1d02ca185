/*
 * beginnings.h
 *	  How views began, and what was put before that.
 */
#pragma once

#include "postgres.h"

typedef struct CqBeginning
{
	int64 view;
	char *start; /* instead of the option of that name; NULL = as that says */
	char *
		cursor; /* of a local stream: where "latest" was; NULL = it was not asked for, or not yet */
	Oid history; /* hidden stream with rows to be taken in first; InvalidOid if none are left */
	int64 history_rows; /* that backfill() was given; -1 = it was never called */
} CqBeginning;

/* A view of which nothing is known has begun as its options say. */
extern void cq_beginning_load(int64 view, CqBeginning *beginning);
extern void cq_beginning_save(const CqBeginning *beginning);

/* How many rows of its history are dead letters of a view; under the active snapshot. */
extern int64 cq_history_dead_letters(int64 view);
