/*
 * subscription.c
 *		Subscriptions: consumers outside the database.
 *
 * A subscription deals the streams of the log out to partitions.  A partition is
 * leased to one consumer at a time: es_fetch hands events out, es_ack says that they
 * have been handled, and what is not acked in time goes to another.  So each event is
 * handled at least once, and the events of a stream in order.
 *
 * The state of a partition is one row (subscription_partition):
 *
 *	  handled ... | some pending, held or parked ... | not yet handed out ...
 *			 checkpoint						   delivered				  head
 *
 * - delivered: events at or below have been handed out, or are held;
 * - pending: events that the holder of the lease has and has not acked;
 * - held: events that need another delivery, one row of subscription_event each: "retry"
 *	 after a failure, not before a moment; "waiting" behind such an event of its stream;
 *	 and events of a lease that has expired.  If nothing fails, nothing is held, and a
 *	 fetch and an ack are one update of one row each;
 * - parked: given up until es_replay_parked; later events of the stream go on.
 *
 * Invariants
 * 1. pending and held together are all events at or below delivered that are neither
 *	  handled nor parked.  An event that is both has been handed out again.
 * 2. Whoever changes a partition's row, or its events in subscription_event, holds the
 *	  lock on the row; and whoever changes these events updates the row.
 * 3. No event of a stream is handed out while an earlier one is pending with another
 *	  consumer, or held and not handed out with it.  Two processes of one name are one
 *	  consumer.
 * 4. delivered never passes the head that was taken before the snapshot it was read
 *	  with (log/head.c).
 * 5. A consumer acks events that it has.  If somebody else has taken the lease, that is
 *	  an error.  An expired lease that nobody has taken is still the consumer's own.
 *
 * Events of an expired lease become held rows too, so that there is one kind of
 * redelivery; and the last holder of a free partition is remembered, so that an ack
 * whose answer was lost can be repeated.
 *
 * Lock order: event_log, subscription_partition, subscription_event.  Partitions rising,
 * but for a fetch, which never waits for one.
 * Crash: all is in tables, and belongs to the caller's transaction.
 *
 * In this file: looking a subscription up by its name, as of this moment.  What each fetch
 * and ack does, here and in partition.c, does not use SQL: statements would cost more than
 * the events.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/args.h"
#include "core/lookup.h"
#include "read/kept.h"
#include "subscriptions/subscription.h"

/* Columns of eventstore.subscription */
enum
{
	COL_ID = 1, COL_NAME, COL_TYPES, COL_CATEGORIES, COL_START_AFTER, COL_PARTITIONS,
	COL_ACK_TIMEOUT, COL_MAX_RETRIES, COL_CREATED_AT, COL_FILTER
};

void
es_subscription_refuse_missing(EsName name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("subscription \"" ES_NAME_FORMAT "\" does not exist", ES_NAME_ARGS(name))));
}

/* The name of a consumer, as an argument; NULL is refused as any other bad name. */
char *
es_subscription_consumer(FunctionCallInfo fcinfo, int argno)
{
	EsName		name;

	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("consumer must not be null")));
	name = es_name_from_text(PG_GETARG_DATUM(argno));
	es_name_check(name, "consumer");
	return pnstrdup(name.bytes, name.len);
}

/* Names in a column; NULL: it is null. */
static EsName *
names_in(TupleTableSlot *row, int column, int *n)
{
	bool		isnull;
	Datum		value = slot_getattr(row, column, &isnull);
	Datum	   *values;
	bool	   *nulls;
	EsName	   *names;

	*n = 0;
	if (isnull)
		return NULL;
	es_array_read(DatumGetArrayTypePCopy(value), TEXTOID, "array", &values, &nulls, n);
	names = palloc(sizeof(EsName) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		names[i] = es_name_from_text(values[i]);
	return names;
}

/* An interval in a column, which is a day at most and has no months. */
static int64
microseconds_in(TupleTableSlot *row, int column)
{
	bool		isnull;
	Interval   *length = DatumGetIntervalP(slot_getattr(row, column, &isnull));

	return length->day * USECS_PER_DAY + length->time;
}

static int
number_in(TupleTableSlot *row, int column)
{
	bool		isnull;

	return DatumGetInt32(slot_getattr(row, column, &isnull));
}

/* The subscription of that name, as of this moment; NULL: there is none. */
const EsSubscription *
es_subscription_find(const EsCatalog *cat, EsName name)
{
	EsSubscription *found = palloc0(sizeof(EsSubscription));
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	EsLookup   *lookup = es_lookup_open(cat->subscription, &cat->subscription_name, snapshot);
	TupleTableSlot *row = es_lookup_name(lookup, name);
	bool		isnull;

	if (row == NULL)
	{
		es_lookup_close(lookup);
		UnregisterSnapshot(snapshot);
		return NULL;
	}
	found->cat = cat;
	found->id = number_in(row, COL_ID);
	found->name = pnstrdup(name.bytes, name.len);
	found->filter.types = names_in(row, COL_TYPES, &found->filter.ntypes);
	found->filter.categories = names_in(row, COL_CATEGORIES, &found->filter.ncategories);
	found->filter.query = es_kept_query(row, COL_FILTER);
	found->start_after = DatumGetInt64(slot_getattr(row, COL_START_AFTER, &isnull));
	found->partitions = number_in(row, COL_PARTITIONS);
	found->ack_timeout = microseconds_in(row, COL_ACK_TIMEOUT);
	found->max_retries = number_in(row, COL_MAX_RETRIES);
	es_lookup_close(lookup);
	UnregisterSnapshot(snapshot);
	return found;
}

/* The same; an error if there is none. */
const EsSubscription *
es_subscription_require(const EsCatalog *cat, EsName name)
{
	const EsSubscription *found = es_subscription_find(cat, name);

	if (found == NULL)
		es_subscription_refuse_missing(name);
	return found;
}
