/*
 * positions.c
 *		Positions and stream keys that are never handed out twice.
 *
 * The counters live in shared memory and are lost in a crash.  So a register
 * (core/durable.c) holds, for each, a number that none handed out exceeds: it is
 * raised by a block, and on disk, before a number of that block is used.  After a
 * start the counter goes on above the register; the rest of the block is a gap.
 * Without this, with synchronous_commit = off, a crash could hand out again a
 * position that a reader has already seen.
 *
 * A counter belongs to one store: the entry remembers the OID of its position
 * register, and is set up anew when that differs (DROP and CREATE EXTENSION, also
 * rolled back).  Setting up writes nothing, so a reader may be the first.
 *
 * History can fork: after a promotion or a point-in-time recovery this server
 * may lack the newest positions that the old one handed out.  The timeline
 * register holds (generation << 32 | timeline).  When the server is on a higher
 * timeline than the register says, positions go on at the next multiple of 2^32,
 * and the generation, which es_epoch() is made of, is one more.  A lower timeline
 * is the work of pg_upgrade, which starts at 1 again: the same history goes on.
 *
 * Invariants
 * 1. next of a counter is above every number ever handed out by this store, and
 *    limit is at most the register + 1.
 * 2. A register never goes back.
 * 3. The register of positions is written before that of the timeline: a crash
 *    in between skips another 2^32 positions, and loses nothing.
 *
 * Lock order: event_log, registers, entry lock.  The caller holds event_log.  A
 * heavyweight lock is never waited for under the LWLock.
 *
 * Crash: see above; what was covered by the register is a gap afterwards.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"

#include "core/durable.h"
#include "core/preload.h"
#include "log/positions.h"

PG_FUNCTION_INFO_V1(begin_history);

/* How many numbers a write of the register covers beyond what is needed. */
#define POSITION_BLOCK		8192
#define STREAM_KEY_BLOCK	8192

#define TIMELINE_STRIDE		(INT64CONST(1) << 32)

/* Far from overflow, so that sums of positions cannot wrap. */
#define GREATEST_NUMBER		(PG_INT64_MAX / 2)

static TimeLineID
current_timeline(void)
{
	TimeLineID	timeline;

	if (!RecoveryInProgress())
		return GetWALInsertionTimeLine();
	(void) GetXLogReplayRecPtr(&timeline);
	return timeline;
}

/* What the register should say: see the top of the file. */
static uint64
timeline_now(uint64 stored)
{
	uint64		timeline = current_timeline();
	uint64		generation = stored >> 32;

	if (timeline > (stored & PG_UINT32_MAX))
		generation++;
	return generation << 32 | timeline;
}

static uint64
read_timeline(Relation rel)
{
	int64		stored;

	if (!es_durable_read(rel, &stored))
		return current_timeline();
	return (uint64) stored;
}

/*
 * A number that changes with every fork of history: the generation.  Right also
 * before the first append after a promotion, and on a standby.
 */
uint64
es_timeline_history(const EsCatalog *cat)
{
	Relation	rel = es_durable_open(cat->timeline_register, false);
	uint64		history = timeline_now(read_timeline(rel)) >> 32;

	relation_close(rel, NoLock);
	return history;
}

/* The number after the greatest that the register covers. */
static uint64
first_uncovered(Relation rel)
{
	int64		value;

	return es_durable_read(rel, &value) ? (uint64) value + 1 : (uint64) value;
}

static void
start_counter(EsCounter *counter, uint64 next)
{
	pg_atomic_write_u64(&counter->limit, next);
	pg_atomic_write_u64(&counter->next, next);
}

/*
 * The entry of this database in the registry, its counters set up for this
 * store.  Not during recovery.  Assumes a lock on event_log.
 */
EsDatabase *
es_positions_attach(const EsCatalog *cat)
{
	static EsDatabase *attached = NULL;
	Relation	positions;
	Relation	stream_keys;
	Relation	timeline;
	Relation	seal;
	EsDatabase *db;

	es_registry_require();
	if (attached != NULL && attached->dboid == MyDatabaseId &&
		attached->store == cat->position_register)
	{
		pg_read_barrier();
		return attached;
	}

	Assert(!RecoveryInProgress());
	db = es_database_of(MyDatabaseId, true);
	positions = es_durable_open(cat->position_register, false);
	stream_keys = es_durable_open(cat->stream_key_register, false);
	timeline = es_durable_open(cat->timeline_register, false);
	seal = es_durable_open(cat->seal_register, false);

	LWLockAcquire(&db->lock, LW_EXCLUSIVE);
	if (db->store != cat->position_register)
	{
		uint64		next = first_uncovered(positions);
		uint64		stored = read_timeline(timeline);
		int64		sealed;

		if ((timeline_now(stored) >> 32) != (stored >> 32))
			next = (next / TIMELINE_STRIDE + 1) * TIMELINE_STRIDE;

		pg_atomic_write_u64(&db->head, 0);
		start_counter(&db->positions, next);
		start_counter(&db->stream_keys, first_uncovered(stream_keys));
		pg_atomic_fetch_add_u32(&db->seals, 1);
		pg_atomic_write_u32(&db->sealed, es_durable_read(seal, &sealed) && sealed == ES_SEALED);
		pg_write_barrier();
		db->store = cat->position_register;
	}
	LWLockRelease(&db->lock);

	relation_close(positions, NoLock);
	relation_close(stream_keys, NoLock);
	relation_close(timeline, NoLock);
	relation_close(seal, NoLock);
	attached = db;
	return db;
}

/*
 * Make sure that the register covers all numbers below "end".
 */
static void
cover_numbers(EsDatabase *db, EsCounter *counter, Oid register_oid, uint64 end, uint64 block)
{
	Relation	rel;

	if (end > GREATEST_NUMBER)
		ereport(ERROR,
				(errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
				 errmsg("the event log has run out of numbers")));

	rel = es_durable_open(register_oid, true);
	LWLockAcquire(&db->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u64(&counter->limit) < end)
	{
		uint64		limit = Max(end + block, first_uncovered(rel));	/* (2) */

		es_durable_write(rel, (int64) limit - 1);
		pg_atomic_write_u64(&counter->limit, limit);
	}
	LWLockRelease(&db->lock);
	relation_close(rel, NoLock);
}

/*
 * Write down the timeline that this server is on, after the positions have
 * jumped (3).  Done with the first block of positions that is drawn, and by the
 * scheduler when it starts; until then each start computes the same jump.
 */
void
es_timeline_settle(EsDatabase *db, const EsCatalog *cat)
{
	Relation	rel = es_durable_open(cat->timeline_register, true);
	uint64		stored = read_timeline(rel);
	uint64		now = timeline_now(stored);

	if (now != stored)
	{
		cover_numbers(db, &db->positions, cat->position_register,
					  pg_atomic_read_u64(&db->positions.next) + 1, POSITION_BLOCK);
		LWLockAcquire(&db->lock, LW_EXCLUSIVE);
		es_durable_write(rel, (int64) now);
		LWLockRelease(&db->lock);
	}
	relation_close(rel, NoLock);
}

/*
 * Draw n positions, the first of which is returned; the others follow.  The
 * caller holds the locks of the streams that they are for, so that positions
 * rise with versions.
 */
int64
es_positions_draw(EsDatabase *db, const EsCatalog *cat, int64 n)
{
	int64		first = es_registry_reserve(db, n);
	uint64		end = (uint64) first + (uint64) n;

	if (end > pg_atomic_read_u64(&db->positions.limit))
	{
		cover_numbers(db, &db->positions, cat->position_register, end, POSITION_BLOCK);
		es_timeline_settle(db, cat);
	}
	return first;
}

/* Draw the key of a new stream. */
int64
es_stream_keys_draw(EsDatabase *db, const EsCatalog *cat)
{
	uint64		key = pg_atomic_fetch_add_u64(&db->stream_keys.next, 1);

	if (key >= pg_atomic_read_u64(&db->stream_keys.limit))
		cover_numbers(db, &db->stream_keys, cat->stream_key_register, key + 1, STREAM_KEY_BLOCK);
	return (int64) key;
}

static void
raise_counter(EsCounter *counter, uint64 next)
{
	uint64		now = pg_atomic_read_u64(&counter->next);

	while (now < next &&
		   !pg_atomic_compare_exchange_u64(&counter->next, &now, next))
		;
}

/*
 * Go on at a number or above, and above what the register says if somebody else
 * has set it since we last wrote it: a restore does.
 */
static void
raise_above_register(EsCounter *counter, Oid register_oid, int64 next)
{
	Relation	rel = es_durable_open(register_oid, false);
	uint64		covered = first_uncovered(rel);

	relation_close(rel, NoLock);
	raise_counter(counter, next);
	if (covered > pg_atomic_read_u64(&counter->limit))
		raise_counter(counter, covered);
}

/*
 * Go on at the given numbers or above, on disk too.  The caller's lock on
 * event_log keeps all appenders out.
 */
void
es_positions_raise(EsDatabase *db, const EsCatalog *cat,
				   int64 next_position, int64 next_stream_key)
{
	raise_above_register(&db->positions, cat->position_register, next_position);
	raise_above_register(&db->stream_keys, cat->stream_key_register, next_stream_key);
	cover_numbers(db, &db->positions, cat->position_register,
				  pg_atomic_read_u64(&db->positions.next), 0);
	cover_numbers(db, &db->stream_keys, cat->stream_key_register,
				  pg_atomic_read_u64(&db->stream_keys.next), 0);
}

/*
 * eventstore.begin_history() → void
 *
 * Called once by the install script: the history of this store begins on the
 * timeline that the server is on now.  Warns if the library is not preloaded.
 */
Datum
begin_history(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	Relation	rel = es_durable_open(cat->timeline_register, true);

	es_durable_write(rel, (int64) current_timeline());
	relation_close(rel, NoLock);
	if (!es_registry_loaded())
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("eventstore is not loaded when the server starts: nothing can be appended yet"),
				 errhint("Run this, then restart the server:\n%s", es_preload_statement())));
	PG_RETURN_VOID();
}
