/*
 * stat_functions.c
 *	  What shared memory says about tasks, for the statistics views.
 *
 * Rows of all databases are returned; the views in monitor.sql show each user
 * their own.  Without shared memory there are no rows.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "monitor/slots.h"
#include "settings.h"
#include "source/source.h"
#include "state/region.h"

PG_FUNCTION_INFO_V1(cq_task_slots);
PG_FUNCTION_INFO_V1(cq_partition_slots);
PG_FUNCTION_INFO_V1(cq_launcher_pid);
PG_FUNCTION_INFO_V1(cq_state_memory);

#define TASK_COLUMNS	  25
#define PARTITION_COLUMNS 11

typedef struct PartitionRow
{
	Oid database;
	int64 leader;
	CqPartitionSlot slot;
} PartitionRow;

static void put_task(ReturnSetInfo *result, const CqTaskSlot *slot, int64 leader);
static int64 leader_of(const CqTaskSlot *slot);
static int read_tasks(CqTaskSlot **slots, int64 **leaders);
static int read_partitions(PartitionRow **rows);
static double rate_of(const CqPartitionSlot *slot);
static void put_partition(ReturnSetInfo *result, const PartitionRow *row);
static void set_time(Datum *values, bool *nulls, int column, TimestampTz time);
static Interval *interval_of_us(int64 us);

Datum
cq_task_slots(PG_FUNCTION_ARGS)
{
	CqTaskSlot *slots = NULL;
	int64 *leaders = NULL;
	int n = 0;
	int i;

	InitMaterializedSRF(fcinfo, 0);
	if (cq_shared)
		n = read_tasks(&slots, &leaders);
	for (i = 0; i < n; i++)
		put_task((ReturnSetInfo *) fcinfo->resultinfo, &slots[i], leaders[i]);
	return (Datum) 0;
}

/* A copy, so that no row is made with the lock held. */
static int
read_tasks(CqTaskSlot **slots, int64 **leaders)
{
	int n = 0;
	int i;

	*slots = palloc(sizeof(CqTaskSlot) * Max(cq_shared->ntasks, 1));
	*leaders = palloc(sizeof(int64) * Max(cq_shared->ntasks, 1));
	LWLockAcquire(cq_shared->lock, LW_SHARED);
	for (i = 0; i < cq_shared->ntasks; i++)
		if (cq_shared->tasks[i].in_use)
		{
			(*leaders)[n] = leader_of(&cq_shared->tasks[i]);
			(*slots)[n++] = cq_shared->tasks[i];
		}
	LWLockRelease(cq_shared->lock);
	return n;
}

/* The view that leads its task; 0 if it is in none.  Caller must hold the lock. */
static int64
leader_of(const CqTaskSlot *slot)
{
	return slot->pid != 0 && slot->leader != 0 ? cq_shared->tasks[slot->leader - 1].task : 0;
}

static void
put_task(ReturnSetInfo *result, const CqTaskSlot *slot, int64 leader)
{
	Datum values[TASK_COLUMNS] = {0};
	bool nulls[TASK_COLUMNS] = {false};
	int i;

	values[0] = ObjectIdGetDatum(slot->database);
	values[1] = Int64GetDatum(slot->task);
	values[2] = Int32GetDatum((int32) slot->pid);
	nulls[2] = slot->pid == 0;
	values[3] = CStringGetTextDatum(cq_activity_name(slot->activity));
	set_time(values, nulls, 4, slot->pid ? slot->started_at : 0);
	set_time(values, nulls, 5, slot->pid ? 0 : slot->start_after);
	values[6] = Int32GetDatum(slot->failures);
	set_time(values, nulls, 7, slot->pid ? slot->watermark : DT_NOBEGIN);
	values[8] = IntervalPGetDatum(interval_of_us(slot->last_checkpoint_us));
	values[9] = Int64GetDatum(slot->state_bytes);
	values[10] = Int64GetDatum(slot->groups);
	values[11] = Int64GetDatum(slot->open_windows);
	for (i = 8; i <= 11; i++)
		nulls[i] = slot->pid == 0;
	set_time(values, nulls, 12, slot->error_at);
	values[13] = CStringGetTextDatum(unpack_sql_state(slot->error_sqlstate));
	values[14] = CStringGetTextDatum(slot->error_message);
	nulls[13] = nulls[14] = slot->error_at == 0;
	values[15] = Int64GetDatum(leader);
	nulls[15] = leader == 0;
	values[16] = IntervalPGetDatum(interval_of_us(slot->commit_us));
	values[17] = IntervalPGetDatum(interval_of_us(slot->longest_commit_us));
	values[18] = Int64GetDatum(slot->saved_groups);
	values[19] = Int64GetDatum(slot->evictions);
	values[20] = Int64GetDatum(slot->loads);
	values[21] = BoolGetDatum(slot->state_reused);
	values[22] = Int64GetDatum(slot->chunk_bytes);
	values[23] = Int64GetDatum(slot->live_chunk_bytes);
	for (i = 16; i <= 23; i++)
		nulls[i] = slot->pid == 0;
	values[24] = TimestampTzGetDatum(slot->first_end);
	nulls[24] = slot->pid == 0 || TIMESTAMP_NOT_FINITE(slot->first_end);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
cq_partition_slots(PG_FUNCTION_ARGS)
{
	PartitionRow *rows = NULL;
	int n = 0;
	int i;

	InitMaterializedSRF(fcinfo, 0);
	if (cq_shared)
		n = read_partitions(&rows);
	for (i = 0; i < n; i++)
		put_partition((ReturnSetInfo *) fcinfo->resultinfo, &rows[i]);
	return (Datum) 0;
}

static int
read_partitions(PartitionRow **rows)
{
	int n = 0;
	int i;

	*rows = palloc(sizeof(PartitionRow) * Max(cq_shared->npartitions, 1));
	LWLockAcquire(cq_shared->lock, LW_SHARED);
	for (i = 0; i < cq_shared->npartitions; i++)
	{
		CqPartitionSlot *slot = &cq_shared->partitions[i];

		if (!slot->in_use || slot->task_slot < 0 || slot->task_slot >= cq_shared->ntasks)
			continue;
		(*rows)[n].database = cq_shared->tasks[slot->task_slot].database;
		(*rows)[n].leader = cq_shared->tasks[slot->task_slot].task;
		(*rows)[n++].slot = *slot;
	}
	LWLockRelease(cq_shared->lock);
	return n;
}

static void
put_partition(ReturnSetInfo *result, const PartitionRow *row)
{
	Datum values[PARTITION_COLUMNS] = {0};
	bool nulls[PARTITION_COLUMNS] = {false};

	values[0] = ObjectIdGetDatum(row->database);
	values[1] = Int64GetDatum(row->leader);
	values[2] = Int32GetDatum(row->slot.stream);
	values[3] = Int32GetDatum(row->slot.partition);
	values[4] = Int64GetDatum(row->slot.end_offset);
	nulls[4] = row->slot.end_offset == CQ_OFFSET_UNKNOWN;
	values[5] = Int64GetDatum(row->slot.next_offset);
	set_time(values, nulls, 6, row->slot.max_event_time);
	values[7] = BoolGetDatum(row->slot.idle);
	values[8] = BoolGetDatum(row->slot.unreachable);
	values[9] = Float8GetDatum(rate_of(&row->slot));
	values[10] = IntervalPGetDatum(interval_of_us(cq_clock_now() - row->slot.last_record_at));
	nulls[10] = row->slot.last_record_at == 0 || row->slot.last_record_at == DT_NOBEGIN;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static double
rate_of(const CqPartitionSlot *slot)
{
	int64 now_us = cq_metrics_clock_us();
	double rate = cq_metrics_read(slot->rate,
								  CQ_HORIZON_MINUTE,
								  now_us - slot->since_us,
								  now_us - slot->rated_us);

	return rint(rate * 1000) / 1000;
}

/* The region that the state of all views is in: how large it is, and what is in use. */
Datum
cq_state_memory(PG_FUNCTION_ARGS)
{
	Datum values[2];
	bool nulls[2] = {false, false};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cq_require_preload();
	values[0] = Int64GetDatum((int64) cq_state_memory_kb * 1024);
	values[1] = Int64GetDatum((int64) cq_region_bytes_in_use());
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

Datum
cq_launcher_pid(PG_FUNCTION_ARGS)
{
	pid_t pid = 0;

	if (cq_shared)
	{
		LWLockAcquire(cq_shared->lock, LW_SHARED);
		pid = cq_shared->launcher_pid;
		LWLockRelease(cq_shared->lock);
	}
	if (pid == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32((int32) pid);
}

/* Zero and minus infinity stand for "none" in the slots. */
static void
set_time(Datum *values, bool *nulls, int column, TimestampTz time)
{
	values[column] = TimestampTzGetDatum(time);
	nulls[column] = time == 0 || TIMESTAMP_IS_NOBEGIN(time);
}

static Interval *
interval_of_us(int64 us)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = us;
	return interval;
}
