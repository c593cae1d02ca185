/*
 * fields.h
 *	  The fields of JSON documents: which there are, and what values they have.
 */
#pragma once

#include "postgres.h"

#include "decode/json.h"
#include "infer/values.h"

#define CQ_FIELD_MAX_DEPTH 8 /* objects nested more deeply are left as they are */

typedef struct CqInferField
{
	char *key; /* in UTF-8; NULL = the document */
	int depth;
	struct CqInferField *parent;
	int nchildren;
	int capacity;
	struct CqInferField **children; /* in the order in which they came up */
	int hint;						/* child behind the one found last */
	bool overflow;					/* has had more children than are kept; no record then */
	int nfields;					/* of a document: in all */
	int last_record;
	CqValues values;
} CqInferField;

/* The root of no documents yet. */
extern CqInferField *cq_fields_create(void);

/* Take in the document with this number, of nrecords, as cq_json_items() gave it. */
extern void cq_fields_add(CqInferField *root, const CqJsonItem *items, size_t count, int record,
						  int nrecords);

/*
 * Is this an object whose keys are fields, rather than data, and to be taken
 * apart?
 */
extern bool cq_field_is_record(const CqInferField *field);
