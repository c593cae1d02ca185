/*
 * window_key.h
 *	  Recognising windows among a query's expressions.
 */
#pragma once

#include "postgres.h"

#include "plan/path.h"
#include "plan/plan.h"

/*
 * Is this expression of the given level a window of the stream's event time, or
 * its start or end?  Columns are followed down to where they are computed.  If
 * strict, a call of one of our window functions that cannot serve as the
 * view's window is an error instead of "no".
 */
extern bool cq_window_recognise(const CqPath *path, int level, Node *expr, bool strict,
								CqWindow *window, CqKeyRole *role);

/*
 * Does a window, its start or its end tell it from all others?  Cumulating windows
 * of a period begin together, sessions of different keys may.  same_keys: from those
 * of the same keys, that is, where the window is one of the keys itself.
 */
extern bool cq_window_role_identifies(const CqWindow *window, CqKeyRole role, bool same_keys);

/* Does the expression tell the given window from all others? */
extern bool cq_window_identifies(const CqPath *path, int level, Node *expr, const CqWindow *window,
								 bool same_keys);

extern bool cq_window_equal(const CqWindow *a, const CqWindow *b);

/* "windows of 1 minute", "windows of a calendar month", "windows of 10 seconds every 2 seconds" */
extern char *cq_window_describe(const CqWindow *window);

/* "slices of 2 seconds": what hopping windows are made up of. */
extern char *cq_window_describe_slices(const CqWindow *window);

/* Name of a function of schema pipeline that makes windows or window time; NULL if it is none. */
extern const char *cq_window_function_name(Oid function);

/* The column of the stream that an expression of a level is, as it is; 0 if it is computed. */
extern AttrNumber cq_stream_column(const CqPath *path, int level, Node *expr);

/* Follow an expression of a level down to the level and the expression where it is computed. */
extern void cq_written_resolve(const CqPath *path, int *level, Node **expr);
