/*
 * switch.c
 *		How a projection becomes one that appends apply, and ceases to be.
 *
 * A projection that becomes inline has first caught up as an asynchronous one, while
 * appends went on.  What is left is applied under ShareRowExclusive on event_log, which
 * waits out every open appender: each holds RowExclusive from before it looks which
 * projections are live until it ends (append/inline.c).  So an event is applied by its
 * appender if that came after the switch, else by the switch.  Leaving inline (pause,
 * rebuild, drop) takes the same lock, for the same reason.
 *
 * A statement that waits for the lock keeps all appends waiting behind it.  So it
 * waits a second at most, and gives way for as long before it tries again: one idle
 * appender must not stop them all.
 *
 * Invariant: a projection is live in the tables only when all events of transactions
 * that ended before the flip are applied.
 *
 * Lock order: event_log, projection_progress, projection.
 * Crash: everything belongs to the switching transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/sinvaladt.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "compat/compat.h"
#include "core/subxact.h"
#include "core/wait_event.h"
#include "projections/catchup.h"
#include "projections/progress.h"
#include "projections/switch.h"

#define PATIENCE_MS		1000
/* Most events that a session applies at once when it makes a projection. */
#define SMALL_BACKLOG	1000

/* ---- locking appenders out ---- */

/* The processes that hold the lock that we wait for, for a message. */
static char *
blocking_processes(Oid log)
{
	LOCKTAG		tag;
	VirtualTransactionId *holders;
	int			n;
	StringInfoData names;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, log);
	holders = GetLockConflicts(&tag, ShareRowExclusiveLock, &n);
	initStringInfo(&names);
	for (int i = 0; i < n; i++)
	{
		PGPROC	   *proc = es_compat_lock_holder(holders[i]);

		if (proc != NULL)
			appendStringInfo(&names, "%s%d", names.len > 0 ? ", " : "", proc->pid);
	}
	return names.len > 0 ? names.data : NULL;
}

/*
 * A second, but long enough for the lock manager to end an autovacuum that is in the
 * way, which it does after deadlock_timeout (storage/lmgr/proc.c, ProcSleep).
 */
static int
patience_ms(int own_timeout)
{
	int			patience = Max(PATIENCE_MS, DeadlockTimeout + 200);

	return own_timeout > 0 ? Min(own_timeout, patience) : patience;
}

/* In a subtransaction, whose abort restores the setting too. */
static bool
run_lock(void *arg)
{
	int			level = NewGUCNestLevel();
	char		patience[16];

	snprintf(patience, sizeof(patience), "%d", patience_ms(LockTimeout));
	(void) set_config_option("lock_timeout", patience, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	LockRelationOid(*(Oid *) arg, ShareRowExclusiveLock);
	AtEOXact_GUC(true, level);
	return true;
}

/*
 * Wait for the lock, but not for long.  In a subtransaction, whose abort ends the
 * waiting; what it got stays with the transaction.
 */
static bool
wait_for_lock(Oid log)
{
	ErrorData  *error = es_subxact_try("eventstore_lock", run_lock, &log);

	if (error == NULL)
		return true;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

static void
give_way(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 PATIENCE_MS, es_wait_event(ES_WAIT_GIVE_WAY));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Keep appends out to the end of the transaction, when all open ones have ended.
 * Tries until it succeeds or the caller's lock_timeout has passed.
 */
void
es_switch_lock_out(const EsCatalog *cat)
{
	Oid			log = cat->event_log;
	TimestampTz begun = GetCurrentTimestamp();
	int			own_timeout = LockTimeout;
	bool		told = false;

	while (!ConditionalLockRelationOid(log, ShareRowExclusiveLock) && !wait_for_lock(log))
	{
		char	   *pids = blocking_processes(log);

		if (own_timeout > 0 && TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), own_timeout))
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("open transactions that have appended did not end in time"),
					 pids != NULL ? errdetail("They are those of processes %s.", pids) : 0));
		if (!told && pids != NULL)
			ereport(NOTICE,
					(errmsg("waiting for open transactions that have appended"),
					 errdetail("They are those of processes %s.", pids)));
		told = true;
		give_way();
	}
	AcceptInvalidationMessages();
}

/* ---- the switch ---- */

/*
 * Apply what is left, and let appends apply the rest.  Assumes that they are locked
 * out.  False: there is too much left, or the projection is not to be inline.
 */
static bool
catch_up_and_flip(const EsCatalog *cat, int id, int64 limit, EsFigures *figures)
{
	EsCatchup	catchup = {.cat = cat, .id = id, .upto = PG_INT64_MAX, .limit = limit,
	.to_the_end = true, .figures = figures};

	const EsProjection *projection;

	es_catchup_batch(&catchup);
	if (!catchup.runs || !catchup.complete)
		return false;
	projection = es_definition_by_id(cat, id);
	if (projection == NULL || !projection->is_inline)
		return false;			/* its code has dropped it */
	es_progress_move(id, es_figures_reached(cat, projection, catchup.checkpoint));
	es_progress_set_state(id, ES_STATE_RUNNING, true, 0);
	CommandCounterIncrement();
	return true;
}

/*
 * In the session that made or resumed it: switch at once if nobody is in the way and
 * little is left.  Else the worker does it.
 */
bool
es_switch_try(const EsCatalog *cat, int id)
{
	Oid			log = cat->event_log;

	if (!ConditionalLockRelationOid(log, ShareRowExclusiveLock))
		return false;
	AcceptInvalidationMessages();
	if (catch_up_and_flip(cat, id, SMALL_BACKLOG, NULL))
		return true;
	UnlockRelationOid(log, ShareRowExclusiveLock);
	return false;
}

/*
 * In the worker, when the projection has caught up.  False: open appenders are in the
 * way (*in_the_way says which), or appends were faster.
 */
bool
es_switch_to_inline(const EsCatalog *cat, int id, EsFigures *figures, char **in_the_way)
{
	if (!ConditionalLockRelationOid(cat->event_log, ShareRowExclusiveLock) &&
		!wait_for_lock(cat->event_log))
	{
		char	   *pids = blocking_processes(cat->event_log);

		*in_the_way = psprintf("waiting to be applied inline: open transactions that have appended are in the way (processes %s)",
							   pids != NULL ? pids : "unknown");
		return false;
	}
	AcceptInvalidationMessages();
	return catch_up_and_flip(cat, id, PG_INT32_MAX, figures);
}
