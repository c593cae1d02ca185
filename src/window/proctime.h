/*
 * proctime.h
 *	  The time at which events are taken in, for pipeline.proctime().
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

/* It is this for the events that are evaluated next; DT_NOBEGIN: there are none. */
extern void cq_proctime_set(TimestampTz time);
