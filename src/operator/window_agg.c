/*
 * window_agg.c
 *	  AGGREGATE: groups with transition values, in panes.
 *
 * Aggregates with DISTINCT need to know which values they have taken.  Those
 * are entries of the same table, of other kinds: saved, loaded and forgotten as
 * groups are.  All aggregates over the same argument share its members, so a
 * row costs one look-up per argument however many aggregates there are.
 *
 * A group is one piece of its pane's memory: a head, the aggregates' states,
 * the packed key.  A pane's hash table maps hashes to groups; groups with the
 * same 32-bit hash are chained, so the table itself needs no key comparison
 * and cannot be made to degenerate by types without a hash function.
 *
 * What changed since the last save is chained through the groups themselves.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "errors.h"
#include "operator/shape.h"

/* What consuming a row looks at comes last, next to the states and the key. */
typedef struct CqGroup
{
	CqEntry entry; /* first, see agg_rewrite() */
	struct CqGroup *next_dirty;
	int64 gid;			 /* changes only: identifies the group's row for ever */
	ItemPointerData tid; /* likewise: where that row is, as far as known */
	bool has_row;		 /* likewise: the result table has a row */
	struct CqGroup *next_same_hash;
	uint32 key_size;
	uint8 kind;	  /* index into the operator's kinds: 0 = a group */
	bool changed; /* since the last save */
	bool dirty;	  /* in the pane's list: changed, or to be saved again anyway */
} CqGroup;

typedef struct GroupSlot
{
	uint32 hash;
	char status;
	CqGroup *group;
} GroupSlot;

#define SH_PREFIX				cq_groups
#define SH_ELEMENT_TYPE			GroupSlot
#define SH_KEY_TYPE				uint32
#define SH_KEY					hash
#define SH_HASH_KEY(table, key) (key)
#define SH_EQUAL(table, a, b)	((a) == (b))
#define SH_STORE_HASH
#define SH_GET_HASH(table, a) (a)->hash
#define SH_SCOPE			  static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

#define GROUPS_FIRST 32

static void agg_create(CqOperator *operator, const CqPlan * plan);
static void agg_init_pane(CqOperator *operator, CqPane * pane);
static void agg_free_pane(CqPane *pane);
static void agg_fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls);
static void agg_emit(CqOperator *operator, CqPane * pane, TimestampTz start, TimestampTz end,
					 Tuplestorestate *rows);
static bool group_matters(CqOperator *operator, CqTopSeen * seen);
static void agg_combine(CqOperator *operator, CqPane * into, CqPane *from);
static void combine_group(CqOperator *operator, CqPane * into, CqPane *from, CqGroup *group,
						  uint32 hash);
static void agg_save(CqOperator *operator, CqPane * pane);
static void entry_put(CqOperator *operator, CqPane * pane, CqGroup *group, StringInfo bytes);
static void agg_rewrite(CqPane *pane, CqEntry *entry);
static CqLoaded agg_load(CqOperator *operator, CqPane * pane, CqReader *reader);
static void agg_take_part(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part);
static void group_take(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part,
					   CqGroup *from);
static void member_take(CqOperator *operator, CqPane * pane, CqOperator *other, CqGroup *from);
static const Datum *key_repack(CqKeyCodec *other, const char *key, CqKeyCodec *codec);
static CqKeyCodec *set_codec_create(CqOperator *operator, const CqPlan * plan,
									const CqDistinctSet *set);
static void sets_advance(CqOperator *operator, CqPane * pane, CqGroup *group, const Datum *values,
						 const bool *nulls);
static CqGroup *group_find(CqOperator *operator, CqPane * pane, int kind, bool *is_new);
static inline void group_touch(CqPane *pane, CqGroup *group);
static void group_values(CqOperator *operator, CqPane * pane, CqGroup *group, bool keep);

const CqShapeOps cq_shape_aggregate = {
	.newest_first = true, /* only the last version of a group is of use */
	.create = agg_create,
	.init_pane = agg_init_pane,
	.free_pane = agg_free_pane,
	.fold = agg_fold,
	.emit = agg_emit,
	.combine = agg_combine,
	.save = agg_save,
	.rewrite = agg_rewrite,
	.load = agg_load,
	.take_part = agg_take_part,
};

static inline char *
group_states(CqGroup *group)
{
	return (char *) group + MAXALIGN(sizeof(CqGroup));
}

static inline char *
group_key(const CqOperator *operator, CqGroup * group)
{
	return group_states(group) + operator->kinds[group->kind].states_size;
}

static void
agg_create(CqOperator *operator, const CqPlan * plan)
{
	CqKeyColumn *columns = palloc0(Max(plan->nkeys, 1) * sizeof(CqKeyColumn));
	int ncolumns = 0;
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
	operator->nkinds = 1 + plan->nsets;
	operator->kinds = palloc(operator->nkinds * sizeof(CqEntryKind));
	operator->kinds[0].codec = cq_key_create(columns, ncolumns, operator->context);
	operator->kinds[0].states_size = operator->aggregates->states_size;
	for (i = 0; i < plan->nsets; i++)
	{
		operator->kinds[i + 1].codec = set_codec_create(operator, plan, &plan->sets[i]);
		operator->kinds[i + 1].states_size = sizeof(uint64);
	}

	if (plan->top)
		operator->top = cq_top_create(plan->top, operator->context);

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
	pane->groups = cq_groups_create(pane->context, GROUPS_FIRST, NULL);
	pane->memory = cq_aggregates_memory(operator->aggregates);
}

static void
agg_free_pane(CqPane *pane)
{
	cq_aggregates_free_memory(pane->memory);
}

/* ------------------------------------------------------------------------
 * Rows in
 * ------------------------------------------------------------------------
 */

static void
agg_fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls)
{
	CqGroup *group;
	bool is_new;

	cq_key_pack(operator->kinds[0].codec, values, nulls);
	group = group_find(operator, pane, 0, &is_new);
	if (is_new)
		cq_aggregates_init(operator->aggregates, group_states(group), pane->memory);
	group->changed = true;
	group_touch(pane, group);
	cq_aggregates_advance(operator->aggregates, group_states(group), values, nulls, pane->memory);
	if (operator->nkinds> 1)
		sets_advance(operator, pane, group, values, nulls);
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
		bool is_new;

		if (mask == 0)
			continue;
		cq_key_pack(operator->kinds[kind].codec, values, nulls);
		member = group_find(operator, pane, kind, &is_new);
		taken = (uint64 *) group_states(member);
		mask &= ~*taken;
		if (mask == 0)
			continue;
		*taken |= mask;
		member->changed = true;
		group_touch(pane, member);
		cq_aggregates_advance_set(operator->aggregates,
								  kind - 1,
								  mask,
								  group_states(group),
								  values);
	}
}

/* The entry of the key packed last by the kind's codec; a new one has zeroed states. */
static inline CqGroup *
group_find(CqOperator *operator, CqPane * pane, int kind, bool *is_new)
{
	CqKeyCodec *codec = operator->kinds[kind].codec;
	bool found;
	GroupSlot *slot = cq_groups_insert_hash(pane->groups, codec->hash, codec->hash, &found);
	CqGroup *group;
	Size head;

	if (!found)
		slot->group = NULL;
	for (group = slot->group; group; group = group->next_same_hash)
		if (group->kind == kind &&
			cq_key_equals(codec, group_key(operator, group), group->key_size))
		{
			*is_new = false;
			return group;
		}

	head = MAXALIGN(sizeof(CqGroup)) + operator->kinds[kind].states_size;
	group = cq_pane_alloc(operator, pane, head + codec->size);
	memset(group, 0, head);
	ItemPointerSetInvalid(&group->tid);
	group->key_size = (uint32) codec->size;
	group->kind = (uint8) kind;
	memcpy(group_key(operator, group), codec->bytes, codec->size);
	group->next_same_hash = slot->group;
	slot->group = group;
	if (operator->changes && kind == 0)
		group->gid = operator->next_gid++;
	pane->ngroups++;
	operator->groups++;
	operator->unchecked += sizeof(GroupSlot);
	*is_new = true;
	return group;
}

static inline void
group_touch(CqPane *pane, CqGroup *group)
{
	if (group->dirty)
		return;
	group->dirty = true;
	group->next_dirty = pane->dirty;
	pane->dirty = group;
}

/* ------------------------------------------------------------------------
 * Rows out
 * ------------------------------------------------------------------------
 */

static void
agg_emit(CqOperator *operator, CqPane * pane, TimestampTz start, TimestampTz end,
		 Tuplestorestate *rows)
{
	CqTopSeen *seen = operator->top ? cq_top_seen_create(pane->context) : NULL;
	cq_groups_iterator iterator;
	GroupSlot *slot;
	CqGroup *group;

	cq_window_values(operator, pane->context, start, end);
	cq_groups_start_iterate(pane->groups, &iterator);
	while ((slot = cq_groups_iterate(pane->groups, &iterator)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		for (group = slot->group; group; group = group->next_same_hash)
		{
			if (group->kind != 0)
				continue;
			group_values(operator, pane, group, false);
			if (seen == NULL || group_matters(operator, seen))
				tuplestore_putvalues(rows,
									 operator->closed_desc,
									 operator->values,
									 operator->nulls);
			MemoryContextReset(operator->scratch);
		}
	}
}

/* May the close query's answer depend on the group whose values are at hand? */
static bool
group_matters(CqOperator *operator, CqTopSeen * seen)
{
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	bool result = cq_top_admits(operator->top, seen, operator->values, operator->nulls);

	MemoryContextSwitchTo(old);
	return result;
}

static void
agg_combine(CqOperator *operator, CqPane * into, CqPane *from)
{
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	cq_groups_iterator iterator;
	GroupSlot *slot;
	CqGroup *group;

	cq_groups_start_iterate(from->groups, &iterator);
	while ((slot = cq_groups_iterate(from->groups, &iterator)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		for (group = slot->group; group; group = group->next_same_hash)
			combine_group(operator, into, from, group, slot->hash);
		/* without functions to call and values to compare there is no garbage */
		if (!operator->aggregates->all_fast || !operator->kinds[0].codec->all_by_image)
			MemoryContextReset(operator->scratch);
	}
	MemoryContextSwitchTo(old);
}

static void
combine_group(CqOperator *operator, CqPane * into, CqPane *from, CqGroup *group, uint32 hash)
{
	CqAggregates *aggregates = operator->aggregates;
	CqGroup *target;
	bool is_new;

	Assert(group->kind == 0);
	cq_key_take(operator->kinds[0].codec, group_key(operator, group), group->key_size, hash);
	target = group_find(operator, into, 0, &is_new);
	if (is_new && aggregates->all_fast)
	{
		memcpy(group_states(target), group_states(group), aggregates->states_size);
		return;
	}
	if (is_new)
		cq_aggregates_init(aggregates, group_states(target), into->memory);
	cq_aggregates_combine(aggregates,
						  group_states(target),
						  into->memory,
						  group_states(group),
						  from->memory);
}

/* The other columns of a group's closed row. */
static void
group_values(CqOperator *operator, CqPane * pane, CqGroup *group, bool keep)
{
	CqKeyCodec *codec = operator->kinds[0].codec;
	int column = 0;
	int i;

	cq_key_unpack(codec, group_key(operator, group), codec->values, codec->nulls);
	for (i = 0; i < operator->nkeys; i++)
		if (operator->keys[i].role == CQ_KEY_VALUE)
		{
			operator->values[i] = codec->values[column];
			operator->nulls[i] = codec->nulls[column];
			column++;
		}
	cq_aggregates_finish(operator->aggregates,
						 group_states(group),
						 pane->memory,
						 keep,
						 &operator->values[operator->nkeys], &operator->nulls[operator->nkeys]);
}

void
cq_operator_changes(CqOperator *operator, CqUpsert upsert, void *arg)
{
	CqPane *pane = operator->panes[0];
	CqGroup *group;
	bool is_new;

	Assert(operator->changes && operator->window.kind == CQ_WINDOW_NONE);
	if (operator->nkeys == 0 && pane->ngroups == 0)
	{
		/* without GROUP BY there is a row even when there is nothing to aggregate */
		cq_key_pack(operator->kinds[0].codec, NULL, NULL);
		group = group_find(operator, pane, 0, &is_new);
		cq_aggregates_init(operator->aggregates, group_states(group), pane->memory);
		group->changed = true;
		group_touch(pane, group);
	}
	for (group = pane->dirty; group; group = group->next_dirty)
	{
		CHECK_FOR_INTERRUPTS();
		if (!group->changed || group->kind != 0)
			continue;
		group_values(operator, pane, group, true);
		upsert(arg, group->gid, !group->has_row, &group->tid, operator->values, operator->nulls);
		group->has_row = true;
		MemoryContextReset(operator->scratch);
	}
}

/* ------------------------------------------------------------------------
 * To disk and back
 * ------------------------------------------------------------------------
 */

static void
agg_save(CqOperator *operator, CqPane * pane)
{
	int64 start = operator->window.kind == CQ_WINDOW_NONE ? 0 : pane->start;
	StringInfoData bytes;
	CqGroup *group;
	CqGroup *next;

	if (pane->dirty == NULL)
		return;
	initStringInfo(&bytes);
	for (group = pane->dirty; group; group = next)
	{
		MemoryContext old = MemoryContextSwitchTo(operator->scratch);

		CHECK_FOR_INTERRUPTS();
		resetStringInfo(&bytes);
		entry_put(operator, pane, group, &bytes);
		MemoryContextSwitchTo(old);
		cq_chunklog_append(operator->log,
						   &pane->chunks,
						   start,
						   &group->entry,
						   bytes.data,
						   bytes.len);
		MemoryContextReset(operator->scratch);
		next = group->next_dirty;
		group->next_dirty = NULL;
		group->dirty = false;
		group->changed = false;
	}
	pane->dirty = NULL;
	pfree(bytes.data);
}

static void
entry_put(CqOperator *operator, CqPane * pane, CqGroup *group, StringInfo bytes)
{
	if (operator->nkinds> 1)
		appendStringInfoChar(bytes, (char) group->kind);
	if (operator->changes && group->kind == 0)
		appendBinaryStringInfo(bytes, (char *) &group->gid, sizeof(group->gid));
	cq_key_put(operator->kinds[group->kind].codec, bytes, group_key(operator, group));
	if (group->kind == 0)
		cq_aggregates_put(operator->aggregates, group_states(group), pane->memory, bytes);
	else
		appendBinaryStringInfo(bytes, group_states(group), sizeof(uint64));
}

static void
agg_rewrite(CqPane *pane, CqEntry *entry)
{
	group_touch(pane, (CqGroup *) entry);
}

static CqLoaded
agg_load(CqOperator *operator, CqPane * pane, CqReader *reader)
{
	CqLoaded loaded = {0};
	CqGroup *group;
	bool is_new;
	int64 gid = 0;
	uint8 kind = 0;

	if (operator->nkinds> 1)
		kind = *(uint8 *) cq_reader_take(reader, sizeof(kind));
	if (kind >= operator->nkinds)
		cq_reader_damaged();
	if (operator->changes && kind == 0)
		memcpy(&gid, cq_reader_take(reader, sizeof(gid)), sizeof(gid));
	cq_key_get(operator->kinds[kind].codec, reader);
	group = group_find(operator, pane, kind, &is_new);
	if (!is_new)
	{
		/* an older version of a group that was loaded already */
		reader->at = reader->end;
		return loaded;
	}
	if (kind == 0)
		cq_aggregates_get(operator->aggregates, group_states(group), pane->memory, reader);
	else
		memcpy(group_states(group), cq_reader_take(reader, sizeof(uint64)), sizeof(uint64));
	group->gid = gid;
	group->has_row = operator->changes && kind == 0;
	operator->next_gid = Max(operator->next_gid, gid + 1);
	loaded.live = true;
	loaded.owner = &group->entry;
	return loaded;
}

/* ------------------------------------------------------------------------
 * State in parts
 * ------------------------------------------------------------------------
 */

/* Groups first: what a member does concerns its group. */
static void
agg_take_part(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part)
{
	int pass;

	for (pass = 0; pass < (operator->nkinds> 1 ? 2 : 1); pass++)
	{
		cq_groups_iterator iterator;
		bool members = pass == 1;
		GroupSlot *slot;
		CqGroup *from;

		cq_groups_start_iterate(part->groups, &iterator);
		while ((slot = cq_groups_iterate(part->groups, &iterator)) != NULL)
			for (from = slot->group; from; from = from->next_same_hash)
			{
				MemoryContext old;

				CHECK_FOR_INTERRUPTS();
				if ((from->kind != 0) != members)
					continue;
				old = MemoryContextSwitchTo(operator->scratch);
				if (members)
					member_take(operator, pane, other, from);
				else
					group_take(operator, pane, other, part, from);
				MemoryContextSwitchTo(old);
				MemoryContextReset(operator->scratch);
				MemoryContextReset(other->scratch);
			}
	}
}

static void
group_take(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part, CqGroup *from)
{
	CqKeyCodec *codec = operator->kinds[0].codec;
	StringInfoData bytes;
	CqReader reader;
	CqGroup *group;
	bool is_new;

	(void) key_repack(other->kinds[0].codec, group_key(other, from), codec);
	group = group_find(operator, pane, 0, &is_new);
	if (!operator->disjoint)
	{
		if (is_new)
			cq_aggregates_init(operator->aggregates, group_states(group), pane->memory);
		cq_aggregates_combine(operator->aggregates,
							  group_states(group),
							  pane->memory,
							  group_states(from),
							  part->memory);
		return;
	}
	if (!is_new)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("events of one group came from several partitions"),
				errdetail("The stream's option \"partition_key\" says that they do not."),
				errhint("Drop the view, correct the option and create the view again."));
	initStringInfo(&bytes);
	cq_aggregates_put(other->aggregates, group_states(from), part->memory, &bytes);
	reader.at = bytes.data;
	reader.end = bytes.data + bytes.len;
	cq_aggregates_get(operator->aggregates, group_states(group), pane->memory, &reader);
}

/* What no other part has taken counts now; of a group that is in one part, it has counted. */
static void
member_take(CqOperator *operator, CqPane * pane, CqOperator *other, CqGroup *from)
{
	int kind = from->kind;
	const Datum *values;
	CqGroup *group;
	CqGroup *member;
	uint64 mask = *(uint64 *) group_states(from);
	uint64 *taken;
	bool is_new;

	if (operator->disjoint)
		return;
	values =
		key_repack(other->kinds[kind].codec, group_key(other, from), operator->kinds[kind].codec);
	member = group_find(operator, pane, kind, &is_new);
	taken = (uint64 *) group_states(member);
	mask &= ~*taken;
	if (mask == 0)
		return;
	*taken |= mask;
	(void) key_repack(other->kinds[kind].codec, group_key(other, from), operator->kinds[0].codec);
	group = group_find(operator, pane, 0, &is_new);
	Assert(!is_new);
	cq_aggregates_advance_set(operator->aggregates, kind - 1, mask, group_states(group), values);
}

/*
 * Pack a key of another operator, or the columns of it that this codec has.
 * Returns its values by stage column, in the current memory context.
 */
static const Datum *
key_repack(CqKeyCodec *other, const char *key, CqKeyCodec *codec)
{
	int ncolumns = 1;
	Datum *stored = palloc(sizeof(Datum) * (other->ncolumns + 1));
	bool *stored_nulls = palloc(sizeof(bool) * (other->ncolumns + 1));
	Datum *values;
	bool *nulls;
	int i;

	for (i = 0; i < other->ncolumns; i++)
		ncolumns = Max(ncolumns, other->columns[i].source + 1);
	values = palloc0(sizeof(Datum) * ncolumns);
	nulls = palloc0(sizeof(bool) * ncolumns);
	cq_key_unpack(other, key, stored, stored_nulls);
	for (i = 0; i < other->ncolumns; i++)
	{
		values[other->columns[i].source] = stored[i];
		nulls[other->columns[i].source] = stored_nulls[i];
	}
	cq_key_pack(codec, values, nulls);
	return values;
}
