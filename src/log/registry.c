/*
 * registry.c
 *		Which positions are in flight, and the head that follows.
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
 * Locks: none; the slots, counters and the head are atomics.
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
#include "storage/shmem.h"

#include "compat/compat.h"
#include "core/preload.h"
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
	int			nslots;
	EsSlot	   *slots;
} EsRegistry;

static EsRegistry *registry = NULL;

/* This transaction's part: the entry it drew from, and its first position. */
static EsDatabase *own_database = NULL;
static int64 own_first = 0;

static void leave_slot_at_end(XactEvent event, void *arg);

static Size
registry_size(void)
{
	/* A line more than needed: the segment's start need not be aligned. */
	return add_size(CACHELINEALIGN(sizeof(EsRegistry)), mul_size(MaxBackends + 1, sizeof(EsSlot)));
}

static void
attach_registry(void *memory, LWLockPadded *locks, bool fresh)
{
	registry = memory;
	if (!fresh)
		return;
	registry->nslots = MaxBackends;
	registry->slots = (EsSlot *) CACHELINEALIGN((char *) registry + sizeof(EsRegistry));
	for (int i = 0; i < registry->nslots; i++)
		pg_atomic_init_u64(&registry->slots[i].bound, 0);
}

/* Called while shared_preload_libraries is processed. */
void
es_registry_init(void)
{
	static const EsShmemPart part = {
		"eventstore", registry_size, NULL, 0, attach_registry
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
				 * barrier on both sides one of us sees the other.  Likewise
				 * with one that leaves: see database.c, 2.
				 */
				pg_memory_barrier();
				if (pg_atomic_read_u32(&db->scheduler) == 0 ||
					(pg_atomic_read_u32(&db->wake_wanted) != 0 &&
					 pg_atomic_exchange_u32(&db->wake_wanted, 0) != 0))
					es_database_call_scheduler(db);
			}
			break;

		default:
			break;
	}
}
