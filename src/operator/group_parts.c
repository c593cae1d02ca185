/*
 * group_parts.c
 *	  Groups of another part of the state, kept by another worker, into ours.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "errors.h"
#include "operator/shape.h"

typedef struct Taking
{
	CqOperator *operator;
	CqPane *pane;
	bool members;
} Taking;

static void entry_take(CqOperator *other, CqPane *part, CqGroup *from, void *arg);
static void group_take(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part,
					   CqGroup *from);
static void member_take(CqOperator *operator, CqPane * pane, CqOperator *other, CqGroup *from);
static CqGroup *group_reach(CqOperator *operator, CqPane * pane, int kind, bool *is_new);

/* Groups first: what a member does concerns its group. */
void
cq_groups_take_part(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part)
{
	Taking taking = {.operator= operator, .pane = pane };
	int pass;

	for (pass = 0; pass < (operator->nkinds> 1 ? 2 : 1); pass++)
	{
		taking.members = pass == 1;
		cq_groups_visit(other, part, entry_take, &taking);
	}
}

static void
entry_take(CqOperator *other, CqPane *part, CqGroup *from, void *arg)
{
	Taking *taking = arg;

	CHECK_FOR_INTERRUPTS();
	if ((from->kind != 0) != taking->members)
		return;
	if (taking->members)
		member_take(taking->operator, taking->pane, other, from);
	else
		group_take(taking->operator, taking->pane, other, part, from);
	MemoryContextReset(taking->operator->scratch);
	MemoryContextReset(other->scratch);
}

static void
group_take(CqOperator *operator, CqPane * pane, CqOperator *other, CqPane *part, CqGroup *from)
{
	StringInfoData bytes;
	CqReader reader;
	CqGroup *group;
	bool is_new;

	(void) cq_key_repack(other->kinds[0].codec,
						 cq_group_key(other, from),
						 from->key_size,
						 operator->kinds[0].codec);
	group = group_reach(operator, pane, 0, &is_new);
	if (!operator->disjoint)
	{
		cq_aggregates_combine(operator->aggregates,
							  cq_group_states(operator, group),
							  cq_pane_memory(operator, pane),
							  cq_group_states(other, from),
							  cq_pane_memory(other, part));
		return;
	}
	if (!is_new)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("events of one group came from several partitions"),
				errdetail("The stream's option \"partition_key\" says that they do not."),
				errhint("Drop the view, correct the option and create the view again."));
	initStringInfo(&bytes);
	cq_aggregates_put(other->aggregates,
					  cq_group_states(other, from),
					  cq_pane_memory(other, part),
					  &bytes);
	reader.at = bytes.data;
	reader.end = bytes.data + bytes.len;
	cq_aggregates_get(operator->aggregates,
					  cq_group_states(operator, group),
					  cq_pane_memory(operator, pane),
					  &reader);
}

/* What no other part has taken counts now; of a group that is in one part, it has counted. */
static void
member_take(CqOperator *operator, CqPane * pane, CqOperator *other, CqGroup *from)
{
	int kind = from->kind;
	CqKeyCodec *codec = other->kinds[kind].codec;
	const char *key = cq_group_key(other, from);
	uint64 mask = *(uint64 *) cq_group_states(other, from);
	const Datum *values;
	CqGroup *group;
	uint64 *taken;
	bool is_new;

	if (operator->disjoint)
		return;
	values = cq_key_repack(codec, key, from->key_size, operator->kinds[kind].codec);
	taken = (uint64 *) cq_group_states(operator, group_reach(operator, pane, kind, &is_new));
	mask &= ~*taken;
	if (mask == 0)
		return;
	*taken |= mask;
	(void) cq_key_repack(codec, key, from->key_size, operator->kinds[0].codec);
	group = group_reach(operator, pane, 0, &is_new);
	Assert(!is_new);
	cq_aggregates_advance_set(operator->aggregates,
							  kind - 1,
							  mask,
							  cq_group_states(operator, group),
							  values);
}

/* The entry of the key packed last, about to change; a new one if there is none. */
static CqGroup *
group_reach(CqOperator *operator, CqPane * pane, int kind, bool *is_new)
{
	CqGroup *group = cq_group_find(operator, pane, kind);

	*is_new = false;
	if (group == NULL)
	{
		group = cq_group_add(operator, pane, kind);
		*is_new = (group->flags & CQ_GROUP_NEW) != 0;
	}
	if (!(group->flags & CQ_GROUP_DIRTY))
		cq_group_touch(operator, pane, group);
	return group;
}

const Datum *
cq_key_repack(CqKeyCodec *other, const char *key, uint32 size, CqKeyCodec *codec)
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
	cq_key_unpack(other, key, size, stored, stored_nulls);
	for (i = 0; i < other->ncolumns; i++)
	{
		values[other->columns[i].source] = stored[i];
		nulls[other->columns[i].source] = stored_nulls[i];
	}
	cq_key_pack(codec, values, nulls);
	return values;
}
