/*
 * evict.c
 *		Getting the scheduler out of the way of statements that need a database
 *		to themselves, and telling it of prepared transactions that have ended.
 *
 * DROP DATABASE, CREATE DATABASE ... TEMPLATE, ALTER DATABASE ... RENAME and SET
 * TABLESPACE fail while anybody is connected to the database.  Before such a
 * statement runs, the scheduler is ended and kept out ("hold"); afterwards, also
 * after an error, the hold is given back and the launcher told.
 *
 * If the user may not run the statement, the scheduler is not ended.
 *
 * Crash: holds are in shared memory and vanish with it.
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat/compat.h"
#include "core/wait_event.h"
#include "projections/figures.h"
#include "worker/evict.h"
#include "worker/pool.h"

/* How long to wait for processes to end: as the server waits for others to leave a database. */
#define PATIENCE_MS		5000
/* Time between two looks. */
#define LOOK_MS			10

static ProcessUtility_hook_type prev_process_utility = NULL;

static bool
is_template(Oid dboid)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dboid));
	bool		result = HeapTupleIsValid(tuple) &&
		((Form_pg_database) GETSTRUCT(tuple))->datistemplate;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

/* The server's own have_createdb_privilege is not exported by all minors. */
static bool
may_create_databases(void)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool		result = superuser() ||
		(HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb);

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

static char *
template_of(CreatedbStmt *statement)
{
	ListCell   *lc;

	foreach(lc, statement->options)
	{
		DefElem    *option = lfirst(lc);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return "template1";
}

/* May the user run the statement?  The rules of commands/dbcommands.c. */
static bool
may_run(Node *statement, Oid dboid)
{
	if (es_compat_owns_database(dboid))
		return !IsA(statement, RenameStmt) || may_create_databases();
	return IsA(statement, CreatedbStmt) && is_template(dboid) && may_create_databases();
}

static bool
moves_tablespace(AlterDatabaseStmt *statement)
{
	ListCell   *lc;

	foreach(lc, statement->options)
	{
		if (strcmp(((DefElem *) lfirst(lc))->defname, "tablespace") == 0)
			return true;
	}
	return false;
}

/* The name of the database that the statement needs to itself, or NULL. */
static char *
needed_database(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_CreatedbStmt:
			return template_of((CreatedbStmt *) statement);
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) statement)->subname;
			return NULL;
		case T_AlterDatabaseStmt:
			if (moves_tablespace((AlterDatabaseStmt *) statement))
				return ((AlterDatabaseStmt *) statement)->dbname;
			return NULL;
		default:
			return NULL;
	}
}

/* False: the database has no log. */
static bool
take_hold(Oid dboid)
{
	EsDatabase *db = es_database_of(dboid, false);

	if (db == NULL)
		return false;
	LWLockAcquire(es_databases_lock(), LW_EXCLUSIVE);
	db->holds++;
	LWLockRelease(es_databases_lock());
	return true;
}

static void
release_hold(int code, Datum arg)
{
	Oid			dboid = DatumGetObjectId(arg);
	EsDatabase *db = es_database_of(dboid, false);

	if (db == NULL)				/* another statement has dropped it */
		return;
	LWLockAcquire(es_databases_lock(), LW_EXCLUSIVE);
	/* or drops it now: the entry must not be listed once the launcher may free it */
	if (db->dboid == dboid && !db->dropped)
	{
		if (db->holds > 0)
			db->holds--;
		es_database_list_due(db);	/* what was wanted meanwhile has not been started */
	}
	LWLockRelease(es_databases_lock());
}

/*
 * Is there a scheduler?  If so, send it a signal (0: none), under the lock that it takes
 * before it ends: the pid is its own.
 */
static bool
signal_scheduler(Oid dboid, int signal)
{
	EsDatabase *db = es_database_of(dboid, false);
	bool		there;

	if (db == NULL)
		return false;
	LWLockAcquire(es_databases_lock(), LW_SHARED);
	there = db->scheduler_pid != 0;
	if (there && signal != 0)
		(void) kill(db->scheduler_pid, signal);
	LWLockRelease(es_databases_lock());
	return there;
}

/*
 * End the scheduler, and then the workers, and wait until they have gone, or patience
 * is at its end.
 */
static void
end_workers(Oid dboid)
{
	TimestampTz begun = GetCurrentTimestamp();

	(void) signal_scheduler(dboid, SIGTERM);
	while ((signal_scheduler(dboid, 0) || es_pool_end(dboid) > 0) &&
		   !TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), PATIENCE_MS))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_MS, es_wait_event(ES_WAIT_DATABASE_FREE));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
run_statement(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			  ProcessUtilityContext context, ParamListInfo params,
			  QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_process_utility)
		prev_process_utility(pstmt, query, read_only_tree, context, params, environment, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, environment, dest, qc);
}

static bool
ends_prepared(Node *statement)
{
	return IsA(statement, TransactionStmt) &&
		(((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED ||
		 ((TransactionStmt *) statement)->kind == TRANS_STMT_ROLLBACK_PREPARED);
}

/* What was prepared may have hidden events: a library is not told when it ends. */
static void
tell_scheduler(void)
{
	EsDatabase *db = es_database_of(MyDatabaseId, false);

	if (db != NULL)
		es_database_note_change(db);
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
						 ProcessUtilityContext context, ParamListInfo params,
						 QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *statement = pstmt->utilityStmt;
	char	   *name = needed_database(statement);
	Oid			dboid = name != NULL ? get_database_oid(name, true) : InvalidOid;

	if (!OidIsValid(dboid) || dboid == MyDatabaseId || !may_run(statement, dboid) || !take_hold(dboid))
	{
		run_statement(pstmt, query, read_only_tree, context, params, environment, dest, qc);
		if (ends_prepared(statement))
			tell_scheduler();
		return;
	}
	PG_ENSURE_ERROR_CLEANUP(release_hold, ObjectIdGetDatum(dboid));
	{
		end_workers(dboid);
		run_statement(pstmt, query, read_only_tree, context, params, environment, dest, qc);
	}
	PG_END_ENSURE_ERROR_CLEANUP(release_hold, ObjectIdGetDatum(dboid));

	if (IsA(statement, DropdbStmt))
	{
		es_database_drop(dboid);
		es_figures_forget(dboid);
	}
	else
		release_hold(0, ObjectIdGetDatum(dboid));
}

void
es_evict_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
