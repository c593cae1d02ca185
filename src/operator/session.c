/*
 * session.c
 *	  Session windows: groups that end when nothing has come for a while.
 *
 * All sessions are entries of one pane, found by their group's key.  A key may
 * have several: open ones, which lie more than the gap apart, and some that are
 * complete and wait to be given out.  An event goes into the open session that
 * it touches; if it touches two, these become one, and the later one's states are
 * combined into those of the earlier.
 *
 * A heap says which session ends first.  A session moves on with nearly every
 * event, so its place there is that of the end it had when it was put in, and it
 * is put where it belongs when it comes to the top: at most once per gap.
 *
 * A session that is given out, or has become part of another, is gone: it is
 * marked, and its memory is freed when that is committed; an abort takes the
 * mark away.  In the chunks nothing says so.  There is no need to: an entry
 * that ended before closed_to was given out, and one that touches a newer entry
 * of the same key is an older version, or a part, of that.
 *
 * Invariants
 *	E1. Open sessions of a key lie more than the gap apart; ranges that touch
 *		are one session.
 *	E2. A session whose end lies before an event's watermark takes no more
 *		events, and is given out with the checkpoint.
 *	E3. The heap holds every session that is not gone, with a time that is not
 *		later than its end.
 *
 * Memory: as for other groups, and 32 bytes for the heap.  Transition values
 * that are not in the states cannot be freed one by one; they are copied to fresh
 * memory when as many sessions have gone as there are.  Sessions stay in memory.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "operator/session.h"
#include "operator/shape.h"

/* Sessions gone before it is worth the trouble to copy what is left. */
#define GONE_MINIMUM 1000

static int compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg);
static CqGroup *session_touching(CqOperator *operator, CqPane * pane, TimestampTz first,
								 TimestampTz last, TimestampTz open_at, CqGroup **second);
static void session_open(CqOperator *operator, CqPane * pane, TimestampTz time);
static void merge(CqOperator *operator, CqPane * pane, CqGroup *into, CqGroup *from);
static void leave(CqOperator *operator, CqPane * pane, CqGroup *group);
static CqGroup *first_to_end(CqOperator *operator);

/* Between a session's entry and its states. */
static inline CqSessionPlace *
session_place(CqGroup *group)
{
	return (CqSessionPlace *) (group + 1);
}

static inline CqSession *
session_of(const CqOperator *operator, CqGroup * group)
{
	return (CqSession *) cq_group_kept(operator, group);
}

static inline TimestampTz
session_end(const CqOperator *operator, CqGroup * group)
{
	return session_of(operator, group)->last + operator->window.size_us;
}

void
cq_sessions_begin(CqOperator *operator)
{
	MemoryContext old = MemoryContextSwitchTo(operator->context);
	CqGroupScan scan;
	CqGroup *group;

	operator->ends = pairingheap_allocate(compare_due, NULL);
	operator->latest_end = DT_NOBEGIN;
	operator->gone_since = 0;
	MemoryContextSwitchTo(old);
	cq_group_scan_begin(&scan, &operator->state->panes[0]->groups, 0, 0);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		session_place(group)->due = session_end(operator, group);
		operator->latest_end = Max(operator->latest_end, session_place(group)->due);
		pairingheap_add(operator->ends, &session_place(group)->node);
	}
}

/* The heap has the greatest on top. */
static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	TimestampTz x = pairingheap_const_container(CqSessionPlace, node, a)->due;
	TimestampTz y = pairingheap_const_container(CqSessionPlace, node, b)->due;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* ------------------------------------------------------------------------
 * Events in
 * ------------------------------------------------------------------------
 */

CqOutcome
cq_sessions_find(CqOperator *operator, const Datum * values, const bool *nulls,
				 const CqEvent *event, CqMissed *missed)
{
	CqPane *pane = operator->state->panes[0];
	TimestampTz watermark = Max(event->watermark, operator->closed_to);
	TimestampTz time = event->time;
	TimestampTz end = time + operator->window.size_us;
	CqSession *session;
	CqGroup *second;
	CqGroup *group;

	if (!IS_VALID_TIMESTAMP(end))
		return CQ_NO_TIME;
	cq_key_pack(operator->kinds[0].codec, values, nulls);
	group = session_touching(operator, pane, time, time, watermark, &second);
	if (group == NULL)
	{
		if (watermark > end)
		{
			missed->n = 1;
			missed->start = time;
			missed->end = end;
			return CQ_LATE;
		}
		session_open(operator, pane, time);
		return CQ_COUNTED;
	}
	cq_group_touch(operator, pane, group);
	if (second)
		merge(operator, pane, group, second);
	session = session_of(operator, group);
	session->first = Min(session->first, time);
	session->last = Max(session->last, time);
	operator->latest_end = Max(operator->latest_end, session_end(operator, group));
	operator->session = group;
	return CQ_COUNTED;
}

/*
 * The sessions of the key packed last which a range touches and which are not
 * complete at that watermark: the earliest, and the next if there is one.
 */
static CqGroup *
session_touching(CqOperator *operator, CqPane * pane, TimestampTz first, TimestampTz last,
				 TimestampTz open_at, CqGroup **second)
{
	CqKeyCodec *codec = operator->kinds[0].codec;
	int64 gap = operator->window.size_us;
	CqGroup *found = NULL;
	CqGroup *group;

	*second = NULL;
	for (group = *cq_group_table_chain(&pane->groups, codec->hash); group; group = group->next)
	{
		CqSession *session;

		if (group->hash != codec->hash || (group->flags & CQ_GROUP_GONE) != 0 ||
			!cq_key_equals(codec, cq_group_key(operator, group), group->key_size))
			continue;
		session = session_of(operator, group);
		if (session->last + gap < open_at || last + gap < session->first ||
			first > session->last + gap)
			continue;
		if (found == NULL)
			found = group;
		else if (session->first < session_of(operator, found)->first)
		{
			*second = found;
			found = group;
		}
		else
			*second = group;
	}
	return found;
}

static void
session_open(CqOperator *operator, CqPane * pane, TimestampTz time)
{
	CqGroup *group = cq_group_add(operator, pane, 0);
	CqSession *session = session_of(operator, group);
	CqSessionPlace *place = session_place(group);

	session->first = session->last = time;
	place->due = session_end(operator, group);
	operator->latest_end = Max(operator->latest_end, place->due);
	pairingheap_add(operator->ends, &place->node);
	operator->session = group;
}

/* Two sessions that an event connects, the earlier first. */
static void
merge(CqOperator *operator, CqPane * pane, CqGroup *into, CqGroup *from)
{
	CqSession *session = session_of(operator, into);

	cq_aggregates_combine(operator->aggregates,
						  cq_group_states(operator, into),
						  cq_pane_memory(operator, pane),
						  cq_group_states(operator, from),
						  cq_pane_memory(operator, pane));
	session->last = Max(session->last, session_of(operator, from)->last);
	pairingheap_remove(operator->ends, &session_place(from)->node);
	leave(operator, pane, from);
}

/* A session is no more, once this is committed. */
static void
leave(CqOperator *operator, CqPane * pane, CqGroup *group)
{
	cq_group_leave(operator, pane, group);
	operator->gone_since++;
}

/* ------------------------------------------------------------------------
 * Windows out
 * ------------------------------------------------------------------------
 */

/* The session that ends first, its place in the heap being its end; NULL if there is none. */
static CqGroup *
first_to_end(CqOperator *operator)
{
	for (;;)
	{
		CqSessionPlace *place;
		CqGroup *group;
		TimestampTz end;

		if (pairingheap_is_empty(operator->ends))
			return NULL;
		place = pairingheap_container(CqSessionPlace, node, pairingheap_first(operator->ends));
		group = (CqGroup *) place - 1;
		end = session_end(operator, group);
		if (place->due == end)
			return group;
		(void) pairingheap_remove_first(operator->ends);
		place->due = end;
		pairingheap_add(operator->ends, &place->node);
	}
}

/* It is complete when the watermark has passed its end: an event right there still joins. */
TimestampTz
cq_sessions_first_end(CqOperator *operator)
{
	CqGroup *group;

	if (operator->session_rows)
		return cq_session_rows_first_end(operator);
	group = first_to_end(operator);
	return group ? session_end(operator, group) + 1 : DT_NOEND;
}

TimestampTz
cq_sessions_last_end(CqOperator *operator)
{
	if (operator->session_rows)
		return cq_session_rows_last_end(operator);
	return pairingheap_is_empty(operator->ends) ? DT_NOBEGIN : operator->latest_end + 1;
}

int
cq_sessions_close(CqOperator *operator, TimestampTz watermark, Tuplestorestate *rows)
{
	CqPane *pane = operator->state->panes[0];
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	int closed = 0;
	CqGroup *group;

	while ((group = first_to_end(operator)) != NULL && session_end(operator, group) < watermark)
	{
		CHECK_FOR_INTERRUPTS();
		cq_window_values(operator,
						 operator->emitting,
						 session_of(operator, group)->first,
						 session_end(operator, group));
		cq_group_values(operator, pane, group, false);
		tuplestore_putvalues(rows, operator->closed_desc, operator->values, operator->nulls);
		(void) pairingheap_remove_first(operator->ends);
		leave(operator, pane, group);
		MemoryContextReset(operator->scratch);
		MemoryContextReset(operator->emitting);
		closed++;
	}
	MemoryContextSwitchTo(old);
	operator->closed_to = Max(operator->closed_to, watermark);
	if (!operator->aggregates->flat && operator->gone_since> GONE_MINIMUM +
		 operator->state->ngroups)
	{
		cq_groups_renew_memory(operator, pane);
		operator->gone_since = 0;
	}
	return closed;
}

/* ------------------------------------------------------------------------
 * From disk
 * ------------------------------------------------------------------------
 */

bool
cq_session_is_over(CqOperator *operator, CqReader entry)
{
	CqSession session;

	memcpy(&session, cq_reader_take(&entry, sizeof(session)), sizeof(session));
	return session.last + operator->window.size_us<operator->closed_to;
}

CqGroup *
cq_session_match(CqOperator *operator, CqPane * pane, CqReader entry)
{
	CqSession session;
	CqGroup *second;

	memcpy(&session, cq_reader_take(&entry, sizeof(session)), sizeof(session));
	return session_touching(operator,
							pane,
							session.first,
							session.last,
							operator->closed_to,
							&second);
}
