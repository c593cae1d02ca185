/*
 * shape.h
 *	  What the operators have in common, private to this folder: panes, memory,
 *	  and the interface of what is kept in a pane.
 */
#pragma once

#include "postgres.h"

#include "lib/ilist.h"
#include "utils/tuplestore.h"

#include "operator/aggregate.h"
#include "operator/operator.h"
#include "operator/top.h"
#include "state/chunklog.h"
#include "state/key.h"

struct cq_groups_hash;
struct cq_blocks_hash;
struct CqGroup;
struct CqStoredRow;

/* Memory given out in order and only freed as a whole. */
typedef struct CqArena
{
	char *at;
	Size left;
	Size block_size;
} CqArena;

/*
 * The state of one window, or of a slice of several (slices.c); of everything,
 * when there are no windows.
 */
typedef struct CqPane
{
	TimestampTz start;
	TimestampTz end;
	TimestampTz first_end; /* ends of the first and the last window that it is part of */
	TimestampTz last_end;
	int64 number; /* of the slice */
	MemoryContext context;
	CqArena arena;
	dlist_head chunks;

	/* AGGREGATE */
	struct cq_groups_hash *groups;
	int64 ngroups;
	ExprContext *memory;   /* of transition values; NULL if all are fast */
	struct CqGroup *dirty; /* to be saved */

	/* ROWS */
	struct CqStoredRow *first;
	struct CqStoredRow *last;
	struct CqStoredRow *unsaved;
	CqTopSeen *top; /* the best of them; NULL = not looked at yet */
} CqPane;

/*
 * AGGREGATE: what a pane's hash table holds.  Kind 0 are the groups.  Kind i > 0
 * are the members of plan->sets[i - 1], the values that aggregates with DISTINCT
 * have taken: the key is the group's and the value, the state a mask of those
 * aggregates.
 */
typedef struct CqEntryKind
{
	CqKeyCodec *codec;
	Size states_size;
} CqEntryKind;

/* What is kept in a pane. */
typedef struct CqShapeOps
{
	bool newest_first; /* order in which saved entries are loaded */

	/* Look up what the plan needs; called in the operator's context. */
	void (*create)(CqOperator *operator, const CqPlan * plan);
	void (*init_pane)(CqOperator *operator, CqPane * pane);
	void (*free_pane)(CqPane *pane);

	/* Take in one stage row; called in the scratch context. */
	void (*fold)(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls);

	/* Put the pane's closed rows into the tuplestore, as those of the window [start, end). */
	void (*emit)(CqOperator *operator, CqPane * pane, TimestampTz start, TimestampTz end,
				 Tuplestorestate *rows);

	/*
	 * Take what is in one pane into another; the one that it comes from stays as it
	 * is.  Nothing of it is ever saved.  NULL: what is kept is given out as it is.
	 */
	void (*combine)(CqOperator *operator, CqPane * into, CqPane *from);

	/* Append what changed to the chunk log. */
	void (*save)(CqOperator *operator, CqPane * pane);

	/* An unchanged entry is to be saved again; NULL if entries have no owners. */
	void (*rewrite)(CqPane *pane, CqEntry *entry);

	/* Take in a saved entry; called in the scratch context. */
	CqLoaded (*load)(CqOperator *operator, CqPane * pane, CqReader *entry);

	/* Take in what another operator of the same plan has of the same window. */
	void (*take_part)(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part);
} CqShapeOps;

struct CqOperator
{
	const CqShapeOps *ops;
	MemoryContext context;
	MemoryContext scratch; /* reset between rows, now and then */
	CqWindow window;
	bool changes; /* emit = changes */
	int64 allowed_lateness_us;
	TimestampTz closed_to;
	TupleDesc closed_desc;
	CqChunkLog *log;

	TimestampTz
		load_after; /* windows that end then or before, or after load_upto, are not loaded */
	TimestampTz load_upto;

	CqPane *current; /* the one used last; NULL if it was closed */
	CqPane **panes;	 /* in order of start, and of end */
	int npanes;
	int panes_capacity;

	/* hopping windows */
	bool sliced;				   /* panes are slices */
	bool overlapping;			   /* panes are windows, several to an event */
	struct cq_blocks_hash *blocks; /* slices combined */

	/* memory */
	int64 groups;
	uint64 rows;
	uint64 next_check; /* value of rows at which memory is measured */
	Size unchecked;	   /* bytes taken since it was */

	int nkeys;
	CqKey *keys;
	Datum *values; /* of a closed row */
	bool *nulls;
	CqTopRanker *top; /* of rows or groups; NULL = all count */

	/* AGGREGATE */
	int nkinds;
	CqEntryKind *kinds;
	CqAggregates *aggregates;
	int64 next_gid;
	bool disjoint; /* no group is in two parts of the state */

	/* ROWS */
	TupleDesc stored_desc; /* closed_desc without the window's columns */
	CqCodec *codecs;
	TupleTableSlot *slot;
	Datum *top_values; /* a row of the pane as a stage row */
	bool *top_nulls;
};

/* slices.c; find: as consume(), but only makes the event's pane the current one. */
extern void cq_slices_create(CqOperator *operator);
extern CqOutcome cq_slices_find(CqOperator *operator, const CqEvent * event, CqMissed *missed);
extern bool cq_slices_place(CqOperator *operator, TimestampTz time, CqPane *pane);
extern TimestampTz cq_slices_first_end(CqOperator *operator);
extern int cq_slices_close(CqOperator *operator, TimestampTz watermark, Tuplestorestate *rows);
extern int64 cq_slices_open_windows(CqOperator *operator);
extern void cq_slices_forget(CqOperator *operator);

/* Which windows of an event are complete at a watermark; false if one is out of range. */
extern bool cq_hop_missed(CqOperator *operator, TimestampTz time, TimestampTz watermark,
						  CqMissed *missed, int64 *windows);

extern const CqShapeOps cq_shape_aggregate;
extern const CqShapeOps cq_shape_rows;

/* Place of the first pane that begins at a time or later; of the first that ends after it. */
extern int cq_pane_search_start(CqOperator *operator, TimestampTz start);
extern int cq_pane_search(CqOperator *operator, TimestampTz time);

/* An empty pane, which may then be put among the operator's; one that is not, or not any more. */
extern CqPane *cq_pane_create(CqOperator *operator, TimestampTz start, TimestampTz end);
extern void cq_pane_insert(CqOperator *operator, int place, CqPane *pane);
extern void cq_pane_free(CqOperator *operator, CqPane * pane);

/* Fill in the keys of closed rows that depend on the window alone; memory is in context. */
extern void cq_window_values(CqOperator *operator, MemoryContext context, TimestampTz start,
							 TimestampTz end);
/* An operator that has of its windows only those with after < end <= upto. */
extern CqOperator *cq_operator_load(const CqPlan *plan, Relation chunks, int64 allowed_lateness_us,
									TimestampTz closed_to, TimestampTz after, TimestampTz upto,
									MemoryContext context);

/* The pane of the window that begins then; opened if there is none. */
extern CqPane *cq_pane_at(CqOperator *operator, TimestampTz start, TimestampTz end);

/* Give up the first n panes; their chunks are deleted by the next save. */
extern void cq_panes_drop(CqOperator *operator, int n);

/* Around all that uses codecs, see operator.c. */
extern int cq_client_encoding_pin(void);
extern void cq_client_encoding_restore(int encoding);

/* n bytes of a pane's memory, 8-byte aligned, not zeroed. */
extern void *cq_pane_alloc(CqOperator *operator, CqPane * pane, Size n);
