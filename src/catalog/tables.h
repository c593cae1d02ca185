/*
 * tables.h
 *	  Finding, reading and changing single rows of the extension's tables.
 */
#pragma once

#include "postgres.h"

#include "access/htup.h"
#include "storage/lock.h"
#include "utils/relcache.h"

/*
 * Open one of the tables of schema pipeline_data by its name; error with a hint if they
 * are those of another version than the library's.
 */
extern Relation cq_table_open(const char *name, LOCKMODE mode);

/*
 * The first row whose column (a bigint or an oid, by its type) equals key, as a
 * copy in the current memory context with t_self set; NULL if there is none.
 */
extern HeapTuple cq_table_find(Relation rel, AttrNumber column, Datum key);

/*
 * The same, locked against all who would change it, until the transaction ends:
 * its newest version, after waiting for whoever changes it, so that nobody's change is
 * lost.  wait = false: NULL if somebody has it.
 */
extern HeapTuple cq_table_lock(Relation rel, AttrNumber column, Datum key, bool wait);

/* Delete all rows whose column equals key; returns how many. */
extern int cq_table_delete(Relation rel, AttrNumber column, Datum key);

/* Replace one column of a row. */
extern void cq_table_set(Relation rel, HeapTuple row, AttrNumber column, Datum value, bool isnull);

/* Number of a relation's columns. */
extern int cq_relation_natts(Oid relid);
