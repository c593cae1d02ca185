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
struct CqGroup;
struct CqStoredRow;

/* Memory given out in order and only freed as a whole. */
typedef struct CqArena
{
	char *at;
	Size left;
	Size block_size;
} CqArena;

/* The state of one window; of everything, when there are no windows. */
typedef struct CqPane
{
	TimestampTz start;
	TimestampTz end;
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

	/* Put the pane's closed rows into the tuplestore. */
	void (*emit)(CqOperator *operator, CqPane * pane, Tuplestorestate *rows);

	/* Append what changed to the chunk log. */
	void (*save)(CqOperator *operator, CqPane * pane);

	/* An unchanged entry is to be saved again; NULL if entries have no owners. */
	void (*rewrite)(CqPane *pane, CqEntry *entry);

	/* Take in a saved entry; called in the scratch context. */
	CqLoaded (*load)(CqOperator *operator, CqPane * pane, CqReader *entry);
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

	CqPane *current; /* the one used last; NULL if it was closed */
	CqPane **panes;	 /* in order of start; windows do not overlap */
	int npanes;
	int panes_capacity;

	/* memory */
	int64 groups;
	uint64 rows;
	uint64 next_check; /* value of rows at which memory is measured */
	Size unchecked;	   /* bytes taken since it was */

	/* AGGREGATE */
	int nkeys;
	CqKey *keys;
	int nkinds;
	CqEntryKind *kinds;
	CqAggregates *aggregates;
	Datum *values; /* of a closed row */
	bool *nulls;
	int64 next_gid;

	/* ROWS */
	CqCodec *codecs;
	TupleTableSlot *slot;
	CqTopRanker *top;  /* NULL = every row counts */
	Datum *top_values; /* a row of the pane as a stage row */
	bool *top_nulls;
};

extern const CqShapeOps cq_shape_aggregate;
extern const CqShapeOps cq_shape_rows;

/* n bytes of a pane's memory, 8-byte aligned, not zeroed. */
extern void *cq_pane_alloc(CqOperator *operator, CqPane * pane, Size n);
