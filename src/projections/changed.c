/*
 * changed.c
 *		Telling the processes that the list of projections has changed.
 *
 * Every backend keeps the list (definition.c), and the scheduler an entry in shared memory
 * for each projection that workers run (figures.c).  A trigger on eventstore.projection
 * sends backends an invalidation of the table, as DDL does, and wakes the scheduler when the
 * transaction has ended.
 *
 * Invariant
 * 1. The scheduler is woken when the transaction that made the change has become visible,
 *    or has aborted; then it reads the table anew.
 *
 * Locks: AccessShare on event_log.
 * Crash: shared memory starts empty, and the scheduler reads the table.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "utils/inval.h"

#include "log/positions.h"
#include "projections/changed.h"

PG_FUNCTION_INFO_V1(projections_changed);

static EsDatabase *changed_in = NULL;	/* this transaction has changed the list */

static void
wake_scheduler_at_end(XactEvent event, void *arg)
{
	EsDatabase *db = changed_in;

	if (db == NULL)
		return;
	/* nobody would be woken at COMMIT PREPARED */
	if (event == XACT_EVENT_PRE_PREPARE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has changed projections")));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	changed_in = NULL;
	pg_atomic_fetch_add_u32(&db->projections_changed, 1);
	es_registry_call_scheduler(db);
}

/* This transaction changes the list: the scheduler is woken when it has ended (1). */
void
es_changed_note(void)
{
	const EsCatalog *cat;

	if (!es_registry_loaded())
		return;
	cat = es_catalog_lock_if_there(AccessShareLock);
	if (cat != NULL)
		changed_in = es_positions_attach(cat);
}

/*
 * eventstore.projections_changed() → trigger
 */
Datum
projections_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("eventstore.projections_changed can only be called as a trigger")));
	CacheInvalidateRelcache(trigger->tg_relation);
	es_changed_note();
	return PointerGetDatum(NULL);
}

void
es_changed_init(void)
{
	RegisterXactCallback(wake_scheduler_at_end, NULL);
}
