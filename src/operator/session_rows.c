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
 * Of such a one some rows may still be there, because others in their chunk are
 * of use: they make sessions of the same key that are as complete, and take
 * nothing from any other.
 *
 * Invariants
 *	E4. Chunks have every row of each session that was not given out.
 *	E5. A session depends on its rows, their order and the watermarks they met
 *		alone, so it is the same after loading.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "lib/pairingheap.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "operator/shape.h"

/* A row that a session has; the tuple follows. */
typedef struct KeptRow
{
	struct KeptRow *next; /* in its session */
	struct KeptRow *next_unsaved;
	uint64 number; /* in order of arrival */
	TimestampTz time;
	TimestampTz watermark;
	CqChunkNumber chunk; /* 0 = not saved yet */
	bool left;			 /* its session was given out before it was saved */
} KeptRow;

#define ROW_TUPLE(row) ((MinimalTuple) ((char *) (row) + MAXALIGN(sizeof(KeptRow))))

typedef struct Session
{
	pairingheap_node node;
	TimestampTz due; /* not later than its end */
	TimestampTz first;
	TimestampTz last;
	struct Session *next; /* of those whose keys have this hash */
	KeptRow *rows;
	KeptRow *last_row;
	uint32 hash;
	uint32 key_size;
	/* the key follows */
} Session;

#define SESSION_KEY(session) ((char *) (session) + MAXALIGN(sizeof(Session)))

typedef struct HashChain
{
	uint32 hash;
	char status;
	Session *sessions;
} HashChain;

#define SH_PREFIX			 chains
#define SH_ELEMENT_TYPE		 HashChain
#define SH_KEY_TYPE			 uint32
#define SH_KEY				 hash
#define SH_HASH_KEY(tb, key) murmurhash32(key)
#define SH_EQUAL(tb, a, b)	 ((a) == (b))
#define SH_SCOPE			 static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct CqSessionRows
{
	MemoryContext context; /* of sessions and rows */
	CqKeyCodec *codec;
	chains_hash *chains;
	pairingheap *ends;
	TimestampTz latest_end;
	int64 nsessions; /* of which none has been given out */
	uint64 nrows;	 /* so far */
	KeptRow *unsaved;
	KeptRow **unsaved_end;
	CqChunkNumber *released; /* chunks that rows given out are in, one for each */
	int nreleased;
	int released_capacity;
};

static void create(CqOperator *operator, const CqPlan * plan);
static void init_pane(CqOperator *operator, CqPane * pane);
static void fold(CqOperator *operator, CqPane * pane, Datum *values, bool *nulls);
static int compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg);
static Session *session_for(CqOperator *operator, TimestampTz time, TimestampTz watermark);
static Session *session_open(CqOperator *operator, HashChain * chain, TimestampTz time);
static void session_merge(CqOperator *operator, Session * into, Session *from);
static void session_free(CqOperator *operator, Session * session);
static void row_add(CqOperator *operator, Session * session, KeptRow *row);
static KeptRow *row_create(CqOperator *operator, const Datum * values, const bool *nulls,
						   const CqEvent *event);
static Session *first_to_end(CqOperator *operator);
static void give_out(CqOperator *operator, Session * session, Tuplestorestate *rows);
static void release(CqOperator *operator, CqChunkNumber chunk);
static void let_go(CqOperator *operator, KeptRow * row);
static void save(CqOperator *operator, CqPane * pane);
static void load(CqOperator *operator, CqPane * pane, CqChunkData *chunk);
static void verify_begin(CqPane *pane);
static void verify(CqOperator *operator, CqPane * pane, CqChunkData *chunk, CqVerification *check);
static void verify_end(CqOperator *operator, CqPane * pane, CqVerification *check);

const CqShapeOps cq_shape_session_rows = {
	.newest_first = false,
	.create = create,
	.init_pane = init_pane,
	.fold = fold,
	.save = save,
	.load = load,
	.verify_begin = verify_begin,
	.verify = verify,
	.verify_end = verify_end,
};

static void
create(CqOperator *operator, const CqPlan * plan)
{
	CqSessionRows *own = palloc0(sizeof(CqSessionRows));
	CqKeyColumn *columns = palloc0(Max(plan->nsession_keys, 1) * sizeof(CqKeyColumn));
	int i;

	cq_shape_rows.create(operator, plan);
	for (i = 0; i < plan->nsession_keys; i++)
		cq_key_column_init(&columns[i],
						   plan->session_keys[i].stage_column,
						   plan->session_keys[i].type,
						   plan->session_keys[i].collation,
						   plan->session_keys[i].equality_operator,
						   operator->context);
	own->context =
		AllocSetContextCreate(operator->context, "pipeline sessions", ALLOCSET_DEFAULT_SIZES);
	own->codec = cq_key_create(columns, plan->nsession_keys, operator->context);
	own->chains = chains_create(operator->context, 256, NULL);
	own->ends = pairingheap_allocate(compare_due, NULL);
	own->latest_end = DT_NOBEGIN;
	own->unsaved_end = &own->unsaved;
	own->released_capacity = 64;
	own->released = palloc(own->released_capacity * sizeof(CqChunkNumber));
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
	TimestampTz x = pairingheap_const_container(Session, node, a)->due;
	TimestampTz y = pairingheap_const_container(Session, node, b)->due;

	return x < y ? 1 : x > y ? -1 : 0;
}

static inline TimestampTz
session_end(const CqOperator *operator, const Session * session)
{
	return session->last + operator->window.size_us;
}

/* ------------------------------------------------------------------------
 * Events in
 * ------------------------------------------------------------------------
 */

CqOutcome
cq_session_rows_consume(CqOperator *operator, const Datum * values, const bool *nulls,
						const CqEvent *event, CqMissed *missed)
{
	TimestampTz watermark = Max(event->watermark, operator->closed_to);
	TimestampTz end = event->time + operator->window.size_us;
	CqEvent met = *event;
	Session *session;
	KeptRow *row;

	if (!IS_VALID_TIMESTAMP(end))
		return CQ_NO_TIME;
	cq_key_pack(operator->session_rows->codec, values, nulls);
	session = session_for(operator, event->time, watermark);
	if (session == NULL)
	{
		missed->n = 1;
		missed->start = event->time;
		missed->end = end;
		return CQ_LATE;
	}
	met.watermark = watermark;
	row = row_create(operator, values + 1, nulls + 1, &met);
	row_add(operator, session, row);
	*operator->session_rows->unsaved_end = row;
	operator->session_rows->unsaved_end = & row->next_unsaved;
	operator->state->ngroups++;
	operator->state->touched_groups++;
	operator->state->changed = true;
	return CQ_COUNTED;
}

/* The session of the key packed last that an event goes into; NULL if it is late. */
static Session *
session_for(CqOperator *operator, TimestampTz time, TimestampTz watermark)
{
	CqSessionRows *own = operator->session_rows;
	CqKeyCodec *codec = own->codec;
	int64 gap = operator->window.size_us;
	Session *found = NULL;
	Session *session;
	HashChain *chain;
	bool was_there;

	chain = chains_lookup(own->chains, codec->hash);
	for (session = chain ? chain->sessions : NULL; session; session = session->next)
	{
		if (session->last + gap < watermark || time + gap < session->first ||
			time > session->last + gap ||
			!cq_key_equals(codec, SESSION_KEY(session), session->key_size))
			continue;
		if (found)
		{
			/* it touches two, and no third one */
			if (session->first < found->first)
			{
				Session *later = found;

				found = session;
				session = later;
			}
			session_merge(operator, found, session);
			break;
		}
		found = session;
	}
	if (found == NULL)
	{
		if (watermark > time + gap)
			return NULL;
		chain = chains_insert(own->chains, codec->hash, &was_there);
		if (!was_there)
			chain->sessions = NULL;
		return session_open(operator, chain, time);
	}
	found->first = Min(found->first, time);
	found->last = Max(found->last, time);
	own->latest_end = Max(own->latest_end, session_end(operator, found));
	return found;
}

static Session *
session_open(CqOperator *operator, HashChain * chain, TimestampTz time)
{
	CqSessionRows *own = operator->session_rows;
	CqKeyCodec *codec = own->codec;
	Session *session =
		MemoryContextAllocZero(own->context,
							   MAXALIGN(sizeof(Session)) + CQ_KEY_LENGTH(codec->size));

	session->first = session->last = time;
	session->due = session_end(operator, session);
	session->hash = codec->hash;
	session->key_size = codec->size;
	memcpy(SESSION_KEY(session), codec->bytes, CQ_KEY_LENGTH(codec->size));
	session->next = chain->sessions;
	chain->sessions = session;
	own->latest_end = Max(own->latest_end, session->due);
	pairingheap_add(own->ends, &session->node);
	own->nsessions++;
	return session;
}

/* Two sessions that an event connects, the earlier first; rows stay in order of arrival. */
static void
session_merge(CqOperator *operator, Session * into, Session *from)
{
	KeptRow *a = into->rows;
	KeptRow *b = from->rows;
	KeptRow **end = &into->rows;

	while (a && b)
	{
		KeptRow **least = a->number < b->number ? &a : &b;

		*end = *least;
		end = &(*least)->next;
		*least = (*least)->next;
	}
	*end = a ? a : b;
	if (from->last_row->number > into->last_row->number)
		into->last_row = from->last_row;
	into->last = Max(into->last, from->last);
	pairingheap_remove(operator->session_rows->ends, &from->node);
	session_free(operator, from);
}

/* Not its rows. */
static void
session_free(CqOperator *operator, Session * session)
{
	CqSessionRows *own = operator->session_rows;
	HashChain *chain = chains_lookup(own->chains, session->hash);
	Session **link = &chain->sessions;

	while (*link != session)
		link = &(*link)->next;
	*link = session->next;
	if (chain->sessions == NULL)
		chains_delete(own->chains, session->hash);
	own->nsessions--;
	pfree(session);
}

static void
row_add(CqOperator *operator, Session * session, KeptRow *row)
{
	row->number = ++operator->session_rows->nrows;
	if (session->last_row)
		session->last_row->next = row;
	else
		session->rows = row;
	session->last_row = row;
}

static KeptRow *
row_create(CqOperator *operator, const Datum * values, const bool *nulls, const CqEvent *event)
{
	TupleDesc desc = operator->stored_desc;
	MinimalTuple tuple;
	KeptRow *row;
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
	row = MemoryContextAlloc(operator->session_rows->context,
							 MAXALIGN(sizeof(KeptRow)) + tuple->t_len);
	memset(row, 0, sizeof(KeptRow));
	row->time = event->time;
	row->watermark = event->watermark;
	memcpy(ROW_TUPLE(row), tuple, tuple->t_len);
	pfree(tuple);
	return row;
}

/* ------------------------------------------------------------------------
 * Windows out
 * ------------------------------------------------------------------------
 */

/* The session that ends first, its place in the heap being its end; NULL if there is none. */
static Session *
first_to_end(CqOperator *operator)
{
	pairingheap *ends = operator->session_rows->ends;

	while (!pairingheap_is_empty(ends))
	{
		Session *session = pairingheap_container(Session, node, pairingheap_first(ends));

		if (session->due == session_end(operator, session))
			return session;
		(void) pairingheap_remove_first(ends);
		session->due = session_end(operator, session);
		pairingheap_add(ends, &session->node);
	}
	return NULL;
}

TimestampTz
cq_session_rows_first_end(CqOperator *operator)
{
	Session *session = first_to_end(operator);

	return session ? session_end(operator, session) + 1 : DT_NOEND;
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
	Session *session;

	while ((session = first_to_end(operator)) != NULL && session_end(operator, session) < watermark)
	{
		CHECK_FOR_INTERRUPTS();
		(void) pairingheap_remove_first(operator->session_rows->ends);
		give_out(operator, session, rows);
		session_free(operator, session);
		closed++;
	}
	operator->closed_to = Max(operator->closed_to, watermark);
	return closed;
}

/* rows NULL: what loading found was given out before. */
static void
give_out(CqOperator *operator, Session * session, Tuplestorestate *rows)
{
	int n = operator->stored_desc->natts;
	KeptRow *row = session->rows;

	if (rows)
		cq_window_values(operator,
						 operator->emitting,
						 session->first,
						 session_end(operator, session));
	while (row)
	{
		KeptRow *next = row->next;

		if (rows)
		{
			ExecStoreMinimalTuple(ROW_TUPLE(row), operator->slot, false);
			slot_getallattrs(operator->slot);
			memcpy(
				&operator->values[operator->nkeys], operator->slot->tts_values, n * sizeof(Datum));
			memcpy(&operator->nulls[operator->nkeys], operator->slot->tts_isnull, n * sizeof(bool));
			tuplestore_putvalues(rows, operator->closed_desc, operator->values, operator->nulls);
			ExecClearTuple(operator->slot);
		}
		let_go(operator, row);
		row = next;
	}
	MemoryContextReset(operator->emitting);
}

/* What the chunks know of it is settled by the save. */
static void
let_go(CqOperator *operator, KeptRow * row)
{
	operator->state->ngroups--;
	operator->state->changed = true;
	if (row->chunk == 0)
	{
		row->left = true;
		return;
	}
	release(operator, row->chunk);
	pfree(row);
}

static void
release(CqOperator *operator, CqChunkNumber chunk)
{
	CqSessionRows *own = operator->session_rows;

	if (own->nreleased == own->released_capacity)
	{
		own->released_capacity *= 2;
		own->released =
			repalloc_huge(own->released, own->released_capacity * sizeof(CqChunkNumber));
	}
	own->released[own->nreleased++] = chunk;
}

/* ------------------------------------------------------------------------
 * To disk and back
 * ------------------------------------------------------------------------
 */

static void
save(CqOperator *operator, CqPane * pane)
{
	CqSessionRows *own = operator->session_rows;
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	KeptRow *row = own->unsaved;
	int i;

	while (row)
	{
		KeptRow *next = row->next_unsaved;

		CHECK_FOR_INTERRUPTS();
		if (row->left)
			pfree(row);
		else
		{
			ExecStoreMinimalTuple(ROW_TUPLE(row), operator->slot, false);
			slot_getallattrs(operator->slot);
			resetStringInfo(&operator->bytes);
			appendBinaryStringInfo(&operator->bytes, (char *) &row->time, sizeof(row->time));
			appendBinaryStringInfo(&operator->bytes,
								   (char *) &row->watermark,
								   sizeof(row->watermark));
			cq_codec_put_row(operator->codecs,
							 operator->stored_desc->natts,
							 &operator->bytes,
							 operator->slot->tts_values,
							 operator->slot->tts_isnull);
			row->chunk = cq_chunklog_append(operator->log,
											&pane->chunks,
											cq_pane_number(operator, pane),
											0,
											operator->bytes.data,
											operator->bytes.len);
			row->next_unsaved = NULL;
			ExecClearTuple(operator->slot);
			MemoryContextReset(operator->scratch);
		}
		row = next;
	}
	own->unsaved = NULL;
	own->unsaved_end = &own->unsaved;
	for (i = 0; i < own->nreleased; i++)
		cq_chunklog_release(operator->log, own->released[i]);
	own->nreleased = 0;
	MemoryContextSwitchTo(old);
}

static void
load(CqOperator *operator, CqPane * pane, CqChunkData *chunk)
{
	CqChunkNumber number = cq_chunklog_register(operator->log, chunk, &pane->chunks);
	CqReader entry;
	uint32 hash;

	cq_chunklog_registered(operator->log, number, chunk->nentries);
	while (cq_chunk_next(chunk, &hash, &entry))
	{
		MemoryContext old = MemoryContextSwitchTo(operator->scratch);
		CqEvent event = {0};
		Session *session;
		KeptRow *row;
		int natts = operator->stored_desc->natts;
		Datum *values = palloc((natts + 1) * sizeof(Datum));
		bool *nulls = palloc((natts + 1) * sizeof(bool));

		memcpy(&event.time, cq_reader_take(&entry, sizeof(event.time)), sizeof(event.time));
		memcpy(&event.watermark,
			   cq_reader_take(&entry, sizeof(event.watermark)),
			   sizeof(event.watermark));
		cq_codec_get_row(operator->codecs, natts, &entry, values + 1, nulls + 1);
		if (entry.at != entry.end)
			cq_reader_damaged();
		cq_key_pack(operator->session_rows->codec, values, nulls);
		session = session_for(operator, event.time, event.watermark);
		if (session)
		{
			row = row_create(operator, values + 1, nulls + 1, &event);
			row->chunk = number;
			row_add(operator, session, row);
			operator->state->ngroups++;
			operator->rows++;
		}
		else
			release(operator, number); /* it counted in a session that was given out */
		MemoryContextSwitchTo(old);
		MemoryContextReset(operator->scratch);
	}
}

void
cq_session_rows_loaded(CqOperator *operator)
{
	Session *session;

	while ((session = first_to_end(operator)) != NULL &&
		   session_end(operator, session) < operator->closed_to)
	{
		(void) pairingheap_remove_first(operator->session_rows->ends);
		give_out(operator, session, NULL);
		session_free(operator, session);
	}
}

/* ------------------------------------------------------------------------
 * Verification: as many rows of each chunk in memory as the chunk has that are of use
 * ------------------------------------------------------------------------
 */

static void
verify_begin(CqPane *pane)
{
}

static void
verify(CqOperator *operator, CqPane * pane, CqChunkData *chunk, CqVerification *check)
{
	CqSessionRows *own = operator->session_rows;
	uint32 live = cq_chunklog_live(operator->log, chunk->number);
	uint32 found = 0;
	chains_iterator iterator;
	HashChain *chain;
	Session *session;
	KeptRow *row;
	int i;

	chains_start_iterate(own->chains, &iterator);
	while ((chain = chains_iterate(own->chains, &iterator)) != NULL)
		for (session = chain->sessions; session; session = session->next)
			for (row = session->rows; row; row = row->next)
				found += row->chunk == chunk->number;
	check->ngroups += found;
	/* what was found to be over when it was loaded is released by the next save */
	for (i = 0; i < own->nreleased; i++)
		found += own->released[i] == chunk->number;
	if (found != live)
		cq_verify_fail(check,
					   psprintf("chunk %u has %u rows that are of use, memory has %u of them",
								chunk->number,
								live,
								found));
}

static void
verify_end(CqOperator *operator, CqPane * pane, CqVerification *check)
{
	if (operator->session_rows->unsaved)
		cq_verify_fail(check, pstrdup("memory has a row that is in no chunk"));
}
