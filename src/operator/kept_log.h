/*
 * kept_log.h
 *	  Rows that are kept one by one in the log of chunks, private to this folder.
 */
#pragma once

#include "postgres.h"

#include "operator/shape.h"

/* What such a row begins with. */
typedef struct CqKeptEntry
{
	struct CqKeptEntry *next_unsaved;
	CqChunkNumber chunk; /* 0 = not saved yet */
	bool left;			 /* it was let go before it was saved */
} CqKeptEntry;

typedef struct CqKeptLog
{
	CqKeptEntry *unsaved;
	CqKeptEntry **unsaved_end;
	CqChunkNumber *released; /* chunks that rows let go are in, one for each */
	int nreleased;
	int released_capacity;
} CqKeptLog;

/* In the current memory context. */
extern void cq_kept_log_init(CqKeptLog *log);
extern CqKeyCodec *cq_kept_log_codec(const CqOperator *operator, const CqPlan * plan);

/* A new row, to be saved with the others. */
extern void cq_kept_log_add(CqKeptLog *log, CqKeptEntry *entry);

/*
 * let_go: the row is of no use any more, and freed, by the next save if need be.
 * release: a row in that chunk, which is not in memory, is not.
 */
extern void cq_kept_log_let_go(CqOperator *operator, CqKeptLog * log, CqKeptEntry *entry);
extern void cq_kept_log_release(CqKeptLog *log, CqChunkNumber chunk);

/* put: the entry of a row into operator->bytes; memory is operator->scratch, reset after each. */
extern void cq_kept_log_save(CqOperator *operator, CqPane * pane, CqKeptLog *log,
							 void (*put)(CqOperator *operator, const CqKeptEntry * entry));

/* found: so many rows of the chunk are in memory. */
extern void cq_kept_log_verify(CqOperator *operator, const CqKeptLog * log,
							   const CqChunkData *chunk, uint32 found, CqVerification *check);
extern void cq_kept_log_verify_end(const CqKeptLog *log, CqVerification *check);
