/*
 * careful.c
 *	  Running a stage query so that errors are pinned on single events.
 *
 * An error leaves an executor useless, and what it had opened is released with
 * the (sub)transaction.  So the batch, or a part of it, is run by a fresh
 * executor in a subtransaction; if that fails for a reason that lies in an
 * event, the part is halved, until single events are left.  Rows are set aside
 * and given out when the subtransaction is over: what the consumer does with
 * them must not be undone by an error of a later event.
 *
 * An error of the consumer itself is not caught here.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "plan/prepared.h"
#include "plan/rowlist.h"
#include "plan/stage.h"

typedef struct CqCareful
{
	CqPrepared *prepared;
	const CqBatch *batch;
	CqRowConsumer consume;
	CqEventFailure failed;
	void *arg;
	CqStageCounts *counts;
} CqCareful;

/* Rows of a part, numbered as in the whole batch. */
typedef struct CqPart
{
	int first;
	CqRowList *rows; /* NULL until there is one */
	MemoryContext context;
} CqPart;

static void run_range(CqCareful *careful, int first, int count);
static ErrorData *try_range(CqCareful *careful, int first, int count, CqPart *part,
							CqStageCounts *counts);
static void run_fresh(CqCareful *careful, int first, int count, CqPart *part,
					  CqStageCounts *counts);
static void set_aside(void *arg, int ordinal, TupleTableSlot *row);

void
cq_stage_run_carefully(CqPrepared *prepared, const CqBatch *batch, CqRowConsumer consume,
					   CqEventFailure failed, void *arg, CqStageCounts *counts)
{
	CqCareful careful = {prepared, batch, consume, failed, arg, counts};

	memset(counts, 0, sizeof(CqStageCounts));
	run_range(&careful, 0, batch->nevents);
}

static void
run_range(CqCareful *careful, int first, int count)
{
	CqPart part = {first, NULL, CurrentMemoryContext};
	CqStageCounts counts = {0};
	ErrorData *error;

	CHECK_FOR_INTERRUPTS();
	if (count == 0)
		return;
	error = try_range(careful, first, count, &part, &counts);
	if (error == NULL)
	{
		if (part.rows != NULL)
			cq_row_list_give(part.rows, careful->consume, careful->arg);
		careful->counts->rows += counts.rows;
		careful->counts->filtered += counts.filtered;
		careful->counts->unmatched += counts.unmatched;
	}
	if (part.rows != NULL)
		cq_row_list_free(part.rows);
	if (error == NULL)
		return;

	if (!cq_error_is_of_record(error->sqlerrcode))
		ReThrowError(error);
	if (count == 1)
		careful->failed(careful->arg, first, error);
	else
	{
		run_range(careful, first, count / 2);
		run_range(careful, first + count / 2, count - count / 2);
	}
	FreeErrorData(error);
}

/* Run a part in a subtransaction; an error is returned in the caller's context. */
static ErrorData *
try_range(CqCareful *careful, int first, int count, CqPart *part, CqStageCounts *counts)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		run_fresh(careful, first, count, part, counts);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

static void
run_fresh(CqCareful *careful, int first, int count, CqPart *part, CqStageCounts *counts)
{
	MemoryContext executor = AllocSetContextCreate(CurTransactionContext,
												   "pipeline careful stage",
												   ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(executor);
	CqBatch batch = *careful->batch;
	CqStage *stage;

	batch.nevents = count;
	batch.events += first;
	batch.values += (Size) first * batch.natts;
	batch.nulls += (Size) first * batch.natts;
	stage = cq_stage_begin(careful->prepared);
	cq_stage_run(stage, &batch, set_aside, part, counts);
	cq_stage_end(stage);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(executor);
}

static void
set_aside(void *arg, int ordinal, TupleTableSlot *row)
{
	CqPart *part = arg;

	if (part->rows == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(part->context);

		part->rows = cq_row_list_create(row->tts_tupleDescriptor);
		MemoryContextSwitchTo(old);
	}
	cq_row_list_add(part->rows, part->first + ordinal, row);
}
