/*
 * session_rows.h
 *	  What sessions that keep their rows consist of, private to this folder: see
 *	  session_rows.c.
 */
#pragma once

#include "postgres.h"

#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "nodes/pg_list.h"

#include "operator/kept_log.h"

/* What made a session what it is: an event's time, or a part's range, and the watermark. */
typedef struct CqReason
{
	TimestampTz first; /* times that are in it */
	TimestampTz last;
	TimestampTz watermark;
} CqReason;

/* A row that a session has; the tuple follows, or if there is only a reason, the key. */
typedef struct CqKeptRow
{
	CqKeptEntry entry;
	struct CqKeptRow *next; /* in its session */
	uint64 number;			/* in order of arrival */
	CqReason reason;
	uint32 key_size; /* of a key */
	bool has_tuple;
	bool is_behind; /* the last of a session: it was put off, see CqKeptSession */
	int64 id;		/* among all rows, where sessions are replaced */
} CqKeptRow;

#define CQ_KEPT_ROW_KEY(row)   ((char *) (row) + MAXALIGN(sizeof(CqKeptRow)))
#define CQ_KEPT_ROW_TUPLE(row) ((MinimalTuple) CQ_KEPT_ROW_KEY(row))

typedef struct CqKeptSession
{
	pairingheap_node node;
	TimestampTz due; /* not later than its end */
	TimestampTz first;
	TimestampTz last;
	struct CqKeptSession *next; /* of those whose keys have this hash */
	CqKeptRow *rows;
	CqKeptRow *last_row;
	uint32 hash;
	uint32 key_size;

	/* where sessions are replaced */
	int64 id;			/* the least of its rows', by which the result table knows it */
	dlist_node changed; /* in the list of those */
	bool is_changed;
	bool is_shown;		/* it may have rows in the result table */
	bool is_behind;		/* these are not what they should be */
	bool must_be_shown; /* as rows of one that is part of it go away */
	bool is_kept;		/* in which heap it is */
	bool was_complete;	/* before late events came, at least */
						/* the key follows */
} CqKeptSession;

#define CQ_KEPT_SESSION_KEY(session) ((char *) (session) + MAXALIGN(sizeof(CqKeptSession)))

typedef struct CqKeptChain
{
	uint32 hash;
	char status;
	CqKeptSession *sessions;
} CqKeptChain;

#define SH_PREFIX			 cq_kept_chains
#define SH_ELEMENT_TYPE		 CqKeptChain
#define SH_KEY_TYPE			 uint32
#define SH_KEY				 hash
#define SH_HASH_KEY(tb, key) murmurhash32(key)
#define SH_EQUAL(tb, a, b)	 ((a) == (b))
#define SH_SCOPE			 static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct CqSessionRows
{
	MemoryContext context; /* of sessions and rows */
	CqKeyCodec *codec;
	cq_kept_chains_hash *chains;
	pairingheap *ends;
	pairingheap *kept; /* of those that were shown to be complete */
	TimestampTz latest_end;
	dlist_head changed; /* sessions, since the last checkpoint */
	List *absorbed;		/* of int64 *: ids whose rows are to go away */
	int64 nsessions;	/* of which none has been given out */
	uint64 nrows;		/* so far */
	CqKeptLog log;
};

static inline TimestampTz
cq_kept_session_end(const CqOperator *operator, const CqKeptSession * session)
{
	return session->last + operator->window.size_us;
}

/*
 * session_for: the session of the key packed last that a reason makes or widens; NULL
 * if it is late.  row_create, reason_create: of that key; without a reason's row.
 */
extern CqKeptSession *cq_kept_session_for(CqOperator *operator, const CqReason * reason);
extern void cq_kept_row_add(CqOperator *operator, CqKeptSession * session, CqKeptRow *row);
extern CqKeptRow *cq_kept_row_create(CqOperator *operator, const Datum * values, const bool *nulls,
									 const CqReason *reason);
extern CqKeptRow *cq_kept_reason_create(CqOperator *operator, const CqReason * reason);

/*
 * first_to_end: of a heap, its place being its end; NULL if there is none.  keep: the first
 * of own->ends is complete.  put: its rows, to be given out.  forget: it is in no heap any
 * more, and goes with its rows.
 */
extern CqKeptSession *cq_kept_first_to_end(CqOperator *operator, pairingheap * heap);
extern void cq_kept_session_keep(CqOperator *operator, CqKeptSession * session);
extern void cq_kept_session_put(CqOperator *operator, CqKeptSession * session,
								Tuplestorestate *rows);
extern void cq_kept_session_forget(CqOperator *operator, CqKeptSession * session);

/* session_rows_saved.c */
extern void cq_session_rows_save(CqOperator *operator, CqPane * pane);
extern void cq_session_rows_load(CqOperator *operator, CqPane * pane, CqChunkData *chunk);
extern void cq_session_rows_verify_begin(CqPane *pane);
extern void cq_session_rows_verify(CqOperator *operator, CqPane * pane, CqChunkData *chunk,
								   CqVerification *check);
extern void cq_session_rows_verify_end(CqOperator *operator, CqPane * pane, CqVerification *check);
