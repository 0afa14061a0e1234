/*
 * registry.c
 *		What the backends share: which positions are in flight, and the head.
 *
 * Positions are drawn before commit and become visible in the order of commits.
 * A reader that remembers the last position it saw would lose every event that
 * becomes visible later with a lower one.  So readers stop at the head: the
 * greatest position such that no event at or below it can still appear.
 *
 * Shared memory holds a slot for each backend: a lower bound of the positions
 * that its transaction has in flight, 0 for none.
 *
 *	reserve:	1 load the counter		head:	1 load the counter
 *				2 store it in the slot			2 full barrier
 *				3 full barrier					3 scan the slots
 *				4 fetch-add						head = min(counter, bounds) - 1
 *
 * Invariants
 * 1. A position is handed out only after a bound at or below it stands in the
 *    slot (steps 2 to 4 of reserve).  So a reader that loaded counter value c
 *    and found no bound below c in a slot knows that the owner of that slot had
 *    not yet passed its step 3, and that its step 4 will give c or more.  With
 *    4 before 2 there is a moment at which a position is out and nobody knows.
 * 2. A slot is cleared after its transaction has become visible to new
 *    snapshots, or has aborted: XACT_EVENT_COMMIT and XACT_EVENT_ABORT come
 *    after ProcArrayEndTransaction (access/transam/xact.c).  So a snapshot taken
 *    after the head was computed sees every committed event at or below it.
 * 3. A slot keeps its bound through ROLLBACK TO: other positions of the
 *    transaction may be above, and the head only waits a little longer.
 * 4. The head never falls.  A bound can be published late: loaded, then overtaken
 *    by other reservations before its step 4.  Nobody can draw below a head that
 *    was already computed (1), so the published maximum stands.
 *
 * Locks: none here on the way of an append or a read; the slots, counters and the
 * head are atomics.  The registry's LWLock guards the list of databases and, for
 * writers that decide upon them, the launcher's fields: hints like
 * scheduler_wanted are set, and pids shown, without it.  An entry's own LWLock
 * guards its setting up and extending (positions.c).
 * Order: relation locks, then the registry's lock or an entry's lock, never both.
 *
 * End of transaction: only atomics and a SetLatch, for an error after the commit
 * record is a PANIC.
 *
 * Crash: shared memory starts empty.  All transactions in flight are gone, and
 * the counter starts above everything that was handed out (positions.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "compat/compat.h"
#include "core/preload.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "log/registry.h"

/* Alone in its cache line: every append writes its own, every read all. */
typedef union EsSlot
{
	struct
	{
		pg_atomic_uint64 bound; /* 0: nothing in flight */
		Oid			dboid;
		int			pid;
	};
	char		pad[PG_CACHE_LINE_SIZE];
} EsSlot;

typedef struct EsRegistry
{
	LWLock	   *lock;
	pg_atomic_uint32 launcher;	/* its PGPROC's number + 1; 0: none */
	int			nslots;
	int			max_databases;
	EsDatabase *databases;
	EsSlot	   *slots;
} EsRegistry;

static EsRegistry *registry = NULL;

/* This transaction's part: the entry it drew from, and its first position. */
static EsDatabase *own_database = NULL;
static int64 own_first = 0;

static void leave_slot_at_end(XactEvent event, void *arg);
static void want_scheduler(EsDatabase *db);

static Size
slots_offset(void)
{
	return CACHELINEALIGN(add_size(MAXALIGN(sizeof(EsRegistry)),
								   mul_size(es_guc_max_databases, sizeof(EsDatabase))));
}

static Size
registry_size(void)
{
	/* A line more than needed: the segment's start need not be aligned. */
	return add_size(slots_offset(),
					mul_size(MaxBackends + 1, sizeof(EsSlot)));
}

static int
registry_locks(void)
{
	return 1 + es_guc_max_databases;
}

static void
set_up_database(EsDatabase *db, LWLock *lock)
{
	db->lock = lock;
	pg_atomic_init_u64(&db->positions.next, 0);
	pg_atomic_init_u64(&db->positions.limit, 0);
	pg_atomic_init_u64(&db->stream_keys.next, 0);
	pg_atomic_init_u64(&db->stream_keys.limit, 0);
	pg_atomic_init_u64(&db->head, 0);
	pg_atomic_init_u32(&db->sealed, 0);
	pg_atomic_init_u32(&db->seals, 0);
	pg_atomic_init_u32(&db->waiters, 0);
	pg_atomic_init_u32(&db->wake_wanted, 0);
	pg_atomic_init_u32(&db->scheduler, 0);
	pg_atomic_init_u32(&db->shortage, 0);
	pg_atomic_init_u32(&db->projections_changed, 0);
	ConditionVariableInit(&db->head_moved);
	ConditionVariableInit(&db->progress_moved);
}

static void
attach_registry(void *memory, LWLockPadded *locks, bool fresh)
{
	registry = memory;
	if (!fresh)
		return;
	registry->lock = &locks[0].lock;
	pg_atomic_init_u32(&registry->launcher, 0);
	registry->nslots = MaxBackends;
	registry->max_databases = es_guc_max_databases;
	registry->databases = (EsDatabase *) ((char *) registry + MAXALIGN(sizeof(EsRegistry)));
	registry->slots = (EsSlot *) CACHELINEALIGN((char *) registry + slots_offset());
	for (int i = 0; i < registry->max_databases; i++)
		set_up_database(&registry->databases[i], &locks[1 + i].lock);
	for (int i = 0; i < registry->nslots; i++)
		pg_atomic_init_u64(&registry->slots[i].bound, 0);
}

/* Called while shared_preload_libraries is processed. */
void
es_registry_init(void)
{
	static const EsShmemPart part = {
		"eventstore", registry_size, registry_locks, attach_registry
	};

	es_shmem_add(&part);
	RegisterXactCallback(leave_slot_at_end, NULL);
}

bool
es_registry_loaded(void)
{
	return registry != NULL;
}

void
es_registry_require(void)
{
	if (registry == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("eventstore must be loaded when the server starts"),
				 errdetail("It keeps the order of events in shared memory."),
				 errhint("Run this, then restart the server:\n%s", es_preload_statement())));
}

LWLock *
es_registry_lock(void)
{
	return registry->lock;
}

/* ---- databases ---- */

/*
 * The entry of a database.  If there is none, make one, or return NULL if
 * "create" is false.  An entry stays where it is until the database is dropped.
 */
EsDatabase *
es_registry_database(Oid dboid, bool create)
{
	EsDatabase *free_entry = NULL;
	EsDatabase *db = NULL;

	LWLockAcquire(registry->lock, create ? LW_EXCLUSIVE : LW_SHARED);
	for (int i = 0; i < registry->max_databases && db == NULL; i++)
	{
		EsDatabase *entry = &registry->databases[i];

		if (entry->dboid == dboid)
			db = entry;
		else if (entry->dboid == InvalidOid && free_entry == NULL)
			free_entry = entry;
	}
	if (db == NULL && create && free_entry != NULL)
	{
		db = free_entry;
		db->store = InvalidOid;
		db->scheduler_pid = 0;
		db->scheduler_returned = false;
		db->scheduler_wanted = false;
		db->holds = 0;
		db->dboid = dboid;
	}
	LWLockRelease(registry->lock);

	if (db == NULL && create)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many databases with an event log"),
				 errhint("Raise eventstore.max_databases (now %d) and restart the server.",
						 registry->max_databases)));
	return db;
}

/* All entries; those without a dboid are free.  Hold the registry's lock. */
EsDatabase *
es_registry_databases(int *n)
{
	*n = registry->max_databases;
	return registry->databases;
}

/* The database has been dropped: nobody is connected to it any more. */
void
es_registry_forget(Oid dboid)
{
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < registry->max_databases; i++)
	{
		if (registry->databases[i].dboid == dboid)
			registry->databases[i].dboid = InvalidOid;	/* holds of others end in
														 * evict.c, by dboid */
	}
	LWLockRelease(registry->lock);
}

/* ---- positions in flight ---- */

/*
 * Reserve n positions and return the first.  They may not be used before they
 * are covered by the register: positions.c, the only caller, sees to that.
 */
int64
es_registry_reserve(EsDatabase *db, int64 n)
{
	EsSlot	   *slot = &registry->slots[es_compat_my_slot()];
	uint64		bound = pg_atomic_read_u64(&slot->bound);
	uint64		next = pg_atomic_read_u64(&db->positions.next);
	int64		first;

	/*
	 * The write barrier needs no mate in es_registry_glance.  If that has seen a counter
	 * beyond our positions, the full barriers here and there show it all three fields; if
	 * not, our positions are at or above its counter, and it may take us for a stranger.
	 * For es_registry_list, which may show another pid for a moment, it is enough.
	 */

	/* An earlier bound of this transaction is the lower one and stays (3). */
	if (bound == 0 || next < bound)
	{
		own_database = db;
		slot->dboid = MyDatabaseId;
		slot->pid = MyProcPid;
		pg_write_barrier();
		pg_atomic_write_u64(&slot->bound, next);
		pg_memory_barrier();	/* (1) */
	}
	first = (int64) pg_atomic_fetch_add_u64(&db->positions.next, n);
	if (own_first == 0)
		own_first = first;
	return first;
}

/*
 * The head as it can be seen now, without publishing it.
 */
int64
es_registry_glance(EsDatabase *db)
{
	uint64		least = pg_atomic_read_u64(&db->positions.next);

	pg_memory_barrier();		/* (1) */
	for (int i = 0; i < registry->nslots; i++)
	{
		EsSlot	   *slot = &registry->slots[i];
		uint64		bound = pg_atomic_read_u64(&slot->bound);

		if (bound != 0 && bound < least && slot->dboid == db->dboid)
			least = bound;
	}
	return (int64) least - 1;
}

/*
 * The head of a log whose counter is set up.  Take the snapshot after this.
 * Assumes a lock on event_log, so that the entry stays that of this store.
 */
int64
es_registry_head(EsDatabase *db)
{
	uint64		head = (uint64) es_registry_glance(db);
	uint64		published = pg_atomic_read_u64(&db->head);

	while (published < head &&
		   !pg_atomic_compare_exchange_u64(&db->head, &published, head))
		;
	return (int64) Max(published, head);	/* (4) */
}

/* The first position this transaction drew; 0 if it drew none. */
int64
es_registry_own_first(void)
{
	return own_first;
}

/* The backends with positions in flight in this database. */
EsInFlight *
es_registry_list(int *n)
{
	EsInFlight *list = palloc(sizeof(EsInFlight) * registry->nslots);

	*n = 0;
	for (int i = 0; i < registry->nslots; i++)
	{
		EsSlot	   *slot = &registry->slots[i];
		uint64		bound = pg_atomic_read_u64(&slot->bound);

		if (bound == 0 || slot->dboid != MyDatabaseId)
			continue;
		list[*n].pid = slot->pid;
		list[*n].bound = (int64) bound;
		(*n)++;
	}
	return list;
}

static void
leave_slot_at_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:

			/*
			 * An extension is not called at COMMIT PREPARED, so nobody would
			 * clear the slot at the right moment.
			 */
			if (own_database != NULL)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has appended events")));
			break;

		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
			if (own_database != NULL)
			{
				EsDatabase *db = own_database;

				pg_atomic_write_u64(&registry->slots[es_compat_my_slot()].bound, 0);
				own_database = NULL;
				own_first = 0;

				/*
				 * The scheduler sets wake_wanted, then computes the head; we
				 * clear the slot, then look at wake_wanted.  With a full
				 * barrier on both sides one of us sees the other.
				 */
				pg_memory_barrier();
				if (pg_atomic_read_u32(&db->wake_wanted) != 0 &&
					pg_atomic_exchange_u32(&db->wake_wanted, 0) != 0)
					es_registry_wake_scheduler(db);
				else if (pg_atomic_read_u32(&db->scheduler) == 0)
					want_scheduler(db);
			}
			break;

		default:
			break;
	}
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
es_registry_set_launcher(bool running)
{
	pg_atomic_write_u32(&registry->launcher, running ? es_compat_proc_number(MyProc) + 1 : 0);
}

void
es_registry_wake_launcher(void)
{
	wake_process(&registry->launcher);
}

void
es_registry_wake_scheduler(EsDatabase *db)
{
	wake_process(&db->scheduler);
}

static void
want_scheduler(EsDatabase *db)
{
	if (db->scheduler_wanted)
		return;
	db->scheduler_wanted = true;
	es_registry_wake_launcher();
}

/* Wake the scheduler, or have one started. */
void
es_registry_call_scheduler(EsDatabase *db)
{
	if (pg_atomic_read_u32(&db->scheduler) != 0)
		es_registry_wake_scheduler(db);
	else
		want_scheduler(db);
}
