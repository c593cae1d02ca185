/*
 * notify.c
 *	  NOTIFY for windows that are closed: the view option notify.
 *
 * The notification is part of the transaction that writes the windows' rows, so who
 * listens gets it when the rows are there, and does not if they do not come about.  There is
 * one for all windows that a checkpoint closes, however many they are: how many, and
 * between which times they end, by which they are found among the rows.
 *
 * Two things could hold up a commit that notifies.  The queue may be full, because
 * somebody who listens does not read; and all who notify commit one after the
 * other, so one of them may keep a lock for as long as a standby does not answer.
 * Neither must stop a view.  So the lock is taken before, if it is there for the
 * asking, and the queue is looked at; if one of them is not as it should be nothing is
 * told now, and the next notification, shortly after, tells of these windows, too.
 * What was told is in the view's position row, so nothing is lost or told twice.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "runtime/notify.h"
#include "runtime/shard.h"

#define QUEUE_SHARE	   0.75 /* of the queue that others may have filled */
#define QUEUE_PAUSE_US INT64CONST(1000000)
#define LOCK_PAUSE_US  INT64CONST(20000)

static bool is_untold(const CqViewRun *view);
static bool lock_take(void);
static double queue_used(void);
static char *payload(const CqViewRun *view);
static void append_time(StringInfo json, const char *name, TimestampTz time);

bool
cq_notify_due(const CqViewRun *view, long *wait_ms)
{
	int64 left_us;

	if (!is_untold(view))
		return false;
	left_us = view->notify_not_before_us - cq_clock_us();
	if (left_us <= 0)
		return true;
	if (wait_ms)
		*wait_ms = Min(*wait_ms, left_us / 1000 + 1);
	return false;
}

/* Workers of one view close its windows by the first of them. */
static bool
is_untold(const CqViewRun *view)
{
	return view->view.options.notify && (view->shard == NULL || view->shard->number == 0) &&
		   view->checkpoint.counters.windows_closed > view->checkpoint.told_windows;
}

void
cq_notify(CqViewRun *view)
{
	CqCheckpoint *cp = &view->checkpoint;

	if (is_untold(view))
	{
		if (queue_used() > QUEUE_SHARE)
		{
			view->notify_not_before_us = cq_clock_us() + QUEUE_PAUSE_US;
			return;
		}
		if (!lock_take())
		{
			view->notify_not_before_us = cq_clock_us() + LOCK_PAUSE_US;
			return;
		}
		Async_Notify(view->view.options.notify, payload(view));
	}
	else if (view->view.options.notify)
		return;
	/* where nobody is told, those that begin to be are told of what comes then */
	cp->told_windows = cp->counters.windows_closed;
	cp->told_upto = cp->closed_to;
}

/* The lock that PostgreSQL takes at the commit of what notifies; until then. */
static bool
lock_take(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, InvalidOid, 0);
	return LockAcquire(&tag, AccessExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

static double
queue_used(void)
{
	LOCAL_FCINFO(fcinfo, 0);

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	return DatumGetFloat8(pg_notification_queue_usage(fcinfo));
}

static char *
payload(const CqViewRun *view)
{
	char *schema = get_namespace_name(get_rel_namespace(view->view.view));
	/* a session closes when the watermark has passed its end, not when it is there */
	int64 shift = view->plan->window.kind == CQ_WINDOW_SESSION ? 1 : 0;
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"view\": ");
	escape_json(&json, quote_qualified_identifier(schema, get_rel_name(view->view.view)));
	appendStringInfo(&json,
					 ", \"windows\": " INT64_FORMAT,
					 view->checkpoint.counters.windows_closed - view->checkpoint.told_windows);
	if (view->plan->window.kind != CQ_WINDOW_COUNT)
	{
		append_time(&json, "after", view->checkpoint.told_upto - shift);
		append_time(&json, "upto", view->checkpoint.closed_to - shift);
	}
	appendStringInfoChar(&json, '}');
	return json.data;
}

static void
append_time(StringInfo json, const char *name, TimestampTz time)
{
	char text[MAXDATELEN + 1];

	if (TIMESTAMP_NOT_FINITE(time) || TIMESTAMP_NOT_FINITE(time + 1))
		appendStringInfo(json, ", \"%s\": null", name);
	else
		appendStringInfo(json,
						 ", \"%s\": \"%s\"",
						 name,
						 JsonEncodeDateTime(text, TimestampTzGetDatum(time), TIMESTAMPTZOID, NULL));
}
