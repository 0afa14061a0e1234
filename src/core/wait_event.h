/*
 * wait_event.h
 *		What a process of the store waits for, as pg_stat_activity shows it.
 */
#ifndef ES_WAIT_EVENT_H
#define ES_WAIT_EVENT_H

#include "postgres.h"

typedef enum EsWait
{
	ES_WAIT_LAUNCHER_MAIN,		/* the launcher has nothing to do */
	ES_WAIT_SCHEDULER_MAIN,
	ES_WAIT_WORKER_MAIN,
	ES_WAIT_HEAD,				/* a reader, for the head to move */
	ES_WAIT_PROJECTION,			/* a session, for a projection to move */
	ES_WAIT_GIVE_WAY,			/* a statement lets appends pass before it tries a lock again */
	ES_WAIT_DATABASE_FREE		/* a statement, for the store's processes to leave a database */
} EsWait;

extern uint32 es_wait_event(EsWait wait);

#endif							/* ES_WAIT_EVENT_H */
