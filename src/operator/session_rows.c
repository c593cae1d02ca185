/*
 * session_rows.c
 *	  Sessions that keep their rows, for queries that cannot be kept as
 *	  aggregates' states.
 *
 * What a session is, is session.c's rule.  Here each has the list of its rows, in
 * order of arrival, which the close query gets when the session is complete; two
 * sessions that an event connects have theirs merged.
 *
 * All is in the worker's own memory.  In the chunks there are the rows as they
 * came, each with its time and the watermark that it met.  From these the rule
 * makes the same sessions again; those that end before closed_to were given out.
 * What came in from another operator (session_parts.c) has the range of the part that
 * it was of for its time; the range of a part that holds a session has no row.
 * Of such a one some rows may still be there, because others in their chunk are
 * of use: they make sessions of the same key that are as complete, and take
 * nothing from any other.
 *
 * Where rows change each session is given out by itself, whenever it has got rows; it
 * is known by the least number of its rows among all.  What is kept for late events,
 * taken back by them, shown, put off and removed is session.c's rule, too.
 *
 * Invariants
 *	E4. Chunks have every row of each session that was not given out.
 *	E5. A session depends on its rows, their order and the watermarks they met
 *		alone, so it is the same after loading.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "operator/session_rows.h"

static void create(CqOperator *operator, const CqPlan * plan);
static void init_pane(CqOperator *operator, CqPane * pane);
static void fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls);
static int compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg);
static bool touches_complete(CqOperator *operator, const CqReason * reason, CqMissed *missed);
static CqKeptSession *session_touching(CqOperator *operator, const CqReason * reason,
									   CqKeptSession **second);
static CqKeptSession *session_open(CqOperator *operator, const CqReason * reason);
static void session_merge(CqOperator *operator, CqKeptSession * into, CqKeptSession *from);
static void session_free(CqOperator *operator, CqKeptSession * session);
static void row_is_new(CqOperator *operator, CqKeptRow * row);
static CqKeptRow *row_copy(CqOperator *operator, const CqReason * reason, MinimalTuple tuple);
static CqKeptRow *row_alloc(CqOperator *operator, const CqReason * reason, Size length);
static pairingheap *heap_of(const CqOperator *operator, const CqKeptSession * session);
static void take_back(CqOperator *operator, CqKeptSession * session);
static void note_absorbed(CqOperator *operator, CqKeptSession * into, const CqKeptSession *from);
static void row_count(CqOperator *operator, CqKeptSession * session, CqKeptRow *row);
static void part_take(CqOperator *operator, const CqKeptSession * from);

const CqShapeOps cq_shape_session_rows = {
	.newest_first = false,
	.create = create,
	.init_pane = init_pane,
	.fold = fold,
	.save = cq_session_rows_save,
	.load = cq_session_rows_load,
	.verify_begin = cq_session_rows_verify_begin,
	.verify = cq_session_rows_verify,
	.verify_end = cq_session_rows_verify_end,
};

static void
create(CqOperator *operator, const CqPlan * plan)
{
	CqSessionRows *own = palloc0(sizeof(CqSessionRows));

	cq_shape_rows.create(operator, plan);
	own->context =
		AllocSetContextCreate(operator->context, "pipeline sessions", ALLOCSET_DEFAULT_SIZES);
	own->codec = cq_kept_log_codec(operator, plan);
	own->chains = cq_kept_chains_create(operator->context, 256, NULL);
	own->ends = pairingheap_allocate(compare_due, NULL);
	own->kept = pairingheap_allocate(compare_due, NULL);
	dlist_init(&own->changed);
	own->latest_end = DT_NOBEGIN;
	cq_kept_log_init(&own->log);
	operator->session_rows = own;
}

static void
init_pane(CqOperator *operator, CqPane * pane)
{
}

/* The session has the row already. */
static void
fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls)
{
}

/* The heap has the greatest on top. */
static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	TimestampTz x = pairingheap_const_container(CqKeptSession, node, a)->due;
	TimestampTz y = pairingheap_const_container(CqKeptSession, node, b)->due;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* ------------------------------------------------------------------------
 * Events in
 * ------------------------------------------------------------------------
 */

CqOutcome
cq_session_rows_consume(CqOperator *operator, const Datum * values, const bool *nulls,
						const CqEvent *event, CqMissed *missed)
{
	CqReason reason =
		{.first = event->time,
		 .last = event->time,
		 .watermark =
			 Max(cq_before(event->watermark, operator->allowed_lateness_us), operator->closed_to)};
	TimestampTz end = event->time + operator->window.size_us;
	CqKeptSession *session;
	CqKeptRow *row;

	if (!IS_VALID_TIMESTAMP(end))
		return CQ_NO_TIME;
	cq_key_pack(operator->session_rows->codec, values, nulls);
	missed->start = event->time;
	missed->end = end;
	if (operator->divided && touches_complete(operator, & reason, missed))
		session = NULL;
	else
		session = cq_kept_session_for(operator, & reason);
	if (session == NULL)
	{
		missed->n = 1;
		return CQ_LATE;
	}
	row = cq_kept_row_create(operator, values + 1, nulls + 1, &reason);
	cq_kept_row_add(operator, session, row);
	row_is_new(operator, row);
	if (operator->replaces)
		row_count(operator, session, row);
	return CQ_COUNTED;
}

/* One that waits for the others' parts (E7). */
static bool
touches_complete(CqOperator *operator, const CqReason * reason, CqMissed *missed)
{
	CqReason any = *reason;
	CqKeptSession *second;
	CqKeptSession *session;

	any.watermark = DT_NOBEGIN;
	session = session_touching(operator, & any, &second);
	if (session == NULL || cq_kept_session_end(operator, session) >= reason->watermark)
		return false;
	missed->start = session->first;
	missed->end = cq_kept_session_end(operator, session);
	return true;
}

/*
 * The session of the key packed last that comprises a reason, with all that it
 * touches made one; NULL if it is late.
 */
CqKeptSession *
cq_kept_session_for(CqOperator *operator, const CqReason * reason)
{
	CqKeptSession *second;
	CqKeptSession *session = session_touching(operator, reason, &second);

	if (session == NULL)
		return reason->watermark > reason->last + operator->window.size_us
				   ? NULL
				   : session_open(operator, reason);
	take_back(operator, session);
	while (second)
	{
		session_merge(operator, session, second);
		session = session_touching(operator, reason, &second);
	}
	session->first = Min(session->first, reason->first);
	session->last = Max(session->last, reason->last);
	operator->session_rows->latest_end =
		Max(operator->session_rows->latest_end, cq_kept_session_end(operator, session));
	return session;
}

/* The earliest that is not past at the reason's watermark, and a later one. */
static CqKeptSession *
session_touching(CqOperator *operator, const CqReason * reason, CqKeptSession **second)
{
	CqKeyCodec *codec = operator->session_rows->codec;
	CqKeptChain *chain = cq_kept_chains_lookup(operator->session_rows->chains, codec->hash);
	int64 gap = operator->window.size_us;
	CqKeptSession *found = NULL;
	CqKeptSession *session;

	*second = NULL;
	for (session = chain ? chain->sessions : NULL; session; session = session->next)
	{
		if (session->last + gap < reason->watermark || reason->last + gap < session->first ||
			reason->first > session->last + gap ||
			!cq_key_equals(codec, CQ_KEPT_SESSION_KEY(session), session->key_size))
			continue;
		if (found == NULL)
			found = session;
		else if (session->first < found->first)
		{
			*second = found;
			found = session;
		}
		else
			*second = session;
	}
	return found;
}

static CqKeptSession *
session_open(CqOperator *operator, const CqReason * reason)
{
	CqSessionRows *own = operator->session_rows;
	CqKeyCodec *codec = own->codec;
	CqKeptSession *session =
		MemoryContextAllocZero(own->context,
							   MAXALIGN(sizeof(CqKeptSession)) + CQ_KEY_LENGTH(codec->size));
	CqKeptChain *chain;
	bool was_there;

	chain = cq_kept_chains_insert(own->chains, codec->hash, &was_there);
	if (!was_there)
		chain->sessions = NULL;
	session->first = reason->first;
	session->last = reason->last;
	session->due = cq_kept_session_end(operator, session);
	session->hash = codec->hash;
	session->key_size = codec->size;
	memcpy(CQ_KEPT_SESSION_KEY(session), codec->bytes, CQ_KEY_LENGTH(codec->size));
	session->next = chain->sessions;
	chain->sessions = session;
	own->latest_end = Max(own->latest_end, session->due);
	pairingheap_add(own->ends, &session->node);
	own->nsessions++;
	return session;
}

/* Two sessions that an event connects, the earlier first; rows stay in order of arrival. */
static void
session_merge(CqOperator *operator, CqKeptSession * into, CqKeptSession *from)
{
	CqKeptRow *a = into->rows;
	CqKeptRow *b = from->rows;
	CqKeptRow **end = &into->rows;

	while (a && b)
	{
		CqKeptRow **least = a->number < b->number ? &a : &b;

		*end = *least;
		end = &(*least)->next;
		*least = (*least)->next;
	}
	*end = a ? a : b;
	if (from->last_row->number > into->last_row->number)
		into->last_row = from->last_row;
	into->last = Max(into->last, from->last);
	pairingheap_remove(heap_of(operator, from), &from->node);
	if (operator->replaces)
		note_absorbed(operator, into, from);
	session_free(operator, from);
}

/* Rows of the one that is no more go away, unless it is the past that is read again. */
static void
note_absorbed(CqOperator *operator, CqKeptSession * into, const CqKeptSession *from)
{
	CqSessionRows *own = operator->session_rows;
	bool keeps_own = into->id < from->id;
	int64 *gone;

	if (!operator->loading &&(keeps_own ? from->is_shown : into->is_shown))
	{
		MemoryContext old = MemoryContextSwitchTo(own->context);

		gone = palloc(sizeof(int64));
		*gone = Max(into->id, from->id);
		own->absorbed = lappend(own->absorbed, gone);
		MemoryContextSwitchTo(old);
		into->must_be_shown = true;
	}
	into->must_be_shown |= from->must_be_shown;
	into->is_behind |= from->is_behind;
	if (keeps_own)
		return;
	into->id = from->id;
	into->is_shown = from->is_shown;
}

/* Not its rows. */
static void
session_free(CqOperator *operator, CqKeptSession * session)
{
	CqSessionRows *own = operator->session_rows;
	CqKeptChain *chain = cq_kept_chains_lookup(own->chains, session->hash);
	CqKeptSession **link = &chain->sessions;

	while (*link != session)
		link = &(*link)->next;
	*link = session->next;
	if (chain->sessions == NULL)
		cq_kept_chains_delete(own->chains, session->hash);
	own->nsessions--;
	if (session->is_changed)
		dlist_delete(&session->changed);
	pfree(session);
}

void
cq_kept_row_add(CqOperator *operator, CqKeptSession * session, CqKeptRow *row)
{
	row->number = ++operator->session_rows->nrows;
	if (session->last_row)
		session->last_row->next = row;
	else
		session->rows = row;
	session->last_row = row;
}

/* To be saved. */
static void
row_is_new(CqOperator *operator, CqKeptRow * row)
{
	cq_kept_log_add(&operator->session_rows->log, &row->entry);
	operator->state->ngroups++;
	operator->state->touched_groups++;
	operator->state->changed = true;
}

/* Where sessions are replaced. */
static void
row_count(CqOperator *operator, CqKeptSession * session, CqKeptRow *row)
{
	row->id = operator->state->next_gid++;
	if (session->id == 0)
		session->id = row->id;
	if (!session->is_changed)
		dlist_push_tail(&operator->session_rows->changed, &session->changed);
	session->is_changed = true;
}

CqKeptRow *
cq_kept_row_create(CqOperator *operator, const Datum * values, const bool *nulls,
				   const CqReason *reason)
{
	TupleDesc desc = operator->stored_desc;
	MinimalTuple tuple;
	CqKeptRow *row;
	int i;

	for (i = 0; i < desc->natts; i++)
	{
		Datum value = values[i];

		/* rows outlive what they point to: TOAST tables, expanded objects */
		if (!nulls[i] && TupleDescAttr(desc, i)->attlen == -1 &&
			VARATT_IS_EXTERNAL(DatumGetPointer(value)))
			value = PointerGetDatum(PG_DETOAST_DATUM(value));
		operator->values[i] = value;
		operator->nulls[i] = nulls[i];
	}
	tuple = cq_compat_form_minimal_tuple(desc, operator->values, operator->nulls);
	row = row_copy(operator, reason, tuple);
	pfree(tuple);
	return row;
}

static CqKeptRow *
row_copy(CqOperator *operator, const CqReason * reason, MinimalTuple tuple)
{
	CqKeptRow *row = row_alloc(operator, reason, tuple->t_len);

	row->has_tuple = true;
	memcpy(CQ_KEPT_ROW_TUPLE(row), tuple, tuple->t_len);
	return row;
}

/* Only a reason, of the key packed last. */
CqKeptRow *
cq_kept_reason_create(CqOperator *operator, const CqReason * reason)
{
	CqKeyCodec *codec = operator->session_rows->codec;
	CqKeptRow *row = row_alloc(operator, reason, CQ_KEY_LENGTH(codec->size));

	row->key_size = codec->size;
	memcpy(CQ_KEPT_ROW_KEY(row), codec->bytes, CQ_KEY_LENGTH(codec->size));
	return row;
}

static CqKeptRow *
row_alloc(CqOperator *operator, const CqReason * reason, Size length)
{
	CqKeptRow *row =
		MemoryContextAlloc(operator->session_rows->context, MAXALIGN(sizeof(CqKeptRow)) + length);

	memset(row, 0, sizeof(CqKeptRow));
	row->reason = *reason;
	return row;
}

/* ------------------------------------------------------------------------
 * Windows out
 * ------------------------------------------------------------------------
 */

/* The session of a heap that ends first, its place being its end; NULL if there is none. */
CqKeptSession *
cq_kept_first_to_end(CqOperator *operator, pairingheap * heap)
{
	while (!pairingheap_is_empty(heap))
	{
		CqKeptSession *session =
			pairingheap_container(CqKeptSession, node, pairingheap_first(heap));

		if (session->due == cq_kept_session_end(operator, session))
			return session;
		(void) pairingheap_remove_first(heap);
		session->due = cq_kept_session_end(operator, session);
		pairingheap_add(heap, &session->node);
	}
	return NULL;
}

static pairingheap *
heap_of(const CqOperator *operator, const CqKeptSession * session)
{
	return session->is_kept ? operator->session_rows->kept : operator->session_rows->ends;
}

/* One that was complete has got a late event: it is complete again, or not, at the checkpoint. */
static void
take_back(CqOperator *operator, CqKeptSession * session)
{
	if (!session->is_kept)
		return;
	pairingheap_remove(operator->session_rows->kept, &session->node);
	session->is_kept = false;
	pairingheap_add(operator->session_rows->ends, &session->node);
}

/* The one that ends first is complete. */
void
cq_kept_session_keep(CqOperator *operator, CqKeptSession * session)
{
	(void) pairingheap_remove_first(operator->session_rows->ends);
	session->is_kept = session->was_complete = true;
	pairingheap_add(operator->session_rows->kept, &session->node);
}

TimestampTz
cq_session_rows_first_end(CqOperator *operator)
{
	CqKeptSession *session = cq_kept_first_to_end(operator, operator->session_rows->ends);

	return session ? cq_kept_session_end(operator, session) + 1 : DT_NOEND;
}

int64
cq_session_rows_open(CqOperator *operator)
{
	return operator->session_rows->nsessions;
}

TimestampTz
cq_session_rows_last_end(CqOperator *operator)
{
	CqSessionRows *own = operator->session_rows;

	return pairingheap_is_empty(own->ends) ? DT_NOBEGIN : own->latest_end + 1;
}

int
cq_session_rows_close(CqOperator *operator, TimestampTz watermark, Tuplestorestate *rows)
{
	int closed = 0;
	CqKeptSession *session;

	while ((session = cq_kept_first_to_end(operator, operator->session_rows->ends)) != NULL &&
		   cq_kept_session_end(operator, session) < watermark)
	{
		CHECK_FOR_INTERRUPTS();
		(void) pairingheap_remove_first(operator->session_rows->ends);
		cq_kept_session_put(operator, session, rows);
		cq_kept_session_forget(operator, session);
		closed++;
	}
	operator->closed_to = Max(operator->closed_to, watermark);
	return closed;
}

/* Its rows, to be given out. */
void
cq_kept_session_put(CqOperator *operator, CqKeptSession * session, Tuplestorestate *rows)
{
	int n = operator->stored_desc->natts;
	CqKeptRow *row;

	cq_window_values(operator,
					 operator->emitting,
					 session->first,
					 cq_kept_session_end(operator, session));
	for (row = session->rows; row; row = row->next)
	{
		CHECK_FOR_INTERRUPTS();
		if (!row->has_tuple)
			continue;
		ExecStoreMinimalTuple(CQ_KEPT_ROW_TUPLE(row), operator->slot, false);
		slot_getallattrs(operator->slot);
		memcpy(&operator->values[operator->nkeys], operator->slot->tts_values, n * sizeof(Datum));
		memcpy(&operator->nulls[operator->nkeys], operator->slot->tts_isnull, n * sizeof(bool));
		tuplestore_putvalues(rows, operator->closed_desc, operator->values, operator->nulls);
		ExecClearTuple(operator->slot);
	}
	MemoryContextReset(operator->emitting);
}

/* It is in no heap any more, and is forgotten with its rows. */
void
cq_kept_session_forget(CqOperator *operator, CqKeptSession * session)
{
	CqKeptRow *row = session->rows;

	while (row)
	{
		CqKeptRow *next = row->next;

		cq_kept_log_let_go(operator, & operator->session_rows->log, &row->entry);
		row = next;
	}
	session_free(operator, session);
}

void
cq_session_rows_loaded(CqOperator *operator)
{
	CqSessionRows *own = operator->session_rows;
	CqKeptSession *session;

	cq_session_rows_forget(operator, operator->closed_to);
	if (!operator->replaces)
		return;
	while ((session = cq_kept_first_to_end(operator, own->ends)) != NULL &&
		   cq_kept_session_end(operator, session) < operator->shown_to)
	{
		CHECK_FOR_INTERRUPTS();
		session->is_shown = true;
		cq_kept_session_keep(operator, session);
	}
}

void
cq_session_rows_forget(CqOperator *operator, TimestampTz to)
{
	CqKeptSession *session;

	while ((session = cq_kept_first_to_end(operator, operator->session_rows->ends)) != NULL &&
		   cq_kept_session_end(operator, session) < to)
	{
		CHECK_FOR_INTERRUPTS();
		(void) pairingheap_remove_first(operator->session_rows->ends);
		cq_kept_session_forget(operator, session);
	}
	operator->closed_to = Max(operator->closed_to, to);
}

/* ------------------------------------------------------------------------
 * Parts of sessions that other operators have: see session_parts.c
 * ------------------------------------------------------------------------
 */

CqKeyCodec *
cq_session_rows_codec(CqOperator *operator)
{
	return operator->session_rows->codec;
}

void
cq_session_rows_take_part(CqOperator *operator, CqOperator * other, TimestampTz upto)
{
	CqSessionRows *theirs = other->session_rows;
	CqKeyCodec *codec = operator->session_rows->codec;
	cq_kept_chains_iterator iterator;
	CqKeptChain *chain;
	CqKeptSession *from;

	cq_kept_chains_start_iterate(theirs->chains, &iterator);
	while ((chain = cq_kept_chains_iterate(theirs->chains, &iterator)) != NULL)
		for (from = chain->sessions; from; from = from->next)
		{
			CqSession part = {.first = from->first, .last = from->last};
			MemoryContext old = MemoryContextSwitchTo(operator->scratch);

			CHECK_FOR_INTERRUPTS();
			(void) cq_key_repack(theirs->codec, CQ_KEPT_SESSION_KEY(from), from->key_size, codec);
			if (cq_kept_session_end(other, from) < upto)
				part_take(operator, from);
			else
				cq_session_hold_add(&operator->holds, operator->context, codec, &part);
			MemoryContextSwitchTo(old);
			MemoryContextReset(operator->scratch);
		}
}

/* With what was complete before nothing is connected that comes now, see E5. */
static void
part_take(CqOperator *operator, const CqKeptSession * from)
{
	CqReason reason = {.first = from->first, .last = from->last, .watermark = operator->closed_to };
	CqKeptSession *session = cq_kept_session_for(operator, & reason);
	const CqKeptRow *row;

	Assert(session != NULL);
	for (row = from->rows; row; row = row->next)
	{
		CqKeptRow *copy;

		if (!row->has_tuple)
			continue;
		copy = row_copy(operator, & reason, CQ_KEPT_ROW_TUPLE(row));
		cq_kept_row_add(operator, session, copy);
		row_is_new(operator, copy);
	}
}

void
cq_session_rows_hold(CqOperator *operator, TimestampTz first, TimestampTz last, TimestampTz upto)
{
	CqReason reason = {.first = first, .last = last, .watermark = operator->closed_to };
	CqKeptSession *second;
	CqKeptSession *session = session_touching(operator, & reason, &second);
	CqKeptRow *row;

	if (session == NULL || cq_kept_session_end(operator, session) >= upto)
		return;
	row = cq_kept_reason_create(operator, & reason);
	cq_kept_row_add(operator, cq_kept_session_for(operator, & reason), row);
	row_is_new(operator, row);
}
