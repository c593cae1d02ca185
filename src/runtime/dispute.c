/*
 * dispute.c
 *	  Records that some views of a task can decode and others cannot.
 *
 * A record is bad for a view if something is wrong with a column that the view
 * reads, or with the record's form.  Views of one task read different columns,
 * and what is one view's dead letter may be another's event.  It must not even
 * move the watermark of the first one, so from this record on they have not
 * seen the same: they part.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "errors.h"
#include "plan/stage.h"
#include "runtime/run.h"

static bool view_decodes(CqRun *run, CqViewRun *view, const CqRecord *record, CqDecodeError *error);
static bool decode_once(CqViewRun *view, const CqRun *run, const CqRecord *record,
						CqDecodeError *error);

void
cq_dispute(CqRun *run, const CqRecord *record)
{
	int n = list_length(run->views);
	CqDecodeError *errors = MemoryContextAllocZero(run->batch.context, sizeof(CqDecodeError) * n);
	List *refusing = NIL;
	ListCell *lc;

	foreach (lc, run->views)
		if (!view_decodes(run, lfirst(lc), record, &errors[foreach_current_index(lc)]))
			refusing = lappend(refusing, lfirst(lc));
	if (list_length(refusing) < n)
	{
		MemoryContext old = MemoryContextSwitchTo(run->context);

		/* what several of them read is wrong, or it would have been decoded */
		run->refusing = list_copy(refusing);
		MemoryContextSwitchTo(old);
		ereport(ERROR,
				errcode(CQ_ERRCODE_APART),
				errmsg_internal("record is bad for %d of %d views", list_length(refusing), n));
	}
	foreach (lc, run->views)
	{
		const CqDecodeError *error = &errors[foreach_current_index(lc)];

		cq_dead_letter(run, lfirst(lc), record, error->sqlstate, error->message);
	}
}

/* In a subtransaction, because input functions may throw. */
static bool
view_decodes(CqRun *run, CqViewRun *view, const CqRecord *record, CqDecodeError *error)
{
	MemoryContext old_context = CurrentMemoryContext;
	ResourceOwner old_owner = CurrentResourceOwner;
	volatile bool decoded = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(run->batch.context);
	PG_TRY();
	{
		decoded = decode_once(view, run, record, error);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *thrown;

		MemoryContextSwitchTo(run->batch.context);
		thrown = CopyErrorData();
		if (!cq_error_is_of_record(thrown->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		error->sqlstate = thrown->sqlerrcode;
		error->message = cq_decode_thrown(thrown);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old_context);
	CurrentResourceOwner = old_owner;
	return decoded;
}

/* The message may be in a buffer of the decoder's. */
static bool
decode_once(CqViewRun *view, const CqRun *run, const CqRecord *record, CqDecodeError *error)
{
	int stream = run->batch.stream;
	CqDecoder *decoder =
		cq_decoder_create(run->source->parts[stream]->stream, view->columns[stream]);
	Datum *values = palloc(sizeof(Datum) * Max(run->batch.natts, 1));
	bool *nulls = palloc(sizeof(bool) * Max(run->batch.natts, 1));

	if (cq_decoder_decode(decoder, record, values, nulls, error))
		return true;
	error->message = pstrdup(error->message);
	return false;
}
