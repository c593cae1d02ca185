/*
 * settings.c
 *	  The configuration parameters, sorted by name, with units and bounds.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "settings.h"

int cq_max_tasks = 64;
int cq_max_tasks_per_role = -1;
int cq_max_tasks_per_database = -1;
int cq_max_partitions = 4096;
int cq_checkpoint_interval_ms = 1000;
int cq_batch_size = 4096;
bool cq_random_batches = false;
bool cq_share_tasks = true;
int cq_join_memory_kb = 64 * 1024;
int cq_state_memory_kb = 512 * 1024;
int cq_kafka_memory_kb = 64 * 1024;
bool cq_allow_plaintext = false;
char *cq_allowed_brokers = NULL;
char *cq_ssl_directory = NULL;

/* Parameters that size shared memory: only the postmaster can set them. */
static void
define_at_start(void)
{
	DefineCustomIntVariable(
		"pipeline.max_partitions",
		"Number of stream partitions that can be read at a time, over all views.",
		NULL,
		&cq_max_partitions,
		4096,
		16,
		1000000,
		PGC_POSTMASTER,
		0,
		NULL,
		NULL,
		NULL);
	DefineCustomIntVariable(
		"pipeline.max_tasks",
		"Number of continuous views that can be kept, over all databases.",
		"Those that cannot share a background worker with others need one each; see "
		"max_worker_processes.",
		&cq_max_tasks,
		64,
		1,
		10000,
		PGC_POSTMASTER,
		0,
		NULL,
		NULL,
		NULL);
	DefineCustomIntVariable("pipeline.state_memory",
							"Shared memory for the state of all continuous views.",
							"What does not fit is kept on disk where that is possible.",
							&cq_state_memory_kb,
							512 * 1024,
							4 * 1024,
							MAX_KILOBYTES,
							PGC_POSTMASTER,
							GUC_UNIT_KB,
							NULL,
							NULL,
							NULL);
}

/* Superusers set these for roles and databases. */
static void
define_limits(void)
{
	DefineCustomIntVariable(
		"pipeline.max_tasks_per_database",
		"Number of continuous views that a database can have.",
		"Each further worker of a view counts as well. -1 means no limit, as it does for "
		"superusers.",
		&cq_max_tasks_per_database,
		-1,
		-1,
		10000,
		PGC_SUSET,
		0,
		NULL,
		NULL,
		NULL);
	DefineCustomIntVariable(
		"pipeline.max_tasks_per_role",
		"Number of continuous views that a role can have in each database.",
		"Each further worker of a view counts as well. -1 means no limit, as it does for "
		"superusers.",
		&cq_max_tasks_per_role,
		-1,
		-1,
		10000,
		PGC_SUSET,
		0,
		NULL,
		NULL,
		NULL);
}

static void
define_security(void)
{
	DefineCustomBoolVariable(
		"pipeline.allow_plaintext",
		"Allows credentials to be sent to Kafka brokers over unencrypted connections.",
		NULL,
		&cq_allow_plaintext,
		false,
		PGC_SUSET,
		0,
		NULL,
		NULL,
		NULL);
	DefineCustomStringVariable(
		"pipeline.allowed_brokers",
		"Brokers that servers not owned by a superuser may name, as host:port patterns.",
		"A comma-separated list; * stands for any text. Empty: superusers only.",
		&cq_allowed_brokers,
		"",
		PGC_SIGHUP,
		GUC_SUPERUSER_ONLY,
		NULL,
		NULL,
		NULL);
	DefineCustomStringVariable("pipeline.ssl_dir",
							   "Directory in which files named in Kafka client properties must be.",
							   NULL,
							   &cq_ssl_directory,
							   "",
							   PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY,
							   NULL,
							   NULL,
							   NULL);
}

static void
define_work(void)
{
	DefineCustomIntVariable("pipeline.batch_size",
							"Number of events that are decoded and evaluated together, at most.",
							NULL,
							&cq_batch_size,
							4096,
							1,
							100000,
							PGC_SIGHUP,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomIntVariable("pipeline.checkpoint_interval",
							"Longest time between two checkpoints of a busy view.",
							"A view's own option checkpoint_interval takes precedence.",
							&cq_checkpoint_interval_ms,
							1000,
							1,
							60 * 1000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL,
							NULL,
							NULL);
	DefineCustomBoolVariable("pipeline.random_batches",
							 "Ends batches and checkpoints at random.",
							 "For tests: what views show may not depend on where they end.",
							 &cq_random_batches,
							 false,
							 PGC_SIGHUP,
							 GUC_NOT_IN_SAMPLE,
							 NULL,
							 NULL,
							 NULL);
	DefineCustomBoolVariable("pipeline.share_tasks",
							 "Lets views that are at the same place in a stream read it together.",
							 "Off: each view has a background worker and a connection of its own.",
							 &cq_share_tasks,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL,
							 NULL,
							 NULL);
}

static void
define_memory(void)
{
	DefineCustomIntVariable("pipeline.join_memory",
							"Memory for each hash table or sort of a view's joins.",
							NULL,
							&cq_join_memory_kb,
							64 * 1024,
							64,
							MAX_KILOBYTES,
							PGC_SIGHUP,
							GUC_UNIT_KB,
							NULL,
							NULL,
							NULL);
	DefineCustomIntVariable("pipeline.kafka_memory",
							"Memory for records fetched from Kafka ahead of processing, per view.",
							NULL,
							&cq_kafka_memory_kb,
							64 * 1024,
							1024,
							2000000,
							PGC_SIGHUP,
							GUC_UNIT_KB,
							NULL,
							NULL,
							NULL);
}

void
cq_settings_define(void)
{
	define_at_start();
	define_memory();
	define_limits();
	define_security();
	define_work();
	MarkGUCPrefixReserved("pipeline");
}
