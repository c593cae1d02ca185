/*
 * view_run.c
 *	  One view's part of a task's run: from the catalog to a plan and an
 *	  operator with its state.
 *
 * The operator keeps pointers into the plan that it was created with; that one
 * therefore lives in the view's own context, while plans made later, after an
 * invalidation, come and go in plan_context.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "runtime/run.h"

static bool load_catalog(CqRun *run, CqViewRun *view);
static Oid relation_owner(Oid relid);
static void make_plan(CqViewRun *view, MemoryContext context);
static void create_operator(CqViewRun *view);

CqViewRun *
cq_view_run_load(CqRun *run, int64 id)
{
	MemoryContext context =
		AllocSetContextCreate(run->context, "pipeline view", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CqViewRun *view = palloc0(sizeof(CqViewRun));
	bool runs;

	view->context = context;
	view->id = id;
	view->clock_to = DT_NOBEGIN;
	runs = load_catalog(run, view);
	view->watermark = view->checkpoint.closed_to;
	MemoryContextSwitchTo(old);
	if (runs)
		return view;
	MemoryContextDelete(context);
	return NULL;
}

static bool
load_catalog(CqRun *run, CqViewRun *view)
{
	Oid owner;

	if (!cq_extension_exists() || !cq_view_load(view->id, &view->view) ||
		!cq_task_load(view->id, &view->task) || !cq_checkpoint_load(view->id, &view->checkpoint))
		return false;
	/* the slot may say otherwise for a moment: a probe read the row before it was changed */
	if (view->task.state != CQ_TASK_RUNNING || !cq_task_is_ours(&view->task))
		return false;
	owner = relation_owner(view->view.view);
	if (!OidIsValid(owner))
		return false;
	run->owner = owner;
	return true;
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

void
cq_view_run_prepare(CqRun *run, CqViewRun *view)
{
	view->plan_context =
		AllocSetContextCreate(view->context, "pipeline plan", ALLOCSET_DEFAULT_SIZES);
	make_plan(view, view->context);
	view->columns = view->plan->columns;
	cq_late_check(run, view);
	create_operator(view);
}

static void
make_plan(CqViewRun *view, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	view->plan = cq_plan_query(cq_plan_stored_query(view->view.query),
							   view->view.options.emit,
							   get_rel_name(view->view.view));
	view->stage_prepared = cq_stage_prepare(view->plan, view->plan_context);
	view->close_prepared = NULL;
	if (view->plan->close)
		view->close_prepared = cq_close_prepare(view->plan, view->plan_context);
	MemoryContextSwitchTo(old);
}

bool
cq_view_run_replan(CqViewRun *view)
{
	MemoryContext old_plans = view->plan_context;

	view->plan_context =
		AllocSetContextCreate(view->context, "pipeline plan", ALLOCSET_DEFAULT_SIZES);
	make_plan(view, view->plan_context);
	MemoryContextDelete(old_plans);
	return bms_equal(view->plan->columns, view->columns);
}

bool
cq_view_run_is_stale(const CqViewRun *view)
{
	return cq_prepared_is_stale(view->stage_prepared) ||
		   (view->close_prepared && cq_prepared_is_stale(view->close_prepared));
}

static void
create_operator(CqViewRun *view)
{
	Relation chunks;

	if (view->plan->shape == CQ_SHAPE_APPEND)
		return;
	chunks = table_open(view->view.chunks, AccessShareLock);
	view->op = cq_operator_create(view->plan, chunks, 0, view->checkpoint.closed_to, view->context);
	table_close(chunks, AccessShareLock);
}
