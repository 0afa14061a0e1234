/*
 * catchup.c
 *		Applying the log to a projection, batch by batch.
 *
 *	0 a worker looks whether there is anything to apply, without any lock;
 *	1 the projection's progress is locked, and its definition looked up under it;
 *	2 head, then snapshot, then the events beyond the checkpoint (read/read.c);
 *	3 they are applied;
 *	4 the checkpoint is moved to where the batch ended.
 *
 * All in one transaction, the caller's: effects and checkpoint are committed
 * together, so each event is applied exactly once, whatever crashes.
 *
 * Invariants
 * 1. A batch that holds nothing for the projection is not worth a write each time
 *    the head moves: a worker keeps "nothing up to there" in shared memory
 *    (figures.c) and stores the checkpoint some seconds later, for standbys and for
 *    the next start of the server.  A session stores it at once.
 * 2. After users' code has run, nothing that a look-up returned is used (definition.h).
 *
 * Lock order: event_log, projection_progress.  Then what the code locks.
 * Crash: everything belongs to the transaction of the batch.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "log/head.h"
#include "projections/call.h"
#include "projections/catchup.h"
#include "projections/dead_letters.h"
#include "projections/events.h"
#include "projections/progress.h"
#include "projections/turn.h"
#include "read/count.h"

static Snapshot
take_snapshot(EsCatchup *catchup, int64 *upto)
{
	Snapshot	snapshot;

	if (catchup->to_the_end)
	{
		*upto = es_head_handed_out(catchup->cat);
		snapshot = RegisterSnapshot(GetLatestSnapshot());
	}
	else
		*upto = es_head_read(catchup->cat, &snapshot);
	*upto = Min(*upto, catchup->upto);
	return snapshot;
}

/*
 * Has a worker's projection nothing to apply?  Looks without its lock, for a lock takes a
 * transaction id and a record of the write-ahead log, and what is found here is true
 * whoever holds it (figures.c, 2).  False: see, under the lock.
 */
static bool
finds_nothing(EsCatchup *catchup)
{
	const EsCatalog *cat = catchup->cat;
	const EsProjection *projection = es_definition_by_id(cat, catchup->id);
	EsCountLimits first_only = {.events = 1, .looked_at = PG_INT64_MAX};
	EsRange		range = {0};
	EsProgress	progress;
	Snapshot	snapshot;
	EsCounted	counted;

	if (catchup->to_the_end || catchup->figures->behind || projection == NULL ||
		!projection->runs || projection->live || projection->rebuild_up_to > 0 ||
		es_turn_is_time_to_store(catchup->figures) ||
		!es_progress_read(catchup->id, &progress) || progress.failures > 0)
		return false;
	range.after = es_figures_reached(cat, projection, progress.checkpoint);
	snapshot = take_snapshot(catchup, &range.upto);
	range.upto = Max(range.upto, range.after);
	counted = es_count_events(cat, &projection->filter, range, snapshot, first_only, NULL, NULL);
	UnregisterSnapshot(snapshot);
	if (counted.events > 0)
		return false;
	es_turn_nothing(catchup->figures, projection->version, progress.checkpoint, range.upto);
	catchup->runs = true;
	catchup->checkpoint = progress.checkpoint;
	return true;
}

/*
 * Lock the projection's progress.  NULL: the projection is gone, or not to be run; or a
 * session has the lock, for which a worker does not wait.
 */
static const EsProjection *
begin_batch(EsCatchup *catchup, EsProgress *progress)
{
	const EsProjection *projection;

	if (!(catchup->figures != NULL ? es_progress_try_lock(catchup->id, progress) :
		  es_progress_lock(catchup->id, progress)))
		return NULL;
	projection = es_definition_under_lock(catchup->cat, catchup->id);
	if (projection == NULL || !projection->runs || projection->live)
		return NULL;
	catchup->runs = true;
	catchup->checkpoint = progress->checkpoint;
	return projection;
}

/* Read the next events, and apply them. */
static EsTaken
apply_next(EsCatchup *catchup, const EsProjection *projection)
{
	const EsCatalog *cat = catchup->cat;
	int64		from = es_figures_reached(cat, projection, catchup->checkpoint);
	int64		upto;
	Snapshot	snapshot = take_snapshot(catchup, &upto);
	EsTaken		taken = es_events_read(cat, projection, from, Max(upto, from), snapshot,
									   Min(catchup->limit, projection->batch_size),
									   es_dead_letters_parked_streams(cat, catchup->id));

	catchup->events = taken.batch->count;
	if (taken.parked != NIL)
		es_dead_letters_park(projection, taken.parked);
	if (taken.batch->count > 0)
	{
		if (catchup->figures != NULL)
			es_turn_show_batch(catchup->figures, taken.batch->count, 0);
		es_call_apply(projection, cat, taken.batch);
	}
	UnregisterSnapshot(snapshot);
	return taken;
}

/*
 * Move the checkpoint to where the batch ended, if that is worth a write (1).
 */
static void
move_checkpoint(EsCatchup *catchup, const EsProgress *progress, const EsTaken *taken,
				TransactionId version, int64 rebuild_up_to)
{
	int64		upto = taken->batch->upto;
	bool		wrote = taken->batch->count > 0 || taken->parked != NIL;

	if (rebuild_up_to > 0 && upto >= rebuild_up_to)
	{
		es_progress_set_state(catchup->id, ES_STATE_RUNNING, false, 0);
		wrote = true;
	}
	if (wrote || (upto > progress->checkpoint &&
				  (catchup->figures == NULL || progress->failures > 0 ||
				   es_turn_is_time_to_store(catchup->figures))))
	{
		es_progress_move(catchup->id, upto);
		catchup->checkpoint = upto;
	}
	if (!wrote && catchup->figures != NULL)
		es_turn_nothing(catchup->figures, version, catchup->checkpoint, upto);
}

/*
 * Apply the next batch of a projection.
 */
void
es_catchup_batch(EsCatchup *catchup)
{
	MemoryContext context;
	MemoryContext old;
	const EsProjection *projection;
	EsProgress	progress;
	EsTaken		taken;
	TransactionId version;
	int64		rebuild_up_to;

	catchup->events = 0;
	catchup->runs = false;
	catchup->complete = true;
	if (catchup->figures != NULL && finds_nothing(catchup))
		return;
	projection = begin_batch(catchup, &progress);
	if (projection == NULL)
		return;
	version = projection->version;	/* (2) */
	rebuild_up_to = projection->rebuild_up_to;

	context = AllocSetContextCreate(CurrentMemoryContext, "eventstore batch", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	taken = apply_next(catchup, projection);
	catchup->complete = taken.complete;
	if (catchup->figures != NULL)
		catchup->figures->behind = !taken.complete;
	move_checkpoint(catchup, &progress, &taken, version, rebuild_up_to);
	es_batch_free(taken.batch);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
