/*
 * values.h
 *	  What the values of one field have in common, and the type that fits them.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

#include "decode/field.h"

/* Kinds of values, by what a column's type must be able to hold. */
typedef enum CqValueKind
{
	CQ_VALUE_BOOLEAN,
	CQ_VALUE_INTEGER,
	CQ_VALUE_WIDE_INTEGER, /* too large for bigint */
	CQ_VALUE_DECIMAL,
	CQ_VALUE_FLOAT, /* written as programs write floats: an exponent, many digits */
	CQ_VALUE_OBJECT,
	CQ_VALUE_ARRAY,
	/* text, by its form */
	CQ_VALUE_TIMESTAMPTZ,
	CQ_VALUE_TIMESTAMP,
	CQ_VALUE_DATE,
	CQ_VALUE_UUID,
	CQ_VALUE_INET,
	CQ_VALUE_DIGITS, /* a number in quotes */
	CQ_VALUE_TEXT,
	CQ_VALUE_KINDS
} CqValueKind;

typedef enum CqEpochUnit
{
	CQ_EPOCH_S,
	CQ_EPOCH_MS,
	CQ_EPOCH_US,
	CQ_EPOCH_UNITS
} CqEpochUnit;

#define CQ_VALUE_EXAMPLE 40 /* bytes of an example, at most */

typedef struct CqValues
{
	int count; /* that are not null */
	int nulls;
	int kinds[CQ_VALUE_KINDS];
	int epochs[CQ_EPOCH_UNITS]; /* numbers that lie where times of this century do */
	bool has_nul;				/* a string with \u0000 */
	bool cut;					/* the example is not all of the value */
	int example_len;
	char example[CQ_VALUE_EXAMPLE]; /* in UTF-8 */
	int nrecords;
	Timestamp *times;		   /* by record; DT_NOBEGIN = none.  NULL = no times at all */
	struct CqValues *elements; /* of arrays; NULL = no array was seen */
} CqValues;

typedef struct CqValueType
{
	const char *type;
	const char *time_format; /* value of the option "format", or NULL */
	const char *remark;		 /* what to know about it, or NULL */
	bool is_time;			 /* can be an event time */
} CqValueType;

/*
 * Take in a value.  record is its record's number, of nrecords, or -1 if its
 * time is of no interest.
 */
extern void cq_values_add(CqValues *values, const CqField *field, int record, int nrecords);

/* Likewise one of text that does not know what is a number: a field of CSV. */
extern void cq_values_add_text(CqValues *values, const char *text, Size len, int record,
							   int nrecords);

/* The type for all of the values, under this name. */
extern CqValueType cq_values_type(const CqValues *values, const char *name);
