/*
 * index.c
 *	  Indexes of a continuous view: CREATE, ALTER, REINDEX, COMMENT ON and DROP INDEX.
 *
 * An index that a user makes on a view is made on the table beneath it: column
 * names are those of the view, and become c1 .. cn.  It stands in the hidden
 * schema, as every index stands in the schema of its table, and so all other
 * commands have to be helped to find it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/comment.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_utilcmd.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/feeds.h"
#include "catalog/retention.h"
#include "catalog/rows.h"
#include "compat.h"
#include "ddl/handlers.h"
#include "ddl/identity.h"
#include "ddl/parts.h"
#include "plan/plan.h"

/* What is found out about an index while its columns are renamed. */
typedef struct Renaming
{
	const CqView *view;
	StringInfoData name; /* columns, for the index's name */
	int last_column;	 /* of the result table that it reads */
} Renaming;

static void refuse_unique_on_late(Oid relid);
static void check_index(const CqView *view, const IndexStmt *stmt);
static void check_owner(const CqView *view, const char *index_name);
static void check_alter(const AlterTableStmt *stmt, const CqView *view);
static void check_reindex(const ReindexStmt *stmt, const CqView *view);
static void rename_elements(List *elements, Renaming *renaming);
static bool rename_references(Node *node, void *context);
static char *stored_name(Renaming *renaming, const char *name);
static void check_index_tablespace(const IndexStmt *stmt);
static void tell_cost(const CqView *view, int last_column);
static Oid hidden_index(const RangeVar *name, CqView *view);
static void drop_hidden_index(const RangeVar *name, Oid index, const CqView *view,
							  const DropStmt *stmt);

void
cq_create_index(CqUtility *utility)
{
	IndexStmt *stmt = (IndexStmt *) utility->pstmt->utilityStmt;
	Renaming renaming = {0};
	CqView view;
	Oid relid = stmt->relation ? RangeVarGetRelid(stmt->relation, NoLock, true) : InvalidOid;

	if (!cq_parts_find(relid, &view))
	{
		if (stmt->unique)
			refuse_unique_on_late(relid);
		cq_utility_next(utility);
		return;
	}
	PreventCommandIfReadOnly("CREATE INDEX");
	PreventCommandDuringRecovery("CREATE INDEX");
	check_index(&view, stmt);
	LockRelationOid(view.result, ShareLock);

	stmt = copyObject(stmt);
	renaming.view = &view;
	initStringInfo(&renaming.name);
	rename_elements(stmt->indexParams, &renaming);
	rename_elements(stmt->indexIncludingParams, &renaming);
	(void) rename_references(stmt->whereClause, &renaming);
	if (stmt->idxname == NULL)
		stmt->idxname = ChooseRelationName(get_rel_name(view.view),
										   renaming.name.data,
										   "idx",
										   get_rel_namespace(view.result),
										   false);
	stmt->relation = makeRangeVar(get_namespace_name(get_rel_namespace(view.result)),
								  get_rel_name(view.result),
								  -1);
	stmt = transformIndexStmt(view.result, stmt, utility->query_string);
	check_index_tablespace(stmt);
	(void) cq_compat_define_index(view.result, stmt, false);
	CommandCounterIncrement();
	tell_cost(&view, renaming.last_column);
	cq_utility_done(utility, CMDTAG_CREATE_INDEX);
}

static void
refuse_unique_on_late(Oid relid)
{
	CqView view;

	if (OidIsValid(relid) && cq_extension_exists() &&
		cq_parts_find(cq_parts_view_of(relid), &view) && view.late == relid)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot create unique index on table \"%s\"", get_rel_name(relid)),
				errdetail("A late row that violated it would stop continuous view \"%s\".",
						  get_rel_name(view.view)),
				errhint("Leave UNIQUE out."));
}

static void
check_index(const CqView *view, const IndexStmt *stmt)
{
	const char *name = get_rel_name(view->view);

	if (!cq_compat_owns_relation(view->view, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_VIEW, name);
	if (stmt->unique || stmt->primary || stmt->excludeOpNames != NIL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot create unique index on continuous view \"%s\"", name),
				errdetail("A row that violated it would stop the view."),
				errhint("Leave UNIQUE out; groups are unique by their GROUP BY columns."));
	if (stmt->concurrent)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot create index on continuous view \"%s\" concurrently", name),
				errhint("Leave CONCURRENTLY out; the view waits meanwhile and loses nothing."));
}

static void
rename_elements(List *elements, Renaming *renaming)
{
	ListCell *lc;

	foreach (lc, elements)
	{
		IndexElem *element = lfirst_node(IndexElem, lc);

		if (element->name)
			element->name = stored_name(renaming, element->name);
		else
			(void) rename_references(element->expr, renaming);
	}
}

/* Rename columns in an expression as parsed, in place: col, or view.col. */
static bool
rename_references(Node *node, void *context)
{
	Renaming *renaming = context;

	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))
	{
		ColumnRef *ref = (ColumnRef *) node;
		Node *last = llast(ref->fields);
		bool qualified =
			list_length(ref->fields) == 2 && IsA(linitial(ref->fields), String) &&
			strcmp(strVal(linitial(ref->fields)), get_rel_name(renaming->view->view)) == 0;

		if (!IsA(last, String) || (list_length(ref->fields) > 1 && !qualified))
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg(
						"an index on a continuous view must name the view's columns one by one"));
		ref->fields = list_make1(makeString(stored_name(renaming, strVal(last))));
		return false;
	}
	return raw_expression_tree_walker(node, rename_references, context);
}

static char *
stored_name(Renaming *renaming, const char *name)
{
	const CqView *view = renaming->view;
	AttrNumber attnum = get_attnum(view->view, name);
	AttrNumber stored;

	if (attnum <= 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("column \"%s\" of continuous view \"%s\" does not exist",
					   name,
					   get_rel_name(view->view)));
	stored = cq_parts_stored_column(view, attnum);
	if (stored == 0)
		ereport(
			ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("cannot create index on column \"%s\" of continuous view \"%s\"",
				   name,
				   get_rel_name(view->view)),
			errdetail("The column is not stored: it is computed when the view is read."),
			errhint(
				"Create the index on columns that the view shows as they are grouped or aggregated."));
	appendStringInfo(&renaming->name, "%s%s", renaming->name.len > 0 ? "_" : "", name);
	renaming->last_column = Max(renaming->last_column, stored);
	return get_attname(view->result, stored, false);
}

/* DefineIndex() is told not to check rights, since nobody has any on the hidden schema. */
static void
check_index_tablespace(const IndexStmt *stmt)
{
	Oid tablespace = stmt->tableSpace ? get_tablespace_oid(stmt->tableSpace, false)
									  : GetDefaultTablespace(RELPERSISTENCE_PERMANENT, false);
	AclResult result;

	if (!OidIsValid(tablespace) || tablespace == MyDatabaseTableSpace)
		return;
	result = cq_compat_tablespace_aclcheck(tablespace, GetUserId(), ACL_CREATE);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_TABLESPACE, get_tablespace_name(tablespace));
}

/*
 * Rows of a view that shows changes are updated in place without touching any
 * index, unless an index holds what changes.  Keys stand first in the table.
 */
static void
tell_cost(const CqView *view, int last_column)
{
	CqPlan *plan = cq_identity_plan(view);

	if (plan->emit == CQ_EMIT_CHANGES && !plan->replaced && last_column > plan->nkeys)
		ereport(
			NOTICE,
			errmsg("index holds a column that changes with each event"),
			errdetail(
				"Every change of a row of continuous view \"%s\" now writes to all its indexes, not only to the row.",
				get_rel_name(view->view)),
			errhint("An index on GROUP BY columns alone costs nothing when rows change."));
}

void
cq_drop_index(CqUtility *utility)
{
	DropStmt *stmt = (DropStmt *) utility->pstmt->utilityStmt;
	List *others = NIL;
	DropStmt *rest;
	ListCell *lc;

	if (cq_skip_trigger(utility))
		return;
	if (stmt->removeType != OBJECT_INDEX || !cq_extension_exists())
	{
		cq_utility_next(utility);
		return;
	}
	foreach (lc, stmt->objects)
	{
		RangeVar *name = makeRangeVarFromNameList(lfirst(lc));
		CqView view;
		Oid index = hidden_index(name, &view);

		if (OidIsValid(index))
			drop_hidden_index(name, index, &view, stmt);
		else
			others = lappend(others, lfirst(lc));
	}
	if (others == NIL)
	{
		cq_utility_done(utility, CMDTAG_DROP_INDEX);
		return;
	}
	rest = copyObject(stmt);
	rest->objects = copyObject(others);
	cq_utility_next_instead(utility, (Node *) rest);
}

bool
cq_alter_index(CqUtility *utility)
{
	AlterTableStmt *stmt = (AlterTableStmt *) utility->pstmt->utilityStmt;
	CqView view;
	Oid index = hidden_index(stmt->relation, &view);

	if (!OidIsValid(index))
		return false;
	check_owner(&view, stmt->relation->relname);
	check_alter(stmt, &view);
	PreventCommandIfReadOnly("ALTER INDEX");
	PreventCommandDuringRecovery("ALTER INDEX");
	AlterTableInternal(index, copyObject(stmt->cmds), false);
	CommandCounterIncrement();
	cq_utility_done(utility, CMDTAG_ALTER_INDEX);
	return true;
}

static void
check_alter(const AlterTableStmt *stmt, const CqView *view)
{
	ListCell *lc;

	foreach (lc, stmt->cmds)
	{
		switch (lfirst_node(AlterTableCmd, lc)->subtype)
		{
			case AT_SetRelOptions:
			case AT_ResetRelOptions:
			case AT_SetTableSpace:
			case AT_SetStatistics:
				break;
			default:
				ereport(ERROR,
						errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot alter index \"%s\" of continuous view \"%s\" in this way",
							   stmt->relation->relname,
							   get_rel_name(view->view)),
						errhint("RENAME, SET, RESET, SET TABLESPACE and SET STATISTICS are "
								"possible."));
		}
	}
}

bool
cq_rename_index(CqUtility *utility)
{
	RenameStmt *stmt = (RenameStmt *) utility->pstmt->utilityStmt;
	CqView view;
	Oid index = hidden_index(stmt->relation, &view);

	if (!OidIsValid(index))
		return false;
	check_owner(&view, stmt->relation->relname);
	PreventCommandIfReadOnly("ALTER INDEX");
	PreventCommandDuringRecovery("ALTER INDEX");
	RenameRelationInternal(index, stmt->newname, false, true);
	CommandCounterIncrement();
	cq_utility_done(utility, CMDTAG_ALTER_INDEX);
	return true;
}

void
cq_comment(CqUtility *utility)
{
	CommentStmt *stmt = (CommentStmt *) utility->pstmt->utilityStmt;
	CqView view;
	RangeVar *name;
	Oid index;

	if (stmt->objtype != OBJECT_INDEX)
	{
		cq_utility_next(utility);
		return;
	}
	name = makeRangeVarFromNameList(castNode(List, stmt->object));
	index = hidden_index(name, &view);
	if (!OidIsValid(index))
	{
		cq_utility_next(utility);
		return;
	}
	check_owner(&view, name->relname);
	PreventCommandIfReadOnly("COMMENT");
	PreventCommandDuringRecovery("COMMENT");
	CreateComments(index, RelationRelationId, 0, stmt->comment);
	cq_utility_done(utility, CMDTAG_COMMENT);
}

void
cq_reindex(CqUtility *utility)
{
	ReindexStmt *stmt = (ReindexStmt *) utility->pstmt->utilityStmt;
	Oid index = InvalidOid;
	bool found = false;
	CqView view;

	if (stmt->relation && stmt->kind == REINDEX_OBJECT_INDEX)
	{
		index = hidden_index(stmt->relation, &view);
		found = OidIsValid(index);
	}
	else if (stmt->relation && stmt->kind == REINDEX_OBJECT_TABLE)
		found = cq_parts_find(RangeVarGetRelid(stmt->relation, NoLock, true), &view);
	if (!found)
	{
		cq_utility_next(utility);
		return;
	}
	check_owner(&view, stmt->relation->relname);
	check_reindex(stmt, &view);
	PreventCommandIfReadOnly("REINDEX");
	PreventCommandDuringRecovery("REINDEX");
	if (OidIsValid(index))
		cq_compat_reindex_index(stmt, index);
	else
		cq_compat_reindex_table(stmt, view.result);
	CommandCounterIncrement();
	cq_utility_done(utility, CMDTAG_REINDEX);
}

static void
check_reindex(const ReindexStmt *stmt, const CqView *view)
{
	ListCell *lc;

	foreach (lc, stmt->params)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "verbose") == 0 ||
			(strcmp(option->defname, "concurrently") == 0 && !defGetBoolean(option)))
			continue;
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot reindex continuous view \"%s\" with the option \"%s\"",
					   get_rel_name(view->view),
					   option->defname),
				errhint("Leave the option out; the view waits meanwhile and loses nothing."));
	}
}

static void
check_owner(const CqView *view, const char *index_name)
{
	if (!cq_compat_owns_relation(view->view, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_INDEX, index_name);
}

/* The index of that name beneath a view that the name would find, if nothing else has the name. */
static Oid
hidden_index(const RangeVar *name, CqView *view)
{
	Oid hidden = get_namespace_oid("pipeline_data", true);
	Oid index = OidIsValid(hidden) ? get_relname_relid(name->relname, hidden) : InvalidOid;

	if (!OidIsValid(index) || get_rel_relkind(index) != RELKIND_INDEX ||
		OidIsValid(RangeVarGetRelid(name, NoLock, true)))
		return InvalidOid;
	if (!cq_parts_find(cq_parts_view_of(IndexGetRelation(index, false)), view) ||
		index == cq_retention_index(view->id, view->result))
		return InvalidOid;
	if (name->schemaname
			? get_namespace_oid(name->schemaname, true) != get_rel_namespace(view->view)
			: !RelationIsVisible(view->view))
		return InvalidOid;
	return index;
}

static void
drop_hidden_index(const RangeVar *name, Oid index, const CqView *view, const DropStmt *stmt)
{
	ObjectAddress object;

	check_owner(view, name->relname);
	if (stmt->concurrent)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot drop index \"%s\" of continuous view \"%s\" concurrently",
					   name->relname,
					   get_rel_name(view->view)),
				errhint("Leave CONCURRENTLY out."));
	PreventCommandIfReadOnly("DROP INDEX");
	PreventCommandDuringRecovery("DROP INDEX");
	LockRelationOid(view->result, AccessExclusiveLock);
	ObjectAddressSet(object, RelationRelationId, index);
	performDeletion(&object, stmt->behavior, 0);
	CommandCounterIncrement();
}
