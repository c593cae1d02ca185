/*
 * kept_row.c
 *	  The row of a record that has no payload, in a dead letter and back.
 *
 * Rows of local streams, of views that are read, and of history are values.  In a dead
 * letter they are a JSON object, which people can read and the JSON decoder can, too.
 * It reads the same values: those of types that JSON has no notion of, or another
 * one, are strings there as their output function gives them, under settings with
 * which their input function takes them back whatever the settings are then.  What JSON
 * cannot tell is a JSON null from no value; a row with one is not kept whole.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "runtime/kept_row.h"

static Datum value_show(Oid *type, Datum value, bool *whole);
static int settings_exact(void);
static bool json_has_type(Oid type);
static bool is_column(const CqStream *stream, const char *name, Size len);

char *
cq_kept_row_write(TupleDesc desc, const Datum *values, const bool *nulls, bool *whole)
{
	int nest_level = settings_exact();
	Datum *shown = palloc(sizeof(Datum) * Max(desc->natts, 1));
	bool *shown_nulls = palloc(sizeof(bool) * Max(desc->natts, 1));
	TupleDesc shown_desc;
	HeapTuple tuple;
	char *json;
	int n = 0;
	int i;

	*whole = true;
	for (i = 0; i < desc->natts; i++)
		n += !TupleDescAttr(desc, i)->attisdropped;
	shown_desc = CreateTemplateTupleDesc(n);
	n = 0;
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Oid type = att->atttypid;

		if (att->attisdropped)
			continue;
		shown_nulls[n] = nulls[i];
		shown[n] = nulls[i] ? (Datum) 0 : value_show(&type, values[i], whole);
		n++;
		TupleDescInitEntry(shown_desc, (AttrNumber) n, NameStr(att->attname), type, -1, 0);
	}
	shown_desc = BlessTupleDesc(shown_desc);
	tuple = heap_form_tuple(shown_desc, shown, shown_nulls);
	json = TextDatumGetCString(
		DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(tuple, shown_desc)));
	AtEOXact_GUC(true, nest_level);
	return pg_server_to_any(json, (int) strlen(json), PG_UTF8);
}

/* As it is, or as a text. */
static Datum
value_show(Oid *type, Datum value, bool *whole)
{
	Oid base = getBaseType(*type);
	bool is_json = base == JSONOID || base == JSONBOID;
	bool is_varlena;
	Oid output;
	char *text;

	if (json_has_type(base) && !is_json)
		return value;
	getTypeOutputInfo(*type, &output, &is_varlena);
	text = OidOutputFunctionCall(output, value);
	if (is_json)
	{
		*whole = *whole && text[strspn(text, " \t\n\r")] != 'n';
		return value;
	}
	*type = TEXTOID;
	return CStringGetTextDatum(text);
}

/* As pg_dump does. */
static int
settings_exact(void)
{
	static const char *const settings[][2] = {{"DateStyle", "ISO"},
											  {"IntervalStyle", "postgres"},
											  {"extra_float_digits", "3"}};
	int nest_level = NewGUCNestLevel();
	int i;

	for (i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0],
								 settings[i][1],
								 PGC_USERSET,
								 PGC_S_SESSION,
								 GUC_ACTION_SAVE,
								 true,
								 0,
								 false);
	return nest_level;
}

/* Of these the decoder makes the same value from what row_to_json() writes. */
static bool
json_has_type(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case JSONOID:
		case JSONBOID:
			return true;
		default:
			return false;
	}
}

CqStream *
cq_kept_row_stream(const CqStream *stream)
{
	CqStream *shown = palloc(sizeof(CqStream));
	int i;

	*shown = *stream;
	shown->format = CQ_FORMAT_JSON;
	shown->columns = palloc(sizeof(CqStreamColumn) * Max(stream->ncolumns, 1));
	for (i = 0; i < stream->ncolumns; i++)
	{
		CqStreamColumn *column = &shown->columns[i];

		*column = stream->columns[i];
		column->path = column->name ? list_make1(column->name) : NIL;
		column->time_format = CQ_TIME_FORMAT_TEXT;
		/* local streams tell them by the record's coordinates; of Kafka's the row has them */
		if (stream->kind == CQ_STREAM_KAFKA)
			column->metadata = CQ_METADATA_NONE;
	}
	return shown;
}

/*
 * A column that was added later is NULL, one that was dropped is of no use; but one
 * of each may be one that was renamed.
 */
bool
cq_kept_row_fits(const CqStream *stream, const char *json, Size len, CqDecodeError *error)
{
	char *text = pg_any_to_server(pnstrdup(json, len), (int) len, PG_UTF8);
	Jsonb *row = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	JsonbIterator *iterator = JsonbIteratorInit(&row->root);
	const char *unknown = NULL;
	JsonbValue value;
	JsonbIteratorToken token;
	int known = 0;
	int columns = 0;
	int i;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		if (is_column(stream, value.val.string.val, value.val.string.len))
			known++;
		else
			unknown = pnstrdup(value.val.string.val, value.val.string.len);
	}
	for (i = 0; i < stream->ncolumns; i++)
		columns += !stream->columns[i].dropped;
	if (unknown == NULL || known == columns)
		return true;
	error->sqlstate = ERRCODE_UNDEFINED_COLUMN;
	error->message = psprintf("the row has a column \"%s\", which stream \"%s\" has not, or by "
							  "another name",
							  unknown,
							  stream->name);
	return false;
}

static bool
is_column(const CqStream *stream, const char *name, Size len)
{
	int i;

	for (i = 0; i < stream->ncolumns; i++)
	{
		const CqStreamColumn *column = &stream->columns[i];

		if (!column->dropped && strlen(column->name) == len &&
			strncmp(column->name, name, len) == 0)
			return true;
	}
	return false;
}
