/*
 * session_parts.c
 *	  Sessions of which several operators keep parts.
 *
 * Where a view has several workers (runtime/shard.c) each one's operator makes
 * sessions of the events that it gets.  They are parts: those of a key that touch,
 * be it through others, are one session.  That is only known when all are looked
 * at.  With a gap of 10, [0, 10] here and [18, 30] there are a session that ends
 * at 40, which no operator sees; and [0, 10] here and [28, 30] here are one with
 * [15, 20] there.
 *
 * To close sessions up to a time T all operators are frozen there: parts that end
 * before T are complete, take no more events, and are in the chunk tables.  Then the
 * first operator goes through the others' tables:
 *
 *	1. Complete parts become its own, with their states: each makes one session of
 *		all those that it touches.
 *	2. Parts that are open stay where they are, as they still change.  But a session
 *		of the first operator that is complete as far as it knows, and touches such
 *		a part, is held: its range is made to comprise the part's.  That is no lie,
 *		since it is the range of the session of which both are parts; and it ends
 *		behind T now, so it is open.  The part touches it ever after, and when the
 *		part is complete they become one by step 1.
 *	3. The sessions that are complete now are given out.
 *
 * The others forget what was complete at T when they see that T is closed.
 *
 * Step 2 need not look at an open part twice.  If a session is connected with one
 * through several parts, go from the session to the first open one on the way: all
 * before that were complete and have become one session, which touches it.
 *
 * Invariants
 *	E7. All sessions of a key that an operator has, complete or not, lie more than
 *		the gap apart, where there are several operators: an event that touches a
 *		complete one is late.  So chunks need not say which version of an entry is
 *		of which session, even if complete ones wait for the first operator.
 *	E8. A session's range is that of events of one session, of whose parts it is
 *		all those that were complete when the first operator looked last.
 *	E9. An event whose time is T or later touches no session that is complete at T.
 *		No operator's watermark is behind T, unless it is idle: so where all events
 *		come within the bound on disorder, sessions are what one operator would
 *		make of them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "operator/shape.h"

/* Of an open part of another operator; the key follows. */
typedef struct Hold
{
	struct Hold *next;
	TimestampTz first;
	TimestampTz last;
	uint32 hash;
	uint32 key_size;
} Hold;

#define HOLD_KEY(hold) ((char *) (hold) + MAXALIGN(sizeof(Hold)))

struct CqSessionHolds
{
	MemoryContext context;
	Hold *first;
};

static void part_take(CqOperator *operator, CqOperator * other, CqGroup *from);
static void session_hold(CqOperator *operator, TimestampTz first, TimestampTz last,
						 TimestampTz upto);
static CqGroup *session_reach(CqOperator *operator, TimestampTz first, TimestampTz last);

void
cq_sessions_take_part(CqOperator *operator, CqOperator * other, TimestampTz upto)
{
	CqKeyCodec *codec;
	CqGroupScan scan;
	CqGroup *from;

	if (operator->session_rows)
	{
		cq_session_rows_take_part(operator, other, upto);
		return;
	}
	codec = operator->kinds[0].codec;
	cq_group_scan_begin(&scan, &other->state->panes[0]->groups, 0, 0);
	while ((from = cq_group_scan_next(&scan)) != NULL)
	{
		const CqSession *part = cq_session_of(other, from);
		MemoryContext old = MemoryContextSwitchTo(operator->scratch);

		CHECK_FOR_INTERRUPTS();
		(void)
			cq_key_repack(other->kinds[0].codec, cq_group_key(other, from), from->key_size, codec);
		if (cq_session_end(other, from) < upto)
			part_take(operator, other, from);
		else
			cq_session_hold_add(&operator->holds, operator->context, codec, part);
		MemoryContextSwitchTo(old);
		MemoryContextReset(operator->scratch);
		MemoryContextReset(other->scratch);
	}
}

static void
part_take(CqOperator *operator, CqOperator * other, CqGroup *from)
{
	const CqSession *part = cq_session_of(other, from);
	CqPane *pane = operator->state->panes[0];
	CqGroup *session = session_reach(operator, part->first, part->last);

	if (session == NULL)
		session = cq_session_open(operator, pane, part->first, part->last);
	cq_aggregates_combine(operator->aggregates,
						  cq_group_states(operator, session),
						  cq_pane_memory(operator, pane),
						  cq_group_states(other, from),
						  cq_pane_memory(other, other->state->panes[0]));
}

/*
 * The session of the key packed last that a range is part of, with all that it
 * touches made one and about to change; NULL if it touches none.
 */
static CqGroup *
session_reach(CqOperator *operator, TimestampTz first, TimestampTz last)
{
	CqPane *pane = operator->state->panes[0];
	CqGroup *second;
	CqGroup *group = cq_session_touching(operator, pane, first, last, DT_NOBEGIN, &second);

	if (group == NULL)
		return NULL;
	cq_group_touch(operator, pane, group);
	while (second)
	{
		cq_session_merge(operator, pane, group, second);
		group = cq_session_touching(operator, pane, first, last, DT_NOBEGIN, &second);
	}
	cq_session_widen(operator, group, first, last);
	return group;
}

void
cq_sessions_hold(CqOperator *operator, TimestampTz upto)
{
	Hold *hold;

	if (operator->holds == NULL)
		return;
	for (hold = operator->holds->first; hold; hold = hold->next)
	{
		MemoryContext old = MemoryContextSwitchTo(operator->scratch);

		CHECK_FOR_INTERRUPTS();
		cq_key_take(operator->session_rows ? cq_session_rows_codec(operator) :
										   operator->kinds[0].codec,
					HOLD_KEY(hold),
					hold->key_size,
					hold->hash);
		if (operator->session_rows)
			cq_session_rows_hold(operator, hold->first, hold->last, upto);
		else
			session_hold(operator, hold->first, hold->last, upto);
		MemoryContextSwitchTo(old);
		MemoryContextReset(operator->scratch);
	}
	MemoryContextDelete(operator->holds->context);
	operator->holds = NULL;
}

/* One that only touches what is open changes nothing. */
static void
session_hold(CqOperator *operator, TimestampTz first, TimestampTz last, TimestampTz upto)
{
	CqGroup *second;
	CqGroup *group =
		cq_session_touching(operator, operator->state->panes[0], first, last, DT_NOBEGIN, &second);

	if (group && cq_session_end(operator, group) < upto)
		(void) session_reach(operator, first, last);
}

void
cq_session_hold_add(CqSessionHolds **holds, MemoryContext parent, const CqKeyCodec *codec,
					const CqSession *part)
{
	Hold *hold;

	if (*holds == NULL)
	{
		MemoryContext context =
			AllocSetContextCreate(parent, "pipeline sessions of others", ALLOCSET_DEFAULT_SIZES);

		*holds = MemoryContextAllocZero(context, sizeof(CqSessionHolds));
		(*holds)->context = context;
	}
	hold =
		MemoryContextAlloc((*holds)->context, MAXALIGN(sizeof(Hold)) + CQ_KEY_LENGTH(codec->size));
	hold->first = part->first;
	hold->last = part->last;
	hold->hash = codec->hash;
	hold->key_size = codec->size;
	memcpy(HOLD_KEY(hold), codec->bytes, CQ_KEY_LENGTH(codec->size));
	hold->next = (*holds)->first;
	(*holds)->first = hold;
}
