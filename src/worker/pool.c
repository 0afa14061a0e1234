/*
 * pool.c
 *		The workers that run projections: how many there are, and who they are.
 *
 * eventstore.max_workers slots in shared memory, for all databases together.  The
 * scheduler of a database starts a worker when projections wait and none of its
 * workers is idle; a worker that has had nothing to do for a while leaves, but the
 * last one of a database stays, for to start a process takes longer than a projection
 * may wait.  When all slots are taken, a database that has none asks for one: a
 * worker of another, idle or having run for a second, leaves.
 *
 * Invariants
 * 1. A slot is taken by the scheduler before it starts a worker, and belongs to
 *    the worker once that has entered its pid.  The scheduler gives it back if the
 *    worker could not be started or has ended without entering.
 * 2. idle is set, with a full barrier, before the worker looks for work a last time
 *    and sleeps; whoever makes work due looks at idle after a full barrier.  So one
 *    of them sees the other.
 *
 * Locks: one LWLock, for moments; taken after all others but the figures' lock.
 * Crash: shared memory starts empty.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
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

/* Least time that a worker has before it leaves for another database. */
#define SHARE_MS			1000
/* Time after which another database's wish for a slot is forgotten. */
#define WISH_MS				5000
/* Time in which a worker that was started has to enter its pid. */
#define START_PATIENCE_MS	30000

typedef struct EsWorkerSlot
{
	Oid			dboid;			/* InvalidOid: free; pool lock */
	pid_t		pid;			/* 0: being started; pool lock */
	TimestampTz taken;			/* pool lock */
	pg_atomic_uint32 procno;	/* of its PGPROC, + 1; 0: none */
	pg_atomic_uint32 idle;		/* sleeps until it is woken */
} EsWorkerSlot;

typedef struct EsPool
{
	LWLock	   *lock;
	int			n;
	Oid			wanted;			/* a database that found no slot */
	TimestampTz wanted_at;
	bool		urgent;			/* it has no worker at all */
	bool		granted;		/* a worker leaves for it */
	EsWorkerSlot		slots[FLEXIBLE_ARRAY_MEMBER];
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

static int
pool_locks(void)
{
	return 1;
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
	}
}

void
es_pool_init(void)
{
	static const EsShmemPart part = {
		"eventstore pool", pool_size, pool_locks, attach_pool
	};

	es_shmem_add(&part);
}

/* ---- scheduler ---- */

/* Wake up to n idle workers of this database; how many there were. */
static int
wake_idle(int n)
{
	int			woken = 0;

	pg_memory_barrier();		/* (2) */
	for (int i = 0; i < pool->n && woken < n; i++)
	{
		EsWorkerSlot *slot = &pool->slots[i];
		uint32		procno = pg_atomic_read_u32(&slot->procno);

		if (slot->dboid == MyDatabaseId && procno != 0 &&
			pg_atomic_exchange_u32(&slot->idle, 0) != 0)
		{
			SetLatch(&ProcGlobal->allProcs[procno - 1].procLatch);
			woken++;
		}
	}
	return woken;
}

static void
free_slot(EsWorkerSlot *slot)
{
	slot->dboid = InvalidOid;
	slot->pid = 0;
	pg_atomic_write_u32(&slot->procno, 0);
	pg_atomic_write_u32(&slot->idle, 0);
}

/* Let the idle workers of other databases leave.  Hold the lock. */
static void
ask_for_slot(bool urgent)
{
	if (pool->wanted != InvalidOid && !(urgent && !pool->urgent))
		return;					/* one wish at a time */
	pool->wanted = MyDatabaseId;
	pool->wanted_at = GetCurrentTimestamp();
	pool->urgent = urgent;
	pool->granted = false;
	for (int i = 0; i < pool->n; i++)
	{
		EsWorkerSlot *slot = &pool->slots[i];
		uint32		procno = pg_atomic_read_u32(&slot->procno);

		if (OidIsValid(slot->dboid) && slot->dboid != MyDatabaseId && procno != 0 &&
			pg_atomic_read_u32(&slot->idle) != 0)
			SetLatch(&ProcGlobal->allProcs[procno - 1].procLatch);
	}
}

/* Take a free slot; NULL: there is none, or a worker of ours is starting (*starting). */
static EsWorkerSlot *
take_slot(bool *starting)
{
	TimestampTz now = GetCurrentTimestamp();
	EsWorkerSlot *found = NULL;
	int			taken = 0;
	int			own = 0;
	int			room = es_guc_max_workers;

	*starting = false;
	LWLockAcquire(pool->lock, LW_EXCLUSIVE);
	if (pool->wanted == MyDatabaseId ||
		TimestampDifferenceExceeds(pool->wanted_at, now, WISH_MS))
		pool->wanted = InvalidOid;
	if (pool->wanted != InvalidOid)
		room--;					/* the last slot is not for us */
	for (int i = 0; i < pool->n; i++)
	{
		EsWorkerSlot *slot = &pool->slots[i];

		if (OidIsValid(slot->dboid) && slot->pid == 0 &&
			TimestampDifferenceExceeds(slot->taken, now, START_PATIENCE_MS))
			free_slot(slot);	/* it never came */
		if (!OidIsValid(slot->dboid))
			found = found == NULL ? slot : found;
		else
		{
			taken++;
			own += slot->dboid == MyDatabaseId;
			*starting |= slot->dboid == MyDatabaseId && slot->pid == 0;
		}
	}
	if (*starting || taken >= room)
	{
		if (!*starting)
			ask_for_slot(own == 0);
		found = NULL;
	}
	if (found != NULL)
	{
		found->dboid = MyDatabaseId;
		found->pid = 0;
		found->taken = now;
	}
	LWLockRelease(pool->lock);
	return found;
}

static void
give_slot_back(EsWorkerSlot *slot)
{
	LWLockAcquire(pool->lock, LW_EXCLUSIVE);
	free_slot(slot);
	LWLockRelease(pool->lock);
}

static bool
start_worker(EsWorkerSlot *slot)
{
	BackgroundWorker worker = {0};
	int32		number = (int32) (slot - pool->slots);

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(number);
	strlcpy(worker.bgw_library_name, "eventstore", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "es_worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "eventstore worker for database %u", MyDatabaseId);
	strlcpy(worker.bgw_type, "eventstore worker", BGW_MAXLEN);
	memcpy(worker.bgw_extra, &MyDatabaseId, sizeof(Oid));
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

/*
 * "due" projections of this database are due: wake idle workers, and start one more worker if
 * they are too few.  Returns what there is too little of, if anything.
 */
EsShortage
es_pool_serve(int due)
{
	EsWorkerSlot *slot;
	bool		starting;

	if (due == 0 || wake_idle(due) >= due)
		return ES_SHORTAGE_NONE;
	slot = take_slot(&starting);
	if (slot == NULL)			/* the workers that there are take turns */
		return starting ? ES_SHORTAGE_NONE : ES_SHORTAGE_OF_WORKERS;
	if (start_worker(slot))
		return ES_SHORTAGE_NONE;
	give_slot_back(slot);
	return ES_SHORTAGE_OF_PROCESSES;
}

/* Wake all idle workers of this database, though no projection is due. */
void
es_pool_stir(void)
{
	(void) wake_idle(pool->n);
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

/* Say that this worker sleeps; look for work once more before. */
void
es_pool_set_idle(bool idle)
{
	pg_atomic_write_u32(&own_slot->idle, idle ? 1 : 0);
	pg_memory_barrier();		/* (2) */
}

/*
 * Does another database wait for a slot?  An idle worker makes room; one that has
 * had its share also does, for a database that has no worker at all.
 */
bool
es_pool_is_wanted_elsewhere(bool idle)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		leave;

	/* a glance without the lock: almost always there is no wish */
	if (pool->wanted == InvalidOid || pool->wanted == MyDatabaseId)
		return false;
	LWLockAcquire(pool->lock, LW_EXCLUSIVE);
	leave = pool->wanted != InvalidOid && pool->wanted != MyDatabaseId && !pool->granted &&
		(idle || pool->urgent) &&
		TimestampDifferenceExceeds(own_slot->taken, now, SHARE_MS) &&
		!TimestampDifferenceExceeds(pool->wanted_at, now, WISH_MS);
	if (leave)
		pool->granted = true;
	LWLockRelease(pool->lock);
	return leave;
}

/* Having had nothing to do: is there a reason to leave? */
bool
es_pool_may_leave(void)
{
	bool		others = false;
	int			taken = 0;

	LWLockAcquire(pool->lock, LW_SHARED);
	for (int i = 0; i < pool->n; i++)
	{
		EsWorkerSlot *slot = &pool->slots[i];

		taken += OidIsValid(slot->dboid);
		others |= slot != own_slot && slot->dboid == MyDatabaseId && slot->pid != 0;
	}
	LWLockRelease(pool->lock);
	return others || taken > es_guc_max_workers;
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
