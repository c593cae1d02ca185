/*
 * json_guess.c
 *	  Streams of JSON objects: a column for each field.
 *
 * Objects within objects are taken apart as far as their keys are fields.  A
 * topic is taken for JSON if nearly all of its records are objects; what is
 * not will be a dead letter, and that is said.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "decode/json.h"
#include "infer/fields.h"
#include "infer/proposal.h"

#define MAX_ITEMS	65536 /* looked at in one document */
#define MAX_COLUMNS 1000
#define NEARLY_ALL	5 /* one in so many records may be something else */

static CqJson *open_json(void);
static void free_json(void *json);
static bool read_record(CqJson *json, const CqSampleRecord *record);
static void add_columns(CqProposal *proposal, const CqInferField *field, const char *prefix,
						const char *path);
static void add_column(CqProposal *proposal, const CqInferField *field, const char *name,
					   const char *path, const char *key);
static char *path_step(const char *path, const char *key);
static bool is_any_json(CqJson *json, const CqSampleRecord *record);
static void propose_document(CqProposal *proposal);

bool
cq_proposal_json(CqProposal *proposal)
{
	const CqSample *sample = proposal->sample;
	CqJson *json = open_json();
	CqInferField *root = cq_fields_create();
	int others = 0;
	int i;

	for (i = 0; i < sample->nrecords; i++)
	{
		const CqJsonItem *items;
		size_t count;

		CHECK_FOR_INTERRUPTS();
		if (sample->records[i].value == NULL)
			continue;
		proposal->read[i] = read_record(json, &sample->records[i]);
		if (!proposal->read[i])
		{
			others += is_any_json(json, &sample->records[i]);
			continue;
		}
		if (cq_json_items(json, MAX_ITEMS, &items, &count) != CQ_JSON_OK)
			ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
		cq_fields_add(root, items, count, i, sample->nrecords);
		proposal->nread++;
	}
	if ((proposal->nvalues - proposal->nread) * NEARLY_ALL > proposal->nvalues)
	{
		proposal->nread = 0;
		if (others < proposal->nvalues)
			return false;
		cq_proposal_remark(proposal, "The records are JSON, but not objects that have fields.");
		propose_document(proposal);
		return true;
	}
	proposal->format = "json";
	if (!cq_field_is_record(root))
	{
		cq_proposal_remark(
			proposal,
			"The records are JSON objects, but their keys are data rather than names "
			"of fields.");
		propose_document(proposal);
		return true;
	}
	add_columns(proposal, root, "", "");
	return true;
}

/* One column for all of each record. */
static void
propose_document(CqProposal *proposal)
{
	proposal->format = "raw";
	proposal->nread = proposal->nvalues;
	(void) cq_proposal_column(proposal, "payload", "jsonb");
}

static CqJson *
open_json(void)
{
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));
	CqJson *json = cq_json_create(NULL, 0, false, NULL);

	if (json == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	callback->func = free_json;
	callback->arg = json;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return json;
}

static void
free_json(void *json)
{
	cq_json_free(json);
}

static bool
read_record(CqJson *json, const CqSampleRecord *record)
{
	CqJsonError error;
	CqJsonStatus status = cq_json_read(json, record->value, record->value_len, &error);

	if (status == CQ_JSON_NO_MEMORY)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	return status == CQ_JSON_OK;
}

/* An array of JSON?  A bare word or number is text to most people. */
static bool
is_any_json(CqJson *json, const CqSampleRecord *record)
{
	CqSampleRecord wrapped = {0};
	Size i = 0;
	bool result;

	while (i < record->value_len && isspace((unsigned char) record->value[i]))
		i++;
	if (i == record->value_len || record->value[i] != '[')
		return false;
	wrapped.value_len = record->value_len + 6;
	wrapped.value = palloc(wrapped.value_len);
	memcpy(wrapped.value, "{\"a\":", 5);
	memcpy(wrapped.value + 5, record->value, record->value_len);
	wrapped.value[wrapped.value_len - 1] = '}';
	result = read_record(json, &wrapped);
	pfree(wrapped.value);
	return result;
}

/* Columns for what is in an object; prefix is of their names, path leads there. */
static void
add_columns(CqProposal *proposal, const CqInferField *field, const char *prefix, const char *path)
{
	int i;

	check_stack_depth();
	for (i = 0; i < field->nchildren; i++)
	{
		const CqInferField *child = field->children[i];
		char *key = cq_text_from_utf8(child->key, (int) strlen(child->key));
		char *name;

		if (key == NULL)
		{
			cq_proposal_remark(proposal,
							   "A field is left out, the name of which the database's encoding "
							   "cannot hold.");
			continue;
		}
		if (list_length(proposal->columns) == MAX_COLUMNS)
		{
			cq_proposal_remark(proposal, "There are more fields than columns here.");
			return;
		}
		name = cq_name_from(key);
		if (*prefix != '\0')
			name = psprintf("%s_%s", prefix, name);
		if (cq_field_is_record(child))
			add_columns(proposal, child, name, path_step(path, key));
		else
			add_column(proposal, child, name, path, key);
	}
}

static void
add_column(CqProposal *proposal, const CqInferField *field, const char *name, const char *path,
		   const char *key)
{
	CqValueType type = cq_values_type(&field->values, name);
	CqProposedColumn *column = cq_proposal_column(proposal, name, type.type);

	column->values = &field->values;
	column->time_format = type.time_format;
	column->is_time = type.is_time;
	column->remark = type.remark ? pstrdup(type.remark) : NULL;
	column->depth = field->depth;
	if (*path != '\0' || strcmp(column->name, key) != 0)
		column->field = path_step(path, key);
}

/* A longer path, as the option "field" wants it written. */
static char *
path_step(const char *path, const char *key)
{
	StringInfoData step;

	initStringInfo(&step);
	appendStringInfoString(&step, path);
	if (*path != '\0')
		appendStringInfoChar(&step, '.');
	for (; *key != '\0'; key++)
	{
		if (*key == '.' || *key == '\\')
			appendStringInfoChar(&step, '\\');
		appendStringInfoChar(&step, *key);
	}
	return step.data;
}
