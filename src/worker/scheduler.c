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
 * It leaves when it has had nothing to do for ES_LINGER_MS, and when the launcher asks it to make
 * way for a process of another database: at once if it has nothing to do, else when the head
 * is recorded.  What is left undone makes the database due again.
 *
 * Invariants
 * 1. wake_wanted is set, with a full barrier, before the head is computed that
 *    decides to sleep: a transaction that ends later finds it set.
 * 2. The head that is recorded was computed before the recording transaction
 *    began (mark.c), for the store that it is recorded in.
 * 3. It sleeps outside of transactions, and holds no snapshot while it does.
 * 4. Nothing is lost while it leaves: it says that nobody is in office, looks once more at all
 *    that it would have been woken for, and goes on, or has a successor started, if there is
 *    anything (log/database.c, 2).
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
/* Shortest time between two wake-ups of readers and workers. */
#define WAKE_INTERVAL_MS	1
/* Least time until a successor looks again, and where projections have found no room. */
#define AGAIN_MS			1000
#define NO_ROOM_MS			10000

/* What this process tends, and what it has done about it. */
typedef struct EsOffice
{
	EsDatabase *db;
	Oid			store;
	bool		store_is_there;
	bool		check_store;	/* look in the tables whether the store is there, */
	TimestampTz next_check;		/* as from then on */
	bool		synced;			/* the projections are taken in, */
	uint32		changes_seen;	/* after that many changes of the tables, */
	int			without_entry;	/* but for those that found no room */
	bool		looked;			/* it has taken a round */
	int64		announced;		/* the head that waiting readers were woken for, */
	TimestampTz announced_at;
	int64		recorded;		/* that the mark says, */
	TimestampTz next_mark;		/* and when it may say the next one */
	TimestampTz busy_at;		/* when there was last anything to do; 0: never */
	bool		to_be_woken;	/* it has set wake_wanted */
} EsOffice;

/* Nobody is in office: is there anything that the scheduler would have been woken for (4)? */
static bool
is_called(const EsOffice *office)
{
	EsDatabase *db = office->db;

	return pg_atomic_read_u64(&db->wanted_since) != 0 ||
		pg_atomic_read_u32(&db->changes) != office->changes_seen ||
		db->store != office->store ||
		(pg_atomic_read_u32(&db->sealed) != 0 && es_registry_glance(db) > office->recorded);
}

/*
 * This process ends: by itself, by an error, or because a statement needs the database to itself.
 * After such a statement nobody comes back at once, unless there is something to do: there may be
 * many, one after the other.
 */
static void
leave_office(int code, Datum arg)
{
	const EsOffice *office = (EsOffice *) DatumGetPointer(arg);
	EsDatabase *db = office->db;
	bool		returns = code == 0;
	bool		evicted;

	LWLockAcquire(es_databases_lock(), LW_EXCLUSIVE);
	evicted = !returns && db->holds > 0;
	if (evicted)
		pg_atomic_write_u64(&db->visit_at, (uint64) TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ES_LINGER_MS));
	if (db->scheduler_pid == MyProcPid)
	{
		db->scheduler_pid = 0;
		db->scheduler_returned = returns || evicted;	/* to make room is no failure */
		pg_atomic_write_u32(&db->scheduler, 0);
		pg_atomic_write_u32(&db->wake_wanted, 0);
	}
	LWLockRelease(es_databases_lock());
	if (returns && !office->store_is_there)
	{
		es_figures_forget_store(office->store);
		(void) es_pool_wake(MyDatabaseId, PG_INT32_MAX);	/* idle workers see it */
	}
	pg_memory_barrier();		/* (4) */
	if (evicted ? is_called(office) : !returns || db->store != office->store)
		es_database_call_scheduler(db);
	else
		es_database_list_due(db);
}

static void
enter_office(EsOffice *office, EsDatabase *db, bool wanted)
{
	pg_atomic_write_u64(&db->make_way, 0);
	pg_atomic_write_u64(&db->visit_at, 0);
	pg_atomic_write_u64(&db->tried_at, 0);
	db->scheduler_pid = MyProcPid;
	db->scheduler_returned = false;
	db->scheduler_rests = false;
	db->in_office_since = GetCurrentTimestamp();
	pg_atomic_write_u32(&db->scheduler, es_compat_proc_number(MyProc) + 1);
	office->db = db;
	office->store = db->store;
	office->store_is_there = true;
	office->busy_at = wanted ? db->in_office_since : 0;
}

/*
 * Become the scheduler of this database.  False: there is no store, or another
 * scheduler, or a statement holds the database.
 */
static bool
take_office(EsOffice *office)
{
	EsDatabase *db = es_database_of(MyDatabaseId, false);
	const EsCatalog *cat;
	bool		taken = false;
	/* before the look: whoever asks from now on may have made the store */
	bool		wanted = db != NULL && pg_atomic_exchange_u64(&db->wanted_since, 0) != 0;

	es_session_begin();
	cat = es_catalog_lock_if_there(AccessShareLock);
	if (cat != NULL)
	{
		db = es_positions_attach(cat);
		es_timeline_settle(db, cat);
		LWLockAcquire(es_databases_lock(), LW_EXCLUSIVE);
		taken = db->scheduler_pid == 0 && db->holds == 0;
		if (taken)
			enter_office(office, db, wanted);
		else
			db->scheduler_returned = true;	/* kept out by a statement, it has not failed */
		LWLockRelease(es_databases_lock());
		if (taken)
			before_shmem_exit(leave_office, PointerGetDatum(office));
		else
			es_database_call_scheduler(db);
	}
	else if (db != NULL)
	{
		/* Dropped since it was asked for: nothing to come back for. */
		LWLockAcquire(es_databases_lock(), LW_EXCLUSIVE);
		db->scheduler_returned = db->scheduler_pid == 0;
		LWLockRelease(es_databases_lock());
		es_figures_forget_store(db->store);
		pg_atomic_write_u64(&db->visit_at, 0);
	}
	es_session_finish();
	if (taken)
		es_launcher_wake();		/* the next one may be visited */
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
	uint32		changes = pg_atomic_read_u32(&office->db->changes);
	const EsCatalog *cat;

	if (office->synced && office->changes_seen == changes)
		return true;
	if (office->changes_seen != changes)
		es_scavenger_note_change();
	office->synced = false;
	es_session_begin();
	cat = es_catalog_lock_if_there(AccessShareLock);
	if (cat != NULL && cat->position_register == office->store)
	{
		office->without_entry = es_projections_sync(cat);
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
want_wake_up(EsOffice *office)
{
	bool		waiters = pg_atomic_read_u32(&office->db->waiters) > 0 ||
		es_figures_count(office->store) > 0;

	office->to_be_woken = waiters || office->announced == office->recorded;
	if (office->to_be_woken)
	{
		pg_atomic_write_u32(&office->db->wake_wanted, 1);
		pg_memory_barrier();	/* (1) */
	}
	return waiters;
}

/*
 * Wake those who wait for the head to move, if it has.  If that was done a moment ago, first
 * let the moment pass: what ends meanwhile is told with it.
 */
static void
announce_head(EsOffice *office, int64 head, bool waiters)
{
	EsDatabase *db = office->db;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = office->announced_at + WAKE_INTERVAL_MS * INT64CONST(1000);

	if (head <= office->announced)
		return;
	if (waiters && now < next)
	{
		pg_atomic_write_u32(&db->wake_wanted, 0);
		pg_usleep(next - now);
		SetLatch(MyLatch);		/* decide anew how to sleep (1) */
		return;
	}
	ConditionVariableBroadcast(&db->head_moved);
	ConditionVariableBroadcast(&db->progress_moved);	/* of inline ones */
	office->announced = head;
	office->announced_at = now;
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
 * Have the projections run that are due: wake workers, or let the launcher see to it.  How long
 * to sleep at most, in milliseconds.
 */
static long
serve_projections(const EsOffice *office, int64 head, long sleep)
{
	EsDatabase *db = office->db;
	EsDue		due;

	/* while the log can be restored none is run: see worker.c, claim_projection */
	if (pg_atomic_read_u32(&db->sealed) == 0)
		return sleep;
	due = es_figures_due(db->dboid, office->store, head);
	if (due.waiting > 0 && es_pool_wake(db->dboid, due.waiting) < due.waiting &&
		pg_atomic_read_u64(&db->waits_since) == 0)
		es_database_list_due(db);
	if (due.next != 0)
		sleep = Min(sleep, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due.next));
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

/* Whoever has called during this round is heard, though a wait for a lock resets our latch. */
static void
heed_calls(const EsOffice *office)
{
	EsDatabase *db = office->db;

	if (pg_atomic_read_u64(&db->wanted_since) != 0 ||
		pg_atomic_read_u32(&db->changes) != office->changes_seen ||
		(office->to_be_woken && pg_atomic_read_u32(&db->wake_wanted) == 0))
		SetLatch(MyLatch);
}

/* ---- leaving ---- */

/* When a successor is wanted though nobody asks for one; 0: never. */
static TimestampTz
next_visit(const EsOffice *office)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz room = TimestampTzPlusMilliseconds(now, NO_ROOM_MS);
	TimestampTz at = es_scavenger_next(office->db);

	if (office->without_entry > 0 && (at == 0 || room < at))
		at = room;
	return at == 0 ? 0 : Max(at, TimestampTzPlusMilliseconds(now, AGAIN_MS));
}

/* Leave, unless there is something to do after all.  Has it left? */
static bool
leave(EsOffice *office, int64 head, bool make_way)
{
	EsDatabase *db = office->db;

	pg_atomic_write_u64(&db->visit_at, (uint64) next_visit(office));
	es_figures_rest(office->store, head);
	pg_atomic_write_u32(&db->wake_wanted, 0);
	pg_atomic_write_u32(&db->scheduler, 0);
	pg_memory_barrier();
	if (!is_called(office))
		return true;
	if (make_way)
	{
		es_database_call_scheduler(db);
		return true;
	}
	pg_atomic_write_u64(&db->visit_at, 0);
	pg_atomic_write_u32(&db->scheduler, es_compat_proc_number(MyProc) + 1);
	pg_memory_barrier();
	office->synced = false;		/* its entries may have made room for others */
	return false;
}

/*
 * Is it time to leave?  "called": this round has found something to do.  How long to sleep at
 * most, in milliseconds; -1: it has left.
 */
static long
plan_leave(EsOffice *office, int64 head, bool called, long sleep)
{
	EsDatabase *db = office->db;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end;
	bool		make_way = pg_atomic_read_u64(&db->make_way) != 0;
	bool		told = head <= Min(office->recorded, office->announced);
	bool		rests = told && !es_scavenger_is_at_work();

	db->scheduler_rests = rests;
	if (!told || called)
		office->busy_at = now;	/* but not by a pass: that comes again and again */
	end = TimestampTzPlusMilliseconds(office->busy_at, office->busy_at != 0 ? ES_LINGER_MS : 0);
	if (make_way ? told : rests && now >= end)
		return leave(office, head, make_way) ? -1 : 0;
	return rests ? Min(sleep, TimestampDifferenceMilliseconds(now, end)) : sleep;
}

/* ---- the process ---- */

/* One look at all that there is to do.  How long to sleep; -1: it has left. */
static long
take_round(EsOffice *office)
{
	EsDatabase *db = office->db;
	int64		head;
	bool		waiters;
	bool		called;
	long		sleep = plan_check(office);

	if (pg_atomic_read_u64(&db->wanted_since) != 0)
		(void) pg_atomic_exchange_u64(&db->wanted_since, 0);	/* what is wanted is looked for now */
	called = office->looked && pg_atomic_read_u32(&db->changes) != office->changes_seen;
	office->store_is_there = false;
	if (!sync_projections(office))
		return -1;
	waiters = want_wake_up(office);
	if (!look_at_head(office, office->check_store, &head))
		return -1;
	called |= office->looked && head > office->announced;
	office->looked = true;
	announce_head(office, head, waiters);
	sleep = serve_projections(office, head, sleep);
	if (pg_atomic_read_u32(&db->sealed))
		sleep = es_scavenger_run(db, sleep);
	sleep = record_if_due(office, head, sleep);
	if (sleep < 0)
		return -1;
	office->store_is_there = true;
	heed_calls(office);
	return plan_leave(office, head, called, sleep);
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
		long		sleep;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		sleep = take_round(&office);
		if (sleep < 0)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 sleep, es_wait_event(ES_WAIT_SCHEDULER_MAIN));
		ResetLatch(MyLatch);
	}
}
