/*
 * compat.h
 *	  The only place that tests PG_VERSION_NUM: one shim per difference of
 *	  PostgreSQL 15 to 18 that the rest of the code would otherwise see.
 */
#pragma once

#include "postgres.h"

#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "pipeline_ext supports PostgreSQL 15 to 18"
#endif

/* Named wait events of extensions: new in 17. */
static inline uint32
cq_compat_wait_event(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	(void) name;
	return PG_WAIT_EXTENSION;
#endif
}
