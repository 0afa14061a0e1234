/*
 * demand.c
 *		What each database needs of the launcher: a scheduler, a worker, or to be looked at
 *		later.
 *
 * The launcher keeps a job for each database that needs something, has a process, or is to
 * be looked at at a certain time.  What it needs is found in shared memory alone: whether a
 * scheduler is wanted (log/database.c), and how many of its projections are due
 * (projections/figures.c).  Jobs that need a process stand in a queue, in the order in which
 * they began to.
 *
 * Invariants
 * 1. A job is in the queue if and only if it wants a process; it goes to the end when it has
 *    got one and wants another.
 * 2. Nothing is wanted in a database that a statement holds (evict.c): the end of the hold
 *    lists it as due.
 * 3. One scheduler at a time: none is wanted before the last has ended and the entry names no
 *    other.  It is wanted later if the last one failed: after 1 s, 2 s … 60 s.  So is a worker
 *    after one that could not begin to work.
 * 4. A projection that is due while all workers of its database are busy gets another worker
 *    only after PATIENCE_MS: one of them has nearly always finished before a process has
 *    started.  It never has more workers than projections that are due or running.
 *
 * Locks: the databases', the pool's and the figures' lock, one at a time, for moments.
 * Crash: the jobs are the launcher's own; the next launcher has each database visited.
 */
#include "postgres.h"

#include "storage/condition_variable.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "log/registry.h"
#include "projections/figures.h"
#include "worker/demand.h"
#include "worker/pool.h"

/* Time for which a projection waits for a busy worker of its database. */
#define PATIENCE_MS			50
/* Delay before a scheduler that failed is started again: the first; it doubles. */
#define FIRST_DELAY_MS		1000
#define GREATEST_DELAY_MS	60000
/* Uptime that resets that delay. */
#define WELL_AFTER_MS		60000

static HTAB *jobs = NULL;
static dlist_head queue = DLIST_STATIC_INIT(queue);
static TimestampTz next_look = 0;	/* the least look_at; 0: there is none */

void
es_demand_init(MemoryContext context)
{
	HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(EsJob), .hcxt = context};

	jobs = hash_create("eventstore jobs", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* The job of a database.  If there is none, make one, or return NULL. */
EsJob *
es_demand_job(Oid dboid, bool create)
{
	bool		found;
	EsJob	   *job = hash_search(jobs, &dboid, create ? HASH_ENTER : HASH_FIND, &found);

	if (create && !found)
	{
		memset(job, 0, sizeof(EsJob));
		job->dboid = dboid;
	}
	return job;
}

dlist_head *
es_demand_queue(void)
{
	return &queue;
}

/* ---- the queue ---- */

/* Look again at that time, or before. */
static void
look_later(EsJob *job, TimestampTz at)
{
	if (job->look_at == 0 || at < job->look_at)
		job->look_at = at;
	if (next_look == 0 || at < next_look)
		next_look = at;
}

void
es_demand_note_shortage(EsJob *job, EsShortage shortage)
{
	if (job->db != NULL)
		pg_atomic_write_u32(&job->db->shortage, shortage);
}

/*
 * No process is to be had: say so of all who wait, to whom serve_queue() did not come.  The last
 * ones are new; from one that has been told so on, all before it have been.
 */
void
es_demand_note_no_process(void)
{
	dlist_iter	iter;

	dlist_reverse_foreach(iter, &queue)
	{
		EsJob	   *job = dlist_container(EsJob, node, iter.cur);

		if (job->db == NULL)
			continue;
		if (pg_atomic_read_u32(&job->db->shortage) == ES_SHORTAGE_OF_PROCESSES)
			break;
		es_demand_note_shortage(job, ES_SHORTAGE_OF_PROCESSES);
	}
}

static void
show_waiting(EsJob *job, TimestampTz since)
{
	if (job->db == NULL)
		return;
	if (since == 0)
		pg_atomic_write_u32(&job->db->shortage, ES_SHORTAGE_NONE);
	pg_atomic_write_u64(&job->db->waits_since, (uint64) since);
}

/* Enter or leave the queue, as the job wants (1). */
static void
queue_job(EsJob *job, TimestampTz now)
{
	bool		wants = job->wants_scheduler || job->wants_worker;

	if (wants && job->queued_at == 0)
	{
		dlist_push_tail(&queue, &job->node);
		job->queued_at = now;
	}
	else if (!wants && job->queued_at != 0)
	{
		dlist_delete(&job->node);
		job->queued_at = 0;
		show_waiting(job, 0);
	}
	if (wants)
		show_waiting(job, job->queued_at);
}

/* ---- what a database needs ---- */

static bool
wants_scheduler(EsJob *job, TimestampTz now)
{
	EsDatabase *db = job->db;
	uint64		visit_at = db != NULL ? pg_atomic_read_u64(&db->visit_at) : 0;
	bool		wanted = job->visit || (db != NULL && pg_atomic_read_u64(&db->wanted_since) != 0);

	if (!wanted && visit_at != 0 && (TimestampTz) visit_at > now)
		look_later(job, (TimestampTz) visit_at);
	else if (visit_at != 0)
		wanted = true;
	if (!wanted || job->scheduler != NULL || (db != NULL && db->scheduler_pid != 0))
		return false;			/* (3) */
	if (job->not_before > now)
	{
		look_later(job, job->not_before);
		return false;
	}
	return true;
}

/* Those who wait for the head to move need no scheduler to see that it has. */
static void
serve_waiters(EsDatabase *db)
{
	if (pg_atomic_read_u32(&db->waiters) > 0)
		ConditionVariableBroadcast(&db->head_moved);
	ConditionVariableBroadcast(&db->progress_moved);	/* of inline projections */
}

static bool
wants_worker(EsJob *job, TimestampTz now, bool in_office)
{
	EsDatabase *db = job->db;
	EsDue		due = {0};
	EsWorkers	workers;
	bool		wants;

	/* while the log can be restored none is run: see worker.c, claim_projection */
	if (pg_atomic_read_u32(&db->sealed) != 0)
		due = es_figures_due(db->dboid, db->store, es_registry_glance(db));
	if (due.next != 0 && !in_office)
		look_later(job, due.next);
	if (due.waiting == 0 || es_pool_wake(db->dboid, due.waiting) >= due.waiting)
	{
		job->hungry_since = 0;
		return false;
	}
	if (job->hungry_since == 0)
		job->hungry_since = now;
	if (job->no_worker_before > now)
	{
		look_later(job, job->no_worker_before);
		return false;			/* (3) */
	}
	workers = es_pool_count(db->dboid);
	wants = workers.all == 0 ||
		(workers.starting == 0 && workers.all < due.waiting + due.running &&
		 TimestampDifferenceExceeds(job->hungry_since, now, PATIENCE_MS));	/* (4) */
	if (!wants)
		look_later(job, TimestampTzPlusMilliseconds(now, PATIENCE_MS));
	return wants;
}

/* Does nothing of the job need to be remembered? */
static bool
is_done(const EsJob *job)
{
	return !job->visit && job->scheduler == NULL && job->queued_at == 0 && job->look_at == 0 &&
		job->failures == 0 && job->worker_failures == 0 && job->hungry_since == 0;
}

/*
 * Find out what a database needs.  False: no process, and the job may be gone.
 */
bool
es_demand_look(EsJob *job)
{
	TimestampTz now = GetCurrentTimestamp();
	EsDatabase *db = es_database_of(job->dboid, false);

	job->db = db;
	job->look_at = 0;
	job->wants_scheduler = job->wants_worker = false;
	if (db == NULL)
	{
		job->hungry_since = 0;
		job->wants_scheduler = wants_scheduler(job, now);
	}
	else if (db->holds == 0)	/* (2) */
	{
		bool		in_office = pg_atomic_read_u32(&db->scheduler) != 0;
		bool		wanted = pg_atomic_read_u64(&db->wanted_since) != 0;

		if (wanted && in_office)
			es_database_wake_scheduler(db);
		else if (wanted)
			serve_waiters(db);
		if (in_office)
			job->visit = false;
		else
			job->wants_scheduler = wants_scheduler(job, now);
		job->wants_worker = wants_worker(job, now, in_office);
	}
	queue_job(job, now);
	if (job->queued_at != 0)
		return true;
	if (is_done(job))
		(void) hash_search(jobs, &job->dboid, HASH_REMOVE, NULL);
	return false;
}

/* A process was started for it: what else it wants, it waits for behind the others. */
void
es_demand_note_served(EsJob *job)
{
	dlist_delete(&job->node);
	job->queued_at = 0;
	show_waiting(job, 0);
	(void) es_demand_look(job);
}

/* Look at the databases that have entered the list of those that are due. */
void
es_demand_look_at_due(void)
{
	EsDatabase *chain = es_due_take();
	EsDatabase *db;

	while ((db = es_due_next(&chain)) != NULL)
	{
		Oid			dboid = db->dboid;

		if (!db->dropped)
			(void) es_demand_look(es_demand_job(dboid, true));
		else
		{
			EsJob	   *job = es_demand_job(dboid, false);

			(void) es_database_free_dropped(dboid);
			if (job != NULL)
			{
				job->visit = false;
				job->failures = job->worker_failures = 0;
				(void) es_demand_look(job);
			}
		}
	}
}

/*
 * Look at all, or at those alone that wait, and, as a net, that somebody should have looked at.
 */
void
es_demand_look_at_all(bool known_only)
{
	TimestampTz now = GetCurrentTimestamp();
	int			n;
	EsDatabase **list = es_databases_list(&n);

	for (int i = 0; i < n; i++)
	{
		EsDatabase *db = list[i];
		uint64		visit_at = pg_atomic_read_u64(&db->visit_at);

		if (!known_only || pg_atomic_read_u64(&db->waits_since) != 0 ||
			pg_atomic_read_u64(&db->wanted_since) != 0 || pg_atomic_read_u32(&db->due) != 0 ||
			(visit_at != 0 && (TimestampTz) visit_at <= now))
			(void) es_demand_look(es_demand_job(db->dboid, true));
	}
	pfree(list);
}

/* Look at those whose time has come.  When the next one's will; 0: there is none. */
TimestampTz
es_demand_look_at_timed(void)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS status;
	EsJob	   *job;

	if (next_look == 0 || next_look > now)
		return next_look;
	next_look = 0;
	hash_seq_init(&status, jobs);
	while ((job = hash_seq_search(&status)) != NULL)
	{
		if (job->look_at != 0 && job->look_at <= now)
			(void) es_demand_look(job); /* it may remove the job it is given, no other */
		else if (job->look_at != 0)
			look_later(job, job->look_at);
	}
	return next_look;
}

/* When to try again after that many failures. */
static TimestampTz
time_to_retry(TimestampTz now, int failures)
{
	return now + Min((int64) FIRST_DELAY_MS << Min(failures, 10), GREATEST_DELAY_MS) * 1000;
}

/* A scheduler that was started has ended.  True: it has failed, and is tried again later. */
bool
es_demand_note_end(EsJob *job)
{
	EsDatabase *db = es_database_of(job->dboid, false);
	TimestampTz now = GetCurrentTimestamp();
	bool		failed = db != NULL && !db->scheduler_returned;

	pfree(job->scheduler);
	job->scheduler = NULL;
	job->visit = false;
	if (!failed || TimestampDifferenceExceeds(job->started, now, WELL_AFTER_MS))
		job->failures = 0;
	if (failed)
	{
		job->not_before = time_to_retry(now, job->failures++);
		es_database_call_scheduler(db);
	}
	if (db != NULL)
		pg_atomic_write_u64(&db->tried_at, failed ? (uint64) job->not_before : 0);
	(void) es_demand_look(job);
	return failed;
}

/* A worker that was started has ended.  True: it could not begin to work. */
bool
es_demand_note_worker_end(EsJob *job, bool never_entered)
{
	EsDatabase *db = es_database_of(job->dboid, false);
	bool		failed = db != NULL && (pg_atomic_exchange_u32(&db->worker_failed, 0) != 0 || never_entered);

	if (failed)
		job->no_worker_before = time_to_retry(GetCurrentTimestamp(), job->worker_failures++);
	else
		job->worker_failures = 0;
	(void) es_demand_look(job);
	return failed;
}

/* The database takes no connections: what is due there waits for its next append. */
void
es_demand_give_up(EsJob *job)
{
	job->failures = job->worker_failures = 0;
	es_figures_forget(job->dboid);
	if (job->db != NULL)
	{
		pg_atomic_write_u64(&job->db->wanted_since, 0);
		pg_atomic_write_u64(&job->db->visit_at, 0);
		pg_atomic_write_u64(&job->db->tried_at, 0);
	}
	(void) es_demand_look(job);
}
