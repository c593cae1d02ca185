/*
 * convert.c
 *	  State of a query as that of one with more columns: see plan/extend.h.
 *
 * Each entry is taken apart into its key and the states of the aggregates, and put
 * together with those of the new ones between them, which are as of no rows.  An
 * aggregate that counts what they missed begins with one.  What an aggregate's own
 * functions have made is copied as it is.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "operator/shape.h"
#include "state/chunk_convert.h"

/* Bytes of one aggregate, as they are saved. */
typedef struct Piece
{
	const char *at;
	Size length;
} Piece;

typedef struct Converter
{
	const CqConversion *conversion;
	CqOperator *from;
	CqOperator *to;
	Piece *old;			  /* of the entry at hand, by aggregate */
	Piece *fresh;		  /* by aggregate of the new plan: of no rows */
	StringInfoData whole; /* the entry as it was: reading may scribble */
	char *block;		  /* the states of an entry that are saved as they are in memory */
} Converter;

static void fresh_build(Converter *converter);
static void entry_convert(void *arg, CqReader *entry, StringInfo out);
static int set_kind(const Converter *converter, int kind);
static void member_convert(Converter *converter, int kind, CqReader *entry, StringInfo out);
static void group_convert(Converter *converter, CqReader *entry, StringInfo out);
static void states_convert(Converter *converter, CqReader *entry, StringInfo out);
static void states_take_apart(Converter *converter, CqReader *entry);
static void copy(CqReader *entry, Size n, StringInfo out);

void
cq_operator_convert(const CqConversion *conversion, Relation from, Relation to)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pipeline conversion", ALLOCSET_DEFAULT_SIZES);
	MemoryContext from_context = AllocSetContextCreate(context, "old", ALLOCSET_DEFAULT_SIZES);
	MemoryContext to_context = AllocSetContextCreate(context, "new", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Converter converter = {.conversion = conversion};
	int encoding = cq_client_encoding_pin();

	PG_TRY();
	{
		converter.from = cq_operator_shape(conversion->from, from_context);
		converter.to = cq_operator_shape(conversion->to, to_context);
		converter.old = palloc0(sizeof(Piece) * (converter.from->aggregates->n + 1));
		fresh_build(&converter);
		initStringInfo(&converter.whole);
		cq_chunks_convert(from,
						  converter.from->identity,
						  to,
						  converter.to->identity,
						  entry_convert,
						  &converter);
	}
	PG_FINALLY();
	{
		cq_client_encoding_restore(encoding);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* What is saved of aggregates over no rows. */
static void
fresh_build(Converter *converter)
{
	CqAggregates *aggregates = converter->to->aggregates;
	char *states = palloc0(aggregates->states_size);
	ExprContext *memory = cq_aggregates_memory(aggregates);
	StringInfoData bytes;
	CqReader reader;
	int i;

	if (converter->conversion->missed >= 0)
	{
		const CqRunningAggregate *missed = &aggregates->aggregates[converter->conversion->missed];

		if (missed->kind != CQ_FAST_COUNT_ROWS)
			elog(ERROR, "what counts missed events is no count of rows");
		*(int64 *) (states + missed->offset) = 1;
	}
	initStringInfo(&bytes);
	cq_aggregates_init(aggregates, states, memory);
	cq_aggregates_put(aggregates, states, memory, &bytes);
	converter->fresh = palloc(sizeof(Piece) * (aggregates->n + 1));
	converter->block = states;
	reader.at = bytes.data;
	reader.end = bytes.data + bytes.len;
	for (i = 0; i < aggregates->n; i++)
	{
		converter->fresh[i].at = reader.at;
		cq_aggregate_skip(aggregates, i, &reader);
		converter->fresh[i].length = (Size) (reader.at - converter->fresh[i].at);
	}
}

static void
entry_convert(void *arg, CqReader *entry, StringInfo out)
{
	Converter *converter = arg;
	CqOperator *from = converter->from;
	const char *start = entry->at;
	Size row = cq_groups_have_rows(from) ? sizeof(int64) : 0;
	Size before;
	int kind = 0;

	resetStringInfo(&converter->whole);
	appendBinaryStringInfo(&converter->whole, start, (int) (entry->end - start));
	if (from->nkinds > 1)
		kind = *(uint8 *) cq_reader_take(entry, sizeof(uint8));
	if (kind >= from->nkinds)
		cq_reader_damaged();
	if (converter->to->nkinds > 1)
		appendStringInfoCharMacro(out, (char) set_kind(converter, kind));
	before = (Size) (entry->at - start);
	if (kind == 0 && row > 0)
		(void) cq_reader_take(entry, row);
	cq_key_get(from->kinds[kind].codec, entry);
	appendBinaryStringInfo(out,
						   converter->whole.data + before,
						   (int) ((Size) (entry->at - start) - before));
	if (kind > 0)
		member_convert(converter, kind, entry, out);
	else
		group_convert(converter, entry, out);
	if (entry->at != entry->end)
		cq_reader_damaged();
}

/* The kind of a set's members: that of any aggregate over it. */
static int
set_kind(const Converter *converter, int kind)
{
	const CqAggregates *to = converter->to->aggregates;
	int i;

	for (i = 0; kind > 0 && i < to->n; i++)
	{
		int origin = converter->conversion->origin[i];

		if (origin >= 0 && converter->from->aggregates->aggregates[origin].set == kind - 1)
			return to->aggregates[i].set + 1;
	}
	if (kind > 0)
		cq_reader_damaged();
	return 0;
}

/* New aggregates over the same values have taken none of them. */
static void
member_convert(Converter *converter, int kind, CqReader *entry, StringInfo out)
{
	const CqAggregates *to = converter->to->aggregates;
	uint64 mask;
	uint64 converted = 0;
	int i;

	memcpy(&mask, cq_reader_take(entry, sizeof(mask)), sizeof(mask));
	for (i = 0; i < to->n; i++)
	{
		int origin = converter->conversion->origin[i];
		const CqRunningAggregate *old =
			origin >= 0 ? &converter->from->aggregates->aggregates[origin] : NULL;

		if (old && old->set == kind - 1 && (mask & old->set_bit) != 0)
			converted |= to->aggregates[i].set_bit;
	}
	appendBinaryStringInfo(out, (char *) &converted, sizeof(converted));
}

static void
group_convert(Converter *converter, CqReader *entry, StringInfo out)
{
	CqOperator *from = converter->from;
	CqCount count;
	int n;

	if (from->counts == NULL)
	{
		copy(entry, from->states_skip, out);
		states_convert(converter, entry, out);
		return;
	}
	memcpy(&count, entry->at, Min(sizeof(count), (Size) (entry->end - entry->at)));
	copy(entry, sizeof(count), out);
	for (n = cq_counts_open(from, &count); n > 0; n--)
	{
		copy(entry, from->counts->row_size, out);
		states_convert(converter, entry, out);
	}
}

static void
states_convert(Converter *converter, CqReader *entry, StringInfo out)
{
	const CqAggregates *to = converter->to->aggregates;
	int i;

	states_take_apart(converter, entry);
	for (i = 0; i < to->n; i++)
	{
		int origin = converter->conversion->origin[i];
		const Piece *piece = origin >= 0 ? &converter->old[origin] : &converter->fresh[i];

		if (to->all_fast)
		{
			Assert(piece->length == to->aggregates[i].size);
			memcpy(converter->block + to->aggregates[i].offset, piece->at, piece->length);
		}
		else
			appendBinaryStringInfo(out, piece->at, (int) piece->length);
	}
	if (to->all_fast)
		appendBinaryStringInfo(out, converter->block, (int) to->states_size);
}

static void
states_take_apart(Converter *converter, CqReader *entry)
{
	CqAggregates *from = converter->from->aggregates;
	char *end = converter->whole.data + converter->whole.len;
	char *block = end - (entry->end - entry->at);
	int i;

	if (from->all_fast)
	{
		(void) cq_reader_take(entry, from->states_size);
		for (i = 0; i < from->n; i++)
		{
			converter->old[i].at = block + from->aggregates[i].offset;
			converter->old[i].length = from->aggregates[i].size;
		}
		return;
	}
	for (i = 0; i < from->n; i++)
	{
		converter->old[i].at = end - (entry->end - entry->at);
		cq_aggregate_skip(from, i, entry);
		converter->old[i].length = (Size) (end - (entry->end - entry->at) - converter->old[i].at);
	}
}

static void
copy(CqReader *entry, Size n, StringInfo out)
{
	appendBinaryStringInfo(out, cq_reader_take(entry, n), (int) n);
}
