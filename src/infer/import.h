/*
 * import.h
 *	  IMPORT FOREIGN SCHEMA from a Kafka server.
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"

/* The wrapper's routine: CREATE FOREIGN TABLE statements for a server's topics. */
extern List *cq_import_topics(ImportForeignSchemaStmt *stmt, Oid server);
