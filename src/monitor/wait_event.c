/*
 * wait_event.c
 *	  What our processes wait for, as shown by pg_stat_activity.
 */
#include "postgres.h"

#include "compat.h"
#include "monitor/wait_event.h"

uint32
cq_wait_event(CqWait which)
{
	static const char *const names[CQ_WAIT_COUNT] = {
		[CQ_WAIT_BACKOFF] = "PipelineBackoff",
		[CQ_WAIT_CATCH_UP] = "PipelineCatchUp",
		[CQ_WAIT_DATABASE_HOLD] = "PipelineDatabaseHold",
		[CQ_WAIT_EVENTS] = "PipelineEvents",
		[CQ_WAIT_KAFKA_CLOSE] = "PipelineKafkaClose",
		[CQ_WAIT_KAFKA_PRODUCE] = "PipelineKafkaProduce",
		[CQ_WAIT_KAFKA_READ] = "PipelineKafkaRead",
		[CQ_WAIT_LAUNCHER] = "PipelineLauncher",
		[CQ_WAIT_LOCK] = "PipelineLock",
	};
	static uint32 numbers[CQ_WAIT_COUNT];

	Assert(which < CQ_WAIT_COUNT);
	if (numbers[which] == 0)
		numbers[which] = cq_compat_wait_event(names[which]);
	return numbers[which];
}
