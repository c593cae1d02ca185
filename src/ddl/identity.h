/*
 * identity.h
 *	  Acting as somebody else for a while: as the system, to make what users
 *	  must not touch, or as the owner of a view, to check and plan its query.
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"

#include "plan/view_plan.h"

typedef struct CqIdentity
{
	Oid user;
	int security_context;
	int guc_level;
} CqIdentity;

/*
 * Become the bootstrap superuser.  No code of users may run until
 * cq_identity_restore(); on error the end of the (sub)transaction restores.
 */
extern void cq_identity_system(CqIdentity *saved);

/*
 * Become a view's owner under the settings that the view was created with
 * ("name=value" strings, NIL = those of the session), restricted so that
 * functions called while planning cannot reach the session.
 */
extern void cq_identity_owner(Oid owner, List *settings, CqIdentity *saved);

extern void cq_identity_restore(const CqIdentity *saved);

/* Use these settings, the search path excepted, until AtEOXact_GUC(false, the level returned). */
extern int cq_identity_enter_settings(List *settings);

/* The plan of a view, made as its owner: planning runs functions of the owner's choice. */
extern CqPlan *cq_identity_plan(const CqView *view);

/* The settings that results depend on, as they are now: "name=value" strings. */
extern List *cq_identity_settings(void);

/*
 * May the current user run this query (analysed, not rewritten)?  Error if
 * not, or if an owner of a view in it may not.
 */
extern void cq_identity_check_rights(const Query *query, const char *query_string);
