/*
 * key.c
 *	  Group keys as compact bytes.
 *
 * Where a type's btree operator class promises that equal values have equal
 * bytes (BTEQUALIMAGE_PROC), keys are hashed and compared as words of memory.
 * Other types - numeric (1.0 = 1.00), float (0 = -0), citext, text under a
 * nondeterministic collation, arrays - are compared by the operator of GROUP
 * BY and hashed by its hash function; the representation that came first is
 * the one that is shown, as in PostgreSQL.  bpchar promises image equality too
 * but only keeps it within one length, so it is not believed.
 *
 * A type that cannot be hashed contributes nothing to the hash: its groups
 * are found by comparing one after the other, which is slow but right.
 *
 * Keys come from outside, so hashes are seeded per view: no one can prepare
 * keys that collide.
 */
#include "postgres.h"

#include "access/hash.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/tupmacs.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "state/key.h"

static bool has_image_equality(Oid type, Oid collation, Oid equality);
static void find_hash_function(CqKeyColumn *column, Oid equality, MemoryContext context);
static Size begin(CqKeyCodec *codec, bool has_nulls);
static inline void finish(CqKeyCodec *codec, Size at, bool has_nulls);
static Size put_value(CqKeyCodec *codec, CqKeyColumn *column, Size at, Datum value);
static void reserve(CqKeyCodec *codec, Size size);
static inline uint64 hash_words(const CqKeyCodec *codec, const char *bytes, uint32 size);
static uint64 hash_values(CqKeyCodec *codec);
static inline uint64 fold(uint64 a, uint64 b);

void
cq_key_column_init(CqKeyColumn *column, int source, Oid type, Oid collation, Oid equality,
				   MemoryContext context)
{
	Oid function = get_opcode(equality);
	AclResult allowed;

	memset(column, 0, sizeof(CqKeyColumn));
	cq_codec_init(&column->codec, type, context);
	column->source = source;
	column->collation = collation;
	switch (column->codec.typalign)
	{
		case TYPALIGN_CHAR:
			column->align = 1;
			break;
		case TYPALIGN_SHORT:
			column->align = ALIGNOF_SHORT;
			break;
		case TYPALIGN_INT:
			column->align = ALIGNOF_INT;
			break;
		default:
			column->align = ALIGNOF_DOUBLE;
			break;
	}
	column->by_image = has_image_equality(column->codec.type, collation, equality);
	if (column->by_image)
		return;

	if (!OidIsValid(function))
		elog(ERROR, "cache lookup failed for operator %u", equality);
	allowed = cq_compat_function_aclcheck(function, GetUserId());
	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_FUNCTION, get_func_name(function));
	fmgr_info_cxt(function, &column->equal, context);
	find_hash_function(column, equality, context);
}

static bool
has_image_equality(Oid type, Oid collation, Oid equality)
{
	Oid opclass;
	Oid opfamily;
	Oid input_type;
	Oid function;

	if (type == BPCHAROID || (opclass = GetDefaultOpClass(type, BTREE_AM_OID)) == InvalidOid)
		return false;
	opfamily = get_opclass_family(opclass);
	input_type = get_opclass_input_type(opclass);
	if (get_opfamily_member(opfamily, input_type, input_type, BTEqualStrategyNumber) != equality)
		return false;
	function = get_opfamily_proc(opfamily, input_type, input_type, BTEQUALIMAGE_PROC);
	return OidIsValid(function) &&
		   DatumGetBool(OidFunctionCall1Coll(function, collation, ObjectIdGetDatum(input_type)));
}

/* The hash function that goes with an equality operator, seeded if there is such a one. */
static void
find_hash_function(CqKeyColumn *column, Oid equality, MemoryContext context)
{
	Oid function = InvalidOid;
	CatCList *list;
	int i;

	if (!op_hashjoinable(equality, column->codec.type))
		return;
	list = SearchSysCacheList1(AMOPOPID, ObjectIdGetDatum(equality));
	for (i = 0; i < list->n_members && !OidIsValid(function); i++)
	{
		Form_pg_amop member = (Form_pg_amop) GETSTRUCT(&list->members[i]->tuple);

		if (member->amopmethod != HASH_AM_OID || member->amopstrategy != HTEqualStrategyNumber ||
			member->amoplefttype != member->amoprighttype)
			continue;
		function = get_opfamily_proc(member->amopfamily,
									 member->amoplefttype,
									 member->amoprighttype,
									 HASHEXTENDED_PROC);
		column->hash_seeded = OidIsValid(function);
		if (!OidIsValid(function))
			function = get_opfamily_proc(member->amopfamily,
										 member->amoplefttype,
										 member->amoprighttype,
										 HASHSTANDARD_PROC);
	}
	ReleaseSysCacheList(list);
	if (OidIsValid(function))
		fmgr_info_cxt(function, &column->hash, context);
}

CqKeyCodec *
cq_key_create(CqKeyColumn *columns, int ncolumns, MemoryContext context)
{
	CqKeyCodec *codec = MemoryContextAllocZero(context, sizeof(CqKeyCodec));
	Size n = Max(ncolumns, 1);
	int i;

	codec->context = context;
	codec->ncolumns = ncolumns;
	codec->columns = columns;
	codec->bitmap_size = (ncolumns + 7) / 8;
	codec->all_by_image = codec->all_raw = true;
	for (i = 0; i < ncolumns; i++)
	{
		codec->all_by_image &= columns[i].by_image;
		codec->all_raw &= columns[i].codec.method != CQ_CODEC_SENT;
	}
	codec->one_word = ncolumns == 1 && columns[0].codec.typbyval && columns[0].by_image;
	codec->values = MemoryContextAllocZero(context, n * sizeof(Datum));
	codec->nulls = MemoryContextAllocZero(context, n * sizeof(bool));
	codec->stored_values = MemoryContextAllocZero(context, n * sizeof(Datum));
	codec->stored_nulls = MemoryContextAllocZero(context, n * sizeof(bool));
	codec->capacity = 1024;
	codec->bytes = MemoryContextAlloc(context, codec->capacity);
	return codec;
}

void
cq_key_seed(CqKeyCodec *codec, uint64 seed)
{
	int i;

	for (i = 0; i < (int) lengthof(codec->seed); i++)
		codec->seed[i] = hash_bytes_extended((unsigned char *) &seed, sizeof(seed), i) | 1;
}

void
cq_key_pack(CqKeyCodec *codec, const Datum *values, const bool *nulls)
{
	bool has_nulls = false;
	Size at;
	int i;

	if (codec->one_word && !nulls[codec->columns[0].source])
	{
		*(uint64 *) codec->bytes = 0;
		store_att_byval(codec->bytes,
						values[codec->columns[0].source],
						codec->columns[0].codec.typlen);
		finish(codec, sizeof(uint64), false);
		return;
	}
	for (i = 0; i < codec->ncolumns; i++)
		has_nulls |= nulls[codec->columns[i].source];
	at = begin(codec, has_nulls);
	for (i = 0; i < codec->ncolumns; i++)
	{
		CqKeyColumn *column = &codec->columns[i];

		if (nulls[column->source])
			codec->bytes[i / 8] |= 1 << (i % 8);
		else
			at = put_value(codec, column, at, values[column->source]);
	}
	finish(codec, at, has_nulls);
}

/* Where the first value of a key to be packed goes. */
static Size
begin(CqKeyCodec *codec, bool has_nulls)
{
	if (!has_nulls)
		return 0;
	memset(codec->bytes, 0, MAXALIGN(codec->bitmap_size));
	return codec->bitmap_size;
}

/* Pad and hash the key whose values end at at. */
static inline void
finish(CqKeyCodec *codec, Size at, bool has_nulls)
{
	uint64 hash;

	if (at > PG_INT32_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("the key of a group is too large"),
				errdetail("It takes %zu bytes.", at));
	memset(codec->bytes + at, 0, MAXALIGN(at) - at);
	codec->size = (uint32) MAXALIGN(at) | (has_nulls ? CQ_KEY_HAS_NULLS : 0);
	hash = codec->all_by_image ? hash_words(codec, codec->bytes, codec->size) : hash_values(codec);
	codec->hash = (uint32) (hash ^ (hash >> 32));
}

/* Add one value to the key being packed; at is where the last one ended. */
static Size
put_value(CqKeyCodec *codec, CqKeyColumn *column, Size at, Datum value)
{
	Size begin = TYPEALIGN(column->align, at);
	struct varlena *varlena;
	Size length;

	if (column->codec.typbyval)
	{
		reserve(codec, begin + sizeof(Datum) * 2);
		memset(codec->bytes + at, 0, begin - at);
		store_att_byval(codec->bytes + begin, value, column->codec.typlen);
		return begin + column->codec.typlen;
	}
	if (column->codec.typlen > 0)
	{
		reserve(codec, begin + column->codec.typlen + sizeof(Datum));
		memset(codec->bytes + at, 0, begin - at);
		memcpy(codec->bytes + begin, DatumGetPointer(value), column->codec.typlen);
		return begin + column->codec.typlen;
	}

	varlena = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(value));
	length = VARSIZE_ANY_EXHDR(varlena);
	begin = TYPEALIGN(Max(column->align, ALIGNOF_INT), at);
	reserve(codec, begin + VARHDRSZ + length + sizeof(Datum));
	memset(codec->bytes + at, 0, begin - at);
	SET_VARSIZE(codec->bytes + begin, VARHDRSZ + length);
	memcpy(codec->bytes + begin + VARHDRSZ, VARDATA_ANY(varlena), length);
	return begin + VARHDRSZ + length;
}

static void
reserve(CqKeyCodec *codec, Size size)
{
	if (size <= codec->capacity)
		return;
	codec->capacity = Max(size, codec->capacity * 2);
	codec->bytes = repalloc_huge(codec->bytes, codec->capacity);
}

void
cq_key_take(CqKeyCodec *codec, const char *stored, uint32 size, uint32 hash)
{
	reserve(codec, CQ_KEY_LENGTH(size));
	memcpy(codec->bytes, stored, CQ_KEY_LENGTH(size));
	codec->size = size;
	codec->hash = hash;
	if (!codec->all_by_image)
		cq_key_unpack(codec, codec->bytes, size, codec->values, codec->nulls);
}

void
cq_key_unpack(CqKeyCodec *codec, const char *stored, uint32 size, Datum *values, bool *nulls)
{
	bool has_nulls = (size & CQ_KEY_HAS_NULLS) != 0;
	Size at = has_nulls ? codec->bitmap_size : 0;
	int i;

	for (i = 0; i < codec->ncolumns; i++)
	{
		CqKeyColumn *column = &codec->columns[i];

		nulls[i] = has_nulls && (stored[i / 8] & (1 << (i % 8))) != 0;
		values[i] = (Datum) 0;
		if (nulls[i])
			continue;
		if (column->codec.typlen > 0)
		{
			at = TYPEALIGN(column->align, at);
			values[i] = fetch_att(stored + at, column->codec.typbyval, column->codec.typlen);
			at += column->codec.typlen;
		}
		else
		{
			at = TYPEALIGN(Max(column->align, ALIGNOF_INT), at);
			values[i] = PointerGetDatum(stored + at);
			at += VARSIZE(stored + at);
		}
	}
}

bool
cq_key_equals_slowly(CqKeyCodec *codec, const char *stored, uint32 stored_size)
{
	int i;

	cq_key_unpack(codec, stored, stored_size, codec->stored_values, codec->stored_nulls);
	for (i = 0; i < codec->ncolumns; i++)
	{
		CqKeyColumn *column = &codec->columns[i];
		Datum a = codec->values[i];
		Datum b = codec->stored_values[i];

		if (codec->nulls[i] != codec->stored_nulls[i])
			return false;
		if (codec->nulls[i])
			continue;
		if (!column->by_image)
		{
			if (!DatumGetBool(FunctionCall2Coll(&column->equal, column->collation, b, a)))
				return false;
		}
		else if (column->codec.typbyval)
		{
			if (a != b)
				return false;
		}
		else
		{
			Size size = column->codec.typlen > 0 ? (Size) column->codec.typlen
												 : VARSIZE(DatumGetPointer(a));

			if (column->codec.typlen < 0 && VARSIZE(DatumGetPointer(b)) != size)
				return false;
			if (memcmp(DatumGetPointer(a), DatumGetPointer(b), size) != 0)
				return false;
		}
	}
	return true;
}

void
cq_key_put(CqKeyCodec *codec, StringInfo out, const char *stored, uint32 size)
{
	int bitmap = out->len;
	int i;

	if (codec->all_raw)
	{
		appendBinaryStringInfo(out, (char *) &size, sizeof(size));
		appendBinaryStringInfo(out, stored, (int) CQ_KEY_LENGTH(size));
		return;
	}
	cq_key_unpack(codec, stored, size, codec->stored_values, codec->stored_nulls);
	enlargeStringInfo(out, codec->bitmap_size);
	memset(out->data + out->len, 0, codec->bitmap_size);
	out->len += codec->bitmap_size;
	for (i = 0; i < codec->ncolumns; i++)
	{
		if (codec->stored_nulls[i])
			out->data[bitmap + i / 8] |= 1 << (i % 8);
		else
			cq_codec_put(&codec->columns[i].codec, out, codec->stored_values[i]);
	}
}

void
cq_key_get(CqKeyCodec *codec, CqReader *reader)
{
	const char *bitmap;
	bool has_nulls = false;
	Size at;
	int i;

	if (codec->all_raw)
	{
		uint32 size;

		memcpy(&size, cq_reader_take(reader, sizeof(size)), sizeof(size));
		at = CQ_KEY_LENGTH(size);
		reserve(codec, at);
		memcpy(codec->bytes, cq_reader_take(reader, at), at);
		finish(codec, at, (size & CQ_KEY_HAS_NULLS) != 0);
		return;
	}
	bitmap = cq_reader_take(reader, codec->bitmap_size);
	for (i = 0; i < (int) codec->bitmap_size; i++)
		has_nulls |= bitmap[i] != 0;
	at = begin(codec, has_nulls);
	for (i = 0; i < codec->ncolumns; i++)
	{
		CqKeyColumn *column = &codec->columns[i];

		if (bitmap[i / 8] & (1 << (i % 8)))
			codec->bytes[i / 8] |= 1 << (i % 8);
		else
			at = put_value(codec, column, at, cq_codec_get(&column->codec, reader));
	}
	finish(codec, at, has_nulls);
}

/* Hash of a key that is all image: over its words. */
static inline uint64
hash_words(const CqKeyCodec *codec, const char *bytes, uint32 size)
{
	const uint64 *word = (const uint64 *) bytes;
	Size n = size / sizeof(uint64);
	uint64 hash = codec->seed[0];

	for (; n >= 2; n -= 2, word += 2)
		hash = fold(word[0] ^ codec->seed[1] ^ hash, word[1] ^ codec->seed[2]);
	if (n > 0)
		hash = fold(word[0] ^ codec->seed[1] ^ hash, codec->seed[2]);
	return fold(hash ^ size, codec->seed[0]);
}

/* Hash of the key packed last, column by column; leaves its values in codec->values. */
static uint64
hash_values(CqKeyCodec *codec)
{
	uint64 hash = codec->seed[0];
	int i;

	cq_key_unpack(codec, codec->bytes, codec->size, codec->values, codec->nulls);
	for (i = 0; i < codec->ncolumns; i++)
	{
		CqKeyColumn *column = &codec->columns[i];
		Datum value = codec->values[i];
		uint64 part = 0;

		if (codec->nulls[i])
			part = 1;
		else if (!column->by_image)
		{
			if (column->hash_seeded)
				part = DatumGetUInt64(FunctionCall2Coll(&column->hash,
														column->collation,
														value,
														UInt64GetDatum(codec->seed[1])));
			else if (OidIsValid(column->hash.fn_oid))
				part = DatumGetUInt32(FunctionCall1Coll(&column->hash, column->collation, value));
		}
		else if (column->codec.typbyval)
			part = (uint64) value;
		else if (column->codec.typlen > 0)
			part = hash_bytes_extended((unsigned char *) DatumGetPointer(value),
									   column->codec.typlen,
									   codec->seed[1]);
		else
			part = hash_bytes_extended((unsigned char *) VARDATA(DatumGetPointer(value)),
									   VARSIZE(DatumGetPointer(value)) - VARHDRSZ,
									   codec->seed[1]);
		hash = fold(part ^ codec->seed[1] ^ hash, codec->seed[2]);
	}
	return fold(hash, codec->seed[0]);
}

/* Both halves of the product of two words, mixed. */
static inline uint64
fold(uint64 a, uint64 b)
{
#ifdef HAVE_INT128
	uint128 product = (uint128) a * b;

	return (uint64) product ^ (uint64) (product >> 64);
#else
	uint64 both[2] = {a, b};

	return hash_bytes_extended((unsigned char *) both, sizeof(both), b);
#endif
}
