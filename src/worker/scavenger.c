/*
 * scavenger.c
 *		What the scheduler removes from the log between its other duties.
 *
 * Every eventstore.scavenge_interval a pass begins (streams/scavenge.c), while a scheduler is in
 * office.  One that leaves says when there will be something to remove: after the next event
 * that a rule hides by its age, or the next id whose time is over.  Each step
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
#include "log/registry.h"
#include "streams/removed.h"
#include "streams/scavenge.h"
#include "worker/scavenger.h"
#include "worker/session.h"

#define STEP_EVENTS		100
/* Time until a successor goes on with what a scheduler has broken off to make way. */
#define AGAIN_MS		1000

static EsScavenge *pass = NULL;	/* NULL: none is under way */

/* What this process knows of its last pass. */
static struct
{
	bool		made;			/* it has made one, */
	bool		complete;		/* which left nothing for the next; */
	bool		outdated;		/* a statement has hidden events since, or made a rule; */
	int64		head;			/* how far the log reached when it began; */
	TimestampTz again_at;		/* when a rule will hide the next event; 0: never */
}			last = {0};

static void
begin_pass(EsDatabase *db)
{
	pass = es_scavenge_begin(TopMemoryContext);
	last.complete = true;
	last.outdated = false;
	last.head = es_registry_glance(db);
}

static void
end_pass(EsDatabase *db)
{
	last.made = true;
	last.complete &= es_scavenge_is_complete(pass);
	last.again_at = es_scavenge_again_at(pass);
	es_scavenge_end(pass);
	pass = NULL;
	db->scavenged_at = GetCurrentTimestamp();
}

/* When the next pass may begin. */
static TimestampTz
next_pass(const EsDatabase *db)
{
	return db->scavenged_at == 0 ? 0 : TimestampTzPlusMilliseconds(db->scavenged_at, es_guc_scavenge_interval);
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
	if (cat != NULL && cat->position_register == store && es_scavenge_is_wanted())	/* (3) */
	{
		last.complete = ConditionalLockRelationOid(cat->event_log, RowExclusiveLock) &&
			es_scavenge_lock(cat, false);	/* (1) */
		if (last.complete)
		{
			pgstat_report_activity(STATE_RUNNING, "removing hidden events");
			more = es_scavenge_step(pass, cat, STEP_EVENTS, &removed);
		}
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
		last.complete = false;
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
es_scavenger_run(EsDatabase *db, long sleep)
{
	TimestampTz begun = GetCurrentTimestamp();
	TimestampTz due = next_pass(db);

	if (es_guc_scavenge_interval == 0)
		return sleep;
	if (pass == NULL && begun < due)
		return Min(sleep, TimestampDifferenceMilliseconds(begun, due));
	if (pass == NULL)
		begin_pass(db);
	if (!try_step(db->store))
	{
		end_pass(db);
		return Min(sleep, es_guc_scavenge_interval);
	}
	return Min(sleep, Max(1, TimestampDifferenceMilliseconds(begun, GetCurrentTimestamp())));
}

/* A statement has hidden events, or made a rule. */
void
es_scavenger_note_change(void)
{
	last.outdated = true;
}

bool
es_scavenger_is_at_work(void)
{
	return pass != NULL;
}

/*
 * The scheduler leaves: when is there something to remove, if nothing happens?  0: never.  A pass
 * that is under way is broken off.
 */
TimestampTz
es_scavenger_next(EsDatabase *db)
{
	bool		wanted = false;
	TimestampTz next = 0;
	TimestampTz ids_at = 0;

	if (es_guc_scavenge_interval == 0 || pg_atomic_read_u32(&db->sealed) == 0)
		return 0;				/* the append that seals the log calls a scheduler */
	es_session_begin();
	if (es_catalog_lock_if_there(AccessShareLock) != NULL)
	{
		wanted = es_scavenge_is_wanted();
		ids_at = es_removed_next_at();
	}
	es_session_finish();
	if (pass != NULL)
		next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), AGAIN_MS);
	else if (!wanted)
		next = 0;
	else if (last.made && last.complete && !last.outdated && es_registry_glance(db) <= last.head)
		next = last.again_at == 0 ? 0 : Max(last.again_at, next_pass(db));
	else
		next = next_pass(db);
	if (ids_at != 0 && (next == 0 || ids_at < next))
		next = Max(ids_at, next_pass(db));
	return next;
}
