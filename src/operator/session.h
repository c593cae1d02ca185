/*
 * session.h
 *	  What a session's entry has besides other groups', private to this folder.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/pairingheap.h"

/* Behind the head of the entry: its place among the ends. */
typedef struct CqSessionPlace
{
	pairingheap_node node;
	TimestampTz due;   /* not later than the session's end */
	bool is_kept;	   /* in which heap it is */
	bool was_complete; /* before late events came, at least */
} CqSessionPlace;

/* Before its aggregates' states, and saved with them: times of its first and its last event. */
typedef struct CqSession
{
	TimestampTz first;
	TimestampTz last;
} CqSession;
