/*
 * drop.h
 *	  What goes away with a continuous view or with the extension.
 */
#pragma once

#include "postgres.h"

/* Called from _PG_init. */
extern void cq_drop_hook_install(void);
