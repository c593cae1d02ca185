/*
 * check.h
 *	  Arguments and rights of functions callable from SQL.
 */
#pragma once

#include "postgres.h"

#include "catalog/rows.h"

/*
 * Load a continuous view and its task, for who may read it; error with a hint if
 * relid is not one, or if the library was not preloaded.
 */
extern void cq_api_readable_view(Oid relid, CqView *view, CqTask *task);

/* The same, for its owner only. */
extern void cq_api_own_view(Oid relid, CqView *view, CqTask *task);
