/*
 * stream.c
 *	  Definition of streams, and of what they connect to.
 *
 * PostgreSQL creates and alters the foreign table; we check what it could not
 * know, keep the storage of a local stream in step, and tell the workers that
 * read it.  What would give events that were already counted another meaning is
 * refused while a view reads the stream.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_foreign_table.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/rows.h"
#include "compat.h"
#include "ddl/family.h"
#include "ddl/handlers.h"
#include "ddl/shards.h"
#include "decode/format.h"
#include "monitor/slots.h"
#include "source/kafka/properties.h"
#include "source/local/local.h"
#include "source/stream.h"

static bool is_local(Oid stream);
static void follow_change(Oid stream, bool owner, bool other);
static void check_changes(Oid stream, const AlterTableStmt *stmt);
static void refuse_own_options(Oid stream, List *options);
static void refuse_change(Oid stream, const char *what);
static void check_table_options(Oid stream, List *options);
static void carry_name(const CqStream *before, AttrNumber attnum, const char *old_name,
					   const char *new_name);
static bool read_by_name(const CqStream *stream, AttrNumber attnum);
static char *path_of(const char *key);
static char *names_of(Oid stream, List *attnums);
static DefElem *set_option(const char *name, char *value);
static AlterTableCmd *alter_command(AlterTableType type, const char *column, List *options);
static void tell_views(Oid stream);
static void tell_views_of_server(const char *server_name);

void
cq_create_stream(CqUtility *utility)
{
	CreateForeignTableStmt *stmt = (CreateForeignTableStmt *) utility->pstmt->utilityStmt;
	RangeVar *name = copyObject(stmt->base.relation);
	bool existed = stmt->base.if_not_exists && OidIsValid(RangeVarGetRelid(name, NoLock, true));
	bool has_parent = stmt->base.inhRelations != NIL;
	Oid relid;

	cq_utility_next(utility);
	if (existed || !cq_extension_exists())
		return;
	CommandCounterIncrement();
	relid = get_relname_relid(name->relname, RangeVarGetCreationNamespace(name));
	if (has_parent)
		cq_family_check(relid);
	if (!OidIsValid(relid) || !cq_is_stream(relid))
		return;
	if (is_local(relid))
		cq_local_stream_create(relid);
	(void) cq_stream_load(relid);
}

static bool
is_local(Oid stream)
{
	ForeignServer *server = GetForeignServer(GetForeignTable(stream)->serverid);

	return strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, "pipeline_local") == 0;
}

void
cq_alter_streams(CqUtility *utility, List *streams)
{
	AlterTableStmt *stmt = (AlterTableStmt *) utility->pstmt->utilityStmt;
	bool owner = false;
	bool other = false;
	ListCell *lc;

	/* options of columns in CREATE FOREIGN TABLE come as ALTERs of their own, before its end */
	if (utility->context == PROCESS_UTILITY_SUBCOMMAND)
	{
		cq_utility_next(utility);
		return;
	}
	foreach (lc, stmt->cmds)
	{
		if (lfirst_node(AlterTableCmd, lc)->subtype == AT_ChangeOwner)
			owner = true;
		else
			other = true;
	}
	foreach (lc, streams)
		if (cq_compat_owns_relation(lfirst_oid(lc), GetUserId()))
			check_changes(lfirst_oid(lc), stmt);
	cq_utility_next(utility);
	CommandCounterIncrement();
	foreach (lc, streams)
		follow_change(lfirst_oid(lc), owner, other);
}

static void
follow_change(Oid stream, bool owner, bool other)
{
	if (is_local(stream) && owner)
		cq_local_stream_owner_changed(stream);
	if (is_local(stream) && other)
		cq_local_stream_altered(stream);
	(void) cq_stream_load(stream);
	tell_views(stream);
}

static void
check_changes(Oid stream, const AlterTableStmt *stmt)
{
	bool is_read = cq_views_of_stream(stream) != NIL;
	ListCell *lc;

	foreach (lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype == AT_GenericOptions)
		{
			refuse_own_options(stream, (List *) cmd->def);
			if (is_read)
				check_table_options(stream, (List *) cmd->def);
		}
		if (cmd->subtype == AT_AlterColumnGenericOptions && is_read)
			refuse_change(stream, psprintf("options of column \"%s\"", cmd->name));
		if (cmd->subtype == AT_DropExpression && is_read)
			refuse_change(stream, psprintf("expression of column \"%s\"", cmd->name));
	}
}

/* Where the rows of a local stream are, and since which restore: only a dump says it. */
static void
refuse_own_options(Oid stream, List *options)
{
	static const char *const own[] = {"backing", "era"};
	ListCell *lc;
	int i;

	foreach (lc, options)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		for (i = 0; i < lengthof(own); i++)
			if (strcmp(option->defname, own[i]) == 0 && is_local(stream))
				ereport(ERROR,
						errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
						errmsg("option \"%s\" of local stream \"%s\" cannot be changed",
							   option->defname,
							   get_rel_name(stream)),
						errdetail("The extension sets it; it says where the stream's rows are."),
						errhint("Leave the option as it is."));
	}
}

static void
check_table_options(Oid stream, List *options)
{
	static const char *const fixed[] = {"topic",
										"event_time",
										"format",
										"partitions",
										"delimiter",
										"quote",
										"escape",
										"null",
										"header",
										"encoding"};
	ListCell *lc;
	int i;

	foreach (lc, options)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		for (i = 0; i < lengthof(fixed); i++)
			if (strcmp(option->defname, fixed[i]) == 0)
				refuse_change(stream, psprintf("option \"%s\"", option->defname));
	}
}

static void
refuse_change(Oid stream, const char *what)
{
	int64 oldest = PG_INT64_MAX;
	CqView view;
	ListCell *lc;

	foreach (lc, cq_views_of_stream(stream))
		oldest = Min(oldest, *(int64 *) lfirst(lc));
	if (!cq_view_load(oldest, &view))
		return;
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_IN_USE),
			errmsg("cannot change %s of stream \"%s\"", what, get_rel_name(stream)),
			errdetail("Continuous view \"%s\" has processed events as they were defined before.",
					  get_rel_name(view.view)),
			errhint("Create another foreign table for the new definition, and a view on it."));
}

/* Options name columns; and the documents of a topic know nothing of the new name. */
void
cq_rename_stream_columns(CqUtility *utility, List *streams)
{
	RenameStmt *stmt = (RenameStmt *) utility->pstmt->utilityStmt;
	char *old_name = pstrdup(stmt->subname);
	char *new_name = pstrdup(stmt->newname);
	List *before = NIL;
	ListCell *lc;

	foreach (lc, streams)
		if (get_attnum(lfirst_oid(lc), old_name) > 0)
			before = lappend(before, cq_stream_load(lfirst_oid(lc)));
	cq_utility_next(utility);
	CommandCounterIncrement();
	foreach (lc, before)
	{
		const CqStream *stream = lfirst(lc);
		AttrNumber attnum = get_attnum(stream->relid, new_name);

		/* a child whose column has nothing to do with the parent's keeps it */
		if (attnum <= 0 || strcmp(stream->columns[attnum - 1].name, old_name) != 0)
			continue;
		carry_name(stream, attnum, old_name, new_name);
		follow_change(stream->relid, false, true);
	}
}

static void
carry_name(const CqStream *before, AttrNumber attnum, const char *old_name, const char *new_name)
{
	List *options = NIL;
	List *commands = NIL;

	if (before->event_time == attnum)
		options = lappend(options, set_option("event_time", pstrdup(new_name)));
	if (list_member_int(before->primary_key, attnum))
		options = lappend(options,
						  set_option("primary_key", names_of(before->relid, before->primary_key)));
	if (list_member_int(before->partition_key, attnum))
		options =
			lappend(options,
					set_option("partition_key", names_of(before->relid, before->partition_key)));
	if (options != NIL)
		commands = lappend(commands, alter_command(AT_GenericOptions, NULL, options));
	if (read_by_name(before, attnum))
	{
		DefElem *field = makeDefElem(pstrdup("field"), (Node *) makeString(path_of(old_name)), -1);

		commands =
			lappend(commands,
					alter_command(AT_AlterColumnGenericOptions, new_name, list_make1(field)));
	}
	if (commands == NIL)
		return;
	AlterTableInternal(before->relid, commands, false);
	CommandCounterIncrement();
}

/* Is the column's value the one that stands under the column's name in a record? */
static bool
read_by_name(const CqStream *stream, AttrNumber attnum)
{
	ListCell *lc;

	if (!cq_stream_has_fields(stream) || !cq_column_in_payload(&stream->columns[attnum - 1]))
		return false;
	foreach (lc, GetForeignColumnOptions(stream->relid, attnum))
		if (strcmp(lfirst_node(DefElem, lc)->defname, "field") == 0)
			return false;
	return true;
}

/* A key as the option "field" wants it written. */
static char *
path_of(const char *key)
{
	StringInfoData path;

	initStringInfo(&path);
	for (; *key != '\0'; key++)
	{
		if (*key == '.' || *key == '\\')
			appendStringInfoChar(&path, '\\');
		appendStringInfoChar(&path, *key);
	}
	return path.data;
}

/* Columns as the options "primary_key" and "partition_key" want them written. */
static char *
names_of(Oid stream, List *attnums)
{
	StringInfoData names;
	ListCell *lc;

	initStringInfo(&names);
	foreach (lc, attnums)
		appendStringInfo(&names,
						 "%s%s",
						 names.len > 0 ? ", " : "",
						 quote_identifier(get_attname(stream, (AttrNumber) lfirst_int(lc), false)));
	return names.data;
}

static DefElem *
set_option(const char *name, char *value)
{
	return makeDefElemExtended(NULL, pstrdup(name), (Node *) makeString(value), DEFELEM_SET, -1);
}

static AlterTableCmd *
alter_command(AlterTableType type, const char *column, List *options)
{
	AlterTableCmd *command = makeNode(AlterTableCmd);

	command->subtype = type;
	command->name = column ? pstrdup(column) : NULL;
	command->def = (Node *) options;
	return command;
}

static void
tell_views(Oid stream)
{
	ListCell *lc;

	foreach (lc, cq_views_of_stream(stream))
		cq_shards_at_commit(CQ_SLOT_CHANGED, *(int64 *) lfirst(lc));
}

void
cq_alter_server(CqUtility *utility)
{
	AlterForeignServerStmt *stmt = (AlterForeignServerStmt *) utility->pstmt->utilityStmt;

	cq_utility_next(utility);
	tell_views_of_server(stmt->servername);
}

/* The owner of a server answers for its brokers. */
void
cq_alter_owner(CqUtility *utility)
{
	AlterOwnerStmt *stmt = (AlterOwnerStmt *) utility->pstmt->utilityStmt;
	ForeignServer *server;
	ListCell *lc;

	cq_utility_next(utility);
	if (stmt->objectType != OBJECT_FOREIGN_SERVER || !cq_extension_exists())
		return;
	CommandCounterIncrement();
	server = GetForeignServerByName(strVal(stmt->object), false);
	if (!cq_is_stream_server(server->serverid))
		return;
	foreach (lc, server->options)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "bootstrap_servers") == 0)
			cq_kafka_brokers_check(defGetString(option), server->owner);
	}
	tell_views_of_server(server->servername);
}

/* A new password, say: workers connect again with it. */
void
cq_alter_user_mapping(CqUtility *utility)
{
	Node *stmt = utility->pstmt->utilityStmt;
	const char *server;

	if (IsA(stmt, CreateUserMappingStmt))
		server = ((CreateUserMappingStmt *) stmt)->servername;
	else if (IsA(stmt, AlterUserMappingStmt))
		server = ((AlterUserMappingStmt *) stmt)->servername;
	else
		server = ((DropUserMappingStmt *) stmt)->servername;
	cq_utility_next(utility);
	tell_views_of_server(server);
}

static void
tell_views_of_server(const char *server_name)
{
	Oid server = get_foreign_server_oid(server_name, true);
	Relation tables;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple row;

	if (!OidIsValid(server) || !cq_extension_exists())
		return;
	CommandCounterIncrement();
	tables = table_open(ForeignTableRelationId, AccessShareLock);
	ScanKeyInit(&key,
				Anum_pg_foreign_table_ftserver,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(server));
	scan = systable_beginscan(tables, InvalidOid, false, NULL, 1, &key);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
		tell_views(((Form_pg_foreign_table) GETSTRUCT(row))->ftrelid);
	systable_endscan(scan);
	table_close(tables, AccessShareLock);
}
