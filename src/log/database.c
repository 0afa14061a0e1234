/*
 * database.c
 *		What the processes of a server share about each database with an event log,
 *		and which of these databases are due.
 *
 * An entry is made when a database's log is first used after a start of the server, and
 * stays where it is until the database is dropped: a process that has found the entry of its
 * own database keeps the address.
 *
 * A database is due when something has happened that a process of the worker's room should
 * look at: a transaction that appended has ended, a stream was deleted, a projection made, a
 * worker has left.  If its scheduler is in office, that is woken.  If not, the database
 * enters a list and the launcher is woken, which takes the whole list at once.
 *
 * The list is linked through the entries, from the one that came last.  Who enters a
 * database swaps the list's first element; who takes the list swaps it with nothing.  As
 * no element is ever taken alone, an element cannot come back unseen between a look at
 * the first and the swap.
 *
 * Invariants
 * 1. A database is in the list at most once: "due" says so, and is cleared by the launcher
 *    before it looks at the entry.  So whoever finds it set after changing something knows
 *    that the launcher has yet to look.
 * 2. Nothing is lost between "nothing to do" and a scheduler's end.  It writes "none in
 *    office", then, after a full barrier, looks once more.  Whoever has something for it
 *    makes that visible, then, after a full barrier, looks who is in office.
 * 3. wanted_since is set before the database enters the list, and cleared by the scheduler
 *    that takes office, before that looks at anything.
 *
 * Locks: the databases' LWLock guards the table, and the fields that database.h says.  An
 * entry's own LWLock guards its setting up and extending (positions.c).
 * Order: relation locks, then one of the two, never both.
 *
 * End of transaction: only atomics and a SetLatch, for an error after the commit record is
 * a PANIC.
 *
 * Crash: shared memory starts empty; the launcher has each database visited.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "compat/compat.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "log/database.h"

/* Entries that there is room for at once; more take their room when they are made. */
#define FIRST_ENTRIES	64

typedef struct EsDatabases
{
	LWLock	   *lock;
	int			max;
	pg_atomic_uint32 launcher;	/* its PGPROC's number + 1; 0: none */
	pg_atomic_uint64 due;		/* the first element of the list; 0: it is empty */
} EsDatabases;

static EsDatabases *databases = NULL;
static HTAB *entries = NULL;

/* This transaction has changed what the scheduler of that database looks at. */
static EsDatabase *changed = NULL;

static Size
databases_size(void)
{
	return sizeof(EsDatabases);
}

static Size
entries_size(void)
{
	return hash_estimate_size(es_guc_max_databases, sizeof(EsDatabase));
}

static void
attach_databases(void *memory, LWLockPadded *locks, bool fresh)
{
	HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(EsDatabase)};

	databases = memory;
	entries = ShmemInitHash("eventstore database entries", Min(FIRST_ENTRIES, es_guc_max_databases),
							es_guc_max_databases, &control, HASH_ELEM | HASH_BLOBS);
	if (!fresh)
		return;
	databases->lock = &locks[0].lock;
	databases->max = es_guc_max_databases;
	pg_atomic_init_u32(&databases->launcher, 0);
	pg_atomic_init_u64(&databases->due, 0);
}

static void
call_at_end(XactEvent event, void *arg)
{
	EsDatabase *db = changed;

	/* what is prepared is told at COMMIT PREPARED (worker/evict.c) */
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		changed = NULL;
	if (db != NULL && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT))
		es_database_note_change(db);
}

/* Called while shared_preload_libraries is processed. */
void
es_databases_init(void)
{
	static const EsShmemPart part = {
		"eventstore databases", databases_size, entries_size, 1, attach_databases
	};

	es_shmem_add(&part);
	RegisterXactCallback(call_at_end, NULL);
}

LWLock *
es_databases_lock(void)
{
	return databases->lock;
}

/* ---- entries ---- */

/*
 * All but its place in the list of those that are due.  An entry whose database was dropped may
 * be there: it is revived if another database gets the OID before the launcher has seen it.
 */
static void
set_up(EsDatabase *db)
{
	memset((char *) db + offsetof(EsDatabase, store), 0, sizeof(EsDatabase) - offsetof(EsDatabase, store));
	LWLockInitialize(&db->lock, databases->lock->tranche);
	pg_atomic_init_u64(&db->positions.next, 0);
	pg_atomic_init_u64(&db->positions.limit, 0);
	pg_atomic_init_u64(&db->stream_keys.next, 0);
	pg_atomic_init_u64(&db->stream_keys.limit, 0);
	pg_atomic_init_u64(&db->head, 0);
	pg_atomic_init_u32(&db->sealed, 0);
	pg_atomic_init_u32(&db->seals, 0);
	pg_atomic_init_u32(&db->changes, 0);
	pg_atomic_init_u32(&db->waiters, 0);
	pg_atomic_init_u32(&db->wake_wanted, 0);
	pg_atomic_init_u32(&db->scheduler, 0);
	pg_atomic_init_u64(&db->wanted_since, 0);
	pg_atomic_init_u64(&db->visit_at, 0);
	pg_atomic_init_u32(&db->shortage, ES_SHORTAGE_NONE);
	pg_atomic_init_u64(&db->waits_since, 0);
	pg_atomic_init_u64(&db->tried_at, 0);
	pg_atomic_init_u64(&db->make_way, 0);
	pg_atomic_init_u32(&db->worker_failed, 0);
	ConditionVariableInit(&db->head_moved);
	ConditionVariableInit(&db->progress_moved);
}

static EsDatabase *
make_entry(Oid dboid)
{
	EsDatabase *db = NULL;
	bool		found = false;

	LWLockAcquire(databases->lock, LW_EXCLUSIVE);
	if (hash_get_num_entries(entries) < databases->max ||
		hash_search(entries, &dboid, HASH_FIND, NULL) != NULL)
		db = hash_search(entries, &dboid, HASH_ENTER_NULL, &found);
	if (db != NULL && !found)
	{
		pg_atomic_init_u32(&db->due, 0);
		pg_atomic_init_u64(&db->next_due, 0);
	}
	if (db != NULL && (!found || db->dropped))
		set_up(db);
	LWLockRelease(databases->lock);
	if (db == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many databases with an event log"),
				 errhint("Raise eventstore.max_databases (now %d) and restart the server.",
						 databases->max)));
	return db;
}

/*
 * The entry of a database.  If there is none, make one, or return NULL if "create" is
 * false.
 */
EsDatabase *
es_database_of(Oid dboid, bool create)
{
	EsDatabase *db;

	LWLockAcquire(databases->lock, LW_SHARED);
	db = hash_search(entries, &dboid, HASH_FIND, NULL);
	if (db != NULL && db->dropped)
		db = NULL;
	LWLockRelease(databases->lock);
	return db == NULL && create ? make_entry(dboid) : db;
}

/* All entries, as they are now. */
EsDatabase **
es_databases_list(int *n)
{
	EsDatabase **list;
	EsDatabase *db;
	HASH_SEQ_STATUS status;

	*n = 0;
	LWLockAcquire(databases->lock, LW_SHARED);
	list = palloc(sizeof(EsDatabase *) * Max(hash_get_num_entries(entries), 1));
	hash_seq_init(&status, entries);
	while ((db = hash_seq_search(&status)) != NULL)
	{
		if (!db->dropped)
			list[(*n)++] = db;
	}
	LWLockRelease(databases->lock);
	return list;
}

/*
 * The database has been dropped: nobody is connected to it any more.  The entry may be in the
 * list of those that are due, so the launcher frees it.
 */
void
es_database_drop(Oid dboid)
{
	EsDatabase *db;

	LWLockAcquire(databases->lock, LW_EXCLUSIVE);
	db = hash_search(entries, &dboid, HASH_FIND, NULL);
	if (db != NULL)
	{
		db->dropped = true;
		es_database_list_due(db);
	}
	LWLockRelease(databases->lock);
}

/* Free the entry, which is not in the list, if its database has been dropped. */
bool
es_database_free_dropped(Oid dboid)
{
	EsDatabase *db;
	bool		freed;

	LWLockAcquire(databases->lock, LW_EXCLUSIVE);
	db = hash_search(entries, &dboid, HASH_FIND, NULL);
	freed = db != NULL && db->dropped && pg_atomic_read_u32(&db->due) == 0;
	if (freed)
		(void) hash_search(entries, &dboid, HASH_REMOVE, NULL);
	LWLockRelease(databases->lock);
	return freed;
}

/* ---- waking ---- */

/* Setting the latch of a process that has gone wakes a stranger, once. */
static void
wake_process(pg_atomic_uint32 *procno)
{
	uint32		number = pg_atomic_read_u32(procno);

	if (number != 0)
		SetLatch(&ProcGlobal->allProcs[number - 1].procLatch);
}

void
es_launcher_set(bool running)
{
	pg_atomic_write_u32(&databases->launcher, running ? es_compat_proc_number(MyProc) + 1 : 0);
}

bool
es_launcher_runs(void)
{
	return pg_atomic_read_u32(&databases->launcher) != 0;
}

void
es_launcher_wake(void)
{
	wake_process(&databases->launcher);
}

/* Let the launcher look at the database. */
void
es_database_list_due(EsDatabase *db)
{
	uint64		first = pg_atomic_read_u64(&databases->due);

	if (pg_atomic_exchange_u32(&db->due, 1) != 0)
		return;					/* (1) */
	do
		pg_atomic_write_u64(&db->next_due, first);
	while (!pg_atomic_compare_exchange_u64(&databases->due, &first, (uint64) (uintptr_t) db));
	es_launcher_wake();
}

/* Wake the scheduler, if there is one. */
void
es_database_wake_scheduler(EsDatabase *db)
{
	wake_process(&db->scheduler);
}

/*
 * Wake the scheduler, or have one started.  What it is to find is visible, and a full
 * barrier was passed after that (2).
 */
void
es_database_call_scheduler(EsDatabase *db)
{
	uint64		nobody = 0;

	if (pg_atomic_read_u32(&db->scheduler) != 0)
	{
		es_database_wake_scheduler(db);
		return;
	}
	/* once it is wanted, the launcher knows until one takes office */
	if (pg_atomic_read_u64(&db->wanted_since) == 0 &&
		pg_atomic_compare_exchange_u64(&db->wanted_since, &nobody, (uint64) GetCurrentTimestamp()))
		es_database_list_due(db);	/* (3) */
}

/* The tables have changed: the scheduler should look at them. */
void
es_database_note_change(EsDatabase *db)
{
	pg_atomic_fetch_add_u32(&db->changes, 1);	/* a full barrier */
	es_database_call_scheduler(db);
}

/* This transaction changes what the scheduler looks at: tell it when it has ended. */
void
es_database_change_at_end(EsDatabase *db)
{
	changed = db;
}

/* ---- launcher ---- */

static EsDatabase *
element(uint64 link)
{
	return (EsDatabase *) (uintptr_t) link;
}

/*
 * Take the list of those that are due; NULL: there is none.  The one that came first is the
 * first: nobody touches the links of what is due, so they can be turned round.
 */
EsDatabase *
es_due_take(void)
{
	uint64		link = pg_atomic_exchange_u64(&databases->due, 0);
	uint64		behind = 0;

	while (link != 0)
	{
		EsDatabase *db = element(link);
		uint64		before = pg_atomic_read_u64(&db->next_due);

		pg_atomic_write_u64(&db->next_due, behind);
		behind = link;
		link = before;
	}
	return element(behind);
}

/* The next database of the list that was taken; NULL: no more. */
EsDatabase *
es_due_next(EsDatabase **chain)
{
	EsDatabase *db = *chain;

	if (db != NULL)
	{
		*chain = element(pg_atomic_read_u64(&db->next_due));
		(void) pg_atomic_exchange_u32(&db->due, 0); /* (1), a full barrier */
	}
	return db;
}
