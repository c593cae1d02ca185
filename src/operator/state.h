/*
 * state.h
 *	  What an operator remembers, in shared memory: panes, and how to take back
 *	  what was not committed.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"

#include "operator/top.h"
#include "state/chunklog.h"
#include "state/group_table.h"

struct CqStoredRow;
struct CqBuckets;

/*
 * Parts of a view's limit that panes leave to others: to what is known of
 * chunks and buckets, without which nothing can be given up, and to the list of
 * touched groups, which is there only until the commit.
 */
#define CQ_KEEP_FOR_TABLES	1
#define CQ_KEEP_FOR_TOUCHED 2

/* A group that was touched since the last commit; its states before follow, unless it is new. */
typedef struct CqTouched
{
	struct CqTouched *next;
	CqGroup *group;
} CqTouched;

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
	int64 number;	   /* of the slice */
	bool is_late_part; /* of the slice, see slices.c */
	uint64 counted_by; /* the operator with this number has it in its running window */
	CqChunkList chunks;
	CqArena arena;
	bool is_new;			 /* opened since the last commit */
	uint64 last_used;		 /* in order of use */
	int64 ngroups;			 /* on disk, too */
	struct CqPane *next;	 /* of those closed since the last commit, or of the derived */
	struct CqPane *previous; /* of the derived */
	bool is_derived;
	bool behind; /* what is shown of it may be (groups: those in memory); changes.c */

	/* AGGREGATE */
	CqGroupTable groups;
	CqTouched *touched;
	CqTouched *gone;		   /* since the last commit: to be freed, without states */
	struct CqBuckets *buckets; /* what is on disk only; NULL if nothing ever was */
	ExprContext *memory;	   /* private: of transition values, unless all are in the states */

	/* ROWS */
	struct CqStoredRow *first;
	struct CqStoredRow *last;
	struct CqStoredRow *saved; /* the last that is saved; NULL = none */
	CqTopSeen *top;			   /* private, of the operator ... */
	uint64 top_instance;	   /* ... with this number: the best of the rows */
	CqChunkNumber on_disk;	   /* up to this chunk, rows are on disk only; 0 = none are */

	/* of a verification under way */
	struct CqStoredRow *checked;
	bool disk_passed;
} CqPane;

typedef struct CqState
{
	CqStoreNumber store;
	bool current; /* memory is the chunks of epoch, and what undo can take back */
	bool flat;	  /* all of it is here, nothing in a worker's own memory */
	uint64 layout;
	int64 epoch; /* the checkpoint */
	CqChunkTable chunks;
	CqArena arena;			/* panes, bookkeeping */
	CqArena touched;		/* CqTouched, until the commit */
	CqGroupLayout *layouts; /* by kind of entry */
	int64 next_gid;
	int64 committed_gid;
	int64 ngroups;
	uint64 uses;

	CqPane **panes; /* in order of start, and of end */
	int npanes;
	int panes_capacity;
	CqPane *closed;	 /* since the last commit */
	CqPane *derived; /* made of others; none of the state, and not left to the next operator */
	bool changed;	 /* since the last commit */

	/* for statistics */
	int64 touched_groups; /* since the last commit */
	int64 evictions;	  /* buckets and panes whose memory was given up */
	int64 loads;		  /* groups brought back */
} CqState;

/*
 * The state of a key: what a worker left behind, if it is the committed one of
 * epoch and of this layout; else an empty one that is not current.  key NULL: one
 * that lasts until the end of the transaction, or discard().
 */
extern CqState *cq_state_attach(const CqStoreKey *key, uint64 layout, int64 epoch, bool flat,
								Oid filenumber);

/* Forget a state that nobody is to take over (key NULL). */
extern void cq_state_discard(CqState *state);

/* Say how entries are laid out in a state that was just made; false if memory is short. */
extern bool cq_state_set_layouts(CqState *state, const CqGroupLayout *layouts, int n);

/*
 * An empty pane, which is derived until it is put at a place of state->panes.  NULL
 * and false: memory is short.  free() is for derived ones, and those that nothing
 * was ever saved of.
 */
extern CqPane *cq_state_create_pane(CqState *state, TimestampTz start, TimestampTz end);
extern bool cq_state_insert_pane(CqState *state, int place, CqPane *pane);
extern void cq_state_free_pane(CqState *state, CqPane *pane);

/* Take the first n panes out; they come back if the transaction aborts. */
extern void cq_state_close_panes(CqState *state, int n);

/* Forget the rows of a pane that were not saved (rows.c). */
extern void cq_rows_undo(CqState *state, CqPane *pane);

/*
 * After a save, with more to come in the same checkpoint: free what was kept for an
 * abort, which means reading the chunks again now.  Not where groups leave one by one.
 */
extern void cq_state_forget_undo(CqState *state);

/* All that changed has been committed, as this checkpoint. */
extern void cq_state_committed(CqState *state, int64 epoch);

/*
 * After an abort: all states that this process is attached to go back to what
 * is committed, or are marked as not current.  Neither allocates nor throws.
 */
extern void cq_states_abort(void);
