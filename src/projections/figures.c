/*
 * figures.c
 *		What is going on in the projections, in shared memory.
 *
 * An entry for each projection that workers run.  The scheduler of a database fills
 * its entries from the tables when the list of projections has changed, and at long
 * intervals (sync.c); workers claim an entry, run a batch, and give it back; views show
 * them.
 *
 * Invariants
 * 1. Nothing here decides what is applied: the checkpoint and the state in the tables
 *    do, under the lock of the projection's progress.  An entry that is out of date
 *    costs a look in vain.
 * 2. "Nothing in (empty_from, empty_upto]" is said of the log below the head, which
 *    does not change, and of a version of the definition, which has one filter.  So it
 *    stays true of that version whatever happens to the checkpoint.
 * 3. "reached" follows from the stored checkpoint and (2), so a sync that finds the
 *    same checkpoint and the same version leaves it where it is: a projection without
 *    anything to do is not due.  If a sync finds that the projection was set back, or
 *    changed, a worker that is looking just then does not raise "reached" again (set_back):
 *    what it found is about the former definition or checkpoint.
 * 4. Where the table is full, the entries of a database at rest are freed for others, but for
 *    those that are due, or will be: its next scheduler, which an append calls, fills them
 *    again, and nothing but a look in vain is lost.
 *
 * Locks: one LWLock, for moments; taken after all others.
 * Crash: shared memory starts empty; the scheduler fills it.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/shmem.h"
#include "projections/changed.h"
#include "projections/figures.h"

/* Events in the first batch. */
#define FIRST_BATCH			1000

typedef struct EsFigureTable
{
	LWLock	   *lock;
	int			n;
	bool		warned_full;
	EsFigures	entries[FLEXIBLE_ARRAY_MEMBER];
} EsFigureTable;

static EsFigureTable *table = NULL;

static Size
table_size(void)
{
	return add_size(offsetof(EsFigureTable, entries),
					mul_size(es_guc_max_projections, sizeof(EsFigures)));
}

static void
attach_table(void *memory, LWLockPadded *locks, bool fresh)
{
	table = memory;
	if (!fresh)
		return;
	table->lock = &locks[0].lock;
	table->n = es_guc_max_projections;
}

void
es_figures_init(void)
{
	static const EsShmemPart part = {
		"eventstore projections", table_size, NULL, 1, attach_table
	};

	es_shmem_add(&part);
}

LWLock *
es_figures_lock(void)
{
	return table->lock;
}

static bool
is_of(const EsFigures *entry, Oid store)
{
	return entry->dboid == MyDatabaseId && entry->store == store;
}

/* How far a projection with this version and checkpoint has come (2). */
static int64
reached_from(const EsFigures *entry, TransactionId version, int64 checkpoint)
{
	if (entry->empty_version == version && entry->empty_from == checkpoint)
		return Max(checkpoint, entry->empty_upto);
	return checkpoint;
}

static EsFigures *
find_figures(Oid store, int id)
{
	for (int i = 0; i < table->n; i++)
	{
		if (is_of(&table->entries[i], store) && table->entries[i].id == id)
			return &table->entries[i];
	}
	return NULL;
}

/* ---- scheduler ---- */

static int
compare_stored(const void *a, const void *b)
{
	int			x = ((const EsStored *) a)->id;
	int			y = ((const EsStored *) b)->id;

	return (x > y) - (x < y);
}

/* Free the entries of a database that is at rest: the one that was so first. (4) */
static bool
make_room(void)
{
	EsFigures  *oldest = NULL;
	Oid			dboid;

	for (int i = 0; i < table->n; i++)
	{
		EsFigures  *entry = &table->entries[i];

		if (entry->at_rest && entry->dboid != MyDatabaseId &&
			(oldest == NULL || entry->last_run < oldest->last_run))
			oldest = entry;
	}
	if (oldest == NULL)
		return false;
	dboid = oldest->dboid;
	for (int i = 0; i < table->n; i++)
	{
		if (table->entries[i].dboid == dboid && table->entries[i].at_rest)
			memset(&table->entries[i], 0, sizeof(EsFigures));
	}
	return true;
}

/* A new entry takes the first that is free, from *at on. */
static EsFigures *
add_entry(Oid store, const EsStored *stored, int *at)
{
	EsFigures  *entry;

	while (*at < table->n && OidIsValid(table->entries[*at].dboid))
		(*at)++;
	if (*at == table->n)
	{
		if (!make_room())
			return NULL;
		*at = 0;
		return add_entry(store, stored, at);
	}
	entry = &table->entries[*at];
	memset(entry, 0, sizeof(*entry));
	entry->dboid = MyDatabaseId;
	entry->store = store;
	entry->id = stored->id;
	entry->batch_limit = FIRST_BATCH;
	return entry;
}

static void
sync_entry(EsFigures *entry, const EsStored *stored)
{
	int64		reached = reached_from(entry, stored->version, stored->checkpoint);

	if (stored->runnable && !entry->runnable)
	{
		entry->not_before = entry->switch_at = 0;
		entry->switch_failures = 0;
		entry->batch_limit = FIRST_BATCH;
	}
	entry->at_rest = false;
	entry->runnable = stored->runnable;
	entry->wants_inline = stored->wants_inline;
	if (entry->version != stored->version || reached < entry->reached)
		entry->set_back = true; /* (3) */
	entry->version = stored->version;
	entry->reached = reached;
}

/*
 * Set the entries of this database to what the tables have of the store's projections.  These
 * are given in the order of their ids.  For how many there was no room?
 */
int
es_figures_set(Oid store, EsStored *stored, int n)
{
	int			without_entry = 0;
	int			at = 0;
	bool		warn;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < table->n; i++)
	{
		EsFigures  *entry = &table->entries[i];
		EsStored	wanted = {.id = entry->id};
		EsStored   *found;

		if (entry->dboid != MyDatabaseId)
			continue;
		found = entry->store != store ? NULL : bsearch(&wanted, stored, n, sizeof(EsStored), compare_stored);
		if (found != NULL)
		{
			found->has_entry = true;
			sync_entry(entry, found);
		}
		else if (entry->pid == 0)
			memset(entry, 0, sizeof(*entry));
		else
			entry->runnable = false;	/* freed by the next sync */
	}
	for (int i = 0; i < n; i++)
	{
		EsFigures  *entry;

		if (stored[i].has_entry || !stored[i].runnable)
			continue;
		entry = add_entry(store, &stored[i], &at);
		if (entry != NULL)
			sync_entry(entry, &stored[i]);
		else
			without_entry++;
	}
	warn = without_entry > 0 && !table->warned_full;
	table->warned_full = without_entry > 0;
	LWLockRelease(table->lock);

	if (warn)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("%d projections are not run: there is no room for them in shared memory", without_entry),
				 errhint("Raise eventstore.max_projections (now %d) and restart the server.", table->n)));
	return without_entry;
}

/* The database is dropped, or takes no connections: none of its projections will be run. */
void
es_figures_forget(Oid dboid)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < table->n; i++)
	{
		if (table->entries[i].dboid == dboid && table->entries[i].pid == 0)
			memset(&table->entries[i], 0, sizeof(EsFigures));
	}
	LWLockRelease(table->lock);
}

/* The store has gone. */
void
es_figures_forget_store(Oid store)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < table->n; i++)
	{
		if (is_of(&table->entries[i], store) && table->entries[i].pid == 0)
			memset(&table->entries[i], 0, sizeof(EsFigures));
	}
	LWLockRelease(table->lock);
}

/* How many projections of the store are there for workers to run? */
int
es_figures_count(Oid store)
{
	int			n = 0;

	LWLockAcquire(table->lock, LW_SHARED);
	for (int i = 0; i < table->n; i++)
		n += is_of(&table->entries[i], store) && table->entries[i].runnable;
	LWLockRelease(table->lock);
	return n;
}

/* ---- scheduler and launcher ---- */

/* When the projection will be due; 0: not before the head moves. */
static TimestampTz
due_at(const EsFigures *entry, int64 head, TimestampTz now)
{
	TimestampTz at = 0;

	if (!entry->runnable || entry->pid != 0)
		return 0;
	if (entry->reached < head)
		at = now;
	else if (entry->wants_inline)
		at = Max(entry->switch_at, now);
	else if (entry->store_at != 0)
		at = Max(entry->store_at, now);
	return at == 0 ? 0 : Max(at, entry->not_before);
}

static bool
is_due(const EsFigures *entry, int64 head, TimestampTz now)
{
	TimestampTz at = due_at(entry, head, now);

	return at != 0 && at <= now;
}

/* For a copy of an entry. */
bool
es_figures_is_due(const EsFigures *figures, int64 head)
{
	return is_due(figures, head, GetCurrentTimestamp());
}

/* The scheduler leaves: what will not be due before the head moves may make room for others (4). */
void
es_figures_rest(Oid store, int64 head)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < table->n; i++)
	{
		EsFigures  *entry = &table->entries[i];

		if (is_of(entry, store))
			entry->at_rest = entry->pid == 0 && due_at(entry, head, now) == 0;
	}
	LWLockRelease(table->lock);
}

/* How many projections of a store wait for a worker, and how many have one? */
EsDue
es_figures_due(Oid dboid, Oid store, int64 head)
{
	TimestampTz now = GetCurrentTimestamp();
	EsDue		due = {0};

	LWLockAcquire(table->lock, LW_SHARED);
	for (int i = 0; i < table->n; i++)
	{
		const EsFigures *entry = &table->entries[i];
		TimestampTz at;

		if (entry->dboid != dboid || entry->store != store)
			continue;
		at = due_at(entry, head, now);
		due.running += entry->pid != 0;
		if (at != 0 && at <= now)
			due.waiting++;
		else if (at != 0 && (due.next == 0 || at < due.next))
			due.next = at;
	}
	LWLockRelease(table->lock);
	return due;
}

/* ---- worker ---- */

/*
 * Claim the projection of the store that has waited longest; NULL: none is due.
 */
EsFigures *
es_figures_claim(Oid store, int64 head)
{
	TimestampTz now = GetCurrentTimestamp();
	EsFigures  *best = NULL;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < table->n; i++)
	{
		EsFigures  *entry = &table->entries[i];

		if (is_of(entry, store) && is_due(entry, head, now) &&
			(best == NULL || entry->last_run < best->last_run))
			best = entry;
	}
	if (best != NULL)
	{
		best->pid = MyProcPid;
		best->last_run = now;
		best->interrupted = false;
		best->set_back = false;
		best->at_rest = false;
	}
	LWLockRelease(table->lock);
	return best;
}

/* ---- anybody ---- */

/*
 * How far a projection with this checkpoint has come, counting positions that are known to
 * hold no event for it.
 */
int64
es_figures_reached(const EsCatalog *cat, const EsProjection *projection, int64 checkpoint)
{
	const EsFigures *entry;
	int64		reached = checkpoint;

	if (table == NULL)
		return checkpoint;
	LWLockAcquire(table->lock, LW_SHARED);
	entry = find_figures(cat->position_register, projection->id);
	if (entry != NULL)
		reached = reached_from(entry, projection->version, checkpoint);
	LWLockRelease(table->lock);
	return reached;
}

/* An operator has resumed it: try it now, not when the next attempt was due. */
void
es_figures_hurry(const EsCatalog *cat, int id)
{
	EsFigures  *entry;

	if (table == NULL)
		return;
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	entry = find_figures(cat->position_register, id);
	if (entry != NULL)
	{
		entry->not_before = entry->switch_at = 0;
		entry->batch_limit = FIRST_BATCH;
	}
	LWLockRelease(table->lock);
	es_changed_note();
}

/*
 * A statement is going to wait for the projection's lock: let the worker that runs it stop
 * its batch, and none begin one for ES_INTERRUPTED_MS, in which the statement takes the lock.
 * For a worker that has the lock may wait for a table that the statement has locked already.
 * The events are applied later, or never.
 */
void
es_figures_interrupt(const EsCatalog *cat, int id)
{
	EsFigures  *entry;

	if (table == NULL)
		return;
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	entry = find_figures(cat->position_register, id);
	if (entry != NULL)
		entry->not_before = Max(entry->not_before,
								GetCurrentTimestamp() + ES_INTERRUPTED_MS * INT64CONST(1000));
	if (entry != NULL && entry->pid != 0 && entry->pid != MyProcPid)
	{
		entry->interrupted = true;
		(void) kill(entry->pid, SIGINT);
	}
	LWLockRelease(table->lock);
}

/* Copies of the entries of the store. */
EsFigures *
es_figures_list(const EsCatalog *cat, int *n)
{
	EsFigures  *list;

	*n = 0;
	if (table == NULL)
		return NULL;
	list = palloc(sizeof(EsFigures) * table->n);
	LWLockAcquire(table->lock, LW_SHARED);
	for (int i = 0; i < table->n; i++)
	{
		if (is_of(&table->entries[i], cat->position_register))
			list[(*n)++] = table->entries[i];
	}
	LWLockRelease(table->lock);
	return list;
}
