/*
 * alter.c
 *	  pipeline.alter(): more columns for a view that is running.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "api/check.h"
#include "ddl/evolve.h"

PG_FUNCTION_INFO_V1(cq_alter);

Datum
cq_alter(PG_FUNCTION_ARGS)
{
	CqView view;
	CqTask task;

	PreventCommandIfReadOnly("pipeline.alter()");
	PreventCommandDuringRecovery("pipeline.alter()");
	cq_api_own_view(PG_GETARG_OID(0), &view, &task);
	cq_evolve(&view, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}
