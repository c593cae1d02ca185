/*
 * database.c
 *	  Keeps workers out of a database while it must have no sessions.
 *
 * CREATE DATABASE ... TEMPLATE, DROP DATABASE, RENAME and SET TABLESPACE fail
 * when anybody is connected to the database, and a worker is somebody.  So
 * workers are sent away before and may come back when the transaction has
 * ended, however it ends: before, they would not see what the statement has
 * done.  None of this needs the extension in the database where the statement
 * is given.
 *
 * A session without the right to do it must not stop workers by trying, so
 * the right is checked before; the statement itself checks it again.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "utils/syscache.h"

#include "compat.h"
#include "ddl/handlers.h"
#include "monitor/slots.h"

static void run_without_workers(CqUtility *utility, Oid database, bool dropping);
static Oid owned_database(const char *name);
static Oid copyable_database(const char *name);
static bool may_create_databases(void);
static bool is_template(Oid database);

void
cq_create_database(CqUtility *utility)
{
	CreatedbStmt *stmt = (CreatedbStmt *) utility->pstmt->utilityStmt;
	const char *source = "template1";
	ListCell *lc;

	foreach (lc, stmt->options)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "template") == 0 && option->arg)
			source = defGetString(option);
	}
	run_without_workers(utility, copyable_database(source), false);
}

void
cq_drop_database(CqUtility *utility)
{
	DropdbStmt *stmt = (DropdbStmt *) utility->pstmt->utilityStmt;

	run_without_workers(utility, owned_database(stmt->dbname), true);
}

/* SET TABLESPACE copies the database; ALLOW_CONNECTIONS false is meant for workers too. */
void
cq_alter_database(CqUtility *utility)
{
	AlterDatabaseStmt *stmt = (AlterDatabaseStmt *) utility->pstmt->utilityStmt;
	bool matters = false;
	ListCell *lc;

	foreach (lc, stmt->options)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "tablespace") == 0 ||
			strcmp(option->defname, "allow_connections") == 0)
			matters = true;
	}
	run_without_workers(utility, matters ? owned_database(stmt->dbname) : InvalidOid, false);
}

void
cq_rename_database(CqUtility *utility)
{
	RenameStmt *stmt = (RenameStmt *) utility->pstmt->utilityStmt;

	run_without_workers(utility, owned_database(stmt->subname), false);
}

static void
run_without_workers(CqUtility *utility, Oid database, bool dropping)
{
	if (cq_shared == NULL || !OidIsValid(database))
	{
		cq_utility_next(utility);
		return;
	}

	cq_database_hold(database);
	cq_utility_next(utility);
	if (dropping)
		cq_slots_remove_database(database);
}

/*
 * A database by name, if the user may do with it what they like.  Not the
 * current one: the statement will be refused, so its workers can stay.
 */
static Oid
owned_database(const char *name)
{
	Oid database = get_database_oid(name, true);

	if (!OidIsValid(database) || database == MyDatabaseId ||
		!cq_compat_owns_database(database, GetUserId()))
		return InvalidOid;
	return database;
}

static Oid
copyable_database(const char *name)
{
	Oid database = get_database_oid(name, true);

	if (!OidIsValid(database) || !may_create_databases())
		return InvalidOid;
	if (!is_template(database) && !cq_compat_owns_database(database, GetUserId()))
		return InvalidOid;
	return database;
}

static bool
may_create_databases(void)
{
	HeapTuple tuple;
	bool may;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	may = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return may;
}

static bool
is_template(Oid database)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool answer = HeapTupleIsValid(tuple) && ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return answer;
}
