/*
 * pool.c
 *		The workers that run projections: how many there are, and who they are.
 *
 * eventstore.max_workers slots in shared memory, for all databases together.  The launcher
 * takes a slot and starts a worker for it; the worker leaves when it has had nothing to do
 * for a while, or when the launcher asks it to make way for another process.
 *
 * Invariants
 * 1. A slot is taken by the launcher before it starts a worker, and belongs to the worker
 *    once that has entered its pid.  The launcher gives it back if the worker could not be
 *    started, and frees it if the worker has not entered in time.
 * 2. idle is set, with a full barrier, before the worker looks for work a last time
 *    and sleeps; whoever makes work due looks at idle after a full barrier.  So one
 *    of them sees the other.
 * 3. Whoever clears idle has the worker look once more: the worker itself leaves only if
 *    it was the one that cleared it.
 *
 * Locks: one LWLock, for moments; taken after all others but the figures' lock.
 * Crash: shared memory starts empty.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "compat/compat.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "worker/pool.h"

/* Time in which a worker that was started has to enter its pid. */
#define START_PATIENCE_MS	30000
/* Time in which a process that was asked to make way is expected to leave. */
#define LEAVE_MS			1000

typedef struct EsWorkerSlot
{
	Oid			dboid;			/* InvalidOid: free; pool lock */
	pid_t		pid;			/* 0: being started; pool lock */
	TimestampTz taken;			/* pool lock */
	uint32		use;			/* how often it was taken; pool lock */
	pg_atomic_uint32 procno;	/* of its PGPROC, + 1; 0: none */
	pg_atomic_uint32 idle;		/* sleeps until it is woken */
	pg_atomic_uint64 make_way;	/* is to leave since then: others wait; 0: it is not */
	bool		asked_idle;		/* it was idle then; the launcher's own */
} EsWorkerSlot;

typedef struct EsPool
{
	LWLock	   *lock;
	int			n;
	EsWorkerSlot slots[FLEXIBLE_ARRAY_MEMBER];
} EsPool;

static EsPool *pool = NULL;
static EsWorkerSlot *own_slot = NULL;

/* Room for as many as max_workers may be raised to without a restart. */
#define MAX_SLOTS	256

static Size
pool_size(void)
{
	return add_size(offsetof(EsPool, slots), mul_size(MAX_SLOTS, sizeof(EsWorkerSlot)));
}

static void
attach_pool(void *memory, LWLockPadded *locks, bool fresh)
{
	pool = memory;
	if (!fresh)
		return;
	pool->lock = &locks[0].lock;
	pool->n = MAX_SLOTS;
	for (int i = 0; i < pool->n; i++)
	{
		pg_atomic_init_u32(&pool->slots[i].procno, 0);
		pg_atomic_init_u32(&pool->slots[i].idle, 0);
		pg_atomic_init_u64(&pool->slots[i].make_way, 0);
	}
}

void
es_pool_init(void)
{
	static const EsShmemPart part = {
		"eventstore pool", pool_size, NULL, 1, attach_pool
	};

	es_shmem_add(&part);
}

static void
free_slot(EsWorkerSlot *slot)
{
	slot->dboid = InvalidOid;
	slot->pid = 0;
	pg_atomic_write_u32(&slot->procno, 0);
	pg_atomic_write_u32(&slot->idle, 0);
	pg_atomic_write_u64(&slot->make_way, 0);
}

static void
wake(EsWorkerSlot *slot)
{
	uint32		procno = pg_atomic_read_u32(&slot->procno);

	if (procno != 0)
		SetLatch(&ProcGlobal->allProcs[procno - 1].procLatch);
}

/* ---- scheduler and launcher ---- */

/* Wake up to n idle workers of a database; how many there were. */
int
es_pool_wake(Oid dboid, int n)
{
	int			woken = 0;

	pg_memory_barrier();		/* (2) */
	LWLockAcquire(pool->lock, LW_SHARED);
	for (int i = 0; i < pool->n && woken < n; i++)
	{
		EsWorkerSlot *slot = &pool->slots[i];

		if (slot->dboid == dboid && pg_atomic_read_u32(&slot->idle) != 0 &&
			pg_atomic_exchange_u32(&slot->idle, 0) != 0)
		{
			wake(slot);
			woken++;
		}
	}
	LWLockRelease(pool->lock);
	return woken;
}

/* ---- launcher ---- */

EsWorkers
es_pool_count(Oid dboid)
{
	EsWorkers	workers = {0};

	LWLockAcquire(pool->lock, LW_SHARED);
	for (int i = 0; i < pool->n; i++)
	{
		if (pool->slots[i].dboid != dboid)
			continue;
		workers.all++;
		workers.starting += pool->slots[i].pid == 0;
	}
	LWLockRelease(pool->lock);
	return workers;
}

/*
 * Take a free slot for a worker of that database, and learn which use of the slot that is; -1:
 * eventstore.max_workers is used up.
 */
int
es_pool_take(Oid dboid, uint32 *use)
{
	TimestampTz now = GetCurrentTimestamp();
	int			found = -1;
	int			taken = 0;

	LWLockAcquire(pool->lock, LW_EXCLUSIVE);
	for (int i = 0; i < pool->n; i++)
	{
		EsWorkerSlot *slot = &pool->slots[i];

		if (OidIsValid(slot->dboid) && slot->pid == 0 &&
			TimestampDifferenceExceeds(slot->taken, now, START_PATIENCE_MS))
			free_slot(slot);	/* it never came */
		if (OidIsValid(slot->dboid))
			taken++;
		else if (found < 0)
			found = i;
	}
	if (taken >= es_guc_max_workers)
		found = -1;
	if (found >= 0)
	{
		pool->slots[found].dboid = dboid;
		pool->slots[found].pid = 0;
		pool->slots[found].taken = now;
		*use = ++pool->slots[found].use;
	}
	LWLockRelease(pool->lock);
	return found;
}

/*
 * The worker could not be started, or has ended; the slot may be another's by now.  Has it
 * ended before it entered?
 */
bool
es_pool_give_back(int number, uint32 use)
{
	EsWorkerSlot *slot = &pool->slots[number];
	bool		never_entered;

	LWLockAcquire(pool->lock, LW_EXCLUSIVE);
	never_entered = slot->use == use && OidIsValid(slot->dboid) && slot->pid == 0;
	if (never_entered)
		free_slot(slot);
	LWLockRelease(pool->lock);
	return never_entered;
}

/*
 * Count one that was asked to make way, if it can be counted on: not if it has not left for
 * LEAVE_MS.
 */
void
es_pool_note_asked(EsAsked *asked, TimestampTz since, bool was_idle)
{
	if (since == 0 || TimestampDifferenceExceeds(since, GetCurrentTimestamp(), LEAVE_MS))
		return;
	if (was_idle)
		asked->idle++;
	else
		asked->busy++;
}

/* Count workers, and those of them that were asked to make way. */
void
es_pool_count_asked(EsAsked *asked)
{
	LWLockAcquire(pool->lock, LW_SHARED);
	for (int i = 0; i < pool->n; i++)
	{
		EsWorkerSlot *slot = &pool->slots[i];

		asked->there += OidIsValid(slot->dboid);
		es_pool_note_asked(asked, (TimestampTz) pg_atomic_read_u64(&slot->make_way), slot->asked_idle);
	}
	LWLockRelease(pool->lock);
}

static int
count_of(Oid dboid)
{
	int			n = 0;

	for (int i = 0; i < pool->n; i++)
		n += pool->slots[i].dboid == dboid;
	return n;
}

/*
 * Ask a worker to make way, for the database "dboid" if that is valid: an idle one, or one
 * that has had its share of time, the longest serving first.  With "has_others" the database
 * has workers already, and only takes a busy one from a database that has more.  False: there
 * is none.
 */
bool
es_pool_ask(Oid dboid, bool idle, bool has_others, long share_ms)
{
	TimestampTz now = GetCurrentTimestamp();
	EsWorkerSlot *best = NULL;

	LWLockAcquire(pool->lock, LW_SHARED);
	for (int i = 0; i < pool->n; i++)
	{
		EsWorkerSlot *slot = &pool->slots[i];

		if (!OidIsValid(slot->dboid) || slot->dboid == dboid || slot->pid == 0 ||
			pg_atomic_read_u64(&slot->make_way) != 0)
			continue;
		if (idle ? pg_atomic_read_u32(&slot->idle) == 0 :
			!TimestampDifferenceExceeds(slot->taken, now, share_ms))
			continue;
		if (!idle && has_others && count_of(slot->dboid) <= count_of(dboid) + 1)
			continue;
		if (best == NULL || slot->taken < best->taken)
			best = slot;
	}
	if (best != NULL)
	{
		best->asked_idle = idle;
		pg_atomic_write_u64(&best->make_way, (uint64) now);
		wake(best);
	}
	LWLockRelease(pool->lock);
	return best != NULL;
}

/* ---- worker ---- */

static void
leave_slot(int code, Datum arg)
{
	LWLockAcquire(pool->lock, LW_EXCLUSIVE);
	free_slot(own_slot);
	LWLockRelease(pool->lock);
}

/* This process is the worker of a slot, for that database. */
bool
es_pool_enter(int number, Oid dboid)
{
	bool		ours;

	own_slot = &pool->slots[number];
	LWLockAcquire(pool->lock, LW_EXCLUSIVE);
	ours = own_slot->dboid == dboid && own_slot->pid == 0;
	if (ours)
		own_slot->pid = MyProcPid;
	LWLockRelease(pool->lock);
	if (!ours)
		return false;
	before_shmem_exit(leave_slot, (Datum) 0);
	pg_atomic_write_u32(&own_slot->procno, es_compat_proc_number(MyProc) + 1);
	return true;
}

/*
 * Say that this worker sleeps; look for work once more after that.  Or that it does not: was
 * it woken, by whoever counts on it to look (3)?
 */
bool
es_pool_set_idle(bool idle)
{
	return pg_atomic_exchange_u32(&own_slot->idle, idle ? 1 : 0) == 0;	/* (2) */
}

/* Is this worker to leave: does another process wait, or are there more than there may be? */
bool
es_pool_is_to_leave(void)
{
	int			taken = 0;

	if (pg_atomic_read_u64(&own_slot->make_way) != 0)
		return true;
	for (int i = 0; i < pool->n; i++)
		taken += OidIsValid(pool->slots[i].dboid);
	return taken > es_guc_max_workers;
}

/* ---- statements that need a database to themselves ---- */

/* End the workers of a database; how many there still are. */
int
es_pool_end(Oid dboid)
{
	int			left = 0;

	LWLockAcquire(pool->lock, LW_SHARED);
	for (int i = 0; i < pool->n; i++)
	{
		if (pool->slots[i].dboid != dboid)
			continue;
		left++;
		if (pool->slots[i].pid != 0)
			(void) kill(pool->slots[i].pid, SIGTERM);
	}
	LWLockRelease(pool->lock);
	return left;
}
