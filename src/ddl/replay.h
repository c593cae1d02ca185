/*
 * replay.h
 *	  Rebuilding a continuous view from its stream's history, or from rows that
 *	  are to come before that.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

#include "catalog/rows.h"

/*
 * Can the view be rebuilt beside it, and only its windows from replace_from on
 * (DT_NOBEGIN = all rows)?  with_history: from rows of a query and its stream, and not
 * from that alone.
 */
extern void cq_replay_check(const CqView *view, TimestampTz replace_from, bool with_history);

/*
 * Create a view with the same query beside it, of the same name with a suffix, that
 * begins as an option "start" of this value says; NULL: as that of the view does.
 */
extern Oid cq_replay_create(const CqView *view, const char *suffix, const char *start);

/* Of the transaction in which all that both consist of is locked and stands still. */
typedef enum CqReplayResult
{
	CQ_REPLAY_DONE,
	CQ_REPLAY_BEHIND,	 /* the new one is not where the view is */
	CQ_REPLAY_INCOMPLETE /* there is not all history, and all rows were to be replaced */
} CqReplayResult;

/* Keep the view as it is until the transaction ends; then the new one can come to where it is. */
extern void cq_replay_hold(const CqView *view, bool with_history);

/* Give the view the rows, state and position of the new one, and drop that. */
extern CqReplayResult cq_replay_swap(const CqView *view, const CqView *fresh,
									 TimestampTz replace_from);
extern void cq_replay_drop(const CqView *fresh);
