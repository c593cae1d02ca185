/*
 * json.h
 *	  Values at given places of a JSON document.
 *
 * A C interface over simdjson that knows no PostgreSQL: memory is malloc's,
 * failures are return values, nothing throws.
 */
#pragma once

#include <stddef.h>

#include "decode/field.h"

#ifdef __cplusplus
extern "C"
{
#endif

#define CQ_JSON_MAX_BYTES (64u * 1024 * 1024) /* of a document; its index takes four times that */
#define CQ_JSON_MAX_DEPTH 1024				  /* of nesting */

	typedef struct CqJson CqJson;

	/*
 * The keys that lead from a document's root to a value, in UTF-8.  In an array
 * a key that is a number leads to that element, counted from 0.
 */
	typedef struct CqJsonPath
	{
		int nkeys;
		const char *const *keys;
	} CqJsonPath;

	typedef enum CqJsonStatus
	{
		CQ_JSON_OK,
		CQ_JSON_INVALID,	  /* not one JSON object, or array where that may be */
		CQ_JSON_BAD_ENCODING, /* not UTF-8 */
		CQ_JSON_NO_MEMORY
	} CqJsonStatus;

	typedef struct CqJsonError
	{
		const char *reason; /* a constant */
		long long at;		/* byte of the document, -1 if not known */
	} CqJsonError;

	/* Does a key lead to an element of an array, too? */
	extern bool cq_json_key_is_index(const char *key);

	/*
 * A reader of documents that looks for these paths.  slots[i] becomes the
 * index of path i in cq_json_fields(); equal paths share one.  arrays: a
 * document may be an array as well as an object.  NULL if out of memory.
 */
	extern CqJson *cq_json_create(const CqJsonPath *paths, int npaths, bool arrays, int *slots);

	/* Give it up; NULL is fine. */
	extern void cq_json_free(CqJson *json);

	/*
 * Read one document of at most CQ_JSON_MAX_BYTES.  Succeeds only if all of it
 * is valid: exactly one object or array, in UTF-8.  The fields point into json and stay
 * valid until the next document.
 */
	extern CqJsonStatus cq_json_read(CqJson *json, const char *document, size_t len,
									 CqJsonError *error);

	/* The values found by the last cq_json_read() that succeeded. */
	extern const CqField *cq_json_fields(const CqJson *json);

	/* One value of a document: the document itself, a member of an object, an element. */
	typedef struct CqJsonItem
	{
		uint32_t depth;	  /* of the document: 0 */
		bool key_has_nul; /* the key has \u0000 in it, which no path can name */
		const char *key;  /* NULL unless a member of an object; not terminated */
		uint32_t key_len;
		CqField value;
	} CqJsonItem;

	/*
 * All values of the document that cq_json_read() has just read, each in front
 * of what it contains; no more than max.  Valid until the next document.
 */
	extern CqJsonStatus cq_json_items(CqJson *json, size_t max, const CqJsonItem **items,
									  size_t *count);

	/*
 * Check the escapes of a string's content, which is followed by its closing
 * quote: each must mean a character, a surrogate must be half of a pair.
 * *reason becomes NULL if all is well, else what is wrong with the escape at
 * the place that is returned.
 */
	extern size_t cq_json_check_escapes(const char *text, size_t len, const char **reason);

	/*
 * Resolve the escapes of a string's content, which must be valid as it is in a
 * document that was read.  out has room for len bytes; returns how many were
 * used.
 */
	extern size_t cq_json_unescape(const char *text, size_t len, char *out, bool *has_nul);

#ifdef __cplusplus
}
#endif
