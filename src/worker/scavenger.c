/*
 * scavenger.c
 *		What the scheduler removes from the log between its other duties.
 *
 * Every eventstore.scavenge_interval a pass begins (streams/scavenge.c).  Each step
 * is a transaction of its own that removes at most STEP_EVENTS, and is followed by a
 * pause as long as itself: whoever waits for a lock of it, or for the scheduler, waits
 * for some milliseconds.
 *
 * Invariants
 * 1. A step never waits for a lock: with event_log locked, or another scavenger at
 *    work, the pass is put off.
 * 2. An error ends the pass, not the scheduler; the next pass tries again.
 * 3. Without anything to remove, event_log is not locked as by an append: whoever makes
 *    an inline projection, and finds such a lock, leaves the switch to a worker.
 *
 * Locks: RowExclusive on event_log, ShareUpdateExclusive on hidden, if free.
 * Crash: the next scheduler begins a new pass.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "streams/scavenge.h"
#include "worker/scavenger.h"
#include "worker/session.h"

#define STEP_EVENTS		100

static EsScavenge *pass = NULL;	/* NULL: none is under way */
static TimestampTz last_ended = 0;

static void
end_pass(void)
{
	es_scavenge_end(pass);
	pass = NULL;
	last_ended = GetCurrentTimestamp();
}

/* False: there is nothing more to do, or somebody is in the way. */
static bool
scavenge_step(Oid store)
{
	const EsCatalog *cat;
	int64		removed = 0;
	bool		more = false;

	es_session_begin();
	cat = es_catalog_lock_if_there(AccessShareLock);
	if (cat != NULL && cat->position_register == store &&
		es_scavenge_is_wanted() &&	/* (3) */
		ConditionalLockRelationOid(cat->event_log, RowExclusiveLock) &&
		es_scavenge_lock(cat, false))	/* (1) */
	{
		pgstat_report_activity(STATE_RUNNING, "removing hidden events");
		more = es_scavenge_step(pass, cat, STEP_EVENTS, &removed);
	}
	es_session_finish();
	if (removed > 0)
		pgstat_report_stat(false);
	return more;
}

/* The same; an error is reported and ends the pass (2). */
static bool
try_step(Oid store)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool more = false;

	PG_TRY();
	{
		more = scavenge_step(store);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	pgstat_report_activity(STATE_IDLE, NULL);
	return more;
}

/*
 * Make a step if it is time for one.  How long to sleep at most, in milliseconds.
 */
long
es_scavenger_run(Oid store, long sleep)
{
	TimestampTz begun = GetCurrentTimestamp();
	TimestampTz due = TimestampTzPlusMilliseconds(last_ended, es_guc_scavenge_interval);

	if (es_guc_scavenge_interval == 0)
		return sleep;
	if (pass == NULL && begun < due)
		return Min(sleep, TimestampDifferenceMilliseconds(begun, due));
	if (pass == NULL)
		pass = es_scavenge_begin(TopMemoryContext);
	if (!try_step(store))
	{
		end_pass();
		return Min(sleep, es_guc_scavenge_interval);
	}
	return Min(sleep, Max(1, TimestampDifferenceMilliseconds(begun, GetCurrentTimestamp())));
}
