/*
 * run.h
 *	  A task as its worker runs it: everything between (re)start and error.
 *
 * A run is built from the catalog in one transaction and thrown away after any
 * error; only the source (connections, threads) outlives it, sent back to the
 * committed positions.
 */
#pragma once

#include "postgres.h"

#include "catalog/catalog.h"
#include "decode/batch.h"
#include "decode/decoder.h"
#include "operator/operator.h"
#include "plan/plan.h"
#include "plan/stage.h"
#include "sink/output.h"
#include "source/source.h"
#include "source/watermark.h"

/* Where an error came from; decides whether a record may be blamed. */
typedef enum CqPhase
{
	CQ_PHASE_OTHER,
	CQ_PHASE_EVALUATE, /* stage plan or transition functions over the current batch */
	CQ_PHASE_FINISH	   /* from state to the view's rows */
} CqPhase;

/* A record that failed where it cannot be singled out in flight; known before the next attempt. */
typedef struct CqCondemned
{
	int32 partition; /* Kafka's number */
	int64 offset;
	int sqlstate;
	char *message;
} CqCondemned;

/* How carefully batches are evaluated after a record failed. */
typedef struct CqCare
{
	bool careful;	 /* pin errors on events */
	bool failed;	 /* an event was set aside in evaluation since the last success */
	int max_events;	 /* of a batch while careful; 1 = the next failure condemns */
	List *condemned; /* of CqCondemned *, in the worker's own memory */
} CqCare;

typedef struct CqDeadLetter
{
	int32 partition; /* Kafka's number */
	int64 offset;
	TimestampTz broker_time;
	int sqlstate;
	char *message;
	const char *key;
	Size key_len;
	const char *payload;
	Size payload_len;
} CqDeadLetter;

typedef struct CqRun
{
	MemoryContext context;			  /* of the run */
	MemoryContext plan_context;		  /* of plan, stage, close; replaced when stale */
	MemoryContext checkpoint_context; /* reset after each checkpoint */
	int64 id;
	Oid owner;
	CqView view;
	CqTask task;
	const CqStream *stream; /* in the source's memory */
	CqPlan *plan;
	CqPrepared *stage_prepared;
	CqPrepared *close_prepared; /* NULL unless rows leave on window close */
	CqDecoder *decoder;
	Bitmapset *columns; /* of the stream, that the decoder fills */
	CqOperator *op;		/* NULL for APPEND */
	CqWatermark watermark;
	CqCheckpoint checkpoint;
	CqSource *source;
	CqCare *care;
	BlockNumber chunk_blocks; /* size of the chunk table after the last checkpoint */
	int64 lost_counted;		  /* of what the source has given up */
	CqPhase phase;
	CqBatch batch;
	TimestampTz clock_to; /* how far the clock may move the watermark if there is no event left;
						   * DT_NOBEGIN = not at all */

	/* of the checkpoint under way */
	CqStage *stage;
	CqOutput *output;
	CqOutput *late;
	Relation result_rel;
	Relation late_rel;
	Relation chunks_rel;
	List *dead_letters;	   /* of CqDeadLetter * */
	int last_late_ordinal; /* an event is late for a window once, however many rows it gave */
	int last_untimed_ordinal;
	int batches;		  /* taken over so far */
	Size set_aside_bytes; /* of dead letters, in memory until written */
	bool locked;		  /* position row taken */
} CqRun;

/*
 * Build a run from the catalog, in a transaction of its own, with all its
 * memory in context, which the caller deletes to end it.  NULL if the task is
 * gone or should not run.  source is the worker's, NULL if none is open: one is opened in
 * source_context.
 */
extern CqRun *cq_run_begin(int64 id, int64 owner_epoch, CqSource *source,
						   MemoryContext source_context, MemoryContext context, CqCare *care);

/*
 * Plan again after something that the plan depends on changed; false if that
 * is not enough, because the stream has other columns now or others are read.
 */
extern bool cq_run_replan(CqRun *run);

/* Act as the view's owner, restricted; returns what cq_run_as_system() needs. */
typedef struct CqIdentity
{
	Oid user;
	int context;
} CqIdentity;
extern CqIdentity cq_run_as_owner(const CqRun *run);
extern void cq_run_as_system(CqIdentity saved);

typedef enum CqProgress
{
	CQ_PROGRESS_NONE,	 /* nothing to do; nothing written */
	CQ_PROGRESS_LOCKED,	 /* another session is in the way; try again soon */
	CQ_PROGRESS_STALE,	 /* plan must be rebuilt: cq_run_replan() */
	CQ_PROGRESS_DRAINED, /* committed; all that the source had */
	CQ_PROGRESS_MORE	 /* committed; there is more */
} CqProgress;

/*
 * One checkpoint: take in what there is, for at most the checkpoint interval,
 * and make it durable.  advance: the task's row may hold a pending
 * advance_watermark().
 */
extern CqProgress cq_checkpoint_run(CqRun *run, bool advance);

/* Is there something to make durable even without new events? */
extern bool cq_checkpoint_due(const CqRun *run);

/*
 * Poll, decode and settle one batch: event times, watermarks, dead letters.
 * Returns the number of records taken from the source (to be given to
 * advance()); run->batch holds the events among them.
 */
extern int cq_intake(CqRun *run, int max);

/* Evaluate run->batch: stage plan, operator or output. */
extern void cq_evaluate(CqRun *run);

/* Set a record aside as the stream's on_error option says. */
extern void cq_dead_letter(CqRun *run, const CqRecord *record, int sqlstate, const char *message);

/* Write the dead letters of this checkpoint. */
extern void cq_dead_letters_write(CqRun *run);

/*
 * Stop unless the late table has the columns that the view reads: an ordinary
 * view between it and the stream may have been replaced.
 */
extern void cq_late_check(CqRun *run);

/* Keep or count a late event. */
extern void cq_late_event(CqRun *run, int ordinal, TimestampTz window_start,
						  TimestampTz window_end);
