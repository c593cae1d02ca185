/*
 * path.h
 *	  The way from a query's top level down to its stream.
 */
#pragma once

#include "postgres.h"

#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"

#include "source/stream.h"

typedef struct CqLevel
{
	Query *query;
	int rti; /* range table index of the next level, or of the stream on the last one */
} CqLevel;

typedef struct CqPath
{
	const char *view_name;
	Query *top;
	Oid stream;
	const CqStream *definition;
	int nlevels;
	CqLevel *levels; /* [0] is top; the last one has the stream in its FROM */
	int split;		 /* lowest stateful level, -1 = none */
} CqPath;

/*
 * Find the one stream of a normalised query; refuse the query if there is none
 * or another number of them, or if the stream stands where its events cannot be
 * passed on one by one.
 */
extern CqPath *cq_path_find(Query *top, const char *view_name);

/* The streams that a normalised query refers to: an OID per reference. */
extern List *cq_path_streams(Node *tree);

/* Refuse the query if a stream would be read as a child of another relation. */
extern void cq_path_refuse_hidden(Query *tree, const char *view_name);

/* The same level in a copy of the tree that begins at level "from". */
extern Query *cq_path_descend(const CqPath *path, Query *copy, int from, int level);

/* Does the level aggregate (GROUP BY, aggregates, HAVING)? */
extern bool cq_level_aggregates(const Query *query);

/*
 * Where a Var of the query itself comes from: the expression with references
 * to join columns replaced.
 */
extern Node *cq_path_flatten(Query *query, Node *expr);

/*
 * Make the ordinal (the stream's ctid) an output of each level below "from" of
 * a copy that begins there; returns the expression for it at that level.
 */
extern Expr *cq_path_thread_ordinal(const CqPath *path, Query *copy, int from);

/*
 * Which columns of a range table entry a level uses, for those of its outputs
 * that are used (all of them, if it is the stage's own level); both as members
 * of sets offset by FirstLowInvalidHeapAttributeNumber, 0 being the whole row.
 */
extern Bitmapset *cq_path_used(Query *query, int rti, const Bitmapset *outputs, bool is_stage);

/*
 * Columns of the stream that a stage query reads, its event time included.  The
 * stage begins at level "from" and has the ordinal as its first output.
 */
extern Bitmapset *cq_path_columns(const CqPath *path, Query *stage, int from);
