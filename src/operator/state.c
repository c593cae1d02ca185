/*
 * state.c
 *	  What an operator remembers, in shared memory.
 *
 * The chunk table is the truth, this is its cache; it outlives the worker, so
 * that a restart need not read it again.
 *
 * Until a commit nothing is freed that the commit before left behind.  The first
 * time a group is touched after a commit its states are copied (CqTouched); new
 * groups and panes are marked; closed panes are put aside.  So as long as
 * nothing but evaluation has happened, an abort is undone here, in memory, by
 * whichever way the worker leaves: an error that is handled, or the end of the
 * process.  From the moment the save begins - it changes what is known about
 * chunks, too - until the commit is known to have happened, the state is not
 * current, and an abort means reading the chunks again: simple, and right.
 *
 * Invariants
 *	S2. A current state, after undo, is what the chunks committed by its epoch
 *		are.
 *	S3. Only the process that is attached changes a state.  What a dead process
 *		left is adopted only if it is current, which it was made by code that
 *		cannot fail: dirty state is never repaired by another process.
 *
 * A kill -9 of any process makes PostgreSQL throw its shared memory away, and
 * all states with it.
 *
 * Transition values that are not in the states themselves are in the worker's
 * own memory; such a state is not flat, and never outlives its worker or an
 * abort.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "errors.h"
#include "operator/shape.h"

#define FIRST_PANES 16

/* The states that this process is attached to. */
typedef struct Attached
{
	int64 view;
	CqStoreNumber number;
	CqState *state;
	struct Attached *next;
} Attached;

static Attached *attached_states = NULL;
static Attached *spare = NULL; /* for the next one */

static void private_forget(CqState *state);
static void attached_prepare(void);
static Attached *attached_note(int64 view, CqStoreNumber number);
static CqState *state_create(CqStoreNumber number);
static void states_detach(int code, Datum arg);
static void let_go(Attached *attached);
static void passing_free(Attached *attached);
static void free_closed(CqState *state);
static void undo(CqState *state);
static void pane_undo(CqState *state, CqPane *pane);
static void free_gone(CqState *state, CqPane *pane);
static void group_free(CqState *state, CqPane *pane, CqGroup *group);
static void derived_unlink(CqState *state, CqPane *pane);
static int pane_place(const CqState *state, const CqPane *pane);

CqState *
cq_state_attach(const CqStoreKey *key, uint64 layout, int64 epoch, bool flat, Oid filenumber)
{
	static int32 passing = 0;
	CqStoreKey own = {.database = MyDatabaseId, .view = -MyProcPid, .shard = ++passing};
	void *root = NULL;
	CqStoreNumber number;
	Attached *attached;
	CqState *state;

	attached_prepare();
	number = cq_region_attach(key ? key : &own, &root);
	attached = attached_note(key ? key->view : own.view, number);
	state = attached->state = root;
	if (state && state->current && !state->changed && flat && state->flat &&
		state->layout == layout && state->epoch == epoch && state->chunks.filenumber == filenumber)
	{
		private_forget(state);
		return state;
	}
	attached->state = NULL;
	if (state)
		cq_region_clear(number);
	state = attached->state = state_create(number);
	state->layout = layout;
	state->flat = flat;
	return state;
}

/* What another operator, or another worker, made of the state for itself. */
static void
private_forget(CqState *state)
{
	int i;

	while (state->derived)
		cq_state_free_pane(state, state->derived);
	/* a later process may have the number of the one that left these marks */
	for (i = 0; i < state->npanes; i++)
	{
		state->panes[i]->top_instance = 0;
		state->panes[i]->counted_by = 0;
	}
}

/* What attached_note() needs, so that nothing fails between attaching and its being known. */
static void
attached_prepare(void)
{
	static bool registered = false;

	if (!registered)
		before_shmem_exit(states_detach, (Datum) 0);
	registered = true;
	if (spare == NULL)
		spare = MemoryContextAllocZero(TopMemoryContext, sizeof(Attached));
}

static Attached *
attached_note(int64 view, CqStoreNumber number)
{
	Attached *attached;

	for (attached = attached_states; attached; attached = attached->next)
		if (attached->number == number)
			return attached;
	attached = spare;
	spare = NULL;
	attached->view = view;
	attached->number = number;
	attached->next = attached_states;
	attached_states = attached;
	return attached;
}

static CqState *
state_create(CqStoreNumber number)
{
	Size size = sizeof(CqState);
	CqState *state = cq_region_alloc(number, &size, 0);

	if (state)
	{
		memset(state, 0, sizeof(CqState));
		state->store = number;
		cq_arena_init(&state->arena, number, 0);
		cq_arena_init(&state->touched, number, CQ_KEEP_FOR_TABLES);
		cq_chunk_table_init(&state->chunks, &state->arena, pg_prng_uint64(&pg_global_prng_state));
		state->next_gid = state->committed_gid = 1;
		state->panes_capacity = FIRST_PANES;
		state->panes = cq_arena_alloc(&state->arena, FIRST_PANES * sizeof(CqPane *));
	}
	if (state == NULL || state->panes == NULL)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STATE_FULL),
				errmsg("no memory is left for the state of another continuous view"),
				errhint("Increase \"pipeline.state_memory\"."));
	cq_region_set_root(number, state);
	return state;
}

bool
cq_state_set_layouts(CqState *state, const CqGroupLayout *layouts, int n)
{
	state->layouts = cq_arena_alloc(&state->arena, n * sizeof(CqGroupLayout));
	if (state->layouts)
		memcpy(state->layouts, layouts, n * sizeof(CqGroupLayout));
	return state->layouts != NULL;
}

CqPane *
cq_state_create_pane(CqState *state, TimestampTz start, TimestampTz end)
{
	CqPane *pane = cq_arena_alloc(&state->arena, sizeof(CqPane));

	if (pane == NULL)
		return NULL;
	memset(pane, 0, sizeof(CqPane));
	pane->start = start;
	pane->end = pane->first_end = pane->last_end = end;
	cq_arena_init(&pane->arena, state->store, CQ_KEEP_FOR_TABLES + CQ_KEEP_FOR_TOUCHED);
	pane->is_derived = true;
	pane->next = state->derived;
	if (pane->next)
		pane->next->previous = pane;
	state->derived = pane;
	return pane;
}

static void
derived_unlink(CqState *state, CqPane *pane)
{
	if (!pane->is_derived)
		return;
	if (pane->previous)
		pane->previous->next = pane->next;
	else
		state->derived = pane->next;
	if (pane->next)
		pane->next->previous = pane->previous;
	pane->next = pane->previous = NULL;
	pane->is_derived = false;
}

bool
cq_state_insert_pane(CqState *state, int place, CqPane *pane)
{
	if (state->npanes == state->panes_capacity)
	{
		Size size = state->panes_capacity * sizeof(CqPane *);
		CqPane **panes = cq_arena_alloc(&state->arena, 2 * size);

		if (panes == NULL)
			return false;
		memcpy(panes, state->panes, size);
		cq_arena_free(&state->arena, state->panes, size);
		state->panes = panes;
		state->panes_capacity *= 2;
	}
	derived_unlink(state, pane);
	memmove(&state->panes[place + 1],
			&state->panes[place],
			(state->npanes - place) * sizeof(CqPane *));
	state->panes[place] = pane;
	state->npanes++;
	pane->is_new = true;
	state->changed = true;
	Assert(place == 0 || state->panes[place - 1]->start < pane->start);
	Assert(place == state->npanes - 1 || state->panes[place + 1]->start > pane->start);
	return true;
}

void
cq_state_close_panes(CqState *state, int n)
{
	int i;

	for (i = 0; i < n; i++)
	{
		state->ngroups -= state->panes[i]->ngroups;
		state->panes[i]->next = state->closed;
		state->closed = state->panes[i];
	}
	state->npanes -= n;
	memmove(state->panes, &state->panes[n], state->npanes * sizeof(CqPane *));
	state->changed = true;
}

static void
free_closed(CqState *state)
{
	while (state->closed)
	{
		CqPane *pane = state->closed;

		state->closed = pane->next;
		cq_state_free_pane(state, pane);
	}
}

void
cq_state_forget_undo(CqState *state)
{
	Assert(!state->current);
	free_closed(state);
	cq_arena_release(&state->touched);
}

void
cq_state_committed(CqState *state, int64 epoch)
{
	int i;

	free_closed(state);
	for (i = 0; i < state->npanes; i++)
	{
		state->panes[i]->is_new = false;
		free_gone(state, state->panes[i]);
	}
	cq_arena_release(&state->touched);
	state->committed_gid = state->next_gid;
	state->touched_groups = 0;
	state->changed = false;
	state->epoch = epoch;
	state->current = true;
}

static void
free_gone(CqState *state, CqPane *pane)
{
	CqTouched *gone;

	for (gone = pane->gone; gone; gone = gone->next)
		group_free(state, pane, gone->group);
	pane->gone = NULL;
}

static void
group_free(CqState *state, CqPane *pane, CqGroup *group)
{
	cq_group_table_remove(&pane->groups, group);
	cq_arena_free(&pane->arena, group, cq_group_size(&state->layouts[group->kind], group));
	pane->ngroups--;
	state->ngroups--;
}

void
cq_state_free_pane(CqState *state, CqPane *pane)
{
	derived_unlink(state, pane);
	cq_aggregates_free_memory(pane->memory);
	cq_buckets_free(state, pane);
	cq_arena_release(&pane->arena);
	cq_arena_free(&state->arena, pane, sizeof(CqPane));
}

/* ------------------------------------------------------------------------
 * Aborts
 * ------------------------------------------------------------------------
 */

void
cq_states_abort(void)
{
	Attached **link = &attached_states;

	while (*link)
	{
		Attached *attached = *link;

		if (attached->view < 0)
		{
			*link = attached->next;
			passing_free(attached);
			continue;
		}
		if (attached->state && attached->state->current && attached->state->changed)
			undo(attached->state);
		if (attached->state == NULL || !attached->state->current)
		{
			/* it will be read again: until then others may have the memory */
			attached->state = NULL;
			cq_region_clear(attached->number);
		}
		link = &attached->next;
	}
}

static void
passing_free(Attached *attached)
{
	cq_region_set_root(attached->number, NULL);
	cq_region_detach(attached->number);
	pfree(attached);
}

void
cq_state_discard(CqState *state)
{
	Attached **link = &attached_states;

	while (*link && (*link)->state != state)
		link = &(*link)->next;
	if (*link)
	{
		Attached *attached = *link;

		*link = attached->next;
		passing_free(attached);
	}
}

static void
states_detach(int code, Datum arg)
{
	cq_states_abort();
	while (attached_states)
	{
		Attached *attached = attached_states;

		attached_states = attached->next;
		let_go(attached);
	}
}

void
cq_state_detach(int64 view)
{
	Attached **link = &attached_states;

	/* one for each of its inputs */
	while (*link)
	{
		Attached *attached = *link;

		if (attached->view != view)
		{
			link = &attached->next;
			continue;
		}
		*link = attached->next;
		let_go(attached);
		pfree(attached);
	}
}

/* What the next worker cannot use is given back at once. */
static void
let_go(Attached *attached)
{
	CqState *state = attached->state;

	if (state == NULL || !state->current || !state->flat || state->changed)
		cq_region_set_root(attached->number, NULL);
	cq_region_detach(attached->number);
}

static void
undo(CqState *state)
{
	int kept = 0;
	int i;

	if (!state->flat)
	{
		state->current = false;
		return;
	}
	for (i = 0; i < state->npanes; i++)
	{
		CqPane *pane = state->panes[i];

		if (pane->is_new)
		{
			state->ngroups -= pane->ngroups;
			cq_state_free_pane(state, pane);
			continue;
		}
		pane_undo(state, pane);
		state->panes[kept++] = pane;
	}
	state->npanes = kept;
	while (state->closed)
	{
		CqPane *pane = state->closed;
		int place;

		state->closed = pane->next;
		if (pane->is_new)
		{
			cq_state_free_pane(state, pane);
			continue;
		}
		/* with the new ones gone there is room: all these were there before */
		Assert(state->npanes < state->panes_capacity);
		place = pane_place(state, pane);
		memmove(&state->panes[place + 1],
				&state->panes[place],
				(state->npanes - place) * sizeof(CqPane *));
		state->panes[place] = pane;
		state->npanes++;
		state->ngroups += pane->ngroups;
		pane_undo(state, pane);
	}
	cq_arena_release(&state->touched);
	state->next_gid = state->committed_gid;
	state->touched_groups = 0;
	state->changed = false;
}

static void
pane_undo(CqState *state, CqPane *pane)
{
	CqTouched *touched;

	for (touched = pane->gone; touched; touched = touched->next)
		touched->group->flags &= ~CQ_GROUP_GONE;
	pane->gone = NULL;
	for (touched = pane->touched; touched; touched = touched->next)
	{
		CqGroup *group = touched->group;
		const CqGroupLayout *layout = &state->layouts[group->kind];

		if (group->flags & CQ_GROUP_NEW)
		{
			group_free(state, pane, group);
			continue;
		}
		memcpy((char *) group + layout->states_offset, touched + 1, layout->states_size);
		group->flags &= ~(CQ_GROUP_DIRTY | CQ_GROUP_MERGED);
	}
	pane->touched = NULL;
	if (pane->first)
		cq_rows_undo(state, pane);
}

/* Where among the panes one that was taken out belongs. */
static int
pane_place(const CqState *state, const CqPane *pane)
{
	int low = 0;
	int high = state->npanes;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (state->panes[middle]->start < pane->start)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
