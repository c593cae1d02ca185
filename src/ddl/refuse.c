/*
 * refuse.c
 *	  Statements that would make continuous views wrong, or stop them, without a word.
 *
 * Where PostgreSQL itself refuses a statement on views or foreign tables with a
 * message that helps, nothing is done here.  docs/COMMANDS.md goes through all
 * commands.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "foreign/foreign.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_func.h"
#include "utils/lsyscache.h"

#include "catalog/rows.h"
#include "ddl/handlers.h"
#include "ddl/parts.h"
#include "ddl/readers.h"

static bool is_of_extension(Oid class_id, Oid object_id);
static bool named_object(ObjectType type, Node *object, ObjectAddress *address);
static ObjectWithArgs *signature(List *name, List *parameters);
static Oid function_of(ObjectWithArgs *signature);

/* On a restored view our own trigger is made by CREATE TRIGGER; it is protected when adopted. */
void
cq_refuse_trigger(CqUtility *utility)
{
	CreateTrigStmt *stmt = (CreateTrigStmt *) utility->pstmt->utilityStmt;
	Oid relid = RangeVarGetRelid(stmt->relation, NoLock, true);
	CqView view;

	if (cq_readers_find(relid, &view))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot create trigger on continuous view \"%s\"", stmt->relation->relname),
				errdetail("Its rows are written by a background worker, which runs no triggers."),
				errhint("Create a continuous view that reads this one, or a trigger on the local "
						"stream that it reads."));
	if (OidIsValid(relid) && cq_extension_exists() &&
		cq_readers_find(cq_parts_view_of(relid), &view))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot create trigger on table \"%s\"", stmt->relation->relname),
				errdetail("Late rows of continuous view \"%s\" are written to it by a background "
						  "worker, which runs no triggers.",
						  get_rel_name(view.view)),
				errhint("Read the table from time to time."));
	cq_utility_next(utility);
}

/*
 * A script of pg_dump --clean begins with DROP TRIGGER IF EXISTS of what goes with
 * the view; an error there would end a restore that drops the view next.
 */
bool
cq_skip_trigger(CqUtility *utility)
{
	DropStmt *stmt = (DropStmt *) utility->pstmt->utilityStmt;
	List *name;
	CqView view;

	if (stmt->removeType != OBJECT_TRIGGER || !stmt->missing_ok || list_length(stmt->objects) != 1)
		return false;
	name = list_copy(linitial_node(List, stmt->objects));
	if (strcmp(strVal(llast(name)), CQ_PARTS_TRIGGER) != 0)
		return false;
	name = list_delete_last(name);
	if (!cq_parts_find(RangeVarGetRelid(makeRangeVarFromNameList(name), NoLock, true), &view))
		return false;
	ereport(NOTICE,
			errmsg("trigger \"%s\" goes with continuous view \"%s\", skipping",
				   CQ_PARTS_TRIGGER,
				   get_rel_name(view.view)));
	cq_utility_done(utility, CMDTAG_DROP_TRIGGER);
	return true;
}

void
cq_refuse_truncate(CqUtility *utility)
{
	TruncateStmt *stmt = (TruncateStmt *) utility->pstmt->utilityStmt;
	ListCell *lc;

	foreach (lc, stmt->relations)
	{
		RangeVar *name = lfirst_node(RangeVar, lc);
		CqView view;

		if (cq_parts_find(RangeVarGetRelid(name, NoLock, true), &view))
			ereport(ERROR,
					errcode(ERRCODE_WRONG_OBJECT_TYPE),
					errmsg("cannot truncate continuous view \"%s\"", name->relname),
					errdetail("Its rows are the result of its query over the events of a stream."),
					errhint("To begin anew, drop the view and create it again; to compute it again "
							"from the events that there still are, call pipeline.replay()."));
	}
	cq_utility_next(utility);
}

/* The handler tells streams from other foreign tables. */
void
cq_refuse_wrapper(CqUtility *utility)
{
	AlterFdwStmt *stmt = (AlterFdwStmt *) utility->pstmt->utilityStmt;
	Oid wrapper = get_foreign_data_wrapper_oid(stmt->fdwname, true);

	if (stmt->func_options != NIL && is_of_extension(ForeignDataWrapperRelationId, wrapper))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot change functions of foreign-data wrapper \"%s\"", stmt->fdwname),
				errdetail("Its tables would not be streams any more."),
				errhint("To remove the wrapper, drop the extension pipeline_ext."));
	cq_utility_next(utility);
}

static bool
is_of_extension(Oid class_id, Oid object_id)
{
	return OidIsValid(object_id) && !creating_extension && cq_extension_exists() &&
		   getExtensionOfObject(class_id, object_id) == get_extension_oid("pipeline_ext", true);
}

/*
 * RENAME and SET SCHEMA of the extension's own objects, which it finds by name.
 * The object is a relation, a schema, or is looked up by its type.
 */
void
cq_refuse_renaming(ObjectType type, Oid relid, Node *object, const char *schema)
{
	ObjectAddress address = InvalidObjectAddress;

	if (OidIsValid(relid))
		ObjectAddressSet(address, RelationRelationId, relid);
	else if (type == OBJECT_SCHEMA && schema)
		ObjectAddressSet(address, NamespaceRelationId, get_namespace_oid(schema, true));
	else if (!named_object(type, object, &address))
		return;
	if (is_of_extension(address.classId, address.objectId))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot rename or move %s", getObjectDescription(&address, false)),
				errdetail("It belongs to extension pipeline_ext, which finds it by its name."),
				errhint("Leave the name as it is."));
}

static bool
named_object(ObjectType type, Node *object, ObjectAddress *address)
{
	Relation rel = NULL;

	switch (type)
	{
		case OBJECT_FDW:
		case OBJECT_FOREIGN_SERVER:
		case OBJECT_FUNCTION:
		case OBJECT_PROCEDURE:
		case OBJECT_ROUTINE:
			break;
		default:
			return false;
	}
	*address = get_object_address(type, object, &rel, AccessShareLock, true);
	if (rel)
		relation_close(rel, AccessShareLock);
	return true;
}

/* What is replaced or altered counts from the next event on, if views may still use it. */
void
cq_replace_function(CqUtility *utility)
{
	CreateFunctionStmt *stmt = (CreateFunctionStmt *) utility->pstmt->utilityStmt;
	ObjectWithArgs *replaced = NULL;

	if (stmt->replace && !stmt->is_procedure && cq_extension_exists())
		replaced = signature(stmt->funcname, stmt->parameters);
	cq_utility_next(utility);
	if (replaced && cq_extension_exists())
		cq_readers_check(cq_readers(ProcedureRelationId, function_of(replaced), 0, true));
}

void
cq_alter_function(CqUtility *utility)
{
	AlterFunctionStmt *stmt = (AlterFunctionStmt *) utility->pstmt->utilityStmt;
	ObjectWithArgs *altered = copyObject(stmt->func);

	cq_utility_next(utility);
	if (cq_extension_exists())
		cq_readers_check(cq_readers(ProcedureRelationId, function_of(altered), 0, true));
}

/* Groups hold values that the former transition function has made. */
void
cq_replace_aggregate(CqUtility *utility)
{
	DefineStmt *stmt = (DefineStmt *) utility->pstmt->utilityStmt;
	List *readers = NIL;
	Oid aggregate;

	if (stmt->kind == OBJECT_AGGREGATE && stmt->replace && !stmt->oldstyle && cq_extension_exists())
	{
		aggregate = function_of(signature(stmt->defnames, linitial_node(List, stmt->args)));
		readers = cq_readers(ProcedureRelationId, aggregate, 0, true);
	}
	if (readers != NIL)
		ereport(
			ERROR,
			errcode(ERRCODE_OBJECT_IN_USE),
			errmsg("cannot replace aggregate \"%s\"", NameListToString(stmt->defnames)),
			errdetail("Continuous view \"%s\" has groups that were aggregated by the definition "
					  "that there is.",
					  get_rel_name(linitial_oid(readers))),
			errhint("Create an aggregate of another name, and a view that uses it."));
	cq_utility_next(utility);
}

static ObjectWithArgs *
signature(List *name, List *parameters)
{
	ObjectWithArgs *signature = makeNode(ObjectWithArgs);
	ListCell *lc;

	signature->objname = copyObject(name);
	foreach (lc, parameters)
	{
		FunctionParameter *parameter = lfirst_node(FunctionParameter, lc);

		if (parameter->mode != FUNC_PARAM_OUT && parameter->mode != FUNC_PARAM_TABLE)
			signature->objargs = lappend(signature->objargs, copyObject(parameter->argType));
	}
	return signature;
}

static Oid
function_of(ObjectWithArgs *signature)
{
	return LookupFuncWithArgs(OBJECT_ROUTINE, signature, true);
}
