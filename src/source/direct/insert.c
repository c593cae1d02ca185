/*
 * insert.c
 *	  INSERT and COPY into Kafka streams.
 *
 * Rows are encoded and checked at once, so that the statement fails which inserts
 * what cannot be sent, and are held back until the transaction commits (held.c).
 * PostgreSQL has computed generated columns by now, but checks no constraints of
 * foreign tables: nobody else would, so it is done here.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "encode/encoder.h"
#include "source/direct/held.h"
#include "source/direct/insert.h"
#include "source/kafka/producer.h"

typedef struct KafkaInsert
{
	CqEncoder *encoder;
	int topic; /* among those of the transaction */
	int64 max_bytes;
	MemoryContext row;
} KafkaInsert;

static void refuse_long(ResultRelInfo *rri, int64 max_bytes);

void
cq_direct_insert_begin(EState *estate, ResultRelInfo *rri)
{
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	KafkaInsert *insert = palloc0(sizeof(KafkaInsert));
	CqStream *stream = cq_stream_load(RelationGetRelid(rri->ri_RelationDesc));
	Oid user = cq_compat_insert_user(rri, estate);

	insert->encoder = cq_encoder_create(stream);
	/* connecting begins now, and what may not be used fails now */
	insert->max_bytes = cq_kafka_producer_max_bytes(cq_kafka_producer_get(stream->server_id, user));
	insert->topic = cq_held_topic(stream->server_id, user, stream->topic);
	insert->row =
		AllocSetContextCreate(CurrentMemoryContext, "pipeline row to send", ALLOCSET_DEFAULT_SIZES);
	rri->ri_FdwState = insert;
	MemoryContextSwitchTo(old);
}

void
cq_direct_insert_row(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot)
{
	KafkaInsert *insert = rri->ri_FdwState;
	MemoryContext old;
	CqMessage message;

	if (RelationGetDescr(rri->ri_RelationDesc)->constr)
		ExecConstraints(rri, slot, estate);
	slot_getallattrs(slot);
	MemoryContextReset(insert->row);
	old = MemoryContextSwitchTo(insert->row);
	cq_encoder_encode(insert->encoder, slot->tts_values, slot->tts_isnull, &message);
	if (message.payload_len + message.key_len > insert->max_bytes)
		refuse_long(rri, insert->max_bytes);
	cq_held_add(insert->topic, &message);
	MemoryContextSwitchTo(old);
}

static void
refuse_long(ResultRelInfo *rri, int64 max_bytes)
{
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("row for stream \"%s\" is too long to be sent",
				   RelationGetRelationName(rri->ri_RelationDesc)),
			errdetail("Key and value together may have %lld bytes.", (long long) max_bytes),
			errhint("How many is the server's option \"message.max.bytes\"; the topic's "
					"\"max.message.bytes\" must allow them, too."));
}

void
cq_direct_insert_end(ResultRelInfo *rri)
{
	KafkaInsert *insert = rri->ri_FdwState;

	if (insert != NULL)
		MemoryContextDelete(insert->row);
	rri->ri_FdwState = NULL;
}
