/*
 * depend.c
 *		What a projection names is not dropped without it.
 *
 * The function of a handler or reducer, and what a query or reset names, stand in
 * the projection's list of names (code.c); an upcaster's function is treated alike.  A DROP of one of them is refused, with
 * the projection named, or with CASCADE takes the projection along: what PostgreSQL
 * does for its own objects.  Its own record of dependencies cannot hold a row of a
 * table, and is not dumped.
 *
 * The object access hook is called for each object of a drop, those that a CASCADE
 * reaches too, before it is removed (catalog/dependency.c, deleteOneObject).
 * Whether the statement said CASCADE is not handed to it: the utility hook notes that.
 *
 * Locks: a projection that goes along is removed as by es_drop_projection(), with
 * appends locked out if it is live, and a worker's batch stopped.  The object is locked
 * by then: an appender that has not yet touched it in its transaction, and does so now,
 * is in a deadlock with the drop, which the server resolves (40P01).
 * Crash: everything belongs to the dropping transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/builtins.h"

#include "core/spi.h"
#include "projections/changed.h"
#include "projections/code.h"
#include "projections/control.h"
#include "projections/depend.h"

PG_FUNCTION_INFO_V1(load_guard);

static object_access_hook_type prev_object_access_hook = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

/* Did the statement that is dropping say CASCADE? */
static bool cascade = false;

static bool
names(const EsProjection *projection, const char *identity)
{
	for (int i = 0; i < projection->nnamed; i++)
	{
		if (strcmp(projection->named[i], identity) == 0)
			return true;
	}
	return false;
}

/* The first projection that names an object; NULL: none. */
static const EsProjection *
find_dependent(const EsCatalog *cat, const char *identity)
{
	const EsProjections *all = es_definitions(cat);

	for (int i = 0; i < all->n; i++)
	{
		if (names(&all->list[i], identity))
			return &all->list[i];
	}
	return NULL;
}

/*
 * A role that owns projections is not dropped, as one that owns tables.  Only those of
 * this database are known.
 */
static void
refuse_owner(Oid role)
{
	const EsCatalog *cat = es_catalog_lock_if_there(AccessShareLock);
	char	   *name = GetUserNameFromId(role, true);
	const EsProjections *all;

	if (cat == NULL || name == NULL)
		return;
	all = es_definitions(cat);
	for (int i = 0; i < all->n; i++)
	{
		if (strcmp(all->list[i].owner, name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("role \"%s\" cannot be dropped because some objects depend on it", name),
					 errdetail("owner of projection \"%s\"", all->list[i].name)));
	}
}

static void
before_drop(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	const EsCatalog *cat;
	const EsProjection *projection;
	char	   *identity;

	if (prev_object_access_hook)
		prev_object_access_hook(access, class_id, object_id, sub_id, arg);
	if (access != OAT_DROP || sub_id != 0)
		return;
	if (class_id == AuthIdRelationId)
		refuse_owner(object_id);
	if (class_id != RelationRelationId && class_id != ProcedureRelationId)
		return;
	/* not what the server itself drops: temporary tables, parts of a table rewrite */
	if (((ObjectAccessDrop *) arg)->dropflags & PERFORM_DELETION_INTERNAL)
		return;
	if ((cat = es_catalog_lock_if_there(AccessShareLock)) == NULL)
		return;
	if (object_id == cat->projection)
		es_changed_note();	/* the extension goes, and all projections */
	identity = es_code_identity(class_id, object_id);
	if (identity == NULL)
		return;
	if (class_id == ProcedureRelationId)
		es_upcaster_before_drop(cat, identity + strlen("function "), cascade);
	while ((projection = find_dependent(cat, identity)) != NULL)
	{
		if (!cascade)
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot drop %s because projection \"%s\" depends on it", identity, projection->name),
					 errhint("Drop the projection first with es_drop_projection(), or use DROP ... CASCADE to drop it too.")));
		ereport(NOTICE,
				(errmsg("drop cascades to projection \"%s\"", projection->name)));
		es_control_remove(cat, projection);
	}
	pfree(identity);
}

static bool
alters_with_cascade(AlterTableStmt *statement)
{
	ListCell   *lc;

	foreach(lc, statement->cmds)
	{
		if (((AlterTableCmd *) lfirst(lc))->behavior == DROP_CASCADE)
			return true;
	}
	return false;
}

static bool
says_cascade(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropStmt:
			return ((DropStmt *) statement)->behavior == DROP_CASCADE;
		case T_DropOwnedStmt:
			return ((DropOwnedStmt *) statement)->behavior == DROP_CASCADE;
		case T_AlterTableStmt:
			return alters_with_cascade((AlterTableStmt *) statement);
		default:
			return false;
	}
}

/*
 * Owners are kept by name, which a dump carries.  A role that is renamed keeps its
 * projections: nobody who takes its old name gets them.  Only those of this database.
 */
static void
rename_owner(RenameStmt *statement)
{
	static EsStatement rename = {
		"UPDATE eventstore.projection SET owner = $2 WHERE owner = $1", {TEXTOID, TEXTOID}
	};
	Datum		values[2] = {CStringGetTextDatum(statement->subname), CStringGetTextDatum(statement->newname)};
	EsSpi		spi;

	CommandCounterIncrement();
	if (RecoveryInProgress() || es_catalog_lock_if_there(AccessShareLock) == NULL)
		return;
	es_spi_begin(&spi);
	(void) es_spi_run(&rename, values, NULL);
	es_spi_end(&spi);
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type next = prev_process_utility != NULL ? prev_process_utility : standard_ProcessUtility;

	bool		outer = cascade;

	/* an error leaves it; the next statement says it anew */
	cascade = says_cascade(pstmt->utilityStmt);
	next(pstmt, query, read_only_tree, context, params, environment, dest, qc);
	cascade = outer;
	if (IsA(pstmt->utilityStmt, RenameStmt) &&
		((RenameStmt *) pstmt->utilityStmt)->renameType == OBJECT_ROLE)
		rename_owner((RenameStmt *) pstmt->utilityStmt);
}

/*
 * eventstore.load_guard() → event_trigger
 *
 * For a session that loads the library only now: calling this has loaded it, and so
 * installed the hooks.  That for utility statements comes too late for this one.
 */
Datum
load_guard(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("eventstore.load_guard can only be called as an event trigger")));
	cascade = says_cascade(((EventTriggerData *) fcinfo->context)->parsetree);
	PG_RETURN_NULL();
}

void
es_depend_init(void)
{
	prev_object_access_hook = object_access_hook;
	object_access_hook = before_drop;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
