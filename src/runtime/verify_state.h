/*
 * verify_state.h
 *	  A worker compares the state of its views with their chunks.
 */
#pragma once

#include "runtime/run.h"

/* Answer pending calls of pipeline.verify_state(); between transactions. */
extern void cq_verify_when_asked(CqRun *run);
