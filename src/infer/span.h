/*
 * span.h
 *	  Lengths of time as people write them.
 */
#pragma once

#include "postgres.h"

/* The next longer one that is round: 1, 2, 5, 10, 15 or 30 of a unit, or so. */
extern int64 cq_span_round_up(int64 us);

/* As in "1.5 seconds": to be read. */
extern char *cq_span_text(int64 us);

/* As in "1500 milliseconds": for an interval. */
extern char *cq_span_exact(int64 us);
