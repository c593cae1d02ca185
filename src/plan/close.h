/*
 * close.h
 *	  What explain.c shares with the execution of close queries.
 */
#pragma once

#include "postgres.h"

#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"

#include "plan/stage.h"

/* The environment in which a close query finds its rows; in the current memory context. */
extern QueryEnvironment *cq_close_environment(CqPrepared *prepared, Tuplestorestate **rows);
