/*
 * table_cache.c
 *		A small table, of which each backend keeps a copy.
 *
 * The table is read as a whole: appends and reads need it often, and it must cost them
 * nothing.  The copy holds until the table changes: a trigger on the table sends an
 * invalidation, as DDL does, which a backend takes in with the next lock that it takes.
 *
 * Invariants
 * 1. The table is read with a snapshot of this moment, whatever the isolation level: an
 *    append in an old REPEATABLE READ transaction must apply the projections of today.
 *    Own uncommitted changes are seen, and forgotten if they are rolled back, for an abort
 *    sends invalidations to oneself (utils/cache/inval.c).  A parallel query cannot take
 *    such a snapshot: it reads with its own, and what it has read is not kept.
 * 2. An invalidation that comes while the table is read makes us read it again.
 * 3. A copy that is not current any more stays allocated until no memory context that
 *    pins it is left.  So whoever runs users' code, which can change the table, pins what
 *    it works with.
 *
 * Locks: AccessShare on the table.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "core/table_cache.h"

struct EsCachedTable
{
	MemoryContext context;		/* in which it is itself */
	void	   *rows;
	bool		current;
	int			pins;
};

static void
cached_table_changed(Datum arg, Oid relid)
{
	EsTableCache *cache = (EsTableCache *) DatumGetPointer(arg);

	if (relid == InvalidOid || relid == cache->table)
	{
		cache->invalidations++;
		cache->valid = false;
	}
}

/* Call it once, when the library is loaded. */
void
es_table_cache_init(EsTableCache *cache)
{
	CacheRegisterRelcacheCallback(cached_table_changed, PointerGetDatum(cache));
}

static void
free_if_unused(EsCachedTable *cached)
{
	if (!cached->current && cached->pins == 0)
		MemoryContextDelete(cached->context);
}

static void *
read_rows(EsTableCache *cache, Oid table)
{
	Relation	rel = table_open(table, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot());	/* (1) */
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	void	   *rows = cache->read(scan, slot);

	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return rows;
}

static void
read_table(EsTableCache *cache, Oid table)
{
	/* the caller's until it is complete: an error leaves nothing behind */
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore table",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EsCachedTable *cached;
	void	   *rows;
	uint64		before;

	MemoryContextSetIdentifier(context, cache->name);
	do
	{
		MemoryContextReset(context);
		cache->table = table;
		before = cache->invalidations;
		rows = read_rows(cache, table);
	} while (before != cache->invalidations);	/* (2) */
	cached = palloc(sizeof(EsCachedTable));
	*cached = (EsCachedTable) {.context = context, .rows = rows, .current = true};
	MemoryContextSwitchTo(old);

	MemoryContextSetParent(context, TopMemoryContext);
	if (cache->current != NULL)
	{
		cache->current->current = false;
		free_if_unused(cache->current);
	}
	cache->current = cached;
	cache->valid = !IsInParallelMode(); /* (1) */
}

/*
 * What the table has been read into.  It stays allocated until the next call, or as long
 * as it is pinned.
 */
void *
es_table_cache_rows(EsTableCache *cache, Oid table)
{
	if (!cache->valid || cache->table != table)
		read_table(cache, table);
	return cache->current->rows;
}

/*
 * The same, read anew.  For whoever is told of a change as soon as it is visible: the
 * invalidation comes a moment later (CommitTransaction in access/transam/xact.c:
 * callbacks, then AtEOXact_Inval).
 */
void *
es_table_cache_rows_anew(EsTableCache *cache, Oid table)
{
	read_table(cache, table);
	return cache->current->rows;
}

static void
unpin_rows(void *arg)
{
	EsCachedTable *cached = arg;

	cached->pins--;
	free_if_unused(cached);
}

/*
 * What was read last stays allocated until the current memory context is reset or deleted
 * (3).
 */
void
es_table_cache_pin(EsTableCache *cache)
{
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));

	callback->func = unpin_rows;
	callback->arg = cache->current;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	cache->current->pins++;
}
