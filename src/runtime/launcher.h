/*
 * launcher.h
 *	  The process that keeps the workers of all databases running.
 */
#pragma once

#include "postgres.h"

/* Register the launcher with the postmaster; from _PG_init only. */
extern void cq_launcher_register(void);
