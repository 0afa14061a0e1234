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

static bool changed = false;	/* this transaction has changed the list */

static void
refuse_to_prepare(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		changed = false;
	if (event == XACT_EVENT_PRE_PREPARE && changed)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has changed projections")));
}

/* This transaction changes the list: the scheduler is woken when it has ended (1). */
void
es_changed_note(void)
{
	const EsCatalog *cat;

	if (!es_registry_loaded())
		return;
	cat = es_catalog_lock_if_there(AccessShareLock);
	if (cat == NULL)
		return;
	changed = true;
	es_database_change_at_end(es_positions_attach(cat));
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
	RegisterXactCallback(refuse_to_prepare, NULL);
}
