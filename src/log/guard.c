/*
 * guard.c
 *		The log is written through the API only, and is not dropped by mistake.
 *
 * The guard is a trigger on event_log, event_tag, stream and event_type, ENABLE ALWAYS, so
 * that session_replication_role does not switch it off.  It refuses UPDATE, DELETE and
 * TRUNCATE to everybody but es_reset(), a superuser who slips included, and INSERT except to
 * restore: see seal.c.  The append itself does not fire it (writer.c).
 *
 * The store's other tables (projections, dead letters, checkpoints, ...) take a direct INSERT
 * at the same times only: a restore into a store that is in use would bring back what has
 * been dealt with.  The store's own statements are let through (core/spi.c), which users'
 * code cannot pretend to be.  UPDATE and DELETE of these tables are their owner's affair.
 *
 * The drop of one of these tables, of a column or an index that the store made, which is
 * also how DROP EXTENSION, DROP SCHEMA and DROP OWNED arrive here, is refused while the log
 * holds events, unless eventstore.allow_drop is on.  The object access hook is called for
 * each object of a drop before it is removed (catalog/dependency.c, deleteOneObject).
 *
 * A server that does not preload the library has no hook until something loads it:
 * an event trigger does, before any statement that could drop (projections/depend.c).
 *
 * A superuser who disables the triggers or alters the tables is beyond us.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "core/settings.h"
#include "core/spi.h"
#include "log/dictionary.h"
#include "log/event.h"
#include "log/guard.h"
#include "log/seal.h"
#include "log/stream.h"
#include "log/tags.h"

PG_FUNCTION_INFO_V1(guard);

static object_access_hook_type prev_object_access_hook = NULL;

/*
 * The function behind the guard's triggers; the writer leaves those out.  Found
 * by the name of the trigger that the install script made.
 */
Oid
es_guard_function(Relation log)
{
	TriggerDesc *triggers = log->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		if (strcmp(triggers->triggers[i].tgname, "eventstore_guard") == 0)
			return triggers->triggers[i].tgfoid;
	}
	return InvalidOid;
}

static void
refuse_change(TriggerData *trigger, const char *hint)
{
	const char *verb = TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ? "INSERT into" :
		TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? "UPDATE" :
		TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? "DELETE from" : "TRUNCATE";

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("cannot %s \"%s.%s\": the event log is append-only", verb,
					"eventstore", RelationGetRelationName(trigger->tg_relation)),
			 errhint("%s", hint)));
}

/* A row for one of the store's tables besides the log. */
static void
guard_kept(TriggerData *trigger)
{
	Oid			relid = RelationGetRelid(trigger->tg_relation);

	if (es_spi_fires_trigger())
		return;
	if (es_compat_owns_relation(relid) && es_seal_allows_restore())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("cannot INSERT into \"%s.%s\": the store keeps it itself", "eventstore",
					RelationGetRelationName(trigger->tg_relation)),
			 errhint("To restore rows into a store that has seen appends, a superuser can set eventstore.restore = on.")));
}

/*
 * eventstore.guard() → trigger
 */
Datum
guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("eventstore.guard can only be called as a trigger")));

	if (!es_catalog_is_of_log(RelationGetRelationName(trigger->tg_relation)))
	{
		guard_kept(trigger);
		return PointerGetDatum(trigger->tg_trigtuple);
	}
	/* the store itself empties it: es_reset() */
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) && es_spi_fires_trigger())
		return PointerGetDatum(NULL);
	if (!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		refuse_change(trigger, "Events are immutable: append an event that corrects.");

	if (!es_compat_owns_relation(RelationGetRelid(trigger->tg_relation)))
		refuse_change(trigger, "Append with es_append().");
	if (!es_seal_allows_insert())
		refuse_change(trigger, "Append with es_append(). To restore events into a log that has seen appends, "
					  "a superuser can set eventstore.restore = on.");
	return PointerGetDatum(trigger->tg_trigtuple);
}

/* Does the log hold an event that this transaction can see? */
static bool
log_holds_events(Oid log_oid)
{
	Relation	log = table_open(log_oid, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(log, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(log, NULL);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
	return found;
}

/*
 * Is this part of the log?  A column is if the install script made it: those that follow
 * are users' own.
 */
static bool
is_guarded(const char *name, int column)
{
	static const struct
	{
		const char *table;
		int			columns;
	}			tables[] = {
		{"event_log", ES_LOG_COLS},
		{"event_tag", ES_TAG_COLS},
		{"stream", ES_STREAM_COLS},
		{"event_type", ES_TYPE_COLS},
	};

	if (!es_catalog_is_of_log(name))
		return false;
	for (int i = 0; column > 0 && i < lengthof(tables); i++)
	{
		if (strcmp(name, tables[i].table) == 0)
			return column <= tables[i].columns;
	}
	return true;
}

static void
before_drop_of_log(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	Oid			schema;
	Oid			log;

	if (prev_object_access_hook)
		prev_object_access_hook(access, class_id, object_id, sub_id, arg);

	if (access != OAT_DROP || class_id != RelationRelationId || es_guc_allow_drop)
		return;

	/*
	 * By name, not through the catalog's cache: in the middle of DROP EXTENSION some
	 * of the store's relations are gone already.
	 */
	schema = get_namespace_oid("eventstore", true);
	if (!OidIsValid(schema) || get_rel_namespace(object_id) != schema ||
		!is_guarded(get_rel_name(object_id), sub_id))
		return;
	if (!OidIsValid(get_extension_oid("eventstore", true)))
		return;					/* somebody's own */
	log = get_relname_relid("event_log", schema);
	if (!OidIsValid(log) || get_rel_relkind(log) != RELKIND_RELATION || !log_holds_events(log))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot drop the event log or parts of it: it holds events"),
			 errhint("If that is what you want, SET eventstore.allow_drop = on first.")));
}

void
es_guard_init(void)
{
	prev_object_access_hook = object_access_hook;
	object_access_hook = before_drop_of_log;
}
