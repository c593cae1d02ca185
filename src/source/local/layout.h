/*
 * layout.h
 *	  Where a local stream's rows are: its hidden tables and their columns.
 */
#pragma once

#include "postgres.h"

#include "access/attnum.h"
#include "utils/relcache.h"

#include "source/stream.h"

#define CQ_LOCAL_TABLES 3

/* Columns of a hidden table in front of those of the stream. */
#define CQ_LOCAL_ERA		   1
#define CQ_LOCAL_XID		   2
#define CQ_LOCAL_SEQ		   3
#define CQ_LOCAL_INSERTED_AT   4
#define CQ_LOCAL_FIXED_COLUMNS 4

typedef struct CqLocalLayout
{
	Oid relid; /* the foreign table */
	char *backing;
	int32 era;
	Oid tables[CQ_LOCAL_TABLES];
	Oid sequence; /* numbers the rows */
	Oid rotation; /* sequence whose value says which table takes new rows */
} CqLocalLayout;

/* What each column of a stream is in one hidden table. */
typedef struct CqLocalColumns
{
	int natts;			  /* of the stream */
	AttrNumber *hidden;	  /* attribute of the hidden table; 0 = dropped */
	CqMetadata *metadata; /* of each column of the stream */
	bool has_metadata;
} CqLocalColumns;

/*
 * Find a stream's storage.  load: error if there is none, or if it belongs to
 * somebody else.  find: false in these cases.  era is set by both.
 */
extern void cq_local_layout_load(Oid relid, CqLocalLayout *layout);
extern bool cq_local_layout_find(Oid relid, CqLocalLayout *layout);

/* The same, whoever owns the storage. */
extern bool cq_local_layout_find_unowned(Oid relid, CqLocalLayout *layout);

/* Index of the table that takes new rows now: a hint, see insert.c. */
extern int cq_local_current_table(const CqLocalLayout *layout);

/* Match columns; error if the hidden table is out of step.  In the current memory context. */
extern CqLocalColumns *cq_local_columns_load(Relation stream, Relation hidden);

/* The index over (era, xid, seq) of a hidden table. */
extern Oid cq_local_index(Relation hidden);

/* Value of a metadata column; only called where metadata is not NONE. */
extern Datum cq_local_metadata_value(CqMetadata metadata, Oid type, int64 seq, int64 inserted_at);
