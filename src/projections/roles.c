/*
 * roles.c
 *		What becomes of projections and upcasters when a role or a carrier changes.
 *
 * Their owner is that of a function, the carrier (core/carrier.c), and the server changes
 * that as it does with any function.  What happens here on each statement:
 *
 *	REASSIGN OWNED		before the server begins, the carriers are given to the new role
 *	DROP OWNED			before it begins, the projections and upcasters are dropped
 *	ALTER FUNCTION ... OWNER TO, of a carrier	the row is changed with it
 *	ALTER ROLE ... RENAME	only the hint in the row is (owner.c)
 *	CREATE FUNCTION		of a carrier, by a restore that comes late: the projection has an owner
 *	DROP FUNCTION of a carrier	refused; with eventstore.allow_drop the projection goes along
 *	ALTER FUNCTION ... RENAME or SET SCHEMA, of a carrier	refused
 *
 * The first two are done before the server's own work because of locks, and because the
 * server may drop the tables that a projection writes or names, which have the same owner,
 * before the carrier.  Rights are checked as the server does, which then raises the error.
 *
 * Invariants
 * 1. A projection that appends apply changes its owner with appends locked out
 *    (switch.c): each is applied with the rights of the owner that it has in the append's
 *    transaction, from beginning to end.  event_log is locked before tables of the role
 *    are, so that an append which writes them is waited for, and is in no deadlock.
 * 2. The row changes whenever the owner does: it carries the invalidation, and whoever
 *    holds the projection's progress sees the change (definition.c).
 *
 * Lock order: event_log, projection_progress, carrier, projection.  ALTER and DROP FUNCTION
 * name the carrier, which the server has locked first: beside another statement on the same
 * projection one of both may get 40P01.
 * Crash: everything belongs to the statement's transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/user.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"

#include "core/settings.h"
#include "core/spi.h"
#include "log/change.h"
#include "projections/control.h"
#include "projections/owner.h"
#include "projections/progress.h"
#include "projections/roles.h"
#include "projections/switch.h"
#include "streams/upcaster_owner.h"

/* ---- all that roles own ---- */

/* The ids of the projections that these roles own; with appends locked out if need be (1). */
static List *
owned_by(const EsCatalog *cat, List *roles)
{
	const EsProjections *all = es_definitions(cat);
	List	   *ids = NIL;
	bool		live = false;

	for (int i = 0; i < all->n; i++)
	{
		if (!list_member_oid(roles, all->list[i].carrier.owner))
			continue;
		ids = lappend_int(ids, all->list[i].id);
		live |= all->list[i].live;
	}
	if (live)
		es_switch_lock_out(cat);
	return ids;
}

static bool
may_act_for_all(List *roles)
{
	ListCell   *lc;

	foreach(lc, roles)
	{
		if (!has_privs_of_role(GetUserId(), lfirst_oid(lc)))
			return false;
	}
	return true;
}

/* The store, if the server is going to do such a statement; NULL: it will not. */
static const EsCatalog *
store_for(const char *statement, List *roles)
{
	const EsCatalog *cat;

	if (RecoveryInProgress() || XactReadOnly || IsInParallelMode() || !may_act_for_all(roles))
		return NULL;
	cat = es_catalog_lock_if_there(AccessShareLock);
	if (cat != NULL && es_registry_loaded())
		cat = es_control_begin(statement);
	return cat;
}

static void
reassign_owned(const ReassignOwnedStmt *statement)
{
	List	   *roles = roleSpecsToIds(statement->roles);
	Oid			to = get_rolespec_oid(statement->newrole, false);
	const EsCatalog *cat = store_for("REASSIGN OWNED", lcons_oid(to, list_copy(roles)));
	ListCell   *lc;

	if (cat == NULL)
		return;
	foreach(lc, owned_by(cat, roles))
	{
		const EsProjection *projection = es_definition_by_id(cat, lfirst_int(lc));

		if (projection != NULL)
			es_owner_set(cat, projection, to);
	}
	es_upcaster_reassign(cat, roles, to);
}

static void
drop_owned(const DropOwnedStmt *statement)
{
	List	   *roles = roleSpecsToIds(statement->roles);
	const EsCatalog *cat = store_for("DROP OWNED", roles);
	ListCell   *lc;

	if (cat == NULL)
		return;
	foreach(lc, owned_by(cat, roles))
	{
		const EsProjection *projection = es_definition_by_id(cat, lfirst_int(lc));

		if (projection != NULL)
			es_control_drop(cat, projection);
	}
	es_upcaster_drop_owned(cat, roles);
}

/* The hints in the rows get the role's new name. */
static void
rename_role(const RenameStmt *statement)
{
	static EsStatement rename[] = {
		{"UPDATE eventstore.projection SET owner = $2 WHERE owner = $1", {TEXTOID, TEXTOID}},
		{"UPDATE eventstore.upcaster SET owner = $2 WHERE owner = $1", {TEXTOID, TEXTOID}}
	};
	Datum		values[2] = {CStringGetTextDatum(statement->subname), CStringGetTextDatum(statement->newname)};
	EsSpi		spi;

	if (RecoveryInProgress() || es_catalog_lock_if_there(AccessShareLock) == NULL)
		return;
	CommandCounterIncrement();
	es_spi_begin(&spi);
	for (int i = 0; i < lengthof(rename); i++)
		(void) es_spi_run(&rename[i], values, NULL);
	es_spi_end(&spi);
	CommandCounterIncrement();
}

/*
 * A utility statement begins.
 */
void
es_roles_before_statement(Node *statement)
{
	if (IsA(statement, ReassignOwnedStmt))
		reassign_owned((ReassignOwnedStmt *) statement);
	else if (IsA(statement, DropOwnedStmt))
		drop_owned((DropOwnedStmt *) statement);
}

/*
 * A utility statement has been done.
 */
void
es_roles_after_statement(Node *statement)
{
	if (IsA(statement, RenameStmt) && ((RenameStmt *) statement)->renameType == OBJECT_ROLE)
		rename_role((RenameStmt *) statement);
}

/* ---- one carrier ---- */

/* The projection or upcaster of a carrier, as a message calls it; NULL: there is none. */
static char *
describe_carried(const EsCatalog *cat, const EsCarrier *carrier)
{
	const EsProjection *projection;

	if (carrier->of == ES_CARRIES_UPCASTER)
		return es_upcaster_describe(cat, carrier->id);
	projection = es_definition_by_id(cat, carrier->id);
	return projection != NULL ? psprintf("projection \"%s\"", projection->name) : NULL;
}

/* The projection's owner has changed, or it has one now. */
static void
projection_changed(const EsCatalog *cat, const EsCarrier *carrier, bool is_new)
{
	const EsProjection *projection = es_definition_by_id(cat, carrier->id);
	EsProgress	progress;
	const char *then;

	if (projection == NULL)
		return;
	if (es_registry_loaded())
		(void) es_control_begin("ALTER FUNCTION ... OWNER TO");
	if (!is_new)
		(void) es_control_lock_out(cat, projection, &progress);	/* (1) */
	else
	{
		projection = es_control_take_from_appends(cat, projection, &progress);
		then = projection->owner_then;
		if (es_carrier_is_foreign(carrier, then))
		{
			es_owner_warn_of_foreign(projection->name, carrier, then);
			es_progress_set_state(carrier->id, ES_STATE_PAUSED, false, projection->rebuild_up_to);
			CommandCounterIncrement();
			return;
		}
	}
	es_owner_record(carrier->id, carrier->owner);	/* (2) */
}

/* A carrier has another owner, or is new: change what it is for accordingly. */
static void
carrier_changed(const EsCarrier *carrier, bool is_new)
{
	const EsCatalog *cat = es_catalog_lock_if_there(AccessShareLock);

	if (cat == NULL)
		return;
	if (carrier->of == ES_CARRIES_PROJECTION)
		projection_changed(cat, carrier, is_new);
	else
		es_upcaster_owner_changed(cat, carrier, is_new);
}

/*
 * A function has been created.  Called, like the next function, before its row is visible to
 * the current command.
 */
void
es_roles_function_created(Oid function)
{
	EsCarrier	now = es_carrier_of_function(function, SnapshotSelf);

	if (now.of != ES_CARRIES_NOTHING)
		carrier_changed(&now, true);
}

/*
 * A function has been altered.
 */
void
es_roles_function_altered(Oid function)
{
	EsCarrier	now = es_carrier_of_function(function, SnapshotSelf);
	EsCarrier	before = es_carrier_of_function(function, NULL);
	bool		same = before.of == now.of && before.id == now.id;

	if (before.of != ES_CARRIES_NOTHING && !same)
	{
		const EsCatalog *cat = es_catalog_lock_if_there(AccessShareLock);
		char	   *what = cat != NULL ? describe_carried(cat, &before) : NULL;

		if (what != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot rename or move function %s because %s requires it",
							format_procedure_qualified(function), what),
					 errhint("The function carries the owner; ALTER FUNCTION ... OWNER TO changes that.")));
	}
	if (now.of != ES_CARRIES_NOTHING && !(same && before.owner == now.owner))
		carrier_changed(&now, !same);
}

/*
 * A carrier is about to be dropped: its projection or upcaster goes along.  "by_name": by a
 * statement that names the carrier, which is hardly what was meant, but by pg_restore --clean
 * with eventstore.allow_drop.  Otherwise the extension is dropped, and appends and workers
 * wait for that; or a role's objects are, on a server that does not preload the library and
 * so has neither.
 */
void
es_roles_carrier_dropped(const EsCatalog *cat, const EsCarrier *carrier, bool by_name)
{
	char	   *what = describe_carried(cat, carrier);

	if (what == NULL)
		return;
	if (by_name && !es_guc_allow_drop)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop function %s because %s requires it",
						format_procedure_qualified(carrier->function), what),
				 carrier->of == ES_CARRIES_PROJECTION ?
				 errhint("You can drop the projection instead, with es_drop_projection().") :
				 errhint("You can drop the upcaster instead: drop its own function with CASCADE.")));
	if (by_name)
	{
		es_change_check_drop();
		ereport(NOTICE, (errmsg("drop cascades to %s", what)));
	}
	if (carrier->of == ES_CARRIES_UPCASTER)
		es_upcaster_remove(cat, carrier->id);
	else if (by_name)
		(void) es_control_remove(cat, es_definition_by_id(cat, carrier->id));
	else
	{
		es_progress_remove(carrier->id);
		CommandCounterIncrement();
	}
}
