/*
 * alter.c
 *	  Finds out what an ALTER is about and sends it on.
 *
 * The grammar accepts ALTER TABLE for views and foreign tables as well, so
 * only the relation tells.  Its name is looked up without a lock here;
 * PostgreSQL looks it up again, locks, and checks rights.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"

#include "catalog/rows.h"
#include "ddl/handlers.h"
#include "ddl/parts.h"
#include "ddl/view_options.h"
#include "source/stream.h"

static Oid relation_of(const RangeVar *name);
static bool is_continuous(Oid relid);
static bool is_stream(Oid relid);
static bool is_late_table(Oid relid);
static void refuse_options_elsewhere(const AlterTableStmt *stmt);

void
cq_alter_table(CqUtility *utility)
{
	AlterTableStmt *stmt = (AlterTableStmt *) utility->pstmt->utilityStmt;
	Oid relid = relation_of(stmt->relation);

	if (is_continuous(relid))
	{
		cq_alter_view(utility, relid);
		return;
	}
	refuse_options_elsewhere(stmt);
	if (is_stream(relid))
		cq_alter_stream(utility, relid);
	else if (is_late_table(relid))
		cq_alter_late_table(utility, relid);
	else
		cq_utility_next(utility);
}

void
cq_rename(CqUtility *utility)
{
	RenameStmt *stmt = (RenameStmt *) utility->pstmt->utilityStmt;
	Oid relid;

	if (stmt->renameType == OBJECT_DATABASE)
	{
		cq_rename_database(utility);
		return;
	}
	relid = relation_of(stmt->relation);
	if (stmt->renameType == OBJECT_COLUMN && is_stream(relid))
		cq_rename_stream_column(utility, relid);
	else if ((stmt->renameType == OBJECT_VIEW || stmt->renameType == OBJECT_TABLE) &&
			 is_continuous(relid))
		cq_rename_view(utility, relid);
	else
		cq_utility_next(utility);
}

void
cq_set_schema(CqUtility *utility)
{
	AlterObjectSchemaStmt *stmt = (AlterObjectSchemaStmt *) utility->pstmt->utilityStmt;
	Oid relid = relation_of(stmt->relation);

	if ((stmt->objectType == OBJECT_VIEW || stmt->objectType == OBJECT_TABLE) &&
		is_continuous(relid))
		cq_move_view(utility, relid);
	else
		cq_utility_next(utility);
}

static Oid
relation_of(const RangeVar *name)
{
	return name ? RangeVarGetRelid(name, NoLock, true) : InvalidOid;
}

static bool
is_continuous(Oid relid)
{
	CqView view;

	return cq_parts_find(relid, &view);
}

static bool
is_stream(Oid relid)
{
	return OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE &&
		   cq_extension_exists() && cq_is_stream(relid);
}

static bool
is_late_table(Oid relid)
{
	CqView view;

	return OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_RELATION &&
		   cq_extension_exists() && cq_parts_find(cq_parts_view_of(relid), &view) &&
		   view.late == relid;
}

/* PostgreSQL would call the namespace unknown, although only the relation is wrong. */
static void
refuse_options_elsewhere(const AlterTableStmt *stmt)
{
	ListCell *lc;

	foreach (lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);
		List *ours;
		List *others;

		if (cmd->subtype != AT_SetRelOptions && cmd->subtype != AT_ResetRelOptions)
			continue;
		cq_view_options_split((List *) cmd->def, &ours, &others);
		if (ours != NIL)
			ereport(
				ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is not a continuous view", stmt->relation->relname),
				errhint(
					"A continuous view is made by CREATE VIEW ... WITH (pipeline.continuous)."));
	}
}
