/*
 * slices.c
 *	  Hopping and cumulating windows made up of slices.
 *
 * A pane is a slice of time (see hop.c), so an event is folded into one,
 * however many windows it is in.  When a window closes, its slices are combined
 * into a pane that lives for as long as it takes to give out its rows.  A slice
 * goes with its last window.
 *
 * With many windows to a slice the same slices would be combined over and over.
 * So what lies within four neighbouring slices is kept combined as a block, and
 * within four such blocks, and so on, each block aligned to its length.  A block
 * is made when a window first needs it and serves all windows that it lies in.
 * A window of n slices then takes at most 6 log4(n) blocks and slices, and a slice
 * is combined into log4(n) blocks in its life.  Time in which there is no slice
 * costs nothing, and a block in which there is only one is that slice.  Where a
 * slice can be taken back from a window, running.c does better.
 *
 * An event that is late for some of its windows still counts in the others, but
 * the slice that it belongs to is part of all of them.  So the windows that were
 * complete when it came must be closed before it is taken in.
 *
 * Where several operators keep parts of the windows that would take long, as all
 * of them have to agree first.  There such an event goes into a pane beside the
 * slice's, a late part of it: those events that are late for its first j windows
 * and for no others.  To have the place in time, and in chunks, that tells which
 * slice and which j, its start is the slice's plus j microseconds.
 *
 * Memory: a window that is given out takes as much as its groups, the blocks that
 * are kept several times that.  When there is not so much room they are made, used
 * and freed one by one, in the same order; and what slices have in memory is put
 * on disk first, by a save in the middle of the checkpoint.
 *
 * Invariants
 *	L1. A slice holds the events that count in each of its windows that end
 *		behind closed_to.  Where there are several operators, each pane holds
 *		those that count in all windows from first_end to last_end and in no others.
 *	L2. A block is made up of its slices as they are now: when one changes, the
 *		blocks that it is in are dropped.  So a window's contents depend on its
 *		slices alone, to the last digit of a floating-point sum, and not on what
 *		happened to be combined before a restart.  Late parts are in no block, as
 *		they come to it between two windows.
 *	L3. Blocks are never saved.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "operator/shape.h"
#include "window/window.h"

/* As a power of two: how many blocks make a block of the next level. */
#define FANOUT_BITS 2

typedef struct SliceBlockKey
{
	int64 number; /* counted as slices are, in units of the block's length */
	int level;	  /* 0 would be slices */
} SliceBlockKey;

typedef struct Block
{
	SliceBlockKey key;
	char status;
	CqPane *pane;
} SliceBlock;

#define SH_PREFIX		cq_blocks
#define SH_ELEMENT_TYPE SliceBlock
#define SH_KEY_TYPE		SliceBlockKey
#define SH_KEY			key
#define SH_HASH_KEY(table, key)                                                                    \
	hash_combine(murmurhash32((uint32) (key).number),                                              \
				 murmurhash32((uint32) ((key).number >> 32)) + (key).level)
#define SH_EQUAL(table, a, b) ((a).number == (b).number && (a).level == (b).level)
#define SH_SCOPE			  static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

#define BLOCKS_FIRST 32

static CqPane *slice_reach(CqOperator *operator, TimestampTz time, int64 missed);
static TimestampTz next_end(CqOperator *operator, const CqPane * pane);
static void window_emit(CqOperator *operator, TimestampTz start, TimestampTz end,
						Tuplestorestate *rows);
static void room_make(CqOperator *operator, TimestampTz end, int64 from, int64 to);
static Size window_size(CqOperator *operator, TimestampTz end, int64 from, int64 to);
static Size slice_size(const CqOperator *operator, const CqPane * slice);
static void range_combine(CqOperator *operator, CqPane * into, int64 from, int64 to);
static void late_parts_combine(CqOperator *operator, CqPane * into, int64 from, int64 to);
static int largest_block(int64 number, int64 from, int64 to);
static void block_combine(CqOperator *operator, CqPane * into, int level, int place, int stop);
static CqPane *block_make(CqOperator *operator, int level, int place, int stop);
static void blocks_drop(CqOperator *operator, int64 number);
static void slices_leave(CqOperator *operator);
static int number_search(CqOperator *operator, int64 number);

/* Number of the block that contains a slice. */
static inline int64
block_number(int64 slice, int level)
{
	int bits = level * FANOUT_BITS;

	/* rounded down, slices before the origin have negative numbers */
	return slice >= 0 ? slice >> bits : -((-slice - 1) >> bits) - 1;
}

/* The first slice of a block. */
static inline int64
block_first(int64 number, int level)
{
	return number * ((int64) 1 << (level * FANOUT_BITS));
}

void
cq_slices_create(CqOperator *operator)
{
	operator->blocks = cq_blocks_create(operator->context, BLOCKS_FIRST, NULL);
}

/* ------------------------------------------------------------------------
 * Events in
 * ------------------------------------------------------------------------
 */

bool
cq_hop_missed(CqOperator *operator, TimestampTz time, TimestampTz watermark, CqMissed *missed,
			  int64 *windows)
{
	const CqWindow *window = &operator->window;
	TimestampTz last_end;
	uint64 behind;

	if (!cq_window_span(window, time, &missed->start, &missed->end, &last_end))
		return false;
	*windows = (last_end - missed->end) / window->slide_us + 1;
	missed->start_slide_us = window->kind == CQ_WINDOW_HOP ? window->slide_us : 0;
	missed->end_slide_us = window->slide_us;
	missed->n = 0;
	if (watermark < missed->end)
		return true;
	behind = (uint64) watermark - (uint64) missed->end;
	missed->n = Min((uint64) *windows, behind / window->slide_us + 1);
	return true;
}

CqOutcome
cq_slices_find(CqOperator *operator, const CqEvent * event, CqMissed *missed)
{
	TimestampTz watermark = Max(event->watermark, operator->closed_to);
	int64 windows;

	Assert(operator->allowed_lateness_us == 0);
	if (!cq_hop_missed(operator, event->time, watermark, missed, &windows))
		return CQ_NO_TIME;
	if (missed->n == windows)
		return CQ_LATE;
	if (missed->n > 0 && !operator->divided)
	{
		if (cq_slices_first_end(operator) <= watermark)
			return CQ_CLOSE_FIRST;
		/* nothing is left to close there, and never shall be: not with this event, either */
		operator->closed_to = watermark;
	}

	operator->current = slice_reach(operator, event->time, operator->divided ? missed->n : 0);
	operator->current->last_used = ++ operator->state->uses;
	if (missed->n > 0 && !operator->divided)
	{
		blocks_drop(operator, operator->current->number);
		cq_running_change(operator, operator->current);
	}
	return CQ_COUNTED;
}

/* The slice that a time falls into, or its part for what is late for its first windows. */
static CqPane *
slice_reach(CqOperator *operator, TimestampTz time, int64 missed)
{
	int place = cq_pane_search(operator, time);
	TimestampTz start;
	TimestampTz end;
	int64 number;
	CqPane *pane;

	if (missed == 0 && place < operator->state->npanes)
	{
		pane = operator->state->panes[place];
		if (pane->start <= time && !pane->is_late_part)
			return pane;
	}
	cq_hop_slice(&operator->window, time, &start, &end, &number);
	start += missed;
	pane = cq_operator_pane(operator, start);
	if (pane)
		return pane;
	pane = cq_pane_create(operator, start, end);
	(void) cq_slices_place(operator, start, pane);
	cq_pane_insert(operator, cq_pane_search_start(operator, start), pane);
	return pane;
}

/*
 * Fill in where in time the slice, or the late part of one, lies that begins at
 * start; false if one of its windows is out of range.
 */
bool
cq_slices_place(CqOperator *operator, TimestampTz start, CqPane *pane)
{
	const CqWindow *window = &operator->window;
	TimestampTz first_start;
	int64 missed;

	if (!cq_window_span(window, start, &first_start, &pane->first_end, &pane->last_end))
		return false;
	cq_hop_slice(window, start, &pane->start, &pane->end, &pane->number);
	missed = start - pane->start;
	pane->start = start;
	pane->is_late_part = missed > 0;
	pane->first_end += missed * window->slide_us;
	return pane->first_end <= pane->last_end;
}

/* ------------------------------------------------------------------------
 * Windows out
 * ------------------------------------------------------------------------
 */

/*
 * Windows end one after the other, so the first one that is open has the first
 * slice in it, unless that only has parts that are late for it.
 */
TimestampTz
cq_slices_first_end(CqOperator *operator)
{
	TimestampTz end = DT_NOEND;
	int i;

	for (i = 0; i < operator->state->npanes; i++)
	{
		end = Min(end, next_end(operator, operator->state->panes[i]));
		if (!operator->state->panes[i]->is_late_part)
			break;
	}
	return end;
}

/* The end of the first window that a pane is part of and that has not closed. */
static TimestampTz
next_end(CqOperator *operator, const CqPane * pane)
{
	int64 slide_us = operator->window.slide_us;

	if (operator->closed_to<pane->first_end)
		return pane->first_end;
	return pane->first_end + ((operator->closed_to - pane->first_end) / slide_us + 1) * slide_us;
}

int
cq_slices_close(CqOperator *operator, TimestampTz watermark, Tuplestorestate *rows)
{
	TimestampTz end;
	int closed = 0;

	while ((end = cq_slices_first_end(operator)) <= watermark)
	{
		CHECK_FOR_INTERRUPTS();
		window_emit(operator, cq_window_start(&operator->window, end), end, rows);
		operator->closed_to = end;
		slices_leave(operator);
		closed++;
	}
	operator->closed_to = Max(operator->closed_to, watermark);
	operator->current = NULL;
	return closed;
}

static void
window_emit(CqOperator *operator, TimestampTz start, TimestampTz end, Tuplestorestate *rows)
{
	TimestampTz slice_start;
	TimestampTz slice_end;
	int64 from;
	int64 to;
	CqPane *window;
	int i;

	cq_hop_slice(&operator->window, start, &slice_start, &slice_end, &from);
	to = from + (operator->window.kind == CQ_WINDOW_CUMULATE
					 ? (end - start) / operator->window.slide_us
					 : cq_hop_slices_per_window(&operator->window));
	if (operator->ops->combine == NULL)
	{
		for (i = number_search(operator, from);
			 i < operator->state->npanes && operator->state->panes[i]->number<to;
			 i++)
			if (operator->state->panes[i]->first_end <= end)
				operator->ops->emit(operator, operator->state->panes[i], start, end, rows);
		return;
	}
	room_make(operator, end, from, to);
	if (operator->reversible)
	{
		window = cq_running_window(operator, number_search(operator, from), to, end);
		operator->ops->emit(operator, window, start, end, rows);
		operator->window_size = window->arena.bytes;
		if (!cq_operator_has_room(operator))
			cq_running_forget(operator);
		return;
	}
	window = cq_pane_create(operator, start, end);
	range_combine(operator, window, from, to);
	operator->ops->emit(operator, window, start, end, rows);
	operator->window_size = window->arena.bytes;
	cq_pane_free(operator, window);
}

/* With a short key. */
static inline Size
group_size(const CqOperator *operator)
{
	return operator->kinds[0].layout.key_offset + 4 * sizeof(uint64);
}

/*
 * Have memory for a window and the blocks that it is made of, of which there are
 * at most one of each level at a time, each with no more groups than the window.
 */
static void
room_make(CqOperator *operator, TimestampTz end, int64 from, int64 to)
{
	Size room = cq_operator_room(operator);
	Size wanted;
	int levels = 1;

	while (block_first(1, levels) <= to - from)
		levels++;
	/* mostly there is room for all that there is */
	if (room / levels >= (Size) operator->state->ngroups * 2 * group_size(operator))
		return;
	wanted = window_size(operator, end, from, to) * levels;
	if (room >= wanted)
		return;
	cq_slices_forget(operator);
	if (cq_operator_room(operator) < wanted && cq_can_evict(operator))
		cq_operator_give_way(operator);
}

/* No more than its slices have, nor than the last one and the slices that have come since. */
static Size
window_size(CqOperator *operator, TimestampTz end, int64 from, int64 to)
{
	Size all = 0;
	Size since = operator->window_size;
	int i;

	for (i = number_search(operator, from);
		 i < operator->state->npanes && operator->state->panes[i]->number<to;
		 i++)
	{
		const CqPane *slice = operator->state->panes[i];
		Size size = slice_size(operator, slice);

		all += size;
		if (slice->first_end == end)
			since += size;
	}
	return operator->window_size> 0 ? Min(all, since + since / 4) : all;
}

/* What a slice would take if all of it were in memory, more or less. */
static Size
slice_size(const CqOperator *operator, const CqPane * slice)
{
	Size each = group_size(operator);

	if (slice->groups.ngroups > 0)
		each = Max(each, (slice->arena.bytes - slice->arena.spare) / slice->groups.ngroups);
	return each * slice->ngroups;
}

/* Combine the slices with numbers from <= n < to, in order of time. */
static void
range_combine(CqOperator *operator, CqPane * into, int64 from, int64 to)
{
	int place = number_search(operator, from);

	while (place < operator->state->npanes && operator->state->panes[place]->number<to)
	{
		int64 number = operator->state->panes[place]->number;
		int level = largest_block(number, from, to);
		int stop = number_search(operator, block_first(block_number(number, level) + 1, level));

		block_combine(operator, into, level, place, stop);
		place = stop;
	}
	if (operator->late_parts)
		late_parts_combine(operator, into, from, to);
}

/* Of the slices with numbers from <= n < to; into is the window. */
static void
late_parts_combine(CqOperator *operator, CqPane * into, int64 from, int64 to)
{
	int place = number_search(operator, from);

	for (; place < operator->state->npanes && operator->state->panes[place]->number<to; place++)
	{
		CqPane *pane = operator->state->panes[place];

		if (pane->is_late_part && pane->first_end <= into->end)
			operator->ops->combine(operator, into, pane);
	}
}

/* Level of the largest block that contains a slice and lies in a range of slices. */
static int
largest_block(int64 number, int64 from, int64 to)
{
	int level = 0;

	for (;;)
	{
		int64 block = block_number(number, level + 1);

		if (block_first(block, level + 1) < from || block_first(block + 1, level + 1) > to)
			return level;
		level++;
	}
}

/*
 * The block of a level whose slices are at place <= i < stop, where there is at
 * least one pane; without late parts.
 */
static void
block_combine(CqOperator *operator, CqPane * into, int level, int place, int stop)
{
	SliceBlockKey key = {block_number(operator->state->panes[place]->number, level), level};
	SliceBlock *block;
	CqPane *pane;
	bool found;

	if (stop - place == 1 || level == 0)
	{
		if (!operator->state->panes[place]->is_late_part)
			operator->ops->combine(operator, into, operator->state->panes[place]);
		return;
	}
	block = cq_blocks_lookup(operator->blocks, key);
	if (block != NULL)
	{
		operator->ops->combine(operator, into, block->pane);
		return;
	}
	pane = block_make(operator, level, place, stop);
	operator->ops->combine(operator, into, pane);
	if (cq_operator_has_room(operator))
	{
		block = cq_blocks_insert(operator->blocks, key, &found);
		block->pane = pane;
	}
	else
		cq_pane_free(operator, pane);
}

static CqPane *
block_make(CqOperator *operator, int level, int place, int stop)
{
	CqPane *pane = cq_pane_create(operator,
								  operator->state->panes[place]->start,
								  operator->state->panes[stop - 1]->end);

	while (place < stop)
	{
		int64 part = block_number(operator->state->panes[place]->number, level - 1);
		int next = number_search(operator, block_first(part + 1, level - 1));

		block_combine(operator, pane, level - 1, place, next);
		place = next;
	}
	return pane;
}

/* Drop the blocks that a slice is in. */
static void
blocks_drop(CqOperator *operator, int64 number)
{
	int64 slices = cq_hop_slices_per_window(&operator->window);
	SliceBlockKey key;

	if (operator->blocks->members == 0)
		return;
	for (key.level = 1; block_first(1, key.level) <= slices; key.level++)
	{
		SliceBlock *block;

		key.number = block_number(number, key.level);
		block = cq_blocks_lookup(operator->blocks, key);
		if (block == NULL)
			continue;
		cq_pane_free(operator, block->pane);
		cq_blocks_delete(operator->blocks, key);
	}
}

/* Close the slices whose last window has closed. */
static void
slices_leave(CqOperator *operator)
{
	int n = 0;

	for (;
		 n < operator->state->npanes && operator->state->panes[n]->last_end <= operator->closed_to;
		 n++)
		blocks_drop(operator, operator->state->panes[n]->number);
	cq_running_leave(operator, n);
	cq_panes_close(operator, n);
}

void
cq_slices_forget(CqOperator *operator)
{
	cq_blocks_iterator iterator;
	SliceBlock *block;

	cq_blocks_start_iterate(operator->blocks, &iterator);
	while ((block = cq_blocks_iterate(operator->blocks, &iterator)) != NULL)
		cq_pane_free(operator, block->pane);
	cq_blocks_reset(operator->blocks);
	cq_running_forget(operator);
}

/*
 * How many windows have a slice and have not closed.  From the last slice
 * backwards: of the windows up to a slice's last one, those from lowest on are
 * counted already.
 */
int64
cq_slices_open_windows(CqOperator *operator)
{
	int64 slide_us = operator->window.slide_us;
	TimestampTz lowest = DT_NOEND;
	int64 n = 0;
	int i;

	for (i = operator->state->npanes - 1; i >= 0; i--)
	{
		CqPane *pane = operator->state->panes[i];
		TimestampTz end = next_end(operator, pane);

		if (end > pane->last_end || end >= lowest)
			continue;
		n += (Min(pane->last_end, lowest - slide_us) - end) / slide_us + 1;
		lowest = end;
	}
	return n;
}

/* The place of the first slice with this number or a higher one. */
static int
number_search(CqOperator *operator, int64 number)
{
	int low = 0;
	int high = operator->state->npanes;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (operator->state->panes[middle]->number<number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
