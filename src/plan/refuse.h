/*
 * refuse.h
 *	  What a continuous view's query may not contain, and saying so.
 */
#pragma once

#include "postgres.h"

#include "compat.h"
#include "plan/path.h"

/*
 * Report that the view cannot use something.  what completes the sentence
 * "continuous view cannot use ..."; detail says why (may be NULL), hint what to
 * do instead.
 */
extern void cq_refuse(const char *view_name, const char *what, const char *detail,
					  const char *hint) CQ_NORETURN;

/* Refuse what is not supported anywhere: locks, samples, changes of data, other windows. */
extern void cq_refuse_unsupported(Query *tree, const char *view_name);

/* Refuse volatile functions; rewritten is the whole query after rewriting. */
extern void cq_refuse_volatile(Query *rewritten, const char *view_name);

/* Refuse the current time next to columns of the stream, on the levels from first to last. */
extern void cq_refuse_clock(const CqPath *path, int first, int last);

/* The same for one query that stands for the given level. */
extern void cq_refuse_clock_in(const CqPath *path, int level, Query *query);

/* Does an expression, or a query, read the current time? */
extern bool cq_reads_clock(Node *node);

/* Refuse the current time anywhere in a query. */
extern void cq_refuse_any_clock(Query *query, const char *view_name);

/*
 * Refuse relations that an upper query reads through a view of another owner if
 * the continuous view's owner, as whom it will be read, would see something else.
 */
extern void cq_refuse_lent_rights(Query *upper, const char *view_name);

/* Refuse LIMIT and OFFSET on the levels from first downwards. */
extern void cq_refuse_limit(const CqPath *path, int first);
extern void cq_refuse_any_limit(const char *view_name) CQ_NORETURN;

/* Refuse values that cannot be kept because their type is none that a column can have. */
extern void cq_refuse_pseudo_type(const CqPath *path, Node *expr, const char *what);
