/*
 * partition.c
 *		How far each partition of a subscription has come, and who has it.
 *
 * The row of a partition is read, changed in memory and stored under its lock; see
 * subscription.c for what it says.  That goes without SQL underneath; what is done to all
 * partitions at once, and seldom, is a statement.
 *
 * Invariants
 * 1. A row is stored only by whoever has locked it in the same transaction.
 * 2. checkpoint does not fall, but for a seek.
 * 3. leased_until is set exactly while something is pending.
 * 4. A row is locked as SELECT FOR NO KEY UPDATE does (executor/nodeLockRows.c): in READ
 *    COMMITTED the newest version, whatever the snapshot saw.
 *
 * Isolation: in REPEATABLE READ and above the lock of a row that has changed since the
 * snapshot is 40001.  A row that is younger than the snapshot would just not be found, so
 * that case is looked for, and is the same error.
 *
 * Crash: rows belong to their transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat/compat.h"
#include "core/numbers.h"
#include "core/slot.h"
#include "core/spi.h"
#include "core/target.h"
#include "subscriptions/held.h"
#include "subscriptions/partition.h"

/* Columns of eventstore.subscription_partition */
enum
{
	COL_SUBSCRIPTION = 1, COL_NUMBER, COL_CHECKPOINT, COL_DELIVERED, COL_PENDING, COL_HELD,
	COL_BATCH_LIMIT, COL_CONSUMER, COL_LEASED_UNTIL, COL_FETCHED_AT
};

/* ---- rows ---- */

/* The rows of a subscription in the order of their numbers, or one of them. */
typedef struct Rows
{
	Relation	rel;
	Relation	index;
	Snapshot	snapshot;
	IndexScanDesc scan;
	TupleTableSlot *row;
} Rows;

#define ALL_PARTITIONS	(-1)

static void
open_rows(Rows *rows, const EsSubscription *subscription, int number, LOCKMODE lockmode,
		  Snapshot snapshot)
{
	ScanKeyData keys[2];
	int			nkeys = number == ALL_PARTITIONS ? 1 : 2;

	rows->rel = table_open(subscription->cat->subscription_partition, lockmode);
	es_catalog_refresh();
	rows->index = index_open(subscription->cat->subscription_partition_pkey, lockmode);
	rows->snapshot = RegisterSnapshot(snapshot);
	rows->scan = es_compat_index_beginscan(rows->rel, rows->index, rows->snapshot, nkeys);
	rows->row = table_slot_create(rows->rel, NULL);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(subscription->id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(number));
	index_rescan(rows->scan, keys, nkeys, NULL, 0);
}

static bool
next_row(Rows *rows)
{
	CHECK_FOR_INTERRUPTS();
	return index_getnext_slot(rows->scan, ForwardScanDirection, rows->row);
}

static void
close_rows(Rows *rows)
{
	index_endscan(rows->scan);
	ExecDropSingleTupleTableSlot(rows->row);
	UnregisterSnapshot(rows->snapshot);
	index_close(rows->index, NoLock);
	table_close(rows->rel, NoLock);
}

/* The snapshot that a statement of this transaction would have. */
static Snapshot
statement_snapshot(void)
{
	return IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : GetLatestSnapshot();
}

/* Lock the row that next_row came to; false: somebody has it, or it is gone (4). */
static bool
lock_partition_row(Rows *rows, LockWaitPolicy policy)
{
	TM_FailureData failure;
	ItemPointerData tid = rows->row->tts_tid;
	uint8		flags = TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
	TM_Result	result;

	if (!IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	result = table_tuple_lock(rows->rel, &tid, rows->snapshot, rows->row, GetCurrentCommandId(false),
							  LockTupleNoKeyExclusive, policy, flags, &failure);
	if (IsolationUsesXactSnapshot() && (result == TM_Updated || result == TM_Deleted))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errhint("The transaction might succeed if retried.")));
	return result == TM_Ok;
}

/* Allocated in the current context. */
static void
read_partition_row(TupleTableSlot *row, EsPartition *partition)
{
	ArrayType  *pending = DatumGetArrayTypePCopy(es_slot_or_0(row, COL_PENDING));
	Datum		consumer = es_slot_or_0(row, COL_CONSUMER);

	partition->tid = row->tts_tid;
	partition->consumer = consumer == 0 ? NULL : TextDatumGetCString(consumer);
	partition->number = DatumGetInt32(es_slot_or_0(row, COL_NUMBER));
	partition->checkpoint = DatumGetInt64(es_slot_or_0(row, COL_CHECKPOINT));
	partition->delivered = DatumGetInt64(es_slot_or_0(row, COL_DELIVERED));
	partition->npending = ArrayGetNItems(ARR_NDIM(pending), ARR_DIMS(pending));
	partition->pending = (int64 *) ARR_DATA_PTR(pending);
	partition->held = DatumGetInt32(es_slot_or_0(row, COL_HELD));
	partition->batch_limit = DatumGetInt32(es_slot_or_0(row, COL_BATCH_LIMIT));
	partition->leased_until = DatumGetTimestampTz(es_slot_or_0(row, COL_LEASED_UNTIL));
	partition->fetched_at = DatumGetTimestampTz(es_slot_or_0(row, COL_FETCHED_AT));
}

/* ---- looking ---- */

static bool
is_consumer(TupleTableSlot *row, const char *consumer)
{
	Datum		value = es_slot_or_0(row, COL_CONSUMER);
	EsName		name;

	if (value == 0)
		return false;
	name = es_name_from_text(value);
	return es_name_equal(name, es_name_from_string(consumer));
}

/*
 * A held event is due when no earlier one of its stream is held back.  That is only asked
 * where the consumer could have it.
 */
static void
glance_at(const EsSubscription *subscription, const char *consumer, TupleTableSlot *row,
		  EsGlance *found)
{
	Datum		stored = es_slot_or_0(row, COL_PENDING);
	ArrayType  *pending = DatumGetArrayTypeP(stored);
	int			limit = ES_MAX_PENDING;

	found->number = DatumGetInt32(es_slot_or_0(row, COL_NUMBER));
	found->delivered = DatumGetInt64(es_slot_or_0(row, COL_DELIVERED));
	found->npending = ArrayGetNItems(ARR_NDIM(pending), ARR_DIMS(pending));
	found->mine = found->npending > 0 && is_consumer(row, consumer);
	found->leased_until = DatumGetTimestampTz(es_slot_or_0(row, COL_LEASED_UNTIL));
	found->held = DatumGetInt32(es_slot_or_0(row, COL_HELD));
	found->batch_limit = DatumGetInt32(es_slot_or_0(row, COL_BATCH_LIMIT));
	found->fetched_at = DatumGetTimestampTz(es_slot_or_0(row, COL_FETCHED_AT));
	if (found->batch_limit > 0)
		limit = Min(limit, found->batch_limit);
	found->has_due = found->held > 0 &&
		(found->npending == 0 || (found->mine && found->npending < limit)) &&
		es_held_due(subscription, found->number, PointerGetDatum(pending), &found->due);
	if (PointerGetDatum(pending) != stored)
		pfree(pending);			/* there may be many partitions with long arrays */
}

/*
 * What a fetch looks at before it takes any lock: all partitions, as of this moment, in the
 * order of their numbers.  If there are none, the subscription has been dropped.
 */
EsGlance *
es_partitions_glance(const EsSubscription *subscription, const char *consumer, int *n)
{
	int			capacity = subscription->partitions;
	EsGlance   *glances = palloc0(sizeof(EsGlance) * capacity);
	Rows		rows;

	*n = 0;
	open_rows(&rows, subscription, ALL_PARTITIONS, AccessShareLock, GetLatestSnapshot());
	while (next_row(&rows))
	{
		if (*n < capacity)
			glance_at(subscription, consumer, rows.row, &glances[*n]);
		(*n)++;
	}
	close_rows(&rows);
	return glances;
}

/* The row as of this moment, without a lock. */
bool
es_partition_look(const EsSubscription *subscription, int number, EsPartition *partition)
{
	Rows		rows;
	bool		found;

	open_rows(&rows, subscription, number, AccessShareLock, GetLatestSnapshot());
	if ((found = next_row(&rows)))
		read_partition_row(rows.row, partition);
	close_rows(&rows);
	return found;
}

/* ---- locking ---- */

/* The transaction's snapshot does not see the partition: an error if it is younger. */
static void
refuse_younger(const EsSubscription *subscription, int number)
{
	EsPartition row;

	if (IsolationUsesXactSnapshot() && es_partition_look(subscription, number, &row))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent creation of the subscription"),
				 errhint("The transaction might succeed if retried.")));
}

/*
 * Lock a partition to the end of the transaction, without waiting.  False: somebody
 * else has the lock, or the subscription is gone.
 */
bool
es_partition_try_lock(const EsSubscription *subscription, int number, EsPartition *partition)
{
	Rows		rows;
	bool		found;
	bool		locked;

	open_rows(&rows, subscription, number, RowShareLock, statement_snapshot());
	found = next_row(&rows);
	locked = found && lock_partition_row(&rows, LockWaitSkip);
	if (locked)
		read_partition_row(rows.row, partition);
	close_rows(&rows);
	if (!found)
		refuse_younger(subscription, number);
	return locked;
}

static bool
has_leased(TupleTableSlot *row, const char *consumer)
{
	return es_slot_or_0(row, COL_LEASED_UNTIL) != 0 && is_consumer(row, consumer);
}

/* Lock all partitions, or those whose events a consumer has. */
static EsPartition *
lock_rows(const EsSubscription *subscription, const char *consumer, int *n)
{
	EsPartition *partitions = palloc(sizeof(EsPartition) * subscription->partitions);
	Rows		rows;

	*n = 0;
	open_rows(&rows, subscription, ALL_PARTITIONS, RowShareLock, statement_snapshot());
	while (next_row(&rows) && *n < subscription->partitions)
	{
		/* while the lock was waited for, another consumer may have got the lease */
		if (consumer != NULL && !has_leased(rows.row, consumer))
			continue;
		if (lock_partition_row(&rows, LockWaitBlock) &&
			(consumer == NULL || has_leased(rows.row, consumer)))
			read_partition_row(rows.row, &partitions[(*n)++]);
	}
	close_rows(&rows);
	return partitions;
}

EsPartition *
es_partitions_lock_leased(const EsSubscription *subscription, const char *consumer, int *n)
{
	return lock_rows(subscription, consumer, n);
}

EsPartition *
es_partitions_lock_all(const EsSubscription *subscription, int *n)
{
	EsPartition *partitions = lock_rows(subscription, NULL, n);

	if (*n == 0)
	{
		refuse_younger(subscription, 0);
		es_subscription_refuse_missing(es_name_from_string(subscription->name));
	}
	return partitions;
}

/* ---- changing ---- */

void
es_partitions_create(int subscription, int partitions, int64 start_after)
{
	static EsStatement create = {
		"INSERT INTO eventstore.subscription_partition (subscription_id, partition, checkpoint, delivered)"
		" SELECT $1, n, $3, $3 FROM generate_series(0, $2 - 1) n",
		{INT4OID, INT4OID, INT8OID}
	};
	Datum		values[3] = {
		Int32GetDatum(subscription), Int32GetDatum(partitions), Int64GetDatum(start_after)
	};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&create, values, NULL);
	es_spi_end(&spi);
}

bool
es_partition_is_pending(const EsPartition *partition, int64 position)
{
	return es_numbers_find(partition->pending, partition->npending, position) != NULL;
}

/* Remove positions, which rise, from the pending ones. */
void
es_partition_remove_pending(EsPartition *partition, const int64 *positions, int n)
{
	int			kept = 0;
	int			next = 0;

	for (int i = 0; i < partition->npending; i++)
	{
		int64		position = partition->pending[i];

		while (next < n && positions[next] < position)
			next++;
		if (next < n && positions[next] == position)
			continue;
		partition->pending[kept++] = position;
	}
	partition->npending = kept;
	if (kept == 0)
		partition->leased_until = 0;
}

/*
 * Where the checkpoint is, after pending or held events have changed.
 */
void
es_partition_settle(const EsSubscription *subscription, EsPartition *partition)
{
	int64		checkpoint = partition->delivered;
	int64		first;

	if (partition->npending > 0)
		checkpoint = Min(checkpoint, partition->pending[0] - 1);
	if (partition->held > 0)
	{
		partition->held = es_held_count(subscription, partition->number, &first);
		if (partition->held > 0)
			checkpoint = Min(checkpoint, first - 1);
	}
	partition->checkpoint = Max(partition->checkpoint, checkpoint);
}

static void
set_column(TupleTableSlot *row, int column, Datum value, bool isnull)
{
	row->tts_values[column - 1] = value;
	row->tts_isnull[column - 1] = isnull;
}

static void
fill_row(TupleTableSlot *row, const EsPartition *partition)
{
	bool		unnamed = partition->consumer == NULL;

	set_column(row, COL_CHECKPOINT, Int64GetDatum(partition->checkpoint), false);
	set_column(row, COL_DELIVERED, Int64GetDatum(partition->delivered), false);
	set_column(row, COL_PENDING, es_spi_numbers(partition->pending, partition->npending), false);
	set_column(row, COL_HELD, Int32GetDatum(partition->held), false);
	set_column(row, COL_BATCH_LIMIT, Int32GetDatum(partition->batch_limit), partition->batch_limit == 0);
	set_column(row, COL_CONSUMER, unnamed ? 0 : CStringGetTextDatum(partition->consumer), unnamed);
	set_column(row, COL_LEASED_UNTIL, TimestampTzGetDatum(partition->leased_until), partition->leased_until == 0);
	set_column(row, COL_FETCHED_AT, TimestampTzGetDatum(partition->fetched_at), partition->fetched_at == 0);
}

/* As UPDATE does, by the owner of the table: there may be triggers. */
static void
update_partition_row(Relation rel, TupleTableSlot *former, TupleTableSlot *row)
{
	EsTarget	target = es_target_open(rel);
	EPQState	none;
	EsRoleScope owner;

	es_owner_enter(&owner);
	for (int column = COL_CHECKPOINT; column <= COL_FETCHED_AT; column++)
		es_target_note_update(&target, column);
	ExecOpenIndices(target.relinfo, false);
	es_compat_init_eval_plan_qual(&none, target.estate);
	if (rel->trigdesc != NULL)
		AfterTriggerBeginQuery();
	ExecSimpleRelationUpdate(target.relinfo, target.estate, &none, former, row);
	if (rel->trigdesc != NULL)
		AfterTriggerEndQuery(target.estate);
	es_role_leave(&owner);
	EvalPlanQualEnd(&none);
	ExecCloseIndices(target.relinfo);
	es_target_close(&target);
}

/* Store the row as it was changed (1). */
void
es_partition_store(const EsSubscription *subscription, EsPartition *partition)
{
	Relation	rel = table_open(subscription->cat->subscription_partition, RowExclusiveLock);
	TupleTableSlot *former = table_slot_create(rel, NULL);
	TupleTableSlot *row = table_slot_create(rel, NULL);

	Assert((partition->npending > 0) == (partition->leased_until != 0));
	if (!table_tuple_fetch_row_version(rel, &partition->tid, SnapshotSelf, former))
		elog(ERROR, "the locked row of partition %d is gone", partition->number);
	slot_getallattrs(former);
	memcpy(row->tts_values, former->tts_values, sizeof(Datum) * row->tts_tupleDescriptor->natts);
	memcpy(row->tts_isnull, former->tts_isnull, sizeof(bool) * row->tts_tupleDescriptor->natts);
	fill_row(row, partition);
	ExecStoreVirtualTuple(row);
	update_partition_row(rel, former, row);
	partition->tid = row->tts_tid;
	ExecDropSingleTupleTableSlot(row);
	ExecDropSingleTupleTableSlot(former);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * Move partitions that have delivered up to "from" on to "upto": they have no events in
 * between.  One that is locked, or has just changed, is left to whoever did that; one that
 * was set back since stays where it is.
 *
 * By ctid: the planner has no statistics of a new subscription, and would go through all of
 * its partitions for each of them.
 */
void
es_partitions_advance(const EsSubscription *subscription, const int *numbers,
					  const int64 *from, const int64 *upto, int n)
{
	static EsStatement advance = {
		"UPDATE eventstore.subscription_partition p SET delivered = m.upto,"
		" checkpoint = CASE WHEN p.leased_until IS NULL AND p.held = 0 THEN m.upto ELSE p.checkpoint END"
		" FROM (SELECT q.ctid, k.upto"
		"       FROM unnest($2, $3, $4) AS k(partition, since, upto)"
		"       JOIN eventstore.subscription_partition q"
		"         ON q.subscription_id = $1 AND q.partition = k.partition"
		"       WHERE q.delivered >= k.since AND q.delivered < k.upto"
		"       FOR NO KEY UPDATE OF q SKIP LOCKED) m"
		" WHERE p.ctid = m.ctid",
		{INT4OID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID}
	};
	int64	   *wide = palloc(sizeof(int64) * Max(n, 1));
	Datum		values[4] = {Int32GetDatum(subscription->id)};
	EsSpi		spi;

	for (int i = 0; i < n; i++)
		wide[i] = numbers[i];
	values[1] = es_spi_numbers(wide, n);
	values[2] = es_spi_numbers(from, n);
	values[3] = es_spi_numbers(upto, n);
	es_spi_begin(&spi);
	(void) es_spi_run(&advance, values, NULL);
	es_spi_end(&spi);
}

/* All partitions, which the caller has locked, go on from a position. */
void
es_partitions_seek(const EsSubscription *subscription, int64 position)
{
	static EsStatement seek = {
		"UPDATE eventstore.subscription_partition SET checkpoint = $2, delivered = $2, pending = '{}',"
		" held = 0, batch_limit = NULL, consumer = NULL, leased_until = NULL"
		" WHERE subscription_id = $1",
		{INT4OID, INT8OID}
	};
	Datum		values[2] = {Int32GetDatum(subscription->id), Int64GetDatum(position)};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&seek, values, NULL);
	es_spi_end(&spi);
}

void
es_partitions_remove(const EsSubscription *subscription)
{
	static EsStatement remove = {
		"DELETE FROM eventstore.subscription_partition WHERE subscription_id = $1", {INT4OID}
	};
	Datum		values[1] = {Int32GetDatum(subscription->id)};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&remove, values, NULL);
	es_spi_end(&spi);
}
