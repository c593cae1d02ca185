/*
 * top.c
 *	  Rows of a window that cannot be in the answer because enough others come
 *	  before them.
 *
 * Per pane and partition the sort keys of the best rows are kept, as many as
 * the query's limit; a row that comes after the last of them is beyond the
 * limit and stays there, whatever else comes.  Rows that were let in and have
 * been overtaken since are kept nevertheless; of n rows in random order that
 * is about the limit times the logarithm of n, and the close query sorts it
 * out.
 *
 * This is a cache of what the pane's rows say: it is never saved, and made
 * anew from them after a restart.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/sortsupport.h"

#include "operator/top.h"
#include "state/key.h"

typedef struct SortColumn
{
	SortSupportData support;
	int source; /* in stage rows */
	int16 typlen;
	bool typbyval;
} SortColumn;

struct CqTopRanker
{
	int limit;
	bool ties;
	CqKeyCodec *partition;
	int nsort;
	SortColumn *sort;
};

/* The best rows of one partition, the first of all in front. */
typedef struct Best
{
	struct Best *next_same_hash;
	uint32 key_size;
	int count;
	Datum *values; /* limit rows of nsort */
	bool *nulls;
	char *key;
} Best;

typedef struct BestSlot
{
	uint32 hash;
	char status;
	Best *best;
} BestSlot;

#define SH_PREFIX				cq_best
#define SH_ELEMENT_TYPE			BestSlot
#define SH_KEY_TYPE				uint32
#define SH_KEY					hash
#define SH_HASH_KEY(table, key) (key)
#define SH_EQUAL(table, a, b)	((a) == (b))
#define SH_SCOPE				static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct CqTopSeen
{
	MemoryContext context;
	cq_best_hash *partitions;
};

#define PARTITIONS_FIRST 8

static Best *best_find(CqTopRanker *ranker, CqTopSeen *seen);
static int compare_row(CqTopRanker *ranker, const Best *best, int at, const Datum *values,
					   const bool *nulls);
static int place_of(CqTopRanker *ranker, const Best *best, const Datum *values, const bool *nulls);
static void best_insert(CqTopRanker *ranker, CqTopSeen *seen, Best *best, int at,
						const Datum *values, const bool *nulls);

CqTopRanker *
cq_top_create(const CqTop *top, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	CqTopRanker *ranker = palloc0(sizeof(CqTopRanker));
	CqKeyColumn *columns = palloc0(Max(top->npartition, 1) * sizeof(CqKeyColumn));
	int i;

	ranker->limit = (int) top->limit;
	ranker->ties = top->ties;
	for (i = 0; i < top->npartition; i++)
		cq_key_column_init(&columns[i],
						   top->partition[i].stage_column,
						   top->partition[i].type,
						   top->partition[i].collation,
						   top->partition[i].equality_operator,
						   context);
	ranker->partition = cq_key_create(columns, top->npartition, context);
	ranker->nsort = top->nsort;
	ranker->sort = palloc0(top->nsort * sizeof(SortColumn));
	for (i = 0; i < top->nsort; i++)
	{
		SortColumn *column = &ranker->sort[i];
		Oid left;
		Oid right;

		op_input_types(top->sort[i].sort_operator, &left, &right);
		get_typlenbyval(left, &column->typlen, &column->typbyval);
		column->source = top->sort[i].stage_column;
		column->support.ssup_cxt = context;
		column->support.ssup_collation = top->sort[i].collation;
		column->support.ssup_nulls_first = top->sort[i].nulls_first;
		PrepareSortSupportFromOrderingOp(top->sort[i].sort_operator, &column->support);
	}
	MemoryContextSwitchTo(old);
	return ranker;
}

CqTopSeen *
cq_top_seen_create(MemoryContext context)
{
	MemoryContext own = AllocSetContextCreate(context, "pipeline top rows", ALLOCSET_SMALL_SIZES);
	CqTopSeen *seen = MemoryContextAllocZero(own, sizeof(CqTopSeen));

	seen->context = own;
	seen->partitions = cq_best_create(own, PARTITIONS_FIRST, NULL);
	return seen;
}

void
cq_top_seen_free(CqTopSeen *seen)
{
	MemoryContextDelete(seen->context);
}

bool
cq_top_admits(CqTopRanker *ranker, CqTopSeen *seen, const Datum *values, const bool *nulls)
{
	Best *best;
	int at;

	if (ranker->limit == 0)
		return false;
	cq_key_pack(ranker->partition, values, nulls);
	best = best_find(ranker, seen);
	if (best->count == ranker->limit)
	{
		int order = compare_row(ranker, best, best->count - 1, values, nulls);

		if (order > 0 || (order == 0 && !ranker->ties))
			return false;
		if (order == 0)
			return true;
	}
	at = place_of(ranker, best, values, nulls);
	best_insert(ranker, seen, best, at, values, nulls);
	return true;
}

/* Those of the partition that was packed last. */
static Best *
best_find(CqTopRanker *ranker, CqTopSeen *seen)
{
	CqKeyCodec *codec = ranker->partition;
	MemoryContext old;
	BestSlot *slot;
	Best *best;
	bool found;

	slot = cq_best_insert(seen->partitions, codec->hash, &found);
	if (!found)
		slot->best = NULL;
	for (best = slot->best; best; best = best->next_same_hash)
		if (cq_key_equals(codec, best->key, best->key_size))
			return best;

	old = MemoryContextSwitchTo(seen->context);
	best = palloc0(sizeof(Best));
	best->key_size = codec->size;
	best->key = palloc(Max(CQ_KEY_LENGTH(codec->size), 1));
	memcpy(best->key, codec->bytes, CQ_KEY_LENGTH(codec->size));
	best->values = palloc0(sizeof(Datum) * ranker->limit * ranker->nsort);
	best->nulls = palloc0(sizeof(bool) * ranker->limit * ranker->nsort);
	best->next_same_hash = slot->best;
	slot->best = best;
	MemoryContextSwitchTo(old);
	return best;
}

/* Does the row come after (> 0), with (0) or before the one at a place? */
static inline int
compare_row(CqTopRanker *ranker, const Best *best, int at, const Datum *values, const bool *nulls)
{
	int i;

	for (i = 0; i < ranker->nsort; i++)
	{
		SortColumn *column = &ranker->sort[i];
		int order = ApplySortComparator(values[column->source],
										nulls[column->source],
										best->values[at * ranker->nsort + i],
										best->nulls[at * ranker->nsort + i],
										&column->support);

		if (order != 0)
			return order;
	}
	return 0;
}

/* Behind all that come before the row or with it. */
static int
place_of(CqTopRanker *ranker, const Best *best, const Datum *values, const bool *nulls)
{
	int low = 0;
	int high = best->count;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (compare_row(ranker, best, middle, values, nulls) >= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void
best_insert(CqTopRanker *ranker, CqTopSeen *seen, Best *best, int at, const Datum *values,
			const bool *nulls)
{
	int n = ranker->nsort;
	MemoryContext old = MemoryContextSwitchTo(seen->context);
	int moved;
	int i;

	if (best->count == ranker->limit)
	{
		best->count--;
		for (i = 0; i < n; i++)
			if (!ranker->sort[i].typbyval && !best->nulls[best->count * n + i])
				pfree(DatumGetPointer(best->values[best->count * n + i]));
	}
	moved = (best->count - at) * n;
	memmove(&best->values[(at + 1) * n], &best->values[at * n], moved * sizeof(Datum));
	memmove(&best->nulls[(at + 1) * n], &best->nulls[at * n], moved * sizeof(bool));
	for (i = 0; i < n; i++)
	{
		SortColumn *column = &ranker->sort[i];

		best->nulls[at * n + i] = nulls[column->source];
		best->values[at * n + i] =
			nulls[column->source]
				? (Datum) 0
				: datumCopy(values[column->source], column->typbyval, column->typlen);
	}
	best->count++;
	MemoryContextSwitchTo(old);
}
