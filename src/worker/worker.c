/*
 * worker.c
 *		A process that runs projections of one database.
 *
 * It claims the projection that has waited longest, runs one batch in one
 * transaction, gives it back, and claims the next.  With nothing to do it sleeps
 * until the scheduler or the launcher wakes it, and leaves after ES_LINGER_MS; after a batch it
 * leaves if the launcher has asked it to make way for another process.
 *
 * An error ends the transaction, not the process: it is aborted as a whole, as the
 * autovacuum worker does it (postmaster/autovacuum.c), and what is to be done about
 * it is decided and recorded in a new one (projections/failure.c).  A FATAL, or a
 * crash, leaves the checkpoint where it was.
 *
 * Invariants
 * 1. Nothing of one projection's session is left for the next: role and settings end
 *    with the call (projections/call.c), temporary tables, prepared statements, LISTEN
 *    and SET ROLE are refused there, advisory locks are given back after each batch.
 * 2. Every wait answers interrupts: the batch's time limit
 *    (eventstore.projection_timeout) and a statement that wants the projection
 *    (projections/figures.c) are query cancels.
 * 3. The commit need not be flushed: checkpoint and effects are lost or kept together.
 * 4. It sleeps outside of transactions.
 *
 * Locks: those of a batch.
 * Crash: see 3; the server restarts, and the launcher starts workers anew.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "core/settings.h"
#include "core/wait_event.h"
#include "log/positions.h"
#include "projections/call.h"
#include "projections/catchup.h"
#include "projections/failure.h"
#include "projections/progress.h"
#include "projections/switch.h"
#include "projections/turn.h"
#include "worker/pool.h"
#include "worker/session.h"

/* Greatest number of turns a second, of all projections together, that find nothing. */
#define IDLE_LOOKS			1000
/* Delay before a projection is run again whose failure could not be recorded. */
#define UNRECORDED_MS		1000

/* The projection that this worker runs now; NULL: none. */
static EsFigures *claimed = NULL;
/* When it last ran one, or began to look for one. */
static TimestampTz busy_at = 0;
/* This worker has connected, and seen whether there is a store. */
static bool began = false;
static TimeoutId batch_timeout;
static volatile sig_atomic_t batch_timed_out = false;

static void
time_is_up(void)
{
	batch_timed_out = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static void
release_claim(void)
{
	es_turn_release(claimed);
	claimed = NULL;
	/* a cancel was for a statement that wanted the projection (2); no other can come now */
	QueryCancelPending = false;
}

/* This process ends in the midst of a batch: the projection is run again after a delay. */
static void
die_claimed(int code, Datum arg)
{
	if (claimed == NULL)
		return;
	es_turn_note_death(claimed);
	release_claim();
}

/* Show the projection in pg_stat_activity and the process title. */
static void
show_activity(const EsProjection *projection)
{
	char	   *what = psprintf("applying events to projection \"%s\"", projection->name);

	pgstat_report_activity(STATE_RUNNING, what);
	set_ps_display(what);
	pfree(what);
}

/*
 * The store of the claimed projection, locked; NULL: it has gone.  Another one may
 * have taken its place, with other projections of the same ids.
 */
static const EsCatalog *
claimed_store(void)
{
	const EsCatalog *cat = es_catalog_lock_if_there(AccessShareLock);

	return cat != NULL && cat->position_register == claimed->store ? cat : NULL;
}

/*
 * Apply the next batch of the claimed projection, in a transaction.  What came of it is in
 * "catchup", also after an error.
 */
static void
run_batch(EsCatchup *catchup)
{
	const EsProjection *projection;

	es_session_begin();
	catchup->cat = claimed_store();
	if (catchup->cat != NULL &&
		(projection = es_definition_by_id(catchup->cat, catchup->id)) != NULL)
	{
		show_activity(projection);
		es_catchup_batch(catchup);
	}
	es_session_finish();
	if (catchup->events > 0)
		es_turn_end(claimed, catchup->events);
}

/*
 * The projection has caught up: let appends apply it.  If open appends are in the way, that
 * is no failure; it is shown as the projection's error, and tried again after longer and
 * longer delays.
 */
static void
run_switch(EsCatchup *catchup)
{
	char	   *in_the_way = NULL;

	es_session_begin();
	catchup->cat = claimed_store();
	if (catchup->cat != NULL &&
		!es_switch_to_inline(catchup->cat, catchup->id, claimed, &in_the_way) && in_the_way != NULL)
	{
		es_turn_note_no_switch(claimed);
		es_progress_note_obstacle(catchup->id, in_the_way, ERRCODE_LOCK_NOT_AVAILABLE);
	}
	es_session_finish();
}

/* The error as text for people: what the time limit did is not the user's request. */
static void
explain_timeout(ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && batch_timed_out)
		error->message = psprintf("the batch took longer than eventstore.projection_timeout, %d ms",
								  es_guc_projection_timeout);
}

static void
note_failure(EsCatchup *catchup, ErrorData *error)
{
	if (es_turn_was_interrupted(claimed) && error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		!batch_timed_out)
	{
		es_turn_put_off(claimed, ES_INTERRUPTED_MS, 0);
		return;
	}
	/* should recording it fail as well, and end this process */
	es_turn_put_off(claimed, UNRECORDED_MS, 0);
	HOLD_CANCEL_INTERRUPTS();	/* a statement that wants the projection waits a moment */
	es_session_begin();
	es_failure_handle(claimed_store(), claimed, catchup->events, es_turn_events_done(), error);
	es_session_finish();
	RESUME_CANCEL_INTERRUPTS();
}

/*
 * Run the claimed projection for one batch, whatever happens in it.  False: the store
 * has gone.
 */
static bool
take_turn(MemoryContext context)
{
	EsCatchup	catchup = {.id = claimed->id, .upto = PG_INT64_MAX,
	.limit = claimed->batch_limit, .figures = claimed};
	ErrorData  *volatile error = NULL;

	batch_timed_out = false;
	es_call_forget_failure();
	es_turn_begin(claimed);
	PG_TRY();
	{
		if (es_guc_projection_timeout > 0)
			enable_timeout_after(batch_timeout, es_guc_projection_timeout);
		run_batch(&catchup);
		if (catchup.runs && catchup.complete && es_turn_is_time_to_switch(claimed))
			run_switch(&catchup);
		disable_timeout(batch_timeout, false);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		disable_timeout(batch_timeout, false);
		QueryCancelPending = false;
		error_context_stack = NULL;
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		explain_timeout(error);
		AbortOutOfAnyTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(context);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();

	LockReleaseAll(USER_LOCKMETHOD, true);	/* (1) */
	if (error != NULL)
		note_failure(&catchup, error);
	else if (!catchup.runs)
		es_turn_put_off(claimed, ES_INTERRUPTED_MS, 0);
	else if (catchup.complete && catchup.events == 0)
		es_turn_put_off(claimed, es_figures_count(claimed->store) * 1000 / IDLE_LOOKS, 0);
	MemoryContextSwitchTo(context);
	MemoryContextReset(context);
	return error != NULL || catchup.cat != NULL;
}

/* The store of this database; NULL: there is none. */
static EsDatabase *
find_own_store(Oid *store)
{
	const EsCatalog *cat;
	EsDatabase *db = NULL;

	es_session_begin();
	cat = es_catalog_lock_if_there(AccessShareLock);
	if (cat != NULL)
	{
		db = es_positions_attach(cat);
		*store = db->store;
	}
	es_session_finish();
	return db;
}

/*
 * Claim a projection that is due; NULL: none.  None is while the log can be restored:
 * the read models may be just then.
 */
static EsFigures *
claim_projection(EsDatabase *db)
{
	if (!pg_atomic_read_u32(&db->sealed))
		return NULL;
	return es_figures_claim(db->store, es_registry_glance(db));
}

/* The scheduler has left: perhaps because the store has gone. */
static bool
store_has_gone(EsDatabase *db, Oid store)
{
	Oid			store_now = InvalidOid;

	return pg_atomic_read_u32(&db->scheduler) == 0 &&
		(find_own_store(&store_now) == NULL || store_now != store);
}

/* Whoever starts workers sees anew when which projection is due. */
static void
tell_what_is_due(EsDatabase *db)
{
	if (pg_atomic_read_u32(&db->scheduler) != 0)
		es_database_wake_scheduler(db);
	else
		es_database_list_due(db);
}

/*
 * Wait until there may be something to do.  False: leave.  *in_vain: was this worker woken, or
 * started, for a projection that is not due after all?  It stays no longer for that.
 */
static bool
sleep_until_woken(EsDatabase *db, Oid store, bool *in_vain)
{
	TimestampTz end = TimestampTzPlusMilliseconds(busy_at, ES_LINGER_MS);
	int			events;
	bool		woken;

	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	set_ps_display("idle");
	(void) es_pool_set_idle(true);
	claimed = claim_projection(db);
	if (claimed != NULL)
	{
		(void) es_pool_set_idle(false);
		return true;
	}
	if (*in_vain)
		tell_what_is_due(db);	/* a statement may have put it off: es_figures_interrupt */
	events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					   TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end),
					   es_wait_event(ES_WAIT_WORKER_MAIN));
	ResetLatch(MyLatch);
	woken = es_pool_set_idle(false);
	*in_vain = woken;
	if ((events & WL_TIMEOUT) != 0 && !woken)
		return false;
	return !es_pool_is_to_leave() && !store_has_gone(db, store);
}

/*
 * The store has gone, before we found it if that is InvalidOid: nothing of it is due any more,
 * and the scheduler should look.
 */
static void
make_scheduler_look(Oid store)
{
	EsDatabase *db = es_database_of(MyDatabaseId, false);

	if (db == NULL)
		return;
	es_figures_forget_store(OidIsValid(store) ? store : db->store);
	es_database_note_change(db);
}

/* This process ends before it could begin to work: no other one is started for a while. */
static void
note_failed_start(int code, Datum arg)
{
	EsDatabase *db = es_database_of(DatumGetObjectId(arg), false);

	/* ended to make room for a statement is no failure */
	if (code != 0 && !began && db != NULL && db->holds == 0)
		pg_atomic_write_u32(&db->worker_failed, 1);
}

/* Before the slot is free again: the launcher sees what is left to do. */
static void
tell_at_end(int code, Datum arg)
{
	tell_what_is_due((EsDatabase *) DatumGetPointer(arg));
}

/* The entry point of the process, found by name when it starts. */
extern PGDLLEXPORT void es_worker_main(Datum arg);

void
es_worker_main(Datum arg)
{
	MemoryContext context;
	EsDatabase *db;
	Oid			dboid;
	Oid			store = InvalidOid;
	bool		there;
	bool		in_vain = true;

	memcpy(&dboid, MyBgworkerEntry->bgw_extra, sizeof(Oid));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!es_pool_enter(DatumGetInt32(arg), dboid))
		return;
	before_shmem_exit(note_failed_start, ObjectIdGetDatum(dboid));
	BackgroundWorkerInitializeConnectionByOid(dboid, InvalidOid, 0);
	es_session_set_up();
	batch_timeout = RegisterTimeout(USER_TIMEOUT, time_is_up);
	before_shmem_exit(die_claimed, (Datum) 0);
	context = AllocSetContextCreate(TopMemoryContext, "eventstore worker", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	busy_at = GetCurrentTimestamp();
	db = find_own_store(&store);
	began = true;
	if (db != NULL)
		before_shmem_exit(tell_at_end, PointerGetDatum(db));
	else
		make_scheduler_look(store);
	while (db != NULL && db->store == store)
	{
		QueryCancelPending = false; /* there is nothing to cancel */
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (claimed == NULL)
			claimed = claim_projection(db);
		if (claimed == NULL)
		{
			if (!sleep_until_woken(db, store, &in_vain))
				break;
			continue;
		}
		in_vain = false;
		there = take_turn(context);
		busy_at = GetCurrentTimestamp();
		release_claim();
		ConditionVariableBroadcast(&db->progress_moved);
		tell_what_is_due(db);
		pgstat_report_stat(false);
		if (!there)
			make_scheduler_look(store);
		if (!there || es_pool_is_to_leave())
			break;
	}
}
