/*
 * drop.c
 *	  What goes away with a continuous view or with the extension.
 *
 * Relations of a view are dropped by their dependencies (parts.c).  What
 * dependencies cannot reach, its rows in our tables and its slot in shared
 * memory, is dropped here: by an object access hook and not by statement,
 * because a view can be dropped by CASCADE from anything that it reads, by
 * DROP SCHEMA or by DROP OWNED.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"

#include "catalog/rows.h"
#include "ddl/drop.h"
#include "ddl/handlers.h"
#include "ddl/shards.h"
#include "monitor/slots.h"

static void drop_hook(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg);
static void view_dropped(Oid relid);
static void extension_dropped(Oid extension);

static object_access_hook_type previous_hook;

void
cq_drop_hook_install(void)
{
	previous_hook = object_access_hook;
	object_access_hook = drop_hook;
}

static void
drop_hook(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (previous_hook)
		previous_hook(access, class_id, object_id, sub_id, arg);
	if (access != OAT_DROP || sub_id != 0)
		return;
	if (class_id == RelationRelationId && get_rel_relkind(object_id) == RELKIND_VIEW)
		view_dropped(object_id);
	else if (class_id == ExtensionRelationId)
		extension_dropped(object_id);
}

/*
 * A view is dropped, ours or not.  DROP EXTENSION ... CASCADE may have dropped
 * our tables already; it forgets all slots by itself.
 */
static void
view_dropped(Oid relid)
{
	CqView view;

	if (!cq_extension_exists() ||
		!OidIsValid(get_relname_relid("views", get_namespace_oid("pipeline_data", true))))
		return;
	if (!cq_view_load_by_oid(relid, &view))
		return;
	cq_shards_at_commit(CQ_SLOT_REMOVE, view.id);
	cq_view_delete(view.id);
}

static void
extension_dropped(Oid extension)
{
	char *name = get_extension_name(extension);

	if (name && strcmp(name, "pipeline_ext") == 0)
		cq_slots_at_commit(CQ_SLOT_REMOVE_DATABASE, 0);
}

/* Workers wait for objects of the library's version, or must see that they are not any more. */
void
cq_alter_extension(CqUtility *utility)
{
	AlterExtensionStmt *stmt = (AlterExtensionStmt *) utility->pstmt->utilityStmt;
	bool ours = strcmp(stmt->extname, "pipeline_ext") == 0;

	cq_utility_next(utility);
	if (ours)
		cq_slots_at_commit(CQ_SLOT_PROBE, 0);
}

/* A restored or copied database brings tasks of its own. */
void
cq_create_extension(CqUtility *utility)
{
	CreateExtensionStmt *stmt = (CreateExtensionStmt *) utility->pstmt->utilityStmt;
	bool ours = strcmp(stmt->extname, "pipeline_ext") == 0;

	cq_utility_next(utility);
	if (ours)
		cq_slots_at_commit(CQ_SLOT_PROBE, 0);
}
