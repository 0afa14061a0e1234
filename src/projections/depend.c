/*
 * depend.c
 *		Objects that a projection names are not dropped without the projection.
 *
 * The function of a handler or reducer, and what a query or reset names, stand in the
 * projection's list of names (code.c); an upcaster's function is treated alike.  A DROP of
 * one of them is refused, with the projection named, or with CASCADE takes the projection
 * along, as PostgreSQL does for its own objects.  Its record of dependencies, pg_depend,
 * cannot hold a row of a table, and is not dumped.
 *
 * The object access hook is called for each object of a drop, those that a CASCADE
 * reaches too, before it is removed (catalog/dependency.c, deleteOneObject).
 * It does not learn whether the statement said CASCADE: the utility hook notes that.  The
 * carrier of a projection that has gone along is dropped when the statement has ended.  Both
 * hooks hand on to roles.c what is about owners.
 *
 * Invariant: what is noted of a statement is forgotten when it ends, also by an error that is
 * caught.
 *
 * Locks: a projection that goes along is removed as by es_drop_projection(), with
 * appends locked out if it is live, and a worker's batch stopped.  The object is locked
 * by then: an appender that has not yet touched it in its transaction, and does so now,
 * is in a deadlock with the drop, which the server resolves (40P01).
 * Crash: everything belongs to the dropping transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "log/change.h"
#include "projections/changed.h"
#include "projections/code.h"
#include "projections/control.h"
#include "projections/depend.h"
#include "projections/roles.h"

PG_FUNCTION_INFO_V1(load_guard);

static object_access_hook_type prev_object_access_hook = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

/* The utility statement that is running, the innermost. */
typedef struct Statement
{
	bool		cascade;		/* did it say CASCADE? */
	bool		drops_functions;	/* is it a DROP FUNCTION? */
	List	   *carriers;		/* of projections and upcasters that went along; dropped at its end */
	MemoryContext context;		/* NULL: the utility hook has not seen it */
} Statement;

static Statement statement;

static bool
names_object(const EsProjection *projection, const char *identity)
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
		if (names_object(&all->list[i], identity))
			return &all->list[i];
	}
	return NULL;
}

/*
 * Have the carrier of a projection or upcaster that was removed dropped when the statement
 * has ended: until then it may be among what the statement drops itself, as when the
 * extension goes.
 */
static void
drop_later(Oid carrier)
{
	MemoryContext old;

	if (!OidIsValid(carrier) || statement.context == NULL)
		return;
	old = MemoryContextSwitchTo(statement.context);
	statement.carriers = lappend_oid(statement.carriers, carrier);
	MemoryContextSwitchTo(old);
}

static void
before_drop_of_named(Oid class_id, Oid object_id, void *arg)
{
	const EsCatalog *cat;
	const EsProjection *projection;
	EsCarrier	carrier;
	char	   *identity;

	if (class_id != RelationRelationId && class_id != ProcedureRelationId)
		return;
	/* not what the server itself drops: temporary tables, parts of a table rewrite */
	if (((ObjectAccessDrop *) arg)->dropflags & PERFORM_DELETION_INTERNAL)
		return;
	if ((cat = es_catalog_lock_if_there(AccessShareLock)) == NULL)
		return;
	if (object_id == cat->projection)
		es_changed_note();	/* the extension goes, and all projections */
	if (class_id == ProcedureRelationId)
	{
		carrier = es_carrier_of_function(object_id, SnapshotSelf);
		if (carrier.of != ES_CARRIES_NOTHING)
		{
			es_roles_carrier_dropped(cat, &carrier, statement.drops_functions);
			return;
		}
	}
	identity = es_code_identity(class_id, object_id);
	if (identity == NULL)
		return;
	if (class_id == ProcedureRelationId)
	{
		ListCell   *lc;

		foreach(lc, es_upcaster_before_drop(cat, identity + strlen("function "), statement.cascade))
			drop_later(lfirst_oid(lc));
	}
	while ((projection = find_dependent(cat, identity)) != NULL)
	{
		if (!statement.cascade)
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot drop %s because projection \"%s\" depends on it", identity, projection->name),
					 errhint("Drop the projection first with es_drop_projection(), or use DROP ... CASCADE to drop it too.")));
		es_change_check_drop();
		ereport(NOTICE,
				(errmsg("drop cascades to projection \"%s\"", projection->name)));
		drop_later(es_control_remove(cat, projection));
	}
	pfree(identity);
}

static void
object_accessed(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, class_id, object_id, sub_id, arg);
	if (sub_id != 0)
		return;
	if (access == OAT_DROP)
		before_drop_of_named(class_id, object_id, arg);
	else if (class_id == ProcedureRelationId && access == OAT_POST_CREATE)
		es_roles_function_created(object_id);
	else if (class_id == ProcedureRelationId && access == OAT_POST_ALTER)
		es_roles_function_altered(object_id);
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

/* Note what the drop hook must know of the statement; do what comes before it. */
static void
begin_statement(Node *node)
{
	statement.cascade = says_cascade(node);
	statement.drops_functions = IsA(node, DropStmt) &&
		(((DropStmt *) node)->removeType == OBJECT_FUNCTION || ((DropStmt *) node)->removeType == OBJECT_ROUTINE);
	es_roles_before_statement(node);
}

static void
end_statement(Node *node)
{
	ListCell   *lc;

	foreach(lc, statement.carriers)
	{
		if (SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(lfirst_oid(lc))))
			es_carrier_drop(lfirst_oid(lc));
	}
	es_roles_after_statement(node);
}

static void
process_dropping_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
						 ProcessUtilityContext context, ParamListInfo params,
						 QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *qc)
{
	Statement	outer = statement;

	PG_TRY();
	{
		statement = (Statement) {.context = CurrentMemoryContext};
		begin_statement(pstmt->utilityStmt);
		(prev_process_utility != NULL ? prev_process_utility : standard_ProcessUtility)
			(pstmt, query, read_only_tree, context, params, environment, dest, qc);
		end_statement(pstmt->utilityStmt);
	}
	PG_FINALLY();
	{
		statement = outer;
	}
	PG_END_TRY();
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
	if (statement.context == NULL)
		begin_statement(((EventTriggerData *) fcinfo->context)->parsetree);
	PG_RETURN_NULL();
}

/* What load_guard() has noted ends with the transaction at the latest. */
static void
forget_statement_at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		if (statement.context == NULL)
			statement = (Statement) {0};
}

void
es_depend_init(void)
{
	prev_object_access_hook = object_access_hook;
	object_access_hook = object_accessed;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_dropping_utility;
	RegisterXactCallback(forget_statement_at_end, NULL);
}
