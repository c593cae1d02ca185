/*
 * retention.h
 *	  Rows and dead letters of a view that are older than its option retention.
 */
#pragma once

#include "postgres.h"

#include "runtime/run.h"

/* Nothing is known yet of what is there. */
extern void cq_retention_init(CqRetention *state);

/* When the view was planned: how its rows tell their age. */
extern void cq_retention_prepare(CqViewRun *view);

/*
 * Is there something to be deleted?  If it has to pause, *wait_ms is lowered to when
 * it is time again; wait_ms may be NULL.
 */
extern bool cq_retention_due(const CqViewRun *view, long *wait_ms);

/* A row is given out that will not change: it may be older than what is looked for. */
extern void cq_retention_note_row(CqViewRun *view, const Datum *values, const bool *nulls);

/* In a checkpoint, when all else is written: delete some of it. */
extern void cq_retention_step(CqViewRun *view);
