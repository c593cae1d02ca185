/*
 * view_options.c
 *	  The "pipeline." options in a WITH or SET clause.
 *
 * PostgreSQL's grammar accepts a namespace before a storage parameter and
 * its CREATE VIEW rejects any; so ours are taken out before it sees them.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "ddl/view_options.h"

static const char *value_to_keep(DefElem *option);

void
cq_view_options_split(List *options, List **ours, List **others)
{
	ListCell *lc;

	*ours = NIL;
	*others = NIL;
	foreach (lc, options)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		if (option->defnamespace && strcmp(option->defnamespace, "pipeline") == 0)
			*ours = lappend(*ours, option);
		else
			*others = lappend(*others, option);
	}
}

List *
cq_view_options_strings(List *ours, int *continuous)
{
	List *strings = NIL;
	ListCell *lc;

	*continuous = -1;
	foreach (lc, ours)
	{
		DefElem *option = lfirst_node(DefElem, lc);
		bool repeated = false;

		if (strcmp(option->defname, "continuous") == 0)
		{
			repeated = *continuous >= 0;
			*continuous = defGetBoolean(option);
		}
		else
		{
			repeated = cq_view_options_value(strings, option->defname) != NULL;
			strings = lappend(strings, psprintf("%s=%s", option->defname, value_to_keep(option)));
		}
		if (repeated)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("option \"pipeline.%s\" is given more than once", option->defname));
	}
	return strings;
}

/*
 * Who reads the option later has other settings, and another day: a time is kept
 * in full.
 */
static const char *
value_to_keep(DefElem *option)
{
	char *value;

	/* a name that is unknown is refused with the names that there are, with a value or not */
	if (option->arg == NULL)
		return "";
	value = defGetString(option);
	if (strcmp(option->defname, "start") != 0 || strcmp(value, "earliest") == 0 ||
		strcmp(value, "latest") == 0)
		return value;
	return timestamptz_to_str(DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
																	  CStringGetDatum(value),
																	  ObjectIdGetDatum(InvalidOid),
																	  Int32GetDatum(-1))));
}

/*
 * With security_invoker the reader would need rights on the hidden table;
 * check_option is about changes through the view, of which there are none.
 */
void
cq_view_options_check_others(List *others, const char *view_name)
{
	ListCell *lc;

	foreach (lc, others)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "security_invoker") == 0 && option->defnamespace == NULL &&
			defGetBoolean(option))
			ereport(
				ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("continuous view \"%s\" cannot run with the rights of its reader",
					   view_name),
				errdetail(
					"Its rows were computed with the rights of its owner, when the events were processed."),
				errhint(
					"Leave the option \"security_invoker\" out, and GRANT SELECT on the view."));
		if (strcmp(option->defname, "check_option") == 0 && option->defnamespace == NULL)
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("WITH CHECK OPTION is not possible for continuous view \"%s\"",
						   view_name),
					errdetail("Rows cannot be inserted into a continuous view or updated in it."));
	}
}

void
cq_view_options_check_plan(const CqViewOptions *options, const CqPlan *plan, const char *view_name)
{
	if (options->emit_interval_us > 0 && !plan->shows_open &&
		(plan->emit != CQ_EMIT_CHANGES || plan->window.kind != CQ_WINDOW_NONE))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("option \"emit_interval\" has no meaning for continuous view \"%s\"",
					   view_name),
				errdetail("Its rows are written when they are final, not before."),
				errhint("Leave the option out, or create the view with emit = 'changes'."));
	if (options->notify && plan->window.kind == CQ_WINDOW_NONE)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("option \"notify\" has no meaning for continuous view \"%s\"", view_name),
				errdetail("It has no windows, of which it could be told that they are closed."),
				errhint("Leave the option out, or group by a window."));
	if (plan->window.kind == CQ_WINDOW_SESSION &&
		options->keep_closed_us > options->allowed_lateness_us)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("continuous view \"%s\" cannot use keep_closed with sessions", view_name),
				errdetail("Which session a late row belongs to would depend on when it is "
						  "applied."),
				errhint("Use allowed_lateness: late events join the sessions that they touch."));
}

const char *
cq_view_options_value(List *given, const char *name)
{
	size_t length = strlen(name);
	ListCell *lc;

	foreach (lc, given)
	{
		const char *string = lfirst(lc);

		if (strncmp(string, name, length) == 0 && string[length] == '=')
			return string + length + 1;
	}
	return NULL;
}
