/*
 * child.c
 *		The processes that the launcher starts.
 *
 * A dynamic background worker needs one of max_worker_processes.  The server tells the
 * launcher, by a signal that sets its latch, when the process has started and when it has
 * ended (postmaster/bgworker.c, bgw_notify_pid).
 *
 * A launcher that is started again does not know the workers of the former one: they tell it when
 * they leave (worker.c).  Its schedulers stand in their databases' entries.
 *
 * Locks: the databases' and the pool's lock, for moments.
 * Crash: the server ends all of them; none is started again but by the launcher.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/lwlock.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "worker/child.h"
#include "worker/pool.h"

/* A process that was started, or found running. */
typedef struct EsChild
{
	Oid			dboid;
	int			slot;			/* of the pool; -1: a scheduler */
	uint32		use;			/* of the slot */
	BackgroundWorkerHandle *handle; /* NULL: another launcher has started it */
} EsChild;

static List *children = NIL;

/* False: no process is to be had. */
static bool
start(const char *kind, const char *function, Oid dboid, Datum argument, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = argument;
	strlcpy(worker.bgw_library_name, "eventstore", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "eventstore %s for database %u", kind, dboid);
	snprintf(worker.bgw_type, BGW_MAXLEN, "eventstore %s", kind);
	memcpy(worker.bgw_extra, &dboid, sizeof(Oid));
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

static void
add_child(Oid dboid, int slot, uint32 use, BackgroundWorkerHandle *handle)
{
	EsChild    *child = palloc(sizeof(EsChild));

	child->dboid = dboid;
	child->slot = slot;
	child->use = use;
	child->handle = handle;
	children = lappend(children, child);
}

/* What another launcher has left: schedulers that it has started, and what it said. */
void
es_children_take_in(void)
{
	int			n;
	EsDatabase **list = es_databases_list(&n);

	for (int i = 0; i < n; i++)
	{
		pg_atomic_write_u32(&list[i]->shortage, ES_SHORTAGE_NONE);
		pg_atomic_write_u64(&list[i]->waits_since, 0);
		if (list[i]->scheduler_pid != 0)
			add_child(list[i]->dboid, -1, 0, NULL);
	}
	pfree(list);
}

static bool
has_ended(const EsChild *child)
{
	EsDatabase *db;
	pid_t		pid;

	if (child->handle != NULL)
		return GetBackgroundWorkerPid(child->handle, &pid) == BGWH_STOPPED;
	db = es_database_of(child->dboid, false);
	return db == NULL || db->scheduler_pid == 0;
}

static bool
takes_connections(Oid dboid)
{
	MemoryContext context = CurrentMemoryContext;
	HeapTuple	tuple;
	bool		result;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dboid));
	result = HeapTupleIsValid(tuple) && ((Form_pg_database) GETSTRUCT(tuple))->datallowconn;
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return result;
}

/* A process has ended: what does its database need then? */
static void
reap_child(EsChild *child)
{
	EsJob	   *job = es_demand_job(child->dboid, true);
	bool		failed;

	if (child->handle == NULL)
	{
		(void) es_demand_look(job);
		return;
	}
	if (child->slot < 0)
		failed = es_demand_note_end(job);
	else
	{
		pfree(child->handle);
		failed = es_demand_note_worker_end(job, es_pool_give_back(child->slot, child->use));
	}
	if (failed && !takes_connections(child->dboid))
		es_demand_give_up(es_demand_job(child->dboid, true));
}

/* Look which processes have ended. */
void
es_children_reap(void)
{
	ListCell   *lc;

	foreach(lc, children)
	{
		EsChild    *child = lfirst(lc);

		if (!has_ended(child))
			continue;
		children = foreach_delete_current(children, lc);
		reap_child(child);
		pfree(child);
	}
}

/* False: no process is to be had. */
bool
es_child_start_scheduler(EsJob *job)
{
	if (job->db != NULL)
	{
		LWLockAcquire(es_databases_lock(), LW_EXCLUSIVE);
		job->db->scheduler_returned = false;
		LWLockRelease(es_databases_lock());
	}
	if (!start("scheduler", "es_scheduler_main", job->dboid, ObjectIdGetDatum(job->dboid), &job->scheduler))
	{
		job->scheduler = NULL;
		es_demand_note_shortage(job, ES_SHORTAGE_OF_PROCESSES);
		return false;
	}
	job->started = GetCurrentTimestamp();
	add_child(job->dboid, -1, 0, job->scheduler);
	return true;
}

EsShortage
es_child_start_worker(EsJob *job)
{
	uint32		use;
	int			slot = es_pool_take(job->dboid, &use);
	BackgroundWorkerHandle *handle;

	if (slot < 0)
	{
		es_demand_note_shortage(job, ES_SHORTAGE_OF_WORKERS);
		return ES_SHORTAGE_OF_WORKERS;
	}
	if (start("worker", "es_worker_main", job->dboid, Int32GetDatum(slot), &handle))
	{
		add_child(job->dboid, slot, use, handle);
		return ES_SHORTAGE_NONE;
	}
	(void) es_pool_give_back(slot, use);
	es_demand_note_shortage(job, ES_SHORTAGE_OF_PROCESSES);
	return ES_SHORTAGE_OF_PROCESSES;
}
