/*
 * partition.c
 *		How far each partition of a subscription has come, and who has it.
 *
 * The row of a partition is read, changed in memory and stored under its lock; see
 * subscription.c for what it says.
 *
 * Invariants
 * 1. A row is stored only by whoever has locked it in the same transaction.
 * 2. checkpoint does not fall, but for a seek.
 * 3. leased_until is set exactly while something is pending.
 *
 * Isolation: in REPEATABLE READ and above the lock of a row that has changed since the
 * snapshot is 40001.  One that is younger than the snapshot would only not be found, so
 * that is looked for and is the same error.
 *
 * Crash: rows belong to their transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/args.h"
#include "core/numbers.h"
#include "core/spi.h"
#include "subscriptions/subscription.h"

#define COLUMNS \
	"partition, checkpoint, delivered, pending, held, coalesce(batch_limit, 0)," \
	" consumer, leased_until, fetched_at"

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

static TimestampTz
moment_in(int row, int column)
{
	bool		isnull;
	Datum		value = es_spi_value(row, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/* A row of COLUMNS, allocated in the current context. */
static void
read_row(int row, EsPartition *partition)
{
	bool		isnull;
	ArrayType  *pending = DatumGetArrayTypePCopy(es_spi_value(row, 4, &isnull));
	Datum		consumer = es_spi_value(row, 7, &isnull);

	partition->consumer = isnull ? NULL : TextDatumGetCString(consumer);
	partition->number = DatumGetInt32(es_spi_value(row, 1, &isnull));
	partition->checkpoint = DatumGetInt64(es_spi_value(row, 2, &isnull));
	partition->delivered = DatumGetInt64(es_spi_value(row, 3, &isnull));
	partition->npending = ArrayGetNItems(ARR_NDIM(pending), ARR_DIMS(pending));
	partition->pending = (int64 *) ARR_DATA_PTR(pending);
	partition->held = DatumGetInt32(es_spi_value(row, 5, &isnull));
	partition->batch_limit = DatumGetInt32(es_spi_value(row, 6, &isnull));
	partition->leased_until = moment_in(row, 8);
	partition->fetched_at = moment_in(row, 9);
}

static EsPartition *
read_rows(EsStatement *statement, bool lock, const Datum *values, int *n)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext inner;
	EsPartition *partitions;
	EsSpi		spi;

	es_spi_begin(&spi);
	*n = (int) (lock ? es_spi_run(statement, values, NULL) : es_spi_look(statement, values));
	inner = MemoryContextSwitchTo(caller);
	partitions = palloc(sizeof(EsPartition) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		read_row(i + 1, &partitions[i]);
	MemoryContextSwitchTo(inner);
	es_spi_end(&spi);
	return partitions;
}

/*
 * What a fetch looks at before it takes any lock: all partitions, as of this moment, in
 * the order of their numbers.  None: the subscription has been dropped.
 *
 * A held event is due when no earlier one of its stream is held back.  That is only
 * asked where the consumer could have it.
 */
EsGlance *
es_partitions_glance(const EsSubscription *subscription, const char *consumer, int *n)
{
	static EsStatement glance = {
		"SELECT partition, delivered, cardinality(pending), consumer = $2, leased_until, held,"
		" coalesce(batch_limit, 0), fetched_at,"
		" CASE WHEN held > 0 AND (leased_until IS NULL OR"
		"      consumer = $2 AND cardinality(pending) < least(batch_limit, $3)) THEN"
		"  (SELECT min(f.due) FROM"
		"   (SELECT DISTINCT ON (e.stream_key) coalesce(e.not_before, '-infinity') AS due"
		"    FROM (SELECT h.stream_key, h.position, h.not_before FROM eventstore.subscription_event h"
		"     WHERE h.subscription_id = p.subscription_id AND h.partition = p.partition"
		"      AND h.status <> 'parked' AND h.position <> ALL (p.pending)"
		"     ORDER BY h.position LIMIT " CppAsString2(ES_HELD_LOOKED_AT) ") e"
		"    ORDER BY e.stream_key, e.position) f)"
		" END"
		" FROM eventstore.subscription_partition p WHERE subscription_id = $1 ORDER BY partition",
		{INT4OID, TEXTOID, INT4OID}
	};
	Datum		values[3] = {
		Int32GetDatum(subscription->id), CStringGetTextDatum(consumer), Int32GetDatum(ES_MAX_PENDING)
	};
	MemoryContext caller = CurrentMemoryContext;
	EsGlance   *glances;
	bool		isnull;
	EsSpi		spi;

	es_spi_begin(&spi);
	*n = (int) es_spi_look(&glance, values);
	glances = MemoryContextAllocZero(caller, sizeof(EsGlance) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		EsGlance   *found = &glances[i];
		int			row = i + 1;
		bool		same;

		found->number = DatumGetInt32(es_spi_value(row, 1, &isnull));
		found->delivered = DatumGetInt64(es_spi_value(row, 2, &isnull));
		found->npending = DatumGetInt32(es_spi_value(row, 3, &isnull));
		same = DatumGetBool(es_spi_value(row, 4, &isnull));
		found->mine = found->npending > 0 && !isnull && same;
		found->leased_until = moment_in(row, 5);
		found->held = DatumGetInt32(es_spi_value(row, 6, &isnull));
		found->batch_limit = DatumGetInt32(es_spi_value(row, 7, &isnull));
		found->fetched_at = moment_in(row, 8);
		(void) es_spi_value(row, 9, &isnull);
		found->has_due = !isnull;
		found->due = moment_in(row, 9);
	}
	es_spi_end(&spi);
	return glances;
}

/* The transaction's snapshot does not know the partition: is that its age? */
static void
refuse_younger(const EsSubscription *subscription, int number)
{
	static EsStatement find = {
		"SELECT 1 FROM eventstore.subscription_partition WHERE subscription_id = $1 AND partition = $2",
		{INT4OID, INT4OID}
	};
	Datum		values[2] = {Int32GetDatum(subscription->id), Int32GetDatum(number)};
	EsSpi		spi;
	bool		known;

	if (!IsolationUsesXactSnapshot())
		return;
	es_spi_begin(&spi);
	known = es_spi_run(&find, values, NULL) > 0 || es_spi_look(&find, values) == 0;
	es_spi_end(&spi);
	if (!known)
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
	static EsStatement lock = {
		"SELECT " COLUMNS " FROM eventstore.subscription_partition"
		" WHERE subscription_id = $1 AND partition = $2 FOR NO KEY UPDATE SKIP LOCKED",
		{INT4OID, INT4OID}
	};
	Datum		values[2] = {Int32GetDatum(subscription->id), Int32GetDatum(number)};
	int			n;
	EsPartition *found = read_rows(&lock, true, values, &n);

	if (n == 0)
	{
		refuse_younger(subscription, number);
		return false;
	}
	*partition = *found;
	return true;
}

/* Lock the partitions whose events the consumer has. */
EsPartition *
es_partitions_lock_leased(const EsSubscription *subscription, const char *consumer, int *n)
{
	static EsStatement lock = {
		"SELECT " COLUMNS " FROM eventstore.subscription_partition"
		" WHERE subscription_id = $1 AND consumer = $2 AND leased_until IS NOT NULL"
		" ORDER BY partition FOR NO KEY UPDATE",
		{INT4OID, TEXTOID}
	};
	Datum		values[2] = {Int32GetDatum(subscription->id), CStringGetTextDatum(consumer)};

	return read_rows(&lock, true, values, n);
}

/* Lock all partitions. */
EsPartition *
es_partitions_lock_all(const EsSubscription *subscription, int *n)
{
	static EsStatement lock = {
		"SELECT " COLUMNS " FROM eventstore.subscription_partition"
		" WHERE subscription_id = $1 ORDER BY partition FOR NO KEY UPDATE",
		{INT4OID}
	};
	Datum		values[1] = {Int32GetDatum(subscription->id)};
	EsPartition *partitions = read_rows(&lock, true, values, n);

	if (*n == 0)
	{
		refuse_younger(subscription, 0);
		es_subscription_refuse_missing((EsName) {subscription->name, strlen(subscription->name)});
	}
	return partitions;
}

/* The row as of this moment, without a lock. */
bool
es_partition_look(const EsSubscription *subscription, int number, EsPartition *partition)
{
	static EsStatement look = {
		"SELECT " COLUMNS " FROM eventstore.subscription_partition"
		" WHERE subscription_id = $1 AND partition = $2",
		{INT4OID, INT4OID}
	};
	Datum		values[2] = {Int32GetDatum(subscription->id), Int32GetDatum(number)};
	int			n;
	EsPartition *found = read_rows(&look, false, values, &n);

	if (n > 0)
		*partition = *found;
	return n > 0;
}

bool
es_partition_is_pending(const EsPartition *partition, int64 position)
{
	return es_numbers_find(partition->pending, partition->npending, position) != NULL;
}

/* Take positions, rising, off the pending ones. */
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

/* Store the row as it was changed. */
void
es_partition_store(const EsSubscription *subscription, const EsPartition *partition)
{
	static EsStatement store = {
		"UPDATE eventstore.subscription_partition SET checkpoint = $3, delivered = $4, pending = $5,"
		" held = $6, batch_limit = $7, consumer = $8, leased_until = $9, fetched_at = $10"
		" WHERE subscription_id = $1 AND partition = $2",
		{INT4OID, INT4OID, INT8OID, INT8OID, INT8ARRAYOID, INT4OID, INT4OID, TEXTOID,
		TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	Datum		values[10] = {
		Int32GetDatum(subscription->id), Int32GetDatum(partition->number),
		Int64GetDatum(partition->checkpoint), Int64GetDatum(partition->delivered),
		es_spi_numbers(partition->pending, partition->npending), Int32GetDatum(partition->held),
		Int32GetDatum(partition->batch_limit),
		partition->consumer == NULL ? 0 : CStringGetTextDatum(partition->consumer),
		TimestampTzGetDatum(partition->leased_until), TimestampTzGetDatum(partition->fetched_at)
	};
	bool		isnull[10] = {
		false, false, false, false, false, false, partition->batch_limit == 0,
		partition->consumer == NULL, partition->leased_until == 0, partition->fetched_at == 0
	};
	EsSpi		spi;

	Assert((partition->npending > 0) == (partition->leased_until != 0));
	es_spi_begin(&spi);
	(void) es_spi_run(&store, values, isnull);
	es_spi_end(&spi);
}

/*
 * Partitions of which it is known that there is no event beyond "from", up to "upto":
 * let them pass that.  Where one is locked, or has just changed, somebody else sees to it.
 * One that was set back since keeps its place.
 *
 * By ctid, for the planner knows nothing of a new subscription, and would go through all
 * of its partitions for each of them.
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
