/*
 * count.c
 *	  Count windows: so many events of a group, in the order in which they come.
 *
 * There is one pane, and in it a group for each key, for ever: it knows how many
 * events there were, and so which windows are open.  Window number i, counted from 1,
 * has the events (i - 1) * slide < e <= (i - 1) * slide + size.  The states of the
 * windows that are open are in the group, side by side; window i is in slot
 * (i - 1) % slots.  As slots are as many as windows can be open together, the slot of
 * one that begins is free.  So a group is saved, evicted and taken back like any
 * other, however many windows it has open.
 *
 * A window is complete with its last event.  Its row is made right then, because the
 * group's next event may begin a window in the same slot, and waits for the end of
 * the checkpoint in the operator's own memory: after an error it goes with the
 * operator, as all that was consumed is consumed again.
 *
 * Time plays no part: nothing is late, and nothing closes unless events come.
 *
 * Where rows change (emit = 'changes'), each window has a row in the result table
 * from its first event on.  Its number is in the slot.  It is found by an index, not
 * by its place, which would have to be taken back by an abort.
 *
 * Invariants
 *	N1. Which windows of a group are open, and what is in them, depends on its events
 *		and their order alone.
 *	N2. A slot without an open window means nothing.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "compat.h"
#include "operator/shape.h"

/* Rows of complete windows that may wait for the end of a checkpoint. */
#define COMPLETED_BYTES_MAX (16 * 1024 * 1024)

/* Windows gone before it is worth the trouble to copy what is left. */
#define GONE_MINIMUM 64

static char *slot_of(const CqOperator *operator, CqGroup * group, int64 window);
static void open_range(const CqCounts *counts, int64 events, int64 *first, int64 *last);
static void window_begin(CqOperator *operator, CqPane * pane, char *slot);
static void window_complete(CqOperator *operator, CqPane * pane, CqGroup *group, int64 window);
static void window_values(CqOperator *operator, CqPane * pane, CqGroup *group, int64 window,
						  bool keep);
static void show_complete(CqOperator *operator, const CqChangeSink * sink);
static void show_open(CqOperator *operator, CqPane * pane, CqGroup *group,
					  const CqChangeSink *sink);
static void put_off(CqOperator *operator, CqGroup * group);
static void show_behind(CqOperator *operator, CqPane * pane, const CqChangeSink *sink);
static bool is_behind(CqOperator *operator, CqGroup * group);
static void row_found(CqOperator *operator, CqPane * pane, const CqCountRow *row);
static void forget(CqOperator *operator);

static inline CqCount *
count_of(const CqOperator *operator, CqGroup * group)
{
	return (CqCount *) cq_group_kept(operator, group);
}

static inline char *
slot_states(const CqOperator *operator, char * slot)
{
	return slot + operator->counts->row_size;
}

static char *
slot_of(const CqOperator *operator, CqGroup * group, int64 window)
{
	const CqCounts *counts = operator->counts;

	return cq_group_states(operator, group) + (window - 1) % counts->slots * counts->slot_size;
}

Size
cq_counts_create(CqOperator *operator)
{
	CqCounts *counts = palloc0(sizeof(CqCounts));

	counts->size = operator->window.size_events;
	counts->slide = operator->window.slide_events;
	counts->slots = (int) ((counts->size - 1) / counts->slide + 1);
	counts->row_size = operator->changes ? sizeof(CqCountRow) : 0;
	counts->slot_size = counts->row_size + operator->aggregates->states_size;
	counts->context = AllocSetContextCreate(operator->context,
											"pipeline complete windows",
											ALLOCSET_DEFAULT_SIZES);
	operator->counts = counts;
	return counts->slots * counts->slot_size;
}

/* ------------------------------------------------------------------------
 * Events in
 * ------------------------------------------------------------------------
 */

void
cq_counts_take(CqOperator *operator, CqPane * pane, const Datum *values, const bool *nulls)
{
	CqCounts *counts = operator->counts;
	CqGroup *group;
	int64 event;
	int64 window;
	int64 last;

	cq_key_pack(operator->kinds[0].codec, values, nulls);
	group = cq_group_find(operator, pane, 0);
	if (unlikely(group == NULL))
		group = cq_group_add(operator, pane, 0);
	cq_group_touch(operator, pane, group);
	event = ++count_of(operator, group)->events;

	/* of this event: those that are open behind it, and the one that it completes */
	open_range(counts, event - 1, &window, &last);
	last = (event - 1) / counts->slide + 1;
	for (; window <= last; window++)
	{
		char *slot = slot_of(operator, group, window);
		int64 before = (window - 1) * counts->slide;

		if (event == before + 1)
			window_begin(operator, pane, slot);
		cq_aggregates_advance(operator->aggregates,
							  slot_states(operator, slot),
							  values,
							  nulls,
							  cq_pane_memory(operator, pane));
		if (event == before + counts->size)
			window_complete(operator, pane, group, window);
	}
}

/* The windows that have begun and are not complete after so many events: first to last. */
static void
open_range(const CqCounts *counts, int64 events, int64 *first, int64 *last)
{
	*first = events < counts->size ? 1 : (events - counts->size) / counts->slide + 2;
	*last = events == 0 ? 0 : (events - 1) / counts->slide + 1;
}

static void
window_begin(CqOperator *operator, CqPane * pane, char *slot)
{
	memset(slot, 0, operator->counts->slot_size);
	if (operator->changes)
		((CqCountRow *) slot)->gid = operator->state->next_gid++;
	cq_aggregates_init(operator->aggregates,
					   slot_states(operator, slot),
					   cq_pane_memory(operator, pane));
}

static void
window_complete(CqOperator *operator, CqPane * pane, CqGroup *group, int64 window)
{
	CqCounts *counts = operator->counts;
	CqCompleted *completed;
	MemoryContext old;

	window_values(operator, pane, group, window, false);
	old = MemoryContextSwitchTo(counts->context);
	completed = palloc0(sizeof(CqCompleted));
	completed->closed =
		cq_compat_form_minimal_tuple(operator->closed_desc, operator->values, operator->nulls);
	MemoryContextSwitchTo(old);
	if (operator->changes)
		completed->row = *(CqCountRow *) slot_of(operator, group, window);
	if (counts->last)
		counts->last->next = completed;
	else
		counts->first = completed;
	counts->last = completed;
	counts->bytes += sizeof(CqCompleted) + completed->closed->t_len;
	counts->n++;
	counts->gone_since++;
}

/* A window's row into operator->values and nulls. */
static void
window_values(CqOperator *operator, CqPane * pane, CqGroup *group, int64 window, bool keep)
{
	int i;

	cq_group_key_values(operator, group);
	for (i = 0; i < operator->nkeys; i++)
		if (operator->keys[i].role == CQ_KEY_WINDOW_NUMBER)
		{
			operator->values[i] = Int64GetDatum(window);
			operator->nulls[i] = false;
		}
	cq_aggregates_finish(operator->aggregates,
						 slot_states(operator, slot_of(operator, group, window)),
						 cq_pane_memory(operator, pane),
						 keep,
						 &operator->values[operator->nkeys], &operator->nulls[operator->nkeys]);
}

/* ------------------------------------------------------------------------
 * Rows out
 * ------------------------------------------------------------------------
 */

TimestampTz
cq_counts_first_end(CqOperator *operator)
{
	return operator->counts->first ? DT_NOBEGIN : DT_NOEND;
}

bool
cq_counts_are_many(const CqOperator *operator)
{
	return operator->counts->bytes> COMPLETED_BYTES_MAX;
}

int
cq_counts_close(CqOperator *operator, Tuplestorestate * rows)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(operator->closed_desc, &TTSOpsMinimalTuple);
	int closed = (int) operator->counts->n;
	CqCompleted *completed;

	for (completed = operator->counts->first; completed; completed = completed->next)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(completed->closed, slot, false);
		tuplestore_puttupleslot(rows, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	forget(operator);
	return closed;
}

/*
 * Complete windows first, in the order of events, then what is open of the groups that
 * changed: now, or later.
 */
int
cq_counts_changes(CqOperator *operator, const CqChanges * changes)
{
	CqPane *pane = operator->state->panes[0];
	int closed = (int) operator->counts->n;
	CqTouched *touched;

	show_complete(operator, changes->sink);
	/* what is about to change in the slots is not taken back by an abort */
	operator->state->current = false;
	for (touched = pane->touched; touched; touched = touched->next)
	{
		CHECK_FOR_INTERRUPTS();
		if (changes->refresh)
			show_open(operator, pane, touched->group, changes->sink);
		else
			put_off(operator, touched->group);
	}
	if (!changes->refresh)
		pane->behind = pane->behind || pane->touched;
	else if (pane->behind)
		show_behind(operator, pane, changes->sink);
	forget(operator);
	return closed;
}

static void
show_complete(CqOperator *operator, const CqChangeSink * sink)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(operator->closed_desc, &TTSOpsMinimalTuple);
	ItemPointerData tid;
	CqCompleted *completed;

	for (completed = operator->counts->first; completed; completed = completed->next)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(completed->closed, slot, false);
		slot_getallattrs(slot);
		ItemPointerSetInvalid(&tid);
		sink->upsert(sink->arg,
					 completed->row.gid,
					 !completed->row.exists,
					 &tid,
					 slot->tts_values,
					 slot->tts_isnull);
	}
	ExecDropSingleTupleTableSlot(slot);
}

/* The windows of a group that are open and whose rows are not what they are. */
static void
show_open(CqOperator *operator, CqPane * pane, CqGroup *group, const CqChangeSink *sink)
{
	ItemPointerData tid;
	int64 window;
	int64 last;

	open_range(operator->counts, count_of(operator, group)->events, &window, &last);
	for (; window <= last; window++)
	{
		CqCountRow *row = (CqCountRow *) slot_of(operator, group, window);

		window_values(operator, pane, group, window, true);
		ItemPointerSetInvalid(&tid);
		sink->upsert(sink->arg, row->gid, !row->exists, &tid, operator->values, operator->nulls);
		row->exists = true;
		row->behind = false;
	}
	MemoryContextReset(operator->scratch);
}

static void
put_off(CqOperator *operator, CqGroup * group)
{
	int64 window;
	int64 last;

	open_range(operator->counts, count_of(operator, group)->events, &window, &last);
	for (; window <= last; window++)
		((CqCountRow *) slot_of(operator, group, window))->behind = true;
}

/* If memory is too short to note that all are to be saved, the rest waits for the next time. */
static void
show_behind(CqOperator *operator, CqPane * pane, const CqChangeSink *sink)
{
	CqGroupScan scan;
	CqGroup *group;

	cq_group_scan_begin(&scan, &pane->groups, 0, 0);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_behind(operator, group))
			continue;
		if (!cq_group_resave(operator, pane, group))
			return;
		show_open(operator, pane, group, sink);
	}
	pane->behind = false;
}

static bool
is_behind(CqOperator *operator, CqGroup * group)
{
	int64 window;
	int64 last;

	open_range(operator->counts, count_of(operator, group)->events, &window, &last);
	for (; window <= last; window++)
		if (((CqCountRow *) slot_of(operator, group, window))->behind)
			return true;
	return false;
}

/* What was complete has been given out. */
static void
forget(CqOperator *operator)
{
	CqCounts *counts = operator->counts;

	MemoryContextReset(counts->context);
	counts->first = counts->last = NULL;
	counts->bytes = 0;
	counts->n = 0;
	if (!operator->aggregates->flat && counts->gone_since> GONE_MINIMUM +
		 operator->state->ngroups * counts->slots)
	{
		cq_groups_renew_memory(operator, operator->state->panes[0]);
		counts->gone_since = 0;
	}
}

/* ------------------------------------------------------------------------
 * To disk and back
 * ------------------------------------------------------------------------
 */

int
cq_counts_open(const CqOperator *operator, const CqCount * count)
{
	int64 first;
	int64 last;

	open_range(operator->counts, count->events, &first, &last);
	return (int) Max(last - first + 1, 0);
}

void
cq_counts_put(CqOperator *operator, CqPane * pane, CqGroup *group, StringInfo out)
{
	int64 window;
	int64 last;

	appendBinaryStringInfo(out, (char *) count_of(operator, group), sizeof(CqCount));
	open_range(operator->counts, count_of(operator, group)->events, &window, &last);
	for (; window <= last; window++)
	{
		char *slot = slot_of(operator, group, window);

		appendBinaryStringInfo(out, slot, (int) operator->counts->row_size);
		if (operator->aggregates->all_fast)
			appendBinaryStringInfo(out,
								   slot_states(operator, slot),
								   (int) operator->aggregates->states_size);
		else
			cq_aggregates_put(operator->aggregates,
							  slot_states(operator, slot),
							  cq_pane_memory(operator, pane),
							  out);
	}
}

static void
row_found(CqOperator *operator, CqPane * pane, const CqCountRow *row)
{
	operator->state->next_gid = Max(operator->state->next_gid, row->gid + 1);
	pane->behind = pane->behind || row->behind;
}

void
cq_counts_get(CqOperator *operator, CqPane * pane, CqGroup *group, CqReader *entry)
{
	CqCounts *counts = operator->counts;
	int64 window;
	int64 last;

	memcpy(count_of(operator, group), cq_reader_take(entry, sizeof(CqCount)), sizeof(CqCount));
	open_range(counts, count_of(operator, group)->events, &window, &last);
	for (; window <= last; window++)
	{
		char *slot = slot_of(operator, group, window);
		Size size = operator->aggregates->states_size;

		memset(slot, 0, counts->slot_size);
		memcpy(slot, cq_reader_take(entry, counts->row_size), counts->row_size);
		if (operator->changes)
			row_found(operator, pane, (CqCountRow *) slot);
		if (operator->aggregates->all_fast)
			memcpy(slot_states(operator, slot), cq_reader_take(entry, size), size);
		else
			cq_aggregates_get(operator->aggregates,
							  slot_states(operator, slot),
							  cq_pane_memory(operator, pane),
							  entry);
	}
}
