/*
 * settings.h
 *	  The configuration parameters of the extension, all under "pipeline.".
 */
#pragma once

#include "postgres.h"

extern int cq_max_tasks;			  /* task slots in shared memory */
extern int cq_max_tasks_per_role;	  /* tasks of a role in a database; -1 = no limit */
extern int cq_max_tasks_per_database; /* tasks of a database; -1 = no limit */
extern int cq_max_partitions;		  /* partition slots in shared memory, over all tasks */
extern int cq_checkpoint_interval_ms; /* longest time between two checkpoints of a busy task */
extern bool cq_share_tasks;			  /* views at the same place in a stream share a task */
extern int cq_batch_size;			  /* events decoded and evaluated together, at most */
extern bool cq_random_batches;		  /* for tests: batches and checkpoints end anywhere */
extern int cq_join_memory_kb;		  /* work_mem of stage plans */
extern int cq_state_memory_kb;		  /* operator state of all views, in shared memory */
extern int cq_kafka_memory_kb;		  /* fetch buffers of one Kafka source, at most */
extern bool cq_allow_plaintext;		  /* credentials over unencrypted connections */
extern char
	*cq_allowed_brokers; /* "host:port" patterns that non-superusers may use, comma-separated */
extern char *cq_ssl_directory; /* where files named in client properties must live */

/* Define the parameters; called from _PG_init. */
extern void cq_settings_define(void);
