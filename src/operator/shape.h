/*
 * shape.h
 *	  What the operators have in common, private to this folder: state, panes,
 *	  and the interface of what is kept in a pane.
 */
#pragma once

#include "postgres.h"

#include "common/int.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "operator/aggregate.h"
#include "operator/count.h"
#include "operator/operator.h"
#include "operator/session.h"
#include "operator/state.h"
#include "operator/top.h"
#include "state/chunklog.h"
#include "state/key.h"

/* How much of a pane's memory to give up. */
typedef enum CqEvict
{
	CQ_EVICT_COLD,	 /* what was not used since it was looked at last, until there is room */
	CQ_EVICT_RECENT, /* the rest, too, until there is room */
	CQ_EVICT_ALL	 /* everything; only after the pane was saved */
} CqEvict;

/* A comparison of memory with chunks; see verify.c. */
typedef struct CqVerification
{
	struct HTAB *places; /* of the chunks that memory knows */
	int64 ngroups;		 /* groups or rows found so far */
	char *problem;		 /* the first difference */
} CqVerification;

/* Rows that change: where they go, and which are due; see changes.c. */
typedef struct CqChanges
{
	const CqChangeSink *sink;
	bool refresh;			 /* also those that are not complete */
	TimestampTz complete_to; /* windows that end by then are complete ... */
	TimestampTz leave_to;	 /* ... and these are about to be forgotten */
} CqChanges;

/* What is kept in a pane. */
typedef struct CqShapeOps
{
	bool newest_first; /* order in which saved entries are loaded */

	/* Look up what the plan needs; called in the operator's context. */
	void (*create)(CqOperator *operator, const CqPlan * plan);
	void (*init_pane)(CqOperator *operator, CqPane * pane);

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

	/* The opposite, if operator->reversible. */
	void (*take_back)(CqOperator *operator, CqPane * into, CqPane *from);

	/* Append what changed to the chunk log. */
	void (*save)(CqOperator *operator, CqPane * pane);

	/* Append the live entries of a chunk, which did not change; NULL: never called. */
	void (*rewrite)(CqOperator *operator, CqPane * pane, CqChunkData *chunk);

	/* Take in a saved chunk, oldest or newest first. */
	void (*load)(CqOperator *operator, CqPane * pane, CqChunkData *chunk);

	/* Free memory of what is on disk, or is put there to be found again; NULL: not possible. */
	void (*evict)(CqOperator *operator, CqPane * pane, CqEvict how);

	/* Take in what another operator of the same plan has of the same window. */
	void (*take_part)(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part);

	/* Compare chunks, newest or oldest first, with memory; then what is left. */
	void (*verify_begin)(CqPane *pane);
	void (*verify)(CqOperator *operator, CqPane * pane, CqChunkData *chunk, CqVerification *check);
	void (*verify_end)(CqOperator *operator, CqPane * pane, CqVerification *check);
} CqShapeOps;

/*
 * AGGREGATE: what a pane's hash table holds.  Kind 0 are the groups.  Kind i > 0
 * are the members of plan->sets[i - 1], the values that aggregates with DISTINCT
 * have taken: the key is the group's and the value, the state a mask of those
 * aggregates.  Where nothing else is said, both are called groups.
 */
typedef struct CqEntryKind
{
	CqKeyCodec *codec;
	CqGroupLayout layout;
} CqEntryKind;

typedef struct CqSessionHolds CqSessionHolds;

struct CqOperator
{
	const CqShapeOps *ops;
	MemoryContext context;
	MemoryContext scratch; /* reset between rows, now and then */
	MemoryContext emitting;
	CqState *state;	 /* in shared memory */
	uint64 identity; /* of what its chunks have */
	CqWindow window;
	bool changes;  /* emit = changes, of groups */
	bool replaces; /* likewise, of windows that keep their rows */
	int64 allowed_lateness_us;
	int64 keep_closed_us;
	TimestampTz closed_to;
	TimestampTz fold_upto; /* rows are folded into no window that ends later */
	bool shows_open;	   /* changes with windows: of all of them */
	TimestampTz shown_to;  /* likewise: windows that end by then have rows, whatever else has */
	TupleDesc closed_desc;
	CqChunkLog *log;
	Relation relation; /* the chunk table, during a checkpoint */
	bool loading;
	bool passing;			/* the state is of this transaction alone */
	TimestampTz load_after; /* panes whose first window ends then or before, or after */
	TimestampTz load_upto;	/* load_upto, are not loaded */
	bool reused;			/* an earlier worker left the state */
	Size shrunk_to;			/* what was held when everything had been given up last */

	CqPane *current; /* the one used last; NULL if it was closed */

	/* hopping windows */
	bool sliced;				   /* panes are slices, or parts of them */
	bool divided;				   /* others keep parts of the windows */
	bool late_parts;			   /* there may be such of slices */
	bool overlapping;			   /* panes are windows, several to an event */
	struct cq_blocks_hash *blocks; /* slices combined */
	Size window_size;			   /* of the last one that was given out; 0 = not known */
	bool gives_way;				   /* the save under way is to give up everything */
	bool reversible;			   /* what was combined can be taken back, and that pays */
	CqPane *running;			   /* the window that closed last; NULL = forgotten */
	int nrunning;				   /* slices in it */

	/* sessions */
	bool sessions;						/* there is one pane, and groups are sessions */
	pairingheap *ends;					/* of CqSessionPlace */
	pairingheap *kept;					/* likewise, of those that were shown to be complete */
	TimestampTz latest_end;				/* of all that are in it */
	CqGroup *session;					/* that the event at hand belongs to */
	int64 gone_since;					/* sessions gone since values were copied */
	CqSessionHolds *holds;				/* open parts that others have of sessions */
	struct CqSessionRows *session_rows; /* ROWS over sessions; else NULL */

	CqCounts *counts; /* count windows: there is one pane, and groups have several windows */
	struct CqCountRows *count_rows; /* ROWS over count windows; else NULL */

	uint64 rows;
	uint64 next_check; /* private memory: value of rows at which it is measured */

	int nkeys;
	CqKey *keys;
	Datum *values; /* of a closed row */
	bool *nulls;

	CqTopRanker *top; /* of rows or groups; NULL = all count */

	/* AGGREGATE */
	int nkinds;
	CqEntryKind *kinds;
	CqAggregates *aggregates;
	bool retracting;  /* the row at hand is taken back */
	int live_offset;  /* in the aggregates' states: count of a group's rows; -1 = all have */
	int64 oldest_log; /* place of the pane's oldest log chunk, while groups are given up */
	bool drops_empty; /* the bucket at hand is older */
	int64 emptied;	  /* groups that have lost all rows since that was cleaned up */
	bool disjoint;	  /* no group is in two parts of the state */
	ExprContext *flat_memory; /* for functions whose values are all in the states */
	Size states_skip;		  /* before the aggregates' states: a CqSession, a CqCount */
	CqGroup *probe;			  /* a group as read from disk */
	Size probe_size;
	StringInfoData bytes;

	/* ROWS */
	TupleDesc stored_desc; /* closed_desc without the window's columns */
	CqCodec *codecs;
	TupleTableSlot *slot;
	Datum *top_values; /* a row of the pane as a stage row */
	bool *top_nulls;
	uint64 instance; /* tells this operator from all others there were */
};

/*
 * An operator that knows what its state looks like, and has none yet; everything is in
 * own, which becomes its context.
 */
extern CqOperator *cq_operator_shape(const CqPlan *plan, MemoryContext own);

/* slices.c; find: as consume(), but only makes the event's pane the current one. */
extern void cq_slices_create(CqOperator *operator);
extern CqOutcome cq_slices_find(CqOperator *operator, const CqEvent * event, CqMissed *missed);
extern bool cq_slices_place(CqOperator *operator, TimestampTz start, CqPane *pane);
extern TimestampTz cq_slices_first_end(CqOperator *operator);
extern int cq_slices_close(CqOperator *operator, TimestampTz watermark, Tuplestorestate *rows);
extern int64 cq_slices_open_windows(CqOperator *operator);
extern void cq_slices_forget(CqOperator *operator);

/*
 * running.c; window: the one that closes at end, made of the panes from first on
 * with numbers < to, which belongs to the operator.  change: a slice is about to.
 * leave: the operator's first n panes are about to.
 */
extern bool cq_running_pays(const CqWindow *window);
extern CqPane *cq_running_window(CqOperator *operator, int first, int64 to, TimestampTz end);
extern void cq_running_change(CqOperator *operator, CqPane * slice);
extern void cq_running_leave(CqOperator *operator, int n);
extern void cq_running_forget(CqOperator *operator);

/*
 * session.c; begin: the state is complete.  find: as consume(), but only makes the
 * event's session operator->session, about to change.
 */
extern void cq_sessions_begin(CqOperator *operator);
extern CqOutcome cq_sessions_find(CqOperator *operator, const Datum * values, const bool *nulls,
								  const CqEvent *event, CqMissed *missed);
extern TimestampTz cq_sessions_first_end(CqOperator *operator);
extern TimestampTz cq_sessions_last_end(CqOperator *operator);
extern int cq_sessions_close(CqOperator *operator, TimestampTz watermark, Tuplestorestate *rows);

/* The same of sessions whose rows change; leave: forget those that take no more events. */
extern int cq_sessions_changes(CqOperator *operator, const CqChanges * changes);
extern void cq_sessions_leave(CqOperator *operator, TimestampTz to, Tuplestorestate *rows);

/*
 * touching: the sessions of the key packed last which a range touches and which are
 * not past at that time: the earliest, and a later one if there is one.
 * open: add one.  widen: its range comprises this one, too.  merge: two that are one
 * session, the earlier first.
 */
extern CqGroup *cq_session_touching(CqOperator *operator, CqPane * pane, TimestampTz first,
									TimestampTz last, TimestampTz open_at, CqGroup **second);
extern CqGroup *cq_session_open(CqOperator *operator, CqPane * pane, TimestampTz first,
								TimestampTz last);
extern void cq_session_widen(CqOperator *operator, CqGroup * group, TimestampTz first,
							 TimestampTz last);
extern void cq_session_merge(CqOperator *operator, CqPane * pane, CqGroup *into, CqGroup *from);
extern void cq_sessions_forget(CqOperator *operator, TimestampTz to);

/*
 * session_parts.c; take_part: what another operator has that is complete at upto, and
 * the ranges of what is not.  hold: when that was done for all others.  hold_add: note a
 * range of the key packed last.
 */
extern void cq_sessions_take_part(CqOperator *operator, CqOperator * other, TimestampTz upto);
extern void cq_sessions_hold(CqOperator *operator, TimestampTz upto);
extern void cq_session_hold_add(CqSessionHolds **holds, MemoryContext parent,
								const CqKeyCodec *codec, const CqSession *part);

/*
 * count.c; create: size of a group's windows.  take: fold a row in.  first_end: as if
 * what is complete had always been.  open: windows that a group has.  close, changes, put
 * and get: as for other groups.
 */
extern Size cq_counts_create(CqOperator *operator);
extern void cq_counts_take(CqOperator *operator, CqPane * pane, const Datum *values,
						   const bool *nulls);
extern TimestampTz cq_counts_first_end(CqOperator *operator);
extern int cq_counts_close(CqOperator *operator, Tuplestorestate * rows);
extern int cq_counts_changes(CqOperator *operator, const CqChanges * changes);
extern int cq_counts_open(const CqOperator *operator, const CqCount * count);
extern void cq_counts_put(CqOperator *operator, CqPane * pane, CqGroup *group, StringInfo out);
extern void cq_counts_get(CqOperator *operator, CqPane * pane, CqGroup *group, CqReader *entry);

/* Do so many rows wait that the checkpoint should end? */
extern bool cq_counts_are_many(const CqOperator *operator);

/*
 * Of an entry whose key is the one packed last: was the session given out?  If not,
 * which one in memory is it, or has it become part of?
 */
extern bool cq_session_is_over(CqOperator *operator, CqReader entry);
extern CqGroup *cq_session_match(CqOperator *operator, CqPane * pane, CqReader entry);

/* session_rows.c: the same where sessions keep their rows; loaded: all chunks have been. */
typedef struct CqSessionRows CqSessionRows;
extern CqOutcome cq_session_rows_consume(CqOperator *operator, const Datum * values,
										 const bool *nulls, const CqEvent *event, CqMissed *missed);
extern TimestampTz cq_session_rows_first_end(CqOperator *operator);
extern TimestampTz cq_session_rows_last_end(CqOperator *operator);
extern int cq_session_rows_close(CqOperator *operator, TimestampTz watermark,
								 Tuplestorestate *rows);
extern int64 cq_session_rows_open(CqOperator *operator);
extern void cq_session_rows_loaded(CqOperator *operator);
extern int cq_session_rows_replace(CqOperator *operator, TimestampTz watermark, bool refresh,
								   CqReplaceWindow give_out, void *arg);
extern void cq_session_rows_leave(CqOperator *operator, TimestampTz to);
extern CqKeyCodec *cq_session_rows_codec(CqOperator *operator);
extern void cq_session_rows_forget(CqOperator *operator, TimestampTz to);
extern void cq_session_rows_take_part(CqOperator *operator, CqOperator * other, TimestampTz upto);
extern void cq_session_rows_hold(CqOperator *operator, TimestampTz first, TimestampTz last,
								 TimestampTz upto);

/* count_rows.c: the same where count windows keep their rows; loaded: all chunks have been. */
typedef struct CqCountRows CqCountRows;
extern TimestampTz cq_count_rows_first_end(const CqOperator *operator);
extern bool cq_count_rows_are_many(const CqOperator *operator);
extern int cq_count_rows_close(CqOperator *operator, Tuplestorestate * rows);
extern int cq_count_rows_replace(CqOperator *operator, bool refresh, CqReplaceWindow give_out,
								 void *arg);
extern void cq_count_rows_loaded(CqOperator *operator);

/* Which windows of an event are complete at a watermark; false if one is out of range. */
extern bool cq_hop_missed(CqOperator *operator, TimestampTz time, TimestampTz watermark,
						  CqMissed *missed, int64 *windows);

/* rows.c: has the pane got rows since the last save? */
extern bool cq_rows_have_come(const CqPane *pane);

extern const CqShapeOps cq_shape_aggregate;
extern const CqShapeOps cq_shape_rows;
extern const CqShapeOps cq_shape_session_rows;
extern const CqShapeOps cq_shape_count_rows;

/* ------------------------------------------------------------------------
 * Panes (pane.c)
 * ------------------------------------------------------------------------
 */

/* The pane of a window by its start; NULL if there is none.  0 when there are no windows. */
extern CqPane *cq_operator_pane(CqOperator *operator, int64 start);

/* Place of the first pane that begins at a time or later; of the first that ends after it. */
extern int cq_pane_search_start(CqOperator *operator, TimestampTz start);
extern int cq_pane_search(CqOperator *operator, TimestampTz time);

/*
 * An empty pane, which may then be put among the operator's; free is for one that was
 * not.  The first n of the operator's are closed by close().
 */
extern CqPane *cq_pane_create(CqOperator *operator, TimestampTz start, TimestampTz end);
extern void cq_pane_insert(CqOperator *operator, int place, CqPane *pane);
extern void cq_pane_free(CqOperator *operator, CqPane * pane);
extern void cq_panes_close(CqOperator *operator, int n);

/* Both at once: a new pane at its place among the operator's. */
extern CqPane *cq_pane_open(CqOperator *operator, int place, TimestampTz start, TimestampTz end);

/* The pane for the same as another operator's; opened if there is none. */
extern CqPane *cq_pane_like(CqOperator *operator, const CqPane * other);

/* Have a pane stand for the same windows as another. */
extern void cq_pane_bounds_copy(CqPane *pane, const CqPane *bounds);

/* What a window that has a pane to itself, though it overlaps with others, is known by. */
extern TimestampTz cq_pane_own_start(const CqOperator *operator, TimestampTz end);

/* ------------------------------------------------------------------------
 * To disk and back (saved.c); save and committed are in operator.h
 * ------------------------------------------------------------------------
 */

/* Read all that is wanted from the chunk table into an empty state. */
extern void cq_operator_read(CqOperator *operator, Relation chunks, int64 epoch);

/* Where in time the pane lies that chunks call so; false if there is none. */
extern bool cq_pane_bounds(CqOperator *operator, int64 start, CqPane *pane);

/* All hashes of a view are made in the same way, which the chunks say if there are any. */
extern void cq_operator_seed_keys(CqOperator *operator);

/*
 * An operator that has only those panes whose first window ends at after < end <=
 * upto.  key NULL: for this transaction, with a state that nobody takes over.
 */
extern CqOperator *cq_operator_load(const CqPlan *plan, const CqStoreKey *key, int64 epoch,
									Relation chunks, int64 allowed_lateness_us,
									int64 keep_closed_us, TimestampTz closed_to, TimestampTz after,
									TimestampTz upto, MemoryContext context);

/* Fill in the keys of closed rows that depend on the window alone; memory is in context. */
extern void cq_window_values(CqOperator *operator, MemoryContext context, TimestampTz start,
							 TimestampTz end);

/* Start of the window that a pane is. */
extern TimestampTz cq_pane_window_start(const CqOperator *operator, const CqPane * pane);

/* A time before another; minus infinity has none. */
static inline TimestampTz
cq_before(TimestampTz time, int64 us)
{
	TimestampTz before;

	return TIMESTAMP_IS_NOBEGIN(time) || pg_sub_s64_overflow(time, us, &before) ? DT_NOBEGIN
																				: before;
}

/* Is there one pane only, for all time? */
static inline bool
cq_has_one_pane(const CqOperator *operator)
{
	return operator->window.kind == CQ_WINDOW_NONE || operator->window
		.kind == CQ_WINDOW_COUNT ||
		operator->sessions;
}

/* What chunks call a pane. */
static inline int64
cq_pane_number(const CqOperator *operator, const CqPane * pane)
{
	return cq_has_one_pane(operator) ? 0 : pane->start;
}

/* Does each group have a row in the result table, which changes? */
static inline bool
cq_groups_have_rows(const CqOperator *operator)
{
	return operator->changes && operator->window.kind != CQ_WINDOW_COUNT;
}

/*
 * Do chunks say which groups have a row, and which rows are behind?  Otherwise groups
 * have one if their window was shown to be complete.
 */
static inline bool
cq_groups_tell_rows(const CqOperator *operator)
{
	return operator->shows_open || cq_has_one_pane(operator);
}

/* Can groups be given up when memory is short? */
static inline bool
cq_can_evict(const CqOperator *operator)
{
	return operator->state->flat && !operator->sessions;
}

/* Error: there is no memory left. */
extern void cq_operator_full(CqOperator *operator) CQ_NORETURN;

/* n bytes of a pane's memory, 8-byte aligned, not zeroed; error if there are none. */
static inline void *
cq_pane_alloc(CqOperator *operator, CqPane * pane, Size n)
{
	void *memory = cq_arena_alloc(&pane->arena, n);

	if (unlikely(memory == NULL))
		cq_operator_full(operator);
	return memory;
}

/* Binary output and input functions convert text, see saved.c. */
extern int cq_client_encoding_pin(void);
extern void cq_client_encoding_restore(int encoding);

/* ------------------------------------------------------------------------
 * Memory (room.c)
 * ------------------------------------------------------------------------
 */

/* Is there memory enough, so that eviction may end?  How much more may panes take? */
extern bool cq_operator_has_room(CqOperator *operator);
extern Size cq_operator_room(CqOperator *operator);

/* Will a save have to give groups up?  Those whose rows are behind are not. */
extern bool cq_operator_is_short(CqOperator *operator);

/* By a save: before the panes are saved, what is not used much; after it, all, if need be. */
extern void cq_operator_make_room(CqOperator *operator);
extern void cq_operator_make_all_room(CqOperator *operator);

/* Take the worker's own memory out of the region's account; error if there is too little. */
extern void cq_operator_check_private(CqOperator *operator);

/* In the middle of a checkpoint: save, and give up all memory that can be. */
extern void cq_operator_give_way(CqOperator *operator);

/* ------------------------------------------------------------------------
 * Groups (window_agg.c)
 * ------------------------------------------------------------------------
 */

static inline CqGroupRow *
cq_group_row(CqGroup *group)
{
	return (CqGroupRow *) (group + 1);
}

/* What is saved of a group besides its key, and taken back by an abort. */
static inline char *
cq_group_kept(const CqOperator *operator, CqGroup * group)
{
	return (char *) group + operator->kinds[group->kind].layout.states_offset;
}

static inline char *
cq_group_states(const CqOperator *operator, CqGroup * group)
{
	return cq_group_kept(operator, group) + operator->states_skip;
}

/* Of a session's entry: its times, and when it ends. */
static inline CqSession *
cq_session_of(const CqOperator *operator, CqGroup * group)
{
	return (CqSession *) cq_group_kept(operator, group);
}

static inline TimestampTz
cq_session_end(const CqOperator *operator, CqGroup * group)
{
	return cq_session_of(operator, group)->last + operator->window.size_us;
}

/* The owner of the pane's transition values that are not in the states. */
static inline ExprContext *
cq_pane_memory(const CqOperator *operator, const CqPane * pane)
{
	return operator->aggregates->flat ? operator->flat_memory : pane->memory;
}

static inline char *
cq_group_key(const CqOperator *operator, CqGroup * group)
{
	return (char *) group + operator->kinds[group->kind].layout.key_offset;
}

/*
 * Has the group lost all its rows?  Then it is none; but its entry says so to the
 * chunks (group_empty.c).  Without GROUP BY there is always one.
 */
static inline bool
cq_group_is_empty(const CqOperator *operator, CqGroup * group)
{
	return operator->live_offset >= 0 && group->kind == 0 && operator->nkeys>
		   0 && *(int64 *)(cq_group_states(operator, group) + operator->live_offset) == 0;
}

/* Is its row not what it is? */
static inline bool
cq_group_is_behind(const CqOperator *operator, CqGroup * group)
{
	const CqGroupRow *row = cq_group_row(group);

	return row->behind || row->exists == cq_group_is_empty(operator, group);
}

/* Clean up groups that are empty, at the end of a save of the pane, if there are many. */
extern void cq_groups_drop_empty(CqOperator *operator, CqPane * pane);

/* Call back with each entry of a pane, on disk or not, in the scratch context. */
typedef void (*CqGroupCallback)(CqOperator *operator, CqPane * pane, CqGroup *group, void *arg);
extern void cq_groups_visit(CqOperator *operator, CqPane * pane, CqGroupCallback visit, void *arg);

/* The pane's entry in memory of the key packed last by the kind's codec; NULL if there is none. */
static inline CqGroup *
cq_group_find(const CqOperator *operator, CqPane * pane, int kind)
{
	CqKeyCodec *codec = operator->kinds[kind].codec;
	Size key_offset = operator->kinds[kind].layout.key_offset;
	CqGroup *group;

	for (group = *cq_group_table_chain(&pane->groups, codec->hash); group; group = group->next)
		if (group->hash == codec->hash && group->kind == kind &&
			cq_key_equals(codec, (char *) group + key_offset, group->key_size))
			return group;
	return NULL;
}

/* The same, where windows are sessions: of the entry whose rest is still to be read. */
static inline CqGroup *
cq_group_find_saved(CqOperator *operator, CqPane * pane, int kind, CqReader entry)
{
	return operator->sessions ? cq_session_match(operator, pane, entry)
							  : cq_group_find(operator, pane, kind);
}

/* A new entry of the key packed last, without rows; fetched from disk if it is there. */
extern CqGroup *cq_group_add(CqOperator *operator, CqPane * pane, int kind);

/* A group is about to change: unless that was said before, what it is is noted. */
extern void cq_group_touch(CqOperator *operator, CqPane * pane, CqGroup *group);

/*
 * After evaluation, when an abort means loading: a group that did not change is to be
 * saved again.  False if there is no memory to note it.
 */
extern bool cq_group_resave(CqOperator *operator, CqPane * pane, CqGroup *group);

/* Show a group's row, the columns of its window being set (changes.c). */
extern void cq_group_show(CqOperator *operator, CqPane * pane, CqGroup *group,
						  const CqChanges *changes);

/* A group is to be freed when that is committed. */
extern void cq_group_leave(CqOperator *operator, CqPane * pane, CqGroup *group);

/* The columns of a group's closed row into operator->values and nulls, but for the window's. */
extern void cq_group_values(CqOperator *operator, CqPane * pane, CqGroup *group, bool keep);

/* Those of its keys only. */
extern void cq_group_key_values(CqOperator *operator, CqGroup * group);

/* Add an entry with the key packed last, which is not there; its row and states are zeroed. */
extern CqGroup *cq_group_create(CqOperator *operator, CqPane * pane, int kind);

/* A piece of private memory like such an entry. */
extern CqGroup *cq_group_probe(CqOperator *operator, int kind);

/* ------------------------------------------------------------------------
 * Groups to disk and back (group_saved.c), and from other parts (group_parts.c)
 * ------------------------------------------------------------------------
 */

extern void cq_groups_save(CqOperator *operator, CqPane * pane);
extern void cq_groups_rewrite(CqOperator *operator, CqPane * pane, CqChunkData *chunk);
extern void cq_groups_load(CqOperator *operator, CqPane * pane, CqChunkData *chunk);
extern void cq_groups_take_part(CqOperator *operator, CqPane * pane, CqOperator *other,
								CqPane *part);

/*
 * Pack a key of another operator, or the columns of it that this codec has.
 * Returns its values by stage column, in the current memory context.
 */
extern const Datum *cq_key_repack(CqKeyCodec *other, const char *key, uint32 size,
								  CqKeyCodec *codec);

/* Leave behind what groups that are gone, or parts of groups, had in the pane's private memory. */
extern void cq_groups_renew_memory(CqOperator *operator, CqPane * pane);

/* A group to the bytes of an entry. */
extern void cq_group_put(CqOperator *operator, CqPane * pane, CqGroup *group, StringInfo out);

/*
 * Read an entry: its kind, which is returned, its row if it has one, and its
 * key, which becomes the one packed last.  Then the rest.
 */
extern int cq_group_get_key(CqOperator *operator, CqReader * entry, CqGroupRow *row);
extern void cq_group_get(CqOperator *operator, CqPane * pane, CqGroup *group, const CqGroupRow *row,
						 CqReader *entry);

/* ------------------------------------------------------------------------
 * Buckets (bucket.c)
 * ------------------------------------------------------------------------
 */

/* Bring the entry of the key packed last back from disk; NULL if it is not there. */
extern CqGroup *cq_bucket_lookup(CqOperator *operator, CqPane * pane, int kind);

/* Is an entry of a log chunk that is older than all buckets seen so far obsolete? */
extern bool cq_bucket_covers(const CqPane *pane, uint32 hash);

/* The chunk in which a group on disk with this hash would be; 0 if there can be none. */
extern CqChunkNumber cq_bucket_chunk(const CqPane *pane, uint32 hash);

extern void cq_bucket_load(CqOperator *operator, CqPane * pane, CqChunkData *chunk);
extern void cq_bucket_evict(CqOperator *operator, CqPane * pane, CqEvict how);

/* Call back with each group that is on disk only; it is gone with the next one. */
extern void cq_bucket_visit(CqOperator *operator, CqPane * pane, CqGroupCallback visit, void *arg);

extern void cq_buckets_free(CqState *state, CqPane *pane);

/* ------------------------------------------------------------------------
 * Verification (verify.c)
 * ------------------------------------------------------------------------
 */

/* Note a difference, unless there was one before. */
extern void cq_verify_fail(CqVerification *check, char *problem);

extern void cq_groups_verify_begin(CqPane *pane);
extern void cq_groups_verify(CqOperator *operator, CqPane * pane, CqChunkData *chunk,
							 CqVerification *check);
extern void cq_groups_verify_end(CqOperator *operator, CqPane * pane, CqVerification *check);
