/*
 * check.c
 *	  Arguments and rights of functions callable from SQL.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "api/check.h"
#include "compat.h"
#include "ddl/parts.h"
#include "monitor/slots.h"

static void view_load(Oid relid, CqView *view, CqTask *task);

void
cq_api_readable_view(Oid relid, CqView *view, CqTask *task)
{
	AclResult result;

	view_load(relid, view, task);
	result = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_VIEW, get_rel_name(relid));
}

void
cq_api_own_view(Oid relid, CqView *view, CqTask *task)
{
	view_load(relid, view, task);
	if (!cq_compat_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_VIEW, get_rel_name(relid));
}

static void
view_load(Oid relid, CqView *view, CqTask *task)
{
	char *name = get_rel_name(relid);

	cq_require_preload();
	if (name == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation with OID %u does not exist", relid));
	if (!cq_parts_find(relid, view))
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is not a continuous view", name),
				errhint("All continuous views are listed in pipeline.views."));
	if (!cq_task_load(view->id, task))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("continuous view \"%s\" has no task", name),
				errhint(
					"It was dropped meanwhile, or somebody changed the tables of pipeline_data."));
}
