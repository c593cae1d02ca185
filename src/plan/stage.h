/*
 * stage.h
 *	  Executing stage and close queries.
 *
 * A stage is opened for one checkpoint and run for each of its batches, so
 * that hash tables over joined tables are built once per checkpoint.
 */
#pragma once

#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/snapshot.h"
#include "utils/tuplestore.h"

#include "decode/batch.h"
#include "plan/plan.h"

/* A planned query that is replanned when something it depends on changed. */
typedef struct CqPrepared CqPrepared;

/* Takes one row of the stage query; event ordinal already taken out of column 1. */
typedef void (*CqRowConsumer)(void *arg, int ordinal, TupleTableSlot *row);

typedef struct CqStageCounts
{
	int64 filtered;	 /* events that the scan's own filter dropped */
	int64 unmatched; /* events that gave no row for another reason (inner joins) */
	int64 rows;		 /* rows given to the consumer */
} CqStageCounts;

typedef struct CqStage CqStage;

/*
 * Plan the stage query as the current user, in the transaction of
 * cq_plan_query() (which holds the locks).  Allocated in context, which must
 * outlive the plan; freed with it.
 */
extern CqPrepared *cq_stage_prepare(const CqPlan *plan, MemoryContext context);

extern void cq_prepared_free(CqPrepared *prepared);

/*
 * Large tables (of Oid) that are read as a whole in each checkpoint, even for a
 * single event, because no index serves the join.
 */
extern List *cq_stage_whole_tables(const CqPrepared *prepared);

/*
 * Has anything that the plan depends on changed since?  Then the whole CqPlan
 * must be rebuilt from the stored query.  Call after the relations were locked.
 */
extern bool cq_prepared_is_stale(CqPrepared *prepared);

/*
 * Take the locks that the plan needs, without waiting; false if another
 * session is in the way.  Needs a transaction.
 */
extern bool cq_prepared_lock(CqPrepared *prepared);

/*
 * Open for one checkpoint.  What its runs open is under the snapshot that is
 * active then, and in the memory context that is current now.
 */
extern CqStage *cq_stage_begin(CqPrepared *prepared);

/*
 * Run over one batch; rows reach the consumer in the order of their ordinals,
 * several rows of one event in the order of the plan.  The consumer is called
 * in the caller's memory context.  *counts is set, not added to.
 */
extern void cq_stage_run(CqStage *stage, const CqBatch *batch, CqRowConsumer consume, void *arg,
						 CqStageCounts *counts);

/*
 * The same, with every error of evaluation pinned on its event: the batch is
 * bisected in subtransactions, and failed() is called for each event that
 * cannot be evaluated.  Rows of the others reach the consumer in order.
 * Errors that are not the event's fault are thrown (see
 * cq_error_is_of_record()), and so are errors of the consumer.
 */
typedef void (*CqEventFailure)(void *arg, int ordinal, ErrorData *error);
extern void cq_stage_run_carefully(CqPrepared *prepared, const CqBatch *batch,
								   CqRowConsumer consume, CqEventFailure failed, void *arg,
								   CqStageCounts *counts);

extern void cq_stage_end(CqStage *stage);

/* May an error with this SQLSTATE be blamed on the record that was evaluated? */
extern bool cq_error_is_of_record(int sqlstate);

/*
 * Run the close query over the closed rows of each input (tuples of its closed_desc)
 * under the active snapshot; its rows go to receive().
 */
typedef void (*CqResultConsumer)(void *arg, TupleTableSlot *row);
extern CqPrepared *cq_close_prepare(const CqPlan *plan, MemoryContext context);
extern void cq_close_run(CqPrepared *prepared, Tuplestorestate **rows, CqResultConsumer receive,
						 void *arg);
