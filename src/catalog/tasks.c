/*
 * tasks.c
 *	  Rows of pipeline_data.tasks, and who this database is.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "catalog/rows.h"
#include "catalog/shards.h"
#include "catalog/tables.h"

enum
{
	COL_ID = 1,
	COL_DATABASE,
	COL_INCARNATION,
	COL_STATE,
	COL_REASON,
	COL_ADVANCE_TO,
	COL_ACCEPT_LOSS,
	COL_APPLY_LATE,
	COL_RETRY,
	COL_COUNT = COL_RETRY
};

static const char *const state_names[] = {
	[CQ_TASK_RUNNING] = "running",
	[CQ_TASK_PAUSED] = "paused",
	[CQ_TASK_STOPPED] = "stopped",
};

static int64 identity_incarnation(void);
static void task_from_row(Relation rel, HeapTuple row, CqTask *task);
static HeapTuple task_row(Relation rel, int64 id);
static void advances_from_array(Datum array, bool isnull, TimestampTz *advance_to);
static void request_add(int64 id, int column);
static bool request_clear(int64 id, int column, int64 done);
static int64 request_number(Relation rel, HeapTuple row, int column);
static void advances_write(Relation rel, HeapTuple row, const TimestampTz *advance_to);

/* The random number that CREATE EXTENSION gave this database. */
static int64
identity_incarnation(void)
{
	Relation rel = cq_table_open("identity", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple row = systable_getnext(scan);
	int64 incarnation = 0;
	bool isnull;

	if (HeapTupleIsValid(row))
		incarnation = DatumGetInt64(heap_getattr(row, 1, RelationGetDescr(rel), &isnull));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return incarnation;
}

void
cq_task_insert(int64 id)
{
	Relation rel = cq_table_open("tasks", RowExclusiveLock);
	Datum values[COL_COUNT] = {0};
	bool nulls[COL_COUNT] = {false};
	HeapTuple row;

	values[COL_ID - 1] = Int64GetDatum(id);
	values[COL_DATABASE - 1] = ObjectIdGetDatum(MyDatabaseId);
	values[COL_INCARNATION - 1] = Int64GetDatum(identity_incarnation());
	values[COL_STATE - 1] = CStringGetTextDatum(state_names[CQ_TASK_RUNNING]);
	nulls[COL_REASON - 1] = true;
	nulls[COL_ADVANCE_TO - 1] = true;
	values[COL_ACCEPT_LOSS - 1] = BoolGetDatum(false);
	nulls[COL_APPLY_LATE - 1] = true;
	nulls[COL_RETRY - 1] = true;
	row = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, row);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

static void
task_from_row(Relation rel, HeapTuple row, CqTask *task)
{
	Datum values[COL_COUNT];
	bool nulls[COL_COUNT];
	char *state;
	int i;

	heap_deform_tuple(row, RelationGetDescr(rel), values, nulls);
	task->id = DatumGetInt64(values[COL_ID - 1]);
	task->database = DatumGetObjectId(values[COL_DATABASE - 1]);
	task->incarnation = DatumGetInt64(values[COL_INCARNATION - 1]);
	task->reason = nulls[COL_REASON - 1] ? NULL : TextDatumGetCString(values[COL_REASON - 1]);
	task->has_advance = !nulls[COL_ADVANCE_TO - 1];
	advances_from_array(values[COL_ADVANCE_TO - 1], nulls[COL_ADVANCE_TO - 1], task->advance_to);
	task->accept_loss = DatumGetBool(values[COL_ACCEPT_LOSS - 1]);
	task->apply_late = nulls[COL_APPLY_LATE - 1] ? 0 : DatumGetInt64(values[COL_APPLY_LATE - 1]);
	task->retry = nulls[COL_RETRY - 1] ? 0 : DatumGetInt64(values[COL_RETRY - 1]);
	task->state = CQ_TASK_STOPPED;
	state = TextDatumGetCString(values[COL_STATE - 1]);
	for (i = 0; i < lengthof(state_names); i++)
		if (strcmp(state, state_names[i]) == 0)
			task->state = (CqTaskState) i;
}

bool
cq_task_load(int64 id, CqTask *task)
{
	Relation rel = cq_table_open("tasks", AccessShareLock);
	HeapTuple row = cq_table_find(rel, COL_ID, Int64GetDatum(id));

	if (HeapTupleIsValid(row))
		task_from_row(rel, row, task);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(row);
}

bool
cq_task_is_ours(const CqTask *task)
{
	return task->database == MyDatabaseId && task->incarnation == identity_incarnation();
}

/* Of two who change it at the same time, the second waits for the first. */
static HeapTuple
task_row(Relation rel, int64 id)
{
	HeapTuple row = cq_table_lock(rel, COL_ID, Int64GetDatum(id), true);

	if (!HeapTupleIsValid(row))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("task %lld does not exist", (long long) id),
				errhint(
					"It was dropped meanwhile, or somebody changed the tables of pipeline_data."));
	return row;
}

void
cq_task_set_state(int64 id, CqTaskState state, const char *reason)
{
	Relation rel = cq_table_open("tasks", RowExclusiveLock);
	HeapTuple row = task_row(rel, id);
	HeapTuple changed;
	int columns[2] = {COL_STATE, COL_REASON};
	Datum values[2];
	bool nulls[2] = {false, reason == NULL};

	values[0] = CStringGetTextDatum(state_names[state]);
	values[1] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	changed = heap_modify_tuple_by_cols(row, RelationGetDescr(rel), 2, columns, values, nulls);
	CatalogTupleUpdate(rel, &row->t_self, changed);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* An element for each stream up to the last that has one pending; -infinity where there is none. */
static void
advances_from_array(Datum array, bool isnull, TimestampTz *advance_to)
{
	Datum *elements;
	int n = 0;
	int i;

	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(array),
						  TIMESTAMPTZOID,
						  sizeof(TimestampTz),
						  true,
						  TYPALIGN_DOUBLE,
						  &elements,
						  NULL,
						  &n);
	for (i = 0; i < CQ_MAX_STREAMS; i++)
		advance_to[i] = i < n ? DatumGetTimestampTz(elements[i]) : DT_NOBEGIN;
}

static void
advances_write(Relation rel, HeapTuple row, const TimestampTz *advance_to)
{
	Datum elements[CQ_MAX_STREAMS];
	ArrayType *array;
	int n = 0;
	int i;

	for (i = 0; i < CQ_MAX_STREAMS; i++)
	{
		elements[i] = TimestampTzGetDatum(advance_to[i]);
		if (!TIMESTAMP_IS_NOBEGIN(advance_to[i]))
			n = i + 1;
	}
	array =
		construct_array(elements, n, TIMESTAMPTZOID, sizeof(TimestampTz), true, TYPALIGN_DOUBLE);
	cq_table_set(rel, row, COL_ADVANCE_TO, PointerGetDatum(array), n == 0);
}

void
cq_task_set_advance(int64 id, int stream, TimestampTz advance_to)
{
	Relation rel = cq_table_open("tasks", RowExclusiveLock);
	HeapTuple row = task_row(rel, id);
	CqTask task;

	task_from_row(rel, row, &task);
	task.advance_to[stream] = Max(task.advance_to[stream], advance_to);
	advances_write(rel, row, task.advance_to);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

bool
cq_task_clear_advance(int64 id, int stream, TimestampTz applied)
{
	Relation rel = cq_table_open("tasks", RowExclusiveLock);
	HeapTuple row = cq_table_lock(rel, COL_ID, Int64GetDatum(id), false);
	CqTask task;

	if (HeapTupleIsValid(row))
	{
		task_from_row(rel, row, &task);
		if (task.advance_to[stream] == applied)
		{
			task.advance_to[stream] = DT_NOBEGIN;
			advances_write(rel, row, task.advance_to);
		}
	}
	table_close(rel, NoLock);
	CommandCounterIncrement();
	return HeapTupleIsValid(row);
}

void
cq_task_set_apply_late(int64 id)
{
	request_add(id, COL_APPLY_LATE);
}

bool
cq_task_clear_apply_late(int64 id, int64 applied)
{
	return request_clear(id, COL_APPLY_LATE, applied);
}

void
cq_task_set_retry(int64 id)
{
	request_add(id, COL_RETRY);
}

bool
cq_task_clear_retry(int64 id, int64 done)
{
	return request_clear(id, COL_RETRY, done);
}

static void
request_add(int64 id, int column)
{
	Relation rel = cq_table_open("tasks", RowExclusiveLock);
	HeapTuple row = task_row(rel, id);

	cq_table_set(rel, row, column, Int64GetDatum(request_number(rel, row, column) + 1), false);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* False while somebody else has the row; what was asked for since then stays. */
static bool
request_clear(int64 id, int column, int64 done)
{
	Relation rel = cq_table_open("tasks", RowExclusiveLock);
	HeapTuple row = cq_table_lock(rel, COL_ID, Int64GetDatum(id), false);

	if (HeapTupleIsValid(row) && request_number(rel, row, column) == done)
		cq_table_set(rel, row, column, (Datum) 0, true);
	table_close(rel, NoLock);
	CommandCounterIncrement();
	return HeapTupleIsValid(row);
}

static int64
request_number(Relation rel, HeapTuple row, int column)
{
	bool isnull;
	Datum number = heap_getattr(row, column, RelationGetDescr(rel), &isnull);

	return isnull ? 0 : DatumGetInt64(number);
}

void
cq_task_set_accept_loss(int64 id, bool accept_loss)
{
	Relation rel = cq_table_open("tasks", RowExclusiveLock);

	cq_table_set(rel, task_row(rel, id), COL_ACCEPT_LOSS, BoolGetDatum(accept_loss), false);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

void
cq_tasks_adopt(void)
{
	Relation rel = cq_table_open("tasks", RowExclusiveLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	int columns[2] = {COL_DATABASE, COL_INCARNATION};
	Datum values[2];
	bool nulls[2] = {false, false};
	HeapTuple row;

	values[0] = ObjectIdGetDatum(MyDatabaseId);
	values[1] = Int64GetDatum(identity_incarnation());
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		HeapTuple changed =
			heap_modify_tuple_by_cols(row, RelationGetDescr(rel), 2, columns, values, nulls);

		CatalogTupleUpdate(rel, &row->t_self, changed);
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * No table is held while another one is waited for: DROP EXTENSION takes them in an
 * order of its own.
 */
List *
cq_tasks_running(void)
{
	int64 incarnation = identity_incarnation();
	Relation rel = cq_table_open("tasks", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple row;
	List *running = NIL;
	List *ids = NIL;
	ListCell *lc;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		CqTask task;
		int64 *id;

		task_from_row(rel, row, &task);
		if (task.state != CQ_TASK_RUNNING || task.database != MyDatabaseId ||
			task.incarnation != incarnation)
			continue;
		id = palloc(sizeof(int64));
		*id = task.id;
		running = lappend(running, id);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	foreach (lc, running)
		ids = list_concat(ids, cq_view_positions(*(int64 *) lfirst(lc)));
	list_free_deep(running);
	return ids;
}
