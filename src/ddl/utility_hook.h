/*
 * utility_hook.h
 *	  One utility statement on its way through our ProcessUtility hook.
 */
#pragma once

#include "postgres.h"

#include "nodes/plannodes.h"
#include "tcop/utility.h"

/* The arguments of ProcessUtility(). */
typedef struct CqUtility
{
	PlannedStmt *pstmt;
	const char *query_string;
	bool read_only_tree;
	ProcessUtilityContext context;
	ParamListInfo params;
	QueryEnvironment *query_env;
	DestReceiver *dest;
	QueryCompletion *completion;
} CqUtility;

/*
 * Does whatever is ours about one kind of statement.  It must run the
 * statement itself, by one of the two functions below, unless it takes its
 * place.
 */
typedef void (*CqUtilityHandler)(CqUtility *utility);

/* Run the statement as it would be without us. */
extern void cq_utility_next(CqUtility *utility);

/* Run another statement in its place; stmt may be changed by this. */
extern void cq_utility_next_instead(CqUtility *utility, Node *stmt);

/* Say what a statement that we carried out alone did, as its command tag. */
extern void cq_utility_done(CqUtility *utility, CommandTag tag);

/* Called from _PG_init. */
extern void cq_utility_hook_install(void);
