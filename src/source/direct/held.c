/*
 * held.c
 *	  Records of the current transaction, held back until it commits.
 *
 * Kafka's brokers take no part in the transaction, so nothing is sent before the
 * transaction has done all that may fail.  Just before it commits all records are
 * written and acknowledged; if one is not, the transaction is aborted.
 *
 * Invariants
 *	H1. If the transaction is committed, all of its records are in their topics.
 *	H2. If it is rolled back before COMMIT none is.
 *	H3. If it fails while or after they are written (a broker does not acknowledge
 *		one, the user cancels, another extension's part of the commit fails, the
 *		server crashes) some or all are in the topics: at least once, not exactly.
 *
 * Records are one string of bytes, in the order of their insertion: in memory as far
 * as work_mem goes, what is before that in a temporary file.  A subtransaction that
 * is rolled back takes away the end of the string, which begins where it had written
 * its first record; marks keep these places.
 *
 * Memory: the top transaction's.  The file belongs to its resource owner.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/tablespace.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "source/direct/held.h"
#include "source/kafka/producer.h"

#define NONE		 PG_UINT32_MAX /* as a length: NULL */
#define NO_RECORD	 (-1)
#define MAX_MEMORY	 (512 * 1024 * 1024)
#define READ_AT_ONCE (64 * 1024)

typedef struct HeldTopic
{
	Oid server_id;
	Oid user;
	char *topic;
	int64 first;			   /* where its first record begins; NO_RECORD = it has none */
	CqKafkaProducer *producer; /* while records are written */
} HeldTopic;

/* What a subtransaction added begins here; those of one that it committed are its own. */
typedef struct Mark
{
	SubTransactionId subtransaction;
	int64 position;
} Mark;

typedef struct Held
{
	List *topics; /* of HeldTopic * */
	List *marks;  /* of Mark *, the innermost last */
	BufFile *file;
	int64 in_file; /* bytes before those in memory */
	StringInfoData tail;
} Held;

/* Of a record, in front of its bytes. */
typedef struct RecordHead
{
	uint32 len; /* of all that follows the head */
	int32 topic;
	int32 partition;
	int32 nheaders;
	int64 timestamp_ms;
	uint32 payload_len;
	uint32 key_len;
} RecordHead;

static Held *held = NULL;
static bool callbacks_registered = false;

static void begin_holding(void);
static void mark_subtransaction(void);
static void append_part(const char *bytes, uint32 len);
static void append_header(const CqHeader *header);
static void spill(void);
static void truncate_to(int64 position);
static void transaction_event(XactEvent event, void *arg);
static void subtransaction_event(SubXactEvent event, SubTransactionId subtransaction,
								 SubTransactionId parent, void *arg);
static void adopt_marks(SubTransactionId subtransaction, SubTransactionId parent);
static void forget_since(SubTransactionId subtransaction);
static void write_all(void);
static void find_producers(void);
static void refuse_dropped(const HeldTopic *topic);
static CqKafkaProducer *known_producer(const HeldTopic *topic);
static void write_file(void);
static int write_records(const char *bytes, int len);
static void write_record(const char *at);
static const char *take_part(const char **at, uint32 len);
static uint32 take_len(const char **at);
static void abandon_producers(void);

int
cq_held_topic(Oid server_id, Oid user, const char *topic)
{
	HeldTopic *added;
	MemoryContext old;
	ListCell *lc;

	begin_holding();
	foreach (lc, held->topics)
	{
		HeldTopic *known = lfirst(lc);

		if (known->server_id == server_id && known->user == user &&
			strcmp(known->topic, topic) == 0)
			return foreach_current_index(lc);
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	added = palloc0(sizeof(HeldTopic));
	added->server_id = server_id;
	added->user = user;
	added->topic = pstrdup(topic);
	added->first = NO_RECORD;
	held->topics = lappend(held->topics, added);
	MemoryContextSwitchTo(old);
	return list_length(held->topics) - 1;
}

static void
begin_holding(void)
{
	MemoryContext old;
	Held *begun;

	if (held != NULL)
		return;
	if (!callbacks_registered)
	{
		RegisterXactCallback(transaction_event, NULL);
		RegisterSubXactCallback(subtransaction_event, NULL);
		callbacks_registered = true;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	begun = palloc0(sizeof(Held));
	initStringInfo(&begun->tail);
	held = begun;
	MemoryContextSwitchTo(old);
}

void
cq_held_add(int topic, const CqMessage *message)
{
	HeldTopic *to = list_nth(held->topics, topic);
	RecordHead head = {0};
	int start = held->tail.len;
	int i;

	mark_subtransaction();
	if (to->first == NO_RECORD)
		to->first = held->in_file + start;
	head.topic = topic;
	head.partition = message->partition;
	head.nheaders = message->nheaders;
	head.timestamp_ms = message->timestamp_ms;
	head.payload_len = message->payload ? (uint32) message->payload_len : NONE;
	head.key_len = message->key ? (uint32) message->key_len : NONE;
	appendBinaryStringInfo(&held->tail, (char *) &head, sizeof(head));
	append_part(message->payload, head.payload_len);
	append_part(message->key, head.key_len);
	for (i = 0; i < message->nheaders; i++)
		append_header(&message->headers[i]);
	head.len = (uint32) (held->tail.len - start - (int) sizeof(head));
	memcpy(held->tail.data + start, &head, sizeof(head));
	if (held->tail.len > Min((int64) work_mem * 1024, MAX_MEMORY))
		spill();
}

/* Only where a transaction writes are there marks, so savepoints by themselves cost nothing. */
static void
mark_subtransaction(void)
{
	SubTransactionId current = GetCurrentSubTransactionId();
	MemoryContext old;
	Mark *mark;

	if (held->marks != NIL && ((Mark *) llast(held->marks))->subtransaction == current)
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	mark = palloc(sizeof(Mark));
	mark->subtransaction = current;
	mark->position = held->in_file + held->tail.len;
	held->marks = lappend(held->marks, mark);
	MemoryContextSwitchTo(old);
}

static void
append_part(const char *bytes, uint32 len)
{
	if (len != NONE)
		appendBinaryStringInfo(&held->tail, bytes, (int) len);
}

static void
append_header(const CqHeader *header)
{
	uint32 len = header->value ? (uint32) header->value_len : NONE;

	appendBinaryStringInfo(&held->tail, header->name, (int) strlen(header->name) + 1);
	appendBinaryStringInfo(&held->tail, (char *) &len, sizeof(len));
	append_part(header->value, len);
}

/* An error leaves the string as it is: what was written is written again. */
static void
spill(void)
{
	if (held->file == NULL)
	{
		MemoryContext old_context = MemoryContextSwitchTo(TopTransactionContext);
		ResourceOwner old_owner = CurrentResourceOwner;

		PrepareTempTablespaces();
		CurrentResourceOwner = TopTransactionResourceOwner;
		held->file = BufFileCreateTemp(false);
		CurrentResourceOwner = old_owner;
		MemoryContextSwitchTo(old_context);
	}
	if (BufFileSeek(held->file, 0, (off_t) held->in_file, SEEK_SET) != 0)
		ereport(ERROR, errcode_for_file_access(), errmsg("could not seek in a temporary file: %m"));
	BufFileWrite(held->file, held->tail.data, (size_t) held->tail.len);
	held->in_file += held->tail.len;
	resetStringInfo(&held->tail);
}

/* What is in the file behind its new end is overwritten some time. */
static void
truncate_to(int64 position)
{
	ListCell *lc;

	foreach (lc, held->topics)
	{
		HeldTopic *topic = lfirst(lc);

		if (topic->first >= position)
			topic->first = NO_RECORD;
	}
	if (position >= held->in_file)
		held->tail.len = (int) (position - held->in_file);
	else
	{
		held->in_file = position;
		held->tail.len = 0;
	}
	held->tail.data[held->tail.len] = '\0';
}

static void
transaction_event(XactEvent event, void *arg)
{
	if (held == NULL)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			write_all();
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (held->in_file + held->tail.len > 0)
				ereport(ERROR,
						errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg(
							"cannot PREPARE a transaction that has inserted into Kafka streams"));
			if (held->file)
				BufFileClose(held->file);
			held->file = NULL;
			break;
		case XACT_EVENT_ABORT:
			abandon_producers();
			cq_kafka_producer_keep_few();
			held = NULL;
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			cq_kafka_producer_keep_few();
			held = NULL;
			break;
		default:
			break;
	}
}

static void
subtransaction_event(SubXactEvent event, SubTransactionId subtransaction, SubTransactionId parent,
					 void *arg)
{
	if (held == NULL)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		adopt_marks(subtransaction, parent);
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_since(subtransaction);
}

static void
adopt_marks(SubTransactionId subtransaction, SubTransactionId parent)
{
	Mark *mark = held->marks == NIL ? NULL : llast(held->marks);
	int n = list_length(held->marks);

	if (mark == NULL || mark->subtransaction != subtransaction)
		return;
	if (n > 1 && ((Mark *) list_nth(held->marks, n - 2))->subtransaction == parent)
		held->marks = list_truncate(held->marks, n - 1);
	else
		mark->subtransaction = parent;
}

/* Ids ascend, so those of its own subtransactions are higher. */
static void
forget_since(SubTransactionId subtransaction)
{
	while (held->marks != NIL)
	{
		Mark *mark = llast(held->marks);

		if (mark->subtransaction < subtransaction)
			break;
		truncate_to(mark->position);
		held->marks = list_truncate(held->marks, list_length(held->marks) - 1);
	}
}

/* Waits for brokers.  The transaction can still be cancelled, and fail. */
static void
write_all(void)
{
	ListCell *lc;

	if (held->in_file + held->tail.len > 0)
	{
		find_producers();
		if (held->in_file > 0)
			write_file();
		(void) write_records(held->tail.data, held->tail.len);
		foreach (lc, held->topics)
			if (((HeldTopic *) lfirst(lc))->producer != NULL)
				cq_kafka_producer_flush(((HeldTopic *) lfirst(lc))->producer);
		foreach (lc, held->topics)
			((HeldTopic *) lfirst(lc))->producer = NULL;
	}
	if (held->file)
		BufFileClose(held->file);
	held->file = NULL;
}

/*
 * Only now, since each statement of the transaction might have altered their servers.
 * Those without records are left alone: their servers may be gone by now.
 */
static void
find_producers(void)
{
	ListCell *lc;

	foreach (lc, held->topics)
	{
		HeldTopic *topic = lfirst(lc);

		if (topic->first == NO_RECORD)
			continue;
		refuse_dropped(topic);
		topic->producer = known_producer(topic);
		if (topic->producer == NULL)
			topic->producer = cq_kafka_producer_get(topic->server_id, topic->user);
	}
}

/* Nobody else could drop it: the stream is locked. */
static void
refuse_dropped(const HeldTopic *topic)
{
	if (GetForeignServerExtended(topic->server_id, FSV_MISSING_OK) == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot write to topic \"%s\"", topic->topic),
				errdetail("The transaction has dropped its foreign server after the INSERT."));
}

/* Asked for twice it might be another: if somebody altered the server in between. */
static CqKafkaProducer *
known_producer(const HeldTopic *topic)
{
	ListCell *lc;

	foreach (lc, held->topics)
	{
		const HeldTopic *other = lfirst(lc);

		if (other->producer != NULL && other->server_id == topic->server_id &&
			other->user == topic->user)
			return other->producer;
	}
	return NULL;
}

/* Records may go over the ends of what is read at once. */
static void
write_file(void)
{
	int64 left = held->in_file;
	StringInfoData buffer;

	initStringInfo(&buffer);
	if (BufFileSeek(held->file, 0, 0, SEEK_SET) != 0)
		ereport(ERROR, errcode_for_file_access(), errmsg("could not seek in a temporary file: %m"));
	while (left > 0)
	{
		size_t want = (size_t) Min(left, READ_AT_ONCE);
		int written;

		enlargeStringInfo(&buffer, (int) want);
		if (BufFileRead(held->file, buffer.data + buffer.len, want) != want)
			ereport(ERROR,
					errcode_for_file_access(),
					errmsg("could not read from a temporary file: %m"));
		buffer.len += (int) want;
		left -= (int64) want;
		written = write_records(buffer.data, buffer.len);
		buffer.len -= written;
		memmove(buffer.data, buffer.data + written, (size_t) buffer.len);
	}
	Assert(buffer.len == 0);
	pfree(buffer.data);
}

/* Those that are there as a whole; returns how many bytes they were. */
static int
write_records(const char *bytes, int len)
{
	int done = 0;

	for (;;)
	{
		RecordHead head;

		if (len - done < (int) sizeof(head))
			return done;
		memcpy(&head, bytes + done, sizeof(head));
		if ((uint32) (len - done) - sizeof(head) < head.len)
			return done;
		write_record(bytes + done);
		done += (int) (sizeof(head) + head.len);
	}
}

static void
write_record(const char *at)
{
	RecordHead head;
	CqMessage message = {0};
	CqHeader *headers = NULL;
	const HeldTopic *topic;
	int i;

	memcpy(&head, at, sizeof(head));
	at += sizeof(head);
	message.partition = head.partition;
	message.timestamp_ms = head.timestamp_ms;
	message.payload_len = head.payload_len == NONE ? 0 : head.payload_len;
	message.payload = take_part(&at, head.payload_len);
	message.key_len = head.key_len == NONE ? 0 : head.key_len;
	message.key = take_part(&at, head.key_len);
	if (head.nheaders > 0)
		headers = palloc(sizeof(CqHeader) * head.nheaders);
	for (i = 0; i < head.nheaders; i++)
	{
		uint32 len;

		headers[i].name = at;
		at += strlen(at) + 1;
		len = take_len(&at);
		headers[i].value_len = len == NONE ? 0 : len;
		headers[i].value = take_part(&at, len);
	}
	message.nheaders = head.nheaders;
	message.headers = headers;
	topic = list_nth(held->topics, head.topic);
	cq_kafka_producer_send(topic->producer, topic->topic, &message);
	if (headers)
		pfree(headers);
}

static const char *
take_part(const char **at, uint32 len)
{
	const char *part = *at;

	if (len == NONE)
		return NULL;
	*at += len;
	return part;
}

static uint32
take_len(const char **at)
{
	uint32 len;

	memcpy(&len, *at, sizeof(len));
	*at += sizeof(len);
	return len;
}

/* Only those that may have records under way; must not throw. */
static void
abandon_producers(void)
{
	ListCell *lc;

	foreach (lc, held->topics)
	{
		const HeldTopic *topic = lfirst(lc);

		if (topic->producer != NULL)
			cq_kafka_producer_abandon(topic->server_id, topic->user);
	}
}
