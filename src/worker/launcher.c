/*
 * launcher.c
 *		The process that keeps a scheduler running in each database with a log.
 *
 * It is connected to no database.  When it starts it tries every database that
 * takes connections: a scheduler that finds no store there returns at once.
 * Later an append that finds no scheduler asks for one (registry.c), so neither
 * CREATE EXTENSION nor CREATE DATABASE has to call it.  README.md in this folder has
 * the states and what each event does.
 *
 * Invariants
 * 1. At most one scheduler is started by us per database; the scheduler itself
 *    makes sure that there is no other one.
 * 2. A scheduler that fails comes back after a delay that doubles up to a
 *    minute; one that returned (no store) does not, until it is asked for.
 * 3. Nothing is started in a database while a statement holds it (evict.c).
 *
 * Locks: the registry's LWLock, for moments.
 * Crash: the postmaster restarts the launcher after 5 s.  Schedulers that still
 * run then keep running: a second one sees that and returns.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/wait_event.h"
#include "log/registry.h"
#include "worker/launcher.h"

/* Longest time between two looks at all databases. */
#define NAP_MS				10000
/* Delay before the next try when no background worker slot was free. */
#define NO_SLOT_MS			10000
/* Delay before a scheduler that failed is started again: the first; it doubles. */
#define FIRST_DELAY_MS		1000
#define GREATEST_DELAY_MS	60000
/* Uptime that resets the restart delay. */
#define WELL_AFTER_MS		60000
/* Schedulers that may be starting at the same time: they have not found a store yet. */
#define TRIED_AT_ONCE		2
/* Time for which one that has not found a store yet counts as starting. */
#define TRIED_FOR_MS		10000

/* A database, as the launcher knows it. */
typedef struct EsJob
{
	Oid			dboid;
	bool		wanted;			/* a scheduler should run */
	BackgroundWorkerHandle *handle; /* of the one that was started */
	TimestampTz started;
	TimestampTz not_before;
	int			failures;
} EsJob;

static MemoryContext jobs_context;
static EsJob *jobs = NULL;
static int	njobs = 0;
static bool warned_no_slot = false;

void
es_launcher_init(void)
{
	BackgroundWorker worker = {0};

	if (IsBinaryUpgrade)
		return;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "eventstore", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "es_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "eventstore launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "eventstore launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* The job of a database, which is made if there is none. */
static EsJob *
job_of(Oid dboid)
{
	for (int i = 0; i < njobs; i++)
	{
		if (jobs[i].dboid == dboid)
			return &jobs[i];
	}
	if (jobs == NULL)
		jobs = MemoryContextAlloc(jobs_context, sizeof(EsJob));
	else
		jobs = repalloc(jobs, sizeof(EsJob) * (njobs + 1));
	memset(&jobs[njobs], 0, sizeof(EsJob));
	jobs[njobs].dboid = dboid;
	return &jobs[njobs++];
}

/* A database without a store, or that was dropped, needs no job until somebody asks for it. */
static void
forget_unwanted_jobs(void)
{
	int			kept = 0;

	for (int i = 0; i < njobs; i++)
	{
		if (jobs[i].wanted || jobs[i].handle != NULL)
			jobs[kept++] = jobs[i];
	}
	njobs = kept;
}

static void
try_all_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (form->datallowconn && !form->datistemplate)
			job_of(form->oid)->wanted = true;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}

/* Take what the backends have asked for in shared memory. */
static void
take_requests(void)
{
	int			n;
	EsDatabase *databases;

	LWLockAcquire(es_registry_lock(), LW_EXCLUSIVE);
	databases = es_registry_databases(&n);
	for (int i = 0; i < n; i++)
	{
		if (!OidIsValid(databases[i].dboid) || !databases[i].scheduler_wanted)
			continue;
		/* the scheduler clears the flag when it takes office */
		job_of(databases[i].dboid)->wanted = true;
	}
	LWLockRelease(es_registry_lock());
}

/* What the database's entry in shared memory says. */
typedef struct EntryState
{
	bool		there;			/* a store was found */
	bool		running;		/* its scheduler has said that it is there */
	bool		held;			/* a statement keeps it out */
} EntryState;

static EntryState
look_at_entry(Oid dboid)
{
	EsDatabase *db = es_registry_database(dboid, false);
	EntryState	state = {false, false, false};

	state.there = db != NULL;
	state.running = db != NULL && pg_atomic_read_u32(&db->scheduler) != 0;
	state.held = db != NULL && db->holds > 0;
	return state;
}

/* A scheduler that was started has ended: did it return, or fail? */
static void
note_end(EsJob *job)
{
	EsDatabase *db = es_registry_database(job->dboid, false);
	TimestampTz now = GetCurrentTimestamp();
	long		delay;

	pfree(job->handle);
	job->handle = NULL;
	if (db == NULL || db->scheduler_returned)
	{
		job->wanted = false;
		job->failures = 0;
		return;
	}
	if (TimestampDifferenceExceeds(job->started, now, WELL_AFTER_MS))
		job->failures = 0;
	delay = Min((long) FIRST_DELAY_MS << Min(job->failures, 10), GREATEST_DELAY_MS);
	job->failures++;
	job->wanted = true;
	job->not_before = TimestampTzPlusMilliseconds(now, delay);
}

static void
start_scheduler(EsJob *job)
{
	BackgroundWorker worker = {0};
	MemoryContext old;
	bool		started;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(job->dboid);
	strlcpy(worker.bgw_library_name, "eventstore", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "es_scheduler_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "eventstore scheduler for database %u", job->dboid);
	strlcpy(worker.bgw_type, "eventstore scheduler", BGW_MAXLEN);

	old = MemoryContextSwitchTo(jobs_context);
	started = RegisterDynamicBackgroundWorker(&worker, &job->handle);
	MemoryContextSwitchTo(old);

	job->started = GetCurrentTimestamp();
	if (started)
	{
		warned_no_slot = false;
		return;
	}
	job->handle = NULL;
	job->not_before = TimestampTzPlusMilliseconds(job->started, NO_SLOT_MS);
	if (!warned_no_slot)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("eventstore could not start a scheduler for database %u: no background worker slot is free",
						job->dboid),
				 errdetail("Appends and reads work; waiting readers look once a second, standbys do not move on."),
				 errhint("Raise max_worker_processes.")));
	warned_no_slot = true;
}

/* Note which schedulers have ended.  The number of those that have not found a store yet. */
static int
look_after_started(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			being_tried = 0;

	for (int i = 0; i < njobs; i++)
	{
		EsJob	   *job = &jobs[i];
		pid_t		pid;

		if (job->handle != NULL &&
			GetBackgroundWorkerPid(job->handle, &pid) == BGWH_STOPPED)
			note_end(job);
		/* one that has been waiting for long (for a lock) does not keep others out */
		if (job->handle != NULL && !look_at_entry(job->dboid).running &&
			!TimestampDifferenceExceeds(job->started, now, TRIED_FOR_MS))
			being_tried++;
	}
	return being_tried;
}

/*
 * Start the schedulers that are wanted.  How long to sleep at most, in milliseconds.
 */
static long
start_wanted(int being_tried)
{
	TimestampTz now = GetCurrentTimestamp();
	long		sleep = NAP_MS;

	for (int i = 0; i < njobs; i++)
	{
		EsJob	   *job = &jobs[i];
		EntryState	entry;

		if (!job->wanted || job->handle != NULL)
			continue;
		entry = look_at_entry(job->dboid);
		if (job->failures > 0 && !entry.there)
			job->wanted = false;	/* the database has been dropped */
		if (!job->wanted || entry.running || entry.held)
			continue;
		if (job->not_before > now)
			sleep = Min(sleep, TimestampDifferenceMilliseconds(now, job->not_before));
		else if (being_tried < TRIED_AT_ONCE)
		{
			start_scheduler(job);
			being_tried++;
		}
	}
	return sleep;
}

static void
launcher_gone(int code, Datum arg)
{
	es_registry_set_launcher(false);
}

/* The entry point of the process, found by name when it starts. */
extern PGDLLEXPORT void es_launcher_main(Datum arg);

void
es_launcher_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	jobs_context = AllocSetContextCreate(TopMemoryContext, "eventstore launcher",
										 ALLOCSET_DEFAULT_SIZES);
	before_shmem_exit(launcher_gone, (Datum) 0);
	es_registry_set_launcher(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	try_all_databases();

	for (;;)
	{
		int			being_tried;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		/* in this order: a request may be for the successor of one that ended */
		being_tried = look_after_started();
		forget_unwanted_jobs();
		take_requests();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 start_wanted(being_tried), es_wait_event(ES_WAIT_LAUNCHER_MAIN));
		ResetLatch(MyLatch);
	}
}
