/*
 * turn.c
 *		A worker's turn with a projection: what it notes in the projection's entry.
 *
 * The worker has claimed the entry (figures.c), runs one batch, and gives the entry back.
 * What is noted decides when the projection is due again, and how large its next batch may
 * be; views show it while the batch runs.
 *
 * Invariant
 * 1. An entry that is claimed is changed by its worker, but for what a sync and a statement
 *    note in it (figures.c).
 *
 * Locks: the figures' lock, for moments; taken after all others.
 * Crash: shared memory starts empty; the scheduler fills it.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "projections/turn.h"

/* Time after finding no events for a projection until its checkpoint is moved past that. */
#define STORE_AFTER_MS		5000
/* First delay before the switch to inline is tried again; it doubles up to the greatest. */
#define SWITCH_DELAY_MS		1000
#define SWITCH_GREATEST_MS	60000

/* The duration of a batch that the size of later batches aims at. */
#define BATCH_TARGET_MS		500

/* Events handled between two reports of a batch's progress. */
#define SHOW_EVERY			100

/* The projection whose batch this process runs (NULL: none), and how many events are done. */
static EsFigures *running = NULL;
static int64 events_done = 0;

/* A batch begins. */
void
es_turn_begin(EsFigures *figures)
{
	LWLockAcquire(es_figures_lock(), LW_EXCLUSIVE);
	figures->batch_started = GetCurrentTimestamp();
	figures->batch_events = 0;
	figures->batch_done = 0;
	LWLockRelease(es_figures_lock());
	running = figures;
	events_done = 0;
}

/* Show how many events the batch has, and how many of them are done, not yet committed. */
void
es_turn_show_batch(EsFigures *figures, int64 events, int64 done)
{
	LWLockAcquire(es_figures_lock(), LW_EXCLUSIVE);
	figures->batch_events = events;
	figures->batch_done = done;
	LWLockRelease(es_figures_lock());
}

/* An event of a worker's batch, which has that number of events, has been handled. */
void
es_turn_note_event(int64 events_in_batch)
{
	if (running != NULL && ++events_done % SHOW_EVERY == 0)
		es_turn_show_batch(running, events_in_batch, events_done);
}

/* Events of the batch that have been handled, by a handler or a reducer. */
int64
es_turn_events_done(void)
{
	return events_done;
}

/*
 * The batch is committed.  The next one may be larger if this one was full and
 * quick, and shall be smaller if it was slow.
 */
void
es_turn_end(EsFigures *figures, int64 events)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(es_figures_lock(), LW_EXCLUSIVE);
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
	LWLockRelease(es_figures_lock());
}

/* Did it find nothing for STORE_AFTER_MS, so that the checkpoint is to be stored? */
bool
es_turn_is_time_to_store(EsFigures *figures)
{
	/* only the worker that has claimed it changes these */
	return figures->store_at != 0 && figures->store_at <= GetCurrentTimestamp();
}

bool
es_turn_is_time_to_switch(EsFigures *figures)
{
	return figures->wants_inline && figures->switch_at <= GetCurrentTimestamp();
}

/* Open appenders kept it from the switch to inline: put off the next try, longer each time. */
void
es_turn_note_no_switch(EsFigures *figures)
{
	int64		delay = Min((int64) SWITCH_DELAY_MS << Min(figures->switch_failures, 10), SWITCH_GREATEST_MS);

	LWLockAcquire(es_figures_lock(), LW_EXCLUSIVE);
	figures->switch_failures++;
	figures->switch_at = GetCurrentTimestamp() + delay * 1000;
	LWLockRelease(es_figures_lock());
}

/* A version of the projection has none of its events in (from, upto]. */
void
es_turn_nothing(EsFigures *figures, TransactionId version, int64 from, int64 upto)
{
	LWLockAcquire(es_figures_lock(), LW_EXCLUSIVE);
	figures->empty_version = version;
	figures->empty_from = from;
	figures->empty_upto = upto;
	if (!figures->set_back)
		figures->reached = upto;	/* figures.c, 3 */
	if (from == upto)
		figures->store_at = 0;
	else if (figures->store_at == 0)
		figures->store_at = GetCurrentTimestamp() + STORE_AFTER_MS * INT64CONST(1000);
	LWLockRelease(es_figures_lock());
}

/* Do not run it before the delay has passed, and then with that batch limit (0: as before). */
void
es_turn_put_off(EsFigures *figures, int64 delay_ms, int batch_limit)
{
	LWLockAcquire(es_figures_lock(), LW_EXCLUSIVE);
	figures->not_before = GetCurrentTimestamp() + delay_ms * 1000;
	if (batch_limit > 0)
		figures->batch_limit = batch_limit;
	LWLockRelease(es_figures_lock());
}

/* The process that runs the projection ends: try again after 1, 2, 4 ... s, up to a minute. */
void
es_turn_note_death(EsFigures *figures)
{
	LWLockAcquire(es_figures_lock(), LW_EXCLUSIVE);
	figures->not_before = GetCurrentTimestamp() + Min(INT64CONST(1) << Min(figures->deaths, 6), 60) * USECS_PER_SEC;
	figures->deaths++;
	LWLockRelease(es_figures_lock());
}

bool
es_turn_was_interrupted(EsFigures *figures)
{
	bool		interrupted;

	LWLockAcquire(es_figures_lock(), LW_SHARED);
	interrupted = figures->interrupted;
	LWLockRelease(es_figures_lock());
	return interrupted;
}

void
es_turn_release(EsFigures *figures)
{
	LWLockAcquire(es_figures_lock(), LW_EXCLUSIVE);
	figures->pid = 0;
	figures->batch_started = 0;
	figures->batch_events = figures->batch_done = 0;
	LWLockRelease(es_figures_lock());
	running = NULL;
}
