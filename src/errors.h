/*
 * errors.h
 *	  SQLSTATEs of our own.
 */
#pragma once

#include "postgres.h"

#include "utils/elog.h"

/*
 * The view must stop until someone decides: going on would break the promise
 * of exactness (retention gap, recreated topic, on_error = stop, ...).
 */
#define CQ_ERRCODE_STOP MAKE_SQLSTATE('P', 'L', '0', '0', '1')

/* The task's position row was moved by somebody else; this worker must go. */
#define CQ_ERRCODE_FENCED MAKE_SQLSTATE('P', 'L', '0', '0', '2')

/* The source cannot be read now (broker unreachable, ...); try again later. */
#define CQ_ERRCODE_SOURCE_UNAVAILABLE MAKE_SQLSTATE('P', 'L', '0', '0', '3')

/* Abort and run the checkpoint again at once, as run->care says by now. */
#define CQ_ERRCODE_AGAIN MAKE_SQLSTATE('P', 'L', '0', '0', '4')

/* Some views of a task must go on without the others from here on; see run->refusing. */
#define CQ_ERRCODE_APART MAKE_SQLSTATE('P', 'L', '0', '0', '5')

/* Operator state needs more memory than there is; a smaller checkpoint may do. */
#define CQ_ERRCODE_STATE_FULL MAKE_SQLSTATE('P', 'L', '0', '0', '6')
