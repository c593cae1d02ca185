/*
 * scan.h
 *	  The batch that a worker's plans read in place of a stream.
 */
#pragma once

#include "postgres.h"

#include "decode/batch.h"

/*
 * From now on, scans of the stream begun in this process return the rows of
 * *batch (none while it is NULL), starting over with its first row at each
 * rescan; a row's ctid carries the event's ordinal.  Plans made while bound
 * take the stream to have that many rows, so bind before planning.  One stream
 * is bound at a time; cq_scan_unbind() ends it.
 */
extern void cq_scan_bind(Oid relid, const CqBatch **batch, double rows);
extern void cq_scan_unbind(void);
