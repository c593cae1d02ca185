/*
 * vacuum.c
 *	  Keeping a view's chunk table small.
 *
 * Every checkpoint appends chunks and deletes others.  Autovacuum looks at a
 * table once a minute at best, by which time a busy view has written hundreds
 * of megabytes; so the worker vacuums its chunk table itself, between
 * transactions, when the table is more than twice as large as what it holds and
 * has still grown since the last vacuum, which means that the space which that
 * one found is used up.  There is no index to clean, and pages that did not
 * change are skipped, so this costs little.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/vacuum.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "utils/memutils.h"

#include "runtime/vacuum.h"

/* Not worth the trouble below this: 4 MB. */
#define SMALL_BLOCKS 512

bool
cq_vacuum_due(BlockNumber blocks, BlockNumber vacuumed, int64 chunk_bytes)
{
	return blocks > SMALL_BLOCKS && blocks > vacuumed && (int64) blocks * BLCKSZ > 2 * chunk_bytes;
}

void
cq_vacuum(Oid relid)
{
	MemoryContext portal = PortalContext;
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "pipeline vacuum", ALLOCSET_SMALL_SIZES);
	VacuumStmt *stmt;

	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	stmt = makeNode(VacuumStmt);
	stmt->is_vacuumcmd = true;
	stmt->options = list_make1(makeDefElem("skip_locked", NULL, -1));
	stmt->rels = list_make1(makeVacuumRelation(NULL, relid, NIL));
	PortalContext = context;
	PG_TRY();
	{
		ExecVacuum(NULL, stmt, true);
	}
	PG_FINALLY();
	{
		PortalContext = portal;
	}
	PG_END_TRY();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(context);
}
