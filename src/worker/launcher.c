/*
 * launcher.c
 *		The process that starts all others, where something is due.
 *
 * It is connected to no database, and sleeps until shared memory says that something has
 * happened (log/database.c), a process that it started has ended, or the time of a job has
 * come.  What each database needs is decided in demand.c; here processes are started, in the
 * order in which databases began to wait, and, where there are none to be had, others are
 * asked to make way (way.c).
 *
 * Shared memory is empty after a start, a crash and a promotion.  So each database that
 * takes connections is visited once by a scheduler, VISITS_AT_ONCE at a time: one that finds
 * no store, or nothing to do, leaves at once.
 *
 * Invariants
 * 1. Only the launcher starts processes of the store.
 * 2. Who has waited longest gets the next process.
 * 3. What a database waits for is shown in its entry, and starvation in the server's log: one
 *    line when it begins, and one when it has been over for STARVED_OVER_MS.
 *
 * Locks: those of demand.c.
 * Crash: the postmaster restarts the launcher after 5 s.  Processes that still run then keep
 * running; the new launcher takes them in.
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
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/wait_event.h"
#include "worker/child.h"
#include "worker/demand.h"
#include "worker/launcher.h"
#include "worker/pool.h"
#include "worker/way.h"

/* Longest time between two looks at all databases. */
#define NAP_MS				10000
/* Time to the next try while somebody waits: others are about to leave, or nobody is. */
#define RETRY_SOON_MS		50
#define RETRY_LATER_MS		1000
/* Visits under way at the same time, and the time for which one counts as under way. */
#define VISITS_AT_ONCE		2
#define VISIT_MS			10000
/* Time after which waiting is starvation, and without it after which that is over. */
#define STARVED_MS			10000
#define STARVED_OVER_MS		60000

typedef struct EsVisit
{
	Oid			dboid;			/* InvalidOid: none */
	TimestampTz begun;
} EsVisit;

static MemoryContext launcher_context;
static List *to_visit = NIL;	/* OIDs of databases */
static EsVisit visits[VISITS_AT_ONCE];
static TimestampTz starving_since = 0;	/* 0: nobody starves */
static TimestampTz last_starved = 0;

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

/* ---- the queue ---- */

/*
 * Start what is wanted, the longest waiting first (2).  What is there too little of?  Once
 * workers are, those who want no more than one stay as they are, unlooked at: there may be
 * thousands.
 */
static EsShortage
serve_queue(void)
{
	EsShortage	shortage = ES_SHORTAGE_NONE;
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, es_demand_queue())
	{
		EsJob	   *job = dlist_container(EsJob, node, iter.cur);
		EsShortage	found = ES_SHORTAGE_NONE;
		bool		served = false;

		if (shortage == ES_SHORTAGE_OF_WORKERS && !job->wants_scheduler)
		{
			es_demand_note_shortage(job, shortage);
			continue;
		}
		if (!es_demand_look(job))
			continue;
		if (job->wants_scheduler)
		{
			served = es_child_start_scheduler(job);
			found = served ? ES_SHORTAGE_NONE : ES_SHORTAGE_OF_PROCESSES;
		}
		if (found == ES_SHORTAGE_NONE && job->wants_worker)
		{
			found = es_child_start_worker(job);
			served |= found == ES_SHORTAGE_NONE;
		}
		if (served)
			es_demand_note_served(job);
		if (found != ES_SHORTAGE_NONE)
			shortage = found;
		if (shortage == ES_SHORTAGE_OF_PROCESSES)
		{
			es_demand_note_no_process();
			break;
		}
	}
	return shortage;
}

/* ---- visits ---- */

/* Have each database visited that takes connections. */
static void
plan_visits(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	list_free(to_visit);
	to_visit = NIL;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(launcher_context);

		if (form->datallowconn && !form->datistemplate)
			to_visit = lappend_oid(to_visit, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(launcher_context);
}

/* One that waits for long, for a lock perhaps, does not keep the others out. */
static bool
is_under_way(const EsVisit *visit, TimestampTz now)
{
	EsJob	   *job = OidIsValid(visit->dboid) ? es_demand_job(visit->dboid, false) : NULL;
	EsDatabase *db;

	if (job == NULL || !job->visit)
		return false;
	db = es_database_of(visit->dboid, false);
	if (db != NULL && pg_atomic_read_u32(&db->scheduler) != 0)
		return false;
	return job->queued_at != 0 || !TimestampDifferenceExceeds(visit->begun, now, VISIT_MS);
}

static void
go_on_visiting(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < VISITS_AT_ONCE && to_visit != NIL; i++)
	{
		EsJob	   *job;

		if (is_under_way(&visits[i], now))
			continue;
		visits[i].dboid = linitial_oid(to_visit);
		visits[i].begun = now;
		to_visit = list_delete_first(to_visit);
		job = es_demand_job(visits[i].dboid, true);
		job->visit = true;
		(void) es_demand_look(job);
	}
}

/* ---- waiting ---- */

/* How many wait for their only process, and since when the first of those starves. */
static int
count_waiting(TimestampTz now, TimestampTz *starves_since)
{
	int			waiting = 0;
	dlist_iter	iter;

	*starves_since = 0;
	dlist_foreach(iter, es_demand_queue())
	{
		EsJob	   *job = dlist_container(EsJob, node, iter.cur);

		/* without workers projections are not meant to be run; with some, they take turns */
		if (!job->wants_scheduler && (es_guc_max_workers == 0 || es_pool_count(job->dboid).all > 0))
			continue;
		waiting++;
		if (*starves_since == 0 && TimestampDifferenceExceeds(job->queued_at, now, STARVED_MS))
			*starves_since = job->queued_at;
	}
	return waiting;
}

/* Log the beginning and the end of starvation (3). */
static void
log_starvation(EsShortage shortage)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since;
	int			waiting = count_waiting(now, &since);

	if (since != 0)
		last_starved = now;
	if (since != 0 && starving_since == 0)
	{
		starving_since = since;
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg_plural("%d database waits for a background process of eventstore, the first for %d s",
							   "%d databases wait for a background process of eventstore, the first for %d s",
							   waiting, waiting, (int) ((now - since) / USECS_PER_SEC)),
				 errdetail("Appends and reads work. What waits is shown in eventstore.status of each database."),
				 errhint("Raise %s.", shortage == ES_SHORTAGE_OF_WORKERS ?
						 "eventstore.max_workers" : "max_worker_processes")));
	}
	else if (starving_since != 0 && TimestampDifferenceExceeds(last_starved, now, STARVED_OVER_MS))
	{
		ereport(LOG,
				(errmsg("no database waits for a background process of eventstore any more"),
				 errdetail("Some did for %d s.", (int) ((last_starved - starving_since) / USECS_PER_SEC))));
		starving_since = 0;
	}
}

/* How long to sleep at most, in milliseconds. */
static long
plan_sleep(EsShortage shortage, bool others_leave)
{
	long		sleep = NAP_MS;
	TimestampTz next = es_demand_look_at_timed();

	if (next != 0)
		sleep = Min(sleep, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next));
	if (shortage == ES_SHORTAGE_OF_PROCESSES || (shortage != ES_SHORTAGE_NONE && es_guc_max_workers > 0))
		sleep = Min(sleep, others_leave ? RETRY_SOON_MS : RETRY_LATER_MS);
	return sleep;
}

/* ---- the process ---- */

static void
launcher_gone(int code, Datum arg)
{
	es_launcher_set(false);
}

/* Settings say when removed ids are forgotten and hidden events removed: look anew. */
static void
reload(void)
{
	int			scavenge_interval = es_guc_scavenge_interval;
	int			remember_ids = es_guc_remember_ids;

	ProcessConfigFile(PGC_SIGHUP);
	if (scavenge_interval != es_guc_scavenge_interval || remember_ids != es_guc_remember_ids)
		plan_visits();
}

static void
take_rounds(void)
{
	TimestampTz swept = GetCurrentTimestamp();

	for (;;)
	{
		EsShortage	shortage;
		bool		others_leave = false;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			reload();
		}
		es_children_reap();
		es_demand_look_at_due();
		(void) es_demand_look_at_timed();
		if (TimestampDifferenceExceeds(swept, GetCurrentTimestamp(), NAP_MS))
		{
			es_demand_look_at_all(true);
			swept = GetCurrentTimestamp();
		}
		go_on_visiting();
		shortage = serve_queue();
		if (shortage != ES_SHORTAGE_NONE)
			others_leave = es_way_make(shortage);
		log_starvation(shortage);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 plan_sleep(shortage, others_leave), es_wait_event(ES_WAIT_LAUNCHER_MAIN));
		ResetLatch(MyLatch);
	}
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

	launcher_context = AllocSetContextCreate(TopMemoryContext, "eventstore launcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(launcher_context);
	es_demand_init(launcher_context);
	before_shmem_exit(launcher_gone, (Datum) 0);
	es_launcher_set(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	es_children_take_in();
	plan_visits();
	es_demand_look_at_all(false);
	take_rounds();
}
