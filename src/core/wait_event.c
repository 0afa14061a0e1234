/*
 * wait_event.c
 *		What a process of the store waits for, as pg_stat_activity shows it.
 *
 * wait_event_type is Extension.  From PostgreSQL 17 on wait_event is one of the names
 * below; before, a server has one name for all extensions.
 *
 * Locks: from PostgreSQL 17 on, for a moment, the server's lock on the list of names,
 * when a process waits for something for the first time.
 * Crash: the list is in shared memory, and is made anew.
 */
#include "postgres.h"

#include "compat/compat.h"
#include "core/wait_event.h"

static const char *const names[] = {
	[ES_WAIT_LAUNCHER_MAIN] = "EventstoreLauncherMain",
	[ES_WAIT_SCHEDULER_MAIN] = "EventstoreSchedulerMain",
	[ES_WAIT_WORKER_MAIN] = "EventstoreWorkerMain",
	[ES_WAIT_HEAD] = "EventstoreHead",
	[ES_WAIT_PROJECTION] = "EventstoreProjection",
	[ES_WAIT_GIVE_WAY] = "EventstoreGiveWay",
	[ES_WAIT_DATABASE_FREE] = "EventstoreDatabaseFree"
};

/* The number that WaitLatch and its like take. */
uint32
es_wait_event(EsWait wait)
{
	static uint32 numbers[lengthof(names)];	/* 0: not asked for yet */

	if (numbers[wait] == 0)
		numbers[wait] = es_compat_wait_event(names[wait]);
	return numbers[wait];
}
