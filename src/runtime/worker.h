/*
 * worker.h
 *	  The process that runs one task.
 */
#pragma once

#include "postgres.h"

/* What the launcher tells a worker, in bgw_extra. */
typedef struct CqWorkerArgs
{
	int slot;
	uint32 generation;
	Oid database;
	int64 task;
} CqWorkerArgs;
