/*
 * rows.h
 *	  Rows of the extension's tables as C structs, both ways; no decisions.
 *
 * These functions read and write as the system, whoever the current user is:
 * callers check rights.  Reads use the transaction's latest snapshot of the
 * catalog unless said otherwise.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/itemptr.h"

#include "compat.h"
#include "source/source.h"

/* A view's options, parsed and with defaults. */
typedef struct CqViewOptions
{
	int workers;
	int emit; /* CqEmit, or -1: by whether the query has windows */
	int64 allowed_lateness_us;
	int64 keep_closed_us; /* no less than allowed_lateness_us */
	bool store_late;
	int64 late_retention_us;	/* -1 = for ever */
	int64 retention_us;			/* of rows, and all else that is kept; likewise */
	char *notify;				/* channel that closed windows are told on; NULL = none */
	int64 emit_interval_us;		/* between refreshes of open windows; 0 = at each checkpoint */
	int checkpoint_interval_ms; /* 0 = pipeline.checkpoint_interval */
	CqStart start;				/* overrides the stream's when has_start */
	bool has_start;
	TimestampTz start_time;
	List *given; /* of char *: "name=value" as the user wrote */
} CqViewOptions;

typedef struct CqView
{
	int64 id;
	Oid view;
	List *streams; /* OIDs: what it reads; a place in the list is a stream's number */
	Oid stream;	   /* the first one */
	Oid query;
	Oid result;
	Oid chunks; /* InvalidOid if none */
	Oid late;	/* InvalidOid if none */
	CqViewOptions options;
	List *settings;	   /* of char *: "name=value" */
	List *late_places; /* of int: see sink/late_table.h; NIL = in order */
} CqView;

typedef enum CqTaskState
{
	CQ_TASK_RUNNING,
	CQ_TASK_PAUSED,
	CQ_TASK_STOPPED
} CqTaskState;

typedef struct CqTask
{
	int64 id;
	Oid database;
	int64 incarnation;
	CqTaskState state;
	char *reason;
	bool has_advance; /* an advance_watermark() is pending ... */
	TimestampTz
		advance_to[CQ_MAX_STREAMS]; /* ... of these streams; DT_NOBEGIN = of this one none */
	bool accept_loss;
	int64 apply_late; /* number of a pending apply_late(); 0 = none */
	int64 retry;	  /* and of retry_dead_letters() */
} CqTask;

/* Counters of a task, cumulative; saved with each checkpoint. */
typedef struct CqCounters
{
	int64 events_in;
	int64 filtered;
	int64 unmatched;
	int64 late;
	int64 dead_letters;
	int64 retried;
	int64 skipped;
	int64 lost;
	int64 rows_out;
	int64 bytes_in;
	int64 windows_closed;
	int64 rows_expired;
	int64 checkpoint_us;
	int64 rows_kept; /* in the result table */
} CqCounters;

extern void cq_counters_add(CqCounters *counters, const CqCounters *more);

/* A task's position row. */
typedef struct CqCheckpoint
{
	int64 task;
	int64 owner_epoch;
	int64 seq;
	TimestampTz closed_to; /* DT_NOBEGIN = none yet */
	int64 next_gid;
	TimestampTz
		stream_mark; /* the task's watermark, with these positions and their bounds on disorder */
	CqCounters counters;
	TimestampTz
		frozen_to;		/* of a view with several workers: see runtime/shard.c; else DT_NOBEGIN */
	int64 told_windows; /* of counters.windows_closed: see runtime/notify.c */
	TimestampTz told_upto; /* likewise of closed_to */
	bool has_digest;
	uint64 state_digest; /* of its chunk tables, added up */
	int npartitions;
	CqPartition *partitions; /* only the saved part is filled in */
	ItemPointerData tid;	 /* of the row version that was read or written last */
} CqCheckpoint;

/* views */
extern void cq_view_insert(const CqView *view);
extern bool cq_view_load(int64 id, CqView *view);		  /* false: no such row */
extern bool cq_view_load_by_oid(Oid relid, CqView *view); /* by the user's view */

/* Error: a view that was there a moment ago is not; name may be NULL. */
extern void cq_view_gone(const char *name) CQ_NORETURN;
extern List *cq_views_all(void);			 /* of int64 *: ids of all views */
extern List *cq_view_ids(void);				 /* of int64 *: of all views of the database */
extern List *cq_views_of_stream(Oid stream); /* of int64 *: ids of the views that read it */

/*
 * A view that reads streams in several places has a chunk table for each; these
 * are those besides its own, in the order of the inputs' numbers.
 */
extern void cq_view_add_chunks(int64 view, int number, Oid chunks);
extern List *cq_view_more_chunks(int64 view);

extern void cq_view_delete(int64 id); /* with task, checkpoint and dead letters */
extern void cq_view_set_options(int64 id, List *given);
extern void cq_view_set_late_places(int64 id, List *places);

/*
 * Parse "name=value" options; error with a hint on unknown names or bad
 * values.  view_name is for messages.
 */
extern void cq_view_options_parse(List *given, const char *view_name, CqViewOptions *options);

/* Error with the names that there are if this is not one. */
extern void cq_view_option_check(const char *name, const char *view_name);

/* Name of the option by which late events change rows of complete windows; NULL if none does. */
extern const char *cq_view_options_corrected_by(const CqViewOptions *options);

/* tasks */
extern void cq_task_insert(int64 id); /* running, with this database's identity */
extern bool cq_task_load(int64 id, CqTask *task);
extern bool
cq_task_is_ours(const CqTask *task); /* created or adopted here, not restored from elsewhere */
extern void cq_task_set_state(int64 id, CqTaskState state, const char *reason);
extern void cq_task_set_advance(int64 id, int stream, TimestampTz advance_to); /* or further */

/*
 * Forget a pending advance of a stream, unless another one has been asked for meanwhile.
 * False if another session is just asking for something: nobody is waited for.
 */
extern bool cq_task_clear_advance(int64 id, int stream, TimestampTz applied);

/*
 * Ask for late rows to be applied; forget that this request was made, unless another one
 * has been made since.  False as above.
 */
extern void cq_task_set_apply_late(int64 id);
extern bool cq_task_clear_apply_late(int64 id, int64 applied);
extern void cq_task_set_retry(int64 id); /* the same for dead letters to be retried */
extern bool cq_task_clear_retry(int64 id, int64 done);
extern void cq_task_set_accept_loss(int64 id, bool accept_loss);
extern void cq_tasks_adopt(void); /* give all tasks this database's identity */
extern List *
cq_tasks_running(void); /* of int64 *: positions of tasks in state running that are ours */

/* checkpoints */
extern void cq_checkpoint_insert(int64 task); /* the first one: no partitions yet */
extern bool cq_checkpoint_load(int64 task, CqCheckpoint *checkpoint);

/*
 * Compare-and-set, in two steps.  lock: take the row version that was read
 * last for this transaction; CQ_ERRCODE_FENCED if it is not the current one.
 * write: replace it and remember the new version's place in checkpoint->tid.
 */
extern void cq_checkpoint_lock(CqCheckpoint *checkpoint);
extern void cq_checkpoint_write(CqCheckpoint *checkpoint);

/*
 * Load the newest version and take it, waiting for a checkpoint under way.  Once
 * it is written the worker that wrote it before is fenced.  False if there is no
 * such row.
 */
extern bool cq_checkpoint_take(int64 task, CqCheckpoint *checkpoint);

/* Is the extension there (and its catalog readable) in this database? */
extern bool cq_extension_exists(void);
