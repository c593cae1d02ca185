/*
 * upgraded.h
 *	  What pg_upgrade does not keep.
 */
#pragma once

#include "postgres.h"

/*
 * Record again, where it is not, that the parts of views and of local streams of this
 * database belong to them.  In a transaction, as the system.
 */
extern void cq_upgraded_settle(void);
