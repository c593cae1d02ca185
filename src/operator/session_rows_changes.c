/*
 * session_rows_changes.c
 *	  Sessions that keep their rows and change: which are given out, and when.
 *
 * The rule is session.c's (rows that change), with a session's rows as a whole in
 * place of its group's row; see session_rows.c.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "operator/session_rows.h"

/* Where sessions go that change, and which are due. */
typedef struct Replacing
{
	CqReplaceWindow give_out;
	void *arg;
	TimestampTz complete_to;
	bool refresh;
} Replacing;

static void absorbed_remove(CqOperator *operator, const Replacing * replacing);
static int complete_replace(CqOperator *operator, const Replacing * replacing);
static void changed_replace(CqOperator *operator, const Replacing * replacing);
static void behind_replace(CqOperator *operator, const Replacing * replacing);
static void session_replace(CqOperator *operator, CqKeptSession * session,
							const Replacing *replacing);
static void session_remove(int64 id, const Replacing *replacing);

int
cq_session_rows_replace(CqOperator *operator, TimestampTz watermark, bool refresh,
						CqReplaceWindow give_out, void *arg)
{
	Replacing replacing = {give_out, arg, watermark, refresh};
	int completed;

	absorbed_remove(operator, & replacing);
	completed = complete_replace(operator, & replacing);
	changed_replace(operator, & replacing);
	if (refresh && operator->state->panes[0]->behind)
		behind_replace(operator, & replacing);
	return completed;
}

static void
absorbed_remove(CqOperator *operator, const Replacing * replacing)
{
	CqSessionRows *own = operator->session_rows;
	ListCell *lc;

	foreach (lc, own->absorbed)
		session_remove(*(int64 *) lfirst(lc), replacing);
	list_free_deep(own->absorbed);
	own->absorbed = NIL;
}

/* Every session that has changed is among those that are not kept. */
static int
complete_replace(CqOperator *operator, const Replacing * replacing)
{
	int completed = 0;
	CqKeptSession *session;

	while ((session = cq_kept_first_to_end(operator, operator->session_rows->ends)) != NULL &&
		   cq_kept_session_end(operator, session) < replacing->complete_to)
	{
		CHECK_FOR_INTERRUPTS();
		if (!session->is_shown || session->is_behind || session->is_changed)
			session_replace(operator, session, replacing);
		completed += !session->was_complete;
		cq_kept_session_keep(operator, session);
	}
	return completed;
}

/* Of those that have changed and are not complete: show, put off, or take away what was shown. */
static void
changed_replace(CqOperator *operator, const Replacing * replacing)
{
	CqSessionRows *own = operator->session_rows;

	while (!dlist_is_empty(&own->changed))
	{
		CqKeptSession *session =
			dlist_container(CqKeptSession, changed, dlist_pop_head_node(&own->changed));

		CHECK_FOR_INTERRUPTS();
		session->is_changed = false;
		if (session->is_kept)
			continue;
		session->was_complete = false;
		if (operator->shows_open &&(replacing->refresh || session->must_be_shown))
			session_replace(operator, session, replacing);
		else if (operator->shows_open)
			session->is_behind = session->last_row->is_behind = operator->state->panes[0]->behind =
																	true;
		else if (session->is_shown)
			session_remove(session->id, replacing);
		if (!operator->shows_open)
			session->is_shown = false;
	}
}

static void
behind_replace(CqOperator *operator, const Replacing * replacing)
{
	cq_kept_chains_iterator iterator;
	CqKeptChain *chain;
	CqKeptSession *session;

	cq_kept_chains_start_iterate(operator->session_rows->chains, &iterator);
	while ((chain = cq_kept_chains_iterate(operator->session_rows->chains, &iterator)) != NULL)
		for (session = chain->sessions; session; session = session->next)
			if (session->is_behind)
				session_replace(operator, session, replacing);
	operator->state->panes[0]->behind = false;
}

static void
session_replace(CqOperator *operator, CqKeptSession * session, const Replacing *replacing)
{
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);

	cq_kept_session_put(operator, session, rows);
	replacing->give_out(replacing->arg, session->id, !session->is_shown, rows);
	tuplestore_end(rows);
	session->is_shown = true;
	session->is_behind = session->must_be_shown = false;
}

static void
session_remove(int64 id, const Replacing *replacing)
{
	Tuplestorestate *none = tuplestore_begin_heap(false, false, work_mem);

	replacing->give_out(replacing->arg, id, false, none);
	tuplestore_end(none);
}

void
cq_session_rows_leave(CqOperator *operator, TimestampTz to)
{
	CqKeptSession *session;

	while ((session = cq_kept_first_to_end(operator, operator->session_rows->kept)) != NULL &&
		   cq_kept_session_end(operator, session) < to)
	{
		CHECK_FOR_INTERRUPTS();
		(void) pairingheap_remove_first(operator->session_rows->kept);
		cq_kept_session_forget(operator, session);
	}
}
