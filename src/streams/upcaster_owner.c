/*
 * upcaster_owner.c
 *		The owner of an upcaster.
 *
 * As with a projection (projections/owner.c), a function carries it (core/carrier.c), and
 * the row of eventstore.upcaster has the owner's name as of its last change in this database
 * as a hint for a restore.  An upcaster that is restored without its owner, so that it would
 * be a superuser's, is not active until it is registered again.
 *
 * Invariant
 * 1. The row changes whenever the owner does: it carries the invalidation.
 *
 * Locks: none of its own; rows of eventstore.upcaster.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "core/spi.h"
#include "streams/upcaster.h"
#include "streams/upcaster_owner.h"

PG_FUNCTION_INFO_V1(upcaster_restored);

/* Write down the owner, for the next restore, and whether the upcaster may be applied. */
static void
record_owner(const EsCarrier *carrier, const char *owner, bool active)
{
	static EsStatement record = {
		"UPDATE eventstore.upcaster SET owner = $2, active = active AND $3 WHERE upcaster_id = $1",
		{INT4OID, TEXTOID, BOOLOID}
	};
	Datum		values[3] = {
		Int32GetDatum(carrier->id), CStringGetTextDatum(owner), BoolGetDatum(active)
	};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&record, values, NULL);
	es_spi_end(&spi);
	CommandCounterIncrement();
}

static void
warn_of_foreign(const char *type, int32 from_schema, const EsCarrier *carrier, const char *then)
{
	ereport(WARNING,
			(errmsg("the upcaster of type \"%s\", schema version %d, is not applied: its owner was role \"%s\" and is superuser \"%s\" now",
					type, from_schema, then, GetUserNameFromId(carrier->owner, false)),
			 errdetail("It would run with the rights of the superuser. Events are shown as they are stored."),
			 errhint("Register it again, as the role that is to be its owner, with es_register_upcaster().")));
}

/*
 * An upcaster has another owner, or it has one now (1).
 */
void
es_upcaster_owner_changed(const EsCatalog *cat, const EsCarrier *carrier, bool is_new)
{
	const EsUpcaster *upcaster = es_upcaster_by_id(cat, carrier->id);
	bool		foreign;

	if (upcaster == NULL)
		return;
	foreign = is_new && es_carrier_is_foreign(carrier, upcaster->owner_then);
	if (foreign)
		warn_of_foreign(pnstrdup(upcaster->type.bytes, upcaster->type.len), upcaster->from_schema,
						carrier, upcaster->owner_then);
	record_owner(carrier, foreign ? upcaster->owner_then : GetUserNameFromId(carrier->owner, false), !foreign);
}

/*
 * Give the upcasters that these roles own to another.
 */
void
es_upcaster_reassign(const EsCatalog *cat, List *roles, Oid to)
{
	EsUpcasts  *upcasts = es_upcasts_all(cat);

	for (int i = 0; upcasts != NULL && i < upcasts->n; i++)
	{
		if (list_member_oid(roles, upcasts->list[i].carrier.owner))
			es_carrier_set_owner(upcasts->list[i].carrier.function, to);
	}
}

/*
 * Drop the upcasters that these roles own.
 */
void
es_upcaster_drop_owned(const EsCatalog *cat, List *roles)
{
	EsUpcasts  *upcasts = es_upcasts_all(cat);

	for (int i = 0; upcasts != NULL && i < upcasts->n; i++)
	{
		const EsCarrier *carrier = &upcasts->list[i].carrier;

		if (!list_member_oid(roles, carrier->owner))
			continue;
		es_upcaster_remove(cat, carrier->id);
		es_carrier_drop(carrier->function);
	}
}

/*
 * eventstore.upcaster_restored() → trigger
 */
Datum
upcaster_restored(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	EsCarrier	carrier;
	const char *then;
	HeapTuple	row;
	TupleDesc	desc;
	int			column;
	Datum		active = BoolGetDatum(false);
	bool		isnull = false;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("eventstore.upcaster_restored can only be called as a trigger")));
	row = es_carrier_restore_row(trigger, ES_CARRIES_UPCASTER, "upcaster_id", &carrier, &then);
	if (then == NULL || !es_carrier_is_foreign(&carrier, then))
		return PointerGetDatum(row);

	desc = RelationGetDescr(trigger->tg_relation);
	warn_of_foreign(SPI_getvalue(row, desc, SPI_fnumber(desc, "type")),
					DatumGetInt32(SPI_getbinval(row, desc, SPI_fnumber(desc, "from_schema"), &isnull)), &carrier, then);
	column = SPI_fnumber(desc, "active");
	isnull = false;
	return PointerGetDatum(heap_modify_tuple_by_cols(row, desc, 1, &column, &active, &isnull));
}
