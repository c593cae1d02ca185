/*
 * derived_time.c
 *	  The event time of rows that a continuous view gives out.
 *
 * A row of a window stands for events up to the window's end, so its event time
 * is the window's last microsecond: upper(w) - interval '1 microsecond'.  The
 * end itself would be a time of the next window, and the start of a window lags
 * behind the watermark by the window's size.  The row of a view that only
 * filters has the event time of its event, if the view shows it unchanged.
 *
 * Whoever groups such rows by a window writes just that expression, over the
 * column that shows the window; it is recognised like an event time column.  A
 * view that shows neither window nor event time gives rows without a time, which
 * can be filtered, joined and aggregated but not put into windows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "plan/derived_time.h"
#include "plan/window_key.h"
#include "window/window.h"

static void time_note(CqPlan *plan, const CqDerivedTime *time);
static bool time_of_window(const CqPath *path, const CqPlan *plan, Node *expr, CqDerivedTime *time);
static bool time_of_role(const CqWindow *window, CqKeyRole role, CqDerivedTime *time);
static bool time_of_event(const CqPath *path, Node *expr, CqDerivedTime *time);
static void key_time(const CqPlan *plan, CqDerivedTime *shown);
static bool better(const CqDerivedTime *a, const CqDerivedTime *b);
static bool is_last_moment(const CqPath *path, int level, Node *expr, const CqDerivedTime *time);
static bool strip_shift(Node **expr, int64 *shift_us);

void
cq_derive_time(const CqPath *path, CqPlan *plan)
{
	ListCell *lc;

	if (plan->emit == CQ_EMIT_CHANGES && plan->window.kind == CQ_WINDOW_NONE)
		return;
	foreach (lc, path->top->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		CqDerivedTime time = {entry->resno, CQ_TIME_NONE, 0};

		if (entry->resjunk)
			continue;
		if (plan->window.kind == CQ_WINDOW_NONE
				? time_of_event(path, (Node *) entry->expr, &time)
				: time_of_window(path, plan, (Node *) entry->expr, &time))
			time_note(plan, &time);
	}
}

void
cq_derive_time_of_window(CqPlan *plan, AttrNumber column, CqKeyRole role)
{
	CqDerivedTime time = {column, CQ_TIME_NONE, 0};

	if (time_of_role(&plan->window, role, &time))
		time_note(plan, &time);
}

/* Where the start of a window does not tell its end, it does not tell readers the rows' time. */
static void
time_note(CqPlan *plan, const CqDerivedTime *time)
{
	if (better(time, &plan->row_time))
		plan->row_time = *time;
	if ((time->role != CQ_TIME_START || time->window_us > 0) && better(time, &plan->time))
		plan->time = *time;
}

static bool
time_of_window(const CqPath *path, const CqPlan *plan, Node *expr, CqDerivedTime *time)
{
	CqWindow window;
	CqKeyRole role;

	return cq_window_recognise(path, 0, expr, false, &window, &role) &&
		   cq_window_equal(&window, &plan->window) && time_of_role(&window, role, time);
}

static bool
time_of_role(const CqWindow *window, CqKeyRole role, CqDerivedTime *time)
{
	if (window->kind == CQ_WINDOW_TUMBLE || window->kind == CQ_WINDOW_HOP)
		time->window_us = window->size_us;
	if (role == CQ_KEY_WINDOW_NUMBER)
		return false;
	if (role == CQ_KEY_WINDOW_RANGE)
		time->role = CQ_TIME_RANGE;
	else
		time->role = role == CQ_KEY_WINDOW_END ? CQ_TIME_END : CQ_TIME_START;
	return true;
}

/* The event time itself, or what the view read tells it by. */
static bool
time_of_event(const CqPath *path, Node *expr, CqDerivedTime *time)
{
	const CqStream *stream = path->definition;
	AttrNumber column = cq_stream_column(path, 0, expr);

	if (column <= 0)
		return false;
	if (stream->feed == NULL)
	{
		time->role = CQ_TIME_EVENT;
		return column == stream->event_time;
	}
	time->role = stream->feed->time.role;
	time->window_us = stream->feed->time.window_us;
	return time->role != CQ_TIME_NONE && column == stream->feed->time.column;
}

/* A range says more than an end, which says more than a start; else the first column counts. */
static bool
better(const CqDerivedTime *a, const CqDerivedTime *b)
{
	static const int rank[] = {
		[CQ_TIME_NONE] = 0,
		[CQ_TIME_START] = 1,
		[CQ_TIME_END] = 2,
		[CQ_TIME_RANGE] = 3,
		[CQ_TIME_EVENT] = 3,
	};

	return rank[a->role] > rank[b->role];
}

bool
cq_is_event_time(const CqPath *path, int level, Node *expr)
{
	const CqStream *stream = path->definition;
	AttrNumber column;

	if (stream->feed)
		return is_last_moment(path, level, expr, &stream->feed->time);
	column = cq_stream_column(path, level, expr);
	return column > 0 && column == stream->event_time;
}

static bool
is_last_moment(const CqPath *path, int level, Node *expr, const CqDerivedTime *time)
{
	CqTimeRole bound = CQ_TIME_NONE;
	int64 shift_us = 0;

	for (;;)
	{
		cq_written_resolve(path, &level, &expr);
		if (bound == CQ_TIME_NONE && strip_shift(&expr, &shift_us))
			continue;
		if (bound != CQ_TIME_NONE || !IsA(expr, FuncExpr))
			break;
		if (castNode(FuncExpr, expr)->funcid == F_UPPER_ANYRANGE)
			bound = CQ_TIME_END;
		else if (castNode(FuncExpr, expr)->funcid == F_LOWER_ANYRANGE)
			bound = CQ_TIME_START;
		else
			return false;
		expr = linitial(castNode(FuncExpr, expr)->args);
	}
	if (time->role == CQ_TIME_NONE || cq_stream_column(path, level, expr) != time->column)
		return false;
	if ((bound != CQ_TIME_NONE) != (time->role == CQ_TIME_RANGE))
		return false;
	if (time->role == CQ_TIME_EVENT)
		return shift_us == 0;
	if (bound == CQ_TIME_NONE)
		bound = time->role;
	if (bound == CQ_TIME_START)
		return time->window_us > 0 && shift_us == time->window_us - 1;
	return shift_us == -1;
}

/* time + interval or time - interval with a constant of fixed length */
static bool
strip_shift(Node **expr, int64 *shift_us)
{
	OpExpr *op = (OpExpr *) *expr;
	Interval *interval;
	Node *shift;
	Oid function;
	bool minus;

	if (!IsA(op, OpExpr) || list_length(op->args) != 2)
		return false;
	function = get_opcode(op->opno);
	minus = function == F_TIMESTAMPTZ_MI_INTERVAL || function == F_TIMESTAMP_MI_INTERVAL;
	if (!minus && function != F_TIMESTAMPTZ_PL_INTERVAL && function != F_TIMESTAMP_PL_INTERVAL)
		return false;
	shift = eval_const_expressions(NULL, lsecond(op->args));
	if (!IsA(shift, Const) || castNode(Const, shift)->constisnull)
		return false;
	interval = DatumGetIntervalP(castNode(Const, shift)->constvalue);
	if (interval->month != 0 || interval->day != 0)
		return false;
	*shift_us += minus ? -interval->time : interval->time;
	*expr = linitial(op->args);
	return true;
}

/*
 * Groups that change are stored by their keys, of which the window is one; what
 * else there is shows its time as it is shown to readers.
 */
bool
cq_row_time(const CqPlan *plan, CqRowTime *time)
{
	CqDerivedTime shown = plan->row_time;
	TupleDesc desc = plan->result_desc;
	Oid type;

	if (plan->emit == CQ_EMIT_CHANGES && !plan->replaced)
	{
		shown = (CqDerivedTime){0};
		desc = plan->closed_desc;
		key_time(plan, &shown);
	}
	if (shown.role == CQ_TIME_NONE ||
		(shown.role == CQ_TIME_START && plan->window.kind == CQ_WINDOW_SESSION))
		return false;
	type = TupleDescAttr(desc, shown.column - 1)->atttypid;
	time->column = shown.column;
	time->range_type = shown.role == CQ_TIME_RANGE ? type : InvalidOid;
	time->type = shown.role == CQ_TIME_RANGE ? get_range_subtype(type) : type;
	time->span_us = 0;
	if (shown.role == CQ_TIME_START)
		time->span_us = shown.window_us > 0 ? shown.window_us : cq_window_longest(&plan->window);
	return time->type == TIMESTAMPTZOID || time->type == TIMESTAMPOID;
}

/* Keys stand first among the columns, in their order. */
static void
key_time(const CqPlan *plan, CqDerivedTime *shown)
{
	int i;

	if (plan->window.kind == CQ_WINDOW_NONE)
		return;
	for (i = 0; i < plan->nkeys; i++)
	{
		CqDerivedTime time = {(AttrNumber) (i + 1), CQ_TIME_NONE, 0};

		if (plan->keys[i].role != CQ_KEY_VALUE &&
			time_of_role(&plan->window, plan->keys[i].role, &time) && better(&time, shown))
			*shown = time;
	}
}

char *
cq_event_time_name(const CqStream *stream)
{
	const CqDerivedTime *time;
	const char *column;

	if (stream->feed == NULL)
		return pstrdup(stream->columns[stream->event_time - 1].name);
	time = &stream->feed->time;
	column = quote_identifier(stream->columns[time->column - 1].name);
	switch (time->role)
	{
		case CQ_TIME_RANGE:
			return psprintf("upper(%s) - interval '1 microsecond'", column);
		case CQ_TIME_END:
			return psprintf("%s - interval '1 microsecond'", column);
		case CQ_TIME_START:
			return psprintf("%s + interval '%lld microseconds'",
							column,
							(long long) (time->window_us - 1));
		default:
			return pstrdup(stream->columns[time->column - 1].name);
	}
}
