/*
 * refuse_dml.c
 *	  The trigger on every continuous view that says why nobody writes to it.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(cq_refuse_dml);

Datum
cq_refuse_dml(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const char *verb;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function \"refuse_dml\" was not called as a trigger"));
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		verb = "insert into";
	else if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		verb = "update";
	else
		verb = "delete from";
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot %s continuous view \"%s\"",
				   verb,
				   RelationGetRelationName(trigger->tg_relation)),
			errdetail("Its rows are the result of its query over the events of a stream."),
			errhint("Insert events into the stream instead."));
	PG_RETURN_NULL();
}
