/*
 * replacement.h
 *	  All rows of a window in a result table, replaced where they differ.
 */
#pragma once

#include "postgres.h"

#include "sink/output.h"

typedef struct CqReplacement CqReplacement;

/*
 * The rows that a window is to have follow, each a row of the view's columns; those that it
 * has and that are not among them go away at the end.  fresh: it has none.  Rows that are
 * new get numbers from *next_number on.
 */
extern CqReplacement *cq_replacement_begin(CqOutput *output, int64 window, bool fresh,
										   int64 *next_number);
extern void cq_replacement_row(CqReplacement *replacement, Datum *values, bool *nulls);
extern void cq_replacement_end(CqReplacement *replacement);
