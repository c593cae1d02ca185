/*
 * meeting.h
 *	  Two tasks that come together: what their workers tell each other in the
 *	  slots of their leaders.
 *
 * The protocol is in runtime/share.c.  Own is the index of the caller's
 * leader's slot; another task is named by the view that leads it, 0 = none.
 */
#pragma once

#include "postgres.h"

/* Another task of the same company that this one should join. */
extern int64 cq_meeting_find(int own);

/* Ask to join it; false if it is gone, or it or we have other business.  Stop asking. */
extern bool cq_meeting_ask(int own, int64 leader);
extern void cq_meeting_withdraw(int own);

/* Does the task that we want to join stand still for us?  *gone: it never will. */
extern bool cq_meeting_stands(int own, bool *gone);

/* The task that wants to join this one. */
extern int64 cq_meeting_follower(int own);

/* Stand still for it; or send it away. */
extern void cq_meeting_stand(int own);
extern void cq_meeting_dismiss(int own);

/* A view that was handed over to this task and has not been taken yet; 0 = none. */
extern int64 cq_meeting_handed(int own);

/* Those that are left get a worker of their own. */
extern void cq_meeting_refuse(int own);
