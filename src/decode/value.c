/*
 * value.c
 *	  From a field as it was sent to a Datum of its column's type.
 *
 * Each column gets a converter with one function chosen by its type.  The
 * common types have a path of their own that calls no input function and
 * allocates no more than the Datum; whatever such a path does not recognise at
 * once goes to the type's input function, so that a string means the same as
 * in SQL: it is accepted if and only if 'string'::type is.
 *
 * What comes from JSON is strict.  A number, boolean, object or array is taken
 * by text types and by json as it was sent, and by other types if their input
 * function accepts its text; an object is never a number, a number never a
 * date.  There is no value that becomes NULL because it does not fit.
 *
 * Fields are UTF-8, and valid: the reader of the format has seen to that.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "decode/value.h"

#define EXCERPT_BYTES	 40	  /* of content that a message quotes */
#define SHORT_TEXT_BYTES 1000 /* more than the text of any value of a fixed-length type */

static CqConverter *converter_for_type(const CqConverter *model, Oid type, int32 typmod,
									   bool payload);
static void converter_choose(CqConverter *converter, bool payload);
static bool convert_domain(CqConverter *converter, const CqField *field, Datum *value,
						   CqDecodeError *error);
static void check_domain(CqConverter *converter, Datum value, bool isnull);
static bool convert_text(CqConverter *converter, const CqField *field, Datum *value,
						 CqDecodeError *error);
static bool convert_bytes(CqConverter *converter, const CqField *field, Datum *value,
						  CqDecodeError *error);
static bool convert_base64(CqConverter *converter, const CqField *field, Datum *value,
						   CqDecodeError *error);
static bool convert_binary(CqConverter *converter, const CqField *field, Datum *value,
						   CqDecodeError *error);
static bool convert_bool(CqConverter *converter, const CqField *field, Datum *value,
						 CqDecodeError *error);
static bool convert_uuid(CqConverter *converter, const CqField *field, Datum *value,
						 CqDecodeError *error);
static bool convert_json(CqConverter *converter, const CqField *field, Datum *value,
						 CqDecodeError *error);
static bool convert_jsonb(CqConverter *converter, const CqField *field, Datum *value,
						  CqDecodeError *error);
static bool refuse_nul(CqConverter *converter, CqDecodeError *error);
static char *terminated(CqConverter *converter, const char *text, Size len);
static const char *field_kind_name(const CqField *field);
static void report_column(void *column);
static void report_input(void *column);

const char *cq_column_at_fault = NULL;

CqConverter *
cq_converter_create(const CqStreamColumn *column, StringInfo scratch, bool payload)
{
	CqConverter model = {0};

	model.column = pstrdup(column->name);
	model.time_format = column->time_format;
	model.bytes_format = column->bytes_format;
	model.recode = GetDatabaseEncoding() != PG_UTF8;
	model.context = CurrentMemoryContext;
	model.scratch = scratch;
	return converter_for_type(&model, column->type, column->typmod, payload);
}

bool
cq_convert(CqConverter *converter, const CqField *field, Datum *value, bool *isnull,
		   CqDecodeError *error)
{
	*isnull = cq_field_is_null(field);
	if (!*isnull)
		return converter->convert(converter, field, value, error);
	*value = (Datum) 0;
	if (converter->checks_null)
		check_domain(converter, *value, true);
	return true;
}

bool
cq_decode_fail(CqDecodeError *error, int sqlstate, const char *format, ...)
{
	StringInfoData message;

	initStringInfo(&message);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, format);
		needed = appendStringInfoVA(&message, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	error->sqlstate = sqlstate;
	error->message = message.data;
	return false;
}

bool
cq_refuse_field(CqConverter *converter, const CqField *field, int sqlstate, CqDecodeError *error)
{
	const char *problem = sqlstate == ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE ||
								  sqlstate == ERRCODE_DATETIME_FIELD_OVERFLOW
							  ? "is out of range for type"
							  : "is not valid for type";
	char *type = format_type_be(converter->type);
	int len = (int) Min(field->len, EXCERPT_BYTES);

	if (field->kind == CQ_FIELD_OBJECT || field->kind == CQ_FIELD_ARRAY)
		return cq_decode_fail(error,
							  sqlstate,
							  "column \"%s\": %s %s %s",
							  converter->column,
							  field_kind_name(field),
							  problem,
							  type);
	if (field->has_nul)
		return refuse_nul(converter, error);
	len = pg_encoding_mbcliplen(PG_UTF8, field->text, len, EXCERPT_BYTES);
	return cq_decode_fail(error,
						  sqlstate,
						  "column \"%s\": %s \"%s%s\" %s %s",
						  converter->column,
						  field_kind_name(field),
						  pg_any_to_server(pnstrdup(field->text, len), len, PG_UTF8),
						  len < field->len ? "..." : "",
						  problem,
						  type);
}

void
cq_column_context_push(ErrorContextCallback *context, const char *column)
{
	context->callback = report_column;
	context->arg = unconstify(char *, column);
	context->previous = error_context_stack;
	error_context_stack = context;
}

void
cq_input_context_push(ErrorContextCallback *context, const char *column)
{
	cq_column_context_push(context, column);
	context->callback = report_input;
}

void
cq_column_context_pop(ErrorContextCallback *context)
{
	error_context_stack = context->previous;
}

void
cq_field_set_text(CqField *field, CqFieldKind kind, const char *text, Size len)
{
	field->kind = (uint8_t) kind;
	field->has_nul = false;
	field->text = text;
	field->len = (uint32_t) len;
	field->raw = NULL;
	field->raw_len = 0;
}

bool
cq_convert_by_input(CqConverter *converter, const CqField *field, Datum *value,
					CqDecodeError *error)
{
	ErrorContextCallback context;

	if (field->has_nul)
		return refuse_nul(converter, error);
	/* no reason to quote a long text in an error */
	if (converter->typlen > 0 && field->len > SHORT_TEXT_BYTES)
		return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
	cq_input_context_push(&context, converter->column);
	*value = InputFunctionCall(&converter->input,
							   terminated(converter, field->text, field->len),
							   converter->ioparam,
							   converter->typmod);
	cq_column_context_pop(&context);
	return true;
}

/*
 * A converter that differs from model in its type.  Domains are looked through
 * first: their base type's path does the work.
 */
static CqConverter *
converter_for_type(const CqConverter *model, Oid type, int32 typmod, bool payload)
{
	CqConverter *converter = palloc(sizeof(CqConverter));
	Oid input;

	*converter = *model;
	converter->type = type;
	converter->typmod = typmod;
	if (get_typtype(type) == TYPTYPE_DOMAIN)
	{
		Oid base = getBaseTypeAndTypmod(type, &typmod);

		converter->convert = convert_domain;
		converter->checks_null = true;
		converter->inner = converter_for_type(model, base, typmod, payload);
		return converter;
	}
	converter->typlen = get_typlen(type);
	if (converter->bytes_format == CQ_BYTES_BINARY)
		getTypeBinaryInputInfo(type, &input, &converter->ioparam);
	else
		getTypeInputInfo(type, &input, &converter->ioparam);
	fmgr_info_cxt(input, &converter->input, converter->context);
	if (converter->bytes_format == CQ_BYTES_BINARY)
		converter->convert = convert_binary;
	else
		converter_choose(converter, payload);
	return converter;
}

static void
converter_choose(CqConverter *converter, bool payload)
{
	Oid element = get_element_type(converter->type);

	switch (converter->type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
			converter->convert = cq_convert_integer;
			return;
		case FLOAT4OID:
		case FLOAT8OID:
			converter->convert = cq_convert_float;
			return;
		case NUMERICOID:
			converter->convert = cq_convert_numeric;
			return;
		case BOOLOID:
			converter->convert = convert_bool;
			return;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			converter->convert = convert_text;
			return;
		case BYTEAOID:
			converter->convert = converter->bytes_format == CQ_BYTES_BASE64 ? convert_base64
								 : payload									? convert_bytes
																			: cq_convert_by_input;
			return;
		case UUIDOID:
			converter->convert = convert_uuid;
			return;
		case JSONOID:
			converter->convert = convert_json;
			return;
		case JSONBOID:
			converter->convert = convert_jsonb;
			return;
		case TIMESTAMPTZOID:
		case TIMESTAMPOID:
		case DATEOID:
			converter->convert =
				converter->time_format == CQ_TIME_FORMAT_TEXT ? cq_convert_time : cq_convert_epoch;
			return;
		case TIMEOID:
		case TIMETZOID:
			converter->convert = cq_convert_time;
			return;
		default:
			converter->convert = cq_convert_by_input;
	}
	if (OidIsValid(element))
	{
		converter->inner = converter_for_type(converter, element, converter->typmod, payload);
		converter->elements_nest = element != JSONOID && element != JSONBOID;
		converter->convert = cq_convert_array;
	}
	else if (type_is_rowtype(converter->type))
	{
		cq_composite_prepare(converter);
		converter->convert = cq_convert_composite;
	}
}

static bool
convert_domain(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	if (!converter->inner->convert(converter->inner, field, value, error))
		return false;
	check_domain(converter, *value, false);
	return true;
}

static void
check_domain(CqConverter *converter, Datum value, bool isnull)
{
	ErrorContextCallback context;

	cq_column_context_push(&context, converter->column);
	domain_check(value, isnull, converter->type, &converter->cache, converter->context);
	cq_column_context_pop(&context);
}

/*
 * text, varchar and char.  A string that fits whatever its characters are is
 * copied; the input function knows the rules for the others, and for padding.
 */
static bool
convert_text(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	Size len = field->len;
	const char *text = field->text;

	if (converter->typmod >= (int32) VARHDRSZ &&
		(converter->type == BPCHAROID || len > converter->typmod - VARHDRSZ || converter->recode))
		return cq_convert_by_input(converter, field, value, error);
	if (field->has_nul)
		return refuse_nul(converter, error);
	if (converter->recode)
	{
		text = terminated(converter, text, len);
		len = strlen(text);
	}
	*value = PointerGetDatum(cstring_to_text_with_len(text, (int) len));
	return true;
}

/* bytea from bytes that are its content, not a text that describes it. */
static bool
convert_bytes(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	*value = PointerGetDatum(cstring_to_text_with_len(field->text, (int) field->len));
	return true;
}

static bool
convert_base64(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	ErrorContextCallback context;

	if (field->kind != CQ_FIELD_STRING || field->has_nul)
		return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
	cq_column_context_push(&context, converter->column);
	*value = DirectFunctionCall2(binary_decode,
								 PointerGetDatum(
									 cstring_to_text_with_len(field->text, (int) field->len)),
								 CStringGetTextDatum("base64"));
	cq_column_context_pop(&context);
	return true;
}

/* Bytes as COPY BINARY has them, of a type whose values are all of one length. */
static bool
convert_binary(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	ErrorContextCallback context;
	StringInfo bytes = converter->scratch;

	if (field->len != converter->typlen)
		return cq_decode_fail(error,
							  ERRCODE_INVALID_BINARY_REPRESENTATION,
							  "column \"%s\": %u bytes are not a binary value of type %s",
							  converter->column,
							  field->len,
							  format_type_be(converter->type));
	/* such functions may count on a zero byte behind the end */
	resetStringInfo(bytes);
	appendBinaryStringInfo(bytes, field->text, (int) field->len);
	cq_input_context_push(&context, converter->column);
	*value = ReceiveFunctionCall(&converter->input, bytes, converter->ioparam, converter->typmod);
	cq_column_context_pop(&context);
	return true;
}

static bool
convert_bool(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	switch ((CqFieldKind) field->kind)
	{
		case CQ_FIELD_TRUE:
		case CQ_FIELD_FALSE:
			*value = BoolGetDatum(field->kind == CQ_FIELD_TRUE);
			return true;
		case CQ_FIELD_OBJECT:
		case CQ_FIELD_ARRAY:
			return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
		default:
			return cq_convert_by_input(converter, field, value, error);
	}
}

static inline int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The usual form has hyphens at four places; the input function knows others. */
static bool
convert_uuid(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	const char *p = field->text;
	pg_uuid_t uuid;
	int i;

	if (field->kind == CQ_FIELD_OBJECT || field->kind == CQ_FIELD_ARRAY)
		return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
	if (field->len != 36)
		return cq_convert_by_input(converter, field, value, error);
	for (i = 0; i < UUID_LEN; i++)
	{
		int high;
		int low;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && *p++ != '-')
			return cq_convert_by_input(converter, field, value, error);
		high = hex_digit(*p++);
		low = hex_digit(*p++);
		if ((high | low) < 0)
			return cq_convert_by_input(converter, field, value, error);
		uuid.data[i] = (unsigned char) (high << 4 | low);
	}
	*value = PointerGetDatum(memcpy(palloc(sizeof(uuid)), &uuid, sizeof(uuid)));
	return true;
}

/* json keeps the text as it is, and the reader has checked it already. */
static bool
convert_json(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	const char *text = field->raw;
	Size len = field->raw_len;

	if (text == NULL)
		return cq_convert_by_input(converter, field, value, error);
	if (converter->recode)
	{
		text = terminated(converter, text, len);
		len = strlen(text);
	}
	*value = PointerGetDatum(cstring_to_text_with_len(text, (int) len));
	return true;
}

static bool
convert_jsonb(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	CqField json;

	if (field->raw == NULL)
		return cq_convert_by_input(converter, field, value, error);
	cq_field_set_text(&json, CQ_FIELD_OBJECT, field->raw, field->raw_len);
	return cq_convert_by_input(converter, &json, value, error);
}

static bool
refuse_nul(CqConverter *converter, CqDecodeError *error)
{
	return cq_decode_fail(error,
						  ERRCODE_UNTRANSLATABLE_CHARACTER,
						  "column \"%s\": \\u0000 cannot be stored as type %s",
						  converter->column,
						  format_type_be(converter->type));
}

/* Text as a C string in the database's encoding; valid until the next call. */
static char *
terminated(CqConverter *converter, const char *text, Size len)
{
	StringInfo scratch = converter->scratch;

	resetStringInfo(scratch);
	appendBinaryStringInfo(scratch, text, (int) len);
	if (!converter->recode)
		return scratch->data;
	return pg_any_to_server(scratch->data, scratch->len, PG_UTF8);
}

static const char *
field_kind_name(const CqField *field)
{
	static const char *const names[] =
		{"null", "null", "boolean", "boolean", "number", "string", "JSON object", "JSON array"};

	return field->raw == NULL && field->kind == CQ_FIELD_STRING ? "value" : names[field->kind];
}

static void
report_column(void *column)
{
	cq_column_at_fault = column;
	errcontext("decoding column \"%s\"", (const char *) column);
}

/* Neither of these says anything about the server when an input function says it. */
static void
report_input(void *column)
{
	int sqlstate = geterrcode();

	if (sqlstate == ERRCODE_INTERNAL_ERROR || sqlstate == ERRCODE_PROTOCOL_VIOLATION ||
		ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_FEATURE_NOT_SUPPORTED ||
		(ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION &&
		 sqlstate != ERRCODE_INSUFFICIENT_PRIVILEGE))
		errcode(ERRCODE_INVALID_TEXT_REPRESENTATION);
	report_column(column);
}
