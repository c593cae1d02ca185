/*
 * options.c
 *	  Options of streams and their columns, parsed from what CREATE FOREIGN
 *	  TABLE said.
 *
 * Each option is one row of a table: its name, where it may stand, and the
 * function that parses its value.  Validating (validator.c) is parsing and
 * forgetting the result, so what CREATE accepts is what a worker can read.
 *
 * Here options are seen alone, without the columns of the foreign table; what
 * needs those is checked by cq_stream_load().
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "common/int.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "source/options.h"

#define MAX_LENGTH_US	 (INT64CONST(365) * USECS_PER_DAY)
#define MAX_RETENTION_US (INT64CONST(36500) * USECS_PER_DAY)
#define MIN_TIMEOUT_US	 (INT64CONST(10) * 1000)
#define MAX_PARTITION	 99999
#define MAX_TOPIC_LENGTH 249
#define MAX_PATH_DEPTH	 32

/* Where an option may stand. */
#define ON_KAFKA 1
#define ON_LOCAL 2
#define ON_BOTH	 (ON_KAFKA | ON_LOCAL)
#define HIDDEN	 4 /* set by the extension itself; not offered in hints */

typedef struct OptionRule
{
	const char *name;
	int where;
	void (*parse)(const char *name, char *value, void *options);
} OptionRule;

static void parse_event_time(const char *name, char *value, void *options);
static void parse_out_of_orderness(const char *name, char *value, void *options);
static void parse_idle_timeout(const char *name, char *value, void *options);
static void parse_max_ahead(const char *name, char *value, void *options);
static void parse_max_skew(const char *name, char *value, void *options);
static void parse_on_error(const char *name, char *value, void *options);
static void parse_primary_key(const char *name, char *value, void *options);
static void parse_partition_key(const char *name, char *value, void *options);
static void parse_topic(const char *name, char *value, void *options);
static void parse_format(const char *name, char *value, void *options);
static void parse_delimiter(const char *name, char *value, void *options);
static void parse_quote(const char *name, char *value, void *options);
static void parse_escape(const char *name, char *value, void *options);
static void parse_null(const char *name, char *value, void *options);
static void parse_header(const char *name, char *value, void *options);
static void parse_encoding(const char *name, char *value, void *options);
static void parse_start(const char *name, char *value, void *options);
static void parse_partitions(const char *name, char *value, void *options);
static void parse_retention(const char *name, char *value, void *options);
static void parse_backing(const char *name, char *value, void *options);
static void parse_era(const char *name, char *value, void *options);
static void parse_field(const char *name, char *value, void *options);
static void parse_metadata(const char *name, char *value, void *options);
static void parse_column_format(const char *name, char *value, void *options);
static void parse_force_null(const char *name, char *value, void *options);
static void parse_force_not_null(const char *name, char *value, void *options);
static void check_format_options(List *defs, CqFormat format);
static void check_csv(const CqCsvOptions *csv);
static void check_column_options(const CqColumnOptions *options);
static bool may_be_separator(char c);
static char parse_character(const char *name, const char *value);
static bool parse_boolean(const char *name, const char *value);
static void apply(const OptionRule *rules, List *defs, CqStreamKind kind, void *options);
static void unknown_option(const OptionRule *rules, const char *name, CqStreamKind kind);
static const char *nearest_name(const OptionRule *rules, const char *name, int where);
static char *list_names(const OptionRule *rules, int where);
static int parse_word(const char *name, const char *value, const char *const *words);
static void bad_value(const char *name, const char *hint) CQ_NORETURN;
static List *parse_names(const char *name, const char *value);
static int64 interval_length(const char *name, const Interval *interval);
static const char *describe_length(int64 length_us);
static void name_in_context(void *arg);
static int parse_partition_number(const char **cursor);

static const OptionRule stream_rules[] = {
	{"event_time", ON_BOTH, parse_event_time},
	{"out_of_orderness", ON_BOTH, parse_out_of_orderness},
	{"idle_timeout", ON_BOTH, parse_idle_timeout},
	{"max_ahead", ON_BOTH, parse_max_ahead},
	{"max_skew", ON_BOTH, parse_max_skew},
	{"on_error", ON_BOTH, parse_on_error},
	{"primary_key", ON_BOTH, parse_primary_key},
	{"partition_key", ON_BOTH, parse_partition_key},
	{"topic", ON_KAFKA, parse_topic},
	{"format", ON_KAFKA, parse_format},
	{"delimiter", ON_KAFKA, parse_delimiter},
	{"quote", ON_KAFKA, parse_quote},
	{"escape", ON_KAFKA, parse_escape},
	{"null", ON_KAFKA, parse_null},
	{"header", ON_KAFKA, parse_header},
	{"encoding", ON_KAFKA, parse_encoding},
	{"start", ON_KAFKA, parse_start},
	{"partitions", ON_KAFKA, parse_partitions},
	{"retention", ON_LOCAL, parse_retention},
	{"backing", ON_LOCAL | HIDDEN, parse_backing},
	{"era", ON_LOCAL | HIDDEN, parse_era},
	{NULL, 0, NULL},
};

static const OptionRule column_rules[] = {
	{"field", ON_KAFKA, parse_field},
	{"metadata", ON_BOTH, parse_metadata},
	{"format", ON_KAFKA, parse_column_format},
	{"force_null", ON_KAFKA, parse_force_null},
	{"force_not_null", ON_KAFKA, parse_force_not_null},
	{NULL, 0, NULL},
};

void
cq_stream_options_parse(List *defs, CqStreamKind kind, CqStreamOptions *options)
{
	MemSet(options, 0, sizeof(*options));
	options->idle_timeout_us = USECS_PER_MINUTE;
	options->max_ahead_us = USECS_PER_HOUR;
	options->max_skew_us = USECS_PER_MINUTE;
	options->on_error = CQ_ON_ERROR_DEAD_LETTER;
	options->format = kind == CQ_STREAM_KAFKA ? CQ_FORMAT_JSON : CQ_FORMAT_ROW;
	options->csv.delimiter = ',';
	options->csv.quote = '"';
	options->csv.null_text = "";
	options->encoding = PG_UTF8;
	options->start = CQ_START_EARLIEST;
	options->retention_us = -1;
	options->era = 1;
	apply(stream_rules, defs, kind, options);
	if (options->csv.escape == '\0')
		options->csv.escape = options->csv.quote;
	check_format_options(defs, options->format);
	if (options->format == CQ_FORMAT_CSV)
		check_csv(&options->csv);

	if (kind == CQ_STREAM_KAFKA && options->topic == NULL)
		ereport(ERROR,
				errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				errmsg("option \"topic\" of a Kafka stream is required"),
				errhint("Name the topic that the stream reads, as in OPTIONS (topic 'orders')."));
	if (options->has_out_of_orderness && options->event_time == NULL)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				errmsg("option \"out_of_orderness\" has no meaning without \"event_time\""),
				errhint("Name the column that holds the events' times in the option "
						"\"event_time\"."));
}

void
cq_column_options_parse(List *defs, CqStreamKind kind, CqColumnOptions *options)
{
	MemSet(options, 0, sizeof(*options));
	apply(column_rules, defs, kind, options);
	check_column_options(options);
	if (kind == CQ_STREAM_LOCAL && options->metadata != CQ_METADATA_NONE &&
		options->metadata != CQ_METADATA_OFFSET && options->metadata != CQ_METADATA_TIMESTAMP &&
		options->metadata != CQ_METADATA_PARTITION)
		bad_value("metadata",
				  "A local stream has the metadata \"offset\", \"timestamp\" and \"partition\".");
}

static void
check_column_options(const CqColumnOptions *options)
{
	bool formatted =
		options->time_format != CQ_TIME_FORMAT_TEXT || options->bytes_format != CQ_BYTES_TEXT;

	if (options->metadata == CQ_METADATA_NONE)
		return;
	if (options->path != NIL || options->force_null || options->force_not_null)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				errmsg("option \"metadata\" of a column excludes \"field\", \"force_null\" and "
					   "\"force_not_null\""),
				errdetail("A metadata column is not filled from a field of the record."));
	if (formatted && !cq_metadata_is_bytes(options->metadata))
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				errmsg("option \"format\" of a metadata column needs the metadata \"key\" or "
					   "\"payload\""),
				errdetail("Of other metadata the form is known."));
}

/* Options that say how a payload is written, where the format says so already. */
static void
check_format_options(List *defs, CqFormat format)
{
	static const char *const csv_only[] = {"delimiter", "quote", "escape", "null", "header"};
	ListCell *lc;
	int i;

	foreach (lc, defs)
	{
		const char *name = lfirst_node(DefElem, lc)->defname;

		for (i = 0; i < lengthof(csv_only); i++)
			if (format != CQ_FORMAT_CSV && strcmp(name, csv_only[i]) == 0)
				ereport(ERROR,
						errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
						errmsg("option \"%s\" of a Kafka stream needs the format csv", name));
		if (format == CQ_FORMAT_JSON && strcmp(name, "encoding") == 0)
			ereport(ERROR,
					errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					errmsg("option \"encoding\" of a Kafka stream needs the format csv or raw"),
					errdetail("JSON is sent in UTF-8."));
	}
}

/* The rules of COPY. */
static void
check_csv(const CqCsvOptions *csv)
{
	if (!may_be_separator(csv->delimiter) || !may_be_separator(csv->quote) ||
		strpbrk(csv->null_text, "\r\n") != NULL)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				errmsg("options \"delimiter\", \"quote\" and \"null\" cannot have line ends"));
	if (csv->delimiter == csv->quote)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				errmsg("options \"delimiter\" and \"quote\" must be different"));
	if (strchr(csv->null_text, csv->delimiter) != NULL ||
		strchr(csv->null_text, csv->quote) != NULL)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				errmsg("option \"null\" cannot have the delimiter or the quote in it"));
}

static bool
may_be_separator(char c)
{
	return c != '\n' && c != '\r';
}

static void
apply(const OptionRule *rules, List *defs, CqStreamKind kind, void *options)
{
	int where = kind == CQ_STREAM_KAFKA ? ON_KAFKA : ON_LOCAL;
	ListCell *lc;

	foreach (lc, defs)
	{
		DefElem *def = lfirst_node(DefElem, lc);
		const OptionRule *rule = rules;

		while (rule->name && (strcmp(rule->name, def->defname) != 0 || !(rule->where & where)))
			rule++;
		if (rule->name == NULL)
			unknown_option(rules, def->defname, kind);
		rule->parse(rule->name, pstrdup(defGetString(def)), options);
	}
}

static void
unknown_option(const OptionRule *rules, const char *name, CqStreamKind kind)
{
	const char *what = kind == CQ_STREAM_KAFKA ? "Kafka stream" : "local stream";
	const char *of = rules == column_rules ? "column of a " : "";
	int where = kind == CQ_STREAM_KAFKA ? ON_KAFKA : ON_LOCAL;
	const char *nearest = nearest_name(rules, name, where);

	ereport(ERROR,
			errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			errmsg("invalid option \"%s\" of a %s%s", name, of, what),
			nearest ? errhint("Perhaps you meant the option \"%s\".", nearest)
					: errhint("Valid options are: %s.", list_names(rules, where)));
}

/* The most similar option, if it is similar enough to be what was meant. */
static const char *
nearest_name(const OptionRule *rules, const char *name, int where)
{
	int length = (int) strlen(name);
	int allowed = Min(length / 2, 4);
	const char *nearest = NULL;

	if (length > NAMEDATALEN)
		return NULL;
	for (; rules->name; rules++)
	{
		int distance;

		if (!(rules->where & where) || (rules->where & HIDDEN))
			continue;
		distance = varstr_levenshtein_less_equal(name,
												 length,
												 rules->name,
												 (int) strlen(rules->name),
												 1,
												 1,
												 1,
												 allowed,
												 true);
		if (distance <= allowed)
		{
			nearest = rules->name;
			allowed = distance - 1;
		}
	}
	return nearest;
}

static char *
list_names(const OptionRule *rules, int where)
{
	StringInfoData names;

	initStringInfo(&names);
	for (; rules->name; rules++)
	{
		if (!(rules->where & where) || (rules->where & HIDDEN))
			continue;
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", rules->name);
	}
	return names.data;
}

static void
parse_event_time(const char *name, char *value, void *options)
{
	if (*value == '\0')
		bad_value(name, "Name a column of the stream.");
	((CqStreamOptions *) options)->event_time = value;
}

static void
parse_out_of_orderness(const char *name, char *value, void *options)
{
	CqStreamOptions *stream = options;

	stream->out_of_orderness_us = cq_option_interval(name, value, 0, MAX_LENGTH_US, false);
	stream->has_out_of_orderness = true;
}

static void
parse_idle_timeout(const char *name, char *value, void *options)
{
	((CqStreamOptions *) options)->idle_timeout_us =
		cq_option_interval(name, value, MIN_TIMEOUT_US, MAX_LENGTH_US, true);
}

static void
parse_max_ahead(const char *name, char *value, void *options)
{
	((CqStreamOptions *) options)->max_ahead_us =
		cq_option_interval(name, value, 0, MAX_LENGTH_US, true);
}

static void
parse_max_skew(const char *name, char *value, void *options)
{
	((CqStreamOptions *) options)->max_skew_us =
		cq_option_interval(name, value, 1000, MAX_LENGTH_US, false);
}

static void
parse_retention(const char *name, char *value, void *options)
{
	((CqStreamOptions *) options)->retention_us =
		cq_option_interval(name, value, 0, MAX_RETENTION_US, false);
}

static void
parse_on_error(const char *name, char *value, void *options)
{
	static const char *const words[] = {"dead_letter", "stop", "skip", NULL};
	static const CqOnError meaning[] = {CQ_ON_ERROR_DEAD_LETTER,
										CQ_ON_ERROR_STOP,
										CQ_ON_ERROR_SKIP};

	((CqStreamOptions *) options)->on_error = meaning[parse_word(name, value, words)];
}

static void
parse_primary_key(const char *name, char *value, void *options)
{
	((CqStreamOptions *) options)->primary_key = parse_names(name, value);
}

static void
parse_partition_key(const char *name, char *value, void *options)
{
	((CqStreamOptions *) options)->partition_key = parse_names(name, value);
}

static void
parse_topic(const char *name, char *value, void *options)
{
	const char *legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t length = strlen(value);

	if (length == 0 || length > MAX_TOPIC_LENGTH || strspn(value, legal) != length ||
		strcmp(value, ".") == 0 || strcmp(value, "..") == 0)
		bad_value(name,
				  "A topic's name has 1 to 249 letters, digits, dots, underscores or hyphens.");
	((CqStreamOptions *) options)->topic = value;
}

static void
parse_format(const char *name, char *value, void *options)
{
	static const char *const words[] = {"json", "csv", "raw", NULL};
	static const CqFormat meaning[] = {CQ_FORMAT_JSON, CQ_FORMAT_CSV, CQ_FORMAT_RAW};

	if (pg_strcasecmp(value, "avro") == 0 || pg_strcasecmp(value, "protobuf") == 0 ||
		pg_strcasecmp(value, "debezium") == 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("format \"%s\" of a Kafka stream is not supported yet", value),
				errhint("Valid formats are: json, csv, raw."));
	((CqStreamOptions *) options)->format = meaning[parse_word(name, value, words)];
}

static void
parse_delimiter(const char *name, char *value, void *options)
{
	((CqStreamOptions *) options)->csv.delimiter = parse_character(name, value);
}

static void
parse_quote(const char *name, char *value, void *options)
{
	((CqStreamOptions *) options)->csv.quote = parse_character(name, value);
}

static void
parse_escape(const char *name, char *value, void *options)
{
	((CqStreamOptions *) options)->csv.escape = parse_character(name, value);
}

/* Payloads are read as UTF-8, where a byte of ASCII is never part of another character. */
static char
parse_character(const char *name, const char *value)
{
	if (strlen(value) != 1 || IS_HIGHBIT_SET(*value))
		bad_value(name, "It must be a single one-byte character.");
	return *value;
}

static void
parse_null(const char *name, char *value, void *options)
{
	((CqStreamOptions *) options)->csv.null_text = value;
}

static void
parse_header(const char *name, char *value, void *options)
{
	CqCsvOptions *csv = &((CqStreamOptions *) options)->csv;
	bool skip;

	if (pg_strcasecmp(value, "match") == 0)
		csv->header = CQ_CSV_HEADER_MATCH;
	else if (parse_bool(value, &skip))
		csv->header = skip ? CQ_CSV_HEADER_SKIP : CQ_CSV_HEADER_NONE;
	else
		bad_value(name, "Valid values are: true, false, match.");
}

static void
parse_encoding(const char *name, char *value, void *options)
{
	int encoding = pg_char_to_encoding(value);

	if (encoding < 0 ||
		(encoding != PG_UTF8 && !OidIsValid(FindDefaultConversionProc(encoding, PG_UTF8))))
		bad_value(name, "It is an encoding that can be converted to UTF8, like 'LATIN1'.");
	((CqStreamOptions *) options)->encoding = encoding;
}

static void
parse_start(const char *name, char *value, void *options)
{
	CqStreamOptions *stream = options;

	cq_option_start(name, value, &stream->start, &stream->start_time);
}

/* Like 0-3,7; the result is sorted and each number stands in it once. */
static void
parse_partitions(const char *name, char *value, void *options)
{
	const char *hint = "It is a list of numbers and ranges, as in '0-3,7'.";
	const char *cursor = value;
	List *ids = NIL;
	List *unique = NIL;
	ListCell *lc;

	for (;;)
	{
		int first = parse_partition_number(&cursor);
		int last = first;

		if (*cursor == '-')
		{
			cursor++;
			last = parse_partition_number(&cursor);
		}
		if (first < 0 || last < first || list_length(ids) > MAX_PARTITION)
			bad_value(name, hint);
		for (; first <= last; first++)
			ids = lappend_int(ids, first);
		if (*cursor == '\0')
			break;
		if (*cursor++ != ',')
			bad_value(name, hint);
	}
	list_sort(ids, list_int_cmp);
	foreach (lc, ids)
		if (unique == NIL || llast_int(unique) != lfirst_int(lc))
			unique = lappend_int(unique, lfirst_int(lc));
	((CqStreamOptions *) options)->partition_ids = unique;
}

/* -1 if there is no number, or none that a partition can have. */
static int
parse_partition_number(const char **cursor)
{
	char *end;
	long number;

	while (**cursor == ' ')
		(*cursor)++;
	if (**cursor < '0' || **cursor > '9')
		return -1;
	number = strtol(*cursor, &end, 10);
	*cursor = end;
	while (**cursor == ' ')
		(*cursor)++;
	return number <= MAX_PARTITION ? (int) number : -1;
}

/*
 * Stem of the names of the hidden tables.  It stands in the definition so that
 * a dump finds its tables again; whose they are is checked when they are used.
 */
static void
parse_backing(const char *name, char *value, void *options)
{
	size_t digits = strlen(value) < 2 ? 0 : strspn(value + 2, "0123456789");

	if (strncmp(value, "l_", 2) != 0 || digits == 0 || digits > 19 || value[2 + digits] != '\0')
		bad_value(name, "This option is set by the extension; leave it out.");
	((CqStreamOptions *) options)->backing = value;
}

static void
parse_era(const char *name, char *value, void *options)
{
	char *end;
	long era = strtol(value, &end, 10);

	if (end == value || *end != '\0' || era < 1 || era > PG_INT32_MAX)
		bad_value(name, "This option is set by the extension; leave it out.");
	((CqStreamOptions *) options)->era = (int32) era;
}

/* a.b.c: keys from the root; a backslash takes away the meaning of what follows it. */
static void
parse_field(const char *name, char *value, void *options)
{
	StringInfoData key;
	List *path = NIL;
	const char *p;

	initStringInfo(&key);
	for (p = value;; p++)
	{
		if (*p == '\\' && p[1] != '\0')
			appendStringInfoChar(&key, *++p);
		else if (*p != '.' && *p != '\0')
			appendStringInfoChar(&key, *p);
		else
		{
			if (key.len == 0 || list_length(path) == MAX_PATH_DEPTH)
				bad_value(name,
						  "It is a path of at most 32 keys like 'address.country'; write \\. for "
						  "a dot that is part of a key.");
			path = lappend(path, pstrdup(key.data));
			resetStringInfo(&key);
		}
		if (*p == '\0')
			break;
	}
	((CqColumnOptions *) options)->path = path;
}

static void
parse_metadata(const char *name, char *value, void *options)
{
	static const char *const words[] =
		{"key", "topic", "partition", "offset", "timestamp", "headers", "payload", NULL};
	static const CqMetadata meaning[] = {CQ_METADATA_KEY,
										 CQ_METADATA_TOPIC,
										 CQ_METADATA_PARTITION,
										 CQ_METADATA_OFFSET,
										 CQ_METADATA_TIMESTAMP,
										 CQ_METADATA_HEADERS,
										 CQ_METADATA_PAYLOAD};

	((CqColumnOptions *) options)->metadata = meaning[parse_word(name, value, words)];
}

static void
parse_column_format(const char *name, char *value, void *options)
{
	static const char *const words[] =
		{"epoch_s", "epoch_ms", "epoch_us", "base64", "binary", NULL};
	static const CqTimeFormat times[] = {CQ_TIME_FORMAT_EPOCH_S,
										 CQ_TIME_FORMAT_EPOCH_MS,
										 CQ_TIME_FORMAT_EPOCH_US};
	static const CqBytesFormat bytes[] = {CQ_BYTES_BASE64, CQ_BYTES_BINARY};
	CqColumnOptions *column = options;
	int word = parse_word(name, value, words);

	if (word < lengthof(times))
		column->time_format = times[word];
	else
		column->bytes_format = bytes[word - lengthof(times)];
}

static void
parse_force_null(const char *name, char *value, void *options)
{
	((CqColumnOptions *) options)->force_null = parse_boolean(name, value);
}

static void
parse_force_not_null(const char *name, char *value, void *options)
{
	((CqColumnOptions *) options)->force_not_null = parse_boolean(name, value);
}

static bool
parse_boolean(const char *name, const char *value)
{
	bool result;

	if (!parse_bool(value, &result))
		bad_value(name, "Valid values are: true, false.");
	return result;
}

/* Index of the word; error naming all of them if it is none. */
static int
parse_word(const char *name, const char *value, const char *const *words)
{
	StringInfoData valid;
	int i;

	for (i = 0; words[i]; i++)
		if (pg_strcasecmp(value, words[i]) == 0)
			return i;
	initStringInfo(&valid);
	appendStringInfoString(&valid, "Valid values are: ");
	for (i = 0; words[i]; i++)
		appendStringInfo(&valid, "%s%s", words[i], words[i + 1] ? ", " : ".");
	bad_value(name, valid.data);
}

/* The value itself may be misplaced and a secret, so it is not shown. */
static void
bad_value(const char *name, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			errmsg("invalid value of option \"%s\"", name),
			errhint("%s", hint));
}

static List *
parse_names(const char *name, const char *value)
{
	List *parts;
	List *names = NIL;
	ListCell *lc;

	if (!SplitIdentifierString(pstrdup(value), ',', &parts) || parts == NIL)
		bad_value(name, "It is a list of columns separated by commas.");
	foreach (lc, parts)
		names = lappend(names, pstrdup(lfirst(lc)));
	return names;
}

int64
cq_option_interval(const char *name, const char *value, int64 min_us, int64 max_us, bool may_be_off)
{
	ErrorContextCallback context;
	Interval *interval;
	int64 length;

	if (may_be_off && pg_strcasecmp(value, "off") == 0)
		return -1;
	context.callback = name_in_context;
	context.arg = (void *) name;
	context.previous = error_context_stack;
	error_context_stack = &context;
	interval = DatumGetIntervalP(DirectFunctionCall3(interval_in,
													 CStringGetDatum(value),
													 ObjectIdGetDatum(InvalidOid),
													 Int32GetDatum(-1)));
	error_context_stack = context.previous;

	length = interval_length(name, interval);
	if (length < min_us || length > max_us)
		ereport(ERROR,
				errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				errmsg("value of option \"%s\" is out of range", name),
				errdetail("It is between %s and %s.",
						  describe_length(min_us),
						  describe_length(max_us)));
	return length;
}

static int64
interval_length(const char *name, const Interval *interval)
{
	int64 length;

	if (interval->month != 0)
		bad_value(name, "Months and years vary in length: give the time in days or less.");
	if (pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &length) ||
		pg_add_s64_overflow(length, interval->time, &length))
		bad_value(name, "It is too long.");
	return length;
}

static const char *
describe_length(int64 length_us)
{
	if (length_us == 0)
		return "0";
	if (length_us % USECS_PER_DAY == 0)
		return psprintf("%d days", (int) (length_us / USECS_PER_DAY));
	return psprintf("%d milliseconds", (int) (length_us / 1000));
}

static void
name_in_context(void *arg)
{
	errcontext("option \"%s\"", (const char *) arg);
}

/*
 * A point in time must not mean another one tomorrow or in another session, so
 * words like "yesterday" are refused and the session's zone and date style play
 * no part.
 */
void
cq_option_start(const char *name, const char *value, CqStart *start, TimestampTz *time)
{
	ErrorContextCallback context;
	int nest_level;

	*time = DT_NOBEGIN;
	if (pg_strcasecmp(value, "earliest") == 0)
		*start = CQ_START_EARLIEST;
	else if (pg_strcasecmp(value, "latest") == 0)
		*start = CQ_START_LATEST;
	else
	{
		if (*value < '0' || *value > '9')
			bad_value(name,
					  "It is earliest, latest or a time like '2024-06-01 00:00+00', in UTC where "
					  "no zone is named.");
		*start = CQ_START_TIMESTAMP;
		context.callback = name_in_context;
		context.arg = (void *) name;
		context.previous = error_context_stack;
		error_context_stack = &context;
		nest_level = NewGUCNestLevel();
		(void) set_config_option("timezone",
								 "UTC",
								 PGC_USERSET,
								 PGC_S_SESSION,
								 GUC_ACTION_SAVE,
								 true,
								 0,
								 false);
		(void) set_config_option("datestyle",
								 "ISO, YMD",
								 PGC_USERSET,
								 PGC_S_SESSION,
								 GUC_ACTION_SAVE,
								 true,
								 0,
								 false);
		*time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
														CStringGetDatum(value),
														ObjectIdGetDatum(InvalidOid),
														Int32GetDatum(-1)));
		AtEOXact_GUC(true, nest_level);
		error_context_stack = context.previous;
	}
}
