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
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "catalog/rows.h"
#include "compat.h"
#include "ddl/family.h"
#include "ddl/handlers.h"
#include "ddl/parts.h"
#include "ddl/readers.h"
#include "ddl/view_options.h"

static Oid relation_of(const RangeVar *name);
static bool is_continuous(Oid relid);
static bool is_late_table(Oid relid);
static void refuse_options_elsewhere(const AlterTableStmt *stmt);
static void refuse_new_types(Oid relid, const AlterTableStmt *stmt);
static void refuse_new_attributes(Oid relid, const AlterTableStmt *stmt);
static void check_new_children(Oid relid, const AlterTableStmt *stmt);

void
cq_alter_table(CqUtility *utility)
{
	AlterTableStmt *stmt = (AlterTableStmt *) utility->pstmt->utilityStmt;
	Oid relid = relation_of(stmt->relation);
	List *streams;

	if (is_continuous(relid))
	{
		cq_alter_view(utility, relid);
		return;
	}
	if (!OidIsValid(relid) && cq_alter_index(utility))
		return;
	if (OidIsValid(relid))
	{
		refuse_options_elsewhere(stmt);
		refuse_new_types(relid, stmt);
		refuse_new_attributes(relid, stmt);
	}
	streams = cq_family_streams(relid);
	if (streams != NIL)
		cq_alter_streams(utility, streams);
	else if (is_late_table(relid))
		cq_alter_late_table(utility, relid);
	else
		cq_utility_next(utility);
	check_new_children(relid, stmt);
}

void
cq_rename(CqUtility *utility)
{
	RenameStmt *stmt = (RenameStmt *) utility->pstmt->utilityStmt;
	List *streams = NIL;
	Oid relid;

	if (stmt->renameType == OBJECT_DATABASE)
	{
		cq_rename_database(utility);
		return;
	}
	relid = relation_of(stmt->relation);
	cq_refuse_renaming(stmt->renameType, relid, stmt->object, stmt->subname);
	if (stmt->renameType == OBJECT_COLUMN)
		streams = cq_family_streams(relid);
	if (streams != NIL)
		cq_rename_stream_columns(utility, streams);
	else if ((stmt->renameType == OBJECT_VIEW || stmt->renameType == OBJECT_TABLE) &&
			 is_continuous(relid))
		cq_rename_view(utility, relid);
	else if (OidIsValid(relid) || stmt->renameType != OBJECT_INDEX || !cq_rename_index(utility))
		cq_utility_next(utility);
}

void
cq_set_schema(CqUtility *utility)
{
	AlterObjectSchemaStmt *stmt = (AlterObjectSchemaStmt *) utility->pstmt->utilityStmt;
	Oid relid = relation_of(stmt->relation);

	cq_refuse_renaming(stmt->objectType, relid, stmt->object, NULL);
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

/* PostgreSQL refuses it, too, but names the hidden view. */
static void
refuse_new_types(Oid relid, const AlterTableStmt *stmt)
{
	ListCell *lc;

	foreach (lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);
		AttrNumber attnum;
		List *readers;

		if (cmd->subtype != AT_AlterColumnType || !cq_extension_exists() ||
			!cq_compat_owns_relation(relid, GetUserId()))
			continue;
		attnum = get_attnum(relid, cmd->name);
		readers = attnum > 0 ? cq_readers(RelationRelationId, relid, attnum, false) : NIL;
		if (readers != NIL)
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot alter type of column \"%s\", which a continuous view reads",
						   cmd->name),
					errdetail("Continuous view \"%s\" was planned for the type that it has, and "
							  "keeps values of it.",
							  get_rel_name(linitial_oid(readers))),
					errhint("Add a column of the new type and create another view that reads it, "
							"or drop the view and create it again."));
	}
}

/* Values in groups' keys would not be equal any more to those of events that come. */
static void
refuse_new_attributes(Oid relid, const AlterTableStmt *stmt)
{
	List *readers;

	if (get_rel_relkind(relid) != RELKIND_COMPOSITE_TYPE || !cq_extension_exists() ||
		!cq_compat_owns_relation(relid, GetUserId()))
		return;
	readers = cq_readers_of_type(get_rel_type_id(relid));
	if (readers != NIL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("cannot alter attributes of type \"%s\"", stmt->relation->relname),
				errdetail("Continuous view \"%s\" reads values of it, and keeps some.",
						  get_rel_name(linitial_oid(readers))),
				errhint("Create another type, a column of it, and a view that reads that column."));
}

static void
check_new_children(Oid relid, const AlterTableStmt *stmt)
{
	ListCell *lc;

	foreach (lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype == AT_AddInherit)
			cq_family_check(relid);
		else if (cmd->subtype == AT_AttachPartition)
			cq_family_check(relation_of(((PartitionCmd *) cmd->def)->name));
	}
}
