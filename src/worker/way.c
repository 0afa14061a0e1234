/*
 * way.c
 *		Having processes make way for others that wait.
 *
 * As many are asked as databases wait, less those that were asked and have not left yet:
 * first schedulers and workers that have nothing to do; then those that have had SHARE_MS,
 * workers before schedulers, the longest serving first.  A worker ends its batch before it
 * leaves, a scheduler records the head.  What such a process leaves undone makes its database
 * wait, behind all others; so all take turns.
 *
 * A batch may take long: that a busy process has been asked keeps none from being asked that has
 * nothing to do, and leaves at once.  Who has not left after a second (pool.c), for a lock or a
 * slow handler perhaps, is not counted on: another one is asked, too.
 *
 * Where eventstore.max_workers is what is short, only workers are asked.  A database that has
 * workers takes none from one that has no more, and lets none of its own processes go for
 * another worker.
 *
 * A scheduler that only waits for a worker of its own database has nothing to do.  So even one
 * process is enough for all: scheduler and worker take turns.
 *
 * Locks: the pool's lock, for moments.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "worker/demand.h"
#include "worker/pool.h"
#include "worker/way.h"

/* Least time that a process has before it makes way though it has something to do. */
#define SHARE_MS		1000
/* Most processes that are asked at once. */
#define MOST_ASKED		16

/* Count schedulers, and those of them that were asked. */
static void
count_schedulers(EsDatabase **list, int n, EsAsked *asked)
{
	for (int i = 0; i < n; i++)
	{
		if (pg_atomic_read_u32(&list[i]->scheduler) == 0)
			continue;
		asked->there++;
		es_pool_note_asked(asked, (TimestampTz) pg_atomic_read_u64(&list[i]->make_way), list[i]->asked_at_rest);
	}
}

/*
 * Ask one that rests, or one that has had its share, but not that of the database "dboid";
 * false: there is none.
 */
static bool
ask_scheduler(EsDatabase **list, int n, Oid dboid, bool resting)
{
	TimestampTz now = GetCurrentTimestamp();
	EsDatabase *best = NULL;

	for (int i = 0; i < n; i++)
	{
		EsDatabase *db = list[i];

		if (pg_atomic_read_u32(&db->scheduler) == 0 || pg_atomic_read_u64(&db->make_way) != 0 ||
			db->dboid == dboid)
			continue;
		if (resting ? !db->scheduler_rests :
			!TimestampDifferenceExceeds(db->in_office_since, now, SHARE_MS))
			continue;
		if (best == NULL || db->in_office_since < best->in_office_since)
			best = db;
	}
	if (best == NULL)
		return false;
	best->asked_at_rest = resting;
	pg_atomic_write_u64(&best->make_way, (uint64) now);
	es_database_wake_scheduler(best);
	return true;
}

/* Does it have workers, and wait for no more than another one? */
static bool
has_others(const EsJob *job)
{
	return !job->wants_scheduler && es_pool_count(job->dboid).all > 0;
}

/* Ask a process that has nothing to do, for the job; false: there is none. */
static bool
ask_idle(EsShortage shortage, const EsJob *job, EsDatabase **list, int n)
{
	Oid			spared = has_others(job) ? job->dboid : InvalidOid;

	if (shortage == ES_SHORTAGE_OF_WORKERS)
		return es_pool_ask(job->dboid, true, false, SHARE_MS);
	return ask_scheduler(list, n, spared, true) || es_pool_ask(spared, true, false, SHARE_MS);
}

/* Ask one that has had its share; false: there is none. */
static bool
ask_busy(EsShortage shortage, const EsJob *job, EsDatabase **list, int n)
{
	if (shortage == ES_SHORTAGE_OF_WORKERS || has_others(job))
		return es_pool_ask(job->dboid, false, has_others(job), SHARE_MS);
	return es_pool_ask(InvalidOid, false, false, SHARE_MS) || ask_scheduler(list, n, InvalidOid, false);
}

/* Ask for what is short.  May somebody be asked soon who could not be yet? */
bool
es_way_make(EsShortage shortage)
{
	int			n;
	EsDatabase **list = es_databases_list(&n);
	EsAsked		asked = {0};
	int			wanted = 0;
	int			found = 0;
	dlist_iter	iter;

	es_pool_count_asked(&asked);
	if (shortage == ES_SHORTAGE_OF_PROCESSES)	/* else a scheduler that leaves is no help */
		count_schedulers(list, n, &asked);
	dlist_foreach(iter, es_demand_queue())
	{
		EsJob	   *job = dlist_container(EsJob, node, iter.cur);

		if (shortage == ES_SHORTAGE_OF_WORKERS && !job->wants_worker)
			continue;
		if (wanted++ == MOST_ASKED)
			break;
		if (found < asked.idle || ask_idle(shortage, job, list, n) ||
			found < asked.idle + asked.busy || ask_busy(shortage, job, list, n))
			found++;
	}
	pfree(list);
	return wanted > found && asked.there > found;
}
