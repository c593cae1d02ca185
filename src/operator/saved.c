/*
 * saved.c
 *	  An operator's state to its chunk table and back.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "errors.h"
#include "operator/shape.h"
#include "window/window.h"

static void save(CqOperator *operator, Relation chunks);
static void drop_closed(CqOperator *operator);
static void rewrite(CqOperator *operator, CqPane * pane, CqChunkNumber *victims, int nvictims);
static bool load_wanted(void *arg, int64 start);
static void set_layouts(CqOperator *operator);
static void load_chunk(void *arg, CqChunkData *chunk);
static CqPane *pane_to_load(CqOperator *operator, int64 start);

void
cq_operator_save(CqOperator *operator, Relation chunks)
{
	int encoding = cq_client_encoding_pin();

	operator->state->current = false;
	PG_TRY();
	{
		save(operator, chunks);
	}
	PG_FINALLY();
	{
		cq_client_encoding_restore(encoding);
	}
	PG_END_TRY();
	cq_operator_check_private(operator);
}

/*
 * What is given up goes first: a group that changed is written to its bucket
 * then, and not to the log as well.
 */
static void
save(CqOperator *operator, Relation chunks)
{
	CqState *state = operator->state;
	CqChunkNumber *victims = NULL;
	int nvictims = 0;
	int i;

	operator->relation = chunks;
	cq_chunklog_begin(operator->log, chunks);
	drop_closed(operator);
	if (operator->ops->rewrite)
		nvictims = cq_chunklog_victims(operator->log, &victims);
	cq_operator_make_room(operator);
	for (i = 0; i < state->npanes; i++)
	{
		CqPane *pane = state->panes[i];

		CHECK_FOR_INTERRUPTS();
		operator->ops->save(operator, pane);
		rewrite(operator, pane, victims, nvictims);
		cq_chunklog_flush(operator->log);
	}
	cq_operator_make_all_room(operator);
	cq_chunklog_end(operator->log);
}

static void
drop_closed(CqOperator *operator)
{
	CqPane *pane;

	for (pane = operator->state->closed; pane; pane = pane->next)
		cq_chunklog_drop(operator->log, &pane->chunks);
}

/* Write the live entries of those victims again that are the pane's. */
static void
rewrite(CqOperator *operator, CqPane * pane, CqChunkNumber *victims, int nvictims)
{
	CqChunkNumber number;
	CqChunkData chunk;
	int i;

	for (i = 0; i < nvictims; i++)
	{
		if (cq_chunklog_list(operator->log, victims[i]) != &pane->chunks)
			continue;
		CHECK_FOR_INTERRUPTS();
		number = victims[i];
		cq_chunklog_fetch(operator->log, operator->relation, number, &chunk);
		operator->ops->rewrite(operator, pane, &chunk);
	}
}

int64
cq_operator_committed(CqOperator *operator, int64 epoch)
{
	int64 saved = operator->state->touched_groups;

	cq_state_committed(operator->state, epoch);
	operator->relation = NULL;
	if (!cq_has_one_pane(operator))
		operator->current = NULL;
	return saved;
}

void
cq_operator_read(CqOperator *operator, Relation chunks, int64 epoch)
{
	CqState *state = operator->state;

	operator->relation = chunks;
	operator->loading = true;
	if (operator->nkinds> 0)
	{
		/* rows that find no room stay on disk, groups of the log cannot */
		cq_region_set_loading(state->store, true);
		set_layouts(operator);
	}
	if (cq_has_one_pane(operator))
		operator->current = cq_pane_open(operator, 0, 0, DT_NOEND);
	cq_chunklog_scan(operator->log,
					 chunks,
					 operator->ops->newest_first,
					 operator->load_after == DT_NOBEGIN && operator->load_upto == DT_NOEND
						 ? NULL
						 : load_wanted,
					 load_chunk,
					 operator);
	if (operator->session_rows)
		cq_session_rows_loaded(operator);
	if (operator->count_rows)
		cq_count_rows_loaded(operator);
	cq_operator_check_private(operator);
	state->chunks.filenumber = chunks->rd_rel->relfilenode;
	(void) cq_operator_committed(operator, epoch);
	cq_region_set_loading(state->store, false);
	operator->loading = false;
}

static bool
load_wanted(void *arg, int64 start)
{
	CqOperator *operator= arg;
	CqPane bounds = {0};

	/* what is wrong with a window that is not found is said when it is loaded */
	return !cq_pane_bounds(operator, start, &bounds) ||
		   (bounds.first_end > operator->load_after && bounds.first_end <= operator->load_upto);
}

static void
set_layouts(CqOperator *operator)
{
	CqGroupLayout *layouts = palloc(operator->nkinds * sizeof(CqGroupLayout));
	int i;

	for (i = 0; i < operator->nkinds; i++)
		layouts[i] = operator->kinds[i].layout;
	if (!cq_state_set_layouts(operator->state, layouts, operator->nkinds))
		cq_operator_full(operator);
	pfree(layouts);
}

void
cq_operator_seed_keys(CqOperator *operator)
{
	int i;

	for (i = 0; i < operator->nkinds; i++)
		cq_key_seed(operator->kinds[i].codec, operator->state->chunks.seed);
}

static void
load_chunk(void *arg, CqChunkData *chunk)
{
	CqOperator *operator= arg;
	CqPane *pane = operator->current;

	cq_operator_seed_keys(operator);
	if (pane == NULL || pane->start != chunk->pane)
	{
		pane = pane_to_load(operator, chunk->pane);
		operator->current = pane;
	}
	operator->ops->load(operator, pane, chunk);
	if (operator->rows >= operator->next_check)
		cq_operator_check_private(operator);
}

/* The pane that a saved chunk belongs to, by the start of its window. */
static CqPane *
pane_to_load(CqOperator *operator, int64 start)
{
	CqPane *pane = cq_operator_pane(operator, start);
	CqPane bounds = {0};

	if (pane)
		return pane;
	if (cq_has_one_pane(operator))
		cq_reader_damaged();
	if (!cq_pane_bounds(operator, start, &bounds) || bounds.start != start)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("operator state has a window that does not begin where windows begin"),
				errdetail("Its start is " INT64_FORMAT ".", start),
				errhint("The rules of the window's time zone may have changed."));
	if (bounds.last_end <= operator->closed_to)
		ereport(ERROR,
				errcode(CQ_ERRCODE_STOP),
				errmsg("operator state has a window that was closed"),
				errdetail("The window's start is " INT64_FORMAT
						  ", windows are closed up to " INT64_FORMAT ".",
						  start,
						  operator->closed_to));
	pane = cq_pane_open(operator, cq_pane_search_start(operator, start), bounds.start, bounds.end);
	cq_pane_bounds_copy(pane, &bounds);
	return pane;
}

bool
cq_pane_bounds(CqOperator *operator, int64 start, CqPane *pane)
{
	const CqWindow *window = &operator->window;
	TimestampTz first_start;
	TimestampTz last_end;

	if (operator->sliced)
		return cq_slices_place(operator, start, pane);
	if (operator->overlapping)
	{
		/* hopping: the last of them begins then; cumulating: the first ends a step later */
		if (!cq_window_span(window, start, &first_start, &pane->end, &last_end))
			return false;
		if (window->kind == CQ_WINDOW_HOP)
			pane->end = last_end;
		pane->start = cq_pane_own_start(operator, pane->end);
	}
	else if (!cq_window_find(window, start, &pane->start, &pane->end))
		return false;
	pane->first_end = pane->last_end = pane->end;
	return true;
}

/*
 * Binary output and input functions convert text to the client's encoding and
 * from it.  What they write for us stays in the database's.
 */
int
cq_client_encoding_pin(void)
{
	int encoding = pg_get_client_encoding();

	if (encoding == GetDatabaseEncoding())
		return -1;
	SetClientEncoding(GetDatabaseEncoding());
	return encoding;
}

void
cq_client_encoding_restore(int encoding)
{
	if (encoding >= 0)
		SetClientEncoding(encoding);
}

void
cq_operator_vacuumed(CqOperator *operator)
{
	operator->state->chunks.deleted = 0;
}
