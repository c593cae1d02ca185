/*
 * room.c
 *	  How much memory an operator may still take, and giving it up.
 *
 * When memory gets short, a save gives up what is on disk anyway, or writes it
 * so that it can be found there: panes that were not used for longest first.
 * In between, a checkpoint ends early when little is left; and if even that is
 * too late, it is undone and repeated with fewer events.
 *
 * What is in the worker's own memory is measured now and then, and taken out of
 * the region's account.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "errors.h"
#include "operator/shape.h"

#define ROWS_PER_CHECK 1024

/* Parts of its limit that a view should have left: after a save, and to go on with a checkpoint. */
#define ROOM_AFTER_SAVE 4
#define ROOM_TO_GO_ON	8

static Size left_of_limit(const CqRegionRoom *region, int keep, Size soon_free);
static Size room(CqOperator *operator, const CqRegionRoom * region);
static void evict(CqOperator *operator, CqEvict first, CqEvict last);
static bool enough_given_up(CqOperator *operator, CqEvict how);
static int compare_uses(const void *a, const void *b);

/* What is left of a view's limit when parts of it are kept, and what is to be free soon is free. */
static Size
left_of_limit(const CqRegionRoom *region, int keep, Size soon_free)
{
	Size used = region->used - soon_free + region->limit / CQ_KEEP_PARTS * keep;

	return region->limit - Min(used, region->limit);
}

/* Bytes that groups and rows may still take, once this checkpoint has committed. */
static Size
room(CqOperator *operator, const CqRegionRoom * region)
{
	return left_of_limit(region,
						 CQ_KEEP_FOR_TABLES + CQ_KEEP_FOR_TOUCHED,
						 operator->state->touched.bytes) +
		   (operator->current ? operator->current->arena.spare : 0);
}

bool
cq_operator_has_room(CqOperator *operator)
{
	CqRegionRoom region;

	cq_region_room(operator->state->store, &region);
	return room(operator, & region) >= region.limit / ROOM_AFTER_SAVE;
}

Size
cq_operator_room(CqOperator *operator)
{
	CqRegionRoom region;

	cq_region_room(operator->state->store, &region);
	return left_of_limit(&region, CQ_KEEP_FOR_TABLES + CQ_KEEP_FOR_TOUCHED, 0);
}

void
cq_operator_give_way(CqOperator *operator)
{
	operator->gives_way = true;
	cq_operator_save(operator, operator->relation);
	cq_state_forget_undo(operator->state);
	operator->gives_way = false;
}

bool
cq_operator_wants_save(CqOperator *operator)
{
	CqRegionRoom region;

	if ((operator->counts && cq_counts_are_many(operator)) ||
		(operator->count_rows && cq_count_rows_are_many(operator)))
		return true;
	if (!cq_can_evict(operator))
		return false;
	cq_region_room(operator->state->store, &region);
	return room(operator, & region) < region.limit / ROOM_TO_GO_ON ||
		   left_of_limit(&region, CQ_KEEP_FOR_TABLES, 0) < region.limit / CQ_KEEP_PARTS;
}

bool
cq_operator_must_shrink(CqOperator *operator)
{
	CqRegionRoom region;

	cq_region_room(operator->state->store, &region);
	/* once it has given up all it could, it need not try again until it has grown */
	return cq_can_evict(operator) && region.held > region.limit &&
		   region.held > operator->shrunk_to;
}

void
cq_operator_full(CqOperator *operator)
{
	CqRegionRoom region;
	bool own_fault;
	int code = CQ_ERRCODE_STATE_FULL;

	cq_region_room(operator->state->store, &region);
	if (operator->loading)
		region.limit = Max(region.limit, region.most);
	own_fault =
		left_of_limit(&region, CQ_KEEP_FOR_TABLES + CQ_KEEP_FOR_TOUCHED, 0) < CQ_EXTENT_SIZE;
	if (!own_fault)
		code = ERRCODE_OUT_OF_MEMORY; /* others will give back what is too much: try again */
	else if (operator->loading || !cq_can_evict(operator))
		code = CQ_ERRCODE_STOP; /* nothing can be given up */
	ereport(ERROR,
			errcode(code),
			errmsg("operator state does not fit into memory"),
			errdetail(INT64_FORMAT
					  " groups or rows hold %zu kB of the %zu kB that the view may have%s.",
					  operator->state->ngroups,
					  region.held / 1024,
					  region.limit / 1024,
					  cq_can_evict(operator)
						  ? ""
						  : ", and the values of its aggregates cannot be kept on disk"),
			errhint("Increase \"pipeline.state_memory\", or let the query keep fewer groups "
					"or shorter windows."));
}

/* Take what is not in the region out of its account. */
void
cq_operator_check_private(CqOperator *operator)
{
	Size bytes;

	if (operator->state->flat &&(operator->top == NULL || operator->kinds))
	{
		operator->next_check = PG_UINT64_MAX;
		return;
	}
	/* measuring visits every context, of which there may be one per group */
	bytes = MemoryContextMemAllocated(operator->context, true);
	operator->next_check = operator->rows + Max(ROWS_PER_CHECK, operator->state->ngroups / 8);
	if (!cq_region_reserve(operator->state->store, bytes))
		cq_operator_full(operator);
}

/* Give memory up, in one way and then another: of the panes not used for longest first. */
static void
evict(CqOperator *operator, CqEvict first, CqEvict last)
{
	CqState *state = operator->state;
	CqPane **panes = palloc(Max(state->npanes, 1) * sizeof(CqPane *));
	int npanes = state->npanes;
	CqEvict how;
	int i;

	/* what can be made again goes first */
	if (operator->sliced)
		cq_slices_forget(operator);
	memcpy(panes, state->panes, npanes * sizeof(CqPane *));
	qsort(panes, npanes, sizeof(CqPane *), compare_uses);
	for (how = first; how <= last; how++)
		for (i = 0; i < npanes && !enough_given_up(operator, how); i++)
		{
			CHECK_FOR_INTERRUPTS();
			operator->ops->evict(operator, panes[i], how);
		}
	pfree(panes);
}

static bool
enough_given_up(CqOperator *operator, CqEvict how)
{
	CqRegionRoom region;

	if (how != CQ_EVICT_ALL)
		return cq_operator_has_room(operator);
	if (operator->gives_way)
		return false;
	cq_region_room(operator->state->store, &region);
	return !cq_operator_must_shrink(operator) &&
		   left_of_limit(&region, CQ_KEEP_FOR_TABLES, operator->state->touched.bytes) >=
			   region.limit / CQ_KEEP_PARTS;
}

bool
cq_operator_is_short(CqOperator *operator)
{
	return cq_can_evict(operator) &&
		   (!cq_operator_has_room(operator) || !enough_given_up(operator, CQ_EVICT_ALL));
}

void
cq_operator_make_room(CqOperator *operator)
{
	if (cq_can_evict(operator) && !cq_operator_has_room(operator))
		evict(operator, CQ_EVICT_COLD, CQ_EVICT_RECENT);
}

/*
 * What pieces were freed in a pane is of use only there.  When others need the
 * memory - other views, or what must be remembered of what is on disk - panes
 * are emptied, so that all of theirs goes back.
 */
void
cq_operator_make_all_room(CqOperator *operator)
{
	CqRegionRoom region;

	if (!cq_can_evict(operator) || enough_given_up(operator, CQ_EVICT_ALL))
		return;
	evict(operator, CQ_EVICT_ALL, CQ_EVICT_ALL);
	cq_region_room(operator->state->store, &region);
	operator->shrunk_to = region.held;
}

static int
compare_uses(const void *a, const void *b)
{
	const CqPane *x = *(CqPane *const *) a;
	const CqPane *y = *(CqPane *const *) b;

	return x->last_used < y->last_used ? -1 : x->last_used > y->last_used;
}
