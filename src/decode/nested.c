/*
 * nested.c
 *	  JSON arrays and objects to arrays and composite types.
 *
 * An array's elements go through a converter of their own, so they follow the
 * same rules as a column of the element's type.  An array of arrays is an array
 * of more dimensions, which must be rectangular; for json[] and jsonb[], whose
 * elements may be arrays, there is one dimension.  Objects for composite types
 * are given to json_populate_record, which matches keys with attributes.  It
 * keeps what it has learnt about the types as long as its FmgrInfo lives, so it
 * gets a new one when one of them was altered.
 *
 * The text comes from a document that was read, so it is known to be valid and
 * scanning it checks nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "decode/json.h"
#include "decode/value.h"

/* An array as far as it was built. */
typedef struct Elements
{
	CqConverter *converter; /* of the whole array */
	int ndims;
	int dims[MAXDIM]; /* -1 = not known yet */
	int count;
	int allocated;
	Datum *values;
	bool *nulls;
} Elements;

/* json_populate_record for a type */
struct CqComposite
{
	MemoryContext context; /* holds this and what the function remembers */
	FmgrInfo populate;
	List *types;		 /* of Oid: all composite types in a value */
	uint64 *identifiers; /* of their definitions that the function has seen */
};

static List *composite_types(Oid type, List *found);
static void populate_prepare(Oid type, FmgrInfo *populate);
static bool composite_changed(const CqComposite *composite);
static int count_dimensions(const CqConverter *converter, const char *text);
static bool read_level(Elements *elements, const char **text, int level, CqDecodeError *error);
static bool read_element(Elements *elements, const CqField *field, CqDecodeError *error);
static const char *skip_space(const char *p);
static const char *skip_value(const char *p);
static const char *skip_string(const char *p);
static void element_field(const char *start, const char *end, CqField *field);

bool
cq_convert_array(CqConverter *converter, const CqField *field, Datum *value, CqDecodeError *error)
{
	Elements elements = {0};
	const char *text = field->text;
	int lower_bounds[MAXDIM];
	int i;
	int16 typlen;
	bool typbyval;
	char typalign;

	if (field->kind == CQ_FIELD_STRING)
		return cq_convert_by_input(converter, field, value, error);
	if (field->kind != CQ_FIELD_ARRAY)
		return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
	elements.converter = converter;
	elements.ndims = count_dimensions(converter, text);
	if (elements.ndims > MAXDIM)
		return cq_decode_fail(error,
							  ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							  "column \"%s\": the array has more than %d dimensions",
							  converter->column,
							  MAXDIM);
	for (i = 0; i < MAXDIM; i++)
	{
		elements.dims[i] = -1;
		lower_bounds[i] = 1;
	}
	if (!read_level(&elements, &text, 0, error))
		return false;
	if (elements.count == 0)
	{
		*value = PointerGetDatum(construct_empty_array(converter->inner->type));
		return true;
	}
	get_typlenbyvalalign(converter->inner->type, &typlen, &typbyval, &typalign);
	*value = PointerGetDatum(construct_md_array(elements.values,
												elements.nulls,
												elements.ndims,
												elements.dims,
												lower_bounds,
												converter->inner->type,
												typlen,
												typbyval,
												typalign));
	return true;
}

void
cq_composite_prepare(CqConverter *converter)
{
	MemoryContext context =
		AllocSetContextCreate(converter->context, "pipeline composite type", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CqComposite *composite = palloc0(sizeof(CqComposite));
	ListCell *lc;

	composite->context = context;
	composite->types = composite_types(converter->type, NIL);
	composite->identifiers = palloc(sizeof(uint64) * list_length(composite->types));
	foreach (lc, composite->types)
		composite->identifiers[foreach_current_index(lc)] =
			assign_record_type_identifier(lfirst_oid(lc), -1);
	populate_prepare(converter->type, &composite->populate);
	MemoryContextSwitchTo(old);
	if (converter->composite != NULL)
		MemoryContextDelete(converter->composite->context);
	converter->composite = composite;
}

/* Add the composite types that values of a type are made of to those found. */
static List *
composite_types(Oid type, List *found)
{
	TupleDesc tupdesc;
	Oid element;
	int i;

	type = getBaseType(type);
	element = get_element_type(type);
	if (OidIsValid(element))
		type = getBaseType(element);
	if (get_typtype(type) != TYPTYPE_COMPOSITE || list_member_oid(found, type))
		return found;
	found = lappend_oid(found, type);
	tupdesc = lookup_rowtype_tupdesc(type, -1);
	for (i = 0; i < tupdesc->natts; i++)
	{
		if (!TupleDescAttr(tupdesc, i)->attisdropped)
			found = composite_types(TupleDescAttr(tupdesc, i)->atttypid, found);
	}
	ReleaseTupleDesc(tupdesc);
	return found;
}

/*
 * Make json_populate_record callable for a type: it learns the type from the
 * expression that it believes to be called in.
 */
static void
populate_prepare(Oid type, FmgrInfo *populate)
{
	FuncExpr *call = makeFuncExpr(F_JSON_POPULATE_RECORD,
								  type,
								  list_make3(makeNullConst(type, -1, InvalidOid),
											 makeNullConst(JSONOID, -1, InvalidOid),
											 makeNullConst(BOOLOID, -1, InvalidOid)),
								  InvalidOid,
								  InvalidOid,
								  COERCE_EXPLICIT_CALL);

	fmgr_info_cxt(F_JSON_POPULATE_RECORD, populate, CurrentMemoryContext);
	fmgr_info_set_expr((Node *) call, populate);
}

/* Did somebody rename an attribute? */
static bool
composite_changed(const CqComposite *composite)
{
	ListCell *lc;

	foreach (lc, composite->types)
	{
		if (composite->identifiers[foreach_current_index(lc)] !=
			assign_record_type_identifier(lfirst_oid(lc), -1))
			return true;
	}
	return false;
}

bool
cq_convert_composite(CqConverter *converter, const CqField *field, Datum *value,
					 CqDecodeError *error)
{
	LOCAL_FCINFO(fcinfo, 3);
	const char *json;
	ErrorContextCallback context;

	if (field->kind == CQ_FIELD_STRING)
		return cq_convert_by_input(converter, field, value, error);
	if (field->kind != CQ_FIELD_OBJECT)
		return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
	if (composite_changed(converter->composite))
		cq_composite_prepare(converter);
	json = pg_any_to_server(pnstrdup(field->text, field->len), (int) field->len, PG_UTF8);
	InitFunctionCallInfoData(*fcinfo, &converter->composite->populate, 3, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = (Datum) 0;
	fcinfo->args[0].isnull = true;
	fcinfo->args[1].value = CStringGetTextDatum(json);
	fcinfo->args[1].isnull = false;
	fcinfo->args[2].value = BoolGetDatum(false);
	fcinfo->args[2].isnull = false;
	cq_input_context_push(&context, converter->column);
	*value = FunctionCallInvoke(fcinfo);
	cq_column_context_pop(&context);
	if (!fcinfo->isnull)
		return true;
	return cq_refuse_field(converter, field, ERRCODE_INVALID_TEXT_REPRESENTATION, error);
}

/* How deep the first element of the first element ... is. */
static int
count_dimensions(const CqConverter *converter, const char *text)
{
	int ndims = 1;

	if (!converter->elements_nest)
		return ndims;
	while (*(text = skip_space(text + 1)) == '[')
		ndims++;
	return ndims;
}

/*
 * Read the array that *text points to, of dimension level; *text is left
 * behind it.
 */
static bool
read_level(Elements *elements, const char **text, int level, CqDecodeError *error)
{
	bool innermost = level == elements->ndims - 1;
	const char *p = skip_space(*text + 1);
	int count = 0;

	while (*p != ']')
	{
		const char *end = p;
		bool nested = elements->converter->elements_nest && *p == '[';
		CqField field;

		if (nested == innermost)
			break; /* not rectangular */
		if (nested)
		{
			if (!read_level(elements, &end, level + 1, error))
				return false;
		}
		else
		{
			end = skip_value(p);
			element_field(p, end, &field);
			if (!read_element(elements, &field, error))
				return false;
		}
		count++;
		p = skip_space(end);
		if (*p == ',')
			p = skip_space(p + 1);
	}
	if (*p != ']' || (elements->dims[level] >= 0 && elements->dims[level] != count))
		return cq_decode_fail(
			error,
			ERRCODE_INVALID_TEXT_REPRESENTATION,
			"column \"%s\": the arrays in the JSON array differ in length or depth",
			elements->converter->column);
	elements->dims[level] = count;
	*text = p + 1;
	return true;
}

static bool
read_element(Elements *elements, const CqField *field, CqDecodeError *error)
{
	if (elements->count == elements->allocated)
	{
		elements->allocated = elements->allocated == 0 ? 16 : elements->allocated * 2;
		if (elements->count == 0)
		{
			elements->values = palloc(elements->allocated * sizeof(Datum));
			elements->nulls = palloc(elements->allocated * sizeof(bool));
		}
		else
		{
			elements->values = repalloc(elements->values, elements->allocated * sizeof(Datum));
			elements->nulls = repalloc(elements->nulls, elements->allocated * sizeof(bool));
		}
	}
	if (!cq_convert(elements->converter->inner,
					field,
					&elements->values[elements->count],
					&elements->nulls[elements->count],
					error))
		return false;
	elements->count++;
	return true;
}

static const char *
skip_space(const char *p)
{
	while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')
		p++;
	return p;
}

/* Behind a valid value, which ends where an array goes on or ends. */
static const char *
skip_value(const char *p)
{
	int depth = 0;

	if (strchr("\"[{", *p) == NULL)
		return p + strcspn(p, ",] \n\r\t");
	do
	{
		if (*p == '"')
		{
			p = skip_string(p);
			continue;
		}
		depth += *p == '[' || *p == '{';
		depth -= *p == ']' || *p == '}';
		p++;
	} while (depth > 0);
	return p;
}

static const char *
skip_string(const char *p)
{
	for (p++; *p != '"'; p++)
		p += *p == '\\';
	return p + 1;
}

/* Describe the element in [start, end), as the reader of documents would. */
static void
element_field(const char *start, const char *end, CqField *field)
{
	static const char kinds[] = "\"ntf[{";
	static const CqFieldKind kind_of[] = {CQ_FIELD_STRING,
										  CQ_FIELD_NULL,
										  CQ_FIELD_TRUE,
										  CQ_FIELD_FALSE,
										  CQ_FIELD_ARRAY,
										  CQ_FIELD_OBJECT};
	const char *kind = strchr(kinds, *start);
	Size len = (Size) (end - start);

	cq_field_set_text(field, kind == NULL ? CQ_FIELD_NUMBER : kind_of[kind - kinds], start, len);
	field->raw = start;
	field->raw_len = (uint32_t) len;
	if (*start != '"')
		return;
	field->text = start + 1;
	field->len = (uint32_t) len - 2;
	if (memchr(field->text, '\\', field->len) != NULL)
	{
		char *unescaped = palloc(field->len);

		field->len =
			(uint32_t) cq_json_unescape(field->text, field->len, unescaped, &field->has_nul);
		field->text = unescaped;
	}
}
