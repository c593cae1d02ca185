/*
 * insert.h
 *	  INSERT and COPY into Kafka streams: records that are written when the
 *	  transaction commits.
 */
#pragma once

#include "postgres.h"

#include "nodes/execnodes.h"

/* State hangs in ri_FdwState. */
extern void cq_direct_insert_begin(EState *estate, ResultRelInfo *rri);
extern void cq_direct_insert_row(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot);
extern void cq_direct_insert_end(ResultRelInfo *rri);
