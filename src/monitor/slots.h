/*
 * slots.h
 *	  Slots in shared memory: which views there are, who runs them and how they
 *	  do.
 *
 * There is a slot for each view.  A worker holds the slots of all views of its
 * task; one of them, the leader, stands for the task.
 *
 * Locking: CqShared.lock guards the arrays and everything in them but the
 * fields that only the task's own worker writes and others read without a lock
 * for display ("worker's own"), which are plain aligned 8-byte stores.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "monitor/metrics.h"
#include "source/stream.h"

#define CQ_MESSAGE_SIZE 512

/* What a task's worker is doing or why there is none. */
typedef enum CqActivity
{
	CQ_ACTIVITY_NOT_STARTED,
	CQ_ACTIVITY_NO_WORKER_SLOT, /* max_worker_processes exhausted */
	CQ_ACTIVITY_STARTING,
	CQ_ACTIVITY_LOADING_STATE,
	CQ_ACTIVITY_WAITING_FOR_EVENTS,
	CQ_ACTIVITY_PROCESSING,
	CQ_ACTIVITY_COMMITTING,
	CQ_ACTIVITY_WAITING_FOR_LOCK,
	CQ_ACTIVITY_BACKING_OFF, /* after an error */
	CQ_ACTIVITY_SOURCE_UNREACHABLE,
	CQ_ACTIVITY_PAUSED,
	CQ_ACTIVITY_STOPPED
} CqActivity;

/*
 * Of a view with several workers: what one of them tells the others.  All of it
 * is true of what is committed.
 */
typedef struct CqShardReport
{
	uint64 change;		   /* the slot's, when the worker read its rows */
	bool begun;			   /* knows its partitions */
	bool idle;			   /* has none, or all of them are */
	bool caught_up;		   /* no partition has a known backlog */
	int64 known_us;		   /* idle: monotonic time that this tells of */
	TimestampTz mark;	   /* watermark of its partitions */
	TimestampTz first_end; /* of its windows; DT_NOEND */
	TimestampTz last_end;  /* DT_NOBEGIN */
	TimestampTz frozen_to;
	TimestampTz closed_to;
	TimestampTz advanced_to; /* advance_watermark(): everything before the call is in */
	bool past_gap;			 /* resume(accept_loss): has read on behind what is lost */
} CqShardReport;

typedef struct CqTaskSlot
{
	bool in_use;
	uint32 generation; /* counts the uses of this slot */
	Oid database;
	int64 task;
	bool enabled;  /* should run */
	uint64 change; /* bumped when the task's catalog rows changed: worker rereads them */
	uint64 asked;  /* ... when only its row of tasks did: something is asked for there */

	/* the worker */
	pid_t pid; /* 0 = none */
	Latch *latch;
	Oid streams[CQ_MAX_STREAMS]; /* that the worker reads; for waking it when a local one grows */
	Oid owner;					 /* of the view; decides who may see the last error */
	bool starting;				 /* registered with the postmaster, not yet attached */

	/*
	 * Sharing, see runtime/share.c.  Other slots are referred to by their index
	 * + 1, so that zero is none.
	 */
	int leader;				 /* of the task, while there is a worker */
	bool settled;			 /* the worker has chosen the views that it runs */
	uint64 company;			 /* a leader: tasks with the same may become one; 0 = with none */
	TimestampTz apart_until; /* runs alone until then */
	int joining;			 /* a leader: the leader of the task that its views shall go over to */
	int stands_for;			 /* a leader: that of the task for which it stands still */
	int handed_to;			 /* no worker any more: the leader whose task shall take the view */

	CqShardReport report; /* of a view with several workers; see runtime/shard.c */

	int failures;			 /* in a row; decides the backoff */
	TimestampTz start_after; /* not before */
	TimestampTz started_at;

	/* the worker's own */
	int activity;			  /* CqActivity */
	int64 watermark;		  /* uncommitted; DT_NOBEGIN if none */
	int64 first_end;		  /* of its open windows; DT_NOEND if none is */
	bool idle;				  /* all that it reads is, and nothing is open */
	int64 last_checkpoint_us; /* duration of the last one */
	int64 state_bytes;
	int64 chunk_bytes; /* of state chunks, and of what in them is not obsolete */
	int64 live_chunk_bytes;
	int64 groups;
	int64 open_windows;
	int64 commit_us; /* of the last checkpoint, without its events */
	int64 longest_commit_us;
	int64 saved_groups;	   /* by the last checkpoint */
	int64 evictions;	   /* of state from memory */
	int64 loads;		   /* of groups back into it */
	bool state_reused;	   /* the worker found its state in memory */
	uint64 wait_requested; /* tickets of wait_for(): taken ... */
	uint64 wait_done;	   /* ... and fulfilled, committed */

	/* verify_state(): tickets taken and answered; guarded by the lock */
	uint64 verify_requested;
	uint64 verify_done;
	char verify_message[CQ_MESSAGE_SIZE]; /* the first difference; empty = none */

	/* last error; guarded by the lock */
	TimestampTz error_at; /* 0 = none */
	int error_sqlstate;
	char error_message[CQ_MESSAGE_SIZE];
} CqTaskSlot;

typedef struct CqPartitionSlot
{
	bool in_use;
	int task_slot; /* index of the task's leader; valid while in_use */
	int32 stream;  /* number of its stream */
	int32 partition;
	int64 end_offset; /* worker's own from here */
	int64 next_offset;
	int64 max_event_time;
	int64 max_disorder_us;
	TimestampTz last_record_at; /* 0 = none was taken by this worker */
	double rate;				/* records per second, as of rated_us; see metrics.h */
	int64 since_us;
	int64 rated_us;
	bool idle;
	bool unreachable;
} CqPartitionSlot;

typedef struct CqDatabaseSlot
{
	Oid database; /* InvalidOid = free */
	int holds;	  /* > 0: no worker may connect (DROP DATABASE, TEMPLATE, ... under way) */
	bool probed;
} CqDatabaseSlot;

#define CQ_MAX_DATABASES 256

typedef struct CqShared
{
	LWLock *lock;
	Latch *launcher_latch;
	pid_t launcher_pid;
	bool shortage;					 /* a task found no slot: look for it when one is freed */
	bool probe_all;					 /* launcher: look into every database again */
	pg_atomic_uint64 verifications;	 /* requests of verify_state(), over all tasks */
	pg_atomic_uint64 clock_shift_us; /* see clock.h */
	CqDatabaseSlot databases[CQ_MAX_DATABASES];
	int ntasks; /* array sizes */
	int npartitions;
	CqTaskSlot *tasks;
	CqPartitionSlot *partitions;
	CqMetrics *metrics; /* of each task slot */
} CqShared;

extern CqShared *cq_shared; /* NULL when the library was not preloaded */

extern void cq_slots_init(void); /* from _PG_init: request and start-up hooks */

/* Error with a hint unless preloaded. */
extern void cq_require_preload(void);

/*
 * The following take the lock themselves.  They act at once; callers that must
 * wait for commit use cq_slots_at_commit().
 */
extern int cq_slots_free(void);						   /* that no view has */
extern void cq_slot_add(Oid database, int64 task);	   /* or enable, if there */
extern void cq_slot_disable(Oid database, int64 task); /* stop the worker, keep the slot */
extern void cq_slot_remove(Oid database, int64 task);  /* stop the worker, free the slot */
extern void cq_slots_remove_database(Oid database);
extern void cq_launcher_wake(void);

/* Do one of the above when the current transaction commits; forget it if it aborts. */
typedef enum CqSlotAction
{
	CQ_SLOT_ADD,
	CQ_SLOT_DISABLE,
	CQ_SLOT_REMOVE,
	CQ_SLOT_CHANGED,		/* the worker rereads the view's catalog rows */
	CQ_SLOT_ASKED,			/* ... its row of tasks, and goes on as it is */
	CQ_SLOT_PROBE,			/* this database: look for tasks, and have the workers begin anew */
	CQ_SLOT_REMOVE_DATABASE /* this database: forget all tasks (DROP EXTENSION) */
} CqSlotAction;
extern void cq_slots_at_commit(CqSlotAction action, int64 task);

/*
 * Keep workers out of a database until the current transaction ends: terminate
 * those there and wait until they are gone (at most 5 s).
 */
extern void cq_database_hold(Oid database);

/* Must workers stay out of this database now?  Caller must hold cq_shared->lock. */
extern bool cq_database_is_held(Oid database);

/* What belongs to a slot of tasks; the caller must hold cq_shared->lock. */
extern CqMetrics *cq_slot_metrics(const CqTaskSlot *slot);

/* Find a task's slot; caller must hold cq_shared->lock.  -1 if none. */
extern int cq_slot_find(Oid database, int64 task);

/* A copy of a task's slot for display; false if there is none. */
extern bool cq_slot_read(Oid database, int64 task, CqTaskSlot *copy);

/*
 * wait_for(): ask the worker to note where its sources end now; returns the
 * ticket, 0 if no worker runs.  done: has it been committed up to there?
 */
extern uint64 cq_slot_request_wait(Oid database, int64 task);
extern bool cq_slot_wait_done(Oid database, int64 task, uint64 ticket);

/*
 * Workers of one view.  report: what the worker of a position has told; false if
 * there is no worker, or it has not told anything yet, or its view has changed
 * since.
 */
extern bool cq_slot_report(Oid database, int64 task, CqShardReport *report);
extern void cq_slot_tell(Oid database, int64 task, const CqShardReport *report);
extern void cq_slot_wake(Oid database, int64 task);

/*
 * verify_state(): ask the worker to compare its state with the chunks; returns
 * the ticket, 0 if no worker runs.  wanted: the ticket to answer, 0 if there is
 * none.  answer: message is the first difference, NULL if there is none.
 */
extern uint64 cq_slot_request_verify(Oid database, int64 task);
extern uint64 cq_slot_verify_wanted(Oid database, int64 task);
extern void cq_slot_verify_answer(Oid database, int64 task, uint64 ticket, const char *message);

extern const char *cq_activity_name(int activity);
