/*
 * inputs.h
 *	  Queries that read streams in several places.
 */
#pragma once

#include "postgres.h"

#include "plan/path.h"
#include "plan/plan.h"

/* A sub-query of the tree that one input gives the rows of. */
typedef struct CqRoot
{
	Query *query; /* the level that it stands in */
	int rti;	  /* and its place there */
	int input;
	CqPath *above; /* from that level down to the stream */
} CqRoot;

typedef struct CqInputs
{
	const char *view_name;
	bool divided; /* among several workers */
	Query *tree;
	CqWindow window; /* of all inputs */
	List *roots;	 /* of CqRoot * */
	int ninputs;
	CqPath **paths; /* from the root's query down */
	CqPlan **plans;
} CqInputs;

/* Does a normalised query read streams in more than one place? */
extern bool cq_inputs_are_several(Query *tree);

/* Does it refer to what stands around it? */
extern bool cq_inputs_refer_outside(Query *query);

/*
 * Fill in the plan of such a query, or refuse it: one input for each sub-query
 * that reads a stream once, and a close query over all of them.
 */
extern void cq_inputs_plan(Query *tree, int emit, const char *corrected_by, bool divided,
						   const char *view_name, CqPlan *plan);

/* Is this range table entry of a level one of the roots?  NULL if not. */
extern CqRoot *cq_inputs_root(const CqInputs *inputs, const Query *query, int rti);

/* Refuse the tree above the roots if it combines rows of different windows; see local.c. */
extern void cq_local_check(const CqInputs *inputs);

/* Is an output of the tree the window of each of its rows? */
extern bool cq_local_is_window(const CqInputs *inputs, AttrNumber resno, CqKeyRole *role);
