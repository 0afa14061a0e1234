/*
 * head.c
 *		The head: how far the log can be read, and waiting for it to move.
 *
 * A read by position takes, in this order and in one call: the head, a snapshot,
 * the events up to that head.  Below the head the log cannot change, so the
 * snapshot may be newer than the transaction's, also in REPEATABLE READ.  The
 * other order, or "WHERE position <= es_head()" in a statement whose snapshot is
 * older than the head, loses events.
 *
 * Where the head comes from:
 *	- the registry, on a server that takes appends;
 *	- the mark, on a standby: what the primary has recorded (mark.c);
 *	- the greatest position there is, on a log that was restored and has not seen
 *	  an append.  Its rows need not be committed in the order of positions, but the
 *	  first append waits until all of them are: see seal.c.
 *
 * Invariant: a snapshot returned with a head sees every event at or below it.
 *
 * Locks: AccessShare on event_log first (es_catalog_lock), by the caller.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bswap.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/args.h"
#include "core/errors.h"
#include "core/hash.h"
#include "core/wait_event.h"
#include "log/head.h"
#include "log/mark.h"
#include "log/positions.h"
#include "log/seal.h"

PG_FUNCTION_INFO_V1(es_head);
PG_FUNCTION_INFO_V1(es_epoch);
PG_FUNCTION_INFO_V1(es_wait);

/* Interval at which a waiter looks by itself, in case nobody wakes it. */
#define LOOK_INTERVAL_MS			1000
/* The same on a standby, where nobody wakes it: the mark moves no more often. */
#define STANDBY_LOOK_INTERVAL_MS	100

/*
 * The head, and a registered snapshot that sees everything at or below it.
 */
int64
es_head_read(const EsCatalog *cat, Snapshot *snapshot)
{
	EsDatabase *db;
	int64		head;

	es_registry_require();
	if (RecoveryInProgress())
	{
		*snapshot = RegisterSnapshot(GetLatestSnapshot());
		return es_mark_read(cat, *snapshot, NULL);
	}

	db = es_positions_attach(cat);
	if (!pg_atomic_read_u32(&db->sealed))
	{
		*snapshot = RegisterSnapshot(GetLatestSnapshot());
		head = es_seal_greatest_position(cat, *snapshot);

		/*
		 * Still unsealed after the snapshot was taken: no append was committed
		 * before it, so what it sees was restored, and all of that is decided.
		 */
		pg_read_barrier();
		if (!pg_atomic_read_u32(&db->sealed))
			return Max(head, (int64) pg_atomic_read_u64(&db->head));	/* was sealed once */
		UnregisterSnapshot(*snapshot);
	}

	head = es_registry_head(db);
	*snapshot = RegisterSnapshot(GetLatestSnapshot());
	return head;
}

/*
 * The head alone.  A snapshot is taken only where the head must be read from a table.
 */
int64
es_head_glance(const EsCatalog *cat)
{
	Snapshot	snapshot;
	EsDatabase *db;
	int64		head;

	es_registry_require();
	if (!RecoveryInProgress())
	{
		db = es_positions_attach(cat);
		if (pg_atomic_read_u32(&db->sealed))
			return es_registry_head(db);
	}
	head = es_head_read(cat, &snapshot);
	UnregisterSnapshot(snapshot);
	return head;
}

/* The greatest position ever handed out; not known on a standby: no limit. */
int64
es_head_handed_out(const EsCatalog *cat)
{
	EsDatabase *db;

	if (RecoveryInProgress())
		return PG_INT64_MAX;
	db = es_positions_attach(cat);
	if (!pg_atomic_read_u32(&db->sealed))
	{
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		int64		position = es_seal_greatest_position(cat, snapshot);

		UnregisterSnapshot(snapshot);
		return Max(position, (int64) pg_atomic_read_u64(&db->positions.next) - 1);
	}
	return (int64) pg_atomic_read_u64(&db->positions.next) - 1;
}

/* A position that was never handed out came from another log. */
void
es_head_refuse_ahead(const EsCatalog *cat, int64 position)
{
	int64		handed_out = es_head_handed_out(cat);

	if (position > handed_out)
		ereport(ERROR,
				(errcode(ES_POSITION_AHEAD),
				 errmsg("position %lld is ahead of the log", (long long) position),
				 errdetail("The greatest position handed out is %lld.", (long long) handed_out),
				 errhint("The log is not the one that this position came from, or lacks its newest events: "
						 "compare es_epoch() with the epoch stored with the position.")));
}

/*
 * The transaction holds the head below its own first position.  Waiting for a
 * head of up_to would never end.
 */
void
es_head_refuse_own(int64 up_to)
{
	int64		own = es_registry_own_first();

	if (own != 0 && up_to >= own)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for a position that this transaction has not committed"),
				 errdetail("Its first position is %lld.", (long long) own),
				 errhint("Commit before waiting.")));
}

static void
stop_waiting(int code, Datum arg)
{
	EsDatabase *db = (EsDatabase *) DatumGetPointer(arg);

	pg_atomic_fetch_sub_u32(&db->waiters, 1);
	ConditionVariableCancelSleep();
}

/* Sleep until the head may have moved. */
static void
sleep_for_head(EsDatabase *db, TimestampTz deadline)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	if (left <= 0)
		return;
	if (db != NULL)
	{
		ConditionVariableTimedSleep(&db->head_moved, Min(left, LOOK_INTERVAL_MS),
									es_wait_event(ES_WAIT_HEAD));
		return;
	}
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(left, STANDBY_LOOK_INTERVAL_MS), es_wait_event(ES_WAIT_HEAD));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Wait until the head is beyond the given position, or the deadline has come.
 */
void
es_head_wait(const EsCatalog *cat, int64 beyond, TimestampTz deadline)
{
	EsDatabase *db = RecoveryInProgress() ? NULL : es_positions_attach(cat);

	if (db == NULL)
	{
		while (es_head_glance(cat) <= beyond && GetCurrentTimestamp() < deadline)
			sleep_for_head(NULL, deadline);
		return;
	}

	/* The scheduler may be asleep, and no append wakes it until it knows of us. */
	pg_atomic_fetch_add_u32(&db->waiters, 1);
	PG_ENSURE_ERROR_CLEANUP(stop_waiting, PointerGetDatum(db));
	{
		ConditionVariablePrepareToSleep(&db->head_moved);
		es_database_wake_scheduler(db);
		while (es_head_glance(cat) <= beyond && GetCurrentTimestamp() < deadline)
			sleep_for_head(db, deadline);
	}
	PG_END_ENSURE_ERROR_CLEANUP(stop_waiting, PointerGetDatum(db));
	stop_waiting(0, PointerGetDatum(db));
}

/*
 * es_head() → bigint
 */
Datum
es_head(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(es_head_glance(es_catalog_lock(AccessShareLock)));
}

/*
 * es_wait(up_to bigint, timeout interval) → boolean
 */
Datum
es_wait(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	int64		up_to;
	TimestampTz deadline;

	es_arg_require(fcinfo, 0, "up_to");
	es_arg_require(fcinfo, 1, "timeout");
	up_to = es_arg_place(fcinfo, 0, "up_to", 0);
	deadline = es_arg_deadline(fcinfo, 1, "timeout", 0);
	es_registry_require();
	es_head_refuse_own(up_to);
	if (es_head_glance(cat) >= up_to)
		PG_RETURN_BOOL(true);
	es_head_refuse_ahead(cat, up_to);
	es_head_wait(cat, up_to - 1, deadline);
	PG_RETURN_BOOL(es_head_glance(cat) >= up_to);
}

/*
 * es_epoch() → uuid
 *
 * A hash of the store's identity, the database and the generation of its
 * history.  Nothing has to be written for it to change after a promotion.
 */
Datum
es_epoch(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	pg_uuid_t	identity;
	uint64		hash[2];
	pg_uuid_t  *epoch = palloc(sizeof(pg_uuid_t));

	(void) es_mark_read(cat, snapshot, &identity);
	UnregisterSnapshot(snapshot);

	for (int i = 0; i < 2; i++)
	{
		hash[i] = es_hash_bytes(identity.data, UUID_LEN, i);
		hash[i] = es_hash_number(MyDatabaseId, hash[i]);
		hash[i] = pg_hton64(es_hash_number((int64) es_timeline_history(cat), hash[i]));
	}
	memcpy(epoch->data, hash, sizeof(hash));
	epoch->data[6] = (epoch->data[6] & 0x0f) | 0x80;	/* version 8: custom */
	epoch->data[8] = (epoch->data[8] & 0x3f) | 0x80;
	PG_RETURN_UUID_P(epoch);
}
