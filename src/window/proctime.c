/*
 * proctime.c
 *	  pipeline.proctime(): the time at which events are taken in.
 *
 * All events of a batch are taken in at one time, so it is the worker's to say, and
 * nobody else's.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/timestamp.h"

#include "window/proctime.h"

static TimestampTz taken_in_at = DT_NOBEGIN;

PG_FUNCTION_INFO_V1(cq_proctime);

void
cq_proctime_set(TimestampTz time)
{
	taken_in_at = time;
}

Datum
cq_proctime(PG_FUNCTION_ARGS)
{
	if (TIMESTAMP_IS_NOBEGIN(taken_in_at))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("function pipeline.%s() can only be used in a continuous view", "proctime"),
				errhint("Create the view WITH (pipeline.continuous)."));
	PG_RETURN_TIMESTAMPTZ(taken_in_at);
}
