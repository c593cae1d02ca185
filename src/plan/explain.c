/*
 * explain.c
 *	  A view's plan as a readable tree, for pipeline.explain().
 *
 *	  Stream orders: columns customer_id, amount, ordered_at
 *	  Stage, for each batch of events:
 *	    Hash Join
 *	      ...
 *	  Operator: groups with windows of 1 minute
 *	    Key segment
 *	    Key period: the window
 *	    sum(amount), kept incrementally
 *	  Close query, when windows close:
 *	    Named Tuplestore Scan
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "operator/operator.h"
#include "plan/close.h"
#include "plan/derived_time.h"
#include "plan/path.h"
#include "plan/plan.h"
#include "plan/prepared.h"
#include "plan/window_key.h"
#include "source/stream.h"

static void explain_stream(StringInfo text, const CqPlan *plan);
static void explain_stage(StringInfo text, const CqPlan *plan);
static void explain_operator(StringInfo text, const CqPlan *plan);
static void explain_top(StringInfo text, const CqPlan *plan);
static void explain_slices(StringInfo text, const CqPlan *plan);
static const char *top_column_name(const CqPlan *plan, int column);
static void explain_aggregate(StringInfo text, const CqPlan *plan, int i);
static void explain_finish(StringInfo text, const CqPlan *plan);
static void explain_prepared(StringInfo text, CqPrepared *prepared, Tuplestorestate **rows);
static void append_indented(StringInfo text, const char *plan);
static const char *stage_column_name(const CqPlan *plan, int column);

char *
cq_plan_explain(const CqPlan *plan)
{
	StringInfoData text;
	int i;
	int j;

	initStringInfo(&text);
	for (i = 0; i < plan->ninputs; i++)
	{
		if (plan->ninputs > 1)
			appendStringInfo(&text, "Input %d\n", i + 1);
		for (j = 0; j < plan->inputs[i]->nstages; j++)
		{
			explain_stream(&text, plan->inputs[i]->stages[j]);
			explain_stage(&text, plan->inputs[i]->stages[j]);
		}
		explain_operator(&text, plan->inputs[i]);
	}
	explain_finish(&text, plan);
	while (text.len > 0 && text.data[text.len - 1] == '\n')
		text.data[--text.len] = '\0';
	return text.data;
}

static void
explain_stream(StringInfo text, const CqPlan *plan)
{
	static const char *const feed_label[] = {
		[CQ_FEED_ROWS] = "Rows of continuous view",
		[CQ_FEED_CHANGES] = "Changes of rows of continuous view",
		[CQ_FEED_FINAL] = "Final rows of continuous view",
	};
	const CqStream *stream = cq_stream_load(plan->stream);
	int attno = -1;
	const char *separator = " columns ";

	appendStringInfo(text,
					 "%s %s:",
					 stream->feed ? feed_label[stream->feed->mode] : "Stream",
					 quote_identifier(stream->name));
	while ((attno = bms_next_member(plan->columns, attno)) >= 0)
	{
		appendStringInfo(text,
						 "%s%s",
						 separator,
						 quote_identifier(stream->columns[attno - 1].name));
		separator = ", ";
	}
	if (bms_is_empty(plan->columns))
		appendStringInfoString(text, " no columns");
	if (stream->event_time != 0)
		appendStringInfo(text,
						 "; event time %s",
						 stream->feed
							 ? cq_event_time_name(stream)
							 : quote_identifier(stream->columns[stream->event_time - 1].name));
	appendStringInfoChar(text, '\n');
}

static void
explain_stage(StringInfo text, const CqPlan *plan)
{
	CqPrepared *prepared = cq_stage_prepare(plan, CurrentMemoryContext);
	StringInfoData bulk;
	StringInfoData drip;

	initStringInfo(&bulk);
	initStringInfo(&drip);
	explain_prepared(&bulk, prepared, NULL);
	appendStringInfo(text, "Stage, for each batch of events:\n%s", bulk.data);
	if (prepared->drip != NULL)
		explain_prepared(&drip, prepared->drip, NULL);
	if (drip.len > 0 && strcmp(bulk.data, drip.data) != 0)
		appendStringInfo(text, "Stage, for a few events:\n%s", drip.data);
	cq_prepared_free(prepared);
}

static void
explain_operator(StringInfo text, const CqPlan *plan)
{
	int i;

	if (plan->shape == CQ_SHAPE_APPEND)
	{
		appendStringInfoString(text, "Operator: none; rows are appended to the view\n");
		return;
	}
	appendStringInfo(text,
					 "Operator: %s%s%s\n",
					 plan->shape == CQ_SHAPE_ROWS ? "keeps rows" : "keeps groups",
					 plan->window.kind == CQ_WINDOW_NONE ? ", for ever" : " in ",
					 plan->window.kind == CQ_WINDOW_NONE ? "" : cq_window_describe(&plan->window));
	if (plan->shape == CQ_SHAPE_ROWS)
		appendStringInfo(text, "  Reason: %s cannot be kept incrementally\n", plan->rows_why);
	if (cq_window_overlaps(&plan->window))
		explain_slices(text, plan);
	if (plan->emit == CQ_EMIT_CHANGES && plan->window.kind != CQ_WINDOW_NONE)
		appendStringInfo(text, "  Rows: appear %s\n", cq_plan_when_rows_appear(plan));
	if (plan->divided)
		appendStringInfo(text,
						 "  Workers: each keeps those of its partitions; %s\n",
						 plan->disjoint ? "no group is in two of them"
										: "they are put together when a window closes");
	if (plan->top != NULL)
		explain_top(text, plan);
	for (i = 0; i < plan->nkeys && plan->shape == CQ_SHAPE_AGGREGATE; i++)
	{
		static const char *const roles[] = {"",
											": the window",
											": the window's start",
											": the window's end",
											": the window's number"};

		appendStringInfo(text,
						 "  Key %s%s\n",
						 NameStr(TupleDescAttr(plan->closed_desc, i)->attname),
						 roles[plan->keys[i].role]);
	}
	for (i = 0; i < plan->naggregates; i++)
		explain_aggregate(text, plan, i);
}

/* How an event gets into all of its windows. */
static void
explain_slices(StringInfo text, const CqPlan *plan)
{
	char *slices = cq_window_describe_slices(&plan->window);
	int i;

	if (plan->replaced)
		appendStringInfoString(text, "  Windows: each keeps its own rows\n");
	else if (plan->emit == CQ_EMIT_CHANGES)
		appendStringInfoString(text, "  Windows: each keeps its own groups, whose rows change\n");
	else if (plan->shape == CQ_SHAPE_ROWS)
		appendStringInfo(text, "  Windows: get their rows from %s, kept once\n", slices);
	else if (plan->sliced)
		appendStringInfo(text, "  Windows: combined from %s when they close\n", slices);
	for (i = 0; i < plan->naggregates && !plan->sliced && plan->emit != CQ_EMIT_CHANGES; i++)
	{
		Aggref *aggref = plan->aggregates[i].aggref;

		if (cq_aggregate_is_combinable(aggref))
			continue;
		appendStringInfo(text,
						 "  Windows: each keeps its own groups; aggregate %s() has no combine "
						 "function\n",
						 get_func_name(aggref->aggfnoid));
		break;
	}
}

static void
explain_top(StringInfo text, const CqPlan *plan)
{
	const CqTop *top = plan->top;
	int i;

	appendStringInfo(text,
					 "  Only %s that may be among the first " INT64_FORMAT,
					 plan->shape == CQ_SHAPE_ROWS ? "rows" : "groups",
					 top->limit);
	for (i = 0; i < top->npartition; i++)
		appendStringInfo(text,
						 "%s%s",
						 i == 0 ? " per " : ", ",
						 top_column_name(plan, top->partition[i].stage_column));
	for (i = 0; i < top->nsort; i++)
		appendStringInfo(text,
						 "%s%s",
						 i == 0 ? " by " : ", ",
						 top_column_name(plan, top->sort[i].stage_column));
	appendStringInfoChar(text, '\n');
}

static const char *
top_column_name(const CqPlan *plan, int column)
{
	return plan->shape == CQ_SHAPE_ROWS
			   ? stage_column_name(plan, column)
			   : NameStr(TupleDescAttr(plan->closed_desc, column)->attname);
}

static void
explain_aggregate(StringInfo text, const CqPlan *plan, int i)
{
	const CqAggregate *aggregate = &plan->aggregates[i];
	int arg;

	appendStringInfo(text,
					 "  Aggregate %s(%s",
					 get_func_name(aggregate->aggref->aggfnoid),
					 aggregate->set >= 0 ? "DISTINCT " : "");
	if (aggregate->aggref->aggstar)
		appendStringInfoChar(text, '*');
	for (arg = 0; arg < aggregate->nargs; arg++)
		appendStringInfo(text,
						 "%s%s",
						 arg > 0 ? ", " : "",
						 stage_column_name(plan, aggregate->arg_columns[arg]));
	appendStringInfoChar(text, ')');
	if (aggregate->filter_column >= 0)
		appendStringInfo(text,
						 " FILTER (WHERE %s)",
						 stage_column_name(plan, aggregate->filter_column));
	appendStringInfoString(text,
						   aggregate->set >= 0
							   ? ", kept incrementally, with the values that were seen\n"
							   : ", kept incrementally\n");
}

/* What is done with closed rows, or with the result table's. */
static void
explain_finish(StringInfo text, const CqPlan *plan)
{
	CqPrepared *prepared;
	Tuplestorestate **no_rows;
	int i;

	if (plan->shape == CQ_SHAPE_APPEND)
		return;
	if (plan->close == NULL)
	{
		appendStringInfoString(
			text,
			plan->window.kind == CQ_WINDOW_COUNT
				? "Result: a row per window of a group, updated at each checkpoint; all else is "
				  "done on read\n"
				: "Result: a row per group, updated at each checkpoint; all else is done on read\n");
		return;
	}
	appendStringInfoString(text,
						   plan->replaced ? "Close query, for each window that has got rows; what "
											"comes out otherwise than before is replaced:\n"
										  : "Close query, when windows close:\n");
	no_rows = palloc(sizeof(Tuplestorestate *) * plan->ninputs);
	for (i = 0; i < plan->ninputs; i++)
		no_rows[i] = tuplestore_begin_heap(false, false, work_mem);
	prepared = cq_close_prepare(plan, CurrentMemoryContext);
	explain_prepared(text, prepared, no_rows);
	cq_prepared_free(prepared);
	for (i = 0; i < plan->ninputs; i++)
		tuplestore_end(no_rows[i]);
}

static void
explain_prepared(StringInfo text, CqPrepared *prepared, Tuplestorestate **rows)
{
	ExplainState *es = NewExplainState();
	QueryDesc *desc = CreateQueryDesc(prepared->stmt,
									  "",
									  GetActiveSnapshot(),
									  InvalidSnapshot,
									  None_Receiver,
									  NULL,
									  rows != NULL ? cq_close_environment(prepared, rows) : NULL,
									  0);

	es->costs = false;
	es->format = EXPLAIN_FORMAT_TEXT;
	ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
	ExplainPrintPlan(es, desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	append_indented(text, es->str->data);
}

static void
append_indented(StringInfo text, const char *plan)
{
	while (*plan != '\0')
	{
		int length = strcspn(plan, "\n");

		appendStringInfoString(text, "  ");
		appendBinaryStringInfo(text, plan, length);
		appendStringInfoChar(text, '\n');
		plan += length;
		plan += *plan == '\n';
	}
}

static const char *
stage_column_name(const CqPlan *plan, int column)
{
	return list_nth_node(TargetEntry, plan->stage->targetList, column)->resname;
}
