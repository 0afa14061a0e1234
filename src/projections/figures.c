/*
 * figures.c
 *		What is going on in the projections, in shared memory.
 *
 * A place for each projection that workers run.  The scheduler of a database fills
 * its places from eventstore.projection when that has changed (es_figures_sync);
 * workers claim a place, run a batch, and give it back; views look.
 *
 * Invariants
 * 1. Nothing here decides what is applied: the checkpoint and the state in the tables
 *    do, under the lock of the projection's progress.  A place that is out of date
 *    costs a look in vain.
 * 2. "Nothing in (empty_from, empty_upto]" is said of the log below the head, which
 *    does not change, and of a filter, which does not either.  So it stays true
 *    whatever happens to the checkpoint.
 *
 * Locks: one LWLock, for moments; taken after all others.
 * Crash: shared memory starts empty; the scheduler fills it.
 */
#include "postgres.h"

#include <signal.h>

#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "core/settings.h"
#include "core/shmem.h"
#include "projections/changed.h"
#include "projections/figures.h"

PG_FUNCTION_INFO_V1(projection_figures);

/* That a projection found nothing is stored so much later. */
#define STORE_AFTER_MS		5000
/* The switch to inline is tried again after so long, and twice that, and so on. */
#define SWITCH_DELAY_MS		1000
#define SWITCH_GREATEST_MS	60000

/* A batch begins with so many events, and grows while it takes less time than that. */
#define FIRST_BATCH			1000
#define BATCH_TARGET_MS		500

/* Handled events between two entries in shared memory. */
#define TELL_EVERY			100

typedef struct EsFigureTable
{
	LWLock	   *lock;
	int			n;
	bool		told_full;
	EsFigures	places[FLEXIBLE_ARRAY_MEMBER];
} EsFigureTable;

static EsFigureTable *table = NULL;

/* The place whose batch this process runs (NULL: none), and events of it that are handled. */
static EsFigures *running = NULL;
static int64 events_done = 0;

static Size
table_size(void)
{
	return add_size(offsetof(EsFigureTable, places),
					mul_size(es_guc_max_projections, sizeof(EsFigures)));
}

static int
table_locks(void)
{
	return 1;
}

static void
attach_table(void *memory, LWLockPadded *locks, bool fresh)
{
	table = memory;
	if (!fresh)
		return;
	table->lock = &locks[0].lock;
	table->n = es_guc_max_projections;
}

void
es_figures_init(void)
{
	static const EsShmemPart part = {
		"eventstore projections", table_size, table_locks, attach_table
	};

	es_shmem_add(&part);
}

static bool
is_of(const EsFigures *place, Oid store)
{
	return place->dboid == MyDatabaseId && place->store == store;
}

/* ---- scheduler ---- */

static EsFigures *
find_place(Oid store, int id)
{
	for (int i = 0; i < table->n; i++)
	{
		if (is_of(&table->places[i], store) && table->places[i].id == id)
			return &table->places[i];
	}
	return NULL;
}

static EsFigures *
add_place(Oid store, int id)
{
	EsFigures  *place = NULL;

	for (int i = 0; place == NULL && i < table->n; i++)
	{
		if (!OidIsValid(table->places[i].dboid))
			place = &table->places[i];
	}
	if (place == NULL)
		return NULL;
	memset(place, 0, sizeof(*place));
	place->dboid = MyDatabaseId;
	place->store = store;
	place->id = id;
	place->batch_limit = FIRST_BATCH;
	return place;
}

/* Should workers run this projection? */
static bool
is_for_workers(const EsProjection *projection)
{
	return projection->runs && !projection->live;
}

static void
sync_place(Oid store, const EsProjection *projection, int *without_place)
{
	EsFigures  *place = find_place(store, projection->id);
	bool		runnable = is_for_workers(projection);

	if (place == NULL && runnable)
	{
		place = add_place(store, projection->id);
		if (place == NULL)
			(*without_place)++;
	}
	if (place == NULL)
		return;
	if (runnable && !place->runnable)
	{
		place->not_before = place->switch_at = 0;
		place->switch_failures = 0;
		place->batch_limit = FIRST_BATCH;
	}
	place->runnable = runnable;
	place->wants_inline = projection->is_inline && !projection->live;
	place->reached = 0;			/* it may have been set back: look (1) */
}

/*
 * Make the places of this database say what eventstore.projection says.  Assumes a
 * lock on event_log.
 */
void
es_figures_sync(const EsCatalog *cat)
{
	const EsProjections *all = es_definitions_anew(cat);
	Oid			store = cat->position_register;
	int			without_place = 0;
	bool		tell;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < table->n; i++)
	{
		EsFigures  *place = &table->places[i];
		bool		known = false;

		if (place->dboid != MyDatabaseId)
			continue;
		for (int j = 0; place->store == store && j < all->n && !known; j++)
			known = all->list[j].id == place->id;
		if (!known && place->pid == 0)
			memset(place, 0, sizeof(*place));
		else if (!known)
			place->runnable = false;	/* freed by the next sync */
	}
	for (int i = 0; i < all->n; i++)
		sync_place(store, &all->list[i], &without_place);
	tell = without_place > 0 && !table->told_full;
	table->told_full = without_place > 0;
	LWLockRelease(table->lock);

	if (tell)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("%d projections are not run: there is no room for them in shared memory", without_place),
				 errhint("Raise eventstore.max_projections (now %d) and restart the server.", table->n)));
}

/* The database is dropped, and all its processes have ended. */
void
es_figures_forget(Oid dboid)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < table->n; i++)
	{
		if (table->places[i].dboid == dboid)
			memset(&table->places[i], 0, sizeof(EsFigures));
	}
	LWLockRelease(table->lock);
}

/* The store has gone, or nobody serves it: a scheduler that comes fills them anew. */
void
es_figures_forget_store(Oid store)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < table->n; i++)
	{
		if (is_of(&table->places[i], store) && table->places[i].pid == 0)
			memset(&table->places[i], 0, sizeof(EsFigures));
	}
	LWLockRelease(table->lock);
}

/* How many projections of the store are there for workers to run? */
int
es_figures_count(Oid store)
{
	int			n = 0;

	LWLockAcquire(table->lock, LW_SHARED);
	for (int i = 0; i < table->n; i++)
		n += is_of(&table->places[i], store) && table->places[i].runnable;
	LWLockRelease(table->lock);
	return n;
}

/* When there will be something to do for it; 0: not before the head moves. */
static TimestampTz
due_at(const EsFigures *place, int64 head, TimestampTz now)
{
	TimestampTz at = 0;

	if (!place->runnable || place->pid != 0)
		return 0;
	if (place->reached < head)
		at = now;
	else if (place->wants_inline)
		at = Max(place->switch_at, now);
	else if (place->store_at != 0)
		at = Max(place->store_at, now);
	return at == 0 ? 0 : Max(at, place->not_before);
}

static bool
is_due(const EsFigures *place, int64 head, TimestampTz now)
{
	TimestampTz at = due_at(place, head, now);

	return at != 0 && at <= now;
}

/*
 * How many projections of the store wait for a worker?  *next is when the next one
 * will that has been put off; 0: none.
 */
int
es_figures_due(Oid store, int64 head, TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();
	int			due = 0;

	*next = 0;
	LWLockAcquire(table->lock, LW_SHARED);
	for (int i = 0; i < table->n; i++)
	{
		const EsFigures *place = &table->places[i];
		TimestampTz at = is_of(place, store) ? due_at(place, head, now) : 0;

		if (at != 0 && at <= now)
			due++;
		else if (at != 0 && (*next == 0 || at < *next))
			*next = at;
	}
	LWLockRelease(table->lock);
	return due;
}

/* ---- worker ---- */

/*
 * Claim the projection of the store that has waited longest; NULL: none is due.
 */
EsFigures *
es_figures_claim(Oid store, int64 head)
{
	TimestampTz now = GetCurrentTimestamp();
	EsFigures  *best = NULL;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < table->n; i++)
	{
		EsFigures  *place = &table->places[i];

		if (is_of(place, store) && is_due(place, head, now) &&
			(best == NULL || place->last_run < best->last_run))
			best = place;
	}
	if (best != NULL)
	{
		best->pid = MyProcPid;
		best->last_run = now;
		best->interrupted = false;
	}
	LWLockRelease(table->lock);
	return best;
}

/* A batch begins. */
void
es_figures_begin(EsFigures *figures)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	figures->batch_started = GetCurrentTimestamp();
	figures->batch_events = 0;
	figures->batch_done = 0;
	LWLockRelease(table->lock);
	running = figures;
	events_done = 0;
}

/* It has so many events, of which so many are done; not yet committed. */
void
es_figures_tell(EsFigures *figures, int64 events, int64 done)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	figures->batch_events = events;
	figures->batch_done = done;
	LWLockRelease(table->lock);
}

/* An event of a worker's batch of so many has been handled. */
void
es_figures_note_event(int64 events_in_batch)
{
	if (running != NULL && ++events_done % TELL_EVERY == 0)
		es_figures_tell(running, events_in_batch, events_done);
}

/* Events of the batch that have been handled, by a handler or a reducer. */
int64
es_figures_events_done(void)
{
	return events_done;
}

/*
 * The batch is committed.  The next one may be larger if this one was full and
 * quick, and shall be smaller if it was slow.
 */
void
es_figures_end(EsFigures *figures, int64 events)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	figures->batch_ms = Max((double) (now - figures->batch_started) / 1000.0, 0.001);
	if (events > 0)
	{
		double		rate = events * 1000.0 / figures->batch_ms;

		figures->rate = figures->rate == 0 ? rate : 0.7 * figures->rate + 0.3 * rate;
		if (figures->batch_ms < BATCH_TARGET_MS && events >= figures->batch_limit)
			figures->batch_limit = Min(figures->batch_limit * 2, PG_INT32_MAX / 2);
		else if (figures->batch_ms > 2 * BATCH_TARGET_MS)
			figures->batch_limit = Max(Min(figures->batch_limit, events) / 2, 1);
	}
	figures->deaths = 0;
	figures->batch_started = 0;
	figures->batch_events = figures->batch_done = 0;
	LWLockRelease(table->lock);
}

/* Has it been long enough since it first found nothing? */
bool
es_figures_is_time_to_store(EsFigures *figures)
{
	/* only the worker that has claimed it changes these */
	return figures->store_at != 0 && figures->store_at <= GetCurrentTimestamp();
}

bool
es_figures_is_time_to_switch(EsFigures *figures)
{
	return figures->wants_inline && figures->switch_at <= GetCurrentTimestamp();
}

/* Appenders were in the way: give them more and more time. */
void
es_figures_note_no_switch(EsFigures *figures)
{
	int64		delay = Min((int64) SWITCH_DELAY_MS << Min(figures->switch_failures, 10), SWITCH_GREATEST_MS);

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	figures->switch_failures++;
	figures->switch_at = GetCurrentTimestamp() + delay * 1000;
	LWLockRelease(table->lock);
}

/* There is none of its events in (from, upto]. */
void
es_figures_nothing(EsFigures *figures, int64 from, int64 upto)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	figures->empty_from = from;
	figures->empty_upto = upto;
	figures->reached = upto;
	if (from == upto)
		figures->store_at = 0;
	else if (figures->store_at == 0)
		figures->store_at = GetCurrentTimestamp() + STORE_AFTER_MS * INT64CONST(1000);
	LWLockRelease(table->lock);
}

/* Do not run it for so long, and then with a batch of so many (0: as before). */
void
es_figures_put_off(EsFigures *figures, int64 delay_ms, int batch_limit)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	figures->not_before = GetCurrentTimestamp() + delay_ms * 1000;
	if (batch_limit > 0)
		figures->batch_limit = batch_limit;
	LWLockRelease(table->lock);
}

/* The process that runs it ends: try again after 1, 2, 4 ... seconds, up to a minute. */
void
es_figures_note_death(EsFigures *figures)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	figures->not_before = GetCurrentTimestamp() + Min(INT64CONST(1) << Min(figures->deaths, 6), 60) * USECS_PER_SEC;
	figures->deaths++;
	LWLockRelease(table->lock);
}

bool
es_figures_was_interrupted(EsFigures *figures)
{
	bool		interrupted;

	LWLockAcquire(table->lock, LW_SHARED);
	interrupted = figures->interrupted;
	LWLockRelease(table->lock);
	return interrupted;
}

void
es_figures_release(EsFigures *figures)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	figures->pid = 0;
	figures->batch_started = 0;
	figures->batch_events = figures->batch_done = 0;
	LWLockRelease(table->lock);
	running = NULL;
}

/* ---- anybody ---- */

/*
 * How far a projection of the store with this checkpoint has come, counting
 * what is known to hold nothing for it.
 */
int64
es_figures_reached(const EsCatalog *cat, int id, int64 checkpoint)
{
	const EsFigures *place;
	int64		reached = checkpoint;

	if (table == NULL)
		return checkpoint;
	LWLockAcquire(table->lock, LW_SHARED);
	place = find_place(cat->position_register, id);
	if (place != NULL && place->empty_from == checkpoint)
		reached = Max(reached, place->empty_upto);
	LWLockRelease(table->lock);
	return reached;
}

/* An operator lets it go on: not at the next attempt that was due, but now. */
void
es_figures_hurry(const EsCatalog *cat, int id)
{
	EsFigures  *place;

	if (table == NULL)
		return;
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	place = find_place(cat->position_register, id);
	if (place != NULL)
	{
		place->not_before = place->switch_at = 0;
		place->batch_limit = FIRST_BATCH;
	}
	LWLockRelease(table->lock);
	es_changed_note();
}

/*
 * A statement waits for the projection's lock: let the worker that runs it stop its
 * batch.  It applies the events again later, or never.
 */
void
es_figures_interrupt(const EsCatalog *cat, int id)
{
	EsFigures  *place;

	if (table == NULL)
		return;
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	place = find_place(cat->position_register, id);
	if (place != NULL && place->pid != 0 && place->pid != MyProcPid)
	{
		place->interrupted = true;
		(void) kill(place->pid, SIGINT);
	}
	LWLockRelease(table->lock);
}

/*
 * eventstore.projection_figures() → SETOF record, of this store
 */
Datum
projection_figures(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	EsFigures  *places;

	InitMaterializedSRF(fcinfo, 0);
	if (table == NULL)
		return (Datum) 0;
	places = palloc(sizeof(EsFigures) * table->n);
	LWLockAcquire(table->lock, LW_SHARED);
	memcpy(places, table->places, sizeof(EsFigures) * table->n);
	LWLockRelease(table->lock);
	for (int i = 0; i < table->n; i++)
	{
		const EsFigures *place = &places[i];
		Datum		values[11] = {
			Int32GetDatum(place->id), Int32GetDatum((int32) place->pid),
			TimestampTzGetDatum(place->batch_started), Int64GetDatum(place->batch_events),
			Int64GetDatum(place->batch_done), Float8GetDatum(place->batch_ms),
			Float8GetDatum(place->rate), Int32GetDatum(place->deaths),
			TimestampTzGetDatum(place->not_before),
			Int64GetDatum(place->empty_from), Int64GetDatum(place->empty_upto)
		};
		bool		isnull[11] = {false};

		if (!is_of(place, cat->position_register))
			continue;
		isnull[1] = place->pid == 0;
		isnull[2] = isnull[3] = isnull[4] = place->batch_started == 0;
		isnull[5] = place->batch_ms == 0;
		isnull[6] = place->rate == 0;
		isnull[8] = place->not_before == 0;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	return (Datum) 0;
}
