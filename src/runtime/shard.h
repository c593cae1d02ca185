/*
 * shard.h
 *	  A view's part of a run when the view has several workers; see shard.c.
 */
#pragma once

#include "postgres.h"

#include "monitor/slots.h"
#include "runtime/run.h"

/* Another position of the view. */
typedef struct CqSibling
{
	int64 id;
	List *chunks;	  /* OIDs of its tables, one for each input */
	bool retired;	  /* has no worker: see retired.c */
	bool drained;	  /* and no state any more */
	int64 not_before; /* monotonic: another session stood in the way of removing it */
} CqSibling;

struct CqShard
{
	int number;
	int workers;
	Oid chunks; /* its own; InvalidOid if this is the first shard */
	int nsiblings;
	CqSibling *siblings;	 /* the first shard, unless this is it, comes first */
	TimestampTz clock_to;	 /* first shard: how far the clock may move the watermark */
	TimestampTz advanced_to; /* of advance_watermark(): all events before the call are in */
	TimestampTz awaited;	 /* first shard: what a wait_for() waits for; DT_NOEND = none does */
	bool past_gap;			 /* of resume(accept_loss): has read on behind what is lost */
	int64 announced_us;		 /* monotonic: when the first shard announced windows last */
	int64 took_us;			 /* sessions: to put the last ones together */
	CqShardReport told;		 /* what the others were told last */
	bool keeps_last;		 /* the view cannot be without shards while it has state */
};

/* Which shard of its view this position is; NULL if the view has one worker and no other state. */
extern CqShard *cq_shard_load(const CqViewRun *view);

/*
 * Up to where an operator that is loaded has closed its windows: a shard may still have
 * windows that were closed by the first one.  Bring those that are loaded to where this
 * position is.
 */
extern TimestampTz cq_shard_closed_to(const CqViewRun *view, const CqInput *input);
extern void cq_shard_prepare_operators(CqViewRun *view);

/* Its checkpoint row says which partitions there are to begin with. */
extern bool cq_shard_has_begun(const CqViewRun *view);

/* Is there something to be done for closing windows?  Outside of transactions. */
extern bool cq_shard_due(const CqRun *run, const CqViewRun *view);

/* The same, once the clock says so; wait_ms is lowered to when that is. */
extern bool cq_shard_clock_due(const CqRun *run, CqViewRun *view, long *wait_ms);

/*
 * Is this worker further ahead than max_skew says of another one that has more to
 * read?  Then it should not read on, or would keep ever more windows open.
 */
extern bool cq_shard_is_ahead(const CqRun *run, const CqViewRun *view);

/* In a checkpoint, after the batches: the next step of closing windows; was there one? */
extern bool cq_shard_step(CqRun *run, CqViewRun *view);

/*
 * Of the first shard, see retired.c: the same for taking over what retired shards have.
 * No window may be closed before all of it was.
 */
extern bool cq_retired_due(const CqViewRun *view);
extern bool cq_retired_step(CqRun *run, CqViewRun *view);
extern bool cq_retired_are_drained(const CqViewRun *view);

/* Tell the other workers how far this one is, with everything that it took in committed. */
extern void cq_shard_tell(CqRun *run, CqViewRun *view);

/*
 * For a wait_for() that everything else is done for: has the view's watermark come
 * to where the workers had told they were when this was asked first, and is all
 * out that this closes?
 */
extern bool cq_shard_settled(const CqRun *run, const CqViewRun *view);
