/*
 * close.c
 *	  Running close queries over the rows of closed windows.
 *
 * The rows are handed to the executor as an ephemeral named relation, as the
 * transition tables of triggers are.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "tcop/dest.h"
#include "utils/queryenvironment.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "plan/close.h"
#include "plan/prepared.h"

/* Hands rows of the executor to the caller. */
typedef struct CqReceiver
{
	DestReceiver dest;
	CqResultConsumer receive;
	void *arg;
	MemoryContext context; /* the caller's */
} CqReceiver;

static void receiver_startup(DestReceiver *dest, int operation, TupleDesc desc);
static bool receiver_receive(TupleTableSlot *row, DestReceiver *dest);
static void receiver_nothing(DestReceiver *dest);

CqPrepared *
cq_close_prepare(const CqPlan *plan, MemoryContext context)
{
	CqPrepared *prepared;
	MemoryContext old;
	int i;

	Assert(plan->close != NULL);
	prepared = cq_prepared_create(plan, plan->close, true, context);
	old = MemoryContextSwitchTo(prepared->context);
	prepared->ninputs = plan->ninputs;
	prepared->closed_descs = palloc(sizeof(TupleDesc) * plan->ninputs);
	prepared->closed_names = palloc(sizeof(char *) * plan->ninputs);
	for (i = 0; i < plan->ninputs; i++)
	{
		prepared->closed_descs[i] = CreateTupleDescCopy(plan->inputs[i]->closed_desc);
		prepared->closed_names[i] = pstrdup(plan->inputs[i]->closed_name);
	}
	MemoryContextSwitchTo(old);
	return prepared;
}

void
cq_close_run(CqPrepared *prepared, Tuplestorestate **rows, CqResultConsumer receive, void *arg)
{
	CqReceiver receiver = {
		.dest = {.receiveSlot = receiver_receive,
				 .rStartup = receiver_startup,
				 .rShutdown = receiver_nothing,
				 .rDestroy = receiver_nothing,
				 .mydest = DestNone},
		.receive = receive,
		.arg = arg,
		.context = CurrentMemoryContext,
	};
	QueryDesc *desc = CreateQueryDesc(prepared->stmt,
									  "close query of a continuous view",
									  GetActiveSnapshot(),
									  InvalidSnapshot,
									  &receiver.dest,
									  NULL,
									  cq_close_environment(prepared, rows),
									  0);
	int settings = cq_prepared_settings_enter();

	ExecutorStart(desc, 0);
	cq_compat_executor_run(desc);
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	cq_prepared_settings_leave(settings);
	FreeQueryDesc(desc);
}

QueryEnvironment *
cq_close_environment(CqPrepared *prepared, Tuplestorestate **rows)
{
	QueryEnvironment *environment = create_queryEnv();
	int i;

	for (i = 0; i < prepared->ninputs; i++)
	{
		EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));

		relation->md.name = prepared->closed_names[i];
		relation->md.reliddesc = InvalidOid;
		relation->md.tupdesc = prepared->closed_descs[i];
		relation->md.enrtype = ENR_NAMED_TUPLESTORE;
		relation->md.enrtuples = tuplestore_tuple_count(rows[i]);
		relation->reldata = rows[i];
		register_ENR(environment, relation);
	}
	return environment;
}

static void
receiver_startup(DestReceiver *dest, int operation, TupleDesc desc)
{
}

static bool
receiver_receive(TupleTableSlot *row, DestReceiver *dest)
{
	CqReceiver *receiver = (CqReceiver *) dest;
	MemoryContext old = MemoryContextSwitchTo(receiver->context);

	receiver->receive(receiver->arg, row);
	MemoryContextSwitchTo(old);
	return true;
}

static void
receiver_nothing(DestReceiver *dest)
{
}
