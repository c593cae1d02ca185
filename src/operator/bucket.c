/*
 * bucket.c
 *	  Groups that are on disk only.
 *
 * When memory is short a pane's groups are divided by the last bits of their
 * hashes into buckets, each of which fits into one chunk (extendible hashing:
 * a directory tells the bucket of a hash, and a bucket that has become too
 * large for its chunk is split by one more bit).  To give a bucket up is to
 * write all its groups, those on disk and those in memory together, into a
 * new chunk that replaces the old one, and to free those in memory that were
 * not used lately.  If memory has nothing that the chunk has not, nothing is
 * written.
 *
 * Memory keeps, per bucket, which chunk it is and a Bloom filter of a byte per
 * group.  A key that is not in memory and passes the filter is looked for in
 * the chunk, by its hash; it alone comes back to memory.  So touching a group
 * on disk costs reading one page, a new group mostly nothing, and memory holds
 * what was used lately whatever the order of keys.
 *
 * Invariants
 *	B1. A group in memory is the version that counts; a bucket may have an older
 *		one of it.
 *	B2. What log chunks older than a bucket's have of it is obsolete: all that
 *		was in memory of it went into the bucket's chunk.
 *	B3. The chunks of a pane's buckets are divided by their prefixes; so which
 *		buckets there are is known from the chunks alone.
 *
 * Which buckets are given up: a hand goes round over them (a clock).  A group
 * that was used since the hand passed last is kept in memory; a bucket of
 * which less than is usual could be freed is passed over, at first.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "operator/shape.h"

#define BUCKET_CAPACITY 7900 /* bytes of entries; together with a header, one part of a chunk */
#define BUCKET_GOAL		5000 /* of each, when a pane is first divided */
#define MOST_BITS		28
#define FILTER_HASHES	4
#define BUCKETS_SHIFT	8
#define DIRECTORY_SHIFT 11
#define ROOM_CHECK		16 /* buckets between looks at how much room there is */

typedef struct Bucket
{
	CqChunkNumber chunk; /* 0 = it has none */
	uint32 prefix;
	uint32 nentries; /* in the chunk */
	uint32 filter_size;
	uint8 *filter;
	uint8 bits; /* of the prefix */
} Bucket;

struct CqBuckets
{
	CqVector buckets;	/* of Bucket */
	CqVector directory; /* of uint32: the bucket of each value of the last bits */
	uint32 nbuckets;
	int bits;
	uint32 hand;
};

/* An entry of a bucket that is being written. */
typedef struct BucketItem
{
	uint32 hash;
	int at; /* in operator->bytes */
	int length;
	CqGroup *group; /* in memory; NULL = on disk only */
} BucketItem;

typedef struct BucketItems
{
	BucketItem *items;
	int n;
	int capacity;
} BucketItems;

/* What a bucket has in memory. */
typedef struct Census
{
	int cold;  /* not used lately */
	int hot;   /* used lately, or in the pane's list of touched ones */
	int newer; /* not as in the chunk */
} Census;

static struct CqBuckets *buckets_create(CqOperator *operator, CqPane * pane, int bits);
static int bits_for(CqOperator *operator, CqPane * pane);
static Bucket *bucket_of(const CqPane *pane, uint32 hash);
static Bucket *bucket_at(const struct CqBuckets *buckets, uint32 number);
static void bucket_split(CqOperator *operator, struct CqBuckets * buckets, uint32 number);
static Bucket *bucket_for_prefix(CqOperator *operator, CqPane * pane, uint32 prefix, int bits);
static void filter_make(CqOperator *operator, Bucket * bucket, uint32 n);
static void filter_add(Bucket *bucket, uint32 hash);
static bool filter_has(const Bucket *bucket, uint32 hash);
static bool bucket_give_up(CqOperator *operator, CqPane * pane, uint32 number, CqEvict how);
static Census bucket_census(CqPane *pane, const Bucket *bucket);
static void bucket_free(CqOperator *operator, CqPane * pane, const Bucket *bucket, CqEvict how);
static void bucket_write(CqOperator *operator, CqPane * pane, uint32 number);
static void collect_memory(CqOperator *operator, CqPane * pane, const Bucket *bucket,
						   BucketItems *items);
static void collect_disk(CqOperator *operator, CqPane * pane, const Bucket *bucket,
						 BucketItems *items);
static bool entry_is_empty(CqOperator *operator, CqPane * pane, CqReader entry);
static BucketItem *items_add(BucketItems *items);
static void items_write(CqOperator *operator, CqPane * pane, uint32 number, BucketItems *items);
static bool items_fit(const BucketItems *items);
static void note_gid(CqOperator *operator, CqReader entry);
static bool in_memory(CqOperator *operator, CqPane * pane, uint32 hash, CqReader entry);
static bool hash_in_memory(const CqPane *pane, uint32 hash);
static void pane_empty(CqOperator *operator, CqPane * pane);

/* ------------------------------------------------------------------------
 * Directory
 * ------------------------------------------------------------------------
 */

static struct CqBuckets *
buckets_create(CqOperator *operator, CqPane * pane, int bits)
{
	CqArena *arena = &operator->state->arena;
	struct CqBuckets *buckets = cq_arena_alloc(arena, sizeof(struct CqBuckets));
	uint32 n = 1U << bits;
	uint32 i;

	if (buckets == NULL)
		cq_operator_full(operator);
	memset(buckets, 0, sizeof(struct CqBuckets));
	cq_vector_init(&buckets->buckets, arena, sizeof(Bucket), BUCKETS_SHIFT);
	cq_vector_init(&buckets->directory, arena, sizeof(uint32), DIRECTORY_SHIFT);
	pane->buckets = buckets;
	if (!cq_vector_reserve(&buckets->buckets, n) || !cq_vector_reserve(&buckets->directory, n))
		cq_operator_full(operator);
	buckets->bits = bits;
	buckets->nbuckets = n;
	for (i = 0; i < n; i++)
	{
		Bucket *bucket = bucket_at(buckets, i);

		bucket->prefix = i;
		bucket->bits = (uint8) bits;
		*(uint32 *) cq_vector_at(&buckets->directory, i) = i;
	}
	return buckets;
}

/* By how many bits a pane that is in memory is to be divided. */
static int
bits_for(CqOperator *operator, CqPane * pane)
{
	uint64 bytes = pane->arena.bytes - pane->arena.spare;
	int bits = 0;

	while (bits < MOST_BITS && bytes >> bits > BUCKET_GOAL)
		bits++;
	return bits;
}

void
cq_buckets_free(CqState *state, CqPane *pane)
{
	struct CqBuckets *buckets = pane->buckets;
	uint32 i;

	if (buckets == NULL)
		return;
	for (i = 0; i < buckets->nbuckets; i++)
	{
		Bucket *bucket = bucket_at(buckets, i);

		if (bucket->filter)
			cq_arena_free(&state->arena, bucket->filter, bucket->filter_size);
	}
	cq_vector_free(&buckets->buckets);
	cq_vector_free(&buckets->directory);
	cq_arena_free(&state->arena, buckets, sizeof(struct CqBuckets));
	pane->buckets = NULL;
}

static inline Bucket *
bucket_at(const struct CqBuckets *buckets, uint32 number)
{
	return cq_vector_at(&buckets->buckets, number);
}

static inline uint32
mask_of(int bits)
{
	return (1U << bits) - 1;
}

static inline uint32
number_of(const struct CqBuckets *buckets, uint32 hash)
{
	return *(uint32 *) cq_vector_at(&buckets->directory, hash & mask_of(buckets->bits));
}

static inline Bucket *
bucket_of(const CqPane *pane, uint32 hash)
{
	return bucket_at(pane->buckets, number_of(pane->buckets, hash));
}

bool
cq_bucket_covers(const CqPane *pane, uint32 hash)
{
	return bucket_of(pane, hash)->chunk != 0;
}

CqChunkNumber
cq_bucket_chunk(const CqPane *pane, uint32 hash)
{
	const Bucket *bucket;

	if (pane->buckets == NULL)
		return 0;
	bucket = bucket_of(pane, hash);
	return bucket->chunk && filter_has(bucket, hash) ? bucket->chunk : 0;
}

/* Divide a bucket by one more bit of the hash; the halves have no chunk yet. */
static void
bucket_split(CqOperator *operator, struct CqBuckets * buckets, uint32 number)
{
	uint32 added = buckets->nbuckets;
	Bucket *bucket;
	Bucket *half;
	uint32 i;

	if (!cq_vector_reserve(&buckets->buckets, added + 1))
		cq_operator_full(operator);
	bucket = bucket_at(buckets, number);
	if (bucket->bits == buckets->bits)
	{
		uint32 n = 1U << buckets->bits;

		if (!cq_vector_reserve(&buckets->directory, 2 * n))
			cq_operator_full(operator);
		for (i = 0; i < n; i++)
			*(uint32 *) cq_vector_at(&buckets->directory, n + i) =
				*(uint32 *) cq_vector_at(&buckets->directory, i);
		buckets->bits++;
	}
	half = bucket_at(buckets, added);
	half->bits = ++bucket->bits;
	half->prefix = bucket->prefix | (1U << (bucket->bits - 1));
	buckets->nbuckets++;
	for (i = half->prefix; i <= mask_of(buckets->bits); i += 1U << half->bits)
		*(uint32 *) cq_vector_at(&buckets->directory, i) = added;
}

/* While loading: the bucket of exactly this prefix, which has no chunk yet. */
static Bucket *
bucket_for_prefix(CqOperator *operator, CqPane * pane, uint32 prefix, int bits)
{
	uint32 number;

	if (pane->buckets == NULL)
		(void) buckets_create(operator, pane, 0);
	while (number = number_of(pane->buckets, prefix),
		   bucket_at(pane->buckets, number)->bits < bits &&
			   bucket_at(pane->buckets, number)->chunk == 0)
		bucket_split(operator, pane->buckets, number);
	if (bucket_at(pane->buckets, number)->bits != bits ||
		bucket_at(pane->buckets, number)->prefix != prefix ||
		bucket_at(pane->buckets, number)->chunk != 0)
		cq_reader_damaged();
	return bucket_at(pane->buckets, number);
}

/* ------------------------------------------------------------------------
 * Bloom filters
 * ------------------------------------------------------------------------
 */

static void
filter_make(CqOperator *operator, Bucket * bucket, uint32 n)
{
	CqArena *arena = &operator->state->arena;
	uint32 size = MAXALIGN(Max(n, 8));

	if (bucket->filter_size != size)
	{
		if (bucket->filter)
			cq_arena_free(arena, bucket->filter, bucket->filter_size);
		bucket->filter_size = 0;
		bucket->filter = cq_arena_alloc(arena, size);
		if (bucket->filter == NULL)
			cq_operator_full(operator);
		bucket->filter_size = size;
	}
	memset(bucket->filter, 0, size);
}

/* The i-th of a hash's bits.  The hashes of a bucket end alike, so mix them well. */
static inline uint32
filter_bit(const Bucket *bucket, uint32 hash, int i)
{
	uint64 mixed = (uint64) hash * UINT64CONST(0x9E3779B97F4A7C15);

	mixed = (mixed ^ (mixed >> 29)) * UINT64CONST(0xBF58476D1CE4E5B9);
	mixed ^= mixed >> 32;
	return (uint32) ((((mixed >> (16 * i)) & 0xFFFF) * ((uint64) bucket->filter_size * 8)) >> 16);
}

static void
filter_add(Bucket *bucket, uint32 hash)
{
	int i;

	for (i = 0; i < FILTER_HASHES; i++)
	{
		uint32 bit = filter_bit(bucket, hash, i);

		bucket->filter[bit / 8] |= 1 << (bit % 8);
	}
}

static bool
filter_has(const Bucket *bucket, uint32 hash)
{
	int i;

	for (i = 0; i < FILTER_HASHES; i++)
	{
		uint32 bit = filter_bit(bucket, hash, i);

		if (!(bucket->filter[bit / 8] & (1 << (bit % 8))))
			return false;
	}
	return true;
}

/* ------------------------------------------------------------------------
 * From disk
 * ------------------------------------------------------------------------
 */

CqGroup *
cq_bucket_lookup(CqOperator *operator, CqPane * pane, int kind)
{
	CqKeyCodec *codec = operator->kinds[kind].codec;
	Bucket *bucket = bucket_of(pane, codec->hash);
	uint32 wanted = codec->hash;
	uint32 wanted_size = codec->size;
	char *wanted_key;
	CqGroup *group = NULL;
	CqChunkData chunk;
	CqReader entry;
	uint32 hash;

	if (bucket->chunk == 0 || !filter_has(bucket, wanted))
		return NULL;
	/* reading an entry packs its key */
	wanted_key = palloc(CQ_KEY_LENGTH(wanted_size));
	memcpy(wanted_key, codec->bytes, CQ_KEY_LENGTH(wanted_size));
	cq_chunklog_fetch(operator->log, operator->relation, bucket->chunk, &chunk);
	while (group == NULL && cq_chunk_next(&chunk, &hash, &entry))
	{
		CqGroupRow row;
		CqGroup *read;

		if (hash != wanted)
			continue;
		if (cq_group_get_key(operator, & entry, &row) != kind ||
			!cq_key_equals(codec, wanted_key, wanted_size))
			continue;
		/* in private memory first: an error may not leave a group behind that is half read */
		read = cq_group_probe(operator, kind);
		cq_group_get(operator, pane, read, &row, &entry);
		group = cq_group_create(operator, pane, kind);
		memcpy(group + 1, read + 1, operator->kinds[kind].layout.key_offset - sizeof(CqGroup));
		group->chunk = bucket->chunk;
		group->flags = CQ_GROUP_IN_BUCKET;
		operator->state->loads++;
	}
	if (group == NULL)
		cq_key_take(codec, wanted_key, wanted_size, wanted);
	pfree(wanted_key);
	return group;
}

void
cq_bucket_load(CqOperator *operator, CqPane * pane, CqChunkData *chunk)
{
	CqChunkNumber number = cq_chunklog_register(operator->log, chunk, &pane->chunks);
	Bucket *bucket = bucket_for_prefix(operator, pane, chunk->prefix, chunk->bits);
	CqReader entry;
	uint32 hash;
	uint32 live = 0;

	bucket->chunk = number;
	bucket->nentries = chunk->nentries;
	filter_make(operator, bucket, chunk->nentries);
	while (cq_chunk_next(chunk, &hash, &entry))
	{
		if ((hash & mask_of(bucket->bits)) != bucket->prefix)
			cq_reader_damaged();
		filter_add(bucket, hash);
		if (operator->changes)
			note_gid(operator, entry);
		if (!in_memory(operator, pane, hash, entry))
			live++;
	}
	pane->ngroups += live;
	operator->state->ngroups += live;
	/* even if all of it is obsolete: the next writing of the bucket replaces it */
	cq_chunklog_registered(operator->log, number, Max(live, 1));
}

/* No number of a group that exists may be given out again. */
static void
note_gid(CqOperator *operator, CqReader entry)
{
	CqGroupRow row;

	if (cq_group_get_key(operator, & entry, &row) == 0)
		operator->state->next_gid = Max(operator->state->next_gid, row.gid + 1);
}

/* Is the group of an entry in memory? */
static bool
in_memory(CqOperator *operator, CqPane * pane, uint32 hash, CqReader entry)
{
	CqGroupRow row;

	if (!hash_in_memory(pane, hash))
		return false;
	return cq_group_find(operator, pane, cq_group_get_key(operator, & entry, &row)) != NULL;
}

static bool
hash_in_memory(const CqPane *pane, uint32 hash)
{
	const CqGroup *group;

	for (group = *cq_group_table_chain(&pane->groups, hash); group; group = group->next)
		if (group->hash == hash)
			return true;
	return false;
}

void
cq_bucket_visit(CqOperator *operator, CqPane * pane, CqGroupCallback visit, void *arg)
{
	struct CqBuckets *buckets = pane->buckets;
	uint32 i;

	for (i = 0; i < buckets->nbuckets; i++)
	{
		CqChunkData chunk;
		CqReader entry;
		uint32 hash;

		CHECK_FOR_INTERRUPTS();
		if (bucket_at(buckets, i)->chunk == 0)
			continue;
		cq_chunklog_fetch(operator->log, operator->relation, bucket_at(buckets, i)->chunk, &chunk);
		while (cq_chunk_next(&chunk, &hash, &entry))
		{
			CqGroupRow row;
			CqGroup *group;
			int kind = cq_group_get_key(operator, & entry, &row);

			if (cq_group_find(operator, pane, kind))
				continue;
			group = cq_group_probe(operator, kind);
			cq_group_get(operator, pane, group, &row, &entry);
			visit(operator, pane, group, arg);
		}
	}
}

/* ------------------------------------------------------------------------
 * To disk
 * ------------------------------------------------------------------------
 */

void
cq_bucket_evict(CqOperator *operator, CqPane * pane, CqEvict how)
{
	MemoryContext old = MemoryContextSwitchTo(operator->scratch);
	struct CqBuckets *buckets = pane->buckets;
	uint32 left;
	uint32 n = 0;

	/* changes() would not find them on disk */
	if (pane->behind)
	{
		MemoryContextSwitchTo(old);
		return;
	}
	if (pane->groups.ngroups > 0 && buckets == NULL)
		buckets = buckets_create(operator, pane, bits_for(operator, pane));

	operator->oldest_log = PG_INT64_MIN;
	if (operator->live_offset >= 0)
		operator->oldest_log = cq_chunklog_oldest(operator->log, &pane->chunks);

	/* once around; what is split off on the way has just been written */
	for (left = buckets ? buckets->nbuckets : 0; left > 0 && pane->groups.ngroups > 0; left--)
	{
		CHECK_FOR_INTERRUPTS();
		if (buckets->hand >= buckets->nbuckets)
			buckets->hand = 0;
		if (bucket_give_up(operator, pane, buckets->hand++, how))
			operator->state->evictions++;
		MemoryContextReset(operator->scratch);
		if (how != CQ_EVICT_ALL && ++n % ROOM_CHECK == 0 && cq_operator_has_room(operator))
			break;
	}
	if (pane->groups.ngroups == 0 && pane->touched == NULL)
		pane_empty(operator, pane);
	MemoryContextSwitchTo(old);
}

/* Nothing is in memory any more: give it back, so that others can have it. */
static void
pane_empty(CqOperator *operator, CqPane * pane)
{
	cq_arena_release(&pane->arena);
	if (!cq_group_table_init(&pane->groups, &pane->arena))
		cq_operator_full(operator);
}

/* Returns whether anything was freed. */
static bool
bucket_give_up(CqOperator *operator, CqPane * pane, uint32 number, CqEvict how)
{
	Bucket *bucket = bucket_at(pane->buckets, number);
	Census census = bucket_census(pane, bucket);
	bool worth_it;

	if (how == CQ_EVICT_ALL)
		worth_it = census.hot + census.cold > 0;
	else if (how == CQ_EVICT_RECENT)
		worth_it = census.cold > 0;
	else
		worth_it = census.cold > 0 &&
				   (census.newer == 0 ||
					(int64) census.cold * pane->buckets->nbuckets >= pane->groups.ngroups);
	if (worth_it && census.newer > 0)
		bucket_write(operator, pane, number);
	if (worth_it)
		bucket_free(operator, pane, bucket_at(pane->buckets, number), how);
	else
	{
		/* the next time round what is not used until then is cold */
		CqGroupScan scan;
		CqGroup *group;

		cq_group_scan_begin(&scan, &pane->groups, bucket->prefix, bucket->bits);
		while ((group = cq_group_scan_next(&scan)) != NULL)
			group->flags &= ~CQ_GROUP_RECENT;
	}
	return worth_it;
}

static Census
bucket_census(CqPane *pane, const Bucket *bucket)
{
	Census census = {0};
	CqGroupScan scan;
	CqGroup *group;

	cq_group_scan_begin(&scan, &pane->groups, bucket->prefix, bucket->bits);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		if (group->flags & (CQ_GROUP_RECENT | CQ_GROUP_DIRTY))
			census.hot++;
		else
			census.cold++;
		if (!(group->flags & CQ_GROUP_IN_BUCKET))
			census.newer++;
	}
	return census;
}

/*
 * Free the bucket's groups, which are all in its chunk.  Those that the pane's
 * list of touched ones has must stay.
 */
static void
bucket_free(CqOperator *operator, CqPane * pane, const Bucket *bucket, CqEvict how)
{
	CqGroupScan scan;
	CqGroup *group;

	cq_group_scan_begin(&scan, &pane->groups, bucket->prefix, bucket->bits);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		Assert(group->flags & CQ_GROUP_IN_BUCKET);
		if (!(group->flags & CQ_GROUP_DIRTY) &&
			(how == CQ_EVICT_ALL || !(group->flags & CQ_GROUP_RECENT)))
		{
			cq_group_table_remove(&pane->groups, group);
			cq_arena_free(&pane->arena,
						  group,
						  cq_group_size(&operator->kinds[group->kind].layout, group));
		}
		else
			group->flags &= ~CQ_GROUP_RECENT;
	}
}

/* Write a bucket's groups, those on disk and those in memory; split it if it is too large. */
static void
bucket_write(CqOperator *operator, CqPane * pane, uint32 number)
{
	Bucket *bucket = bucket_at(pane->buckets, number);
	CqChunkNumber replaced = bucket->chunk;
	BucketItems items = {0};

	resetStringInfo(&operator->bytes);
	collect_memory(operator, pane, bucket, &items);
	operator->drops_empty = replaced && cq_chunklog_seq(operator->log, replaced) <
		operator->oldest_log;
	if (replaced)
		collect_disk(operator, pane, bucket, &items);
	bucket->chunk = 0;
	items_write(operator, pane, number, &items);
	if (replaced)
		cq_chunklog_obsolete(operator->log, replaced);
}

static void
collect_memory(CqOperator *operator, CqPane * pane, const Bucket *bucket, BucketItems *items)
{
	CqGroupScan scan;
	CqGroup *group;

	cq_group_scan_begin(&scan, &pane->groups, bucket->prefix, bucket->bits);
	while ((group = cq_group_scan_next(&scan)) != NULL)
	{
		BucketItem *item = items_add(items);

		item->hash = group->hash;
		item->group = group;
		item->at = operator->bytes.len;
		cq_group_put(operator, pane, group, &operator->bytes);
		item->length = operator->bytes.len - item->at;
	}
}

static void
collect_disk(CqOperator *operator, CqPane * pane, const Bucket *bucket, BucketItems *items)
{
	CqChunkData chunk;
	CqReader entry;
	uint32 hash;

	cq_chunklog_fetch(operator->log, operator->relation, bucket->chunk, &chunk);
	while (cq_chunk_next(&chunk, &hash, &entry))
	{
		BucketItem *item;

		if (in_memory(operator, pane, hash, entry))
			continue;
		if (operator->drops_empty && entry_is_empty(operator, pane, entry))
		{
			pane->ngroups--;
			operator->state->ngroups--;
			continue;
		}
		item = items_add(items);
		item->hash = hash;
		item->group = NULL;
		item->at = operator->bytes.len;
		item->length = (int) (entry.end - entry.at);
		appendBinaryStringInfo(&operator->bytes, entry.at, item->length);
	}
}

/* See group_empty.c. */
static bool
entry_is_empty(CqOperator *operator, CqPane * pane, CqReader entry)
{
	CqGroupRow row;
	CqGroup *group = cq_group_probe(operator, cq_group_get_key(operator, & entry, &row));

	cq_group_get(operator, pane, group, &row, &entry);
	return cq_group_is_empty(operator, group);
}

static BucketItem *
items_add(BucketItems *items)
{
	if (items->n == items->capacity)
	{
		items->capacity = Max(items->capacity * 2, 64);
		items->items = items->items
						   ? repalloc_huge(items->items, items->capacity * sizeof(BucketItem))
						   : palloc(items->capacity * sizeof(BucketItem));
	}
	return &items->items[items->n++];
}

/* Into a chunk, or into two buckets by one more bit. */
static void
items_write(CqOperator *operator, CqPane * pane, uint32 number, BucketItems *items)
{
	Bucket *bucket = bucket_at(pane->buckets, number);
	StringInfoData entries;
	int i;

	if (items->n == 0)
		return;
	if (!items_fit(items) && bucket->bits < MOST_BITS)
	{
		uint32 bit = 1U << bucket->bits;
		BucketItems halves[2] = {{0}, {0}};

		for (i = 0; i < items->n; i++)
			*items_add(&halves[(items->items[i].hash & bit) != 0]) = items->items[i];
		bucket_split(operator, pane->buckets, number);
		items_write(operator, pane, number, &halves[0]);
		items_write(operator,
					pane,
					number_of(pane->buckets, bucket_at(pane->buckets, number)->prefix | bit),
					&halves[1]);
		return;
	}

	initStringInfo(&entries);
	filter_make(operator, bucket, items->n);
	for (i = 0; i < items->n; i++)
	{
		BucketItem *item = &items->items[i];

		cq_chunk_put(&entries, item->hash, operator->bytes.data + item->at, item->length);
		filter_add(bucket, item->hash);
	}
	bucket->nentries = items->n;
	bucket->chunk = cq_chunklog_write_bucket(operator->log,
											 &pane->chunks,
											 cq_pane_number(operator, pane),
											 bucket->prefix,
											 bucket->bits,
											 &entries,
											 items->n);
	pfree(entries.data);
	for (i = 0; i < items->n; i++)
	{
		CqGroup *group = items->items[i].group;

		if (group == NULL)
			continue;
		if (group->chunk)
			cq_chunklog_release(operator->log, group->chunk);
		group->chunk = bucket->chunk;
		group->flags |= CQ_GROUP_IN_BUCKET;
	}
}

/* Do the entries fit into one part of a chunk, or can they not be told apart by another bit? */
static bool
items_fit(const BucketItems *items)
{
	Size size = 0;
	int i;

	if (items->n == 1)
		return true;
	for (i = 0; i < items->n; i++)
		size += 2 * sizeof(uint32) + items->items[i].length;
	return size <= BUCKET_CAPACITY;
}
