/*
 * control.c
 *	  Questions to brokers, asked by a thread of their own.
 *
 * librdkafka has no asynchronous way to ask for a topic's partitions or for
 * the ends of its logs, and a worker must never wait for a broker.  The thread
 * runs with all signals blocked, calls nothing but libc and librdkafka, and is
 * joined by the thread that destroys the handle, never by the main one.
 *
 * The end of a log is asked for before its first offset with a given time: a
 * record that arrives in between is then behind the end that stands for "no
 * such record", so it is read rather than skipped.
 */
#include "source/kafka/control.h"

#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS		 10000
#define RETRY_MS		 2000  /* between metadata requests while the topic is not known */
#define NUDGE_PAUSE_US	 10000 /* between two nudges */
#define NUDGE_PARTITIONS 16
#define NUDGE_TIMEOUT_MS 1000
#define NUMBER_CHARS	 12
#define LOG_END			 (-1) /* as times in a request for offsets */
#define LOG_BEGIN		 (-2)

typedef struct Question
{
	struct Question *next;
	uint64_t ticket;
	int64_t due_us;
	int64_t time_ms;
	char *topic; /* NULL = the thread's own */
	int n;
	int32_t ids[];
} Question;

struct CqKafkaControl
{
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	pthread_t thread;
	rd_kafka_t *handle;
	char *topic;
	int refresh_ms;
	int wake_fd;

	/* under the mutex */
	bool stop;
	bool metadata_asked;
	Question *questions; /* in no order */
	int nudge_count;	 /* 0 = none is due */
	int32_t nudge_ids[NUDGE_PARTITIONS];
	CqKafkaAnswer *answers;
	CqKafkaAnswer **answers_end;

	/* the thread's own */
	int64_t metadata_due_us;
	int64_t nudged_us;
};

static void *control_main(void *arg);
static Question *next_question(CqKafkaControl *control, bool *metadata);
static Question *take_due(CqKafkaControl *control, int64_t *due_us);
static Question *new_question(uint64_t ticket, const int32_t *ids, int n);
static void add_question(CqKafkaControl *control, Question *question);
static void free_question(Question *question);
static bool nudge_due(CqKafkaControl *control, int64_t *due_us);
static void nudge(CqKafkaControl *control);
static void answer_metadata(CqKafkaControl *control, rd_kafka_topic_t *topic);
static void answer_topics(CqKafkaControl *control);
static CqKafkaAnswer *pack_topics(const struct rd_kafka_metadata *metadata);
static void metadata_done(CqKafkaControl *control, CqKafkaAnswer *answer);
static void answer_logs(CqKafkaControl *control, const Question *question);
static rd_kafka_resp_err_t look_up(CqKafkaControl *control, CqKafkaAnswer *answer,
								   const char *topic, int64_t time_ms, size_t field);
static void post(CqKafkaControl *control, CqKafkaAnswer *answer);
static void deadline_after(struct timespec *deadline, int64_t us);

CqKafkaControl *
cq_kafka_control_start(rd_kafka_t *handle, const char *topic, int refresh_ms, int wake_fd)
{
	CqKafkaControl *control = calloc(1, sizeof(CqKafkaControl));
	pthread_condattr_t attr;

	if (control == NULL)
		return NULL;
	control->handle = handle;
	control->refresh_ms = refresh_ms;
	control->wake_fd = wake_fd;
	control->answers_end = &control->answers;
	control->topic = topic ? strdup(topic) : NULL;
	pthread_mutex_init(&control->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&control->wake, &attr);
	pthread_condattr_destroy(&attr);
	if ((topic && control->topic == NULL) ||
		pthread_create(&control->thread, NULL, control_main, control) != 0)
	{
		free(control->topic);
		free(control);
		return NULL;
	}
	return control;
}

void
cq_kafka_control_ask_metadata(CqKafkaControl *control)
{
	pthread_mutex_lock(&control->mutex);
	control->metadata_asked = true;
	pthread_cond_signal(&control->wake);
	pthread_mutex_unlock(&control->mutex);
}

bool
cq_kafka_control_ask_logs(CqKafkaControl *control, uint64_t ticket, const int32_t *ids, int n,
						  int64_t time_ms, int delay_ms)
{
	Question *question = new_question(ticket, ids, n);

	if (question == NULL)
		return false;
	question->due_us += (int64_t) delay_ms * 1000;
	question->time_ms = time_ms;
	add_question(control, question);
	return true;
}

bool
cq_kafka_control_ask_logs_of(CqKafkaControl *control, const char *topic, uint64_t ticket,
							 const int32_t *ids, int n)
{
	Question *question = new_question(ticket, ids, n);

	if (question == NULL)
		return false;
	question->topic = strdup(topic);
	if (question->topic == NULL)
	{
		free_question(question);
		return false;
	}
	add_question(control, question);
	return true;
}

static Question *
new_question(uint64_t ticket, const int32_t *ids, int n)
{
	Question *question = calloc(1, sizeof(Question) + sizeof(int32_t) * (size_t) n);

	if (question == NULL)
		return NULL;
	question->ticket = ticket;
	question->due_us = cq_kafka_clock_us();
	question->time_ms = CQ_KAFKA_NO_TIME;
	question->n = n;
	memcpy(question->ids, ids, sizeof(int32_t) * (size_t) n);
	return question;
}

static void
free_question(Question *question)
{
	if (question != NULL)
		free(question->topic);
	free(question);
}

static void
add_question(CqKafkaControl *control, Question *question)
{
	pthread_mutex_lock(&control->mutex);
	question->next = control->questions;
	control->questions = question;
	pthread_cond_signal(&control->wake);
	pthread_mutex_unlock(&control->mutex);
}

void
cq_kafka_control_nudge(CqKafkaControl *control, const int32_t *ids, int n)
{
	int i;
	int j;

	pthread_mutex_lock(&control->mutex);
	if (control->nudge_count == 0)
		pthread_cond_signal(&control->wake);
	for (i = 0; i < n && control->nudge_count < NUDGE_PARTITIONS; i++)
	{
		for (j = 0; j < control->nudge_count && control->nudge_ids[j] != ids[i]; j++)
			continue;
		if (j == control->nudge_count)
			control->nudge_ids[control->nudge_count++] = ids[i];
	}
	pthread_mutex_unlock(&control->mutex);
}

CqKafkaAnswer *
cq_kafka_control_take(CqKafkaControl *control)
{
	CqKafkaAnswer *answer;

	pthread_mutex_lock(&control->mutex);
	answer = control->answers;
	if (answer != NULL)
	{
		control->answers = answer->next;
		if (control->answers == NULL)
			control->answers_end = &control->answers;
	}
	pthread_mutex_unlock(&control->mutex);
	return answer;
}

void
cq_kafka_control_stop(CqKafkaControl *control)
{
	pthread_mutex_lock(&control->mutex);
	control->stop = true;
	pthread_cond_signal(&control->wake);
	pthread_mutex_unlock(&control->mutex);
}

void
cq_kafka_control_join(CqKafkaControl *control)
{
	pthread_join(control->thread, NULL);
	while (control->questions != NULL)
	{
		Question *question = control->questions;

		control->questions = question->next;
		free_question(question);
	}
	while (control->answers != NULL)
	{
		CqKafkaAnswer *answer = control->answers;

		control->answers = answer->next;
		free(answer);
	}
	pthread_cond_destroy(&control->wake);
	pthread_mutex_destroy(&control->mutex);
	free(control->topic);
	free(control);
}

int64_t
cq_kafka_clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void *
control_main(void *arg)
{
	CqKafkaControl *control = arg;
	rd_kafka_topic_t *topic =
		control->topic ? rd_kafka_topic_new(control->handle, control->topic, NULL) : NULL;
	bool stop = false;

	while (!stop)
	{
		bool metadata = false;
		Question *question = next_question(control, &metadata);

		nudge(control);
		if (question != NULL)
			answer_logs(control, question);
		else if (metadata && control->topic == NULL)
			answer_topics(control);
		else if (metadata && topic != NULL)
			answer_metadata(control, topic);
		free_question(question);
		pthread_mutex_lock(&control->mutex);
		stop = control->stop;
		pthread_mutex_unlock(&control->mutex);
	}
	if (topic != NULL)
		rd_kafka_topic_destroy(topic);
	return NULL;
}

/* Wait until there is something to do: a question, metadata that is due, or the end (neither). */
static Question *
next_question(CqKafkaControl *control, bool *metadata)
{
	Question *question = NULL;

	pthread_mutex_lock(&control->mutex);
	while (!control->stop)
	{
		struct timespec deadline;
		int64_t due_us = control->metadata_due_us;

		*metadata = control->metadata_asked || cq_kafka_clock_us() >= due_us;
		if (*metadata)
		{
			control->metadata_asked = false;
			break;
		}
		question = take_due(control, &due_us);
		if (question != NULL || nudge_due(control, &due_us))
			break;
		deadline_after(&deadline, due_us - cq_kafka_clock_us());
		pthread_cond_timedwait(&control->wake, &control->mutex, &deadline);
	}
	pthread_mutex_unlock(&control->mutex);
	return question;
}

/* Take out the question that is due for longest; if none is, lower *due_us to when one will be. */
static Question *
take_due(CqKafkaControl *control, int64_t *due_us)
{
	Question **first = NULL;
	Question **link;
	Question *question;

	for (link = &control->questions; *link != NULL; link = &(*link)->next)
		if (first == NULL || (*link)->due_us < (*first)->due_us)
			first = link;
	if (first == NULL)
		return NULL;
	question = *first;
	if (question->due_us > cq_kafka_clock_us())
	{
		if (question->due_us < *due_us)
			*due_us = question->due_us;
		return NULL;
	}
	*first = question->next;
	return question;
}

/* If a nudge waits for its time, lower *due_us to that. */
static bool
nudge_due(CqKafkaControl *control, int64_t *due_us)
{
	int64_t at_us = control->nudged_us + NUDGE_PAUSE_US;

	if (control->nudge_count == 0)
		return false;
	if (at_us <= cq_kafka_clock_us())
		return true;
	if (at_us < *due_us)
		*due_us = at_us;
	return false;
}

/*
 * Any request to a partition's broker wakes the thread that fetches from it.
 * The answer is of no interest.
 */
static void
nudge(CqKafkaControl *control)
{
	int32_t ids[NUDGE_PARTITIONS];
	int64_t due_us = INT64_MAX;
	rd_kafka_topic_partition_list_t *list;
	int n = 0;
	int i;

	pthread_mutex_lock(&control->mutex);
	if (nudge_due(control, &due_us) && !control->stop)
	{
		n = control->nudge_count;
		memcpy(ids, control->nudge_ids, sizeof(int32_t) * (size_t) n);
		control->nudge_count = 0;
	}
	pthread_mutex_unlock(&control->mutex);
	if (n == 0)
		return;
	list = rd_kafka_topic_partition_list_new(n);
	for (i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, control->topic, ids[i])->offset = LOG_END;
	(void) rd_kafka_offsets_for_times(control->handle, list, NUDGE_TIMEOUT_MS);
	rd_kafka_topic_partition_list_destroy(list);
	control->nudged_us = cq_kafka_clock_us();
}

static void
answer_metadata(CqKafkaControl *control, rd_kafka_topic_t *topic)
{
	CqKafkaAnswer *answer = calloc(1, sizeof(CqKafkaAnswer));
	const struct rd_kafka_metadata *metadata = NULL;

	if (answer != NULL)
	{
		answer->kind = CQ_KAFKA_ANSWER_METADATA;
		answer->begun_us = cq_kafka_clock_us();
		answer->error = rd_kafka_metadata(control->handle, 0, topic, &metadata, TIMEOUT_MS);
		if (answer->error == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			if (metadata->topic_cnt == 1)
			{
				answer->error = metadata->topics[0].err;
				answer->npartitions = metadata->topics[0].partition_cnt;
			}
			else
				answer->error = RD_KAFKA_RESP_ERR__FAIL;
			rd_kafka_metadata_destroy(metadata);
		}
	}
	metadata_done(control, answer);
}

static void
answer_topics(CqKafkaControl *control)
{
	const struct rd_kafka_metadata *metadata = NULL;
	int64_t begun_us = cq_kafka_clock_us();
	rd_kafka_resp_err_t error = rd_kafka_metadata(control->handle, 1, NULL, &metadata, TIMEOUT_MS);
	CqKafkaAnswer *answer;

	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		answer = pack_topics(metadata);
		rd_kafka_metadata_destroy(metadata);
	}
	else
		answer = calloc(1, sizeof(CqKafkaAnswer));
	if (answer != NULL)
	{
		answer->kind = CQ_KAFKA_ANSWER_TOPICS;
		answer->begun_us = begun_us;
		answer->error = error;
	}
	metadata_done(control, answer);
}

static CqKafkaAnswer *
pack_topics(const struct rd_kafka_metadata *metadata)
{
	size_t size = 0;
	CqKafkaAnswer *answer;
	char *p;
	int i;

	for (i = 0; i < metadata->topic_cnt; i++)
		size += strlen(metadata->topics[i].topic) + 1 + NUMBER_CHARS;
	answer = calloc(1, sizeof(CqKafkaAnswer) + size);
	if (answer == NULL)
		return NULL;
	answer->topics_size = size;
	answer->ntopics = metadata->topic_cnt;
	p = (char *) answer->logs;
	for (i = 0; i < metadata->topic_cnt; i++)
	{
		const struct rd_kafka_metadata_topic *topic = &metadata->topics[i];

		p = stpcpy(p, topic->topic) + 1;
		p += snprintf(p, NUMBER_CHARS, "%d", topic->partition_cnt) + 1;
	}
	return answer;
}

/* Plan the next question of this kind and hand out the answer to this one (NULL: none). */
static void
metadata_done(CqKafkaControl *control, CqKafkaAnswer *answer)
{
	int wait_ms = control->refresh_ms;

	if ((answer == NULL || answer->error != RD_KAFKA_RESP_ERR_NO_ERROR) && wait_ms > RETRY_MS)
		wait_ms = RETRY_MS;
	control->metadata_due_us = cq_kafka_clock_us() + (int64_t) wait_ms * 1000;
	if (answer != NULL)
		post(control, answer);
}

static void
answer_logs(CqKafkaControl *control, const Question *question)
{
	CqKafkaAnswer *answer =
		calloc(1, sizeof(CqKafkaAnswer) + sizeof(CqKafkaLog) * (size_t) question->n);
	const char *topic = question->topic ? question->topic : control->topic;
	int i;

	if (answer == NULL)
		return;
	answer->kind = CQ_KAFKA_ANSWER_LOGS;
	answer->ticket = question->ticket;
	answer->begun_us = cq_kafka_clock_us();
	answer->nlogs = question->n;
	for (i = 0; i < question->n; i++)
		answer->logs[i].id = question->ids[i];
	answer->error = look_up(control, answer, topic, LOG_END, offsetof(CqKafkaLog, high));
	if (answer->error == RD_KAFKA_RESP_ERR_NO_ERROR)
		answer->error = look_up(control, answer, topic, LOG_BEGIN, offsetof(CqKafkaLog, low));
	if (answer->error == RD_KAFKA_RESP_ERR_NO_ERROR && question->time_ms != CQ_KAFKA_NO_TIME)
		answer->error =
			look_up(control, answer, topic, question->time_ms, offsetof(CqKafkaLog, at_time));
	for (i = 0; i < question->n; i++)
		if (question->time_ms == CQ_KAFKA_NO_TIME || answer->logs[i].at_time < 0)
			answer->logs[i].at_time = answer->logs[i].high;
	post(control, answer);
}

/* Fill one field of all logs with the offset that belongs to a time. */
static rd_kafka_resp_err_t
look_up(CqKafkaControl *control, CqKafkaAnswer *answer, const char *topic, int64_t time_ms,
		size_t field)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(answer->nlogs);
	rd_kafka_resp_err_t error;
	int i;

	for (i = 0; i < answer->nlogs; i++)
		rd_kafka_topic_partition_list_add(list, topic, answer->logs[i].id)->offset = time_ms;
	error = rd_kafka_offsets_for_times(control->handle, list, TIMEOUT_MS);
	for (i = 0; i < answer->nlogs && error == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
	{
		const rd_kafka_topic_partition_t *found =
			rd_kafka_topic_partition_list_find(list, topic, answer->logs[i].id);

		if (found == NULL || found->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			answer->logs[i].error = found ? found->err : RD_KAFKA_RESP_ERR__FAIL;
		else
			memcpy((char *) &answer->logs[i] + field, &found->offset, sizeof(int64_t));
	}
	rd_kafka_topic_partition_list_destroy(list);
	return error;
}

static void
post(CqKafkaControl *control, CqKafkaAnswer *answer)
{
	answer->next = NULL;
	pthread_mutex_lock(&control->mutex);
	*control->answers_end = answer;
	control->answers_end = &answer->next;
	pthread_mutex_unlock(&control->mutex);
	/* a full pipe is readable already */
	if (write(control->wake_fd, "", 1) < 0)
		return;
}

static void
deadline_after(struct timespec *deadline, int64_t us)
{
	int64_t at = cq_kafka_clock_us() + us;

	deadline->tv_sec = (time_t) (at / 1000000);
	deadline->tv_nsec = (long) (at % 1000000) * 1000;
}
