/*
 * storage.h
 *	  Hidden tables of local streams, for the other files of this folder.
 */
#pragma once

#include "postgres.h"

#include "source/local/layout.h"

/* Run a command on hidden tables with the system's rights. */
extern void cq_local_execute(const char *command);

/*
 * Record that the hidden tables belong to the stream, if no one has: dumps do
 * not keep such dependencies.
 */
extern void cq_local_storage_claim(const CqLocalLayout *layout);
