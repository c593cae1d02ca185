/*
 * history.h
 *	  Rows of a query that a view takes in before the first record of its stream.
 *
 * Where nothing else is said a function does nothing for runs that have no
 * history to take in.
 */
#pragma once

#include "postgres.h"

#include "runtime/run.h"

/* For a run with history: the source that gives its rows, from where the view is in it. */
extern CqSource *cq_history_open(CqRun *run, const CqViewRun *view, const CqStream *stream,
								 MemoryContext context);

/* Everything that the source has is in: move the watermark, and go over to the stream. */
extern void cq_history_end(CqRun *run);

/* Put the positions of the view into its row: in the history, or where it begins in the stream. */
extern void cq_history_positions(CqRun *run, CqViewRun *view);

/*
 * Of a run whose views have no position in a local stream yet: where they begin, if
 * that is "latest".  note: when its source was opened.  save: with a view's first
 * position.
 */
extern void cq_history_note_start(CqRun *run, const CqViewRun *view);
extern void cq_history_save_start(const CqRun *run, CqViewRun *view);
