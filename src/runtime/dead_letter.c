/*
 * dead_letter.c
 *	  Records that could not be decoded or evaluated, and events that were late.
 *
 * Both are written in the transaction that moves the positions past them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rangetypes.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "catalog/tables.h"
#include "compat.h"
#include "errors.h"
#include "runtime/kept_row.h"
#include "runtime/run.h"
#include "settings.h"
#include "window/window.h"

/* More of a record than this is not kept. */
#define KEEP_BYTES (16 * 1024 * 1024)

/* Messages of input functions quote what they were given, however long. */
#define KEEP_MESSAGE 1000

#define DEAD_LETTER_COLUMNS 14

static void keep_record(const CqRecord *record, CqDeadLetter *letter);
static const char *keep_bytes(CqDeadLetter *letter, const char *bytes, Size len, Size *kept);
static void keep_row(const CqRecord *record, CqDeadLetter *letter);
static Datum bytes_datum(const char *bytes, Size len, bool *isnull);
static int64 next_letter_id(void);
static void late_columns(const CqRun *run, const CqLateLayout *layout, int ordinal, Datum *values,
						 bool *nulls);
static Datum window_array(Oid time_type, const CqMissed *missed);

void
cq_dead_letter(CqRun *run, CqViewRun *view, const CqRecord *record, int sqlstate,
			   const char *message)
{
	const CqStream *stream = cq_source_stream(run->source, record->partition);
	int32 partition = run->source->partitions[record->partition].id;
	MemoryContext old;
	CqDeadLetter *letter;

	/* what fails once more stays */
	if (cq_record_stored(record) == NULL && stream->on_error == CQ_ON_ERROR_SKIP)
	{
		view->checkpoint.counters.skipped++;
		return;
	}
	if (cq_record_stored(record) == NULL && stream->on_error == CQ_ON_ERROR_STOP)
		cq_stop_at(run, record, sqlstate);
	old = MemoryContextSwitchTo(run->checkpoint_context);
	letter = palloc0(sizeof(CqDeadLetter));
	letter->stream = cq_stream_shown(stream);
	letter->partition = partition;
	letter->offset = record->offset;
	letter->broker_time = record->timestamp;
	letter->sqlstate = sqlstate;
	letter->message = pnstrdup(message, pg_mbcliplen(message, strlen(message), KEEP_MESSAGE));
	keep_record(record, letter);
	view->dead_letters = lappend(view->dead_letters, letter);
	run->set_aside_bytes +=
		sizeof(CqDeadLetter) + letter->key_len + letter->payload_len + letter->headers_len;
	view->checkpoint.counters.dead_letters++;
	MemoryContextSwitchTo(old);
}

/*
 * What came before the record counts: unless it is the first of its checkpoint,
 * the checkpoint is run again with only the records before it, and this one
 * begins the next.
 */
void
cq_stop_at(CqRun *run, const CqRecord *record, int sqlstate)
{
	const CqStream *stream = cq_source_stream(run->source, record->partition);
	int32 partition = run->source->partitions[record->partition].id;
	int before = (int) (record - run->source->records);

	if (before > 0 || run->batches > 0)
	{
		run->care->careful = true;
		run->care->max_events = before > 0 ? before : cq_batch_size;
		ereport(ERROR,
				errcode(CQ_ERRCODE_AGAIN),
				errmsg_internal("checkpoint ends before a record that stops the view"));
	}
	if (partition == CQ_HISTORY_PARTITION)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("row %lld of the history of stream \"%s\" cannot be processed",
					   (long long) record->offset,
					   stream->name),
				errdetail("SQLSTATE %s.", unpack_sql_state(sqlstate)));
	ereport(ERROR,
			errcode(CQ_ERRCODE_STOP),
			errmsg("record at partition %d, offset %lld of stream \"%s\" cannot be processed",
				   partition,
				   (long long) record->offset,
				   stream->name),
			errdetail("SQLSTATE %s.", unpack_sql_state(sqlstate)),
			stream->feed
				? errhint("It is a row of continuous view \"%s\", which may be taken back "
						  "later: it cannot be left out. Drop the view that reads it.",
						  stream->name)
				: errhint("Set the stream's option on_error to dead_letter or skip, then run "
						  "pipeline.resume()."));
}

/* All that it takes to process it once more. */
static void
keep_record(const CqRecord *record, CqDeadLetter *letter)
{
	const CqStoredRecord *stored = cq_record_stored(record);
	StringInfoData headers;

	letter->id = stored ? stored->id : 0;
	letter->key = keep_bytes(letter, record->key, record->key_len, &letter->key_len);
	if (record->values)
		keep_row(record, letter);
	else
		letter->payload =
			keep_bytes(letter, record->payload, record->payload_len, &letter->payload_len);
	initStringInfo(&headers);
	if (cq_record_headers(record, &headers))
		letter->headers = keep_bytes(letter, headers.data, headers.len, &letter->headers_len);
	pfree(headers.data);
}

static const char *
keep_bytes(CqDeadLetter *letter, const char *bytes, Size len, Size *kept)
{
	char *copy;

	*kept = 0;
	if (bytes == NULL)
		return NULL;
	if (len > KEEP_BYTES)
		letter->truncated = true;
	*kept = Min(len, KEEP_BYTES);
	copy = palloc(*kept + 1);
	memcpy(copy, bytes, *kept);
	return copy;
}

/* A local stream's record has no payload; keep the row as JSON. */
static void
keep_row(const CqRecord *record, CqDeadLetter *letter)
{
	Relation rel = table_open(letter->stream, NoLock);
	bool whole;
	char *json = cq_kept_row_write(RelationGetDescr(rel), record->values, record->nulls, &whole);

	letter->truncated = !whole;
	letter->payload = keep_bytes(letter, json, strlen(json), &letter->payload_len);
	pfree(json);
	table_close(rel, NoLock);
}

static Datum
bytes_datum(const char *bytes, Size len, bool *isnull)
{
	*isnull = bytes == NULL;
	return *isnull ? (Datum) 0 : PointerGetDatum(cstring_to_text_with_len(bytes, len));
}

static int64
next_letter_id(void)
{
	Oid schema = get_namespace_oid("pipeline_data", false);

	return nextval_internal(get_relname_relid("dead_letter_ids", schema), false);
}

void
cq_dead_letters_write(CqRun *run, CqViewRun *view)
{
	TimestampTz now = GetCurrentTimestamp();
	Relation rel;
	CatalogIndexState indexes;
	ListCell *lc;

	if (view->dead_letters == NIL)
		return;
	rel = cq_table_open("dead_letters", RowExclusiveLock);
	indexes = CatalogOpenIndexes(rel);
	foreach (lc, view->dead_letters)
	{
		CqDeadLetter *letter = lfirst(lc);
		Datum values[DEAD_LETTER_COLUMNS];
		bool nulls[DEAD_LETTER_COLUMNS] = {false};

		values[0] = Int64GetDatum(view->view.id);
		values[1] = ObjectIdGetDatum(letter->stream);
		values[2] = Int32GetDatum(letter->partition);
		values[3] = Int64GetDatum(letter->offset);
		values[4] = TimestampTzGetDatum(letter->broker_time);
		nulls[4] = letter->broker_time == DT_NOBEGIN;
		values[5] = TimestampTzGetDatum(now);
		values[6] = CStringGetTextDatum(unpack_sql_state(letter->sqlstate));
		values[7] = CStringGetTextDatum(letter->message);
		values[8] = bytes_datum(letter->key, letter->key_len, &nulls[8]);
		values[9] = bytes_datum(letter->payload, letter->payload_len, &nulls[9]);
		values[10] = bytes_datum(letter->headers, letter->headers_len, &nulls[10]);
		values[11] = BoolGetDatum(letter->truncated);
		values[12] = BoolGetDatum(false);
		values[13] = Int64GetDatum(letter->id != 0 ? letter->id : next_letter_id());
		CatalogTupleInsertWithInfo(rel,
								   heap_form_tuple(RelationGetDescr(rel), values, nulls),
								   indexes);
	}
	CatalogCloseIndexes(indexes);
	table_close(rel, NoLock);
	view->dead_letters = NIL;
	view->retention.written_letter = now;
}

void
cq_late_check(CqViewRun *view)
{
	Relation rel;

	view->late_layout = NULL;
	if (!OidIsValid(view->view.late))
		return;
	view->late_layout = cq_late_layout(view->plan, view->view.late_places);
	if (!view->view.options.store_late)
		return;
	rel = table_open(view->view.late, AccessShareLock);
	if (!cq_late_layout_fits(view->late_layout, RelationGetDescr(rel)))
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("table \"%s\" does not have the columns of late rows",
					   RelationGetRelationName(rel)),
				errdetail("The view reads other columns of stream \"%s\" than when it was created.",
						  get_rel_name(view->view.stream)),
				errhint("Undo the change of what the view reads, or drop the view and create it "
						"again."));
	table_close(rel, AccessShareLock);
}

bool
cq_event_is_new(CqRun *run, Bitmapset **events, int ordinal)
{
	MemoryContext old;

	if (bms_is_member(ordinal, *events))
		return false;
	old = MemoryContextSwitchTo(run->batch.context);
	*events = bms_add_member(*events, ordinal);
	MemoryContextSwitchTo(old);
	return true;
}

/* See late_table.h for what the columns are. */
void
cq_late_event(CqRun *run, CqViewRun *view, int ordinal, const CqMissed *missed)
{
	const CqEvent *event = &run->batch.events[ordinal];
	MemoryContext context;
	MemoryContext old;
	const int *ours;
	Datum *values;
	bool *nulls;
	int n;
	int i;

	if (!cq_event_is_new(run, &view->late_events, ordinal))
		return;
	view->checkpoint.counters.late += missed->n;
	if (view->late == NULL)
		return;
	ours = view->late_layout->ours;
	/* an event may be late for thousands of windows, and there may be many such events */
	context =
		AllocSetContextCreate(run->batch.context, "pipeline late event", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	n = RelationGetNumberOfAttributes(view->late_rel);
	values = palloc0(sizeof(Datum) * n);
	nulls = palloc(sizeof(bool) * n);
	memset(nulls, true, sizeof(bool) * n);
	late_columns(run, view->late_layout, ordinal, values, nulls);
	for (i = 0; i < CQ_LATE_COLUMNS; i++)
		nulls[ours[i]] = false;
	values[ours[CQ_LATE_WINDOWS]] = window_array(view->plan->window.time_type, missed);
	values[ours[CQ_LATE_ARRIVED_AT]] = TimestampTzGetDatum(event->arrival);
	values[ours[CQ_LATE_WATERMARK]] = TimestampTzGetDatum(event->watermark);
	values[ours[CQ_LATE_PARTITION]] = Int32GetDatum(run->source->partitions[event->partition].id);
	values[ours[CQ_LATE_OFFSET]] = Int64GetDatum(event->offset);
	cq_output_insert(view->late, values, nulls);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* Those that tell the event; all are null so far. */
static void
late_columns(const CqRun *run, const CqLateLayout *layout, int ordinal, Datum *values, bool *nulls)
{
	const CqBatch *batch = &run->batch;
	Size row = (Size) ordinal * batch->natts;
	int place;
	int i;

	for (i = 0; i < batch->natts; i++)
	{
		place = cq_late_place(layout, batch->stream, i);
		if (place < 0)
			continue;
		values[place] = batch->values[row + i];
		nulls[place] = batch->nulls[row + i];
	}
	if (layout->nstreams > 1)
	{
		place = layout->column_places[layout->whose];
		values[place] = ObjectIdGetDatum(run->source->parts[batch->stream]->stream->relid);
		nulls[place] = false;
	}
}

/* An array of ranges. */
static Datum
window_array(Oid time_type, const CqMissed *missed)
{
	Oid range_type = time_type == TIMESTAMPTZOID ? TSTZRANGEOID : TSRANGEOID;
	TypeCacheEntry *type = lookup_type_cache(range_type, TYPECACHE_RANGE_INFO);
	Datum *ranges = palloc(sizeof(Datum) * missed->n);
	int i;

	for (i = 0; i < missed->n; i++)
	{
		TimestampTz start = missed->start + i * missed->start_slide_us;
		TimestampTz end = missed->end + i * missed->end_slide_us;

		CHECK_FOR_INTERRUPTS();
		ranges[i] = cq_window_range(time_type, start, end);
	}
	return PointerGetDatum(construct_array(ranges,
										   (int) missed->n,
										   range_type,
										   type->typlen,
										   type->typbyval,
										   type->typalign));
}
