/*
 * codec.c
 *	  Values to bytes and back.
 *
 * Only built-in types whose bytes mean the same everywhere are kept raw:
 * those of a fixed length, and text, bytea and numeric.  All else - arrays,
 * ranges, composites, enums embed OIDs - goes through the type's binary output
 * and input functions, which are made for surviving a move to another server.
 *
 * Those convert text to the client's encoding and back; callers pin the client
 * encoding to the database's around saving and loading.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "errors.h"
#include "state/codec.h"

static bool kept_raw(Oid type, int16 typlen);
static bool has_binary_form(Oid type);

bool
cq_codec_supports(Oid type, const char **why)
{
	Oid base = getBaseType(type);
	Oid element = get_base_element_type(base);
	char typtype = get_typtype(base);

	if (typtype == TYPTYPE_PSEUDO)
	{
		*why = psprintf("values of type %s have no fixed structure", format_type_be(type));
		return false;
	}
	if (kept_raw(base, get_typlen(base)))
		return true;
	if (!has_binary_form(base) || (OidIsValid(element) && !has_binary_form(element)))
	{
		*why = psprintf("type %s has no binary input and output functions", format_type_be(type));
		return false;
	}
	return true;
}

void
cq_codec_check(Oid type)
{
	const char *why;

	if (!cq_codec_supports(type, &why))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("values of type %s cannot be kept in a continuous view's state",
					   format_type_be(type)),
				errdetail("The reason is that %s.", why),
				errhint("Cast the expression to another type, such as text or jsonb."));
}

void
cq_codec_init(CqCodec *codec, Oid type, MemoryContext context)
{
	Oid function;
	bool is_varlena;

	cq_codec_check(type);
	memset(codec, 0, sizeof(CqCodec));
	codec->type = getBaseType(type);
	get_typlenbyvalalign(codec->type, &codec->typlen, &codec->typbyval, &codec->typalign);
	if (kept_raw(codec->type, codec->typlen))
	{
		codec->method = codec->typbyval		? CQ_CODEC_BY_VALUE
						: codec->typlen > 0 ? CQ_CODEC_FIXED
											: CQ_CODEC_VARLENA;
		return;
	}
	codec->method = CQ_CODEC_SENT;
	getTypeBinaryOutputInfo(codec->type, &function, &is_varlena);
	fmgr_info_cxt(function, &codec->send, context);
	getTypeBinaryInputInfo(codec->type, &function, &codec->receive_param);
	fmgr_info_cxt(function, &codec->receive, context);
}

static bool
kept_raw(Oid type, int16 typlen)
{
	if (type >= FirstGenbkiObjectId || get_typtype(type) != TYPTYPE_BASE)
		return false;
	if (typlen > 0)
		return true;
	return type == TEXTOID || type == VARCHAROID || type == BPCHAROID || type == BYTEAOID ||
		   type == NUMERICOID;
}

static bool
has_binary_form(Oid type)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;
	bool result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	result = OidIsValid(form->typsend) && OidIsValid(form->typreceive);
	ReleaseSysCache(tuple);
	return result;
}

void
cq_codec_put(CqCodec *codec, StringInfo out, Datum value)
{
	struct varlena *varlena = NULL;
	Datum aligned;
	uint32 length;

	switch (codec->method)
	{
		case CQ_CODEC_BY_VALUE:
			store_att_byval(&aligned, value, codec->typlen);
			appendBinaryStringInfo(out, (char *) &aligned, codec->typlen);
			return;
		case CQ_CODEC_FIXED:
			appendBinaryStringInfo(out, DatumGetPointer(value), codec->typlen);
			return;
		case CQ_CODEC_VARLENA:
			varlena = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(value));
			break;
		case CQ_CODEC_SENT:
			varlena = SendFunctionCall(&codec->send, value);
			break;
	}
	length = VARSIZE_ANY_EXHDR(varlena);
	appendBinaryStringInfo(out, (char *) &length, sizeof(length));
	appendBinaryStringInfo(out, VARDATA_ANY(varlena), length);
}

Datum
cq_codec_get(CqCodec *codec, CqReader *reader)
{
	uint32 length;
	char *bytes;

	if (codec->method == CQ_CODEC_BY_VALUE)
	{
		Datum aligned = 0;

		memcpy(&aligned, cq_reader_take(reader, codec->typlen), codec->typlen);
		return fetch_att(&aligned, true, codec->typlen);
	}
	if (codec->method == CQ_CODEC_FIXED)
	{
		bytes = palloc(codec->typlen);
		memcpy(bytes, cq_reader_take(reader, codec->typlen), codec->typlen);
		return PointerGetDatum(bytes);
	}

	memcpy(&length, cq_reader_take(reader, sizeof(length)), sizeof(length));
	bytes = cq_reader_take(reader, length);
	if (codec->method == CQ_CODEC_VARLENA)
	{
		struct varlena *varlena = palloc(VARHDRSZ + length);

		SET_VARSIZE(varlena, VARHDRSZ + length);
		memcpy(VARDATA(varlena), bytes, length);
		return PointerGetDatum(varlena);
	}
	else
	{
		StringInfoData in = {.data = bytes, .len = length, .maxlen = length + 1};

		return ReceiveFunctionCall(&codec->receive, &in, codec->receive_param, -1);
	}
}

void
cq_codec_put_row(CqCodec *codecs, int n, StringInfo out, const Datum *values, const bool *nulls)
{
	int bitmap = out->len;
	int i;

	enlargeStringInfo(out, (n + 7) / 8);
	memset(out->data + out->len, 0, (n + 7) / 8);
	out->len += (n + 7) / 8;
	for (i = 0; i < n; i++)
	{
		if (nulls[i])
			out->data[bitmap + i / 8] |= 1 << (i % 8);
		else
			cq_codec_put(&codecs[i], out, values[i]);
	}
}

void
cq_codec_get_row(CqCodec *codecs, int n, CqReader *reader, Datum *values, bool *nulls)
{
	const char *bitmap = cq_reader_take(reader, (n + 7) / 8);
	int i;

	for (i = 0; i < n; i++)
	{
		nulls[i] = (bitmap[i / 8] & (1 << (i % 8))) != 0;
		values[i] = nulls[i] ? (Datum) 0 : cq_codec_get(&codecs[i], reader);
	}
}

void *
cq_reader_take(CqReader *reader, Size n)
{
	char *at = reader->at;

	if (n > (Size) (reader->end - reader->at))
		cq_reader_damaged();
	reader->at += n;
	return at;
}

void
cq_reader_damaged(void)
{
	ereport(ERROR,
			errcode(CQ_ERRCODE_STOP),
			errmsg("operator state is damaged"),
			errdetail("A chunk does not contain what its header announces."));
}
