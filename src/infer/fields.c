/*
 * fields.c
 *	  The fields of JSON documents: which there are, and what values they have.
 *
 * An object may be a record, with fields, or a dictionary, whose keys are data:
 * {"prices": {"EUR": 1, "USD": 1.1}}.  A dictionary shows in that it has many
 * different keys, each in few of the objects.
 */
#include "postgres.h"

#include "infer/fields.h"

#define MAX_CHILDREN 1000
#define MAX_FIELDS	 20000 /* of a topic: what senders make up must not use up memory */
#define MANY_KEYS	 40	   /* more than most records have */
#define RARE		 10	   /* one object in so many has a key of a dictionary, or fewer have */

static bool nameable(const CqJsonItem *item);
static CqInferField *child_of(CqInferField *root, CqInferField *parent, const CqJsonItem *item);
static bool same_key(const CqInferField *field, const CqJsonItem *item);
static CqInferField *add_child(CqInferField *parent, const CqJsonItem *item);

CqInferField *
cq_fields_create(void)
{
	CqInferField *root = palloc0(sizeof(CqInferField));

	root->last_record = -1;
	return root;
}

void
cq_fields_add(CqInferField *root, const CqJsonItem *items, size_t count, int record, int nrecords)
{
	CqInferField *path[CQ_FIELD_MAX_DEPTH + 1];
	size_t i;

	for (i = 0; i < count; i++)
	{
		const CqJsonItem *item = &items[i];
		CqInferField *parent = NULL;
		CqInferField *field = root;

		if (item->depth > CQ_FIELD_MAX_DEPTH)
			continue;
		if (item->depth > 0)
		{
			parent = path[item->depth - 1];
			field = parent && nameable(item) ? child_of(root, parent, item) : NULL;
		}
		path[item->depth] = field;
		if (parent && item->key == NULL)
		{
			if (parent->values.elements == NULL)
				parent->values.elements = palloc0(sizeof(CqValues));
			cq_values_add(parent->values.elements, &item->value, -1, nrecords);
		}
		/* of equal keys the first counts here */
		if (field == NULL || field->last_record == record)
			path[item->depth] = NULL;
		else
		{
			field->last_record = record;
			cq_values_add(&field->values, &item->value, record, nrecords);
			if (item->value.kind == CQ_FIELD_ARRAY && field->values.elements == NULL)
				field->values.elements = palloc0(sizeof(CqValues));
		}
	}
}

/* Can a path lead to it? */
static bool
nameable(const CqJsonItem *item)
{
	return item->key != NULL && item->key_len > 0 && !item->key_has_nul;
}

/* Documents have their keys in much the same order, so the next child is tried first. */
static CqInferField *
child_of(CqInferField *root, CqInferField *parent, const CqJsonItem *item)
{
	int i;

	if (parent->overflow)
		return NULL;
	for (i = 0; i < parent->nchildren; i++)
	{
		int index = (parent->hint + i) % parent->nchildren;

		if (same_key(parent->children[index], item))
		{
			parent->hint = index + 1;
			return parent->children[index];
		}
	}
	if (parent->nchildren == MAX_CHILDREN || root->nfields == MAX_FIELDS)
	{
		parent->overflow = true;
		return NULL;
	}
	root->nfields++;
	return add_child(parent, item);
}

static bool
same_key(const CqInferField *field, const CqJsonItem *item)
{
	return strlen(field->key) == item->key_len && memcmp(field->key, item->key, item->key_len) == 0;
}

static CqInferField *
add_child(CqInferField *parent, const CqJsonItem *item)
{
	CqInferField *field = palloc0(sizeof(CqInferField));

	field->key = pnstrdup(item->key, item->key_len);
	field->depth = parent->depth + 1;
	field->parent = parent;
	field->last_record = -1;
	if (parent->nchildren == parent->capacity)
	{
		parent->capacity = Max(parent->capacity * 2, 8);
		parent->children =
			parent->children ? repalloc(parent->children, sizeof(CqInferField *) * parent->capacity)
							 : palloc(sizeof(CqInferField *) * parent->capacity);
	}
	parent->children[parent->nchildren++] = field;
	return field;
}

bool
cq_field_is_record(const CqInferField *field)
{
	int64 present = 0;
	int i;

	if (field->nchildren == 0 || field->overflow || field->depth >= CQ_FIELD_MAX_DEPTH ||
		field->values.kinds[CQ_VALUE_OBJECT] < field->values.count)
		return false;
	if (field->nchildren <= MANY_KEYS)
		return true;
	for (i = 0; i < field->nchildren; i++)
		present += field->children[i]->values.count + field->children[i]->values.nulls;
	return present * RARE > (int64) field->nchildren * field->values.count;
}
