/*
 * run.h
 *	  A task as its worker runs it: everything between (re)start and error.
 *
 * A task is a set of views that share one position in one stream, or one view
 * that reads several.  Its run has the part that they have in common - source,
 * decoders, batch, watermark - and a CqViewRun for each: plan, operator,
 * results, counters.  Records are fetched and decoded once; then each view
 * evaluates the batch, which is of one stream.
 *
 * A run is built from the catalog in one transaction and thrown away after any
 * error; only the source (connections, threads) outlives it, sent back to the
 * committed positions.
 */
#pragma once

#include "postgres.h"

#include "catalog/beginnings.h"
#include "catalog/rows.h"
#include "decode/batch.h"
#include "decode/decoder.h"
#include "operator/operator.h"
#include "plan/derived_time.h"
#include "plan/plan.h"
#include "plan/stage.h"
#include "runtime/measure.h"
#include "sink/late_table.h"
#include "sink/output.h"
#include "source/source.h"
#include "source/watermark.h"

/* Where an error came from; decides whether a record may be blamed. */
typedef enum CqPhase
{
	CQ_PHASE_OTHER,
	CQ_PHASE_EVALUATE, /* stage plan or transition functions over the current batch */
	CQ_PHASE_FINISH,   /* from state to the view's rows */
	CQ_PHASE_APPLY	   /* late rows, see apply_late.c */
} CqPhase;

/* A record that failed where it cannot be singled out in flight; known before the next attempt. */
typedef struct CqCondemned
{
	Oid stream;
	int32 partition; /* Kafka's number */
	int64 offset;
	int sqlstate;
	char *message;
} CqCondemned;

/* The same of a dead letter that is being retried. */
typedef struct CqCondemnedLetter
{
	int64 id;
	int sqlstate;
	char *message;
} CqCondemnedLetter;

/* How carefully batches are evaluated after a record failed. */
typedef struct CqCare
{
	bool careful;			 /* pin errors on events */
	bool failed;			 /* an event was set aside in evaluation since the last success */
	int max_events;			 /* of a batch while careful; 1 = the next failure condemns */
	List *condemned;		 /* of CqCondemned *, in the worker's own memory */
	int late_rows;			 /* at most so many are applied at once; 0 = as many as a batch has */
	int letters;			 /* at most so many dead letters are retried at once; likewise */
	List *letters_condemned; /* of CqCondemnedLetter *, in the worker's own memory */
} CqCare;

typedef struct CqDeadLetter
{
	Oid stream;
	int32 partition; /* Kafka's number */
	int64 offset;
	TimestampTz broker_time;
	int sqlstate;
	char *message;
	const char *key;
	Size key_len;
	const char *payload;
	Size payload_len;
	const char *headers;
	Size headers_len;
	bool truncated;
	int64 id; /* of one that failed again; 0 = it is new */
} CqDeadLetter;

/* What sessions want of a view's worker. */
typedef struct CqWishes
{
	bool enabled;
	uint64 change;
	uint64 asked;
	uint64 wait_requested;
	uint64 wait_done;
} CqWishes;

/* What gives an input its rows, of one stream. */
typedef struct CqStageRun
{
	int stream; /* its number */
	CqPrepared *prepared;
	CqStage *stage; /* of the checkpoint under way; NULL = not begun */
} CqStageRun;

/* One place where a view reads streams; most views have one only.  See plan/inputs.c. */
typedef struct CqInput
{
	const CqPlan *plan; /* replaced with the view's */
	int nstages;		/* more than one: branches of a UNION ALL */
	CqStageRun *stages;
	CqOperator *op; /* NULL for APPEND */
	Oid chunks;
	BlockNumber chunk_blocks;	 /* size of the chunk table after the last checkpoint */
	BlockNumber vacuumed_blocks; /* and at its last vacuum */

	/* of the checkpoint under way */
	Relation chunks_rel;
	Tuplestorestate *closed_rows; /* of windows that have closed; NULL if none has */
} CqInput;

/* How far the late table was gone through for an apply_late(); see apply_late.c. */
typedef struct CqLatePass
{
	int64 request; /* its number; 0 = no pass is under way */
	Oid file;	   /* of the table, when it began */
	BlockNumber end;
	ItemPointerData next;
	bool skipped;		 /* a row that another transaction has */
	int64 not_before_us; /* monotonic: pause until then */
} CqLatePass;

/* And to find late rows that are too old; see late_retention.c. */
typedef struct CqLateSweep
{
	TimestampTz due; /* the next look at it */
	BlockNumber next;
	TimestampTz oldest; /* of the rows that were left */
} CqLateSweep;

/* What is old by the option retention; see retention.c. */
typedef struct CqRetention
{
	TimestampTz oldest_row; /* that may be there; DT_NOBEGIN = some may be old already */
	TimestampTz oldest_letter;
	TimestampTz rows_gone_to; /* all that were older when it was looked for them */
	TimestampTz letters_gone_to;
	TimestampTz written_row; /* oldest of this checkpoint's; DT_NOEND = none, or not known */
	TimestampTz written_letter;
	bool any_written;
	int64 not_before_us; /* monotonic: pause until then */
	int64 look_us;		 /* monotonic: and look once more then */
} CqRetention;

/* One view of a task; one shard of it if the view has several workers. */
typedef struct CqShard CqShard;

typedef struct CqViewRun
{
	MemoryContext context;		/* of all this; below the run's */
	MemoryContext plan_context; /* of plan, stage, close; replaced when stale */
	int64 id;					/* of the position: the view's, or a shard's */
	CqShard *shard;				/* NULL: the view has one worker; see shard.h */
	char name[NAMEDATALEN];
	Oid owner;
	CqView view;
	CqTask task;
	CqBeginning beginning;
	CqPlan *plan;
	CqPrepared *close_prepared; /* NULL unless rows leave on window close, or others read changes */
	int nstreams;
	Bitmapset **columns;	   /* of each stream, that the plan reads */
	CqLateLayout *late_layout; /* of its table of late rows; NULL if it has none */
	int ninputs;
	CqInput *inputs;
	CqOperator *op;	 /* the first input's; NULL for APPEND */
	List *feeds;	 /* of CqFeed *: the views that read this one ... */
	List *feed_logs; /* ... and of CqFeedLog *, in the same order */
	CqCheckpoint checkpoint;
	TimestampTz watermark; /* at the last checkpoint; see cq_view_run_watermark() */
	TimestampTz arrival;   /* when the events evaluated last were taken in; never less */
	TimestampTz clock_to;  /* how far the clock may move the watermark with no event left;
						   * DT_NOBEGIN = not at all */
	int64 clock_due_us;	   /* monotonic: when a window was first seen to be over; 0 = none is */
	int64 commit_us;	   /* from the last event of the last checkpoint to its commit */
	int64 saved_groups;	   /* by it */
	CqViewTimes times;

	/* sharing */
	char *company;		/* views with the same may share a task; NULL = with none */
	uint64 seen_change; /* of its slot, when it was read from the catalog */
	uint64 seen_asked;	/* likewise, or when it was noticed since */
	CqPartition *begun; /* its position when it came to the run */
	int nbegun;
	int64 offset_shift;	   /* local: how many more rows it has read than the run's source */
	int64 locked_since_us; /* monotonic: another session stands in its way; 0 = none does */
	CqWishes wishes;
	uint64 wait_ticket;	  /* wait_for() under way; 0 = none */
	int64 source_ticket;  /* what the source calls it */
	int64 advance_ticket; /* likewise of a pending advance_watermark(); 0 = none */
	TimestampTz advance_marked[CQ_MAX_STREAMS]; /* ... to these times */

	CqLatePass late_pass;
	CqLateSweep late_sweep;
	int64 notify_not_before_us; /* monotonic: closed windows are not told before */
	int64 retry_not_before_us;	/* monotonic: dead letters pause until then */
	CqRetention retention;
	bool row_time_known;
	CqRowTime row_time;
	int64 refreshed_us; /* shifted clock: when rows of open windows were shown, or it came */

	/* of the checkpoint under way */
	struct CqRowChanges *row_changes; /* for readers; NULL = rows do not change, or nobody reads */
	CqOutput *output;
	CqOutput *late;
	Relation result_rel;
	Relation late_rel;
	List *dead_letters; /* of CqDeadLetter * */

	/* of the batch: an event is late for a window once, however many rows it gave */
	Bitmapset *late_events;
	Bitmapset *untimed_events;
	bool *taken; /* several stages: which events gave a row in one of them */
} CqViewRun;

typedef struct CqRun
{
	MemoryContext context;			  /* of the run */
	MemoryContext checkpoint_context; /* reset after each checkpoint */
	List *views;					  /* of CqViewRun *; at least one */
	Oid owner;						  /* of all of them */
	const CqStream *stream;			  /* in the source's memory; of several the first */
	CqSource *source;
	MemoryContext decoder_context;
	CqDecoder **decoders; /* of each stream: fills the columns that any view reads */
	bool same_columns;	  /* all views read all of them */
	bool columns_changed; /* a view has left: fewer may be needed */
	int64 owner_epoch;
	char *start_cursor; /* local: the position that "latest" means for the views; else NULL */
	bool write_anyway;	/* the next checkpoint writes positions even if there is nothing new */
	CqWatermark watermark;
	CqCare *care;
	int64 lost_counted; /* of what the source has given up */
	CqPhase phase;
	CqViewRun *at;	/* the view whose turn it is; NULL while it is the task's as a whole */
	List *refusing; /* of CqViewRun *: those for which a record is bad that is good for others */
	CqBatch batch;

	/* of the checkpoint under way */
	int batches;		  /* taken over so far */
	int64 records;		  /* in them */
	Size set_aside_bytes; /* of dead letters, in memory until written */
	bool locked;		  /* position rows taken */
	bool history_ended;	  /* its last row is in: see history.c */
	bool gave_up_memory;  /* the last one took no events, but gave memory up */
	int applying;		  /* late rows that are being applied */
	int retrying;		  /* dead letters that are being processed again */
	int64 letter;		  /* the first of them */
	uint32 amid_changes;  /* a bit by stream: more comes of what another view changed at once */
} CqRun;

/*
 * An empty run, with all its memory in context, which the caller deletes to end
 * it.  source is the worker's, NULL if none is open.
 */
extern CqRun *cq_run_create(CqSource *source, MemoryContext context, CqCare *care);

/*
 * Build it from the catalog, in a transaction of its own: of the views whose
 * slots this process holds, the first that there is and those that are where it
 * is; the others' slots are given back.  take_along: look for more that nobody
 * runs.  False if there is none.  A source, if need be, is opened in
 * source_context.
 */
extern bool cq_run_build(CqRun *run, bool take_along, MemoryContext source_context);

/*
 * Between checkpoints: take in a view that was handed over; false if it is not
 * where the run is or must run alone, and then it is not part of the run.  Let
 * go of a view.
 */
extern bool cq_run_add(CqRun *run, int64 id);
extern void cq_run_remove(CqRun *run, CqViewRun *view);

/* Which tasks this one could be one with, as a hash; 0 = with none now. */
extern uint64 cq_run_company(const CqRun *run);

/*
 * Plan again those views for which something changed that their plans depend
 * on; false if that is not enough, because the stream has other columns now or
 * others are read.
 */
extern bool cq_run_replan(CqRun *run);

/*
 * A view's part of a run: read its rows of the catalog; NULL if there are none
 * or it should not run here.  Then, as the owner and under the active snapshot,
 * plan it and load its state.  Both in the caller's transaction.
 */
extern CqViewRun *cq_view_run_load(CqRun *run, int64 id);
extern void cq_view_run_prepare(CqRun *run, CqViewRun *view);

/* Which chunks its tables have, as of the last save. */
extern uint64 cq_view_run_digest(const CqViewRun *view);

/*
 * May it be run with the views of the run?  fits: when it is saved where they
 * are saved.  meets: where the run's source is, in a transaction.
 */
extern bool cq_view_run_fits(const CqRun *run, const CqViewRun *view);
extern bool cq_view_run_meets(CqRun *run, CqViewRun *view);

/* Records of Kafka given up since the source was opened. */
extern int64 cq_run_lost(const CqRun *run);

/* The same of positions: is the source at this one, event times included? */
extern CqPlace cq_run_place(CqRun *run, const CqCheckpoint *checkpoint);

/* Plan again, in the caller's transaction as the owner; false if other columns are read now. */
extern bool cq_view_run_replan(CqViewRun *view);

/* Must it be planned again?  Call with its relations locked. */
extern bool cq_view_run_is_stale(const CqViewRun *view);

/*
 * A view's watermark is the larger of its own last value and the stream's: it
 * never moves back when the view comes to a task that is behind.  With windows of
 * processing time the stream's does not count: its own is the clock, as it was when
 * events were taken in, or windows closed.
 */
static inline TimestampTz
cq_view_run_watermark(const CqRun *run, const CqViewRun *view)
{
	if (view->plan && view->plan->window.processing)
		return view->watermark;
	return Max(view->watermark, run->watermark.mark);
}

/* Is all that it reads idle, and no window open, or kept, whose rows readers do not have yet? */
extern bool cq_view_run_is_idle(const CqRun *run, const CqViewRun *view);

/*
 * Act as the views' owner, restricted; returns what cq_run_as_system() needs.  What
 * functions of the owner's SET ends with it.
 */
typedef struct CqRunIdentity
{
	Oid user;
	int context;
	int guc_level;
} CqRunIdentity;
extern CqRunIdentity cq_run_as_owner(const CqRun *run);
extern void cq_run_as_system(CqRunIdentity saved);

typedef enum CqProgress
{
	CQ_PROGRESS_NONE,	 /* nothing to do; nothing written */
	CQ_PROGRESS_LOCKED,	 /* another session is in the way; try again soon */
	CQ_PROGRESS_STALE,	 /* plan must be rebuilt: cq_run_replan() */
	CQ_PROGRESS_ANEW,	 /* committed; the run must be built anew to go on */
	CQ_PROGRESS_DRAINED, /* committed; all that the source had */
	CQ_PROGRESS_MORE	 /* committed; there is more */
} CqProgress;

/*
 * One checkpoint: take in what there is, for at most the checkpoint interval,
 * and make it durable.
 */
extern CqProgress cq_checkpoint_run(CqRun *run);

/*
 * A pending advance_watermark() waits until what the source held then is in.
 * mark: find out how much that is, outside of transactions.  due: is it in, as
 * far as the source knows?
 */
extern void cq_view_run_advance_mark(CqRun *run, CqViewRun *view);
extern bool cq_view_run_advance_due(const CqRun *run, const CqViewRun *view);

/*
 * CHANGES: is anything not shown that changed, and is it time to show it?  See the
 * option emit_interval.
 */
extern bool cq_view_run_is_behind(const CqViewRun *view);
extern bool cq_view_run_refresh_due(const CqViewRun *view, long *wait_ms);

/*
 * Are there events that must wait, because another worker of the view is far
 * behind?  A checkpoint takes in none then.
 */
extern bool cq_run_is_ahead(const CqRun *run);

/* Is there something to make durable even without new events? */
extern bool cq_checkpoint_due(const CqRun *run);

/*
 * Poll, decode and settle one batch: event times, the stream's watermarks, dead
 * letters.  Returns the number of records taken from the source (to be given to
 * advance()); run->batch holds the events among them.
 */
extern int cq_intake(CqRun *run, int max);

/* Evaluate run->batch for one view: stage plan, operator or output. */
extern void cq_evaluate(CqRun *run, CqViewRun *view);

/*
 * What a view does in a checkpoint, in this order.  lock: take its relations
 * without waiting; false if another session is in the way.  open and close:
 * its results.  close_windows: those that its watermark has passed; were there
 * any?  save: write results, state and dead letters.  write: its position row,
 * taken by cq_checkpoint_lock() before.
 */
extern bool cq_view_run_lock(CqViewRun *view);
extern void cq_view_run_open(CqRun *run, CqViewRun *view);
extern bool cq_view_run_close_windows(CqRun *run, CqViewRun *view);

/* Write the rows of those that end by then, however they came to be complete; were there any? */
extern bool cq_view_run_emit(CqRun *run, CqViewRun *view, TimestampTz watermark);

/* A row of the view's, for its table and for those who read it; see cq_feed_log_row(). */
extern void cq_view_run_give_out(CqViewRun *view, Datum *values, bool *nulls, TimestampTz mark);
extern void cq_view_run_save(CqRun *run, CqViewRun *view);

/*
 * What readers of a view whose rows change are told, in a checkpoint: see
 * row_changes.c.  note: before a group's row is written, or deleted (values NULL).
 * final: where rows of windows go that are forgotten; NULL = nowhere.  give_out: at
 * the end.
 */
extern void cq_row_changes_begin(CqRun *run, CqViewRun *view);
extern void cq_row_changes_note(CqViewRun *view, int64 gid, bool is_new, ItemPointer tid,
								Datum *values, bool *nulls);
extern Tuplestorestate *cq_row_changes_final(CqViewRun *view);
extern void cq_row_changes_give_out(CqViewRun *view);
extern void cq_view_run_write(CqRun *run, CqViewRun *view, int64 lost, int64 took_us);
extern void cq_view_run_close(CqRun *run, CqViewRun *view);

/* Decode what the views read that are there now; as the owner, in a transaction. */
extern void cq_run_gather_columns(CqRun *run);

/*
 * A record could not be decoded for all views at once: it is a dead letter of
 * each if it is bad for each.  Otherwise CQ_ERRCODE_APART.
 */
extern void cq_dispute(CqRun *run, const CqRecord *record);

/*
 * Freeze the windows of an input that are complete at a watermark: what they hold
 * becomes closed rows, which close_windows() makes the view's.
 */
extern void cq_view_run_freeze(CqRun *run, CqViewRun *view, CqInput *input, TimestampTz watermark);

/* End of the earliest and the latest window that is open in any input. */
extern TimestampTz cq_view_run_first_end(const CqViewRun *view);
extern TimestampTz cq_view_run_last_end(const CqViewRun *view);

/* Set a record aside as the stream's on_error option says. */
extern void cq_dead_letter(CqRun *run, CqViewRun *view, const CqRecord *record, int sqlstate,
						   const char *message);

/* Stop the task in front of a record, which cannot be processed. */
extern void cq_stop_at(CqRun *run, const CqRecord *record, int sqlstate) CQ_NORETURN;

/* Write the dead letters of this checkpoint. */
extern void cq_dead_letters_write(CqRun *run, CqViewRun *view);

/*
 * Find out what the columns of the late table are; stop unless it has them: an
 * ordinary view between the view and its stream may have been replaced.
 */
extern void cq_late_check(CqViewRun *view);

/* Note an event of the batch; false if it was noted before. */
extern bool cq_event_is_new(CqRun *run, Bitmapset **events, int ordinal);

/* Keep or count an event that was late for some windows or all. */
extern void cq_late_event(CqRun *run, CqViewRun *view, int ordinal, const CqMissed *missed);
