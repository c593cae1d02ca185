/*
 * wait_for.h
 *	  Waiting for a view's worker.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Until the view, given by id and relation, has processed all that its stream
 * holds at the call; false if that is not so by the deadline.  Error if it does
 * not run.
 */
extern bool cq_wait_until(int64 id, Oid relid, TimestampTz deadline);
