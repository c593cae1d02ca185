/*
 * view_options.c
 *	  A view's options, from "name=value" strings to what they mean.
 *
 * An option that this version does not carry out is refused rather than
 * ignored, unless it asks for what happens anyway.
 */
#include "postgres.h"

#include "common/int.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "catalog/rows.h"
#include "catalog/shards.h"
#include "compat.h"
#include "plan/plan.h"

#define LATE_RETENTION_US (7 * USECS_PER_DAY)

typedef void (*OptionHandler)(const char *name, const char *value, const char *view_name,
							  CqViewOptions *options);

typedef struct ViewOption
{
	const char *name;
	OptionHandler handle;
} ViewOption;

static void take_continuous(const char *name, const char *value, const char *view_name,
							CqViewOptions *options);
static void take_emit(const char *name, const char *value, const char *view_name,
					  CqViewOptions *options);
static void take_emit_interval(const char *name, const char *value, const char *view_name,
							   CqViewOptions *options);
static void take_late(const char *name, const char *value, const char *view_name,
					  CqViewOptions *options);
static void take_checkpoint_interval(const char *name, const char *value, const char *view_name,
									 CqViewOptions *options);
static void take_start(const char *name, const char *value, const char *view_name,
					   CqViewOptions *options);
static void take_allowed_lateness(const char *name, const char *value, const char *view_name,
								  CqViewOptions *options);
static void take_keep_closed(const char *name, const char *value, const char *view_name,
							 CqViewOptions *options);
static void take_late_retention(const char *name, const char *value, const char *view_name,
								CqViewOptions *options);
static void take_notify(const char *name, const char *value, const char *view_name,
						CqViewOptions *options);
static void take_retention(const char *name, const char *value, const char *view_name,
						   CqViewOptions *options);
static void take_workers(const char *name, const char *value, const char *view_name,
						 CqViewOptions *options);
static void take_delivery(const char *name, const char *value, const char *view_name,
						  CqViewOptions *options);
static void take_late_table(const char *name, const char *value, const char *view_name,
							CqViewOptions *options);
static void refuse(const char *name, const char *value, const char *view_name,
				   CqViewOptions *options);
static void bad_value(const char *name, const char *value, const char *view_name,
					  const char *hint) CQ_NORETURN;
static int64 interval_us(const char *name, const char *value, const char *view_name);
static int64 age_us(const char *name, const char *value, const char *view_name);

/* Sorted by name; the hint on unknown names lists them. */
static const ViewOption view_options[] = {
	{"allowed_lateness", take_allowed_lateness},
	{"checkpoint_interval", take_checkpoint_interval},
	{"continuous", take_continuous},
	{"delivery", take_delivery},
	{"emit", take_emit},
	{"emit_interval", take_emit_interval},
	{"keep_closed", take_keep_closed},
	{"late", take_late},
	{"late_retention", take_late_retention},
	{"late_table", take_late_table},
	{"notify", take_notify},
	{"retention", take_retention},
	{"sink", refuse},
	{"sink_format", refuse},
	{"sink_key", refuse},
	{"start", take_start},
	{"state_ttl", refuse},
	{"workers", take_workers},
};

static void
unknown_option(const char *name, const char *view_name)
{
	StringInfoData names;
	int i;

	initStringInfo(&names);
	for (i = 0; i < lengthof(view_options); i++)
		appendStringInfo(&names, "%s%s", i ? ", " : "", view_options[i].name);
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("continuous view \"%s\" has no option \"%s\"", view_name, name),
			errhint("Options of continuous views are: %s.", names.data));
}

void
cq_view_option_check(const char *name, const char *view_name)
{
	int i;

	for (i = 0; i < lengthof(view_options); i++)
		if (strcmp(view_options[i].name, name) == 0)
			return;
	unknown_option(name, view_name);
}

void
cq_view_options_parse(List *given, const char *view_name, CqViewOptions *options)
{
	ListCell *lc;

	memset(options, 0, sizeof(*options));
	options->emit = -1;
	options->workers = 1;
	options->store_late = true;
	options->late_retention_us = LATE_RETENTION_US;
	options->retention_us = -1;
	options->keep_closed_us = -1;
	options->given = given;
	foreach (lc, given)
	{
		char *name = pstrdup(lfirst(lc));
		char *value = strchr(name, '=');
		int i;

		if (value == NULL)
			value = "true";
		else
			*value++ = '\0';
		for (i = 0; i < lengthof(view_options); i++)
			if (strcmp(view_options[i].name, name) == 0)
				break;
		if (i == lengthof(view_options))
			unknown_option(name, view_name);
		view_options[i].handle(name, value, view_name, options);
	}
	if (options->keep_closed_us < 0)
		options->keep_closed_us = options->allowed_lateness_us;
	if (options->keep_closed_us < options->allowed_lateness_us)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("option \"keep_closed\" of continuous view \"%s\" is less than "
					   "\"allowed_lateness\"",
					   view_name),
				errhint("A window is kept for as long as it takes late events, or longer."));
	if (options->retention_us >= 0 && options->retention_us < options->keep_closed_us)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("option \"retention\" of continuous view \"%s\" is less than \"%s\"",
					   view_name,
					   options->allowed_lateness_us > options->retention_us ? "allowed_lateness"
																			: "keep_closed"),
				errdetail("A row that may still change is not deleted."),
				errhint("Keep rows for as long as their windows take late events, or longer."));
}

const char *
cq_view_options_corrected_by(const CqViewOptions *options)
{
	if (options->allowed_lateness_us > 0)
		return "allowed_lateness";
	return options->keep_closed_us > 0 ? "keep_closed" : NULL;
}

static void
bad_value(const char *name, const char *value, const char *view_name, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid value for option \"%s\" of continuous view \"%s\": \"%s\"",
				   name,
				   view_name,
				   value),
			errhint("%s", hint));
}

static void
refuse(const char *name, const char *value, const char *view_name, CqViewOptions *options)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("option \"%s\" of continuous view \"%s\" is not supported yet", name, view_name),
			errhint("Leave the option out."));
}

static void
take_continuous(const char *name, const char *value, const char *view_name, CqViewOptions *options)
{
	bool on;

	if (!parse_bool(value, &on) || !on)
		bad_value(name,
				  value,
				  view_name,
				  "A view is continuous for all its life: drop it and create an ordinary one.");
}

static void
take_emit(const char *name, const char *value, const char *view_name, CqViewOptions *options)
{
	if (strcmp(value, "window_close") == 0)
		options->emit = CQ_EMIT_WINDOW_CLOSE;
	else if (strcmp(value, "changes") == 0)
		options->emit = CQ_EMIT_CHANGES;
	else
		bad_value(name, value, view_name, "The value is window_close or changes.");
}

static void
take_late(const char *name, const char *value, const char *view_name, CqViewOptions *options)
{
	if (strcmp(value, "store") == 0)
		options->store_late = true;
	else if (strcmp(value, "drop") == 0)
		options->store_late = false;
	else
		bad_value(name, value, view_name, "The value is store or drop.");
}

/* Kept in the options for the statement that creates the table. */
static void
take_late_table(const char *name, const char *value, const char *view_name, CqViewOptions *options)
{
	if (value[0] == '\0' || strlen(value) >= NAMEDATALEN)
		bad_value(name, value, view_name, "The value is the name of a table, without a schema.");
}

static int64
interval_us(const char *name, const char *value, const char *view_name)
{
	Interval *interval = DatumGetIntervalP(DirectFunctionCall3(interval_in,
															   CStringGetDatum(value),
															   ObjectIdGetDatum(InvalidOid),
															   Int32GetDatum(-1)));
	int64 us;

	if (interval->month != 0)
		bad_value(name, value, view_name, "The interval must not contain months or years.");
	if (pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &us) ||
		pg_add_s64_overflow(us, interval->time, &us))
		bad_value(name, value, view_name, "The interval is out of range.");
	return us;
}

static void
take_allowed_lateness(const char *name, const char *value, const char *view_name,
					  CqViewOptions *options)
{
	options->allowed_lateness_us = interval_us(name, value, view_name);
	if (options->allowed_lateness_us < 0)
		bad_value(name, value, view_name, "The interval cannot be negative.");
}

static void
take_emit_interval(const char *name, const char *value, const char *view_name,
				   CqViewOptions *options)
{
	options->emit_interval_us = interval_us(name, value, view_name);
	if (options->emit_interval_us < 0 || options->emit_interval_us > USECS_PER_DAY)
		bad_value(name, value, view_name, "The interval is between 0 and 1 day.");
}

static void
take_keep_closed(const char *name, const char *value, const char *view_name, CqViewOptions *options)
{
	options->keep_closed_us = interval_us(name, value, view_name);
	if (options->keep_closed_us < 0)
		bad_value(name, value, view_name, "The interval cannot be negative.");
}

static void
take_late_retention(const char *name, const char *value, const char *view_name,
					CqViewOptions *options)
{
	options->late_retention_us = age_us(name, value, view_name);
}

static void
take_notify(const char *name, const char *value, const char *view_name, CqViewOptions *options)
{
	options->notify = NULL;
	if (pg_strcasecmp(value, "off") == 0)
		return;
	if (value[0] == '\0' || strlen(value) >= NAMEDATALEN)
		bad_value(name, value, view_name, "The value is the name of a channel, or off.");
	options->notify = pstrdup(value);
}

static void
take_retention(const char *name, const char *value, const char *view_name, CqViewOptions *options)
{
	options->retention_us = age_us(name, value, view_name);
}

/* -1 = off */
static int64
age_us(const char *name, const char *value, const char *view_name)
{
	int64 us;

	if (pg_strcasecmp(value, "off") == 0)
		return -1;
	us = interval_us(name, value, view_name);
	if (us <= 0)
		bad_value(name, value, view_name, "The value is an interval above zero, or off.");
	return us;
}

static void
take_checkpoint_interval(const char *name, const char *value, const char *view_name,
						 CqViewOptions *options)
{
	int64 us = interval_us(name, value, view_name);

	if (us < 1000 || us > 60 * USECS_PER_SEC)
		bad_value(name, value, view_name, "The interval is between 1 millisecond and 1 minute.");
	options->checkpoint_interval_ms = (int) (us / 1000);
}

static void
take_start(const char *name, const char *value, const char *view_name, CqViewOptions *options)
{
	options->has_start = true;
	if (strcmp(value, "earliest") == 0)
		options->start = CQ_START_EARLIEST;
	else if (strcmp(value, "latest") == 0)
		options->start = CQ_START_LATEST;
	else
	{
		options->start = CQ_START_TIMESTAMP;
		options->start_time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
																	  CStringGetDatum(value),
																	  ObjectIdGetDatum(InvalidOid),
																	  Int32GetDatum(-1)));
		if (TIMESTAMP_NOT_FINITE(options->start_time))
			bad_value(name, value, view_name, "The value is earliest, latest or a time.");
	}
}

static void
take_workers(const char *name, const char *value, const char *view_name, CqViewOptions *options)
{
	char *end;
	long n = strtol(value, &end, 10);

	if (end == value || *end != '\0' || n < 1 || n > CQ_MAX_WORKERS)
		bad_value(name,
				  value,
				  view_name,
				  psprintf("The value is between 1 and %d.", CQ_MAX_WORKERS));
	options->workers = (int) n;
}

static void
take_delivery(const char *name, const char *value, const char *view_name, CqViewOptions *options)
{
	if (strcmp(value, "exactly_once") != 0)
		refuse(name, value, view_name, options);
}
