/*
 * wait_event.h
 *	  What our processes wait for, as shown by pg_stat_activity.
 */
#pragma once

#include "postgres.h"

typedef enum CqWait
{
	CQ_WAIT_BACKOFF,	   /* after an error, before the next attempt */
	CQ_WAIT_CATCH_UP,	   /* wait_for() */
	CQ_WAIT_DATABASE_HOLD, /* workers leaving a database */
	CQ_WAIT_EVENTS,		   /* nothing to read */
	CQ_WAIT_KAFKA_CLOSE,   /* librdkafka giving up its threads */
	CQ_WAIT_KAFKA_PRODUCE, /* brokers acknowledging inserted records */
	CQ_WAIT_KAFKA_READ,	   /* records that a query reads from a topic */
	CQ_WAIT_LAUNCHER,	   /* launcher's main loop */
	CQ_WAIT_LOCK,		   /* another session has a relation of the view locked */
	CQ_WAIT_COUNT
} CqWait;

/*
 * The number to give to WaitLatch() and friends.  Named events exist from
 * PostgreSQL 17 on; before, all are shown as "Extension".
 */
extern uint32 cq_wait_event(CqWait which);
