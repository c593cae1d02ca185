/*
 * retention.c
 *	  What the view option "retention" needs of a view.
 *
 * Rows are deleted oldest first, a portion in each checkpoint.  To find them
 * without reading the others there is an index on what tells their age, from when
 * the option is set until it is taken away.  What it costs, rows that come in the order of
 * time pay least: they go to the last page of the index.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/pg_class.h"
#include "commands/event_trigger.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_utilcmd.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

#include "catalog/retention.h"
#include "compat.h"
#include "ddl/identity.h"
#include "ddl/retention.h"
#include "plan/derived_time.h"

static IndexStmt *index_statement(const CqView *view, const CqRowTime *time);
static void drop_index(const CqView *view);

void
cq_retention_check(const CqPlan *plan, const char *view_name)
{
	bool windows = plan->window.kind != CQ_WINDOW_NONE && plan->window.kind != CQ_WINDOW_COUNT;
	CqRowTime time;

	if (cq_row_time(plan, &time))
		return;
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("continuous view \"%s\" cannot use retention", view_name),
			windows || plan->shape == CQ_SHAPE_APPEND
				? errdetail("Its rows do not show how old they are.")
				: errdetail("Its rows have no time after which they are old."),
			windows ? errhint("Let the query show the window, or its end, as a column.")
			: plan->shape == CQ_SHAPE_APPEND
				? errhint("Let the query show the stream's event time as a column.")
				: errhint("Group by a window of event time, such as pipeline.tumble()."));
}

void
cq_retention_create_index(const CqView *view, const CqPlan *plan)
{
	CqIdentity saved;
	CqRowTime time;

	if (!cq_row_time(plan, &time))
		elog(ERROR, "rows of the view have no time");
	EventTriggerInhibitCommandCollection();
	PG_TRY();
	{
		cq_identity_system(&saved);
		(void) cq_compat_define_index(view->result,
									  transformIndexStmt(view->result,
														 index_statement(view, &time),
														 NULL),
									  false);
		cq_identity_restore(&saved);
	}
	PG_FINALLY();
	{
		EventTriggerUndoInhibitCommandCollection();
	}
	PG_END_TRY();
	CommandCounterIncrement();
}

/* CREATE INDEX ... ON pipeline_data.t_N (cN), or (upper(cN)) */
static IndexStmt *
index_statement(const CqView *view, const CqRowTime *time)
{
	IndexStmt *stmt = makeNode(IndexStmt);
	IndexElem *element = makeNode(IndexElem);
	char *name = psprintf("c%d", time->column);

	element->ordering = SORTBY_DEFAULT;
	element->nulls_ordering = SORTBY_NULLS_DEFAULT;
	if (OidIsValid(time->range_type))
	{
		ColumnRef *column = makeNode(ColumnRef);

		column->fields = list_make1(makeString(name));
		column->location = -1;
		element->expr =
			(Node *) makeFuncCall(list_make2(makeString("pg_catalog"), makeString("upper")),
								  list_make1(column),
								  COERCE_EXPLICIT_CALL,
								  -1);
	}
	else
		element->name = name;
	stmt->idxname = cq_retention_index_name(view->id);
	stmt->relation = makeRangeVar(get_namespace_name(get_rel_namespace(view->result)),
								  get_rel_name(view->result),
								  -1);
	stmt->accessMethod = pstrdup("btree");
	stmt->indexParams = list_make1(element);
	return stmt;
}

void
cq_retention_altered(const CqView *view, const CqViewOptions *options)
{
	CqPlan *plan;

	if (options->retention_us < 0)
	{
		drop_index(view);
		return;
	}
	plan = cq_identity_plan(view);
	cq_retention_check(plan, get_rel_name(view->view));
	LockRelationOid(view->result, ShareLock);
	if (!OidIsValid(cq_retention_index(view->id, view->result)))
		cq_retention_create_index(view, plan);
}

static void
drop_index(const CqView *view)
{
	ObjectAddress object;
	Oid index;

	LockRelationOid(view->result, AccessExclusiveLock);
	index = cq_retention_index(view->id, view->result);
	if (!OidIsValid(index))
		return;
	ObjectAddressSet(object, RelationRelationId, index);
	performDeletion(&object, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	CommandCounterIncrement();
}
