/*
 * parts.h
 *	  The relations that a continuous view consists of.
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "catalog/rows.h"
#include "plan/plan.h"

/* The trigger that refuses changes of a view's rows. */
#define CQ_PARTS_TRIGGER "pipeline_refuse_dml"

/*
 * Make the parts of a view that exists as the user wrote it: afterwards it
 * reads its result table.  view->id and ->view are given, the other relations
 * are filled in.  late_name: name of the table for late rows, NULL = none.
 * The current user is the view's owner.
 */
extern void cq_parts_create(CqView *view, const Query *query, const CqPlan *plan,
							const char *late_name);

/* What the user's view is a query over: its result table. */
extern Query *cq_parts_definition(const CqView *view, const CqPlan *plan);

/* Columns of the result table, from the first given one on, live and die with the view, too. */
extern void cq_parts_record_columns(Oid table, Oid view, AttrNumber first);

/* Make one more table for operator state; id: what it is called by. */
extern Oid cq_parts_create_chunks(const CqView *view, int64 id);

/*
 * Make a hidden local stream, as CREATE FOREIGN TABLE would, but seen by no event
 * trigger.  columns: of ColumnDef *, options: of DefElem *.
 */
extern Oid cq_parts_create_stream(const char *name, List *columns, List *options, Oid owner);

/* Record that the parts live and die with the view; what is recorded already stays. */
extern void cq_parts_record(const CqView *view);

/* Take that back: the parts are relations like any others then. */
extern void cq_parts_forget(const CqView *view);

/*
 * Is this relation a continuous view?  May be asked of any relation, and where
 * the extension is not installed.
 */
extern bool cq_parts_find(Oid relid, CqView *view);

/* The view that a relation is part of; InvalidOid if it is none. */
extern Oid cq_parts_view_of(Oid part);

/* Whose a relation is. */
extern Oid cq_parts_owner(Oid relid);

/* Give all parts to a view's new owner. */
extern void cq_parts_change_owner(const CqView *view, Oid owner);

/* What the table for late rows of a view is called unless the user says otherwise. */
extern char *cq_parts_late_name(const char *view_name);

/*
 * The column of the result table that column attnum of the user's view shows
 * as it is; 0 if it is computed on read.
 */
extern AttrNumber cq_parts_stored_column(const CqView *view, AttrNumber attnum);
