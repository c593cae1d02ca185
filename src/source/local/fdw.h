/*
 * fdw.h
 *	  What the foreign-data wrapper does with rows of local streams.
 */
#pragma once

#include "postgres.h"

#include "nodes/execnodes.h"

/* Rows inserted together by INSERT, at most. */
#define CQ_LOCAL_INSERT_BATCH 500

/* INSERT and COPY.  State hangs in ri_FdwState. */
extern void cq_local_insert_begin(EState *estate, ResultRelInfo *rri);
extern void cq_local_insert_rows(EState *estate, ResultRelInfo *rri, TupleTableSlot **slots,
								 int nslots);
extern void cq_local_insert_end(ResultRelInfo *rri);

/* SELECT: the rows that are still kept, roughly in the order in which they came. */
typedef struct CqLocalRead CqLocalRead;
extern CqLocalRead *cq_local_read_begin(Relation stream, EState *estate);
extern void cq_local_read_next(CqLocalRead *read,
							   TupleTableSlot *slot); /* leaves it empty at the end */
extern void cq_local_read_restart(CqLocalRead *read);
extern void cq_local_read_end(CqLocalRead *read);

/* How much there is to read; false if the stream has no storage. */
extern bool cq_local_read_estimate(Oid relid, double *rows, double *pages);
