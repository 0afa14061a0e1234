/*
 * scheduler.c
 *		The process that tends the log of one database: it keeps the mark, wakes
 *		waiting readers, and removes what is hidden (scavenger.c).
 *
 * It sleeps until a transaction that appended ends.  Then it computes the head,
 * wakes those who wait for it to move, and records it in the mark, at most every
 * MARK_INTERVAL_MS.  While the log is busy and nobody waits it is not woken at
 * all: it looks when the next mark is due.
 *
 * Invariants
 * 1. wake_wanted is set, with a full barrier, before the head is computed that
 *    decides to sleep: a transaction that ends later finds it set.
 * 2. The head that is recorded was computed before the recording transaction
 *    began (mark.c), for the store that it is recorded in.
 * 3. It sleeps outside of transactions, and holds no snapshot while it does.
 * 4. A scheduler that leaves because the store is another one asks for a successor
 *    (leave_office): an append to the new store found us in office and did not ask.
 * 5. A look without a lock on event_log publishes nothing: meanwhile the entry may
 *    have been set up anew for another store.
 * 6. One NOTIFY stands for all that has become readable since the last: with the mark, at
 *    most every MARK_INTERVAL_MS.  Committing one takes a lock that all of the cluster
 *    shares (commands/async.c), so no append may send any.
 *
 * Locks: AccessShare on event_log, RowExclusive on mark, for moments.
 * Crash: nothing depends on it but speed: waiting readers look once a second, and
 * standbys stand still until the next scheduler.
 */
#include "postgres.h"

#include "commands/async.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/timestamp.h"

#include "compat/compat.h"
#include "core/wait_event.h"
#include "log/head.h"
#include "log/mark.h"
#include "log/positions.h"
#include "projections/figures.h"
#include "projections/sync.h"
#include "worker/pool.h"
#include "worker/scavenger.h"
#include "worker/session.h"

/* Shortest time between two records of the head. */
#define MARK_INTERVAL_MS	100
/* Time between two looks at the tables: are the store and its projections what they were? */
#define CHECK_INTERVAL_MS	10000
/* Time to the next look while projections wait for a worker that is busy, */
#define WORKERS_BUSY_MS		100
/* and for a process that the server has no slot for. */
#define NO_SLOT_MS			10000
/* Shortest time between two wake-ups of readers and workers. */
#define WAKE_INTERVAL_MS	1

/* What this process tends, and what it has done about it. */
typedef struct EsOffice
{
	EsDatabase *db;
	Oid			store;
	bool		check_store;	/* look in the tables whether the store is there, */
	TimestampTz next_check;		/* as from then on */
	bool		synced;			/* the projections are taken in, */
	uint32		changes_seen;	/* after that many changes of their list */
	int64		announced;		/* the head that waiting readers were woken for, */
	int64		recorded;		/* that the mark says, */
	TimestampTz next_mark;		/* and when it may say the next one */
} EsOffice;

static void
leave_office(int code, Datum arg)
{
	const EsOffice *office = (EsOffice *) DatumGetPointer(arg);
	EsDatabase *db = office->db;
	bool		replaced;

	LWLockAcquire(es_registry_lock(), LW_EXCLUSIVE);
	if (db->scheduler_pid == MyProcPid)
	{
		db->scheduler_pid = 0;
		/* ended to make room for a statement is no failure */
		db->scheduler_returned = code == 0 || db->holds > 0;
		pg_atomic_write_u32(&db->scheduler, 0);
		pg_atomic_write_u32(&db->wake_wanted, 0);
	}
	pg_memory_barrier();		/* (4): the twin is in registry.c, leave_slot_at_end */
	replaced = db->store != office->store;
	if (replaced)
		db->scheduler_wanted = true;
	LWLockRelease(es_registry_lock());
	if (replaced)
		es_registry_wake_launcher();
	es_figures_forget_store(office->store);
	es_pool_stir();				/* an idle worker sees whether there still is a store */
}

/*
 * Become the scheduler of this database.  False: there is no store, or another
 * scheduler, or a statement holds the database.
 */
static bool
take_office(EsOffice *office)
{
	EsDatabase *db = NULL;
	const EsCatalog *cat;
	bool		taken = false;

	es_session_begin();
	cat = es_catalog_lock_if_there(AccessShareLock);
	if (cat != NULL)
	{
		db = es_positions_attach(cat);
		es_timeline_settle(db, cat);
		LWLockAcquire(es_registry_lock(), LW_EXCLUSIVE);
		taken = db->scheduler_pid == 0 && db->holds == 0;
		if (taken)
		{
			db->scheduler_pid = MyProcPid;
			db->scheduler_returned = false;
			db->scheduler_wanted = false;
			pg_atomic_write_u32(&db->scheduler, es_compat_proc_number(MyProc) + 1);
			office->db = db;
			office->store = db->store;
		}
		LWLockRelease(es_registry_lock());
		if (taken)
			before_shmem_exit(leave_office, PointerGetDatum(office));
	}
	else if ((db = es_registry_database(MyDatabaseId, false)) != NULL)
	{
		/* Dropped since it was asked for: nothing to come back for. */
		LWLockAcquire(es_registry_lock(), LW_EXCLUSIVE);
		db->scheduler_returned = db->scheduler_pid == 0;
		db->scheduler_wanted = false;
		LWLockRelease(es_registry_lock());
	}
	es_session_finish();
	if (taken)
		es_registry_wake_launcher();	/* the next one may be tried */
	return taken;
}

/*
 * Find the head.  False: the store has gone, or is another one.
 */
static bool
look_at_head(const EsOffice *office, bool check_store, int64 *head)
{
	EsDatabase *db = office->db;
	bool		there = db->store == office->store;

	if (there && pg_atomic_read_u32(&db->sealed) && !check_store)
	{
		*head = es_registry_glance(db);	/* (5) */
		return true;
	}
	es_session_begin();
	{
		const EsCatalog *cat = es_catalog_lock_if_there(AccessShareLock);

		there = cat != NULL && cat->position_register == office->store;
		if (there)
			*head = es_head_glance(cat);
	}
	es_session_finish();
	return there;
}

/* Record the head; false: the store has gone, or is another one. */
static bool
record_head(Oid store, int64 head)
{
	const EsCatalog *cat;
	bool		recorded = false;

	pgstat_report_activity(STATE_RUNNING, "recording the head of the event log");
	es_session_begin();
	cat = es_catalog_lock_if_there(AccessShareLock);
	/* (2): the wait may have been for DROP and CREATE EXTENSION */
	if (cat != NULL && cat->position_register == store)
	{
		if (es_mark_move(cat, head))
			Async_Notify("eventstore", psprintf("%lld", (long long) head));	/* (6) */
		recorded = true;
	}
	es_session_finish();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return recorded;
}

/*
 * Read which projections there are, if that has changed.  False: the store has gone, or
 * is another one.
 */
static bool
sync_projections(EsOffice *office)
{
	uint32		changes = pg_atomic_read_u32(&office->db->projections_changed);
	const EsCatalog *cat;

	if (office->synced && office->changes_seen == changes)
		return true;
	office->synced = false;
	es_session_begin();
	cat = es_catalog_lock_if_there(AccessShareLock);
	if (cat != NULL && cat->position_register == office->store)
	{
		es_projections_sync(cat);
		office->synced = true;
		office->changes_seen = changes;
	}
	es_session_finish();
	return office->synced;
}

/*
 * Does anybody wait for the head to move?  If so, or if there is nothing to do, the next
 * transaction that appended wakes us.
 */
static bool
want_wake_up(const EsOffice *office)
{
	bool		waiters = pg_atomic_read_u32(&office->db->waiters) > 0 ||
		es_figures_count(office->store) > 0;

	if (waiters || office->announced == office->recorded)
	{
		pg_atomic_write_u32(&office->db->wake_wanted, 1);
		pg_memory_barrier();	/* (1) */
	}
	return waiters;
}

/* Wake those who wait for the head to move, if it has. */
static void
announce_head(EsOffice *office, int64 head, bool waiters)
{
	EsDatabase *db = office->db;

	if (head <= office->announced)
		return;
	ConditionVariableBroadcast(&db->head_moved);
	ConditionVariableBroadcast(&db->progress_moved);	/* of inline ones */
	office->announced = head;
	if (waiters)
	{
		/* What ends meanwhile is found by the next look. */
		pg_atomic_write_u32(&db->wake_wanted, 0);
		pg_usleep(WAKE_INTERVAL_MS * 1000L);
		SetLatch(MyLatch);
	}
}

/*
 * Record the head, if it has moved and it is time to.  How long to sleep at most, in
 * milliseconds; -1: the store has gone, or is another one.
 */
static long
record_if_due(EsOffice *office, int64 head, long sleep)
{
	TimestampTz now = GetCurrentTimestamp();

	if (head <= office->recorded)
		return sleep;
	if (now < office->next_mark)
		return Min(sleep, TimestampDifferenceMilliseconds(now, office->next_mark));
	if (!record_head(office->store, head))
		return -1;
	office->recorded = head;
	office->next_mark = TimestampTzPlusMilliseconds(now, MARK_INTERVAL_MS);
	SetLatch(MyLatch);			/* decide anew how to sleep (1) */
	return sleep;
}

/*
 * Have the projections run that are due.  How long to sleep at most, in milliseconds.
 */
static long
serve_projections(const EsOffice *office, int64 head, long sleep)
{
	static bool warned = false;
	EsDatabase *db = office->db;
	TimestampTz next;
	/* while the log can be restored none is run: see worker.c, claim_projection */
	bool		sealed = pg_atomic_read_u32(&db->sealed) != 0;
	int			due = sealed ? es_figures_due(office->store, head, &next) : 0;
	EsShortage	shortage = es_pool_serve(due);

	pg_atomic_write_u32(&db->shortage, shortage);
	if (shortage == ES_SHORTAGE_OF_PROCESSES && !warned)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("eventstore could not start a worker: no background worker slot is free"),
				 errdetail("%d projections wait.", due),
				 errhint("Raise max_worker_processes.")));
	warned = shortage == ES_SHORTAGE_OF_PROCESSES;
	if (due > 0)
		sleep = Min(sleep, shortage == ES_SHORTAGE_OF_PROCESSES ? NO_SLOT_MS : WORKERS_BUSY_MS);
	if (sealed && next != 0)
		sleep = Min(sleep, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next));
	return sleep;
}

/*
 * Is it time to look at the tables, in case a change did not wake us?  How long to sleep at
 * most, in milliseconds.
 */
static long
plan_check(EsOffice *office)
{
	TimestampTz now = GetCurrentTimestamp();

	office->check_store = now >= office->next_check;
	if (office->check_store)
	{
		office->synced = false;
		office->next_check = TimestampTzPlusMilliseconds(now, CHECK_INTERVAL_MS);
	}
	return TimestampDifferenceMilliseconds(now, office->next_check);
}

/* The entry point of the process, found by name when it starts. */
extern PGDLLEXPORT void es_scheduler_main(Datum arg);

void
es_scheduler_main(Datum arg)
{
	static EsOffice office;		/* needed at exit */

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	es_session_set_up();
	if (!take_office(&office))
		return;
	pgstat_report_activity(STATE_IDLE, NULL);

	for (;;)
	{
		int64		head;
		bool		waiters;
		long		sleep;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		sleep = plan_check(&office);
		if (!sync_projections(&office))
			return;
		waiters = want_wake_up(&office);
		if (!look_at_head(&office, office.check_store, &head))
			return;
		announce_head(&office, head, waiters);
		sleep = serve_projections(&office, head, sleep);
		if (pg_atomic_read_u32(&office.db->sealed))
			sleep = es_scavenger_run(office.store, sleep);
		sleep = record_if_due(&office, head, sleep);
		if (sleep < 0)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 sleep, es_wait_event(ES_WAIT_SCHEDULER_MAIN));
		ResetLatch(MyLatch);
	}
}
