/*
 * exchange.h
 *	  From a procedure: wait until a view that was built beside another one has
 *	  come to where that is, and exchange the two.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

typedef struct CqRebuild
{
	Oid view;
	Oid fresh;				  /* the one beside it */
	TimestampTz replace_from; /* see cq_replay_check() */
	bool with_history;
} CqRebuild;

/* Error unless the procedure may commit by itself. */
extern void cq_exchange_check_call(FunctionCallInfo fcinfo, const char *procedure);

/* Returns when it is done and committed.  SPI is connected, and may commit. */
extern void cq_exchange(const CqRebuild *rebuild);
