/*
 * json.cpp
 *	  Values at given places of a JSON document.
 *
 * simdjson reads a document in two stages.  The first finds, with SIMD
 * instructions, where every token begins and checks that the bytes are UTF-8
 * and that strings hold no control characters.  The second builds a tree and
 * turns each number into a double or a 64-bit integer.  We take the first
 * stage and bring our own second one, because we
 *	- need a number as it was sent: numeric has more digits than a double, and
 *	  an integer too large for 64 bits is not an error where nobody reads it;
 *	- need a few values, not a tree;
 *	- but still must look at every token: a document is refused for damage
 *	  anywhere in it, read or not.
 *
 * What the second stage relies on
 *	J1. Every token has an index entry at its first byte, closing quotes have
 *		none.  So between a token's end and the next entry there is only white
 *		space.  An invalid byte sequence that is not white space begins a token
 *		too, or continues a number or word, which are checked to their end.
 *	J2. The entry after the last one is the document's length, where our copy
 *		has a zero byte.  No token begins with one, so the end needs no test of
 *		its own: whatever is expected there, it is not found.
 *	J3. A string's entry is closed by an unescaped quote before the next entry.
 *
 * The wanted paths form a tree of keys.  While the walk is inside an object
 * that belongs to a node of it, keys are looked up among the node's children;
 * elsewhere they are only checked.  Of equal keys in one object the last
 * counts, with all that is below it, as in jsonb.
 *
 * Memory: one copy of the document (simdjson wants room behind its end), the
 * index, and a buffer for strings with escapes, all reused; given back after an
 * exceptionally large document.
 */
#include <memory>
#include <new>
#include <stdlib.h>
#include <string.h>

#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

#include "decode/json.h"

#define NO_NODE		   UINT32_MAX
#define NO_INDEX	   UINT32_MAX
#define INDEX_DIGITS   9 /* of the largest index of an array that a path may name */
#define SMALL_CAPACITY (16u * 1024)
#define LARGE_CAPACITY (1024u * 1024) /* more than this is not kept for small documents */

/* A key on the way to wanted values. */
struct Node
{
	uint64_t prefix;  /* first eight bytes of the key, zero-filled */
	uint64_t lengths; /* bit n: a child's key is n bytes long (63: or longer) */
	const char *key;
	uint32_t len;
	uint32_t first_child;  /* NO_NODE if none */
	uint32_t next_sibling; /* NO_NODE if none */
	int32_t slot;		   /* of the value here, -1 if not wanted itself */
};

/* An object or array that the walk is in. */
struct Frame
{
	uint32_t node;	/* NO_NODE if nothing in it is wanted */
	uint32_t start; /* its opening bracket */
	uint32_t index; /* of an array's next element; counted only if elements are wanted */
	bool object;
};

struct CqJson
{
	std::unique_ptr<simdjson::internal::dom_parser_implementation> stage1;
	size_t capacity; /* of document and strings, less padding */
	char *document;
	char *strings; /* unescaped; allocated when first needed */
	size_t strings_used;
	char *keys;	 /* of the nodes, one after the other */
	Node *nodes; /* nodes[0] is the root */
	uint32_t nnodes;
	uint32_t *indexes; /* the nodes' keys as indexes of arrays, NO_INDEX if they are none */
	CqField *fields;
	int nfields;
	uint32_t len; /* of the document that was read */
	bool escapes; /* is there a backslash anywhere in it? */
	CqJsonItem *items;
	size_t items_capacity;
	bool arrays;						 /* may a document be one? */
	Frame frames[CQ_JSON_MAX_DEPTH + 1]; /* frames[0] is outside of the document */
};

/* The walk over one document. */
struct Walk
{
	CqJson *json;
	const char *document;
	uint32_t len;
	const uint32_t *next; /* index entry of the next token */
	bool escapes;		  /* is there a backslash anywhere? */
	CqJsonStatus status;
	CqJsonError *error;
};

static bool build_nodes(CqJson *json, const CqJsonPath *paths, int npaths, int *slots);
static uint32_t node_child(CqJson *json, uint32_t parent, const char *key, char **key_space);
static bool reserve(CqJson *json, size_t len);
static CqJsonStatus explain_stage1(simdjson::error_code code, CqJsonError *error);
static bool walk_document(Walk *walk);
static bool walk_key(Walk *walk, uint32_t parent, uint32_t *node);
static uint32_t next_element(CqJson *json, Frame *frame) __attribute__((noinline, cold));
static bool walk_scalar(Walk *walk, uint32_t at, uint32_t node);
static bool walk_string(Walk *walk, uint32_t at, uint32_t *end, bool *escaped);
static bool walk_word(Walk *walk, uint32_t at, const char *word, uint32_t len);
static bool walk_number(Walk *walk, uint32_t at, uint32_t *end);
static bool check_escapes(Walk *walk, uint32_t start, uint32_t end);
static bool keep_unescaped(Walk *walk, uint32_t start, uint32_t len, CqField *field);
static size_t list_items(Walk *walk, size_t max);
static CqJsonItem *item_new(Walk *walk, size_t n);
static bool list_key(Walk *walk, CqJsonItem *item);
static bool list_scalar(Walk *walk, uint32_t at, CqField *field);

/* Eight bytes of a key, what is behind its end zeroed; needs padding there. */
static inline uint64_t
key_prefix(const char *key, uint32_t len)
{
	uint64_t prefix;

	memcpy(&prefix, key, sizeof(prefix));
	if (len >= 8)
		return prefix;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return len == 0 ? 0 : prefix & (~UINT64_C(0) << (64 - 8 * len));
#else
	return prefix & ((UINT64_C(1) << (8 * len)) - 1);
#endif
}

static inline uint64_t
length_bit(uint32_t len)
{
	return UINT64_C(1) << (len < 63 ? len : 63);
}

static inline bool
is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Kept out of line: it is the exception. */
static bool __attribute__((noinline, cold)) walk_fail(Walk *walk, const char *reason, uint32_t at)
{
	walk->error->reason = at == walk->len ? "it ends too early" : reason;
	walk->error->at = at;
	walk->status = CQ_JSON_INVALID;
	return false;
}

static uint32_t
index_of_key(const char *key)
{
	size_t digits = strspn(key, "0123456789");

	if (digits == 0 || digits > INDEX_DIGITS || key[digits] != '\0' ||
		(key[0] == '0' && digits > 1))
		return NO_INDEX;
	return (uint32_t) strtoul(key, NULL, 10);
}

extern "C" bool
cq_json_key_is_index(const char *key)
{
	return index_of_key(key) != NO_INDEX;
}

extern "C" CqJson *
cq_json_create(const CqJsonPath *paths, int npaths, bool arrays, int *slots)
{
	CqJson *json = new (std::nothrow) CqJson();

	if (json == NULL)
		return NULL;
	json->arrays = arrays;
	if (!build_nodes(json, paths, npaths, slots) || !reserve(json, 1))
	{
		cq_json_free(json);
		return NULL;
	}
	return json;
}

extern "C" void
cq_json_free(CqJson *json)
{
	if (json == NULL)
		return;
	free(json->document);
	free(json->strings);
	free(json->keys);
	free(json->nodes);
	free(json->indexes);
	free(json->fields);
	free(json->items);
	delete json;
}

extern "C" const CqField *
cq_json_fields(const CqJson *json)
{
	return json->fields;
}

extern "C" CqJsonStatus
cq_json_read(CqJson *json, const char *document, size_t len, CqJsonError *error)
{
	Walk walk;
	simdjson::error_code code;
	uint32_t *index;

	error->at = -1;
	if (len == 0 || len > CQ_JSON_MAX_BYTES)
	{
		error->reason = len == 0 ? "empty" : "too long";
		return CQ_JSON_INVALID;
	}
	if (!reserve(json, len))
		return CQ_JSON_NO_MEMORY;
	memcpy(json->document, document, len);
	memset(json->document + len, 0, simdjson::SIMDJSON_PADDING);

	code =
		json->stage1->stage1((const uint8_t *) json->document, len, simdjson::stage1_mode::regular);
	if (code != simdjson::SUCCESS)
		return explain_stage1(code, error);
	index = json->stage1->structural_indexes.get();
	index[json->stage1->n_structural_indexes] = (uint32_t) len; /* J2 */

	for (int i = 0; i < json->nfields; i++)
		json->fields[i].kind = CQ_FIELD_MISSING;
	json->strings_used = 0;
	walk.json = json;
	walk.document = json->document;
	walk.len = (uint32_t) len;
	walk.next = index;
	walk.escapes = memchr(document, '\\', len) != NULL;
	walk.status = CQ_JSON_OK;
	walk.error = error;
	json->len = walk.len;
	json->escapes = walk.escapes;
	(void) walk_document(&walk);
	return walk.status;
}

extern "C" CqJsonStatus
cq_json_items(CqJson *json, size_t max, const CqJsonItem **items, size_t *count)
{
	CqJsonError error;
	Walk walk;

	walk.json = json;
	walk.document = json->document;
	walk.len = json->len;
	walk.next = json->stage1->structural_indexes.get();
	walk.escapes = json->escapes;
	walk.status = CQ_JSON_OK;
	walk.error = &error;
	json->strings_used = 0;
	*count = list_items(&walk, max);
	*items = json->items;
	return walk.status;
}

/*
 * Turn the paths into a tree.  A path deeper than any document may be is left
 * out of it: its value is always missing.
 */
static bool
build_nodes(CqJson *json, const CqJsonPath *paths, int npaths, int *slots)
{
	size_t nkeys = 0;
	size_t key_bytes = 0;
	char *key_space;

	for (int i = 0; i < npaths; i++)
	{
		nkeys += (size_t) paths[i].nkeys;
		for (int k = 0; k < paths[i].nkeys; k++)
			key_bytes += strlen(paths[i].keys[k]) + 1;
	}
	json->nodes = (Node *) calloc(nkeys + 1, sizeof(Node));
	json->indexes = (uint32_t *) calloc(nkeys + 1, sizeof(uint32_t));
	json->keys = key_space = (char *) calloc(1, key_bytes + sizeof(uint64_t));
	json->fields = (CqField *) calloc((size_t) npaths + 1, sizeof(CqField));
	if (json->nodes == NULL || json->indexes == NULL || json->keys == NULL || json->fields == NULL)
		return false;

	json->nodes[0].first_child = json->nodes[0].next_sibling = NO_NODE;
	json->nodes[0].slot = -1;
	json->nnodes = 1;
	for (int i = 0; i < npaths; i++)
	{
		uint32_t node = 0;

		if (paths[i].nkeys > CQ_JSON_MAX_DEPTH)
		{
			slots[i] = json->nfields++;
			continue;
		}
		for (int k = 0; k < paths[i].nkeys; k++)
			node = node_child(json, node, paths[i].keys[k], &key_space);
		if (json->nodes[node].slot < 0)
			json->nodes[node].slot = json->nfields++;
		slots[i] = json->nodes[node].slot;
	}
	return true;
}

/*
 * The child of a node with this key; made, with the key's text at *key_space,
 * if there is none.
 */
static uint32_t
node_child(CqJson *json, uint32_t parent, const char *key, char **key_space)
{
	uint32_t len = (uint32_t) strlen(key);
	uint32_t *link = &json->nodes[parent].first_child;
	Node *node;

	while (*link != NO_NODE)
	{
		if (strcmp(json->nodes[*link].key, key) == 0)
			return *link;
		link = &json->nodes[*link].next_sibling;
	}
	*link = json->nnodes++;
	node = &json->nodes[*link];
	memcpy(*key_space, key, len);
	node->key = *key_space;
	node->len = len;
	*key_space += len + 1;
	node->prefix = 0;
	memcpy(&node->prefix, key, len < 8 ? len : 8);
	node->first_child = node->next_sibling = NO_NODE;
	node->slot = -1;
	json->indexes[*link] = index_of_key(key);
	json->nodes[parent].lengths |= length_bit(len);
	return *link;
}

/*
 * Have buffers for a document of len bytes; gives back those of an
 * exceptionally large one when a small one comes.
 */
static bool
reserve(CqJson *json, size_t len)
{
	size_t capacity = SMALL_CAPACITY;
	bool oversized = json->capacity > LARGE_CAPACITY && len < LARGE_CAPACITY / 4;

	if (len <= json->capacity && !oversized)
		return true;
	while (capacity < len)
		capacity *= 2;
	free(json->document);
	free(json->strings);
	json->strings = NULL;
	json->capacity = 0;
	json->stage1.reset();
	json->document = (char *) malloc(capacity + simdjson::SIMDJSON_PADDING);
	if (json->document == NULL ||
		simdjson::get_active_implementation()->create_dom_parser_implementation(capacity,
																				1,
																				json->stage1))
		return false;
	json->capacity = capacity;
	return true;
}

static CqJsonStatus
explain_stage1(simdjson::error_code code, CqJsonError *error)
{
	switch (code)
	{
		case simdjson::UTF8_ERROR:
			return CQ_JSON_BAD_ENCODING;
		case simdjson::MEMALLOC:
			return CQ_JSON_NO_MEMORY;
		case simdjson::EMPTY:
			error->reason = "empty";
			break;
		case simdjson::UNCLOSED_STRING:
			error->reason = "a string has no end";
			break;
		case simdjson::UNESCAPED_CHARS:
			error->reason = "a string has a control character in it";
			break;
		default:
			error->reason = "cannot be split into tokens";
	}
	return CQ_JSON_INVALID;
}

/* Forget what was found below a node: its key came once more. */
static void
forget_below(CqJson *json, uint32_t node)
{
	uint32_t child;

	for (child = json->nodes[node].first_child; child != NO_NODE;
		 child = json->nodes[child].next_sibling)
	{
		if (json->nodes[child].slot >= 0)
			json->fields[json->nodes[child].slot].kind = CQ_FIELD_MISSING;
		forget_below(json, child);
	}
}

/* Where to store the value of a node; NULL if nobody wants it. */
static inline CqField *
node_field(CqJson *json, uint32_t node)
{
	if (node == NO_NODE || json->nodes[node].slot < 0)
		return NULL;
	return &json->fields[json->nodes[node].slot];
}

static inline void
field_set(CqField *field, CqFieldKind kind, const char *text, uint32_t len)
{
	field->kind = (uint8_t) kind;
	field->has_nul = false;
	field->text = field->raw = text;
	field->len = field->raw_len = len;
}

/*
 * Look at every token of the document.  Frames are a stack of our own: nesting
 * is the sender's choice and may not use up the process's.
 */
static bool
walk_document(Walk *walk)
{
	CqJson *json = walk->json;
	const char *document = walk->document;
	Frame *frame = json->frames;
	uint32_t at = *walk->next;
	uint32_t node = 0;

	frame->object = false;
	frame->node = NO_NODE;
	if (memcmp(document, "\xEF\xBB\xBF", 3) == 0)
		return walk_fail(walk, "it begins with a byte order mark", 0);
	if (document[at] != '{' && (document[at] != '[' || !json->arrays))
		return walk_fail(walk, "it is not an object", at);
	for (;;)
	{
		char c;

		if (frame->object)
		{
			if (!walk_key(walk, frame->node, &node))
				return false;
		}
		else if (frame->node != NO_NODE)
			node = next_element(json, frame);
		at = *walk->next++;
		c = document[at];
		if (c == '{' || c == '[')
		{
			if (frame == json->frames + CQ_JSON_MAX_DEPTH)
				return walk_fail(walk, "nested too deeply", at);
			frame++;
			frame->node = node;
			frame->start = at;
			frame->index = 0;
			frame->object = c == '{';
			node = NO_NODE;
			if (document[*walk->next] != c + 2) /* its closing bracket, in ASCII */
				continue;
		}
		else if (!walk_scalar(walk, at, node))
			return false;

		/* behind a value: leave what ends here, until there is another value */
		node = NO_NODE;
		for (;;)
		{
			CqField *field;

			at = *walk->next++;
			c = document[at];
			if (c == ',')
				break;
			if (c != (frame->object ? '}' : ']'))
				return walk_fail(walk, "expected a comma or the end of an object or array", at);
			if ((field = node_field(json, frame->node)) != NULL)
				field_set(field,
						  frame->object ? CQ_FIELD_OBJECT : CQ_FIELD_ARRAY,
						  document + frame->start,
						  at + 1 - frame->start);
			if (--frame == json->frames)
			{
				if (*walk->next != walk->len)
					return walk_fail(walk, "there is more behind the object", *walk->next);
				return true;
			}
		}
	}
}

/*
 * Take a key and its colon.  *node becomes the child of parent that it leads
 * to, NO_NODE if there is none.
 */
static bool
walk_key(Walk *walk, uint32_t parent, uint32_t *node)
{
	CqJson *json = walk->json;
	const char *document = walk->document;
	uint32_t at = *walk->next++;
	uint32_t end = at;
	uint32_t len;
	uint32_t child;
	const char *key = document + at + 1;
	uint64_t prefix;
	bool escaped;

	*node = NO_NODE;
	if (document[at] != '"')
		return walk_fail(walk, "expected a key", at);
	if (!walk_string(walk, at, &end, &escaped))
		return false;
	if (document[*walk->next++] != ':')
		return walk_fail(walk, "expected a colon behind a key", walk->next[-1]);
	if (parent == NO_NODE || json->nodes[parent].first_child == NO_NODE)
		return true;

	len = end - at - 2;
	if (escaped)
	{
		CqField unescaped;

		if (!keep_unescaped(walk, at + 1, len, &unescaped))
			return false;
		key = unescaped.text;
		len = unescaped.len;
	}
	if ((json->nodes[parent].lengths & length_bit(len)) == 0)
		return true;
	prefix = key_prefix(key, len);
	for (child = json->nodes[parent].first_child; child != NO_NODE;
		 child = json->nodes[child].next_sibling)
	{
		const Node *candidate = &json->nodes[child];

		if (candidate->prefix == prefix && candidate->len == len &&
			(len <= 8 || memcmp(candidate->key + 8, key + 8, len - 8) == 0))
		{
			if (candidate->first_child != NO_NODE)
				forget_below(json, child);
			*node = child;
			break;
		}
	}
	return true;
}

/* What the next element of an array leads to; NO_NODE if nothing wants it. */
static uint32_t
next_element(CqJson *json, Frame *frame)
{
	uint32_t index = frame->index++;
	uint32_t child;

	for (child = json->nodes[frame->node].first_child; child != NO_NODE;
		 child = json->nodes[child].next_sibling)
	{
		if (json->indexes[child] == index)
			return child;
	}
	return NO_NODE;
}

/* Check a string, number or word that begins at at, and keep it if wanted. */
static inline bool
walk_scalar(Walk *walk, uint32_t at, uint32_t node)
{
	const char *document = walk->document;
	CqField *field = node_field(walk->json, node);
	CqFieldKind kind;
	uint32_t end = at;
	bool escaped;

	switch (document[at])
	{
		case '"':
			if (!walk_string(walk, at, &end, &escaped))
				return false;
			if (field == NULL)
				return true;
			field_set(field, CQ_FIELD_STRING, document + at + 1, end - at - 2);
			field->raw = document + at;
			field->raw_len = end - at;
			return !escaped || keep_unescaped(walk, at + 1, end - at - 2, field);
		case 't':
			if (!walk_word(walk, at, "true", 4))
				return false;
			kind = CQ_FIELD_TRUE;
			end = at + 4;
			break;
		case 'f':
			if (!walk_word(walk, at, "false", 5))
				return false;
			kind = CQ_FIELD_FALSE;
			end = at + 5;
			break;
		case 'n':
			if (!walk_word(walk, at, "null", 4))
				return false;
			kind = CQ_FIELD_NULL;
			end = at + 4;
			break;
		default:
			if (!walk_number(walk, at, &end))
				return false;
			kind = CQ_FIELD_NUMBER;
	}
	if (field != NULL)
		field_set(field, kind, document + at, end - at);
	return true;
}

/*
 * Check the string whose opening quote is at at.  *end becomes the byte behind
 * its closing quote, which is the last byte before the next token that is not
 * white space (J1, J3).
 */
static inline bool
walk_string(Walk *walk, uint32_t at, uint32_t *end, bool *escaped)
{
	const char *document = walk->document;
	uint32_t e = *walk->next;

	while (is_space(document[e - 1]))
		e--;
	if (e < at + 2 || document[e - 1] != '"')
		return walk_fail(walk, "a string has no end", at);
	*end = e;
	*escaped = false;
	if (walk->escapes && memchr(document + at + 1, '\\', e - at - 2) != NULL)
	{
		*escaped = true;
		return check_escapes(walk, at + 1, e - 1);
	}
	return true;
}

/* Does a number or word that ends at end end there, and not go on? */
static inline bool
token_ends(const Walk *walk, uint32_t end)
{
	return end == *walk->next || is_space(walk->document[end]);
}

static bool
walk_word(Walk *walk, uint32_t at, const char *word, uint32_t len)
{
	if (memcmp(walk->document + at, word, len) != 0 || !token_ends(walk, at + len))
		return walk_fail(walk, "expected a value", at);
	return true;
}

static inline bool
walk_number(Walk *walk, uint32_t at, uint32_t *end)
{
	const char *document = walk->document;
	const char *p = document + at;
	const char *digits;

	if (*p == '-')
		p++;
	digits = p;
	while (is_digit(*p))
		p++;
	if (p == digits)
		return walk_fail(walk, "expected a value", at);
	if (*digits == '0' && p - digits > 1)
		return walk_fail(walk, "a number has leading zeros", at);
	if (*p == '.')
	{
		digits = ++p;
		while (is_digit(*p))
			p++;
		if (p == digits)
			return walk_fail(walk, "a number has no digits behind its point", at);
	}
	if (*p == 'e' || *p == 'E')
	{
		p++;
		if (*p == '+' || *p == '-')
			p++;
		digits = p;
		while (is_digit(*p))
			p++;
		if (p == digits)
			return walk_fail(walk, "a number has an exponent without digits", at);
	}
	*end = (uint32_t) (p - document);
	if (!token_ends(walk, *end))
		return walk_fail(walk, "expected a value", at);
	return true;
}

/* Check the escapes in [start, end), the content of a string. */
static bool
check_escapes(Walk *walk, uint32_t start, uint32_t end)
{
	const char *reason;
	size_t bad = cq_json_check_escapes(walk->document + start, end - start, &reason);

	if (reason != NULL)
		return walk_fail(walk, reason, start + (uint32_t) bad);
	return true;
}

/*
 * Resolve the escapes of a string into the buffer of strings.  What a document
 * needs there is no more than its own length, each string being unescaped once.
 */
static bool
keep_unescaped(Walk *walk, uint32_t start, uint32_t len, CqField *field)
{
	CqJson *json = walk->json;
	char *out;

	if (json->strings == NULL)
	{
		json->strings = (char *) calloc(1, json->capacity + simdjson::SIMDJSON_PADDING);
		if (json->strings == NULL)
		{
			walk->status = CQ_JSON_NO_MEMORY;
			return false;
		}
	}
	out = json->strings + json->strings_used;
	field->text = out;
	field->len = (uint32_t) cq_json_unescape(walk->document + start, len, out, &field->has_nul);
	json->strings_used += field->len;
	return true;
}

/*
 * Put the values of a document that is known to be valid into json->items.
 * Frames hold the items of the objects and arrays that the walk is in.
 */
static size_t
list_items(Walk *walk, size_t max)
{
	CqJson *json = walk->json;
	const char *document = walk->document;
	Frame *frame = json->frames;
	size_t n = 0;

	frame->object = false;
	while (n < max)
	{
		CqJsonItem *item = item_new(walk, n);
		uint32_t at;
		char c;

		if (item == NULL)
			return 0;
		item->depth = (uint32_t) (frame - json->frames);
		if (frame->object && !list_key(walk, item))
			return 0;
		at = *walk->next++;
		c = document[at];
		n++;
		if (c == '{' || c == '[')
		{
			field_set(&item->value, c == '{' ? CQ_FIELD_OBJECT : CQ_FIELD_ARRAY, document + at, 1);
			frame++;
			frame->node = (uint32_t) (n - 1);
			frame->start = at;
			frame->object = c == '{';
			if (document[*walk->next] != c + 2)
				continue;
		}
		else if (!list_scalar(walk, at, &item->value))
			return 0;
		while (document[at = *walk->next++] != ',')
		{
			CqField *whole = &json->items[frame->node].value;

			whole->len = whole->raw_len = at + 1 - frame->start;
			if (--frame == json->frames)
				return n;
		}
	}
	return n;
}

/* Room for one more; NULL if there is none. */
static CqJsonItem *
item_new(Walk *walk, size_t n)
{
	CqJson *json = walk->json;

	if (n == json->items_capacity)
	{
		size_t capacity = n == 0 ? 256 : n * 2;
		CqJsonItem *items = (CqJsonItem *) realloc(json->items, capacity * sizeof(CqJsonItem));

		if (items == NULL)
		{
			walk->status = CQ_JSON_NO_MEMORY;
			return NULL;
		}
		json->items = items;
		json->items_capacity = capacity;
	}
	memset(&json->items[n], 0, sizeof(CqJsonItem));
	return &json->items[n];
}

static bool
list_key(Walk *walk, CqJsonItem *item)
{
	CqField key;

	if (!list_scalar(walk, *walk->next++, &key))
		return false;
	walk->next++; /* the colon */
	item->key = key.text;
	item->key_len = key.len;
	item->key_has_nul = key.has_nul;
	return true;
}

static bool
list_scalar(Walk *walk, uint32_t at, CqField *field)
{
	const char *document = walk->document;
	uint32_t end = at;
	bool escaped;

	switch (document[at])
	{
		case '"':
			if (!walk_string(walk, at, &end, &escaped))
				return false;
			field_set(field, CQ_FIELD_STRING, document + at + 1, end - at - 2);
			field->raw = document + at;
			field->raw_len = end - at;
			return !escaped || keep_unescaped(walk, at + 1, end - at - 2, field);
		case 't':
			field_set(field, CQ_FIELD_TRUE, document + at, 4);
			return true;
		case 'f':
			field_set(field, CQ_FIELD_FALSE, document + at, 5);
			return true;
		case 'n':
			field_set(field, CQ_FIELD_NULL, document + at, 4);
			return true;
		default:
			if (!walk_number(walk, at, &end))
				return false;
			field_set(field, CQ_FIELD_NUMBER, document + at, end - at);
			return true;
	}
}
