/*
 * scan.c
 *	  Reading a Kafka stream directly.
 *
 * Records are decoded as for views.  One that cannot be is an error, or left out
 * and counted where the stream's on_error is skip: then a number of records is
 * decoded in a subtransaction, before their rows are given out, as decoding may
 * throw.  Otherwise each is decoded when its row is asked for, so that LIMIT does
 * not fail on what is behind it.
 *
 * Event times play no part: every record that can be decoded is a row.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/ruleutils.h"

#include "compat.h"
#include "decode/decoder.h"
#include "plan/stage.h"
#include "source/direct/conditions.h"
#include "source/direct/direct.h"

#define SKIPPING_ROWS 128 /* decoded in one subtransaction */

/* Views go on as they do: the option of the stream that they read is not touched. */
#define READ_AROUND_HINT                                                                           \
	"Leave it out by a condition on the column with the metadata \"offset\", or read another "     \
	"foreign table of the topic that has the option \"on_error\" set to \"skip\"."

struct CqDirectRead
{
	ForeignScanState *node;
	CqStream *stream;
	CqDecoder *decoder;
	CqConditions *conditions;
	CqKafkaRead *log; /* NULL = not connected */
	bool started;	  /* since the last restart */
	bool finished;	  /* no record can be wanted */
	MemoryContext query;
	MemoryContext rows; /* what is in values */
	Datum *values;		/* of nrows rows, with room for capacity */
	bool *nulls;
	int capacity;
	int nrows;
	int next;
	int64 skipped;			/* over all restarts */
	const CqRecord *record; /* that is being decoded */
};

static CqDecoder *make_decoder(const CqStream *stream, ForeignScan *plan);
static void start(CqDirectRead *read);
static void connect_topic(CqDirectRead *read);
static void fill(CqDirectRead *read);
static bool fill_skipping(CqDirectRead *read);
static bool decode(CqDirectRead *read, CqDecodeError *error);
static void refuse(const CqDirectRead *read, const CqDecodeError *error);
static void name_record(void *arg);
static void explain_conditions(ForeignScanState *node, ExplainState *es);
static void explain_counts(const CqDirectRead *read, ExplainState *es);

CqDirectRead *
cq_direct_begin(ForeignScanState *node)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	CqDirectRead *read = palloc0(sizeof(CqDirectRead));

	read->node = node;
	read->query = CurrentMemoryContext;
	read->rows = AllocSetContextCreate(CurrentMemoryContext,
									   "pipeline rows of a topic",
									   ALLOCSET_DEFAULT_SIZES);
	read->stream = cq_stream_load(RelationGetRelid(node->ss.ss_currentRelation));
	read->decoder = make_decoder(read->stream, plan);
	read->conditions =
		cq_conditions_prepare(read->stream, plan->scan.scanrelid, plan->fdw_exprs, &node->ss.ps);
	read->capacity = read->stream->on_error == CQ_ON_ERROR_SKIP ? SKIPPING_ROWS : 1;
	read->values = palloc(sizeof(Datum) * read->capacity * (read->stream->ncolumns + 1));
	read->nulls = palloc(sizeof(bool) * read->capacity * (read->stream->ncolumns + 1));
	return read;
}

static CqDecoder *
make_decoder(const CqStream *stream, ForeignScan *plan)
{
	Bitmapset *columns = NULL;
	ListCell *lc;
	int i;

	foreach (lc, CQ_DIRECT_COLUMNS(plan))
		columns = bms_add_member(columns, lfirst_int(lc));
	for (i = 0; CQ_DIRECT_COLUMNS(plan) == NIL && i < stream->ncolumns; i++)
		columns = bms_add_member(columns, i + 1);
	return cq_decoder_create(stream, columns);
}

void
cq_direct_next(CqDirectRead *read, TupleTableSlot *slot)
{
	int natts = read->stream->ncolumns;

	ExecClearTuple(slot);
	if (read->next == read->nrows)
	{
		if (!read->started)
			start(read);
		fill(read);
		if (read->nrows == 0)
			return;
	}
	memcpy(slot->tts_values, &read->values[(Size) read->next * natts], sizeof(Datum) * natts);
	memcpy(slot->tts_isnull, &read->nulls[(Size) read->next * natts], sizeof(bool) * natts);
	read->next++;
	ExecStoreVirtualTuple(slot);
}

/* Nobody is asked where nothing can be found. */
static void
start(CqDirectRead *read)
{
	ExprContext *econtext = read->node->ss.ps.ps_ExprContext;
	MemoryContext old;
	CqKafkaSlice *slices;
	int nslices;

	MemoryContextReset(read->rows);
	old = MemoryContextSwitchTo(read->rows);
	slices = cq_conditions_evaluate(read->conditions, econtext, &nslices);
	read->started = true;
	read->finished = nslices == 0;
	if (!read->finished)
	{
		if (read->log == NULL)
			connect_topic(read);
		cq_kafka_read_start(read->log, slices, nslices);
	}
	MemoryContextSwitchTo(old);
}

static void
connect_topic(CqDirectRead *read)
{
	CqKafkaReadTopic topic = {
		.server_id = read->stream->server_id,
		.user = cq_compat_scan_user(read->node),
		.topic = read->stream->topic,
		.name = read->stream->name,
		.partition_ids = read->stream->partition_ids,
	};

	read->log = cq_kafka_read_open(&topic, read->query);
}

static void
fill(CqDirectRead *read)
{
	MemoryContext old;
	CqDecodeError error;

	MemoryContextReset(read->rows);
	read->nrows = 0;
	read->next = 0;
	if (read->finished)
		return;
	/* subtransactions cannot begin beside parallel workers */
	if (read->stream->on_error == CQ_ON_ERROR_SKIP && !IsInParallelMode())
	{
		while (fill_skipping(read))
			continue;
		return;
	}
	old = MemoryContextSwitchTo(read->rows);
	read->record = cq_kafka_read_next(read->log);
	if (read->record && !decode(read, &error))
		refuse(read, &error);
	MemoryContextSwitchTo(old);
}

/* False if there is nothing more to do: enough rows, or no more records. */
static bool
fill_skipping(CqDirectRead *read)
{
	MemoryContext old_context = CurrentMemoryContext;
	ResourceOwner old_owner = CurrentResourceOwner;
	volatile bool more = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(read->rows);
	PG_TRY();
	{
		while (more && read->nrows < read->capacity)
		{
			CqDecodeError error;

			read->record = cq_kafka_read_next(read->log);
			more = read->record != NULL;
			if (more && !decode(read, &error))
				read->skipped++;
		}
		more = false;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(read->rows);
		error = CopyErrorData();
		if (read->record == NULL || !cq_error_is_of_record(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		read->skipped++;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old_context);
	CurrentResourceOwner = old_owner;
	return more;
}

/* Into the next row. */
static bool
decode(CqDirectRead *read, CqDecodeError *error)
{
	Size first = (Size) read->nrows * read->stream->ncolumns;
	ErrorContextCallback context;
	bool ok;

	context.callback = name_record;
	context.arg = read;
	context.previous = error_context_stack;
	error_context_stack = &context;
	ok = cq_decoder_decode(read->decoder,
						   read->record,
						   &read->values[first],
						   &read->nulls[first],
						   error);
	error_context_stack = context.previous;
	if (ok)
		read->nrows++;
	return ok;
}

static void
refuse(const CqDirectRead *read, const CqDecodeError *error)
{
	ereport(ERROR,
			errcode(error->sqlstate),
			errmsg("cannot decode a record of stream \"%s\": %s",
				   read->stream->name,
				   error->message),
			errdetail("It has offset %lld in partition %d of topic \"%s\".",
					  (long long) read->record->offset,
					  cq_kafka_record_partition(read->record),
					  read->stream->topic),
			errhint(READ_AROUND_HINT));
}

static void
name_record(void *arg)
{
	const CqDirectRead *read = arg;

	errcontext("record at offset %lld of partition %d of topic \"%s\"",
			   (long long) read->record->offset,
			   cq_kafka_record_partition(read->record),
			   read->stream->topic);
	if (cq_error_is_of_record(geterrcode()))
		errhint(READ_AROUND_HINT);
}

void
cq_direct_restart(CqDirectRead *read)
{
	read->started = false;
	read->nrows = 0;
	read->next = 0;
}

void
cq_direct_end(CqDirectRead *read)
{
	if (read->skipped > 0)
		ereport(
			WARNING,
			errmsg_plural("%lld record of stream \"%s\" could not be decoded and was left out",
						  "%lld records of stream \"%s\" could not be decoded and were left out",
						  (unsigned long) read->skipped,
						  (long long) read->skipped,
						  read->stream->name));
	if (read->log)
		cq_kafka_read_close(read->log);
	read->log = NULL;
}

void
cq_direct_explain(ForeignScanState *node, CqDirectRead *read, ExplainState *es)
{
	explain_conditions(node, es);
	if (es->analyze && read)
		explain_counts(read, es);
}

static void
explain_conditions(ForeignScanState *node, ExplainState *es)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	bool prefix = list_length(es->rtable) > 1 || es->verbose;
	List *context;

	if (plan->fdw_exprs == NIL)
		return;
	context = set_deparse_context_plan(es->deparse_cxt, (Plan *) plan, NIL);
	ExplainPropertyText("Seek Cond",
						deparse_expression((Node *) make_ands_explicit(plan->fdw_exprs),
										   context,
										   prefix,
										   false),
						es);
}

static void
explain_counts(const CqDirectRead *read, ExplainState *es)
{
	CqKafkaReadStats stats = {0};

	if (read->log)
		cq_kafka_read_stats(read->log, &stats);
	ExplainPropertyText("Partitions Read",
						psprintf("%d of %d", stats.touched, stats.partitions),
						es);
	ExplainPropertyInteger("Records Read", NULL, stats.records, es);
	ExplainPropertyInteger("Bytes Read", NULL, stats.bytes, es);
	if (read->skipped > 0)
		ExplainPropertyInteger("Records Left Out", NULL, read->skipped, es);
}
