/*
 * client.c
 *	  The life of a librdkafka handle in a PostgreSQL process.
 *
 * librdkafka runs threads in our process.  What keeps them apart from
 * PostgreSQL:
 *
 *	C1. Threads are created with all signals blocked, so PostgreSQL's handlers
 *		run on the main thread only.
 *	C2. No callback reaches PostgreSQL.  Logs and errors arrive in a queue that
 *		the main thread empties.
 *	C3. A handle is used by the process that made it; after a fork it is left
 *		alone.
 *	C4. rd_kafka_destroy() joins threads that may hang in a name lookup for
 *		many seconds.  So a detached thread, the reaper, calls it.
 *	C5. At exit the reapers are waited for, for a moment only.  If one is
 *		not done by then, the process ends by _exit() after PostgreSQL's own
 *		cleanup: libc's exit handlers (OpenSSL's for one) would pull the rug
 *		from under living threads, and a crash at exit restarts the cluster.
 *
 * Memory: a client is malloc'ed, since its last user is a reaper.
 */
#include "postgres.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/pg_locale.h"

#include "compat.h"
#include "errors.h"
#include "source/kafka/client.h"

#define EXTERNAL_FDS	12	/* what a handle opens besides, roughly: sockets and pipes */
#define MAX_EVENTS		200 /* taken in at once */
#define LOG_KINDS		32
#define LOG_INTERVAL_US (10 * INT64CONST(1000000))
#define LOG_TEXT		400
#define ERROR_TEXT		512
#define EXIT_WAIT_MS	300
#define EXIT_SLICE_MS	20
#define MAX_RELEASES	4 /* and a NULL behind them */

/* Messages of one kind are logged once per LOG_INTERVAL_US. */
typedef struct LogKind
{
	uint32 hash;
	int64 logged_us;
	int64 suppressed;
} LogKind;

struct CqKafkaClient
{
	rd_kafka_t *handle;
	rd_kafka_queue_t *events;
	CqKafkaControl *control;
	char *allowed; /* what the handle's connect callback reads */
	int wake_fd;
	int nfds; /* counted as external */
	pid_t pid;
	CqKafkaHealth health;
	LogKind log_kinds[LOG_KINDS];
};

/* Reapers that have not finished, under the mutex.  Threads that were given up count for ever. */
static pthread_mutex_t reaper_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t reaper_done = PTHREAD_COND_INITIALIZER;
static int reapers = 0;

static pid_t exit_registered_pid = 0;
static void (*exit_releases[MAX_RELEASES])(void);

static void prepare_process(void);
static CqKafkaClient *client_create(const CqKafkaSettings *settings, rd_kafka_conf_t *conf,
									int wake_fd);
static void client_fail(CqKafkaClient *client, const char *error) CQ_NORETURN;
static bool client_start(CqKafkaClient *client, rd_kafka_type_t type, rd_kafka_conf_t *conf,
						 char *error);
static bool control_start(CqKafkaClient *client, const char *topic, int refresh_ms, char *error);
static void register_exit(void);
static void acquire_fds(CqKafkaClient *client);
static rd_kafka_event_t *next_delivery(CqKafkaClient *client, const char *name);
static void take_error(CqKafkaClient *client, rd_kafka_event_t *event);
static void take_log(CqKafkaClient *client, rd_kafka_event_t *event, const char *stream);
static bool log_due(CqKafkaClient *client, const char *facility, int level, int64 *suppressed);
static void copy_printable(char *to, const char *from, Size size);
static void *reap(void *arg);
static bool start_reaper(CqKafkaClient *client);
static void client_free(CqKafkaClient *client);
static void wait_at_exit(int code, Datum arg);
static void leave_at_exit(int code, Datum arg);

CqKafkaClient *
cq_kafka_client_open(const CqKafkaSettings *settings, const CqKafkaFetching *fetching,
					 const char *topic, int refresh_ms, int wake_fd)
{
	rd_kafka_conf_t *conf;
	CqKafkaClient *client;
	char error[ERROR_TEXT];

	prepare_process();
	conf = cq_kafka_settings_consumer(settings, fetching);
	client = client_create(settings, conf, wake_fd);
	if (!client_start(client, RD_KAFKA_CONSUMER, conf, error) ||
		!control_start(client, topic, refresh_ms, error))
		client_fail(client, error);
	return client;
}

CqKafkaClient *
cq_kafka_client_open_producer(const CqKafkaSettings *settings, int wake_fd)
{
	rd_kafka_conf_t *conf;
	CqKafkaClient *client;
	char error[ERROR_TEXT];

	prepare_process();
	conf = cq_kafka_settings_producer(settings);
	client = client_create(settings, conf, wake_fd);
	if (!client_start(client, RD_KAFKA_PRODUCER, conf, error))
		client_fail(client, error);
	return client;
}

static void
prepare_process(void)
{
	register_exit();
	/* fill the cache now: it switches the process's locale for a moment, which threads would see */
	(void) PGLC_localeconv();
}

/* Without a handle so far.  An error destroys conf. */
static CqKafkaClient *
client_create(const CqKafkaSettings *settings, rd_kafka_conf_t *conf, int wake_fd)
{
	const char *allowed = cq_kafka_settings_allowed(settings);
	CqKafkaClient *client = calloc(1, sizeof(CqKafkaClient));

	if (client)
	{
		client->pid = getpid();
		client->allowed = allowed ? strdup(allowed) : NULL;
		client->wake_fd = fcntl(wake_fd, F_DUPFD_CLOEXEC, 3);
	}
	if (client == NULL || (allowed && client->allowed == NULL) || client->wake_fd < 0)
	{
		int saved_errno = errno;

		rd_kafka_conf_destroy(conf);
		if (client)
			client_free(client);
		errno = saved_errno;
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				errmsg("could not start a Kafka client: %m"));
	}
	acquire_fds(client);
	return client;
}

static void
client_fail(CqKafkaClient *client, const char *error)
{
	cq_kafka_client_close(client);
	ereport(ERROR,
			errcode(CQ_ERRCODE_SOURCE_UNAVAILABLE),
			errmsg("could not start a Kafka client"),
			errdetail("%s", error));
}

/* Everything that makes threads.  Takes over conf in any case. */
static bool
client_start(CqKafkaClient *client, rd_kafka_type_t type, rd_kafka_conf_t *conf, char *error)
{
	sigset_t all;
	sigset_t saved;
	bool ok = false;

	if (client->allowed)
		rd_kafka_conf_set_opaque(conf, client->allowed);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	client->handle = rd_kafka_new(type, conf, error, ERROR_TEXT);
	if (client->handle == NULL)
		rd_kafka_conf_destroy(conf);
	else if ((type == RD_KAFKA_CONSUMER &&
			  rd_kafka_poll_set_consumer(client->handle) != RD_KAFKA_RESP_ERR_NO_ERROR) ||
			 rd_kafka_set_log_queue(client->handle, NULL) != RD_KAFKA_RESP_ERR_NO_ERROR)
		strlcpy(error, "The client's queues are not available.", ERROR_TEXT);
	else
	{
		client->events = type == RD_KAFKA_CONSUMER ? rd_kafka_queue_get_consumer(client->handle)
												   : rd_kafka_queue_get_main(client->handle);
		ok = client->events != NULL;
		if (ok)
			rd_kafka_queue_io_event_enable(client->events, client->wake_fd, "", 1);
		else
			strlcpy(error, "The client's event queue is not available.", ERROR_TEXT);
	}
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	return ok;
}

static bool
control_start(CqKafkaClient *client, const char *topic, int refresh_ms, char *error)
{
	sigset_t all;
	sigset_t saved;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	client->control = cq_kafka_control_start(client->handle, topic, refresh_ms, client->wake_fd);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	if (client->control == NULL)
		strlcpy(error, "A thread could not be created.", ERROR_TEXT);
	return client->control != NULL;
}

static void
register_exit(void)
{
	if (exit_registered_pid == getpid())
		return;
	on_proc_exit(leave_at_exit, 0);
	before_shmem_exit(wait_at_exit, 0);
	exit_registered_pid = getpid();
	reapers = 0;
}

/* A pipe rather than an eventfd: it exists on every system. */
void
cq_kafka_wake_pipe(int ends[2], const char *stream)
{
	if (pipe(ends) != 0)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				errmsg("could not open a pipe for stream \"%s\": %m", stream));
	if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0 || fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0 ||
		fcntl(ends[0], F_SETFD, FD_CLOEXEC) != 0 || fcntl(ends[1], F_SETFD, FD_CLOEXEC) != 0)
	{
		int saved_errno = errno;

		close(ends[0]);
		close(ends[1]);
		errno = saved_errno;
		ereport(ERROR, errmsg("could not set up a pipe for stream \"%s\": %m", stream));
	}
}

void
cq_kafka_wake_drain(int read_end)
{
	char buffer[512];

	while (read(read_end, buffer, sizeof(buffer)) == sizeof(buffer))
		continue;
}

void
cq_kafka_client_at_exit(void (*release)(void))
{
	int i;

	for (i = 0; exit_releases[i] != NULL; i++)
		if (exit_releases[i] == release)
			return;
	Assert(i < MAX_RELEASES - 1);
	exit_releases[i] = release;
}

/* fd.c keeps a budget of descriptors; tell it about ours as far as it lets us. */
static void
acquire_fds(CqKafkaClient *client)
{
	while (client->nfds < EXTERNAL_FDS && AcquireExternalFD())
		client->nfds++;
}

rd_kafka_t *
cq_kafka_client_handle(CqKafkaClient *client)
{
	Assert(client->pid == getpid());
	return client->handle;
}

CqKafkaControl *
cq_kafka_client_control(CqKafkaClient *client)
{
	return client->control;
}

int
cq_kafka_client_wake_fd(CqKafkaClient *client)
{
	return client->wake_fd;
}

const CqKafkaHealth *
cq_kafka_client_events(CqKafkaClient *client, const char *stream)
{
	rd_kafka_event_t *event = next_delivery(client, stream);

	/* a consumer delivers nothing */
	Assert(event == NULL);
	if (event)
		rd_kafka_event_destroy(event);
	return &client->health;
}

rd_kafka_event_t *
cq_kafka_client_delivery(CqKafkaClient *client, const char *server)
{
	return next_delivery(client, server);
}

/* Take in a bounded number of events, up to one that tells of records sent. */
static rd_kafka_event_t *
next_delivery(CqKafkaClient *client, const char *name)
{
	int i;

	for (i = 0; i < MAX_EVENTS; i++)
	{
		rd_kafka_event_t *event = rd_kafka_queue_poll(client->events, 0);

		if (event == NULL || rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
			return event;
		if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_LOG)
			take_log(client, event, name);
		else
		{
			if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
				take_error(client, event);
			rd_kafka_event_destroy(event);
		}
	}
	return NULL;
}

static void
take_error(CqKafkaClient *client, rd_kafka_event_t *event)
{
	CqKafkaHealth *health = &client->health;
	rd_kafka_resp_err_t error = rd_kafka_event_error(event);

	if (rd_kafka_event_error_is_fatal(event) || error == RD_KAFKA_RESP_ERR__FATAL)
		health->fatal = true;
	switch (error)
	{
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
			health->all_down_us = cq_kafka_clock_us();
			health->trouble_us = health->all_down_us;
			break;
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__RESOLVE:
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__SSL:
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
			health->trouble_us = cq_kafka_clock_us();
			health->last_error = error;
			break;
		default:
			break;
	}
}

/* Destroys the event before anything that may throw. */
static void
take_log(CqKafkaClient *client, rd_kafka_event_t *event, const char *stream)
{
	const char *facility = "";
	const char *text = "";
	int level = 7;
	char copy[LOG_TEXT];
	int64 suppressed = 0;
	bool due = false;

	if (rd_kafka_event_log(event, &facility, &text, &level) == 0 && level < 7)
	{
		due = log_due(client, facility, level, &suppressed);
		copy_printable(copy, text, sizeof(copy));
	}
	rd_kafka_event_destroy(event);
	if (!due)
		return;
	ereport(level <= 4 ? LOG : DEBUG1,
			errmsg("Kafka client of stream \"%s\": %s", stream, copy),
			suppressed > 0
				? errdetail("%lld similar messages were left out.", (long long) suppressed)
				: 0);
}

static bool
log_due(CqKafkaClient *client, const char *facility, int level, int64 *suppressed)
{
	uint32 hash = hash_bytes((const unsigned char *) facility, strlen(facility)) + level;
	LogKind *kind = &client->log_kinds[hash % LOG_KINDS];
	int64 now = cq_kafka_clock_us();

	if (kind->hash == hash && kind->logged_us != 0 && now - kind->logged_us < LOG_INTERVAL_US)
	{
		kind->suppressed++;
		return false;
	}
	*suppressed = kind->hash == hash ? kind->suppressed : 0;
	kind->hash = hash;
	kind->logged_us = now;
	kind->suppressed = 0;
	return true;
}

/* Brokers and names are in there: nothing that a terminal or another encoding would trip over. */
static void
copy_printable(char *to, const char *from, Size size)
{
	Size i;

	for (i = 0; i + 1 < size && from[i] != '\0'; i++)
		to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
	to[i] = '\0';
}

void
cq_kafka_client_close(CqKafkaClient *client)
{
	if (client == NULL || client->pid != getpid())
		return;
	for (; client->nfds > 0; client->nfds--)
		ReleaseExternalFD();
	if (client->events)
		rd_kafka_queue_io_event_enable(client->events, -1, NULL, 0);
	if (client->control)
		cq_kafka_control_stop(client->control);
	if (client->handle == NULL)
	{
		client_free(client);
		return;
	}
	pthread_mutex_lock(&reaper_mutex);
	reapers++;
	pthread_mutex_unlock(&reaper_mutex);
	/* without a thread the handle is leaked, and the process ends by _exit() (C5) */
	(void) start_reaper(client);
}

static bool
start_reaper(CqKafkaClient *client)
{
	sigset_t all;
	sigset_t saved;
	pthread_attr_t attr;
	pthread_t thread;
	bool ok;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	ok = pthread_create(&thread, &attr, reap, client) == 0;
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	pthread_attr_destroy(&attr);
	return ok;
}

/* A thread: nothing of PostgreSQL from here on. */
static void *
reap(void *arg)
{
	CqKafkaClient *client = arg;

	if (client->control)
		cq_kafka_control_join(client->control);
	if (client->events)
		rd_kafka_queue_destroy(client->events);
	rd_kafka_destroy_flags(client->handle, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	client_free(client);
	pthread_mutex_lock(&reaper_mutex);
	reapers--;
	pthread_cond_signal(&reaper_done);
	pthread_mutex_unlock(&reaper_mutex);
	return NULL;
}

static void
client_free(CqKafkaClient *client)
{
	if (client->wake_fd >= 0)
		close(client->wake_fd);
	free(client->allowed);
	free(client);
}

/* Give the reapers a moment, unless the postmaster has died. */
static void
wait_at_exit(int code, Datum arg)
{
	int64 give_up_us = cq_kafka_clock_us() + EXIT_WAIT_MS * 1000;
	int i;

	if (exit_registered_pid != getpid())
		return;
	for (i = 0; exit_releases[i] != NULL; i++)
		exit_releases[i]();
	pthread_mutex_lock(&reaper_mutex);
	while (reapers > 0 && cq_kafka_clock_us() < give_up_us &&
		   (!IsUnderPostmaster || PostmasterIsAlive()))
	{
		struct timespec deadline;

		clock_gettime(CLOCK_REALTIME, &deadline);
		deadline.tv_nsec += EXIT_SLICE_MS * 1000000;
		if (deadline.tv_nsec >= 1000000000)
		{
			deadline.tv_sec++;
			deadline.tv_nsec -= 1000000000;
		}
		pthread_cond_timedwait(&reaper_done, &reaper_mutex, &deadline);
	}
	pthread_mutex_unlock(&reaper_mutex);
}

static void
leave_at_exit(int code, Datum arg)
{
	bool busy;

	if (exit_registered_pid != getpid())
		return;
	pthread_mutex_lock(&reaper_mutex);
	busy = reapers > 0;
	pthread_mutex_unlock(&reaper_mutex);
	if (busy)
		_exit(code);
}
