/*
 * limits.c
 *	  How many continuous views there may be.
 *
 * What a role or a database may have is said by settings that only a superuser
 * changes, for all or with ALTER ROLE or ALTER DATABASE ... SET; as with
 * CONNECTION LIMIT, superusers are not bound by it.  Tasks are counted in this
 * database; those who come at the same time count one after the other.
 *
 * The server has slots in shared memory for so many tasks.  Without one a view
 * could not even wait, so it is not created; where a worker process is missing
 * it waits, and is created with a warning.
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "postmaster/bgworker_internals.h"
#include "replication/logicallauncher.h"
#include "storage/lwlock.h"
#include "utils/lsyscache.h"

#include "catalog/rows.h"
#include "catalog/shards.h"
#include "catalog/tables.h"
#include "ddl/limits.h"
#include "ddl/parts.h"
#include "monitor/slots.h"
#include "settings.h"

static void check_role(Oid owner, int more, const char *view_name);
static void check_database(int more, const char *view_name);
static void check_slots(int more, const char *view_name);
static int tasks_count(Oid owner);

void
cq_limits_check(Oid owner, int more, const char *view_name)
{
	if (!superuser_arg(owner))
	{
		check_role(owner, more, view_name);
		check_database(more, view_name);
	}
	check_slots(more, view_name);
}

void
cq_limits_check_owner(Oid owner, const char *view_name)
{
	if (!superuser_arg(owner) && !superuser())
		check_role(owner, 0, view_name);
}

static void
check_role(Oid owner, int more, const char *view_name)
{
	int there;

	if (cq_max_tasks_per_role < 0)
		return;
	there = tasks_count(owner);
	if (there + more > cq_max_tasks_per_role)
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("role \"%s\" cannot have continuous view \"%s\"",
					   GetUserNameFromId(owner, false),
					   view_name),
				errdetail("It would have %d tasks in this database, and may have %d: each view is "
						  "one, and each of its workers beyond the first.",
						  there + more,
						  cq_max_tasks_per_role),
				errhint("Drop a view, or have a superuser raise pipeline.max_tasks_per_role."));
}

static void
check_database(int more, const char *view_name)
{
	int there;

	if (cq_max_tasks_per_database < 0)
		return;
	there = tasks_count(InvalidOid);
	if (there + more > cq_max_tasks_per_database)
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("this database cannot have continuous view \"%s\"", view_name),
				errdetail("It would have %d tasks, and may have %d: each view is one, and each of "
						  "its workers beyond the first.",
						  there + more,
						  cq_max_tasks_per_database),
				errhint("Drop a view, or have a superuser raise pipeline.max_tasks_per_database."));
}

/*
 * Tasks of a role, InvalidOid = of all, in this database.  Nobody else adds one
 * until the transaction ends: who comes later finds ours.
 */
static int
tasks_count(Oid owner)
{
	Relation rel = cq_table_open("views", ShareUpdateExclusiveLock);
	int count = 0;
	ListCell *lc;

	foreach (lc, cq_views_all())
	{
		int64 id = *(int64 *) lfirst(lc);
		CqView view;

		if (cq_view_load(id, &view) && (!OidIsValid(owner) || cq_parts_owner(view.view) == owner))
			count += list_length(cq_view_positions(id));
	}
	table_close(rel, NoLock);
	return count;
}

static void
check_slots(int more, const char *view_name)
{
	int free = cq_slots_free();

	if (free >= more)
		return;
	ereport(
		ERROR,
		errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
		errmsg("there is no room for continuous view \"%s\"", view_name),
		errdetail(
			"The server keeps at most %d tasks, of all databases, and %d more are wanted: each view "
			"is one, and each of its workers beyond the first.",
			cq_max_tasks,
			more),
		errhint(
			"Drop a view, or raise pipeline.max_tasks in postgresql.conf and restart the server."));
}

/* Ours need one worker each and one for the launcher; PostgreSQL's own launcher takes one. */
void
cq_limits_warn_of_workers(int more)
{
	int needed = 1 + more + (max_logical_replication_workers > 0 ? 1 : 0);
	int i;

	LWLockAcquire(cq_shared->lock, LW_SHARED);
	for (i = 0; i < cq_shared->ntasks; i++)
	{
		const CqTaskSlot *slot = &cq_shared->tasks[i];

		/* those that share a task have one together */
		needed += slot->in_use && slot->enabled && (slot->pid == 0 || slot->leader == i + 1);
	}
	LWLockRelease(cq_shared->lock);
	if (needed > max_worker_processes)
		ereport(
			WARNING,
			errmsg("max_worker_processes is too low for all continuous views"),
			errdetail("It is %d; at least %d are needed, and views without a worker stand still.",
					  max_worker_processes,
					  needed),
			errhint("Raise max_worker_processes in postgresql.conf and restart the server."));
}
