/*
 * held.h
 *	  Records of the current transaction, held back until it commits.
 */
#pragma once

#include "postgres.h"

#include "source/message.h"

/*
 * A topic to write to, with the rights of a user; a number to name it by for the
 * rest of the transaction.
 */
extern int cq_held_topic(Oid server_id, Oid user, const char *topic);

/*
 * Hold a record back.  If the transaction, or the savepoint that it is under, is
 * rolled back it is forgotten.
 */
extern void cq_held_add(int topic, const CqMessage *message);
