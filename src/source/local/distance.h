/*
 * distance.h
 *	  How many rows of a local stream lie between two positions.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Of those inserted at "since" or later (DT_NOBEGIN = all), how many has a reader
 * at "to" read that one at "from" has not?  As far as the stream still has them,
 * under the active snapshot.  -1 if "to" is not behind "from" everywhere.
 */
extern int64 cq_local_rows_between(Oid relid, const char *from, const char *to, TimestampTz since);
