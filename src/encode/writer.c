/*
 * writer.c
 *	  From a Datum to text.
 *
 * What is written must mean the same under other settings than those of the session
 * that writes: times are ISO 8601, with their zone, floating-point numbers have the
 * digits they need, bytes are hexadecimal.  Types without a way of their own are
 * written by their output functions under settings that make them unambiguous.
 *
 * In JSON, numbers, booleans, json and jsonb are what they are there, arrays and
 * composite types are arrays and objects, everything else is a string.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "encode/writer.h"

#define EPOCH_SHIFT_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

typedef enum WriterKind
{
	WRITE_BOOL,
	WRITE_NUMBER,
	WRITE_FLOAT4,
	WRITE_FLOAT8,
	WRITE_BYTES,
	WRITE_BASE64,
	WRITE_BINARY,
	WRITE_JSON,
	WRITE_TIME,
	WRITE_EPOCH,
	WRITE_ARRAY,
	WRITE_COMPOSITE,
	WRITE_OTHER
} WriterKind;

struct CqWriter
{
	WriterKind kind;
	const char *column; /* for messages */
	Oid type;			/* never a domain */
	CqTimeFormat time_format;
	CqBytesFormat bytes_format;
	FmgrInfo output;   /* or the send function, of WRITE_BINARY */
	bool by_settings;  /* what output gives depends on settings */
	CqWriter *element; /* of an array */
	int16 typlen;	   /* likewise */
	bool typbyval;
	char typalign;
	MemoryContext context;
	int nattributes; /* of the composite type as last seen */
	CqWriter **attributes;
};

static CqWriter *writer_for_type(const CqWriter *model, Oid type);
static WriterKind kind_of_type(const CqWriter *writer);
static void set_output(CqWriter *writer);
static void write_output(CqWriter *writer, Datum value, StringInfo out);
static int settings_for_output(void);
static void setting(const char *name, const char *value);
static void write_hex(Datum value, StringInfo out);
static void write_base64(Datum value, StringInfo out);
static void write_epoch(CqWriter *writer, Datum value, StringInfo out);
static void append_decimal(StringInfo out, int64 number, int digits);
static bool is_json_number(const char *text);
static void write_array(CqWriter *writer, ArrayType *array, StringInfo out);
static void write_dimension(CqWriter *writer, const ArrayType *array, int dimension,
							const Datum **values, const bool **nulls, StringInfo out);
static void write_composite(CqWriter *writer, HeapTupleHeader record, StringInfo out);
static CqWriter *attribute_writer(CqWriter *writer, TupleDesc desc, int i);

CqWriter *
cq_writer_create(const CqStreamColumn *column)
{
	CqWriter model = {0};

	model.column = pstrdup(column->name);
	model.time_format = column->time_format;
	model.bytes_format = column->bytes_format;
	model.context = CurrentMemoryContext;
	return writer_for_type(&model, column->type);
}

static CqWriter *
writer_for_type(const CqWriter *model, Oid type)
{
	CqWriter *writer = palloc(sizeof(CqWriter));

	*writer = *model;
	writer->type = getBaseType(type);
	writer->nattributes = 0;
	writer->attributes = NULL;
	writer->kind = kind_of_type(writer);
	set_output(writer);
	if (writer->kind == WRITE_ARRAY)
	{
		Oid element = get_element_type(writer->type);

		writer->element = writer_for_type(writer, element);
		get_typlenbyvalalign(element, &writer->typlen, &writer->typbyval, &writer->typalign);
	}
	return writer;
}

static WriterKind
kind_of_type(const CqWriter *writer)
{
	if (writer->bytes_format == CQ_BYTES_BINARY)
		return WRITE_BINARY;
	switch (writer->type)
	{
		case BOOLOID:
			return WRITE_BOOL;
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
			return WRITE_NUMBER;
		case FLOAT4OID:
			return WRITE_FLOAT4;
		case FLOAT8OID:
			return WRITE_FLOAT8;
		case BYTEAOID:
			return writer->bytes_format == CQ_BYTES_BASE64 ? WRITE_BASE64 : WRITE_BYTES;
		case JSONOID:
		case JSONBOID:
			return WRITE_JSON;
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case DATEOID:
			return writer->time_format == CQ_TIME_FORMAT_TEXT ? WRITE_TIME : WRITE_EPOCH;
		case TIMEOID:
		case TIMETZOID:
			return WRITE_TIME;
		default:
			if (OidIsValid(get_element_type(writer->type)))
				return WRITE_ARRAY;
			return type_is_rowtype(writer->type) ? WRITE_COMPOSITE : WRITE_OTHER;
	}
}

static void
set_output(CqWriter *writer)
{
	Oid function;
	bool is_varlena;

	if (writer->kind == WRITE_BINARY)
		getTypeBinaryOutputInfo(writer->type, &function, &is_varlena);
	else
		getTypeOutputInfo(writer->type, &function, &is_varlena);
	fmgr_info_cxt(function, &writer->output, writer->context);
	writer->by_settings =
		writer->kind == WRITE_ARRAY || writer->kind == WRITE_COMPOSITE ||
		(writer->kind == WRITE_OTHER && writer->type != TEXTOID && writer->type != VARCHAROID &&
		 writer->type != BPCHAROID && writer->type != UUIDOID);
}

void
cq_write_text(CqWriter *writer, Datum value, StringInfo out)
{
	char buffer[MAXDATELEN + 1];
	const int utc = 0;

	switch (writer->kind)
	{
		case WRITE_BOOL:
			appendStringInfoString(out, DatumGetBool(value) ? "true" : "false");
			return;
		case WRITE_FLOAT4:
			(void) float_to_shortest_decimal_buf(DatumGetFloat4(value), buffer);
			appendStringInfoString(out, buffer);
			return;
		case WRITE_FLOAT8:
			(void) double_to_shortest_decimal_buf(DatumGetFloat8(value), buffer);
			appendStringInfoString(out, buffer);
			return;
		case WRITE_BYTES:
			write_hex(value, out);
			return;
		case WRITE_BASE64:
			write_base64(value, out);
			return;
		case WRITE_TIME:
			appendStringInfoString(out,
								   JsonEncodeDateTime(buffer,
													  value,
													  writer->type,
													  writer->type == TIMESTAMPTZOID ? &utc
																					 : NULL));
			return;
		case WRITE_EPOCH:
			write_epoch(writer, value, out);
			return;
		default:
			write_output(writer, value, out);
	}
}

void
cq_write_bytes(CqWriter *writer, Datum value, StringInfo out)
{
	bytea *bytes = writer->kind == WRITE_BINARY ? SendFunctionCall(&writer->output, value)
												: DatumGetByteaPP(value);

	appendBinaryStringInfo(out, VARDATA_ANY(bytes), (int) VARSIZE_ANY_EXHDR(bytes));
}

void
cq_write_json(CqWriter *writer, Datum value, StringInfo out)
{
	StringInfoData text;

	switch (writer->kind)
	{
		case WRITE_BOOL:
		case WRITE_JSON:
		case WRITE_EPOCH:
			cq_write_text(writer, value, out);
			return;
		case WRITE_ARRAY:
			write_array(writer, DatumGetArrayTypeP(value), out);
			return;
		case WRITE_COMPOSITE:
			write_composite(writer, DatumGetHeapTupleHeader(value), out);
			return;
		default:
			break;
	}
	initStringInfo(&text);
	cq_write_text(writer, value, &text);
	if ((writer->kind == WRITE_NUMBER || writer->kind == WRITE_FLOAT4 ||
		 writer->kind == WRITE_FLOAT8) &&
		is_json_number(text.data))
		appendBinaryStringInfo(out, text.data, text.len);
	else
		escape_json(out, text.data);
	pfree(text.data);
}

/* NaN and infinity are strings in JSON; all else that these types give is a number. */
static bool
is_json_number(const char *text)
{
	if (*text == '-')
		text++;
	return *text >= '0' && *text <= '9';
}

static void
write_output(CqWriter *writer, Datum value, StringInfo out)
{
	int nest_level = writer->by_settings ? settings_for_output() : 0;
	char *text = OutputFunctionCall(&writer->output, value);

	if (nest_level > 0)
		AtEOXact_GUC(true, nest_level);
	appendStringInfoString(out, text);
	pfree(text);
}

/* 0 if all is as it should be. */
static int
settings_for_output(void)
{
	int nest_level;

	if (DateStyle == USE_ISO_DATES && IntervalStyle == INTSTYLE_POSTGRES &&
		extra_float_digits >= 1 && bytea_output == BYTEA_OUTPUT_HEX)
		return 0;
	nest_level = NewGUCNestLevel();
	setting("datestyle", "ISO");
	setting("intervalstyle", "postgres");
	setting("extra_float_digits", "1");
	setting("bytea_output", "hex");
	return nest_level;
}

static void
setting(const char *name, const char *value)
{
	(void)
		set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
write_hex(Datum value, StringInfo out)
{
	bytea *bytes = DatumGetByteaPP(value);
	Size len = VARSIZE_ANY_EXHDR(bytes);

	appendStringInfoString(out, "\\x");
	enlargeStringInfo(out, (int) len * 2);
	hex_encode(VARDATA_ANY(bytes), len, out->data + out->len);
	out->len += (int) len * 2;
	out->data[out->len] = '\0';
}

/* On one line. */
static void
write_base64(Datum value, StringInfo out)
{
	text *encoded =
		DatumGetTextPP(DirectFunctionCall2(binary_encode, value, CStringGetTextDatum("base64")));
	const char *p = VARDATA_ANY(encoded);
	const char *end = p + VARSIZE_ANY_EXHDR(encoded);

	for (; p < end; p++)
		if (*p != '\n')
			appendStringInfoCharMacro(out, *p);
}

static void
write_epoch(CqWriter *writer, Datum value, StringInfo out)
{
	Timestamp time = writer->type == DATEOID ? 0 : DatumGetTimestamp(value);

	if (writer->type == DATEOID ? DATE_NOT_FINITE(DatumGetDateADT(value))
								: TIMESTAMP_NOT_FINITE(time))
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("cannot send an infinite time in column \"%s\"", writer->column),
				errdetail("The column's option \"format\" says that it is sent as a number."));
	if (writer->type == DATEOID)
		time = (int64) DatumGetDateADT(value) * USECS_PER_DAY;
	append_decimal(out,
				   time + EPOCH_SHIFT_US,
				   writer->time_format == CQ_TIME_FORMAT_EPOCH_S	? 6
				   : writer->time_format == CQ_TIME_FORMAT_EPOCH_MS ? 3
																	: 0);
}

/* number / 10^digits, without zeros at its end.  No time is near the bounds of int64. */
static void
append_decimal(StringInfo out, int64 number, int digits)
{
	int64 unit = digits == 6 ? 1000000 : digits == 3 ? 1000 : 1;
	int64 positive = number < 0 ? -number : number;
	int64 fraction = positive % unit;

	appendStringInfo(out, "%s%lld", number < 0 ? "-" : "", (long long) (positive / unit));
	if (fraction == 0)
		return;
	appendStringInfo(out, ".%0*lld", digits, (long long) fraction);
	while (out->data[out->len - 1] == '0')
		out->data[--out->len] = '\0';
}

/*
 * What a JSON array cannot tell - bounds that do not begin at 1, more than one
 * dimension of what may itself be an array - is in the string form.
 */
static void
write_array(CqWriter *writer, ArrayType *array, StringInfo out)
{
	Datum *values;
	bool *nulls;
	const Datum *next_value;
	const bool *next_null;
	int n;
	int i;
	bool plain = ARR_NDIM(array) <= 1 || writer->element->kind != WRITE_JSON;

	for (i = 0; i < ARR_NDIM(array); i++)
		plain = plain && ARR_LBOUND(array)[i] == 1;
	if (!plain)
	{
		StringInfoData text;

		initStringInfo(&text);
		write_output(writer, PointerGetDatum(array), &text);
		escape_json(out, text.data);
		return;
	}
	if (ARR_NDIM(array) == 0)
	{
		appendStringInfoString(out, "[]");
		return;
	}
	deconstruct_array(array,
					  ARR_ELEMTYPE(array),
					  writer->typlen,
					  writer->typbyval,
					  writer->typalign,
					  &values,
					  &nulls,
					  &n);
	next_value = values;
	next_null = nulls;
	write_dimension(writer, array, 0, &next_value, &next_null, out);
}

static void
write_dimension(CqWriter *writer, const ArrayType *array, int dimension, const Datum **values,
				const bool **nulls, StringInfo out)
{
	int i;

	appendStringInfoChar(out, '[');
	for (i = 0; i < ARR_DIMS(array)[dimension]; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		if (dimension < ARR_NDIM(array) - 1)
		{
			write_dimension(writer, array, dimension + 1, values, nulls, out);
			continue;
		}
		if (**nulls)
			appendStringInfoString(out, "null");
		else
			cq_write_json(writer->element, **values, out);
		(*values)++;
		(*nulls)++;
	}
	appendStringInfoChar(out, ']');
}

static void
write_composite(CqWriter *writer, HeapTupleHeader record, StringInfo out)
{
	TupleDesc desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(record),
												 HeapTupleHeaderGetTypMod(record));
	Datum *values = palloc(sizeof(Datum) * (desc->natts + 1));
	bool *nulls = palloc(sizeof(bool) * (desc->natts + 1));
	HeapTupleData tuple = {0};
	bool first = true;
	int i;

	tuple.t_len = HeapTupleHeaderGetDatumLength(record);
	tuple.t_data = record;
	heap_deform_tuple(&tuple, desc, values, nulls);
	appendStringInfoChar(out, '{');
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped)
			continue;
		if (!first)
			appendStringInfoChar(out, ',');
		first = false;
		escape_json(out, NameStr(attribute->attname));
		appendStringInfoChar(out, ':');
		if (nulls[i])
			appendStringInfoString(out, "null");
		else
			cq_write_json(attribute_writer(writer, desc, i), values[i], out);
	}
	appendStringInfoChar(out, '}');
}

/* Kept for the next value, which may be of the type after it was altered. */
static CqWriter *
attribute_writer(CqWriter *writer, TupleDesc desc, int i)
{
	Oid type = getBaseType(TupleDescAttr(desc, i)->atttypid);

	if (writer->nattributes != desc->natts)
	{
		writer->nattributes = desc->natts;
		writer->attributes =
			MemoryContextAllocZero(writer->context, sizeof(CqWriter *) * desc->natts);
	}
	if (writer->attributes[i] == NULL || writer->attributes[i]->type != type)
	{
		MemoryContext old = MemoryContextSwitchTo(writer->context);
		CqWriter model = {0};

		model.column = writer->column;
		model.context = writer->context;
		writer->attributes[i] = writer_for_type(&model, type);
		MemoryContextSwitchTo(old);
	}
	return writer->attributes[i];
}
