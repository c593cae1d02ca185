/*
 * retry.c
 *	  pipeline.retry_dead_letters(): records of dead letters are processed again.
 *
 * As with late rows (apply_late.c) the function only leaves a request, in the caller's
 * transaction: it marks the letters that were chosen, and counts in the task's row that
 * there are some.  The worker carries it out in its next checkpoints, a portion in each.
 * A letter is deleted in the transaction in which its record is counted by the view; if
 * the record fails again the letter is written anew there, with the new error.  So
 * whatever happens a record is in one of the two, and never in both.  When no
 * letter is marked any more the request is cleared; wait_for() waits for that.
 *
 * The records take the way of all records, from the decoder on: as a source of their
 * own, whose partitions are those that they came from, in the place of the run's.  What
 * they were read from is not asked again, and no position moves.  Nor does the
 * watermark: it has gone by what came since, and an event is late by what it is now.
 * Rows of streams without a payload are in the letter as JSON (kept_row.c).
 *
 * Where a view has several workers each takes the letters of partitions that it reads,
 * as groups may be kept apart by partition.  The one that finds no more of anybody's
 * clears the request.
 *
 * A stage plan's errors are pinned on their records in flight, as in a careful
 * batch.  After one of a transition function the transaction is repeated with half of
 * the letters, until one stands alone, which is then known not to be good.
 *
 * A letter that another transaction is deleting is left alone, and looked for once
 * more after a while.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/tables.h"
#include "clock.h"
#include "compat.h"
#include "errors.h"
#include "plan/stage.h"
#include "runtime/kept_row.h"
#include "runtime/retry.h"
#include "runtime/shard.h"
#include "settings.h"

/* So much is processed in one checkpoint, at most; and when memory is short. */
#define STEP_BYTES	  (16 * 1024 * 1024)
#define SHORT_LETTERS 64
#define PAUSE_US	  (INT64CONST(100) * 1000)

/* Columns of pipeline_data.dead_letters. */
enum
{
	COL_VIEW = 1,
	COL_STREAM,
	COL_PARTITION,
	COL_OFFSET,
	COL_BROKER_TIME,
	COL_FAILED_AT,
	COL_SQLSTATE,
	COL_MESSAGE,
	COL_KEY,
	COL_PAYLOAD,
	COL_HEADERS,
	COL_TRUNCATED,
	COL_RETRY,
	COL_ID,
	COL_COUNT = COL_ID
};

/* The letters of one checkpoint, as a source and what else their records are made of. */
typedef struct Letters
{
	MemoryContext context;
	CqRun *run;
	CqViewRun *view;
	int capacity;
	int n;
	CqSource source; /* the run's, but for records and partitions: one for each */
	CqStoredRecord *stored;
	TimestampTz now;
	Size bytes;
	bool left;				  /* some were not taken, and are this worker's */
	bool others;			  /* some are another worker's */
	CqDecoder **decoders;	  /* by stream; NULL = not made yet */
	CqDecoder **row_decoders; /* likewise, of rows as JSON */
	CqStream **row_streams;
} Letters;

static int step_letters(const CqRun *run, const CqViewRun *view);
static Letters *letters_create(CqRun *run, CqViewRun *view, int capacity);
static void letters_take(Letters *letters);
static bool letter_is_own(const Letters *letters, int32 partition);
static bool row_delete(Letters *letters, Relation rel, TupleTableSlot *slot);
static void letter_add(Letters *letters, TupleTableSlot *slot);
static const char *bytes_copy(TupleTableSlot *slot, int column, Size *len);
static int stream_number(const CqView *view, Oid stream);
static void letters_process(Letters *letters);
static void batch_begin(Letters *letters, CqBatch *batch, int stream);
static void record_take(Letters *letters, CqBatch *batch, int index);
static bool record_decode(Letters *letters, CqBatch *batch, const CqRecord *record,
						  CqDecodeError *error);
static bool decode(Letters *letters, CqBatch *batch, const CqRecord *record, CqDecodeError *error);
static bool decode_row(Letters *letters, const CqStream *stream, const CqRecord *record,
					   Datum *values, bool *nulls, CqDecodeError *error);
static bool event_settle(Letters *letters, const CqBatch *batch, CqEvent *event,
						 const CqRecord *record);
static const CqCondemnedLetter *letter_condemned(const CqRun *run, int64 id);
static void batch_evaluate(Letters *letters, CqBatch *batch);
static bool is_of_letter(int sqlstate);
static void care_relax(CqCare *care, bool done);

bool
cq_retry_due(const CqRun *run, const CqViewRun *view, long *wait_ms)
{
	int64 left_us;

	/* positions of the stream are not known before history has ended */
	if (view->task.retry == 0 || OidIsValid(run->stream->history_of))
		return false;
	left_us = view->retry_not_before_us - cq_clock_us();
	if (left_us <= 0)
		return true;
	*wait_ms = Min(*wait_ms, left_us / 1000 + 1);
	return false;
}

void
cq_retry_step(CqRun *run, CqViewRun *view)
{
	Letters *letters = letters_create(run, view, step_letters(run, view));
	bool done;

	letters_take(letters);
	view->checkpoint.counters.retried += letters->n;
	run->retrying = letters->n;
	run->letter = letters->n > 0 ? letters->stored[0].id : 0;
	if (letters->n > 0)
		letters_process(letters);
	run->retrying = 0;
	done = !letters->left;
	care_relax(run->care, done);
	if (done && !letters->others && cq_task_clear_retry(view->view.id, view->task.retry))
		view->task.retry = 0;
	else if (done || letters->n == 0)
		view->retry_not_before_us = cq_clock_us() + PAUSE_US;
	MemoryContextDelete(letters->context);
}

static int
step_letters(const CqRun *run, const CqViewRun *view)
{
	int n = run->care->letters > 0 ? run->care->letters : cq_batch_size;
	int i;

	for (i = 0; i < view->ninputs; i++)
		if (view->inputs[i].op && cq_operator_wants_save(view->inputs[i].op))
			return Min(n, SHORT_LETTERS);
	return n;
}

static Letters *
letters_create(CqRun *run, CqViewRun *view, int capacity)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pipeline dead letters",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Letters *letters = palloc0(sizeof(Letters));
	int nparts = run->source->nparts;

	letters->context = context;
	letters->run = run;
	letters->view = view;
	letters->capacity = capacity;
	letters->now = cq_clock_now();
	letters->source = *run->source;
	letters->source.npartitions = 0;
	letters->source.partitions = palloc(sizeof(CqPartition) * capacity);
	letters->source.records = palloc(sizeof(CqRecord) * capacity);
	letters->stored = palloc(sizeof(CqStoredRecord) * capacity);
	letters->decoders = palloc0(sizeof(CqDecoder *) * nparts);
	letters->row_decoders = palloc0(sizeof(CqDecoder *) * nparts);
	letters->row_streams = palloc0(sizeof(CqStream *) * nparts);
	MemoryContextSwitchTo(old);
	return letters;
}

/* In the order in which they became dead letters. */
static void
letters_take(Letters *letters)
{
	Relation rel = cq_table_open("dead_letters", RowExclusiveLock);
	Oid index_id = get_relname_relid("dead_letters_retry", RelationGetNamespace(rel));
	Relation index = index_open(index_id, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData keys[2];
	IndexScanDesc scan;
	bool isnull;

	ScanKeyInit(&keys[0],
				1,
				BTEqualStrategyNumber,
				F_INT8EQ,
				Int64GetDatum(letters->view->view.id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_BOOLEQ, BoolGetDatum(true));
	scan = cq_compat_index_beginscan(rel, index, GetActiveSnapshot(), 2);
	index_rescan(scan, keys, 2, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (!letter_is_own(letters, DatumGetInt32(slot_getattr(slot, COL_PARTITION, &isnull))))
		{
			letters->others = true;
			continue;
		}
		if (letters->n == letters->capacity || letters->bytes > STEP_BYTES)
		{
			letters->left = true;
			break;
		}
		if (row_delete(letters, rel, slot))
			letter_add(letters, slot);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
}

static bool
letter_is_own(const Letters *letters, int32 partition)
{
	const CqShard *shard = letters->view->shard;

	return shard == NULL || Max(partition, 0) % shard->workers == shard->number;
}

/* False if somebody else has it, or has deleted it; nobody is waited for. */
static bool
row_delete(Letters *letters, Relation rel, TupleTableSlot *slot)
{
	TM_FailureData failure;
	TM_Result result = table_tuple_delete(rel,
										  &slot->tts_tid,
										  GetCurrentCommandId(true),
										  GetActiveSnapshot(),
										  InvalidSnapshot,
										  false,
										  &failure,
										  false);

	if (result != TM_Ok && result != TM_Deleted)
		letters->left = true;
	return result == TM_Ok;
}

/* What is stored out of line goes with the row: all is copied. */
static void
letter_add(Letters *letters, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(letters->context);
	int i = letters->n++;
	CqPartition *partition = &letters->source.partitions[i];
	CqRecord *record = &letters->source.records[i];
	CqStoredRecord *stored = &letters->stored[i];

	slot_getallattrs(slot);
	memset(partition, 0, sizeof(CqPartition));
	partition->id = DatumGetInt32(slot->tts_values[COL_PARTITION - 1]);
	partition->stream =
		stream_number(&letters->view->view, DatumGetObjectId(slot->tts_values[COL_STREAM - 1]));
	letters->source.npartitions = letters->n;

	memset(record, 0, sizeof(CqRecord));
	record->partition = i;
	record->offset = DatumGetInt64(slot->tts_values[COL_OFFSET - 1]);
	record->timestamp = slot->tts_isnull[COL_BROKER_TIME - 1]
							? DT_NOBEGIN
							: DatumGetTimestampTz(slot->tts_values[COL_BROKER_TIME - 1]);
	record->payload = bytes_copy(slot, COL_PAYLOAD, &record->payload_len);
	record->key = bytes_copy(slot, COL_KEY, &record->key_len);
	record->stored = stored;

	stored->id = DatumGetInt64(slot->tts_values[COL_ID - 1]);
	stored->partition = partition->id;
	stored->headers = bytes_copy(slot, COL_HEADERS, &stored->headers_len);
	letters->bytes += record->payload_len + record->key_len + stored->headers_len;
	MemoryContextSwitchTo(old);
}

static const char *
bytes_copy(TupleTableSlot *slot, int column, Size *len)
{
	bytea *bytes;

	*len = 0;
	if (slot->tts_isnull[column - 1])
		return NULL;
	bytes = DatumGetByteaPCopy(slot->tts_values[column - 1]);
	*len = VARSIZE(bytes) - VARHDRSZ;
	return VARDATA(bytes);
}

/* The function has chosen none of other streams. */
static int
stream_number(const CqView *view, Oid stream)
{
	ListCell *lc;

	foreach (lc, view->streams)
		if (lfirst_oid(lc) == stream)
			return foreach_current_index(lc);
	elog(ERROR, "dead letter of stream %u, which the view does not read", stream);
	return -1;
}

/* A batch is of one stream. */
static void
letters_process(Letters *letters)
{
	CqRun *run = letters->run;
	CqSource *source = run->source;
	int stream;

	run->source = &letters->source;
	for (stream = 0; stream < letters->source.nparts; stream++)
	{
		CqBatch batch;
		CqRunIdentity saved;
		int i;

		batch_begin(letters, &batch, stream);
		saved = cq_run_as_owner(run);
		for (i = 0; i < letters->n; i++)
			if (letters->source.partitions[i].stream == stream)
				record_take(letters, &batch, i);
		cq_run_as_system(saved);
		if (batch.nevents > 0)
			batch_evaluate(letters, &batch);
	}
	run->source = source;
}

static void
batch_begin(Letters *letters, CqBatch *batch, int stream)
{
	MemoryContext old = MemoryContextSwitchTo(letters->context);
	int n = 0;
	int i;

	for (i = 0; i < letters->n; i++)
		n += letters->source.partitions[i].stream == stream;
	memset(batch, 0, sizeof(CqBatch));
	batch->context = letters->context;
	batch->stream = stream;
	batch->natts = letters->source.parts[stream]->stream->ncolumns;
	batch->events = palloc0(sizeof(CqEvent) * Max(n, 1));
	batch->values = palloc(sizeof(Datum) * Max((Size) n * batch->natts, 1));
	batch->nulls = palloc(sizeof(bool) * Max((Size) n * batch->natts, 1));
	MemoryContextSwitchTo(old);
}

static void
record_take(Letters *letters, CqBatch *batch, int index)
{
	CqRun *run = letters->run;
	CqViewRun *view = letters->view;
	const CqRecord *record = &letters->source.records[index];
	const CqCondemnedLetter *condemned = letter_condemned(run, record->stored->id);
	CqEvent *event = &batch->events[batch->nevents];
	CqDecodeError error;

	CHECK_FOR_INTERRUPTS();
	if (condemned)
		cq_dead_letter(run, view, record, condemned->sqlstate, condemned->message);
	else if (!record_decode(letters, batch, record, &error))
		cq_dead_letter(run, view, record, error.sqlstate, error.message);
	else
	{
		event->record = index;
		event->partition = index;
		event->offset = record->offset;
		event->arrival = letters->now;
		event->watermark = cq_view_run_watermark(run, view);
		if (event_settle(letters, batch, event, record))
			batch->nevents++;
		else
			cq_dead_letter(run,
						   view,
						   record,
						   ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
						   "event time is too far in the future");
	}
}

/* In a subtransaction, because input functions may throw. */
static bool
record_decode(Letters *letters, CqBatch *batch, const CqRecord *record, CqDecodeError *error)
{
	MemoryContext old_context = CurrentMemoryContext;
	ResourceOwner old_owner = CurrentResourceOwner;
	volatile bool decoded = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(letters->context);
	PG_TRY();
	{
		decoded = decode(letters, batch, record, error);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *thrown;

		MemoryContextSwitchTo(letters->context);
		thrown = CopyErrorData();
		if (!cq_error_is_of_record(thrown->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		error->sqlstate = thrown->sqlerrcode;
		error->message = thrown->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old_context);
	CurrentResourceOwner = old_owner;
	return decoded;
}

static bool
decode(Letters *letters, CqBatch *batch, const CqRecord *record, CqDecodeError *error)
{
	int number = batch->stream;
	const CqStream *stream = letters->source.parts[number]->stream;
	Datum *values = &batch->values[(Size) batch->nevents * batch->natts];
	bool *nulls = &batch->nulls[(Size) batch->nevents * batch->natts];

	if (stream->format == CQ_FORMAT_ROW || record->stored->partition == CQ_HISTORY_PARTITION)
		return decode_row(letters, stream, record, values, nulls, error);
	if (letters->decoders[number] == NULL)
		letters->decoders[number] = cq_decoder_create(stream, letters->view->columns[number]);
	return cq_decoder_decode(letters->decoders[number], record, values, nulls, error);
}

static bool
decode_row(Letters *letters, const CqStream *stream, const CqRecord *record, Datum *values,
		   bool *nulls, CqDecodeError *error)
{
	int number = letters->source.partitions[record->partition].stream;

	if (!cq_kept_row_fits(stream, record->payload, record->payload_len, error))
		return false;
	if (letters->row_decoders[number] == NULL)
	{
		letters->row_streams[number] = cq_kept_row_stream(stream);
		letters->row_decoders[number] =
			cq_decoder_create(letters->row_streams[number], letters->view->columns[number]);
	}
	return cq_decoder_decode(letters->row_decoders[number], record, values, nulls, error);
}

/* False if it is from the future; by the same clocks as when it came. */
static bool
event_settle(Letters *letters, const CqBatch *batch, CqEvent *event, const CqRecord *record)
{
	const CqStream *stream = letters->source.parts[batch->stream]->stream;
	Size row = (Size) batch->nevents * batch->natts;
	TimestampTz limit = letters->now;

	event->has_time = false;
	if (stream->event_time == 0 || batch->nulls[row + stream->event_time - 1])
		return true;
	event->time = DatumGetTimestampTz(batch->values[row + stream->event_time - 1]);
	if (TIMESTAMP_NOT_FINITE(event->time))
		return true;
	if (record->timestamp != DT_NOBEGIN)
		limit = Min(limit, record->timestamp);
	if (stream->max_ahead_us >= 0 && event->time > limit &&
		event->time - limit > stream->max_ahead_us)
		return false;
	event->has_time = true;
	return true;
}

static const CqCondemnedLetter *
letter_condemned(const CqRun *run, int64 id)
{
	ListCell *lc;

	foreach (lc, run->care->letters_condemned)
		if (((CqCondemnedLetter *) lfirst(lc))->id == id)
			return lfirst(lc);
	return NULL;
}

static void
batch_evaluate(Letters *letters, CqBatch *batch)
{
	CqRun *run = letters->run;
	CqBatch own = run->batch;

	run->batch = *batch;
	cq_evaluate(run, letters->view);
	run->batch = own;
	run->batch.nevents = 0;
}

/* After a portion that went through: larger ones. */
static void
care_relax(CqCare *care, bool done)
{
	ListCell *lc;

	if (care->letters > 0)
		care->letters *= 2;
	if (care->letters >= cq_batch_size || done)
		care->letters = 0;
	if (!done)
		return;
	foreach (lc, care->letters_condemned)
		pfree(((CqCondemnedLetter *) lfirst(lc))->message);
	list_free_deep(care->letters_condemned);
	care->letters_condemned = NIL;
}

/*
 * Where memory is too short for a single one, or what the query needs is not there for
 * it alone, that one stays a dead letter.
 */
bool
cq_retry_blamed(CqWorker *worker, const ErrorData *error)
{
	const CqRun *run = worker->run;
	CqCare *care = &worker->care;
	CqCondemnedLetter *condemned;

	if (run == NULL || run->retrying == 0 || run->phase != CQ_PHASE_EVALUATE ||
		!is_of_letter(error->sqlerrcode))
		return false;
	if (list_length(run->views) > 1)
		return true; /* the view finds it alone */
	if (run->retrying > 1)
	{
		care->letters = run->retrying / 2;
		return true;
	}
	condemned = palloc0(sizeof(CqCondemnedLetter));
	condemned->id = run->letter;
	condemned->sqlstate = error->sqlerrcode;
	condemned->message = pstrdup(error->message);
	care->letters_condemned = lappend(care->letters_condemned, condemned);
	return true;
}

static bool
is_of_letter(int sqlstate)
{
	return cq_error_is_of_record(sqlstate) || sqlstate == CQ_ERRCODE_STATE_FULL ||
		   ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
		   ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_FEATURE_NOT_SUPPORTED;
}
