/*
 * rowlist.h
 *	  Rows of a stage query set aside, to be given out later in the order of
 *	  their events.
 */
#pragma once

#include "postgres.h"

#include "executor/tuptable.h"

#include "plan/stage.h"

typedef struct CqRowList CqRowList;

/* The list and its rows live in the current memory context. */
extern CqRowList *cq_row_list_create(TupleDesc desc);

extern void cq_row_list_add(CqRowList *list, int ordinal, TupleTableSlot *row);

/* Give out all rows in the order of their ordinals; those of one event as they came in. */
extern void cq_row_list_give(CqRowList *list, CqRowConsumer consume, void *arg);

/* Number of different ordinals, after giving. */
extern int64 cq_row_list_count(const CqRowList *list);
extern int64 cq_row_list_events(const CqRowList *list);

extern void cq_row_list_free(CqRowList *list);
