/*
 * json_writer.c
 *	  Rows as JSON objects: each value where its column's path says.
 *
 * Keys of one object that are 0, 1, 2 ... make it an array, since that is how the
 * path of an array's element reads.
 */
#include "postgres.h"

#include "utils/json.h"

#include "decode/format.h"
#include "encode/writer.h"

typedef struct JsonNode
{
	char *key;		  /* NULL: the root */
	char *escaped;	  /* with its quotes and the colon behind it */
	int index;		  /* of a value: in values and nulls */
	CqWriter *writer; /* of a value, else NULL */
	List *children;	  /* of JsonNode *, otherwise */
	bool is_array;
} JsonNode;

struct CqJsonWriter
{
	JsonNode root;
};

static void add_column(JsonNode *root, const CqStream *stream, const CqStreamColumn *column);
static JsonNode *find_child(const JsonNode *node, const char *key);
static JsonNode *add_child(JsonNode *node, const char *key);
static void settle_arrays(JsonNode *node);
static void write_node(const JsonNode *node, const Datum *values, const bool *nulls,
					   StringInfo out);

CqJsonWriter *
cq_json_writer_create(const CqStream *stream)
{
	CqJsonWriter *writer = palloc0(sizeof(CqJsonWriter));
	int i;

	for (i = 0; i < stream->ncolumns; i++)
		if (cq_column_in_payload(&stream->columns[i]))
			add_column(&writer->root, stream, &stream->columns[i]);
	settle_arrays(&writer->root);
	return writer;
}

static void
add_column(JsonNode *root, const CqStream *stream, const CqStreamColumn *column)
{
	JsonNode *node = root;
	ListCell *lc;
	bool taken = false;

	foreach (lc, column->path)
	{
		JsonNode *child = find_child(node, lfirst(lc));

		taken = child != NULL && (child->writer != NULL || lnext(column->path, lc) == NULL);
		if (taken)
			break;
		node = child ? child : add_child(node, lfirst(lc));
	}
	if (taken)
		ereport(
			ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("cannot insert into stream \"%s\"", stream->name),
			errdetail("Column \"%s\" and another one are in the same place of the JSON document.",
					  column->name),
			errhint("Make another stream over the topic, with one column for each place."));
	node->index = column->attnum - 1;
	node->writer = cq_writer_create(column);
}

static JsonNode *
find_child(const JsonNode *node, const char *key)
{
	ListCell *lc;

	foreach (lc, node->children)
		if (strcmp(((JsonNode *) lfirst(lc))->key, key) == 0)
			return lfirst(lc);
	return NULL;
}

static JsonNode *
add_child(JsonNode *node, const char *key)
{
	JsonNode *child = palloc0(sizeof(JsonNode));
	StringInfoData escaped;

	initStringInfo(&escaped);
	escape_json(&escaped, key);
	appendStringInfoChar(&escaped, ':');
	child->key = pstrdup(key);
	child->escaped = escaped.data;
	node->children = lappend(node->children, child);
	return child;
}

/* Children of arrays are put in their order. */
static void
settle_arrays(JsonNode *node)
{
	List *elements = NIL;
	ListCell *lc;
	int i;

	foreach (lc, node->children)
		settle_arrays(lfirst(lc));
	for (i = 0; i < list_length(node->children); i++)
	{
		char number[16];
		JsonNode *child;

		snprintf(number, sizeof(number), "%d", i);
		child = find_child(node, number);
		if (child == NULL)
			return;
		elements = lappend(elements, child);
	}
	node->is_array = elements != NIL;
	if (node->is_array)
		node->children = elements;
}

void
cq_json_writer_write(const CqJsonWriter *writer, const Datum *values, const bool *nulls,
					 StringInfo out)
{
	write_node(&writer->root, values, nulls, out);
}

static void
write_node(const JsonNode *node, const Datum *values, const bool *nulls, StringInfo out)
{
	ListCell *lc;

	if (node->writer != NULL)
	{
		if (nulls[node->index])
			appendStringInfoString(out, "null");
		else
			cq_write_json(node->writer, values[node->index], out);
		return;
	}
	appendStringInfoChar(out, node->is_array ? '[' : '{');
	foreach (lc, node->children)
	{
		const JsonNode *child = lfirst(lc);

		if (foreach_current_index(lc) > 0)
			appendStringInfoChar(out, ',');
		if (!node->is_array)
			appendStringInfoString(out, child->escaped);
		write_node(child, values, nulls, out);
	}
	appendStringInfoChar(out, node->is_array ? ']' : '}');
}
