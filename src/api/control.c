/*
 * control.c
 *	  pause, resume, advance_watermark and apply_late.
 *
 * Each changes rows of our tables and takes effect when that commits: the
 * launcher or the worker hears of it then, and a rollback takes it back.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "api/check.h"
#include "catalog/feeds.h"
#include "compat.h"
#include "ddl/parts.h"
#include "ddl/shards.h"
#include "monitor/slots.h"
#include "source/stream.h"

PG_FUNCTION_INFO_V1(cq_pause);
PG_FUNCTION_INFO_V1(cq_resume);
PG_FUNCTION_INFO_V1(cq_advance_watermark);
PG_FUNCTION_INFO_V1(cq_apply_late);

static List *feeds_of(int64 view);
static bool advance_readers(Oid stream, TimestampTz to);
static void check_stream(Oid relid);
static void advance_view(int64 id, Oid stream, TimestampTz to);

Datum
cq_pause(PG_FUNCTION_ARGS)
{
	CqView view;
	CqTask task;

	PreventCommandIfReadOnly("pipeline.pause()");
	cq_api_own_view(PG_GETARG_OID(0), &view, &task);
	if (task.state == CQ_TASK_STOPPED)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("continuous view \"%s\" has stopped already", get_rel_name(view.view)),
				task.reason ? errdetail_internal("%s", task.reason) : 0);
	if (task.state == CQ_TASK_PAUSED)
		PG_RETURN_VOID();
	cq_task_set_state(view.id, CQ_TASK_PAUSED, NULL);
	cq_shards_at_commit(CQ_SLOT_DISABLE, view.id);
	PG_RETURN_VOID();
}

Datum
cq_resume(PG_FUNCTION_ARGS)
{
	bool accept_loss = PG_GETARG_BOOL(1);
	CqView view;
	CqTask task;

	PreventCommandIfReadOnly("pipeline.resume()");
	cq_api_own_view(PG_GETARG_OID(0), &view, &task);
	if (!cq_task_is_ours(&task))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("continuous view \"%s\" was restored from another database",
					   get_rel_name(view.view)),
				errdetail("The original may still be running and reading the same events."),
				errhint("If it shall run here, call pipeline.adopt() as a superuser."));
	if (task.state != CQ_TASK_RUNNING)
		cq_task_set_state(view.id, CQ_TASK_RUNNING, NULL);
	if (accept_loss)
		cq_task_set_accept_loss(view.id, true);
	cq_shards_at_commit(CQ_SLOT_ADD, view.id);
	PG_RETURN_VOID();
}

/*
 * The stream's events up to ts are declared complete, so its owner says so:
 * whoever may write to the stream cannot take that back.
 */
Datum
cq_advance_watermark(PG_FUNCTION_ARGS)
{
	Oid stream = PG_GETARG_OID(0);
	TimestampTz to = PG_GETARG_TIMESTAMPTZ(1);
	CqView source = {0};
	List *streams;
	bool any = false;
	ListCell *lc;

	PreventCommandIfReadOnly("pipeline.advance_watermark()");
	cq_require_preload();
	if (!cq_parts_find(stream, &source))
		check_stream(stream);
	else if (!cq_compat_owns_relation(stream, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_VIEW, get_rel_name(stream));
	if (TIMESTAMP_IS_NOBEGIN(to))
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("watermark of stream \"%s\" cannot be set to -infinity",
					   get_rel_name(stream)),
				errhint("Watermarks only advance; \"infinity\" closes all windows that are open."));
	streams = source.id != 0 ? feeds_of(source.id) : list_make1_oid(stream);
	foreach (lc, streams)
		any = advance_readers(lfirst_oid(lc), to) || any;
	if (!any)
		ereport(NOTICE,
				errmsg("no continuous view reads %s \"%s\"",
					   source.id != 0 ? "continuous view" : "stream",
					   get_rel_name(stream)));
	PG_RETURN_VOID();
}

/* Through which streams other views read this one. */
static List *
feeds_of(int64 view)
{
	List *streams = NIL;
	ListCell *lc;

	foreach (lc, cq_feeds_of_source(view))
		streams = lappend_oid(streams, ((CqFeed *) lfirst(lc))->relation);
	return streams;
}

static bool
advance_readers(Oid stream, TimestampTz to)
{
	List *views = cq_views_of_stream(stream);
	ListCell *lc;

	foreach (lc, views)
		advance_view(*(int64 *) lfirst(lc), stream, to);
	return views != NIL;
}

static void
check_stream(Oid relid)
{
	char *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation with OID %u does not exist", relid));
	if (get_rel_relkind(relid) != RELKIND_FOREIGN_TABLE || !cq_is_stream(relid))
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is not a stream", name),
				errhint(
					"A stream is a foreign table on a pipeline_kafka or pipeline_local server."));
	if (!cq_compat_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_FOREIGN_TABLE, name);
}

/* Of the streams that a view reads only this one is promised to be complete. */
static void
advance_view(int64 id, Oid stream, TimestampTz to)
{
	CqView view;
	CqTask task;
	ListCell *lc;

	if (!cq_view_load(id, &view) || !cq_task_load(id, &task))
		return;
	foreach (lc, view.streams)
	{
		int number = foreach_current_index(lc);

		if (lfirst_oid(lc) == stream && task.advance_to[number] < to)
			cq_task_set_advance(id, number, to);
	}
	cq_shards_at_commit(CQ_SLOT_ASKED, id);
}

/* What the worker does about it is in runtime/apply_late.c. */
Datum
cq_apply_late(PG_FUNCTION_ARGS)
{
	CqView view;
	CqTask task;

	PreventCommandIfReadOnly("pipeline.apply_late()");
	cq_api_own_view(PG_GETARG_OID(0), &view, &task);
	if (!OidIsValid(view.late) || !view.options.store_late)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("late rows of continuous view \"%s\" are not stored",
					   get_rel_name(view.view)),
				OidIsValid(view.late)
					? errhint("Use ALTER VIEW ... SET (pipeline.late = 'store') for those to come.")
				: view.options.store_late
					? errdetail("It has no windows of event time, so no event comes too late.")
					: errhint("Create the view without the option \"late\"."));
	if (view.options.keep_closed_us <= view.options.allowed_lateness_us)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("windows of continuous view \"%s\" are not kept for late rows",
					   get_rel_name(view.view)),
				errdetail("A row is late when its window is not kept any longer."),
				errhint(
					"Create the view WITH (pipeline.keep_closed = '1 day'), for instance, or with "
					"sessions (pipeline.allowed_lateness = '1 day')."));
	cq_task_set_apply_late(view.id);
	cq_shards_at_commit(CQ_SLOT_ASKED, view.id);
	PG_RETURN_VOID();
}
