/*
 * window_key.c
 *	  Recognising windows among a query's expressions.
 *
 * A window is pipeline.tumble(), pipeline.hop(), pipeline.cumulate(),
 * pipeline.session(), date_bin() or date_trunc() over the stream's event time, or
 * lower() or upper() of the first four, with constants for the other arguments; or
 * pipeline.count_window(), which has nothing to do with time.  In place of the event
 * time may stand pipeline.proctime().  A window
 * need not stand where it is used: columns are followed through sub-queries, and
 * calls in FROM, down to the expression they are computed by.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "plan/derived_time.h"
#include "plan/hop.h"
#include "plan/proctime.h"
#include "plan/refuse.h"
#include "plan/window_key.h"
#include "window/window.h"

/* What a late event has missed is a value, so there is a limit to it. */
#define MAX_WINDOWS_OF_EVENT 1000000

/* The states of a group's count windows are side by side in one piece of memory. */
#define MAX_COUNT_WINDOWS_OF_EVENT 1000

/* An expression together with the level that it is written from. */
typedef struct CqWritten
{
	const CqPath *path;
	int level;
	Node *expr;
} CqWritten;

static void place_resolve(CqWritten *place);
static bool recognise_function(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window,
							   CqKeyRole *role);
static bool recognise_bound(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window,
							CqKeyRole *role);
static bool recognise_tumble(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window);
static bool recognise_hop(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window);
static bool recognise_cumulate(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window);
static void check_windows_of_event(CqWritten *place, const CqWindow *window, const char *step);
static bool recognise_count(CqWritten *place, FuncExpr *call, CqWindow *window);
static int64 count_argument(CqWritten *place, Node *arg, const char *name);
static bool recognise_session(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window);
static bool recognise_bin(CqWritten *place, FuncExpr *call, CqWindow *window);
static bool recognise_trunc(CqWritten *place, FuncExpr *call, CqWindow *window);
static bool is_window_time(CqWritten *place, Node *arg, CqWindow *window);
static void refuse_other_time(CqWritten *place, Node *arg, const char *function);
static void refuse_time_of_rows(CqWritten *place, const CqStream *stream,
								const char *function) CQ_NORETURN;
static List *call_arguments(FuncExpr *call);
static Const *constant(CqWritten *place, Node *arg, const char *function, const char *name);
static void window_fixed(CqWritten *place, CqWindow *window, Node *size, Node *origin,
						 const char *function, const char *size_name);
static char *canonical_unit(const Const *value);
static char *describe_kind(const CqWindow *window);
static char *describe_length(int64 length_us);
static bool same_phase(const CqWindow *a, const CqWindow *b, int64 period_us);

bool
cq_window_recognise(const CqPath *path, int level, Node *expr, bool strict, CqWindow *window,
					CqKeyRole *role)
{
	CqWritten place = {path, level, expr};

	place_resolve(&place);
	if (!IsA(place.expr, FuncExpr))
		return false;
	memset(window, 0, sizeof(CqWindow));
	return recognise_function(&place, (FuncExpr *) place.expr, strict, window, role);
}

bool
cq_window_role_identifies(const CqWindow *window, CqKeyRole role, bool same_keys)
{
	if (role != CQ_KEY_WINDOW_START || window->kind == CQ_WINDOW_TUMBLE)
		return true;
	return window->kind != CQ_WINDOW_CUMULATE && (window->kind != CQ_WINDOW_SESSION || same_keys);
}

/* A window's bounds and what is a fixed time away from them identify it, too. */
bool
cq_window_identifies(const CqPath *path, int level, Node *expr, const CqWindow *window,
					 bool same_keys)
{
	CqWritten place = {path, level, expr};
	CqWindow found;
	CqKeyRole role;

	if (cq_window_recognise(path, level, expr, false, &found, &role))
		return cq_window_equal(&found, window) &&
			   cq_window_role_identifies(window, role, same_keys);
	place_resolve(&place);
	if (IsA(place.expr, OpExpr) && list_length(castNode(OpExpr, place.expr)->args) == 2)
	{
		OpExpr *op = (OpExpr *) place.expr;
		Node *shift = eval_const_expressions(NULL, lsecond(op->args));
		Oid function = get_opcode(op->opno);

		if (function != F_TIMESTAMPTZ_PL_INTERVAL && function != F_TIMESTAMPTZ_MI_INTERVAL &&
			function != F_TIMESTAMP_PL_INTERVAL && function != F_TIMESTAMP_MI_INTERVAL)
			return false;
		if (!IsA(shift, Const) || castNode(Const, shift)->constisnull)
			return false;
		/* days and months are not of one length */
		if (DatumGetIntervalP(castNode(Const, shift)->constvalue)->month != 0 ||
			DatumGetIntervalP(castNode(Const, shift)->constvalue)->day != 0)
			return false;
		return cq_window_identifies(path, place.level, linitial(op->args), window, same_keys);
	}
	return false;
}

bool
cq_window_equal(const CqWindow *a, const CqWindow *b)
{
	if (a->kind != b->kind || a->time_type != b->time_type || a->processing != b->processing)
		return false;
	if (a->kind == CQ_WINDOW_TUMBLE)
		return a->size_us == b->size_us && same_phase(a, b, a->size_us);
	if (a->kind == CQ_WINDOW_HOP)
		return a->size_us == b->size_us && a->slide_us == b->slide_us &&
			   same_phase(a, b, a->slide_us);
	if (a->kind == CQ_WINDOW_COUNT)
		return a->size_events == b->size_events && a->slide_events == b->slide_events;
	if (a->kind == CQ_WINDOW_CUMULATE)
		return a->size_us == b->size_us && a->slide_us == b->slide_us;
	if (a->kind == CQ_WINDOW_SESSION)
		return a->size_us == b->size_us;
	if (strcmp(a->unit, b->unit) != 0)
		return false;
	return (a->zone == NULL) == (b->zone == NULL) &&
		   (a->zone == NULL || strcmp(a->zone, b->zone) == 0);
}

/* Do windows that begin once in each period begin at the same times? */
static bool
same_phase(const CqWindow *a, const CqWindow *b, int64 period_us)
{
	return (a->origin_us % period_us + period_us) % period_us ==
		   (b->origin_us % period_us + period_us) % period_us;
}

char *
cq_window_describe(const CqWindow *window)
{
	char *kind = describe_kind(window);

	return window->processing ? psprintf("%s of processing time", kind) : kind;
}

static char *
describe_kind(const CqWindow *window)
{
	if (window->kind == CQ_WINDOW_COUNT && window->slide_events == window->size_events)
		return psprintf("windows of " INT64_FORMAT " events of a group", window->size_events);
	if (window->kind == CQ_WINDOW_COUNT)
		return psprintf("windows of " INT64_FORMAT
						" events of a group, one beginning every " INT64_FORMAT,
						window->size_events,
						window->slide_events);
	if (window->kind == CQ_WINDOW_TRUNC)
		return psprintf("windows of a calendar %s", window->unit);
	if (window->kind == CQ_WINDOW_HOP)
		return psprintf("windows of %s every %s",
						describe_length(window->size_us),
						describe_length(window->slide_us));
	if (window->kind == CQ_WINDOW_CUMULATE)
		return psprintf("windows that grow by %s up to %s",
						describe_length(window->slide_us),
						describe_length(window->size_us));
	if (window->kind == CQ_WINDOW_SESSION)
		return psprintf("sessions with a gap of %s", describe_length(window->size_us));
	return psprintf("windows of %s", describe_length(window->size_us));
}

char *
cq_window_describe_slices(const CqWindow *window)
{
	int64 into_end = window->size_us % window->slide_us;

	if (into_end == 0)
		return psprintf("slices of %s", describe_length(window->slide_us));
	return psprintf("slices of %s and %s",
					describe_length(into_end),
					describe_length(window->slide_us - into_end));
}

static char *
describe_length(int64 length_us)
{
	static const struct
	{
		int64 length_us;
		const char *name;
	} units[] = {
		{USECS_PER_DAY, "day"},
		{USECS_PER_HOUR, "hour"},
		{USECS_PER_MINUTE, "minute"},
		{USECS_PER_SEC, "second"},
		{1000, "millisecond"},
		{1, "microsecond"},
	};
	int i = 0;
	int64 count;

	while (length_us % units[i].length_us != 0)
		i++;
	count = length_us / units[i].length_us;
	return psprintf(INT64_FORMAT " %s%s", count, units[i].name, count == 1 ? "" : "s");
}

const char *
cq_window_function_name(Oid function)
{
	static const char *const names[] =
		{"tumble", "hop", "cumulate", "session", "count_window", "proctime"};
	Oid schema = get_func_namespace(function);
	char *name;
	int i;

	if (!OidIsValid(schema) || function < FirstNormalObjectId)
		return NULL;
	name = get_namespace_name(schema);
	if (name == NULL || strcmp(name, "pipeline") != 0)
		return NULL;
	name = get_func_name(function);
	for (i = 0; i < lengthof(names); i++)
	{
		if (strcmp(name, names[i]) == 0)
			return names[i];
	}
	return NULL;
}

/* Follow an expression down to where it is computed. */
static void
place_resolve(CqWritten *place)
{
	for (;;)
	{
		const CqLevel *level = &place->path->levels[place->level];
		RangeTblEntry *rte;
		TargetEntry *tle;
		FuncExpr *call;
		Var *var;

		if (IsA(place->expr, RelabelType))
		{
			place->expr = (Node *) castNode(RelabelType, place->expr)->arg;
			continue;
		}
		if (!IsA(place->expr, Var) || castNode(Var, place->expr)->varlevelsup != 0)
			return;
		place->expr = cq_path_flatten(level->query, place->expr);
		if (!IsA(place->expr, Var))
		{
			if (IsA(place->expr, RelabelType))
				continue;
			return;
		}
		var = (Var *) place->expr;
		call = cq_call_in_from(level->query, var->varno);
		if (call != NULL && var->varattno == 1)
		{
			place->expr = (Node *) call;
			return;
		}
		rte = rt_fetch(var->varno, level->query->rtable);
		if (var->varno != level->rti || rte->rtekind != RTE_SUBQUERY)
			return;
		tle = get_tle_by_resno(rte->subquery->targetList, var->varattno);
		if (tle == NULL)
			return;
		place->level++;
		place->expr = (Node *) tle->expr;
	}
}

void
cq_written_resolve(const CqPath *path, int *level, Node **expr)
{
	CqWritten place = {path, *level, *expr};

	place_resolve(&place);
	*level = place.level;
	*expr = place.expr;
}

AttrNumber
cq_stream_column(const CqPath *path, int level, Node *expr)
{
	CqWritten place = {path, level, expr};
	Var *var;

	place_resolve(&place);
	if (!IsA(place.expr, Var) || place.level != path->nlevels - 1)
		return 0;
	var = (Var *) place.expr;
	if (var->varlevelsup != 0 || var->varno != path->levels[place.level].rti || var->varattno <= 0)
		return 0;
	return var->varattno;
}

static bool
recognise_function(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window, CqKeyRole *role)
{
	const char *name;

	switch (call->funcid)
	{
		case F_LOWER_ANYRANGE:
		case F_UPPER_ANYRANGE:
			return recognise_bound(place, call, strict, window, role);
		case F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP:
		case F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ:
			*role = CQ_KEY_WINDOW_START;
			return recognise_bin(place, call, window);
		case F_DATE_TRUNC_TEXT_TIMESTAMP:
		case F_DATE_TRUNC_TEXT_TIMESTAMPTZ:
		case F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT:
			*role = CQ_KEY_WINDOW_START;
			return recognise_trunc(place, call, window);
		default:
			name = cq_window_function_name(call->funcid);
			*role = CQ_KEY_WINDOW_RANGE;
			if (name != NULL && strcmp(name, "tumble") == 0)
				return recognise_tumble(place, call, strict, window);
			if (name != NULL && strcmp(name, "hop") == 0)
				return recognise_hop(place, call, strict, window);
			if (name != NULL && strcmp(name, "cumulate") == 0)
				return recognise_cumulate(place, call, strict, window);
			if (name != NULL && strcmp(name, "count_window") == 0)
			{
				*role = CQ_KEY_WINDOW_NUMBER;
				return recognise_count(place, call, window);
			}
			if (name != NULL && strcmp(name, "session") == 0)
				return recognise_session(place, call, strict, window);
			return false;
	}
}

/* lower() or upper() of a window */
static bool
recognise_bound(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window, CqKeyRole *role)
{
	CqKeyRole inner;

	if (!cq_window_recognise(place->path,
							 place->level,
							 linitial(call->args),
							 strict,
							 window,
							 &inner) ||
		inner != CQ_KEY_WINDOW_RANGE)
		return false;
	*role = call->funcid == F_LOWER_ANYRANGE ? CQ_KEY_WINDOW_START : CQ_KEY_WINDOW_END;
	return true;
}

static bool
recognise_tumble(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window)
{
	List *args = call_arguments(call);

	if (!is_window_time(place, linitial(args), window))
	{
		if (strict)
			refuse_other_time(place, linitial(args), "tumble");
		return false;
	}
	window->time_type = exprType(linitial(args));
	window_fixed(place, window, lsecond(args), lthird(args), "tumble", "size");
	return true;
}

static bool
recognise_hop(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window)
{
	List *args = call_arguments(call);
	Const *slide;
	Const *size;

	if (!is_window_time(place, linitial(args), window))
	{
		if (strict)
			refuse_other_time(place, linitial(args), "hop");
		return false;
	}
	window->time_type = exprType(linitial(args));
	window_fixed(place, window, lsecond(args), lfourth(args), "hop", "size");
	slide = constant(place, lthird(args), "hop", "slide");
	window->kind = CQ_WINDOW_HOP;
	window->slide_us = cq_window_length(DatumGetIntervalP(slide->constvalue), "hop", "slide");
	size = constant(place, lsecond(args), "hop", "size");
	cq_window_check_part(DatumGetIntervalP(slide->constvalue),
						 DatumGetIntervalP(size->constvalue),
						 "hop",
						 "slide");
	check_windows_of_event(place, window, "slide");
	return true;
}

static bool
recognise_cumulate(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window)
{
	Interval *size;
	Interval *step;

	if (!is_window_time(place, linitial(call->args), window))
	{
		if (strict)
			refuse_other_time(place, linitial(call->args), "cumulate");
		return false;
	}
	size = DatumGetIntervalP(constant(place, lsecond(call->args), "cumulate", "size")->constvalue);
	step = DatumGetIntervalP(constant(place, lthird(call->args), "cumulate", "step")->constvalue);
	window->kind = CQ_WINDOW_CUMULATE;
	window->time_type = exprType(linitial(call->args));
	window->origin_us = CQ_WINDOW_ORIGIN;
	cq_window_cumulate_lengths(size, step, &window->size_us, &window->slide_us);
	check_windows_of_event(place, window, "step");
	return true;
}

static void
check_windows_of_event(CqWritten *place, const CqWindow *window, const char *step)
{
	if (window->size_us / window->slide_us <= MAX_WINDOWS_OF_EVENT)
		return;
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("each event of continuous view \"%s\" would be in too many windows",
				   place->path->view_name),
			errdetail("There are %lld to a time; at most %d are possible.",
					  (long long) (window->size_us / window->slide_us),
					  MAX_WINDOWS_OF_EVENT),
			errhint("Use a longer %s, or shorter windows.", step));
}

/* count_window(n [, slide]) */
static bool
recognise_count(CqWritten *place, FuncExpr *call, CqWindow *window)
{
	window->kind = CQ_WINDOW_COUNT;
	window->size_events = count_argument(place, linitial(call->args), "n");
	window->slide_events = list_length(call->args) > 1
							   ? count_argument(place, lsecond(call->args), "slide")
							   : window->size_events;
	if (window->slide_events > window->size_events)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"slide\" of count_window() cannot be greater than \"n\""),
				errdetail("There would be events that are in no window."),
				errhint("The arguments are count_window(n [, slide]); they may be swapped."));
	if ((window->size_events - 1) / window->slide_events >= MAX_COUNT_WINDOWS_OF_EVENT)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("each event of continuous view \"%s\" would be in too many windows",
					   place->path->view_name),
				errdetail("There are " INT64_FORMAT
						  " to an event, each kept by itself; at most %d are possible.",
						  (window->size_events - 1) / window->slide_events + 1,
						  MAX_COUNT_WINDOWS_OF_EVENT),
				errhint("Use a greater slide, or smaller windows."));
	return true;
}

static int64
count_argument(CqWritten *place, Node *arg, const char *name)
{
	int64 value = DatumGetInt64(constant(place, arg, "count_window", name)->constvalue);

	if (value < 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" of count_window() must be greater than zero", name));
	return value;
}

static bool
recognise_session(CqWritten *place, FuncExpr *call, bool strict, CqWindow *window)
{
	Const *gap;

	if (!is_window_time(place, linitial(call->args), window))
	{
		if (strict)
			refuse_other_time(place, linitial(call->args), "session");
		return false;
	}
	gap = constant(place, lsecond(call->args), "session", "gap");
	window->kind = CQ_WINDOW_SESSION;
	window->time_type = exprType(linitial(call->args));
	window->size_us = cq_window_length(DatumGetIntervalP(gap->constvalue), "session", "gap");
	return true;
}

static bool
recognise_bin(CqWritten *place, FuncExpr *call, CqWindow *window)
{
	List *args = call_arguments(call);

	if (!is_window_time(place, lsecond(args), window))
		return false;
	window->time_type = exprType(lsecond(args));
	window_fixed(place, window, linitial(args), lthird(args), "date_bin", "stride");
	return true;
}

static bool
recognise_trunc(CqWritten *place, FuncExpr *call, CqWindow *window)
{
	List *args = call_arguments(call);

	if (!is_window_time(place, lsecond(args), window))
		return false;
	window->kind = CQ_WINDOW_TRUNC;
	window->time_type = exprType(lsecond(args));
	window->unit = canonical_unit(constant(place, linitial(args), "date_trunc", "unit"));
	if (list_length(args) == 3)
		window->zone = TextDatumGetCString(
			constant(place, lthird(args), "date_trunc", "time zone")->constvalue);
	return true;
}

/* What windows may be of: the stream's event time, or the time of processing. */
static bool
is_window_time(CqWritten *place, Node *arg, CqWindow *window)
{
	CqWritten time = {place->path, place->level, arg};

	place_resolve(&time);
	window->processing = cq_is_proctime(time.expr);
	return window->processing || cq_is_event_time(place->path, place->level, arg);
}

static void
refuse_other_time(CqWritten *place, Node *arg, const char *function)
{
	const CqStream *stream = place->path->definition;
	const CqStreamColumn *event_time;
	CqWritten time = {place->path, place->level, arg};
	const char *column = NULL;

	if (stream->feed)
		refuse_time_of_rows(place, stream, function);
	if (stream->event_time == 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("continuous view \"%s\" has a window, but stream \"%s\" has no event time",
					   place->path->view_name,
					   stream->name),
				errhint("Name the column to be used in the stream's option \"event_time\", or use "
						"pipeline.proctime(), the time at which an event is taken in."));
	event_time = &stream->columns[stream->event_time - 1];
	place_resolve(&time);
	if (IsA(time.expr, Var) && time.level == place->path->nlevels - 1 &&
		castNode(Var, time.expr)->varno == place->path->levels[time.level].rti &&
		castNode(Var, time.expr)->varattno > 0)
		column = stream->columns[castNode(Var, time.expr)->varattno - 1].name;
	ereport(
		ERROR,
		errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		errmsg("window of continuous view \"%s\" is not over the event time",
			   place->path->view_name),
		column != NULL
			? errdetail("pipeline.%s() is called with column \"%s\"; the event time of stream "
						"\"%s\" is column \"%s\".",
						function,
						column,
						stream->name,
						event_time->name)
		: exprType(time.expr) != event_time->type
			? errdetail("pipeline.%s() is called with a value of type %s; the event time of stream "
						"\"%s\" is column \"%s\" of type %s.",
						function,
						format_type_be(exprType(time.expr)),
						stream->name,
						event_time->name,
						format_type_be(event_time->type))
			: errdetail("pipeline.%s() is called with an expression; the event time of stream "
						"\"%s\" is column \"%s\".",
						function,
						stream->name,
						event_time->name),
		contain_var_clause(time.expr)
			? errhint("Only the event time says when a window is complete: use it, or change the "
					  "stream's option \"event_time\"; a generated column can compute it.")
			: errhint("Use the event time, or pipeline.proctime(), the time at which an event is "
					  "taken in."));
}

static void
refuse_time_of_rows(CqWritten *place, const CqStream *stream, const char *function)
{
	if (stream->feed->time.role == CQ_TIME_NONE)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("continuous view \"%s\" has a window, but rows of continuous view \"%s\" "
					   "have no event time",
					   place->path->view_name,
					   stream->name),
				errdetail("None of its columns is the window of the row, or the event time "
						  "of the event that it comes from."),
				errhint("Make a view that shows the window as a range, for instance "
						"pipeline.tumble(event_time, '1 minute') AS w."));
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("window of continuous view \"%s\" is not over the event time",
				   place->path->view_name),
			errdetail("The event time of a row of continuous view \"%s\" is %s.",
					  stream->name,
					  cq_event_time_name(stream)),
			errhint("Write pipeline.%s(%s, ...).", function, cq_event_time_name(stream)));
}

/* All arguments, by position, defaults filled in. */
static List *
call_arguments(FuncExpr *call)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
	List *args;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", call->funcid);
	args = expand_function_arguments(copyObject(call->args), false, call->funcresulttype, tuple);
	ReleaseSysCache(tuple);
	return args;
}

static Const *
constant(CqWritten *place, Node *arg, const char *function, const char *name)
{
	Node *value = eval_const_expressions(NULL, arg);

	if (!IsA(value, Const) || castNode(Const, value)->constisnull)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s of the window of continuous view \"%s\" is not a constant",
					   name,
					   place->path->view_name),
				errdetail("All windows of %s() in a view are laid out alike.", function),
				errhint("Write it as a literal, times with their zone, for instance interval '1 "
						"minute' or timestamptz '2000-01-01 00:00+00'."));
	return (Const *) value;
}

static void
window_fixed(CqWritten *place, CqWindow *window, Node *size, Node *origin, const char *function,
			 const char *size_name)
{
	Const *length = constant(place, size, function, size_name);

	window->kind = CQ_WINDOW_TUMBLE;
	window->size_us = cq_window_length(DatumGetIntervalP(length->constvalue), function, size_name);
	window->origin_us =
		DatumGetTimestampTz(constant(place, origin, function, "origin")->constvalue);
	if (TIMESTAMP_NOT_FINITE(window->origin_us))
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("origin of the window of continuous view \"%s\" is infinite",
					   place->path->view_name),
				errhint("Give the start of any one window."));
}

/* The name that date_trunc's documentation uses, whatever spelling was given. */
static char *
canonical_unit(const Const *value)
{
	static const struct
	{
		int code;
		const char *name;
	} units[] = {
		{DTK_MICROSEC, "microseconds"},
		{DTK_MILLISEC, "milliseconds"},
		{DTK_SECOND, "second"},
		{DTK_MINUTE, "minute"},
		{DTK_HOUR, "hour"},
		{DTK_DAY, "day"},
		{DTK_WEEK, "week"},
		{DTK_MONTH, "month"},
		{DTK_QUARTER, "quarter"},
		{DTK_YEAR, "year"},
		{DTK_DECADE, "decade"},
		{DTK_CENTURY, "century"},
		{DTK_MILLENNIUM, "millennium"},
	};
	char *given = TextDatumGetCString(value->constvalue);
	int code;
	int i;

	if (DecodeUnits(0, downcase_truncate_identifier(given, strlen(given), false), &code) == UNITS)
	{
		for (i = 0; i < lengthof(units); i++)
		{
			if (units[i].code == code)
				return pstrdup(units[i].name);
		}
	}
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("\"%s\" is not a unit of calendar windows", given),
			errhint("Units are microseconds, milliseconds, second, minute, hour, day, week, month, "
					"quarter, year, decade, century and millennium."));
}
