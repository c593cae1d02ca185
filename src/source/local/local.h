/*
 * local.h
 *	  Local streams: what the rest of the extension asks of them.
 */
#pragma once

#include "postgres.h"

#include "nodes/pg_list.h"

/*
 * Storage of a stream, from the utility hook, each after PostgreSQL has carried
 * out the statement and in its transaction.
 *
 * create: after CREATE FOREIGN TABLE.  A definition that already names its
 * storage comes from a dump: it gets a new era, and nothing is created.
 * altered: after any ALTER FOREIGN TABLE but RENAME, OWNER and SET SCHEMA;
 * brings the hidden tables in line with the columns.
 */
extern void cq_local_stream_create(Oid relid);
extern void cq_local_stream_altered(Oid relid);
extern void cq_local_stream_owner_changed(Oid relid);

/*
 * After a restore from a dump, from adopt(): record again that the hidden
 * tables belong to the stream, and begin a new era, since transaction ids now
 * start below those that positions and rows hold.
 */
extern void cq_local_stream_adopt(Oid relid);

/* After pg_upgrade the hidden tables must be recorded, too; transaction ids go on. */
extern void cq_local_stream_settle(Oid relid);

/* All local streams of the database, hidden ones included. */
extern List *cq_local_streams(void);

/* This transaction has written rows: when it commits, the stream's readers are woken. */
extern void cq_local_inserted(Oid relid);

/* Set the latches of the workers of this database that read the stream. */
extern void cq_local_wake_readers(Oid relid);

/*
 * Empty those of the stream's tables whose rows are no longer needed, and let
 * another one take new rows when it is time.  Outside of transactions: it uses
 * one of its own.  Never waits for readers or writers.  To be called by a worker
 * every few seconds.
 */
extern void cq_local_stream_trim(Oid relid);
