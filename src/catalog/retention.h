/*
 * retention.h
 *	  The index by which rows of a result table are found that are too old.
 */
#pragma once

#include "postgres.h"

/* What it is called; in schema pipeline_data. */
extern char *cq_retention_index_name(int64 view);

/* The index itself; InvalidOid if the table has none. */
extern Oid cq_retention_index(int64 view, Oid table);
