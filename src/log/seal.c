/*
 * seal.c
 *		Restoring a log, and the moment after which it cannot be restored.
 *
 * pg_restore fills the tables by COPY or INSERT.  So event_log, stream and
 * event_type take a direct INSERT from their owner or a superuser until the first
 * append in this database.  That append seals the log: it waits for the direct
 * inserters to end, checks that what they left is whole and of this format (format.c),
 * draws the secret that ids are derived with unless it came along (secret.c), sets the
 * counters above what there is, and writes the seal.  With eventstore.restore = on a
 * superuser can insert into a sealed log; that breaks the seal, and the next append checks
 * again.
 *
 * The seal is a register (core/durable.c): it holds although the appending
 * transaction may roll back, and a dump does not carry it, so that a restored
 * database starts unsealed.  A copy of it stands in shared memory.
 *
 * Invariants
 * 1. While the log is sealed there is no direct insertion in progress: sealing
 *    takes ShareRowExclusiveLock on event_log, which waits for every inserter's
 *    RowExclusiveLock (on event_log also when it inserts into another table), and
 *    breaking the seal takes it too, which waits for every appender.
 * 2. Sealing and breaking the seal give that lock back as soon as the seal is written:
 *    the counters and the seal do not depend on this transaction's commit.
 * 3. Here RowExclusiveLock on event_log is given back before the stronger lock is waited
 *    for.  A transaction that holds it otherwise, by its INSERT into event_log itself or an
 *    earlier append, goes ahead of those that wait and hold none.  Two such transactions
 *    would wait for each other: the first takes a lock on the seal's register, and the
 *    second gets an error.
 *
 * Crash: the seal is written last.  Without it the next append checks again.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "core/durable.h"
#include "core/settings.h"
#include "log/event.h"
#include "log/format.h"
#include "log/positions.h"
#include "log/seal.h"
#include "log/secret.h"

static bool
is_sealed(const EsCatalog *cat)
{
	Relation	rel = es_durable_open(cat->seal_register, false);
	int64		value;
	bool		sealed = es_durable_read(rel, &value) && value == ES_SEALED;

	relation_close(rel, NoLock);
	return sealed;
}

static void
write_seal(EsDatabase *db, const EsCatalog *cat, bool sealed)
{
	Relation	rel = es_durable_open(cat->seal_register, true);

	es_durable_write(rel, sealed ? ES_SEALED : ES_UNSEALED);
	relation_close(rel, NoLock);
	if (sealed)
		pg_atomic_fetch_add_u32(&db->seals, 1);
	pg_atomic_write_u32(&db->sealed, sealed);
}

/*
 * Run a query that gives one row of bigints; NULL is 0.  False: no row.
 */
static bool
query_row(const char *sql, int columns, int64 *values)
{
	bool		found;

	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not check the log: %s", sql);
	found = SPI_processed > 0;
	for (int i = 0; i < columns; i++)
	{
		bool		isnull = true;
		Datum		datum = found ? SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
												  i + 1, &isnull) : 0;

		values[i] = isnull ? 0 : DatumGetInt64(datum);
	}
	return found;
}

static void
raise_incomplete(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the event log was not restored completely"),
			 errdetail_internal("%s", detail),
			 errhint("Restore the tables event_log, event_tag, stream and event_type of the schema eventstore together.")));
}

/*
 * Is what was restored whole?  One pass over the log, when there is anything.
 */
static void
check_restored(const EsCatalog *cat, int64 *next_position, int64 *next_stream_key)
{
	EsRoleScope owner;
	int64		last[2];
	int64		missing;

	es_owner_enter(&owner);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(GetLatestSnapshot());

	query_row("SELECT (SELECT max(position) FROM eventstore.event_log),"
			  "       (SELECT max(stream_key) FROM eventstore.stream)", 2, last);
	*next_position = last[0] + 1;
	*next_stream_key = last[1] + 1;

	/* a type is stored with its first event */
	if (last[0] == 0 && query_row("SELECT type_key FROM eventstore.event_type LIMIT 1", 1, &missing))
		raise_incomplete("The events are missing in eventstore.event_log.");

	if (last[0] > 0 &&
		query_row("SELECT l.stream_key FROM"
				  " (SELECT DISTINCT stream_key FROM eventstore.event_log) l"
				  " WHERE NOT EXISTS (SELECT FROM eventstore.stream s"
				  "  WHERE s.stream_key = l.stream_key) LIMIT 1", 1, &missing))
		raise_incomplete(psprintf("Stream key %lld is missing in eventstore.stream.", (long long) missing));

	/* looked for by the tags of the first event that has any */
	if (last[0] > 0 &&
		query_row("SELECT l.position FROM"
				  " (SELECT position FROM eventstore.event_log WHERE cardinality(tags) > 0 ORDER BY position LIMIT 1) l"
				  " WHERE NOT EXISTS (SELECT FROM eventstore.event_tag t"
				  "  WHERE t.position = l.position)", 1, &missing))
		raise_incomplete(psprintf("The tags of the event at position %lld are missing in eventstore.event_tag.", (long long) missing));

	if (last[0] > 0 &&
		query_row("SELECT l.type_key FROM"
				  " (SELECT DISTINCT type_key FROM eventstore.event_log) l"
				  " WHERE NOT EXISTS (SELECT FROM eventstore.event_type t"
				  "  WHERE t.type_key = l.type_key) LIMIT 1", 1, &missing))
		raise_incomplete(psprintf("Type key %lld is missing in eventstore.event_type.", (long long) missing));

	es_format_check(cat);
	es_secret_settle(cat, last[0] > 0 &&
					 query_row("SELECT position FROM eventstore.event_log WHERE event_id IS NULL LIMIT 1", 1, &missing));

	PopActiveSnapshot();
	SPI_finish();
	es_role_leave(&owner);
}

/*
 * Seal the log, unless somebody else has by the time we have the lock.
 */
static void
seal_log(void)
{
	const EsCatalog *cat = es_catalog_lock(ShareRowExclusiveLock);	/* (1) */
	Oid			log = cat->event_log;

	if (!is_sealed(cat))
	{
		EsDatabase *db = es_positions_attach(cat);
		int64		next_position;
		int64		next_stream_key;

		check_restored(cat, &next_position, &next_stream_key);
		es_positions_raise(db, cat, next_position, next_stream_key);
		es_format_begin(cat);
		write_seal(db, cat, true);
	}
	UnlockRelationOid(log, ShareRowExclusiveLock);	/* (2) */
}

/*
 * Lock event_log to append to it, sealed.  Almost always that is the lock that an
 * INSERT takes and one look at shared memory.  The look comes after the lock: from
 * then on nobody can break the seal (1).
 */
const EsCatalog *
es_seal_lock_log(void)
{
	for (;;)
	{
		const EsCatalog *cat = es_catalog_lock(RowExclusiveLock);

		if (pg_atomic_read_u32(&es_positions_attach(cat)->sealed))
			return cat;
		UnlockRelationOid(cat->event_log, RowExclusiveLock);
		seal_log();
	}
}

static bool
writes_log(const EsCatalog *cat)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, cat->event_log);
	return es_compat_holds_lock(&tag, RowExclusiveLock);
}

/*
 * Break the seal, unless somebody else has by the time we have the lock.
 */
static void
break_seal(void)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	bool		writing = writes_log(cat);	/* the INSERT that calls us, as a rule */

	if (writing && !ConditionalLockRelationOid(cat->seal_register, ShareUpdateExclusiveLock))	/* (3) */
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("another session is about to open the event log for direct INSERTs"),
				 errhint("Try again when its INSERT goes on.")));
	cat = es_catalog_lock(ShareRowExclusiveLock);	/* (1) */
	if (is_sealed(cat))
		write_seal(es_positions_attach(cat), cat, false);
	UnlockRelationOid(cat->event_log, ShareRowExclusiveLock);
	if (writing)
		UnlockRelationOid(cat->seal_register, ShareUpdateExclusiveLock);
}

/*
 * May the owner insert directly now?  Breaks the seal if eventstore.restore
 * says so.  What is restored moves the head, without an append that tells.
 */
bool
es_seal_allows_insert(void)
{
	for (;;)
	{
		const EsCatalog *cat = es_catalog_lock(RowExclusiveLock);	/* (1) */

		if (!is_sealed(cat))
		{
			if (es_registry_loaded())
				es_database_change_at_end(es_positions_attach(cat));	/* the head moves */
			return true;
		}
		if (!es_guc_restore)
			return false;
		UnlockRelationOid(cat->event_log, RowExclusiveLock);	/* (3) */
		break_seal();
	}
}

/*
 * May what the store keeps besides the log be inserted directly now?  That breaks no seal: the
 * log stays whole.
 */
bool
es_seal_allows_restore(void)
{
	const EsCatalog *cat = es_catalog_lock(RowExclusiveLock);	/* (1) */

	return es_guc_restore || !is_sealed(cat);
}

/*
 * May the log still be restored?  Not known on a standby: no.
 */
bool
es_seal_is_open(const EsCatalog *cat)
{
	return !RecoveryInProgress() && es_registry_loaded() &&
		pg_atomic_read_u32(&es_positions_attach(cat)->sealed) == 0;
}

/*
 * A row is missing that an event refers to: an error of its own if the log is
 * being restored, table by table, for then it may come yet.
 */
void
es_seal_refuse_unrestored(const EsCatalog *cat)
{
	if (es_seal_is_open(cat))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the event log has not been restored completely"),
				 errdetail("There are events whose stream or type is missing."),
				 errhint("Read again when the restore has ended.")));
}

/*
 * Keep out everybody who writes event_log, if nobody has yet; whoever has begun is waited
 * for.  False, and no lock: there was an append, be it not committed or rolled back, or
 * events were restored.  The lock, ShareRowExclusiveLock on event_log, is to be given back.
 */
bool
es_seal_lock_unwritten(const EsCatalog *cat)
{
	Oid			log;
	Snapshot	snapshot;
	bool		written;

	if (is_sealed(cat))
		return false;			/* an append that is open is not waited for */
	cat = es_catalog_lock(ShareRowExclusiveLock);	/* (1) */
	log = cat->event_log;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	written = is_sealed(cat) || es_seal_greatest_position(cat, snapshot) > 0;
	UnregisterSnapshot(snapshot);
	if (written)
		UnlockRelationOid(log, ShareRowExclusiveLock);
	return !written;
}

/*
 * The greatest position in the log: how far an unsealed log can be read.
 */
int64
es_seal_greatest_position(const EsCatalog *cat, Snapshot snapshot)
{
	Relation	log = table_open(cat->event_log, AccessShareLock);
	Relation	index = index_open(cat->event_log_position, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(log, NULL);
	IndexScanDesc scan = es_compat_index_beginscan(log, index, snapshot, 0);
	int64		position = 0;

	index_rescan(scan, NULL, 0, NULL, 0);
	if (index_getnext_slot(scan, BackwardScanDirection, slot))
		position = es_log_number(slot, ES_LOG_COL_POSITION);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(log, AccessShareLock);
	return position;
}
