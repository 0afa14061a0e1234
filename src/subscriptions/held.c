/*
 * held.c
 *		Events that need another delivery, or are parked: rows of subscription_event.
 *
 * An event gets a row when its delivery has failed (retry, parked), when an earlier event of
 * its stream has such a row (waiting), or when a lease has expired (retry: its only event;
 * waiting: of several, none of which is known to be to blame).  The row stays while the event
 * is handed out again, to count attempts, and is removed when the event is acked.
 *
 * Invariant: whoever writes rows holds the lock of the partition (see subscription.c), but for
 * the scavenger, which removes parked rows of removed events.
 * Crash: rows belong to their transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/numbers.h"
#include "core/spi.h"
#include "streams/scavenge.h"
#include "subscriptions/held.h"

/* The held events of a partition, by position: the first ES_HELD_LOOKED_AT. */
EsHeld *
es_held_read(const EsSubscription *subscription, int partition, int *n)
{
	static EsStatement read = {
		"SELECT position, stream_key, coalesce(not_before, '-infinity') FROM eventstore.subscription_event"
		" WHERE subscription_id = $1 AND partition = $2 AND status <> 'parked' ORDER BY position"
		" LIMIT " CppAsString2(ES_HELD_LOOKED_AT),
		{INT4OID, INT4OID}
	};
	Datum		values[2] = {Int32GetDatum(subscription->id), Int32GetDatum(partition)};
	MemoryContext caller = CurrentMemoryContext;
	EsHeld	   *held;
	bool		isnull;
	EsSpi		spi;

	es_spi_begin(&spi);
	*n = (int) es_spi_run(&read, values, NULL);
	held = MemoryContextAlloc(caller, sizeof(EsHeld) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		held[i].position = DatumGetInt64(es_spi_value(i + 1, 1, &isnull));
		held[i].stream_key = DatumGetInt64(es_spi_value(i + 1, 2, &isnull));
		held[i].not_before = DatumGetTimestampTz(es_spi_value(i + 1, 3, &isnull));
	}
	es_spi_end(&spi);
	return held;
}

/*
 * When the first held event of a partition that is not pending can be handed out: as late as
 * the earlier held events of its stream.  False: there is none.  (The pending events are a
 * subquery, which is hashed; an array that is a parameter would be searched through.)
 */
bool
es_held_due(const EsSubscription *subscription, int partition, Datum pending, TimestampTz *due)
{
	static EsStatement first_due = {
		"SELECT min(f.due) FROM"
		" (SELECT DISTINCT ON (e.stream_key) coalesce(e.not_before, '-infinity') AS due"
		"  FROM (SELECT stream_key, position, not_before FROM eventstore.subscription_event"
		"   WHERE subscription_id = $1 AND partition = $2"
		"    AND status <> 'parked' AND position NOT IN (SELECT unnest($3))"
		"   ORDER BY position LIMIT " CppAsString2(ES_HELD_LOOKED_AT) ") e"
		"  ORDER BY e.stream_key, e.position) f",
		{INT4OID, INT4OID, INT8ARRAYOID}
	};
	Datum		values[3] = {Int32GetDatum(subscription->id), Int32GetDatum(partition), pending};
	bool		isnull;
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_look(&first_due, values);
	*due = DatumGetTimestampTz(es_spi_value(1, 1, &isnull));
	es_spi_end(&spi);
	return !isnull;
}

/* How many events of a partition are held, and the first of them. */
int
es_held_count(const EsSubscription *subscription, int partition, int64 *first)
{
	static EsStatement count = {
		"SELECT count(*)::int, coalesce(min(position), 0) FROM eventstore.subscription_event"
		" WHERE subscription_id = $1 AND partition = $2 AND status <> 'parked'",
		{INT4OID, INT4OID}
	};
	Datum		values[2] = {Int32GetDatum(subscription->id), Int32GetDatum(partition)};
	bool		isnull;
	EsSpi		spi;
	int			n;

	es_spi_begin(&spi);
	(void) es_spi_run(&count, values, NULL);
	n = DatumGetInt32(es_spi_value(1, 1, &isnull));
	*first = DatumGetInt64(es_spi_value(1, 2, &isnull));
	es_spi_end(&spi);
	return n;
}

/*
 * Hold events back, to be handed out when the earlier ones of their streams are.  The number
 * of their attempts stays.
 */
void
es_held_wait(const EsSubscription *subscription, int partition,
			 const int64 *positions, const int64 *stream_keys, int n)
{
	static EsStatement wait = {
		"INSERT INTO eventstore.subscription_event AS e"
		" (subscription_id, position, partition, stream_key, status, attempts, at)"
		" SELECT $1, u.position, $2, u.stream_key, 'waiting', 0, clock_timestamp()"
		" FROM unnest($3, $4) AS u(position, stream_key)"
		" ON CONFLICT (subscription_id, position) DO UPDATE SET status = 'waiting', not_before = NULL,"
		" attempts = CASE WHEN e.status = 'parked' THEN 0 ELSE e.attempts END",
		{INT4OID, INT4OID, INT8ARRAYOID, INT8ARRAYOID}
	};
	Datum		values[4] = {
		Int32GetDatum(subscription->id), Int32GetDatum(partition),
		es_spi_numbers(positions, n), es_spi_numbers(stream_keys, n)
	};
	EsSpi		spi;

	if (n == 0)
		return;
	es_spi_begin(&spi);
	(void) es_spi_run(&wait, values, NULL);
	es_spi_end(&spi);
}

/*
 * The delivery of events has failed: they are to be handed out again, later each time, or
 * are parked.  Leaves those that are not parked in the arrays, and returns their number.
 */
int
es_held_fail(const EsSubscription *subscription, int partition,
			 int64 *positions, int64 *stream_keys, int n, const EsFailure *failure)
{
	static EsStatement fail = {
		"INSERT INTO eventstore.subscription_event AS e"
		" (subscription_id, position, partition, stream_key, status, attempts, not_before,"
		"  consumer, reason, sqlstate, detail, hint, context, at)"
		" SELECT $1, u.position, $2, u.stream_key, CASE WHEN c.attempts > $5 THEN 'parked' ELSE 'retry' END,"
		"  c.attempts, clock_timestamp() + least(power(2, least(c.attempts, 30) - 1) * $6, 60000) * interval '1 ms',"
		"  $7, $8, $9, $10, $11, $12, clock_timestamp()"
		" FROM unnest($3, $4) AS u(position, stream_key)"
		" LEFT JOIN eventstore.subscription_event o"
		"  ON o.subscription_id = $1 AND o.position = u.position AND o.status <> 'parked'"
		" CROSS JOIN LATERAL (SELECT coalesce(o.attempts, 0) + 1) AS c(attempts)"
		" ON CONFLICT (subscription_id, position) DO UPDATE SET status = excluded.status,"
		"  attempts = excluded.attempts, not_before = excluded.not_before, consumer = excluded.consumer,"
		"  reason = excluded.reason, sqlstate = excluded.sqlstate, detail = excluded.detail,"
		"  hint = excluded.hint, context = excluded.context, at = excluded.at"
		" RETURNING position, stream_key, status = 'parked'",
		{INT4OID, INT4OID, INT8ARRAYOID, INT8ARRAYOID, INT4OID, INT4OID, TEXTOID,
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		values[7 + ES_ERROR_PARTS] = {
		Int32GetDatum(subscription->id), Int32GetDatum(partition),
		es_spi_numbers(positions, n), es_spi_numbers(stream_keys, n),
		Int32GetDatum(failure->park ? -1 : subscription->max_retries),
		Int32GetDatum(failure->delay_ms),
		CStringGetTextDatum(failure->consumer)
	};
	bool		isnull[7 + ES_ERROR_PARTS] = {false};
	EsError		said = {.message = failure->reason};
	bool		null;
	int			rows;
	int			kept = 0;
	EsSpi		spi;

	if (n == 0)
		return 0;
	es_error_put(failure->error != NULL ? failure->error : &said, values + 7, isnull + 7);
	es_spi_begin(&spi);
	rows = (int) es_spi_run(&fail, values, isnull);
	for (int row = 1; row <= rows; row++)
	{
		if (DatumGetBool(es_spi_value(row, 3, &null)))
			continue;
		positions[kept] = DatumGetInt64(es_spi_value(row, 1, &null));
		stream_keys[kept++] = DatumGetInt64(es_spi_value(row, 2, &null));
	}
	es_spi_end(&spi);
	return kept;
}

/* Events have been handled, or are gone: nothing of them is held. */
void
es_held_remove(const EsSubscription *subscription, const int64 *positions, int n)
{
	static EsStatement remove = {
		"DELETE FROM eventstore.subscription_event"
		" WHERE subscription_id = $1 AND position = ANY ($2) AND status <> 'parked'",
		{INT4OID, INT8ARRAYOID}
	};
	Datum		values[2] = {Int32GetDatum(subscription->id), es_spi_numbers(positions, n)};
	EsSpi		spi;

	if (n == 0)
		return;
	es_spi_begin(&spi);
	(void) es_spi_run(&remove, values, NULL);
	es_spi_end(&spi);
}

/* Remove the held events of all partitions, which the caller has locked; parked ones if asked. */
void
es_held_remove_all(const EsSubscription *subscription, bool parked)
{
	static EsStatement remove = {
		"DELETE FROM eventstore.subscription_event"
		" WHERE subscription_id = $1 AND ($2 OR status <> 'parked')",
		{INT4OID, BOOLOID}
	};
	Datum		values[2] = {Int32GetDatum(subscription->id), BoolGetDatum(parked)};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&remove, values, NULL);
	es_spi_end(&spi);
}

/*
 * The positions of the events that are parked in a partition, rising: those among "wanted",
 * which rise and are given once each, or all if "wanted" is NULL.
 */
int64 *
es_held_parked(const EsSubscription *subscription, int partition,
			   const int64 *wanted, int nwanted, int *n)
{
	static EsStatement read = {
		"SELECT position FROM eventstore.subscription_event"
		" WHERE subscription_id = $1 AND partition = $2 AND status = 'parked' ORDER BY position",
		{INT4OID, INT4OID}
	};
	Datum		values[2] = {Int32GetDatum(subscription->id), Int32GetDatum(partition)};
	MemoryContext caller = CurrentMemoryContext;
	int64	   *positions;
	int			rows;
	bool		isnull;
	EsSpi		spi;

	es_spi_begin(&spi);
	rows = (int) es_spi_run(&read, values, NULL);
	positions = MemoryContextAllocHuge(caller, sizeof(int64) * Max(rows, 1));
	*n = 0;
	for (int row = 1; row <= rows; row++)
	{
		int64		position = DatumGetInt64(es_spi_value(row, 1, &isnull));

		if (wanted == NULL || es_numbers_find(wanted, nwanted, position) != NULL)
			positions[(*n)++] = position;
	}
	es_spi_end(&spi);
	return positions;
}

/*
 * Have the events handed out again that are parked at these positions of a partition, with
 * attempts counted anew.  One beyond "delivered", where the subscription was set back, will
 * be handed out as a new event: its row is removed.
 */
void
es_held_replay(const EsSubscription *subscription, const int64 *positions, int n, int64 delivered)
{
	static EsStatement replay = {
		"UPDATE eventstore.subscription_event SET status = 'retry', attempts = 0,"
		" not_before = clock_timestamp()"
		" WHERE subscription_id = $1 AND position = ANY ($2) AND status = 'parked' AND position <= $3",
		{INT4OID, INT8ARRAYOID, INT8OID}
	};
	static EsStatement forget = {
		"DELETE FROM eventstore.subscription_event"
		" WHERE subscription_id = $1 AND position = ANY ($2) AND status = 'parked' AND position > $3",
		{INT4OID, INT8ARRAYOID, INT8OID}
	};
	Datum		values[3] = {
		Int32GetDatum(subscription->id), es_spi_numbers(positions, n), Int64GetDatum(delivered)
	};
	EsSpi		spi;

	if (n == 0)
		return;
	es_spi_begin(&spi);
	(void) es_spi_run(&replay, values, NULL);
	(void) es_spi_run(&forget, values, NULL);
	es_spi_end(&spi);
}

/* Remove the events parked at these positions; how many that were. */
int64
es_held_discard(const EsSubscription *subscription, const int64 *positions, int n)
{
	static EsStatement discard = {
		"DELETE FROM eventstore.subscription_event"
		" WHERE subscription_id = $1 AND position = ANY ($2) AND status = 'parked'",
		{INT4OID, INT8ARRAYOID}
	};
	Datum		values[2] = {Int32GetDatum(subscription->id), es_spi_numbers(positions, n)};
	int64		discarded;
	EsSpi		spi;

	if (n == 0)
		return 0;
	es_spi_begin(&spi);
	discarded = (int64) es_spi_run(&discard, values, NULL);
	es_spi_end(&spi);
	return discarded;
}

/*
 * Remove the parked rows of events that are being removed (streams/scavenge.c).  The row of
 * the partition does not count parked events, so it need not be locked.  A parked row that
 * somebody has locked is removed when it is to be replayed and its event is not found.
 */
static void
remove_parked_at(const int64 *positions, int n)
{
	static EsStatement remove = {
		"DELETE FROM eventstore.subscription_event WHERE ctid IN"
		" (SELECT ctid FROM eventstore.subscription_event"
		"  WHERE position = ANY ($1) AND status = 'parked' FOR UPDATE SKIP LOCKED)",
		{INT8ARRAYOID}
	};
	Datum		values[1] = {es_spi_numbers(positions, n)};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&remove, values, NULL);
	es_spi_end(&spi);
}

void
es_held_init(void)
{
	es_scavenge_add_listener(remove_parked_at);
}
