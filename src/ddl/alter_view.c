/*
 * alter_view.c
 *	  What is altered of a continuous view is carried to what lies beneath it.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog/rows.h"
#include "compat.h"
#include "ddl/handlers.h"
#include "ddl/identity.h"
#include "ddl/limits.h"
#include "ddl/parts.h"
#include "ddl/retention.h"
#include "ddl/shards.h"
#include "ddl/view_options.h"
#include "monitor/slots.h"
#include "plan/plan.h"

/* What an ALTER VIEW wants of us, and what of it is left for PostgreSQL. */
typedef struct AlterParts
{
	List *set;	 /* DefElem */
	List *reset; /* DefElem */
	List *rest;	 /* AlterTableCmd */
	bool owner;
} AlterParts;

static void sort_commands(const CqView *view, List *cmds, AlterParts *parts);
static void alter_options(const CqView *view, const AlterParts *parts);
static void check_alterable(const CqView *view, List *options);
static List *without(List *given, const char *name);
static void owner_changed(const CqView *view);
static void name_new_owner(void *arg);

void
cq_alter_view(CqUtility *utility, Oid relid)
{
	AlterTableStmt *stmt = copyObject((AlterTableStmt *) utility->pstmt->utilityStmt);
	AlterParts parts = {0};
	CqView view;

	PreventCommandIfReadOnly("ALTER VIEW");
	PreventCommandDuringRecovery("ALTER VIEW");
	if (!cq_compat_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_VIEW, get_rel_name(relid));
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	if (!cq_parts_find(relid, &view))
		cq_view_gone(stmt->relation->relname);
	sort_commands(&view, stmt->cmds, &parts);
	if (parts.set != NIL || parts.reset != NIL)
		alter_options(&view, &parts);
	if (parts.rest == NIL)
	{
		cq_utility_done(utility, CMDTAG_ALTER_VIEW);
		return;
	}
	stmt->cmds = parts.rest;
	cq_utility_next_instead(utility, (Node *) stmt);
	CommandCounterIncrement();
	if (parts.owner)
		owner_changed(&view);
}

static void
sort_commands(const CqView *view, List *cmds, AlterParts *parts)
{
	ListCell *lc;

	foreach (lc, cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);
		List *ours = NIL;
		List *others = NIL;

		if (cmd->subtype == AT_ChangeOwner)
			parts->owner = true;
		if (cmd->subtype == AT_AddColumn)
			ereport(ERROR,
					errcode(ERRCODE_WRONG_OBJECT_TYPE),
					errmsg("cannot add a column to continuous view \"%s\" by ALTER TABLE",
						   get_rel_name(view->view)),
					errhint("Call pipeline.alter() with the query that has the column."));
		if (cmd->subtype == AT_SetRelOptions || cmd->subtype == AT_ResetRelOptions)
		{
			cq_view_options_split((List *) cmd->def, &ours, &others);
			if (cmd->subtype == AT_SetRelOptions)
			{
				parts->set = list_concat(parts->set, ours);
				cq_view_options_check_others(others, get_rel_name(view->view));
			}
			else
				parts->reset = list_concat(parts->reset, ours);
			if (others == NIL)
				continue;
			cmd->def = (Node *) others;
		}
		parts->rest = lappend(parts->rest, cmd);
	}
}

static void
alter_options(const CqView *view, const AlterParts *parts)
{
	const char *name = get_rel_name(view->view);
	List *given = list_copy(view->options.given);
	CqViewOptions options;
	List *changes;
	int continuous;
	ListCell *lc;

	check_alterable(view, parts->set);
	check_alterable(view, parts->reset);
	changes = cq_view_options_strings(parts->set, &continuous);
	foreach (lc, parts->set)
		given = without(given, lfirst_node(DefElem, lc)->defname);
	foreach (lc, parts->reset)
	{
		cq_view_option_check(lfirst_node(DefElem, lc)->defname, name);
		given = without(given, lfirst_node(DefElem, lc)->defname);
	}
	given = list_concat(given, changes);

	cq_view_options_parse(given, name, &options);
	if (options.store_late && !view->options.store_late && !OidIsValid(view->late))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("late rows of continuous view \"%s\" cannot be stored", name),
				errdetail("The view was created without a table for them."),
				errhint("Drop the view and create it again."));
	if (options.emit_interval_us > 0 || options.notify)
		cq_view_options_check_plan(&options, cq_identity_plan(view), name);
	if ((options.retention_us >= 0) != (view->options.retention_us >= 0))
		cq_retention_altered(view, &options);
	cq_view_set_options(view->id, given);
	cq_shards_alter(view, options.workers);
	cq_shards_at_commit(CQ_SLOT_CHANGED, view->id);
}

/* What state and results depend on stays as it was at creation. */
static void
check_alterable(const CqView *view, List *options)
{
	static const char *const fixed[] =
		{"continuous", "allowed_lateness", "emit", "keep_closed", "start", "late_table"};
	ListCell *lc;
	int i;

	foreach (lc, options)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		for (i = 0; i < lengthof(fixed); i++)
			if (strcmp(option->defname, fixed[i]) == 0)
				ereport(
					ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("option \"pipeline.%s\" of continuous view \"%s\" cannot be altered",
						   option->defname,
						   get_rel_name(view->view)),
					errhint(
						"These can: checkpoint_interval, emit_interval, late, late_retention, "
						"notify, retention, workers. For others create another view beside it, or in its place."));
	}
}

static List *
without(List *given, const char *name)
{
	size_t length = strlen(name);
	List *kept = NIL;
	ListCell *lc;

	foreach (lc, given)
	{
		const char *string = lfirst(lc);

		if (strncmp(string, name, length) != 0 || string[length] != '=')
			kept = lappend(kept, lfirst(lc));
	}
	return kept;
}

/* The new owner's rights are what batches run with from now on, so they must suffice. */
static void
owner_changed(const CqView *view)
{
	Oid owner = cq_parts_owner(view->view);
	ErrorContextCallback context;
	CqIdentity saved;

	cq_limits_check_owner(owner, get_rel_name(view->view));
	cq_parts_change_owner(view, owner);
	context.callback = name_new_owner;
	context.arg = &owner;
	context.previous = error_context_stack;
	error_context_stack = &context;
	cq_identity_owner(owner, view->settings, &saved);
	cq_identity_check_rights(cq_plan_stored_query(view->query), "");
	cq_identity_restore(&saved);
	error_context_stack = context.previous;
	cq_shards_at_commit(CQ_SLOT_CHANGED, view->id);
}

static void
name_new_owner(void *arg)
{
	errcontext("the view's query as the new owner, role \"%s\"",
			   GetUserNameFromId(*(const Oid *) arg, true));
}

/* The table for late rows is renamed along if it is still called after the view. */
void
cq_rename_view(CqUtility *utility, Oid relid)
{
	char *old_name = get_rel_name(relid);
	char *late_name;
	CqView view;

	cq_utility_next(utility);
	CommandCounterIncrement();
	if (!cq_parts_find(relid, &view))
		return;
	cq_shards_at_commit(CQ_SLOT_CHANGED, view.id);
	late_name = OidIsValid(view.late) ? get_rel_name(view.late) : NULL;
	if (late_name == NULL || strcmp(late_name, cq_parts_late_name(old_name)) != 0)
		return;
	RenameRelationInternal(view.late, cq_parts_late_name(get_rel_name(relid)), true, false);
	CommandCounterIncrement();
}

/* And it moves along if it is still beside the view. */
void
cq_move_view(CqUtility *utility, Oid relid)
{
	Oid old_schema = get_rel_namespace(relid);
	Oid new_schema;
	ObjectAddresses *moved;
	Relation late;
	CqView view;

	cq_utility_next(utility);
	CommandCounterIncrement();
	new_schema = get_rel_namespace(relid);
	if (new_schema == old_schema || !cq_parts_find(relid, &view))
		return;
	cq_shards_at_commit(CQ_SLOT_CHANGED, view.id);
	if (!OidIsValid(view.late) || get_rel_namespace(view.late) != old_schema)
		return;
	moved = new_object_addresses();
	late = relation_open(view.late, AccessExclusiveLock);
	AlterTableNamespaceInternal(late, old_schema, new_schema, moved);
	relation_close(late, NoLock);
	free_object_addresses(moved);
	CommandCounterIncrement();
}

/* The worker writes to this table by its columns, as the view's owner. */
void
cq_alter_late_table(CqUtility *utility, Oid table)
{
	AlterTableStmt *stmt = (AlterTableStmt *) utility->pstmt->utilityStmt;
	char *view_name = get_rel_name(cq_parts_view_of(table));
	ListCell *lc;

	foreach (lc, stmt->cmds)
	{
		switch (lfirst_node(AlterTableCmd, lc)->subtype)
		{
			case AT_AddColumn:
			case AT_DropColumn:
			case AT_AlterColumnType:
			case AT_SetNotNull:
			case AT_AddConstraint:
				ereport(ERROR,
						errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("columns and constraints of table \"%s\" cannot be changed",
							   stmt->relation->relname),
						errdetail("Late rows of continuous view \"%s\" are written to it.",
								  view_name));
				break;
			case AT_SetUnLogged:
				ereport(ERROR,
						errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("table \"%s\" cannot be unlogged", stmt->relation->relname),
						errdetail("A crash would lose late rows of continuous view \"%s\", which "
								  "are counted.",
								  view_name));
				break;
			case AT_ChangeOwner:
				ereport(ERROR,
						errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("owner of table \"%s\" cannot be changed", stmt->relation->relname),
						errdetail("It belongs to the owner of continuous view \"%s\".", view_name),
						errhint("Change the owner of the view; the table follows."));
				break;
			default:
				break;
		}
	}
	cq_utility_next(utility);
}

/* Parts have the view's owner and so go along; workers must hear of it. */
void
cq_reassign_owned(CqUtility *utility)
{
	ListCell *lc;

	cq_utility_next(utility);
	if (!cq_extension_exists())
		return;
	CommandCounterIncrement();
	foreach (lc, cq_tasks_running())
		cq_slots_at_commit(CQ_SLOT_CHANGED, *(int64 *) lfirst(lc));
}
