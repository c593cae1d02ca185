/*
 * verify_state.c
 *	  A worker compares the state of its views with their chunks.
 *
 * Only the worker can: memory is that of the last commit only between its
 * checkpoints.  It looks for requests when their number has changed.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "monitor/slots.h"
#include "runtime/verify_state.h"

static void answer(CqRun *run, CqViewRun *view, uint64 ticket);
static char *verify(CqRun *run, const CqInput *input);

void
cq_verify_when_asked(CqRun *run)
{
	static uint64 seen = 0;
	uint64 requests = pg_atomic_read_u64(&cq_shared->verifications);
	ListCell *lc;

	if (requests == seen)
		return;
	foreach (lc, run->views)
	{
		CqViewRun *view = lfirst(lc);
		uint64 ticket = cq_slot_verify_wanted(MyDatabaseId, view->id);

		if (ticket != 0)
			answer(run, view, ticket);
	}
	seen = requests;
}

static void
answer(CqRun *run, CqViewRun *view, uint64 ticket)
{
	char *difference = NULL;
	int i;

	for (i = 0; i < view->ninputs && view->op && difference == NULL; i++)
		difference = verify(run, &view->inputs[i]);
	cq_slot_verify_answer(MyDatabaseId, view->id, ticket, difference);
}

static char *
verify(CqRun *run, const CqInput *input)
{
	CqRunIdentity saved;
	Relation chunks;
	char *difference;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	chunks = table_open(input->chunks, AccessShareLock);
	saved = cq_run_as_owner(run);
	difference = cq_operator_verify(input->op, chunks);
	cq_run_as_system(saved);
	if (difference)
		difference = MemoryContextStrdup(run->checkpoint_context, difference);
	table_close(chunks, NoLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return difference;
}
