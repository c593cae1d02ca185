/*
 * field.h
 *	  One value of a record as it was sent, before it has a type of SQL.
 *
 * Known to C and C++, and to code without PostgreSQL's headers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef enum CqFieldKind
{
	CQ_FIELD_MISSING, /* MISSING and NULL come first: both are SQL's NULL */
	CQ_FIELD_NULL,
	CQ_FIELD_FALSE,
	CQ_FIELD_TRUE,
	CQ_FIELD_NUMBER, /* text: as it was sent, every digit of it */
	CQ_FIELD_STRING, /* text: its content, escapes resolved */
	CQ_FIELD_OBJECT, /* text: the JSON as it was sent */
	CQ_FIELD_ARRAY
} CqFieldKind;

/* Text is UTF-8 and not terminated; it stays valid until the next record. */
typedef struct CqField
{
	uint8_t kind; /* CqFieldKind */
	bool has_nul; /* a string with \u0000, which only json can hold */
	uint32_t len; /* of text */
	uint32_t raw_len;
	const char *text;
	const char *raw; /* the value as JSON; NULL if it did not come from JSON */
} CqField;

static inline bool
cq_field_is_null(const CqField *field)
{
	return field->kind <= CQ_FIELD_NULL;
}
