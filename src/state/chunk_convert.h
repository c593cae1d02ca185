/*
 * chunk_convert.h
 *	  Chunks of one table written to another, each entry as something else.
 */
#pragma once

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/rel.h"

#include "state/codec.h"

/* Append what an entry becomes; called in a context that is reset now and then. */
typedef void (*CqEntryConverter)(void *arg, CqReader *entry, StringInfo out);

/*
 * All chunks of "from", which are of the state with this identity, as the active
 * snapshot sees them.  Hashes and panes stay, and which entries are in a bucket.
 */
extern void cq_chunks_convert(Relation from, uint64 from_identity, Relation to, uint64 to_identity,
							  CqEntryConverter convert, void *arg);
