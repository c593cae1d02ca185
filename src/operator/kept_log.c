/*
 * kept_log.c
 *	  Rows that are kept one by one in the log of chunks: those of sessions and of
 *	  count windows.
 *
 * Each row is an entry of a chunk from the first save after it came until it is
 * let go; a chunk none of whose rows are of use is deleted.
 *
 * Invariant
 *	K1. After a save, as many rows in memory name a chunk as the chunk log counts to
 *		be of use in it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "operator/kept_log.h"

void
cq_kept_log_init(CqKeptLog *log)
{
	log->unsaved_end = &log->unsaved;
	log->released_capacity = 64;
	log->released = palloc(log->released_capacity * sizeof(CqChunkNumber));
}

CqKeyCodec *
cq_kept_log_codec(const CqOperator *operator, const CqPlan * plan)
{
	CqKeyColumn *columns = palloc0(Max(plan->nsession_keys, 1) * sizeof(CqKeyColumn));
	int i;

	for (i = 0; i < plan->nsession_keys; i++)
		cq_key_column_init(&columns[i],
						   plan->session_keys[i].stage_column,
						   plan->session_keys[i].type,
						   plan->session_keys[i].collation,
						   plan->session_keys[i].equality_operator,
						   operator->context);
	return cq_key_create(columns, plan->nsession_keys, operator->context);
}

void
cq_kept_log_add(CqKeptLog *log, CqKeptEntry *entry)
{
	*log->unsaved_end = entry;
	log->unsaved_end = &entry->next_unsaved;
}

/* What the chunks know of it is settled by the save. */
void
cq_kept_log_let_go(CqOperator *operator, CqKeptLog * log, CqKeptEntry *entry)
{
	operator->state->ngroups--;
	operator->state->changed = true;
	if (entry->chunk == 0)
	{
		entry->left = true;
		return;
	}
	cq_kept_log_release(log, entry->chunk);
	pfree(entry);
}

void
cq_kept_log_release(CqKeptLog *log, CqChunkNumber chunk)
{
	if (log->nreleased == log->released_capacity)
	{
		log->released_capacity *= 2;
		log->released =
			repalloc_huge(log->released, log->released_capacity * sizeof(CqChunkNumber));
	}
	log->released[log->nreleased++] = chunk;
}

void
cq_kept_log_save(CqOperator *operator, CqPane * pane, CqKeptLog *log,
				 void (*put)(CqOperator *operator, const CqKeptEntry * entry))
{
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	CqKeptEntry *entry = log->unsaved;
	int i;

	while (entry)
	{
		CqKeptEntry *next = entry->next_unsaved;

		CHECK_FOR_INTERRUPTS();
		if (entry->left)
			pfree(entry);
		else
		{
			put(operator, entry);
			entry->chunk = cq_chunklog_append(operator->log,
											  &pane->chunks,
											  cq_pane_number(operator, pane),
											  0,
											  operator->bytes.data,
											  operator->bytes.len);
			entry->next_unsaved = NULL;
			MemoryContextReset(operator->scratch);
		}
		entry = next;
	}
	log->unsaved = NULL;
	log->unsaved_end = &log->unsaved;
	for (i = 0; i < log->nreleased; i++)
		cq_chunklog_release(operator->log, log->released[i]);
	log->nreleased = 0;
	MemoryContextSwitchTo(old);
}

/* What was found to be over when it was loaded is released by the next save. */
void
cq_kept_log_verify(CqOperator *operator, const CqKeptLog * log, const CqChunkData *chunk,
				   uint32 found, CqVerification *check)
{
	uint32 live = cq_chunklog_live(operator->log, chunk->number);
	int i;

	check->ngroups += found;
	for (i = 0; i < log->nreleased; i++)
		found += log->released[i] == chunk->number;
	if (found != live)
		cq_verify_fail(check,
					   psprintf("chunk %u has %u rows that are of use, memory has %u of them",
								chunk->number,
								live,
								found));
}

void
cq_kept_log_verify_end(const CqKeptLog *log, CqVerification *check)
{
	if (log->unsaved)
		cq_verify_fail(check, pstrdup("memory has a row that is in no chunk"));
}
