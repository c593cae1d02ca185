/*
 * operator.h
 *	  Streaming operators: rows of the stage query become state, state becomes
 *	  closed rows.
 *
 * Operators know no Kafka and start no transactions.  What they keep in shared
 * memory is a cache of the view's chunk table: cq_operator_save() writes what
 * changed since the last save, cq_operator_create() rebuilds it from there unless
 * what an earlier worker left is still right.  After an abort,
 * cq_states_abort() is called, and the operator is thrown away and created anew.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "storage/itemptr.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "decode/batch.h"
#include "plan/extend.h"
#include "plan/plan.h"
#include "state/region.h"

typedef struct CqOperator CqOperator;

typedef enum CqOutcome
{
	CQ_COUNTED,		/* is part of the state now */
	CQ_LATE,		/* its windows were complete before it came */
	CQ_NO_TIME,		/* needs an event time and has none */
	CQ_CLOSE_FIRST, /* not taken in: windows must be closed up to its watermark before */
} CqOutcome;

/* The windows that an event came too late for: n of them, the first one and those after it. */
typedef struct CqMissed
{
	int64 n;
	TimestampTz start;
	TimestampTz end;
	int64 start_slide_us; /* from the start, and the end, of one to the next one's */
	int64 end_slide_us;
} CqMissed;

/*
 * Create the operator of an AGGREGATE or ROWS plan.  key: whose state it is;
 * epoch: the number of the last committed checkpoint.  If the state in memory
 * is not of that one it is loaded from the view's chunk table, under the
 * active snapshot.  All private memory is in a child of context.  allowed_lateness_us:
 * how long after its end a window takes late events; keep_closed_us: how long it is
 * kept, no less.  closed_to: no window that was no longer kept at that watermark is
 * ever opened.
 */
extern CqOperator *cq_operator_create(const CqPlan *plan, const CqStoreKey *key, int64 epoch,
									  Relation chunks, int64 allowed_lateness_us,
									  int64 keep_closed_us, TimestampTz closed_to,
									  MemoryContext context);
/*
 * Append what a chunk table has to another one, as state of a query with more columns;
 * as the view's owner, and with the active snapshot.
 */
extern void cq_operator_convert(const CqConversion *conversion, Relation from, Relation to);

extern void cq_operator_destroy(CqOperator *operator);

/* A checkpoint begins: what is on disk only is read from chunks, until committed(). */
extern void cq_operator_begin(CqOperator *operator, Relation chunks);

/*
 * Fold one stage row in.  row has all stage columns, column 0 being the
 * ordinal.  *missed are the windows that it is late for: all of its windows if
 * the outcome is CQ_LATE, none or some if it is CQ_COUNTED.
 */
extern CqOutcome cq_operator_consume(CqOperator *operator, TupleTableSlot * row,
									 const CqEvent *event, CqMissed *missed);

/*
 * CHANGES with windows: fold a row of an event that was late into those of its
 * windows that end by upto and are still kept.  event->watermark is not looked at.
 * False if there is none.  kept_from: no window that ends by then is kept.
 */
extern bool cq_operator_apply(CqOperator *operator, TupleTableSlot * row, const CqEvent *event,
							  TimestampTz upto);
extern TimestampTz cq_operator_kept_from(CqOperator *operator);

/* End of the earliest and the latest open window; DT_NOEND / DT_NOBEGIN if none is open. */
extern TimestampTz cq_operator_first_end(CqOperator *operator);
extern TimestampTz cq_operator_last_end(CqOperator *operator);

/*
 * Close all windows with end <= watermark, in order of their ends: put their
 * rows (plan->closed_desc) into the tuplestore and forget them.  Their chunks
 * are deleted by the next save.  Returns the number of windows closed.  They
 * must be closed up to each checkpoint's watermark at its end; a hopping window
 * before, too, when consume() says so: an event behind it must not get into it.
 */
extern int cq_operator_close(CqOperator *operator, TimestampTz watermark, Tuplestorestate *rows);

/*
 * State in parts, see combine.c.  take_in: add what another part's chunk table
 * holds, under the active snapshot, for the first time of windows with after < end
 * <= upto; a retired part has nobody else who would delete it, so that is done,
 * too.  hold: with all of them taken in, before close().  portion: up to where that
 * is best done next; DT_NOBEGIN if its table is empty.
 * forget: what was for windows with end <= to was taken in by another.
 */
extern void cq_operator_take_in(CqOperator *operator, const CqPlan * plan, Relation chunks,
								TimestampTz after, TimestampTz upto, bool retired);
extern void cq_operator_hold(CqOperator *operator, TimestampTz upto);
extern TimestampTz cq_operator_portion(CqOperator *operator, Relation chunks);
extern void cq_operator_forget(CqOperator *operator, TimestampTz to);

/* Is nothing kept?  Can an operator of this plan go on with what is? */
extern bool cq_operator_is_empty(const CqOperator *operator);
extern bool cq_operator_suits(const CqOperator *operator, const CqPlan * plan);

/* CHANGES: new groups get numbers from this one on. */
extern void cq_operator_number_from(CqOperator *operator, int64 gid);

/*
 * CHANGES with windows: after changes(), forget the windows that are complete
 * at the watermark and need not be kept any longer.  Their rows (plan->closed_desc),
 * which are final, go into the tuplestore unless it is NULL.
 */
extern void cq_operator_leave(CqOperator *operator, TimestampTz watermark, Tuplestorestate *rows);

/* CHANGES: are there windows that leave() has not forgotten? */
extern bool cq_operator_keeps(const CqOperator *operator);

/*
 * CHANGES: give every group that changed since the last save to upsert(), with
 * its finished values (plan->closed_desc).  With windows: those of windows that
 * are complete at the watermark, and of others if the plan shows them; returns
 * how many have become complete.  gid identifies the group for ever;
 * *tid is invalid when this worker does not know where the group's row is
 * (is_new says whether there is one) and is set by the callee.  remove() gets rows
 * of groups that have no rows any more, and of sessions that are part of others
 * now, or may grow again.
 *
 * refresh false: what is not complete need not be shown now.  is_behind: what
 * changed was not shown, and waits for a call with refresh.
 */
typedef void (*CqUpsert)(void *arg, int64 gid, bool is_new, ItemPointer tid, Datum *values,
						 bool *nulls);
typedef void (*CqRemove)(void *arg, int64 gid, ItemPointer tid);
typedef struct CqChangeSink
{
	CqUpsert upsert;
	CqRemove remove;
	void *arg;
} CqChangeSink;

extern int cq_operator_changes(CqOperator *operator, TimestampTz watermark, bool refresh,
							   const CqChangeSink *sink);
extern bool cq_operator_is_behind(const CqOperator *operator);

/*
 * CHANGES with ROWS: the same for windows.  give_out() gets all rows of one that has
 * changed (plan->closed_desc), number tells it from the others for ever; fresh: nothing
 * was given out for it before.
 */
typedef void (*CqReplaceWindow)(void *arg, int64 number, bool fresh, Tuplestorestate *rows);
extern int cq_operator_replace(CqOperator *operator, TimestampTz watermark, bool refresh,
							   CqReplaceWindow give_out, void *arg);

/* Write what changed since the last save to the chunk table, delete what is obsolete. */
extern void cq_operator_save(CqOperator *operator, Relation chunks);

/*
 * The transaction that saved has committed, as this checkpoint.  Returns how many
 * groups or rows it had saved.  Does not throw.
 */
extern int64 cq_operator_committed(CqOperator *operator, int64 epoch);

/* Memory is short: should the checkpoint end, so that some can be given up? */
extern bool cq_operator_wants_save(CqOperator *operator);

/* Does the view hold more than it may, because others need memory? */
extern bool cq_operator_must_shrink(CqOperator *operator);

/*
 * Between checkpoints: is memory what the chunks say, under the active
 * snapshot?  NULL if so, else a sentence about the first difference.
 */
extern char *cq_operator_verify(CqOperator *operator, Relation chunks);

/* After an abort, for all operators of this process; see state.h. */
extern void cq_states_abort(void);

/* Let go of the state of a view, without changes now: another process will run it. */
extern void cq_state_detach(int64 view);

typedef struct CqOperatorStats
{
	int64 groups;
	int64 open_windows;
	int64 memory_bytes;
	int64 chunk_bytes; /* in the chunk table, live and dead */
	int64 live_chunk_bytes;
	int64 deleted_chunk_bytes; /* since the chunk table's last vacuum */
	uint64 chunk_digest;	   /* which chunks the table has, see state/chunklog.h */
	int64 evictions;
	int64 loads;
	bool reused; /* the state in memory is one that another worker or run left */
} CqOperatorStats;

extern void cq_operator_stats(CqOperator *operator, CqOperatorStats * stats);

/* The chunk table was vacuumed. */
extern void cq_operator_vacuumed(CqOperator *operator);

/* The window of plan->window that an event time falls into. */
extern void cq_window_bounds(const CqWindow *window, TimestampTz time, TimestampTz *start,
							 TimestampTz *end);

/*
 * Can this aggregate be kept incrementally (its transition value saved, read
 * back and, where the state is internal, combined)?  Used by the planner to
 * choose between AGGREGATE and ROWS; *why is set to a phrase when not.
 */
extern bool cq_aggregate_is_incremental(const Aggref *aggref, const char **why);

/*
 * Can what a row has given it be taken back, exactly?  *why is set to a phrase when
 * not.
 */
extern bool cq_aggregate_can_retract(const Aggref *aggref, const char **why);

/* Can the states of this aggregate over parts of the rows be combined into one? */
extern bool cq_aggregate_is_combinable(const Aggref *aggref);

/*
 * Error, with a hint, if the state of a plan could not be kept: a type of its
 * keys or rows cannot be saved.  For CREATE; cq_operator_create() finds out, too.
 */
extern void cq_operator_check(const CqPlan *plan);
