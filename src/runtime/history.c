/*
 * history.c
 *	  Rows of a query that a view takes in before the first record of its stream.
 *
 * pipeline.backfill() builds a view anew beside the one that it is called for
 * (ddl/backfill.c).  The rows of its query are put into a hidden local stream,
 * the history, in the transaction that creates the new view.  That view's worker
 * first runs over the history as over any stream, and then over the view's own
 * stream, from the position at which the old view began.  So nothing is kept in
 * memory, everything is read once whatever crashes, and what can be done with an
 * event of the stream - dead letters, memory that gets short - is done with a
 * row of the history in the same way.
 *
 * The row of checkpoints
 *	While there is history the partitions of the view's position row are one of
 *	number CQ_HISTORY_PARTITION, which says how far it was read, and those of the
 *	stream with the positions at which reading them is to begin (none: the option
 *	"start" will say).  The last checkpoint of the history leaves the former out.
 *
 * Event time
 *	Rows of the history may be in any order.  The watermark is held (watermark.c), so
 *	no window closes and no row is late; in the last checkpoint it moves to the
 *	highest time of all, less the stream's bound on disorder.  This is the view's
 *	watermark only: that of the stream begins at nothing, as for every view that
 *	starts there.
 *
 * Invariants
 *	B1. That the history is in, and the positions in the stream, commit in the
 *		transaction that takes in its last row, or the end of it.
 *	B2. A run reads the history or the stream, never both: after B1 it is built anew.
 *	B3. A view with history is alone in its task.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "runtime/history.h"

static const CqPartition *find_partition(const CqCheckpoint *checkpoint, int32 id);

static bool
has_history(const CqRun *run)
{
	return OidIsValid(run->stream->history_of);
}

CqSource *
cq_history_open(CqRun *run, const CqViewRun *view, const CqStream *stream, MemoryContext context)
{
	const CqPartition *saved = find_partition(&view->checkpoint, CQ_HISTORY_PARTITION);
	CqSource *source = cq_local_source_open(stream, run->owner, saved, saved ? 1 : 0, context);

	source->partitions[0].id = CQ_HISTORY_PARTITION;
	return source;
}

static const CqPartition *
find_partition(const CqCheckpoint *checkpoint, int32 id)
{
	int i;

	for (i = 0; i < checkpoint->npartitions; i++)
		if (checkpoint->partitions[i].id == id)
			return &checkpoint->partitions[i];
	return NULL;
}

void
cq_history_end(CqRun *run)
{
	if (!has_history(run))
		return;
	Assert(list_length(run->views) == 1);
	run->history_ended = true;
	run->watermark.held = false;
	cq_watermark_refresh(&run->watermark, run->source);
}

void
cq_history_positions(CqRun *run, CqViewRun *view)
{
	CqCheckpoint *cp = &view->checkpoint;
	CqPartition *partitions;
	int n = 0;
	int i;

	if (!has_history(run))
		return;
	partitions = palloc(sizeof(CqPartition) * (view->nbegun + 1));
	if (!run->history_ended)
		partitions[n++] = cp->partitions[0];
	for (i = 0; i < view->nbegun; i++)
		if (view->begun[i].id != CQ_HISTORY_PARTITION)
			partitions[n++] = view->begun[i];
	cp->partitions = partitions;
	cp->npartitions = n;
	cp->stream_mark = DT_NOBEGIN;
	if (!run->history_ended)
		return;
	view->beginning.history = InvalidOid;
	cq_beginning_save(&view->beginning);
}

/*
 * What a Kafka stream had when a view began is told by the offsets at which its
 * partitions began; a position in a local stream says nothing about that.
 */
void
cq_history_note_start(CqRun *run, const CqViewRun *view)
{
	const CqStream *stream = run->stream;

	if (has_history(run) || run->source->nparts > 1 || stream->kind != CQ_STREAM_LOCAL ||
		stream->feed || stream->start != CQ_START_LATEST || view->checkpoint.npartitions > 0)
		return;
	run->start_cursor = MemoryContextStrdup(run->context, run->source->partitions[0].cursor);
}

void
cq_history_save_start(const CqRun *run, CqViewRun *view)
{
	if (run->start_cursor == NULL || view->checkpoint.npartitions > 0 || view->beginning.cursor)
		return;
	view->beginning.cursor = run->start_cursor;
	cq_beginning_save(&view->beginning);
}
