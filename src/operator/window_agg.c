/*
 * window_agg.c
 *	  AGGREGATE: groups with transition values, in panes.
 *
 * A group is one piece of its pane's memory: a head, where its result row is
 * if rows are kept up to date, the aggregates' states, the packed key.  For a
 * count per bigint that is 40 bytes, and 8 in the table (group_table.h).
 *
 * Aggregates with DISTINCT need to know which values they have taken.  Those
 * are entries of the same table, of other kinds: saved, loaded and forgotten as
 * groups are.  All aggregates over the same argument share its members, so a
 * row costs one look-up per argument however many aggregates there are.
 *
 * The first time a group is touched after a commit it goes into its pane's list
 * of touched groups, with a copy of its states; the list says what to save, and
 * what to take back after an abort (state.c).
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "errors.h"
#include "operator/shape.h"

static void agg_create(CqOperator *operator, const CqPlan * plan);
static void agg_init_pane(CqOperator *operator, CqPane * pane);
static void agg_fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls);
static void agg_emit(CqOperator *operator, CqPane * pane, TimestampTz start, TimestampTz end,
					 Tuplestorestate *rows);
static void agg_combine(CqOperator *operator, CqPane * into, CqPane *from);
static void combine_group(CqOperator *operator, CqPane * from, CqGroup *group, void *into);
static void agg_take_back(CqOperator *operator, CqPane * into, CqPane *from);
static void take_back_group(CqOperator *operator, CqPane * from, CqGroup *group, void *into);
static CqGroupLayout layout_of(Size states_offset, Size states_size);
static CqKeyCodec *set_codec_create(CqOperator *operator, const CqPlan * plan,
									const CqDistinctSet *set);
static void group_retract(CqOperator *operator, CqPane * pane, CqGroup *group, const Datum *values,
						  const bool *nulls);
static void sets_advance(CqOperator *operator, CqPane * pane, CqGroup *group, const Datum *values,
						 const bool *nulls);
static CqTouched *touched_alloc(CqOperator *operator, Size size);
static void group_emit(CqOperator *operator, CqPane * pane, CqGroup *group, void *arg);

const CqShapeOps cq_shape_aggregate = {
	.newest_first = true, /* only the last version of a group is of use */
	.create = agg_create,
	.init_pane = agg_init_pane,
	.fold = agg_fold,
	.emit = agg_emit,
	.combine = agg_combine,
	.take_back = agg_take_back,
	.save = cq_groups_save,
	.rewrite = cq_groups_rewrite,
	.load = cq_groups_load,
	.take_part = cq_groups_take_part,
	.evict = cq_bucket_evict,
	.verify_begin = cq_groups_verify_begin,
	.verify = cq_groups_verify,
	.verify_end = cq_groups_verify_end,
};

static CqGroupLayout
layout_of(Size states_offset, Size states_size)
{
	CqGroupLayout layout = {.states_offset = (uint32) states_offset,
							.states_size = (uint32) states_size,
							.key_offset = (uint32) (states_offset + states_size)};

	return layout;
}

static void
agg_create(CqOperator *operator, const CqPlan * plan)
{
	CqKeyColumn *columns = palloc0(Max(plan->nkeys, 1) * sizeof(CqKeyColumn));
	int ncolumns = 0;
	Size states_size;
	int i;

	operator->nkeys = plan->nkeys;
	operator->keys = palloc(Max(plan->nkeys, 1) * sizeof(CqKey));
	for (i = 0; i < plan->nkeys; i++)
	{
		const CqKey *key = &plan->keys[i];

		operator->keys[i] = * key;
		if (key->role == CQ_KEY_VALUE)
			cq_key_column_init(&columns[ncolumns++],
							   key->stage_column,
							   key->type,
							   key->collation,
							   key->equality_operator,
							   operator->context);
	}
	operator->disjoint = plan->disjoint;
	operator->aggregates = cq_aggregates_create(plan, operator->context);
	if (plan->retracts)
		operator->live_offset =(int) operator->aggregates->aggregates[plan->live].offset;
	if (plan->top)
		operator->top = cq_top_create(plan->top, operator->context);
	operator->nkinds = 1 + plan->nsets;
	operator->kinds = palloc0(operator->nkinds * sizeof(CqEntryKind));
	operator->kinds[0].codec = cq_key_create(columns, ncolumns, operator->context);
	operator->states_skip = operator->sessions ? sizeof(CqSession) : 0;
	states_size = operator->aggregates->states_size;
	if (operator->window.kind == CQ_WINDOW_COUNT)
	{
		operator->states_skip = sizeof(CqCount);
		states_size = cq_counts_create(operator);
	}
	operator->kinds[0].layout =
		layout_of(sizeof(CqGroup) + (cq_groups_have_rows(operator) ? sizeof(CqGroupRow) : 0) +
					  (operator->sessions ? sizeof(CqSessionPlace) : 0),
				  operator->states_skip + states_size);
	for (i = 0; i < plan->nsets; i++)
	{
		operator->kinds[i + 1].codec = set_codec_create(operator, plan, &plan->sets[i]);
		operator->kinds[i + 1].layout = layout_of(sizeof(CqGroup), sizeof(uint64));
	}
	/* of keys that are equal but differ, the one to show would depend on the past */
	operator->reversible = operator->sliced && operator->aggregates->reversible &&
	operator->kinds[0]
		.codec->all_by_image && cq_running_pays(&operator->window);
	if (operator->aggregates->flat)
		operator->flat_memory = cq_aggregates_memory(operator->aggregates);

	/* rows, aggregate functions and keys share one scratch context */
	MemoryContextDelete(operator->scratch);
	operator->scratch = operator->aggregates->scratch;

	operator->values = palloc0((plan->nkeys + plan->naggregates + 1) * sizeof(Datum));
	operator->nulls = palloc0((plan->nkeys + plan->naggregates + 1) * sizeof(bool));
}

/* Keys of members: the group's columns and the value. */
static CqKeyCodec *
set_codec_create(CqOperator *operator, const CqPlan * plan, const CqDistinctSet *set)
{
	CqKeyColumn *columns = palloc0((plan->nkeys + 1) * sizeof(CqKeyColumn));
	int ncolumns = 0;
	int i;

	for (i = 0; i < plan->nkeys; i++)
		if (plan->keys[i].role == CQ_KEY_VALUE)
			cq_key_column_init(&columns[ncolumns++],
							   plan->keys[i].stage_column,
							   plan->keys[i].type,
							   plan->keys[i].collation,
							   plan->keys[i].equality_operator,
							   operator->context);
	cq_key_column_init(&columns[ncolumns++],
					   set->stage_column,
					   set->type,
					   set->collation,
					   set->equality_operator,
					   operator->context);
	return cq_key_create(columns, ncolumns, operator->context);
}

static void
agg_init_pane(CqOperator *operator, CqPane * pane)
{
	MemoryContext old;

	if (!cq_group_table_init(&pane->groups, &pane->arena))
		cq_operator_full(operator);
	if (operator->aggregates->flat)
		return;
	old = MemoryContextSwitchTo(operator->context);
	pane->memory = cq_aggregates_memory(operator->aggregates);
	MemoryContextSwitchTo(old);
}

/* ------------------------------------------------------------------------
 * Rows in
 * ------------------------------------------------------------------------
 */

static void
agg_fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls)
{
	CqGroup *group = operator->session;

	if (operator->counts)
	{
		cq_counts_take(operator, pane, values, nulls);
		return;
	}
	if (group == NULL)
	{
		cq_key_pack(operator->kinds[0].codec, values, nulls);
		group = cq_group_find(operator, pane, 0);
		if (unlikely(group == NULL))
			group = cq_group_add(operator, pane, 0);
		if (!(group->flags & CQ_GROUP_DIRTY))
			cq_group_touch(operator, pane, group);
	}
	if (operator->retracting)
	{
		group_retract(operator, pane, group, values, nulls);
		return;
	}
	cq_aggregates_advance(operator->aggregates,
						  cq_group_states(operator, group),
						  values,
						  nulls,
						  cq_pane_memory(operator, pane));
	if (operator->nkinds> 1)
		sets_advance(operator, pane, group, values, nulls);
}

/* Rows that are taken back are those of another view, which this one has taken in. */
static void
group_retract(CqOperator *operator, CqPane * pane, CqGroup *group, const Datum *values,
			  const bool *nulls)
{
	char *states = cq_group_states(operator, group);

	if (operator->live_offset<0 || *(int64 *)(states + operator->live_offset) <= 0)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("a row is to be taken back that has not been taken in"),
				errhint("Drop the view and create it again."));
	cq_aggregates_retract(operator->aggregates,
						  states,
						  values,
						  nulls,
						  cq_pane_memory(operator, pane));
}

/* Give the row's values to those aggregates with DISTINCT that have not taken them yet. */
static void
sets_advance(CqOperator *operator, CqPane * pane, CqGroup *group, const Datum *values,
			 const bool *nulls)
{
	int kind;

	for (kind = 1; kind < operator->nkinds; kind++)
	{
		uint64 mask = cq_aggregates_set_mask(operator->aggregates, kind - 1, values, nulls);
		CqGroup *member;
		uint64 *taken;

		if (mask == 0)
			continue;
		cq_key_pack(operator->kinds[kind].codec, values, nulls);
		member = cq_group_find(operator, pane, kind);
		if (member == NULL)
			member = cq_group_add(operator, pane, kind);
		taken = (uint64 *) cq_group_states(operator, member);
		mask &= ~*taken;
		if (mask == 0)
			continue;
		if (!(member->flags & CQ_GROUP_DIRTY))
			cq_group_touch(operator, pane, member);
		*taken |= mask;
		cq_aggregates_advance_set(operator->aggregates,
								  kind - 1,
								  mask,
								  cq_group_states(operator, group),
								  values);
	}
}

/* The group of the key packed last, which is not in memory. */
CqGroup *
cq_group_add(CqOperator *operator, CqPane * pane, int kind)
{
	CqTouched *touched;
	CqGroup *group;

	if (pane->buckets)
	{
		group = cq_bucket_lookup(operator, pane, kind);
		if (group)
			return group;
	}
	touched = touched_alloc(operator, sizeof(CqTouched));
	group = cq_group_create(operator, pane, kind);
	group->flags = CQ_GROUP_DIRTY | CQ_GROUP_NEW | CQ_GROUP_RECENT;
	touched->group = group;
	touched->next = pane->touched;
	pane->touched = touched;
	pane->ngroups++;
	operator->state->ngroups++;
	if (kind > 0 || operator->counts)
		return group;
	if (operator->changes)
		cq_group_row(group)->gid = operator->state->next_gid++;
	cq_aggregates_init(operator->aggregates,
					   cq_group_states(operator, group),
					   cq_pane_memory(operator, pane));
	return group;
}

CqGroup *
cq_group_create(CqOperator *operator, CqPane * pane, int kind)
{
	CqKeyCodec *codec = operator->kinds[kind].codec;
	Size head = operator->kinds[kind].layout.key_offset;
	CqGroup *group = cq_pane_alloc(operator, pane, head + CQ_KEY_LENGTH(codec->size));

	memset(group, 0, head);
	group->hash = codec->hash;
	group->key_size = codec->size;
	group->kind = (uint8) kind;
	memcpy((char *) group + head, codec->bytes, CQ_KEY_LENGTH(codec->size));
	cq_group_table_insert(&pane->groups, group);
	return group;
}

CqGroup *
cq_group_probe(CqOperator *operator, int kind)
{
	CqKeyCodec *codec = operator->kinds[kind].codec;
	Size head = operator->kinds[kind].layout.key_offset;
	Size size = head + CQ_KEY_LENGTH(codec->size);
	CqGroup *group = operator->probe;

	if (size > operator->probe_size)
	{
		if (group)
			pfree(group);
		operator->probe = NULL;
		operator->probe = group = MemoryContextAlloc(operator->context, size);
		operator->probe_size = size;
	}
	memset(group, 0, head);
	group->hash = codec->hash;
	group->key_size = codec->size;
	group->kind = (uint8) kind;
	memcpy((char *) group + head, codec->bytes, CQ_KEY_LENGTH(codec->size));
	return group;
}

void
cq_group_touch(CqOperator *operator, CqPane * pane, CqGroup *group)
{
	Size size = operator->kinds[group->kind].layout.states_size;
	CqTouched *touched;

	if (group->flags & CQ_GROUP_DIRTY)
		return;
	touched = touched_alloc(operator, sizeof(CqTouched) + size);
	touched->group = group;
	memcpy(touched + 1, cq_group_kept(operator, group), size);
	touched->next = pane->touched;
	pane->touched = touched;
	group->flags = (group->flags & ~CQ_GROUP_IN_BUCKET) | CQ_GROUP_DIRTY | CQ_GROUP_RECENT;
}

bool
cq_group_resave(CqOperator *operator, CqPane * pane, CqGroup *group)
{
	CqTouched *touched;

	Assert(!operator->state->current);
	if (group->flags & CQ_GROUP_DIRTY)
		return true;
	touched = cq_arena_alloc(&operator->state->touched, sizeof(CqTouched));
	if (touched == NULL)
		return false;
	touched->group = group;
	touched->next = pane->touched;
	pane->touched = touched;
	group->flags = (group->flags & ~CQ_GROUP_IN_BUCKET) | CQ_GROUP_DIRTY;
	operator->state->touched_groups++;
	return true;
}

void
cq_group_leave(CqOperator *operator, CqPane * pane, CqGroup *group)
{
	CqTouched *gone = touched_alloc(operator, sizeof(CqTouched));

	gone->group = group;
	gone->next = pane->gone;
	pane->gone = gone;
	group->flags |= CQ_GROUP_GONE;
}

static CqTouched *
touched_alloc(CqOperator *operator, Size size)
{
	CqTouched *touched = cq_arena_alloc(&operator->state->touched, size);

	if (touched == NULL)
		cq_operator_full(operator);
	operator->state->touched_groups++;
	operator->state->changed = true;
	return touched;
}

/* ------------------------------------------------------------------------
 * Rows out
 * ------------------------------------------------------------------------
 */

/* Where the rows of a window go. */
typedef struct Emission
{
	Tuplestorestate *rows;
	CqTopSeen *seen; /* NULL = all count */
} Emission;

static void
agg_emit(CqOperator *operator, CqPane * pane, TimestampTz start, TimestampTz end,
		 Tuplestorestate *rows)
{
	Emission emission = {.rows = rows};

	cq_window_values(operator, operator->emitting, start, end);
	if (operator->top)
		emission.seen = cq_top_seen_create(operator->emitting);
	cq_groups_visit(operator, pane, group_emit, &emission);
	MemoryContextReset(operator->emitting);
}

static void
group_emit(CqOperator *operator, CqPane * pane, CqGroup *group, void *arg)
{
	Emission *emission = arg;

	CHECK_FOR_INTERRUPTS();
	if (group->kind > 0)
		return;
	cq_group_values(operator, pane, group, false);
	/* may the close query's answer depend on it? */
	if (emission->seen == NULL ||
		cq_top_admits(operator->top, emission->seen, operator->values, operator->nulls))
		tuplestore_putvalues(emission->rows,
							 operator->closed_desc,
							 operator->values,
							 operator->nulls);
	MemoryContextReset(operator->scratch);
}

static void
agg_combine(CqOperator *operator, CqPane * into, CqPane *from)
{
	cq_groups_visit(operator, from, combine_group, into);
}

static void
agg_take_back(CqOperator *operator, CqPane * into, CqPane *from)
{
	cq_groups_visit(operator, from, take_back_group, into);
}

void
cq_groups_visit(CqOperator *operator, CqPane * pane, CqGroupCallback visit, void *arg)
{
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	CqGroupScan scan;
	CqGroup *group;

	cq_group_scan_begin(&scan, &pane->groups, 0, 0);
	while ((group = cq_group_scan_next(&scan)) != NULL)
		visit(operator, pane, group, arg);
	if (pane->buckets)
		cq_bucket_visit(operator, pane, visit, arg);
	MemoryContextSwitchTo(old);
}

static void
combine_group(CqOperator *operator, CqPane * from, CqGroup *group, void *arg)
{
	CqAggregates *aggregates = operator->aggregates;
	CqKeyCodec *codec = operator->kinds[0].codec;
	CqPane *into = arg;
	CqGroup *target;

	Assert(group->kind == 0);
	CHECK_FOR_INTERRUPTS();
	cq_key_take(codec, cq_group_key(operator, group), group->key_size, group->hash);
	target = cq_group_find(operator, into, 0);
	if (target == NULL)
	{
		target = cq_group_create(operator, into, 0);
		target->chunk = 1;
		if (aggregates->all_fast)
		{
			memcpy(cq_group_states(operator, target),
				   cq_group_states(operator, group),
				   aggregates->states_size);
			return;
		}
		cq_aggregates_init(aggregates,
						   cq_group_states(operator, target),
						   cq_pane_memory(operator, into));
	}
	else
		target->chunk++;
	cq_aggregates_combine(aggregates,
						  cq_group_states(operator, target),
						  cq_pane_memory(operator, into),
						  cq_group_states(operator, group),
						  cq_pane_memory(operator, from));
	/* without functions to call and values to compare there is no garbage */
	if (!aggregates->all_fast || !codec->all_by_image)
		MemoryContextReset(operator->scratch);
}

static void
take_back_group(CqOperator *operator, CqPane * from, CqGroup *group, void *arg)
{
	CqKeyCodec *codec = operator->kinds[0].codec;
	CqPane *into = arg;
	CqGroup *target;

	CHECK_FOR_INTERRUPTS();
	cq_key_take(codec, cq_group_key(operator, group), group->key_size, group->hash);
	target = cq_group_find(operator, into, 0);
	if (target == NULL)
		elog(ERROR, "a group to be taken back is not there");
	if (--target->chunk > 0)
	{
		cq_aggregates_take_back(operator->aggregates,
								cq_group_states(operator, target),
								cq_group_states(operator, group));
		return;
	}
	cq_group_table_remove(&into->groups, target);
	cq_arena_free(&into->arena, target, cq_group_size(&operator->kinds[0].layout, target));
}

/* The other columns of a group's closed row. */
void
cq_group_values(CqOperator *operator, CqPane * pane, CqGroup *group, bool keep)
{
	cq_group_key_values(operator, group);
	cq_aggregates_finish(operator->aggregates,
						 cq_group_states(operator, group),
						 cq_pane_memory(operator, pane),
						 keep,
						 &operator->values[operator->nkeys], &operator->nulls[operator->nkeys]);
}

void
cq_group_key_values(CqOperator *operator, CqGroup * group)
{
	CqKeyCodec *codec = operator->kinds[0].codec;
	int column = 0;
	int i;

	cq_key_unpack(codec,
				  cq_group_key(operator, group),
				  group->key_size,
				  codec->stored_values,
				  codec->stored_nulls);
	for (i = 0; i < operator->nkeys; i++)
		if (operator->keys[i].role == CQ_KEY_VALUE)
		{
			operator->values[i] = codec->stored_values[column];
			operator->nulls[i] = codec->stored_nulls[column];
			column++;
		}
}
