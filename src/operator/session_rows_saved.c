/*
 * session_rows_saved.c
 *	  Rows of sessions to the chunk table and back.
 *
 * Invariants: see session_rows.c.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "operator/session_rows.h"

/* In the entry of a row. */
#define HAS_TUPLE 0x01
#define IS_BEHIND 0x02

static void row_put(CqOperator *operator, const CqKeptEntry * entry);
static void row_found(CqOperator *operator, CqKeptSession * session, const CqKeptRow *row);
static CqKeptRow *row_get(CqOperator *operator, CqReader * entry);

void
cq_session_rows_save(CqOperator *operator, CqPane * pane)
{
	cq_kept_log_save(operator, pane, &operator->session_rows->log, row_put);
}

static void
row_put(CqOperator *operator, const CqKeptEntry * entry)
{
	const CqKeptRow *row = (const CqKeptRow *) entry;

	resetStringInfo(&operator->bytes);
	appendBinaryStringInfo(&operator->bytes, (char *) &row->reason, sizeof(row->reason));
	appendStringInfoCharMacro(&operator->bytes,
							  (row->has_tuple ? HAS_TUPLE : 0) | (row->is_behind ? IS_BEHIND : 0));
	if (operator->replaces)
		appendBinaryStringInfo(&operator->bytes, (char *) &row->id, sizeof(row->id));
	if (row->has_tuple)
	{
		ExecStoreMinimalTuple(CQ_KEPT_ROW_TUPLE(row), operator->slot, false);
		slot_getallattrs(operator->slot);
		cq_codec_put_row(operator->codecs,
						 operator->stored_desc->natts,
						 &operator->bytes,
						 operator->slot->tts_values,
						 operator->slot->tts_isnull);
		ExecClearTuple(operator->slot);
		return;
	}
	cq_key_put(operator->session_rows->codec,
			   &operator->bytes,
			   CQ_KEPT_ROW_KEY(row),
			   row->key_size);
}

void
cq_session_rows_load(CqOperator *operator, CqPane * pane, CqChunkData *chunk)
{
	CqChunkNumber number = cq_chunklog_register(operator->log, chunk, &pane->chunks);
	CqReader entry;
	uint32 hash;

	cq_chunklog_registered(operator->log, number, chunk->nentries);
	while (cq_chunk_next(chunk, &hash, &entry))
	{
		MemoryContext old = MemoryContextSwitchTo(operator->scratch);
		CqKeptRow *row = row_get(operator, & entry);
		CqKeptSession *session = cq_kept_session_for(operator, & row->reason);

		if (session)
		{
			row->entry.chunk = number;
			cq_kept_row_add(operator, session, row);
			if (operator->replaces)
				row_found(operator, session, row);
			operator->state->ngroups++;
			operator->rows++;
		}
		else
		{
			/* it counted in a session that was given out */
			cq_kept_log_release(&operator->session_rows->log, number);
			pfree(row);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(operator->scratch);
	}
}

/* What was shown of a session is known for its last row. */
static void
row_found(CqOperator *operator, CqKeptSession * session, const CqKeptRow *row)
{
	CqState *state = operator->state;

	if (session->id == 0)
		session->id = row->id;
	session->is_shown = operator->shows_open;
	session->is_behind = row->is_behind;
	state->panes[0]->behind = state->panes[0]->behind || row->is_behind;
	state->next_gid = Max(state->next_gid, row->id + 1);
}

/* Its key becomes the one packed last. */
static CqKeptRow *
row_get(CqOperator *operator, CqReader * entry)
{
	int natts = operator->stored_desc->natts;
	Datum *values;
	bool *nulls;
	CqReason reason;
	CqKeptRow *row;
	int64 id = 0;
	char flags;

	memcpy(&reason, cq_reader_take(entry, sizeof(reason)), sizeof(reason));
	flags = *(const char *) cq_reader_take(entry, 1);
	if (operator->replaces)
		memcpy(&id, cq_reader_take(entry, sizeof(id)), sizeof(id));
	if (flags & HAS_TUPLE)
	{
		values = palloc((natts + 1) * sizeof(Datum));
		nulls = palloc((natts + 1) * sizeof(bool));
		cq_codec_get_row(operator->codecs, natts, entry, values + 1, nulls + 1);
		cq_key_pack(operator->session_rows->codec, values, nulls);
		row = cq_kept_row_create(operator, values + 1, nulls + 1, &reason);
	}
	else
	{
		cq_key_get(operator->session_rows->codec, entry);
		row = cq_kept_reason_create(operator, & reason);
	}
	if (entry->at != entry->end)
		cq_reader_damaged();
	row->id = id;
	row->is_behind = (flags & IS_BEHIND) != 0;
	return row;
}

/* ------------------------------------------------------------------------
 * Verification: as many rows of each chunk in memory as the chunk has that are of use
 * ------------------------------------------------------------------------
 */

void
cq_session_rows_verify_begin(CqPane *pane)
{
}

void
cq_session_rows_verify(CqOperator *operator, CqPane * pane, CqChunkData *chunk,
					   CqVerification *check)
{
	CqSessionRows *own = operator->session_rows;
	uint32 found = 0;
	cq_kept_chains_iterator iterator;
	CqKeptChain *chain;
	CqKeptSession *session;
	CqKeptRow *row;

	cq_kept_chains_start_iterate(own->chains, &iterator);
	while ((chain = cq_kept_chains_iterate(own->chains, &iterator)) != NULL)
		for (session = chain->sessions; session; session = session->next)
			for (row = session->rows; row; row = row->next)
				found += row->entry.chunk == chunk->number;
	cq_kept_log_verify(operator, & own->log, chunk, found, check);
}

void
cq_session_rows_verify_end(CqOperator *operator, CqPane * pane, CqVerification *check)
{
	cq_kept_log_verify_end(&operator->session_rows->log, check);
}
