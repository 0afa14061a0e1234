/*
 * owner.c
 *		The owner of a projection.
 *
 * The owner is that of a function, the carrier (core/carrier.c).  The row of
 * eventstore.projection holds the owner's name only as a hint: its name when the owner was
 * last changed, or that role renamed, in this database.
 *
 * A dump carries both, and a restore makes the functions before it fills the table.  With
 * --no-owner, or where the role is missing, the functions are the restoring role's.  If
 * that is a superuser, code of another role's would run with his rights: a trigger
 * compares, and lets the projection come back paused.  Appends do not apply it, even if it
 * was inline; "live" stays in its row until the first append, which notes that it has
 * applied all that was restored (control.c, es_control_settle).
 *
 * What statements about roles and carriers do is in roles.c.
 *
 * Locks: none of its own; the projection is locked by the caller (control.c), or new.
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
#include "projections/owner.h"

PG_FUNCTION_INFO_V1(projection_restored);

/* The carrier of a projection that is about to be made. */
void
es_owner_create(const EsCatalog *cat, int id, const char *name, Oid owner)
{
	es_carrier_create(cat->schema, ES_CARRIES_PROJECTION, id, owner,
					  psprintf("Its owner is the owner of projection \"%s\", whose code runs with that role's rights", name));
}

/* Write the owner's name into the row, for the next restore. */
void
es_owner_record(int id, Oid owner)
{
	static EsStatement record = {
		"UPDATE eventstore.projection SET owner = $2 WHERE projection_id = $1 AND owner <> $2",
		{INT4OID, TEXTOID}
	};
	Datum		values[2] = {
		Int32GetDatum(id), CStringGetTextDatum(GetUserNameFromId(owner, false))
	};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&record, values, NULL);
	es_spi_end(&spi);
	CommandCounterIncrement();
}

/*
 * Give a projection to a role, also one that has no owner.  The hook of roles.c changes what
 * depends on the owner.
 */
void
es_owner_set(const EsCatalog *cat, const EsProjection *projection, Oid owner)
{
	int			id = projection->id;
	char	   *name = pstrdup(projection->name);

	if (OidIsValid(projection->carrier.function))
		es_carrier_set_owner(projection->carrier.function, owner);
	else
	{
		es_owner_record(id, owner); /* so it is not foreign */
		es_owner_create(cat, id, name, owner);
	}
}

/*
 * A paused or stopped projection is resumed by somebody who may: that confirms its owner; if
 * it has none, the current role becomes it.
 */
const EsProjection *
es_owner_confirm(const EsCatalog *cat, const EsProjection *projection)
{
	int			id = projection->id;

	if (OidIsValid(projection->carrier.owner))
		es_owner_record(id, projection->carrier.owner);
	else
	{
		ereport(NOTICE,
				(errmsg("role \"%s\" is the owner of projection \"%s\" now",
						GetUserNameFromId(GetUserId(), false), projection->name)));
		es_owner_set(cat, projection, GetUserId());
	}
	return es_definition_by_id(cat, id);
}

void
es_owner_warn_of_foreign(const char *name, const EsCarrier *carrier, const char *then)
{
	ereport(WARNING,
			(errmsg("projection \"%s\" is paused: its owner was role \"%s\" and is superuser \"%s\" now",
					name, then, GetUserNameFromId(carrier->owner, false)),
			 errdetail("Its code would run with the rights of the superuser."),
			 errhint("Give it to a role with es_alter_projection(name, owner => ...), or leave it as it is; then es_resume_projection().")));
}

/*
 * eventstore.projection_restored() → trigger
 */
Datum
projection_restored(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	EsCarrier	carrier;
	const char *then;
	HeapTuple	row;
	TupleDesc	desc;
	int			column;
	Datum		state;
	bool		isnull = false;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("eventstore.projection_restored can only be called as a trigger")));
	row = es_carrier_restore_row(trigger, ES_CARRIES_PROJECTION, "projection_id", &carrier, &then);
	if (then == NULL || !es_carrier_is_foreign(&carrier, then))
		return PointerGetDatum(row);

	desc = RelationGetDescr(trigger->tg_relation);
	es_owner_warn_of_foreign(SPI_getvalue(row, desc, SPI_fnumber(desc, "name")), &carrier, then);
	column = SPI_fnumber(desc, "state");
	state = CStringGetTextDatum(es_state_name(ES_STATE_PAUSED));
	return PointerGetDatum(heap_modify_tuple_by_cols(row, desc, 1, &column, &state, &isnull));
}
