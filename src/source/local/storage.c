/*
 * storage.c
 *	  Creating and altering the hidden tables of local streams.
 *
 * The hidden tables belong to the stream's owner, so that REASSIGN OWNED and
 * DROP OWNED take them along, and depend on the foreign table, so that DROP does.
 * By somebody who may use the schema they can be dropped alone: a script of pg_dump
 * --clean does that before it drops the foreign table.  A sequence with such a
 * dependency would be taken for that of a column, by pg_dump too; the sequences are
 * therefore owned by columns of the first table and follow it.
 *
 * Users have no rights on schema pipeline_data and cannot name what is in it.
 * The commands here therefore run as the system, with a search_path that
 * contains nothing of the user's.
 *
 * Eras.  Rows carry transaction ids, and positions of readers are snapshots.
 * In another cluster ids start from below: after a dump was restored, new rows
 * would seem to have been read long ago.  So each restore begins a new era, a
 * number in front of the ids: all rows of older eras are final, and those of
 * the new one are read after them.  The era goes up when CREATE FOREIGN TABLE
 * names its storage (only a dump does) and in pipeline.adopt().
 *
 * Dumps keep neither internal dependencies nor attribute numbers.  A stream
 * whose storage has no recorded owner is "unclaimed": it can be read and
 * written, since columns are matched by order (layout.c), but what an ALTER did
 * to it cannot be told from the column names until they were claimed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_foreign_table.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "commands/sequence.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "source/local/local.h"
#include "source/local/storage.h"

static void create_relations(Oid relid, const char *backing);
static char *column_definitions(Oid relid);
static void set_owner(const char *backing, Oid relid);
static void execute(const char *command);
static void run_as_system(const char *command, void (*run)(const char *command));
static void search_nothing(void);
static void define(const char *command);
static void execute_parts(const char *command);
static void set_option(Oid relid, const char *name, const char *value);
static void begin_era(const CqLocalLayout *layout);
static Oid storage_of(Oid hidden);
static bool has_storage(Oid relid);
static void record_storage(const CqLocalLayout *layout);
static void number_columns(Oid relid, Oid hidden);
static bool columns_in_step(const CqLocalLayout *layout);
static void bring_in_step(Oid relid, Oid hidden);
static AlterTableCmd *alter_command(AlterTableType subtype, Form_pg_attribute attr);
static void alter_as_owner(Oid hidden, List *commands);
static void alter(Oid hidden, List *commands);
static Form_pg_attribute column_by_name(TupleDesc desc, const char *name);
static const char *type_name(Form_pg_attribute attr);

void
cq_local_stream_create(Oid relid)
{
	CqLocalLayout layout;
	bool found;

	CommandCounterIncrement();
	found = cq_local_layout_find(relid, &layout);
	if (layout.backing == NULL)
	{
		Oid ids = get_relname_relid("id_seq", get_namespace_oid("pipeline_data", false));
		char *backing = psprintf("l_" INT64_FORMAT, nextval_internal(ids, false));

		create_relations(relid, backing);
		set_option(relid, "backing", backing);
		CommandCounterIncrement();
		cq_local_layout_load(relid, &layout);
		record_storage(&layout);
		return;
	}
	if (found && storage_of(layout.tables[0]) == relid)
		return;
	if (found)
		cq_local_storage_claim(&layout);
	begin_era(&layout);
}

static void
create_relations(Oid relid, const char *backing)
{
	const char *columns = column_definitions(relid);
	int i;

	for (i = 0; i < CQ_LOCAL_TABLES; i++)
	{
		define(psprintf("CREATE TABLE pipeline_data.%s_%d (era integer NOT NULL, xid "
						"xid8 NOT NULL, seq bigint NOT NULL, inserted_at timestamptz NOT "
						"NULL%s) USING heap",
						backing,
						i,
						columns));
		define(psprintf("CREATE INDEX ON pipeline_data.%s_%d USING btree (era, xid, seq)",
						backing,
						i));
	}
	define(psprintf("CREATE SEQUENCE pipeline_data.%s_seq OWNED BY pipeline_data.%s_0.seq",
					backing,
					backing));
	define(psprintf("CREATE SEQUENCE pipeline_data.%s_rotation MINVALUE 0 START 0 OWNED "
					"BY pipeline_data.%s_0.era",
					backing,
					backing));
	set_owner(backing, relid);
}

static char *
column_definitions(Oid relid)
{
	Relation rel = relation_open(relid, NoLock);
	TupleDesc desc = RelationGetDescr(rel);
	StringInfoData columns;
	int i;

	initStringInfo(&columns);
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!attr->attisdropped)
			appendStringInfo(&columns, ", a%d %s", attr->attnum, type_name(attr));
	}
	relation_close(rel, NoLock);
	return columns.data;
}

static void
set_owner(const char *backing, Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	const char *owner;
	int i;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner =
		quote_identifier(GetUserNameFromId(((Form_pg_class) GETSTRUCT(tuple))->relowner, false));
	ReleaseSysCache(tuple);
	for (i = 0; i < CQ_LOCAL_TABLES; i++)
		define(psprintf("ALTER TABLE pipeline_data.%s_%d OWNER TO %s", backing, i, owner));
}

void
cq_local_execute(const char *command)
{
	run_as_system(command, execute);
}

static void
execute(const char *command)
{
	int result;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	result = SPI_execute(command, false, 0);
	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", command, SPI_result_code_string(result));
	SPI_finish();
}

static void
run_as_system(const char *command, void (*run)(const char *command))
{
	Oid user;
	int context;
	int nest_level;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	nest_level = NewGUCNestLevel();
	search_nothing();
	run(command);
	AtEOXact_GUC(true, nest_level);
	SetUserIdAndSecContext(user, context);
}

static void
search_nothing(void)
{
	(void) set_config_option("search_path",
							 "pg_catalog, pg_temp",
							 PGC_USERSET,
							 PGC_S_SESSION,
							 GUC_ACTION_SAVE,
							 true,
							 0,
							 false);
}

/*
 * DDL, as parts of the statement that is under way: event triggers must not see
 * it, as what users write would run with the rights of the system.
 */
static void
define(const char *command)
{
	EventTriggerInhibitCommandCollection();
	PG_TRY();
	{
		run_as_system(command, execute_parts);
	}
	PG_FINALLY();
	{
		EventTriggerUndoInhibitCommandCollection();
	}
	PG_END_TRY();
}

static void
execute_parts(const char *command)
{
	ListCell *lc;

	PushActiveSnapshot(GetTransactionSnapshot());
	foreach (lc, pg_parse_query(command))
	{
		const RawStmt *raw = lfirst_node(RawStmt, lc);
		PlannedStmt *part = makeNode(PlannedStmt);

		part->commandType = CMD_UTILITY;
		part->utilityStmt = raw->stmt;
		part->stmt_location = raw->stmt_location;
		part->stmt_len = raw->stmt_len;
		ProcessUtility(part,
					   command,
					   false,
					   PROCESS_UTILITY_SUBCOMMAND,
					   NULL,
					   NULL,
					   None_Receiver,
					   NULL);
		CommandCounterIncrement();
	}
	PopActiveSnapshot();
}

/* Not through ALTER FOREIGN TABLE, which users' triggers and our own utility hook would see. */
static void
set_option(Oid relid, const char *name, const char *value)
{
	Relation catalog = table_open(ForeignTableRelationId, RowExclusiveLock);
	HeapTuple tuple = SearchSysCacheCopy1(FOREIGNTABLEREL, ObjectIdGetDatum(relid));
	Datum values[Natts_pg_foreign_table] = {0};
	bool nulls[Natts_pg_foreign_table] = {false};
	bool replaces[Natts_pg_foreign_table] = {false};
	DefElemAction action = DEFELEM_ADD;
	HeapTuple changed;
	ListCell *lc;
	Datum old;
	bool isnull;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for foreign table %u", relid);
	foreach (lc, GetForeignTable(relid)->options)
		if (strcmp(lfirst_node(DefElem, lc)->defname, name) == 0)
			action = DEFELEM_SET;
	old = SysCacheGetAttr(FOREIGNTABLEREL, tuple, Anum_pg_foreign_table_ftoptions, &isnull);
	values[Anum_pg_foreign_table_ftoptions - 1] =
		transformGenericOptions(ForeignTableRelationId,
								isnull ? PointerGetDatum(NULL) : old,
								list_make1(makeDefElemExtended(NULL,
															   pstrdup(name),
															   (Node *) makeString(pstrdup(value)),
															   action,
															   -1)),
								InvalidOid);
	replaces[Anum_pg_foreign_table_ftoptions - 1] = true;
	changed = heap_modify_tuple(tuple, RelationGetDescr(catalog), values, nulls, replaces);
	CatalogTupleUpdate(catalog, &changed->t_self, changed);
	CacheInvalidateRelcacheByRelid(relid);
	table_close(catalog, RowExclusiveLock);
}

/* Waits for transactions that still insert under the old era: its rows must be final. */
static void
begin_era(const CqLocalLayout *layout)
{
	LockRelationOid(layout->relid, AccessExclusiveLock);
	set_option(layout->relid, "era", psprintf("%d", layout->era + 1));
	CommandCounterIncrement();
}

/* The foreign table that a hidden relation belongs to; InvalidOid if unclaimed. */
static Oid
storage_of(Oid hidden)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	Oid owner = InvalidOid;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0],
				Anum_pg_depend_classid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1],
				Anum_pg_depend_objid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(hidden));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->objsubid == 0 && form->deptype == DEPENDENCY_AUTO &&
			form->refclassid == RelationRelationId)
			owner = form->refobjid;
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return owner;
}

/* Does any relation belong to the foreign table? */
static bool
has_storage(Oid relid)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	bool found = false;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0],
				Anum_pg_depend_refclassid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1],
				Anum_pg_depend_refobjid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, keys);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		found = form->refobjsubid == 0 && form->deptype == DEPENDENCY_AUTO &&
				form->classid == RelationRelationId;
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return found;
}

static void
record_storage(const CqLocalLayout *layout)
{
	ObjectAddress stream = {RelationRelationId, layout->relid, 0};
	int i;

	for (i = 0; i < CQ_LOCAL_TABLES; i++)
	{
		ObjectAddress hidden = {RelationRelationId, layout->tables[i], 0};

		recordDependencyOn(&hidden, &stream, DEPENDENCY_AUTO);
	}
	CommandCounterIncrement();
}

void
cq_local_storage_claim(const CqLocalLayout *layout)
{
	Oid owner = storage_of(layout->tables[0]);
	int i;

	if (owner == layout->relid)
		return;
	if (OidIsValid(owner))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("storage \"%s\" belongs to the local stream \"%s\"",
					   layout->backing,
					   get_rel_name(owner)),
				errhint("Leave the option \"backing\" out; the extension sets it."));
	for (i = 0; i < CQ_LOCAL_TABLES; i++)
		number_columns(layout->relid, layout->tables[i]);
	record_storage(layout);
}

/*
 * Name the columns of a hidden table after the stream's attribute numbers as
 * they are now.  Both ascend and the old numbers are not smaller, so that a new
 * name is never in use.
 */
static void
number_columns(Oid relid, Oid hidden)
{
	Relation stream = relation_open(relid, AccessShareLock);
	Relation table = table_open(hidden, AccessExclusiveLock);
	CqLocalColumns *columns = cq_local_columns_load(stream, table);
	const char *table_name = pstrdup(RelationGetRelationName(table));
	StringInfoData renames;
	int i;

	initStringInfo(&renames);
	for (i = 0; i < columns->natts; i++)
	{
		const char *name = psprintf("a%d", i + 1);
		Form_pg_attribute attr;

		if (columns->hidden[i] == InvalidAttrNumber)
			continue;
		attr = TupleDescAttr(RelationGetDescr(table), columns->hidden[i] - 1);
		if (strcmp(NameStr(attr->attname), name) != 0)
			appendStringInfo(&renames,
							 "ALTER TABLE pipeline_data.%s RENAME COLUMN %s TO %s;",
							 table_name,
							 quote_identifier(NameStr(attr->attname)),
							 name);
	}
	table_close(table, NoLock);
	relation_close(stream, NoLock);
	if (renames.len > 0)
		define(renames.data);
}

void
cq_local_stream_adopt(Oid relid)
{
	CqLocalLayout layout;

	CommandCounterIncrement();
	cq_local_layout_load(relid, &layout);
	cq_local_storage_claim(&layout);
	begin_era(&layout);
}

void
cq_local_stream_settle(Oid relid)
{
	CqLocalLayout layout;

	if (cq_local_layout_find(relid, &layout) && !OidIsValid(storage_of(layout.tables[0])))
		record_storage(&layout); /* attribute numbers are as they were */
}

List *
cq_local_streams(void)
{
	Relation tables = table_open(ForeignTableRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(tables, InvalidOid, false, NULL, 0, NULL);
	List *streams = NIL;
	HeapTuple row;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		Form_pg_foreign_table form = (Form_pg_foreign_table) GETSTRUCT(row);
		ForeignServer *server = GetForeignServer(form->ftserver);

		if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, "pipeline_local") == 0)
			streams = lappend_oid(streams, form->ftrelid);
	}
	systable_endscan(scan);
	table_close(tables, AccessShareLock);
	return streams;
}

void
cq_local_stream_owner_changed(Oid relid)
{
	CqLocalLayout layout;

	CommandCounterIncrement();
	if (cq_local_layout_find_unowned(relid, &layout) && storage_of(layout.tables[0]) == relid)
		set_owner(layout.backing, relid);
}

/*
 * While a dump is restored, the definition names storage that does not exist
 * yet; that is left alone.
 */
void
cq_local_stream_altered(Oid relid)
{
	CqLocalLayout layout;
	Oid owner;
	int i;

	CommandCounterIncrement();
	if (!cq_local_layout_find(relid, &layout))
	{
		if (has_storage(relid))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					errmsg("option \"backing\" of local stream \"%s\" cannot be changed",
						   get_rel_name(relid)),
					errdetail("It names the tables that hold the stream's rows."));
		return;
	}
	owner = storage_of(layout.tables[0]);
	if (OidIsValid(owner) && owner != relid)
		cq_local_storage_claim(&layout); /* says whose it is */
	if (OidIsValid(owner))
		for (i = 0; i < CQ_LOCAL_TABLES; i++)
			bring_in_step(relid, layout.tables[i]);
	else if (!columns_in_step(&layout))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("columns of local stream \"%s\" cannot be changed yet", get_rel_name(relid)),
				errdetail("The stream was restored from a dump and not adopted."),
				errhint("Call pipeline.adopt() first."));
}

static bool
columns_in_step(const CqLocalLayout *layout)
{
	Relation stream = relation_open(layout->relid, NoLock);
	Relation hidden = table_open(layout->tables[0], AccessShareLock);
	int ours = 0;
	int theirs = -CQ_LOCAL_FIXED_COLUMNS;
	int i;

	for (i = 0; i < RelationGetDescr(stream)->natts; i++)
		ours += !TupleDescAttr(RelationGetDescr(stream), i)->attisdropped;
	for (i = 0; i < RelationGetDescr(hidden)->natts; i++)
		theirs += !TupleDescAttr(RelationGetDescr(hidden), i)->attisdropped;
	table_close(hidden, NoLock);
	relation_close(stream, NoLock);
	return ours == theirs;
}

/*
 * Add, drop and retype columns of one hidden table after the stream's.  Values
 * that are there are converted as by USING column::type; where no such cast
 * exists the ALTER fails as a whole.
 */
static void
bring_in_step(Oid relid, Oid hidden)
{
	Relation stream = relation_open(relid, NoLock);
	Relation table = table_open(hidden, AccessExclusiveLock);
	TupleDesc ours = RelationGetDescr(stream);
	TupleDesc theirs = RelationGetDescr(table);
	List *commands = NIL;
	int i;

	for (i = 0; i < ours->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(ours, i);
		Form_pg_attribute there = column_by_name(theirs, psprintf("a%d", i + 1));

		if (attr->attisdropped && there)
			commands = lappend(commands, alter_command(AT_DropColumn, attr));
		else if (!attr->attisdropped && there == NULL)
			commands = lappend(commands, alter_command(AT_AddColumn, attr));
		else if (!attr->attisdropped &&
				 (there->atttypid != attr->atttypid || there->atttypmod != attr->atttypmod))
			commands = lappend(commands, alter_command(AT_AlterColumnType, attr));
	}
	table_close(table, NoLock);
	relation_close(stream, NoLock);
	if (commands != NIL)
		alter_as_owner(hidden, commands);
}

static AlterTableCmd *
alter_command(AlterTableType subtype, Form_pg_attribute attr)
{
	AlterTableCmd *command = makeNode(AlterTableCmd);
	ColumnDef *column;
	ColumnRef *value;
	TypeCast *cast;

	command->subtype = subtype;
	command->name = psprintf("a%d", attr->attnum);
	command->behavior = DROP_RESTRICT;
	if (subtype == AT_DropColumn)
		return command;
	column = makeColumnDef(command->name, attr->atttypid, attr->atttypmod, InvalidOid);
	command->def = (Node *) column;
	if (subtype == AT_AddColumn)
		return command;
	value = makeNode(ColumnRef);
	value->fields = list_make1(makeString(command->name));
	value->location = -1;
	cast = makeNode(TypeCast);
	cast->arg = (Node *) value;
	cast->typeName = makeTypeNameFromOid(attr->atttypid, attr->atttypmod);
	cast->location = -1;
	column->raw_default = (Node *) cast;
	return command;
}

/*
 * Types may have casts, and domains default values and constraints, of the owner's
 * choice, which rows that there are go through.
 */
static void
alter_as_owner(Oid hidden, List *commands)
{
	Relation table = table_open(hidden, NoLock);
	Oid owner = table->rd_rel->relowner;
	Oid user;
	int context;
	int nest_level = NewGUCNestLevel();

	table_close(table, NoLock);
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(owner,
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	search_nothing();
	EventTriggerInhibitCommandCollection();
	PG_TRY();
	{
		alter(hidden, commands);
	}
	PG_FINALLY();
	{
		EventTriggerUndoInhibitCommandCollection();
	}
	PG_END_TRY();
	AtEOXact_GUC(true, nest_level);
	SetUserIdAndSecContext(user, context);
}

/* Tables and types are given by OID: the owner need not be able to find them by name. */
static void
alter(Oid hidden, List *commands)
{
	AlterTableStmt *stmt = makeNode(AlterTableStmt);
	PlannedStmt *part = makeNode(PlannedStmt);
	AlterTableUtilityContext context = {
		.pstmt = part,
		.queryString = "ALTER TABLE",
		.relid = hidden,
	};

	stmt->relation = makeRangeVar(pstrdup("pipeline_data"), get_rel_name(hidden), -1);
	stmt->cmds = commands;
	stmt->objtype = OBJECT_TABLE;
	part->commandType = CMD_UTILITY;
	part->utilityStmt = (Node *) stmt;
	PushActiveSnapshot(GetTransactionSnapshot());
	AlterTable(stmt, AccessExclusiveLock, &context);
	PopActiveSnapshot();
	CommandCounterIncrement();
}

static Form_pg_attribute
column_by_name(TupleDesc desc, const char *name)
{
	int i;

	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!attr->attisdropped && strcmp(NameStr(attr->attname), name) == 0)
			return attr;
	}
	return NULL;
}

static const char *
type_name(Form_pg_attribute attr)
{
	return format_type_extended(attr->atttypid,
								attr->atttypmod,
								FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}
