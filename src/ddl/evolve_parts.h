/*
 * evolve_parts.h
 *	  The relations of a continuous view that gets more columns.
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "catalog/rows.h"
#include "plan/extend.h"

typedef struct CqEvolution
{
	CqView *view;
	char *name;
	Oid owner;
	Query *query; /* the new one */
	CqPlan *before;
	CqPlan *after;
	CqConversion *conversions; /* by input */
	int ncolumns;			   /* before */
} CqEvolution;

/*
 * Add what there is more of to the view, its query, its result and its late table, until
 * then locked against writing; it is an error if late rows that are kept lack it.
 */
extern void cq_evolve_parts(const CqEvolution *evolution);
