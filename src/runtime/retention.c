/*
 * retention.c
 *	  Rows and dead letters are kept for as long as the view's option retention says.
 *
 * They are deleted oldest first, by an index (ddl/retention.c), some in each
 * checkpoint, so that neither other views of the task nor new events wait long: for
 * at most a quarter of the time, and a quarter of a second at once.  What is counted
 * as expired is counted in the transaction that deletes it.
 *
 * How old a row is, is told by the view's watermark: history that is read again is not
 * old because it is history.  But a watermark from the future, which
 * advance_watermark() or max_ahead = off may bring about, must not delete what
 * is not even there yet: it counts no further than the clock.  The watermark is that of
 * the checkpoint before, by which windows that cannot change any more were
 * forgotten (retention is no less than keep_closed), so a row that goes is
 * known to nobody.  Who reads the view keeps what it was given.
 *
 * Dead letters are as old as their failure, by the clock.  Those that are to be
 * retried stay until they were.
 *
 * Where the index says that nothing is old, it also says what will be next; until then
 * nothing is looked for, and then not among what was deleted before, which may be in
 * the index for long.  Rows that come in older than that are noted; those that another
 * worker of the view writes wait for the next look at all, every ten minutes with some
 * checkpoint.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/retention.h"
#include "catalog/tables.h"
#include "clock.h"
#include "compat.h"
#include "runtime/retention.h"
#include "runtime/shard.h"
#include "window/window.h"

#define STEP_ROWS		 100000
#define STEP_SHORTEST_US 50000
#define STEP_LONGEST_US	 250000
#define STEP_SHARE		 4 /* of the time, one part */
#define LOOK_US			 (10 * USECS_PER_MINUTE)

/* Column of pipeline_data.dead_letters. */
#define LETTER_FAILED_AT 6

/* One table's rows that are older than a time, by an index that has the time last. */
typedef struct Expiry
{
	CqViewRun *view;
	Relation rel;
	Relation index;
	TimestampTz before;
	TimestampTz *oldest;  /* of the rows that stay */
	TimestampTz *gone_to; /* none is older */
	AttrNumber column;	  /* that tells the time */
	bool letters;		  /* the index has the view first */
	int64 stop_us;		  /* monotonic */
	int64 deleted;
} Expiry;

static void step(CqViewRun *view, CqRetention *state);
static TimestampTz rows_before(const CqViewRun *view);
static TimestampTz letters_before(const CqViewRun *view);
static TimestampTz before(TimestampTz time, int64 us);
static int64 expire_rows(CqViewRun *view, TimestampTz before, int64 stop_us);
static int64 expire_letters(CqViewRun *view, TimestampTz before, int64 stop_us);
static int64 expire(Expiry *expiry, Oid index);
static bool delete_old(Expiry *expiry, TupleTableSlot *slot);
static void find_oldest(Expiry *expiry, TupleTableSlot *slot);
static IndexScanDesc scan_begin(const Expiry *expiry, TimestampTz from, TimestampTz to);
static TimestampTz row_time(const Expiry *expiry, TupleTableSlot *slot);
static TimestampTz value_time(const CqRowTime *time, Datum value);
static bool row_delete(const Expiry *expiry, TupleTableSlot *slot);

void
cq_retention_prepare(CqViewRun *view)
{
	view->row_time_known = cq_row_time(view->plan, &view->row_time);
}

bool
cq_retention_due(const CqViewRun *view, long *wait_ms)
{
	const CqRetention *state = &view->retention;
	int64 left_us;

	if (view->view.options.retention_us < 0 || (view->shard && view->shard->number != 0) ||
		(rows_before(view) <= state->oldest_row && letters_before(view) <= state->oldest_letter))
		return false;
	left_us = state->not_before_us - cq_clock_us();
	if (left_us <= 0)
		return true;
	if (wait_ms)
		*wait_ms = Min(*wait_ms, left_us / 1000 + 1);
	return false;
}

void
cq_retention_note_row(CqViewRun *view, const Datum *values, const bool *nulls)
{
	int column = view->row_time.column - 1;
	TimestampTz time;

	if (view->view.options.retention_us < 0 || !view->row_time_known || nulls[column])
		return;
	time = value_time(&view->row_time, values[column]);
	view->retention.written_row = Min(view->retention.written_row, time);
}

void
cq_retention_init(CqRetention *state)
{
	memset(state, 0, sizeof(CqRetention));
	state->oldest_row = state->oldest_letter = DT_NOBEGIN;
	state->rows_gone_to = state->letters_gone_to = DT_NOBEGIN;
	state->written_row = state->written_letter = DT_NOEND;
}

/* What this transaction has written it does not see, and must not forget. */
void
cq_retention_step(CqViewRun *view)
{
	CqRetention *state = &view->retention;

	if (view->view.options.retention_us < 0 || (view->shard && view->shard->number != 0))
		return;
	step(view, state);
	if (state->any_written && TIMESTAMP_IS_NOEND(state->oldest_row))
		state->oldest_row = DT_NOBEGIN;
	state->oldest_row = Min(state->oldest_row, state->written_row);
	state->rows_gone_to = Min(state->rows_gone_to, state->written_row);
	state->oldest_letter = Min(state->oldest_letter, state->written_letter);
	state->letters_gone_to = Min(state->letters_gone_to, state->written_letter);
	state->written_row = state->written_letter = DT_NOEND;
	state->any_written = false;
}

/* What was to be deleted already, or may be by now. */
static void
step(CqViewRun *view, CqRetention *state)
{
	int64 began_us = cq_clock_us();
	int64 share_us = (began_us - state->not_before_us) / STEP_SHARE;
	int64 stop_us = began_us + Min(Max(share_us, STEP_SHORTEST_US), STEP_LONGEST_US);
	bool look = began_us >= state->look_us;

	if (!look && !cq_retention_due(view, NULL))
		return;
	if (look)
		state->rows_gone_to = state->letters_gone_to = DT_NOBEGIN;
	if (look || rows_before(view) > state->oldest_row)
	{
		int64 expired = expire_rows(view, rows_before(view), stop_us);

		view->checkpoint.counters.rows_expired += expired;
		view->checkpoint.counters.rows_kept -= expired;
	}
	if (look || letters_before(view) > state->oldest_letter)
		(void) expire_letters(view, letters_before(view), stop_us);
	if (look)
		state->look_us = began_us + LOOK_US;
	state->not_before_us = cq_clock_us() + (cq_clock_us() - began_us) * (STEP_SHARE - 1);
}

static TimestampTz
rows_before(const CqViewRun *view)
{
	return before(Min(view->checkpoint.closed_to, cq_clock_now()), view->view.options.retention_us);
}

static TimestampTz
letters_before(const CqViewRun *view)
{
	return before(cq_clock_now(), view->view.options.retention_us);
}

static TimestampTz
before(TimestampTz time, int64 us)
{
	TimestampTz before;

	return TIMESTAMP_IS_NOBEGIN(time) || pg_sub_s64_overflow(time, us, &before) ? DT_NOBEGIN
																				: before;
}

/*
 * Without the index, which somebody has dropped who may do everything, they would
 * have to be looked for among all.
 */
static int64
expire_rows(CqViewRun *view, TimestampTz before, int64 stop_us)
{
	Expiry expiry = {.view = view,
					 .rel = view->result_rel,
					 .before = before,
					 .oldest = &view->retention.oldest_row,
					 .gone_to = &view->retention.rows_gone_to,
					 .stop_us = stop_us};
	Oid index = cq_retention_index(view->view.id, view->view.result);

	*expiry.oldest = DT_NOEND;
	if (!view->row_time_known || TIMESTAMP_IS_NOBEGIN(before))
	{
		*expiry.oldest = DT_NOBEGIN;
		return 0;
	}
	/* where columns were added they need not stand in order */
	expiry.column = get_attnum(view->view.result, psprintf("c%d", view->row_time.column));
	if (OidIsValid(index))
		return expire(&expiry, index);
	ereport(LOG,
			errmsg("old rows of continuous view \"%s\" are not deleted", view->name),
			errdetail("Index pipeline_data.%s is missing.", cq_retention_index_name(view->view.id)),
			errhint("ALTER VIEW ... SET (pipeline.retention = 'off'), and then the interval "
					"again, makes a new one."));
	return 0;
}

static int64
expire_letters(CqViewRun *view, TimestampTz before, int64 stop_us)
{
	Expiry expiry = {.view = view,
					 .rel = cq_table_open("dead_letters", RowExclusiveLock),
					 .before = before,
					 .oldest = &view->retention.oldest_letter,
					 .gone_to = &view->retention.letters_gone_to,
					 .column = LETTER_FAILED_AT,
					 .letters = true,
					 .stop_us = stop_us};
	Oid index = get_relname_relid("dead_letters_failed_at", RelationGetNamespace(expiry.rel));
	int64 deleted = 0;

	*expiry.oldest = DT_NOEND;
	if (OidIsValid(index))
		deleted = expire(&expiry, index);
	table_close(expiry.rel, NoLock);
	return deleted;
}

static int64
expire(Expiry *expiry, Oid index)
{
	TupleTableSlot *slot = table_slot_create(expiry->rel, NULL);

	expiry->index = index_open(index, RowExclusiveLock);
	if (delete_old(expiry, slot))
		find_oldest(expiry, slot);
	else
		*expiry->oldest = DT_NOBEGIN;
	index_close(expiry->index, NoLock);
	ExecDropSingleTupleTableSlot(slot);
	return expiry->deleted;
}

/* Was that all? */
static bool
delete_old(Expiry *expiry, TupleTableSlot *slot)
{
	IndexScanDesc scan = scan_begin(expiry, *expiry->gone_to, expiry->before);
	bool all_deleted = true;
	bool more;

	while ((more = index_getnext_slot(scan, ForwardScanDirection, slot)))
	{
		CHECK_FOR_INTERRUPTS();
		if (all_deleted)
			*expiry->gone_to = row_time(expiry, slot);
		if (row_delete(expiry, slot))
			expiry->deleted++;
		else
			all_deleted = false;
		if (expiry->deleted >= STEP_ROWS || cq_clock_us() >= expiry->stop_us)
			break;
	}
	index_endscan(scan);
	if (!more && all_deleted)
		*expiry->gone_to = expiry->before;
	return !more;
}

static void
find_oldest(Expiry *expiry, TupleTableSlot *slot)
{
	IndexScanDesc scan = scan_begin(expiry, expiry->before, DT_NOEND);

	if (index_getnext_slot(scan, ForwardScanDirection, slot))
		*expiry->oldest = row_time(expiry, slot);
	index_endscan(scan);
}

/* Of rows with from <= time < to. */
static IndexScanDesc
scan_begin(const Expiry *expiry, TimestampTz from, TimestampTz to)
{
	const CqRowTime *time = &expiry->view->row_time;
	int64 span_us = expiry->letters ? 0 : time->span_us;
	bool zoned = expiry->letters || time->type == TIMESTAMPTZOID;
	AttrNumber column = expiry->letters ? 2 : 1;
	ScanKeyData keys[3];
	IndexScanDesc scan;
	int n = 0;

	if (expiry->letters)
		ScanKeyInit(&keys[n++],
					1,
					BTEqualStrategyNumber,
					F_INT8EQ,
					Int64GetDatum(expiry->view->view.id));
	if (!TIMESTAMP_IS_NOBEGIN(from))
		ScanKeyInit(&keys[n++],
					column,
					BTGreaterEqualStrategyNumber,
					zoned ? F_TIMESTAMPTZ_GE : F_TIMESTAMP_GE,
					TimestampTzGetDatum(before(from, span_us)));
	if (!TIMESTAMP_IS_NOEND(to))
		ScanKeyInit(&keys[n++],
					column,
					BTLessStrategyNumber,
					zoned ? F_TIMESTAMPTZ_LT : F_TIMESTAMP_LT,
					TimestampTzGetDatum(before(to, span_us)));
	scan = cq_compat_index_beginscan(expiry->rel, expiry->index, GetActiveSnapshot(), n);
	index_rescan(scan, keys, n, NULL, 0);
	return scan;
}

static TimestampTz
row_time(const Expiry *expiry, TupleTableSlot *slot)
{
	const CqRowTime *time = &expiry->view->row_time;
	bool isnull;
	Datum value;

	value = slot_getattr(slot, expiry->column, &isnull);
	if (expiry->letters)
		return DatumGetTimestampTz(value);
	return isnull ? DT_NOEND : value_time(time, value);
}

/* By which time the row is as old as the watermark says. */
static TimestampTz
value_time(const CqRowTime *time, Datum value)
{
	TimestampTz start;
	TimestampTz end;

	if (OidIsValid(time->range_type))
	{
		cq_window_range_bounds(time->range_type, value, &start, &end);
		return end;
	}
	end = DatumGetTimestampTz(value);
	return TIMESTAMP_NOT_FINITE(end) ? DT_NOEND : end + time->span_us;
}

/* False if somebody else has it, or has deleted it: nobody is waited for. */
static bool
row_delete(const Expiry *expiry, TupleTableSlot *slot)
{
	TM_FailureData failure;

	return table_tuple_delete(expiry->rel,
							  &slot->tts_tid,
							  GetCurrentCommandId(true),
							  GetActiveSnapshot(),
							  InvalidSnapshot,
							  false,
							  &failure,
							  false) == TM_Ok;
}
