/*
 * names.c
 *	  Identifiers made of what senders call things.
 *
 * The name must be pleasant in SQL: customerId and Customer-ID become
 * customer_id, which needs no quotes.  What is a name in lower case already is
 * left alone, and so are letters that are not ASCII.
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "infer/proposal.h"

static bool is_simple(const char *key);
static bool begins_word(const char *key, const char *p);

char *
cq_name_from(const char *key)
{
	StringInfoData name;
	const char *p;

	if (is_simple(key))
		return pstrdup(key);
	initStringInfo(&name);
	for (p = key; *p != '\0'; p++)
	{
		unsigned char c = (unsigned char) *p;

		if (isupper(c) && c < 0x80)
		{
			if (begins_word(key, p) && name.len > 0 && name.data[name.len - 1] != '_')
				appendStringInfoChar(&name, '_');
			appendStringInfoChar(&name, (char) (c - 'A' + 'a'));
		}
		else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80)
			appendStringInfoChar(&name, *p);
		else if (name.len > 0 && name.data[name.len - 1] != '_')
			appendStringInfoChar(&name, '_');
	}
	while (name.len > 0 && name.data[name.len - 1] == '_')
		name.data[--name.len] = '\0';
	if (name.len == 0)
		return pstrdup("field");
	if (isdigit((unsigned char) name.data[0]))
		return psprintf("_%s", name.data);
	return name.data;
}

static bool
is_simple(const char *key)
{
	return ((*key >= 'a' && *key <= 'z') || *key == '_') &&
		   strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(key);
}

/* aB, and the last capital of ABc. */
static bool
begins_word(const char *key, const char *p)
{
	if (p == key)
		return true;
	return !isupper((unsigned char) p[-1]) || islower((unsigned char) p[1]);
}

char *
cq_text_from_utf8(const char *text, int len)
{
	int encoding = GetDatabaseEncoding();
	unsigned char *result;
	int size;
	Oid proc;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pnstrdup(text, len);
	proc = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(proc))
		return NULL;
	size = len * MAX_CONVERSION_GROWTH + 1;
	result = palloc(size);
	if (pg_do_encoding_conversion_buf(proc,
									  PG_UTF8,
									  encoding,
									  (unsigned char *) text,
									  len,
									  result,
									  size,
									  true) != len)
		return NULL;
	return (char *) result;
}
