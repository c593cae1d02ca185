/*
 * retry.h
 *	  Dead letters that are to be processed again.
 */
#pragma once

#include "postgres.h"

#include "runtime/worker_state.h"

/*
 * Is there a pending retry_dead_letters() to go on with?  If it has to pause, *wait_ms
 * is lowered to when it is its turn again.
 */
extern bool cq_retry_due(const CqRun *run, const CqViewRun *view, long *wait_ms);

/*
 * In a checkpoint, with the position rows taken: take the next of them out of the table
 * and process their records.
 */
extern void cq_retry_step(CqRun *run, CqViewRun *view);

/*
 * After an error: may it be one of a record that was being processed again?  Then
 * the next attempt finds out which one, or knows it.
 */
extern bool cq_retry_blamed(CqWorker *worker, const ErrorData *error);
