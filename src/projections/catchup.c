/*
 * catchup.c
 *		Applying the log to a projection, batch by batch.
 *
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
 * Lock order: event_log, projection_progress, what the code locks.
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
 * Apply the next batch of a projection.
 */
void
es_catchup_batch(EsCatchup *catchup)
{
	const EsCatalog *cat = catchup->cat;
	MemoryContext context;
	MemoryContext old;
	const EsProjection *projection;
	EsProgress	progress;
	Snapshot	snapshot;
	EsTaken		taken;
	EsBatch    *batch;
	int64		from;
	int64		upto;
	int64		rebuild_up_to;
	bool		wrote;

	catchup->events = 0;
	catchup->runs = false;
	catchup->complete = true;
	/* a worker does not wait for a session: there may be others to run */
	if (!(catchup->figures != NULL ? es_progress_try_lock(catchup->id, &progress) :
		  es_progress_lock(catchup->id, &progress)))
		return;
	projection = es_definition_under_lock(cat, catchup->id);
	if (projection == NULL || projection->state != ES_STATE_RUNNING || projection->live)
		return;
	catchup->runs = true;
	catchup->checkpoint = progress.checkpoint;
	rebuild_up_to = projection->rebuild_up_to;

	context = AllocSetContextCreate(CurrentMemoryContext, "eventstore batch", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	from = es_figures_reached(cat, catchup->id, progress.checkpoint);
	snapshot = take_snapshot(catchup, &upto);
	taken = es_events_read(cat, projection, from, Max(upto, from), snapshot,
						   Min(catchup->limit, projection->batch_size),
						   es_dead_letters_parked_streams(cat, catchup->id));
	batch = taken.batch;
	catchup->events = batch->count;
	if (taken.parked != NIL)
		es_dead_letters_park(projection, taken.parked);
	wrote = batch->count > 0 || taken.parked != NIL;
	if (batch->count > 0)
	{
		if (catchup->figures != NULL)
			es_figures_tell(catchup->figures, batch->count, 0);
		es_call_apply(projection, cat, batch);
	}
	UnregisterSnapshot(snapshot);

	catchup->complete = taken.complete;
	if (rebuild_up_to > 0 && batch->upto >= rebuild_up_to)
	{
		es_progress_set_state(catchup->id, ES_STATE_RUNNING, false, 0);
		wrote = true;
	}
	if (wrote || (batch->upto > progress.checkpoint &&
				  (catchup->figures == NULL || progress.failures > 0 ||
				   es_figures_is_time_to_store(catchup->figures))))
	{
		es_progress_move(catchup->id, batch->upto);
		catchup->checkpoint = batch->upto;
	}
	if (!wrote && catchup->figures != NULL)
		es_figures_nothing(catchup->figures, catchup->checkpoint, batch->upto);	/* (1) */
	es_batch_free(batch);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
