/*
 * value.h
 *	  From a field as it was sent to a Datum of its column's type.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

#include "decode/decoder.h"
#include "decode/field.h"
#include "source/stream.h"

typedef struct CqConverter CqConverter;
typedef struct CqComposite CqComposite; /* nested.c */

/* Convert a field that is not null; false and *error if it cannot be. */
typedef bool (*CqConvertFunction)(CqConverter *converter, const CqField *field, Datum *value,
								  CqDecodeError *error);

struct CqConverter
{
	CqConvertFunction convert;
	const char *column; /* name, for messages */
	Oid type;			/* never a domain, unless convert is the domain's */
	int32 typmod;
	CqTimeFormat time_format;
	CqBytesFormat bytes_format;
	bool recode; /* the database's encoding is not UTF-8 */
	int16 typlen;
	bool checks_null; /* a domain, which may refuse NULL */
	FmgrInfo input;	  /* the type's input function */
	Oid ioparam;
	MemoryContext context;
	StringInfo scratch; /* for text that must be terminated; shared by all of a decoder */
	CqConverter *inner; /* of an array's elements, of a domain's base type */
	bool elements_nest; /* an array's elements may themselves be JSON arrays */
	void *cache;		/* of the domain's constraints */
	CqComposite *composite;
};

/*
 * A converter for a column.  Payload says how bytea takes a string: as the
 * bytes themselves (true), or as bytea's input function does.
 */
extern CqConverter *cq_converter_create(const CqStreamColumn *column, StringInfo scratch,
										bool payload);

/* Convert a field, null or not. */
extern bool cq_convert(CqConverter *converter, const CqField *field, Datum *value, bool *isnull,
					   CqDecodeError *error);

/* Refuse a record; always returns false. */
extern bool cq_decode_fail(CqDecodeError *error, int sqlstate, const char *format, ...)
	pg_attribute_printf(3, 4);

/* Refuse a field because it is not of the converter's type. */
extern bool cq_refuse_field(CqConverter *converter, const CqField *field, int sqlstate,
							CqDecodeError *error);

/*
 * Around calls that may throw: errors say which column they are about, in their
 * context and in cq_column_at_fault.  The context is not popped when an error
 * passes.
 */
extern const char *cq_column_at_fault;
extern void cq_column_context_push(ErrorContextCallback *context, const char *column);

/*
 * The same around input functions.  Some of them report a bad value as an error
 * of syntax, or as one that cannot happen; it becomes one of the value.
 */
extern void cq_input_context_push(ErrorContextCallback *context, const char *column);
extern void cq_column_context_pop(ErrorContextCallback *context);

/* A field of text that did not come from JSON. */
extern void cq_field_set_text(CqField *field, CqFieldKind kind, const char *text, Size len);

/* The type's own input function; throws what it throws. */
extern bool cq_convert_by_input(CqConverter *converter, const CqField *field, Datum *value,
								CqDecodeError *error);

/* number.c */
typedef struct CqDecimal
{
	bool negative;
	bool inexact;  /* there were nonzero digits behind those kept */
	uint64 digits; /* the number is digits * 10^exponent */
	int exponent;
} CqDecimal;

/* Read a decimal number; false if it is not one, from its first byte to its last. */
extern bool cq_decimal_parse(const char *text, Size len, CqDecimal *decimal);

/*
 * decimal * 10^scale, rounded to the nearest integer.  False if it is out of
 * range; *exact tells whether anything was lost by rounding.
 */
extern bool cq_decimal_to_int64(const CqDecimal *decimal, int scale, int64 *result, bool *exact);

extern bool cq_convert_integer(CqConverter *converter, const CqField *field, Datum *value,
							   CqDecodeError *error);
extern bool cq_convert_float(CqConverter *converter, const CqField *field, Datum *value,
							 CqDecodeError *error);
extern bool cq_convert_numeric(CqConverter *converter, const CqField *field, Datum *value,
							   CqDecodeError *error);

/* time.c */
extern bool cq_convert_time(CqConverter *converter, const CqField *field, Datum *value,
							CqDecodeError *error);
extern bool cq_convert_epoch(CqConverter *converter, const CqField *field, Datum *value,
							 CqDecodeError *error);

/* Is this a time, or day, in ISO 8601?  The time is UTC where none of a zone is said. */
extern bool cq_iso_time_parse(const char *text, Size len, Timestamp *time, bool *has_zone);
extern bool cq_iso_date_parse(const char *text, Size len);

/* nested.c */
extern bool cq_convert_array(CqConverter *converter, const CqField *field, Datum *value,
							 CqDecodeError *error);
extern void cq_composite_prepare(CqConverter *converter);
extern bool cq_convert_composite(CqConverter *converter, const CqField *field, Datum *value,
								 CqDecodeError *error);
