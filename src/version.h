/*
 * version.h
 *	  Which version of the extension this library is of.
 */
#pragma once

/* That of the SQL objects it goes with, which pg_extension says. */
#define CQ_VERSION "1.0"
