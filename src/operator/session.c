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
 * Where rows change each session has one in the result table, from its first event
 * or from its end on.  With allowed_lateness a session takes events for that long
 * after its end, and is kept; so "open" means that it does, and "past" that it does
 * not any more.  Kept sessions are in a heap of their own.  A late event takes one
 * back to the others; if it is not complete then, its row goes away until it is,
 * unless open ones are shown.  When two become one the row of one of them goes away.
 *
 * Invariants
 *	E1. Open sessions of a key lie more than the gap apart; ranges that touch
 *		are one session.
 *	E2. A session whose end lies before an event's watermark, by more than the
 *		allowed lateness, takes no more events, and is given out, or forgotten, with
 *		the checkpoint.
 *	E3. The heaps hold every session that is not gone, with a time that is not
 *		later than its end.
 *	E6. After a checkpoint a session that is kept is complete and has a row; one that
 *		is not complete has one only if open ones are shown.
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
static CqOutcome late_for(CqMissed *missed, TimestampTz start, TimestampTz end);
static void leave(CqOperator *operator, CqPane * pane, CqGroup *group);
static CqGroup *first_to_end(CqOperator *operator, pairingheap * heap);
static void take_back(CqOperator *operator, CqGroup * group);
static void rows_remove_absorbed(CqPane *pane, const CqChanges *changes);
static int rows_show_complete(CqOperator *operator, CqPane * pane, const CqChanges *changes);
static void rows_show_open(CqOperator *operator, CqPane * pane, const CqChanges *changes);
static void rows_show_behind(CqOperator *operator, CqPane * pane, const CqChanges *changes);
static void row_show(CqOperator *operator, CqPane * pane, CqGroup *group, const CqChanges *changes);
static void row_remove(CqGroup *group, const CqChanges *changes);
static void row_give_out(CqOperator *operator, CqPane * pane, CqGroup *group,
						 Tuplestorestate *rows);
static void renew_memory(CqOperator *operator, CqPane * pane);

/* Between a session's entry, or its row, and its states. */
static inline Size
place_offset(const CqOperator *operator)
{
	return sizeof(CqGroup) + (cq_groups_have_rows(operator) ? sizeof(CqGroupRow) : 0);
}

static inline CqSessionPlace *
session_place(const CqOperator *operator, CqGroup * group)
{
	return (CqSessionPlace *) ((char *) group + place_offset(operator));
}

static inline CqGroup *
place_session(const CqOperator *operator, pairingheap_node * node)
{
	return (CqGroup *) ((char *) pairingheap_container(CqSessionPlace, node, node) -
						place_offset(operator));
}

static inline pairingheap *
place_heap(const CqOperator *operator, const CqSessionPlace * place)
{
	return place->is_kept ? operator->kept : operator->ends;
}

void
cq_sessions_begin(CqOperator *operator)
{
	MemoryContext old = MemoryContextSwitchTo(operator->context);
	CqGroupScan scan;
	CqGroup *group;

	operator->ends = pairingheap_allocate(compare_due, NULL);
	operator->kept = pairingheap_allocate(compare_due, NULL);
	operator->latest_end = DT_NOBEGIN;
	operator->gone_since = 0;
	MemoryContextSwitchTo(old);
	cq_group_scan_begin(&scan, &operator->state->panes[0]->groups, 0, 0);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		CqSessionPlace *place = session_place(operator, group);

		CHECK_FOR_INTERRUPTS();
		place->due = cq_session_end(operator, group);
		place->is_kept = operator->changes && place->due<operator->shown_to;
		place->was_complete = place->is_kept;
		operator->latest_end = Max(operator->latest_end, place->due);
		pairingheap_add(place_heap(operator, place), &place->node);
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
	TimestampTz open_at =
		Max(cq_before(event->watermark, operator->allowed_lateness_us), operator->closed_to);
	TimestampTz time = event->time;
	TimestampTz end = time + operator->window.size_us;
	CqGroup *second;
	CqGroup *group;

	if (!IS_VALID_TIMESTAMP(end))
		return CQ_NO_TIME;
	cq_key_pack(operator->kinds[0].codec, values, nulls);
	group = cq_session_touching(operator,
								pane,
								time,
								time,
								operator->divided ? DT_NOBEGIN : open_at,
								&second);
	if (group == NULL)
	{
		if (open_at > end)
			return late_for(missed, time, end);
		operator->session = cq_session_open(operator, pane, time, time);
		return CQ_COUNTED;
	}
	/* it waits for the others' parts: see session_parts.c */
	if (cq_session_end(operator, group) < open_at)
		return late_for(missed,
						cq_session_of(operator, group)->first,
						cq_session_end(operator, group));
	cq_group_touch(operator, pane, group);
	take_back(operator, group);
	if (second)
		cq_session_merge(operator, pane, group, second);
	cq_session_widen(operator, group, time, time);
	operator->session = group;
	return CQ_COUNTED;
}

static CqOutcome
late_for(CqMissed *missed, TimestampTz start, TimestampTz end)
{
	missed->n = 1;
	missed->start = start;
	missed->end = end;
	return CQ_LATE;
}

CqGroup *
cq_session_touching(CqOperator *operator, CqPane * pane, TimestampTz first, TimestampTz last,
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
		session = cq_session_of(operator, group);
		if (session->last + gap < open_at || last + gap < session->first ||
			first > session->last + gap)
			continue;
		if (found == NULL)
			found = group;
		else if (session->first < cq_session_of(operator, found)->first)
		{
			*second = found;
			found = group;
		}
		else
			*second = group;
	}
	return found;
}

CqGroup *
cq_session_open(CqOperator *operator, CqPane * pane, TimestampTz first, TimestampTz last)
{
	CqGroup *group = cq_group_add(operator, pane, 0);
	CqSession *session = cq_session_of(operator, group);
	CqSessionPlace *place = session_place(operator, group);

	session->first = first;
	session->last = last;
	place->due = cq_session_end(operator, group);
	operator->latest_end = Max(operator->latest_end, place->due);
	pairingheap_add(operator->ends, &place->node);
	return group;
}

void
cq_session_widen(CqOperator *operator, CqGroup * group, TimestampTz first, TimestampTz last)
{
	CqSession *session = cq_session_of(operator, group);

	session->first = Min(session->first, first);
	session->last = Max(session->last, last);
	operator->latest_end = Max(operator->latest_end, cq_session_end(operator, group));
}

void
cq_session_merge(CqOperator *operator, CqPane * pane, CqGroup *into, CqGroup *from)
{
	CqSession *session = cq_session_of(operator, into);

	cq_aggregates_combine(operator->aggregates,
						  cq_group_states(operator, into),
						  cq_pane_memory(operator, pane),
						  cq_group_states(operator, from),
						  cq_pane_memory(operator, pane));
	session->last = Max(session->last, cq_session_of(operator, from)->last);
	pairingheap_remove(place_heap(operator, session_place(operator, from)),
					   &session_place(operator, from)->node);
	if (cq_groups_have_rows(operator) && cq_group_row(from)->exists)
		into->flags |= CQ_GROUP_MERGED;
	leave(operator, pane, from);
}

/* One that was complete has got a late event: it is complete again, or not, at the checkpoint. */
static void
take_back(CqOperator *operator, CqGroup * group)
{
	CqSessionPlace *place = session_place(operator, group);

	if (!place->is_kept)
		return;
	pairingheap_remove(operator->kept, &place->node);
	place->is_kept = false;
	pairingheap_add(operator->ends, &place->node);
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

/* The session of a heap that ends first, its place being its end; NULL if there is none. */
static CqGroup *
first_to_end(CqOperator *operator, pairingheap * heap)
{
	for (;;)
	{
		CqSessionPlace *place;
		CqGroup *group;
		TimestampTz end;

		if (pairingheap_is_empty(heap))
			return NULL;
		group = place_session(operator, pairingheap_first(heap));
		place = session_place(operator, group);
		end = cq_session_end(operator, group);
		if (place->due == end)
			return group;
		(void) pairingheap_remove_first(heap);
		place->due = end;
		pairingheap_add(heap, &place->node);
	}
}

/* It is complete when the watermark has passed its end: an event right there still joins. */
TimestampTz
cq_sessions_first_end(CqOperator *operator)
{
	CqGroup *group;

	if (operator->session_rows)
		return cq_session_rows_first_end(operator);
	group = first_to_end(operator, operator->ends);
	return group ? cq_session_end(operator, group) + 1 : DT_NOEND;
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

	while ((group = first_to_end(operator, operator->ends)) != NULL &&
		   cq_session_end(operator, group) < watermark)
	{
		CHECK_FOR_INTERRUPTS();
		row_give_out(operator, pane, group, rows);
		(void) pairingheap_remove_first(operator->ends);
		leave(operator, pane, group);
		closed++;
	}
	MemoryContextSwitchTo(old);
	operator->closed_to = Max(operator->closed_to, watermark);
	renew_memory(operator, pane);
	return closed;
}

void
cq_sessions_forget(CqOperator *operator, TimestampTz to)
{
	CqGroup *group;

	if (operator->session_rows)
	{
		cq_session_rows_forget(operator, to);
		return;
	}
	while ((group = first_to_end(operator, operator->ends)) != NULL &&
		   cq_session_end(operator, group) < to)
	{
		CHECK_FOR_INTERRUPTS();
		(void) pairingheap_remove_first(operator->ends);
		leave(operator, operator->state->panes[0], group);
	}
	operator->closed_to = Max(operator->closed_to, to);
	renew_memory(operator, operator->state->panes[0]);
}

/* In the scratch context. */
static void
row_give_out(CqOperator *operator, CqPane * pane, CqGroup *group, Tuplestorestate *rows)
{
	cq_window_values(operator,
					 operator->emitting,
					 cq_session_of(operator, group)->first,
					 cq_session_end(operator, group));
	cq_group_values(operator, pane, group, false);
	tuplestore_putvalues(rows, operator->closed_desc, operator->values, operator->nulls);
	MemoryContextReset(operator->scratch);
	MemoryContextReset(operator->emitting);
}

/* What sessions that are gone have left there. */
static void
renew_memory(CqOperator *operator, CqPane * pane)
{
	if (operator->aggregates->flat || operator->gone_since <= GONE_MINIMUM +
		operator->state->ngroups)
		return;
	cq_groups_renew_memory(operator, pane);
	operator->gone_since = 0;
}

/* ------------------------------------------------------------------------
 * Rows that change
 * ------------------------------------------------------------------------
 */

int
cq_sessions_changes(CqOperator *operator, const CqChanges * changes)
{
	CqPane *pane = operator->state->panes[0];
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	int completed;

	/* which rows there are is not taken back by an abort */
	operator->state->current = false;
	rows_remove_absorbed(pane, changes);
	completed = rows_show_complete(operator, pane, changes);
	rows_show_open(operator, pane, changes);
	if (pane->behind && changes->refresh)
		rows_show_behind(operator, pane, changes);
	MemoryContextSwitchTo(old);
	return completed;
}

/* Of those that are gone now all have become part of others. */
static void
rows_remove_absorbed(CqPane *pane, const CqChanges *changes)
{
	CqTouched *gone;

	for (gone = pane->gone; gone; gone = gone->next)
		row_remove(gone->group, changes);
}

/* Every session that has changed is among those that are not kept. */
static int
rows_show_complete(CqOperator *operator, CqPane * pane, const CqChanges *changes)
{
	int completed = 0;
	CqGroup *group;

	while ((group = first_to_end(operator, operator->ends)) != NULL &&
		   cq_session_end(operator, group) < changes->complete_to)
	{
		CqSessionPlace *place = session_place(operator, group);
		const CqGroupRow *row = cq_group_row(group);

		CHECK_FOR_INTERRUPTS();
		if (!row->exists || row->behind || (group->flags & CQ_GROUP_DIRTY))
		{
			if (cq_session_end(operator, group) >= changes->leave_to &&
				!cq_group_resave(operator, pane, group))
				cq_operator_full(operator);
			row_show(operator, pane, group, changes);
		}
		(void) pairingheap_remove_first(operator->ends);
		completed += !place->was_complete;
		place->is_kept = place->was_complete = true;
		pairingheap_add(operator->kept, &place->node);
	}
	return completed;
}

/* Of those that have changed and are not complete: show, put off, or take away what was shown. */
static void
rows_show_open(CqOperator *operator, CqPane * pane, const CqChanges *changes)
{
	CqTouched *touched;

	for (touched = pane->touched; touched; touched = touched->next)
	{
		CqGroup *group = touched->group;
		CqSessionPlace *place = session_place(operator, group);

		CHECK_FOR_INTERRUPTS();
		if ((group->flags & CQ_GROUP_GONE) || place->is_kept)
			continue;
		place->was_complete = false;
		if (!operator->shows_open)
			row_remove(group, changes);
		else if (changes->refresh || (group->flags & CQ_GROUP_MERGED))
			row_show(operator, pane, group, changes);
		else
			pane->behind = cq_group_row(group)->behind = true;
	}
}

/* If memory is too short to note that all are to be saved, the rest waits for the next time. */
static void
rows_show_behind(CqOperator *operator, CqPane * pane, const CqChanges *changes)
{
	CqGroupScan scan;
	CqGroup *group;

	cq_group_scan_begin(&scan, &pane->groups, 0, 0);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		const CqGroupRow *row = cq_group_row(group);

		CHECK_FOR_INTERRUPTS();
		if ((group->flags & CQ_GROUP_GONE) || (row->exists && !row->behind))
			continue;
		if (!cq_group_resave(operator, pane, group))
			return;
		row_show(operator, pane, group, changes);
	}
	pane->behind = false;
}

static void
row_show(CqOperator *operator, CqPane * pane, CqGroup *group, const CqChanges *changes)
{
	cq_window_values(operator,
					 operator->emitting,
					 cq_session_of(operator, group)->first,
					 cq_session_end(operator, group));
	cq_group_show(operator, pane, group, changes);
	group->flags &= ~CQ_GROUP_MERGED;
	MemoryContextReset(operator->emitting);
}

static void
row_remove(CqGroup *group, const CqChanges *changes)
{
	CqGroupRow *row = cq_group_row(group);

	CHECK_FOR_INTERRUPTS();
	if (row->exists)
		changes->sink->remove(changes->sink->arg, row->gid, &row->tid);
	row->exists = false;
}

void
cq_sessions_leave(CqOperator *operator, TimestampTz to, Tuplestorestate *rows)
{
	CqPane *pane = operator->state->panes[0];
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	CqGroup *group;

	while ((group = first_to_end(operator, operator->kept)) != NULL &&
		   cq_session_end(operator, group) < to)
	{
		CHECK_FOR_INTERRUPTS();
		if (rows)
			row_give_out(operator, pane, group, rows);
		(void) pairingheap_remove_first(operator->kept);
		leave(operator, pane, group);
	}
	MemoryContextSwitchTo(old);
	renew_memory(operator, pane);
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
	return cq_session_touching(operator,
							   pane,
							   session.first,
							   session.last,
							   operator->closed_to,
							   &second);
}
