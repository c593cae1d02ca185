/*
 * vacuum.c
 *	  Keeping a view's chunk table small.
 *
 * Every checkpoint appends chunks and deletes others.  Autovacuum looks at a
 * table once a minute at best, by which time a busy view has written hundreds
 * of megabytes; so the worker vacuums its chunk table itself, between
 * transactions, when the rows that it deleted since take an eighth of what is
 * left: before the space that the last vacuum found is used up, or the table
 * would grow a little each time.  An abort leaves rows that nobody counts, so a
 * table that is more than twice as large as what it holds, and has grown since,
 * is vacuumed, too.  There is no index to clean, and pages that did not change
 * are skipped, so this costs little.
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
cq_vacuum_due(BlockNumber blocks, BlockNumber vacuumed, int64 stored, int64 deleted)
{
	if (blocks <= SMALL_BLOCKS)
		return false;
	return deleted > Max(stored / 8, SMALL_BLOCKS / 2 * BLCKSZ) ||
		   (blocks > vacuumed && (int64) blocks * BLCKSZ > 2 * stored);
}

void
cq_vacuum(Oid relid)
{
	MemoryContext portal = PortalContext;
	static MemoryContext context = NULL; /* for good, as an error may leave at any place */
	VacuumStmt *stmt;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "pipeline vacuum", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(context);
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
	MemoryContextReset(context);
}
