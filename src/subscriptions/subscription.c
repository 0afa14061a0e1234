/*
 * subscription.c
 *		Subscriptions: consumers outside the database.
 *
 * A subscription deals the streams of the log out to partitions.  A partition is
 * leased to one consumer at a time: es_fetch hands events out, es_ack says that they
 * have been handled, and what is not acked in time goes to another.  So each event is
 * handled at least once, and the events of a stream in order.
 *
 * What there is to know of a partition stands in one row (subscription_partition):
 *
 *	  handled ... | some pending, held or parked ... | not yet handed out ...
 *			 checkpoint						   delivered				  head
 *
 * - delivered: events at or below have been handed out, or are held;
 * - pending: those that the holder of the lease has and has not acked;
 * - held: what needs another delivery, one row of subscription_event each: "retry"
 *	 after a failure, not before a moment; "waiting" behind such an event of its stream;
 *	 what a consumer had whose lease has expired.  On the good path nothing is held, and
 *	 a fetch and an ack are one update of one row each;
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
 * 5. A consumer acks what it has.  A lease that somebody else has taken is an error.
 *	  An expired one that nobody has taken is still its own.
 *
 * Events of an expired lease become held rows too, so that there is one kind of
 * redelivery; and the last holder of a free partition is remembered, so that an ack
 * whose answer was lost can be repeated.
 *
 * Lock order: event_log, subscription, subscription_partition (rising, but for a fetch,
 * which never waits for one), subscription_event.
 * Crash: all is in tables, and belongs to the caller's transaction.
 *
 * Here: a subscription by its name, as of this moment.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/args.h"
#include "core/spi.h"
#include "subscriptions/subscription.h"

void
es_subscription_refuse_missing(EsName name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("subscription \"" ES_NAME_FORMAT "\" does not exist", ES_NAME_ARGS(name))));
}

/* The name of a consumer: here NULL is as bad as any other that says nothing. */
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

/* Names in a column of the last statement's result; NULL: it is null. */
static EsName *
names_in(int column, int *n)
{
	bool		isnull;
	Datum		value = es_spi_value(1, column, &isnull);
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

/* It was checked to be a day at most, and to have no months. */
static int64
microseconds_in(int column)
{
	bool		isnull;
	Interval   *length = DatumGetIntervalP(es_spi_value(1, column, &isnull));

	return length->day * USECS_PER_DAY + length->time;
}

/*
 * The subscription of that name; an error if there is none.
 */
const EsSubscription *
es_subscription_require(const EsCatalog *cat, EsName name)
{
	static EsStatement find = {
		"SELECT subscription_id, types, categories, partitions, ack_timeout, max_retries"
		" FROM eventstore.subscription WHERE name = $1",
		{TEXTOID}
	};
	Datum		values[1] = {PointerGetDatum(cstring_to_text_with_len(name.bytes, name.len))};
	EsSubscription *found = palloc0(sizeof(EsSubscription));
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext inner;
	bool		isnull;
	EsSpi		spi;

	es_spi_begin(&spi);
	if (es_spi_look(&find, values) == 0)
		es_subscription_refuse_missing(name);
	inner = MemoryContextSwitchTo(caller);
	found->id = DatumGetInt32(es_spi_value(1, 1, &isnull));
	found->name = pnstrdup(name.bytes, name.len);
	found->filter.types = names_in(2, &found->filter.ntypes);
	found->filter.categories = names_in(3, &found->filter.ncategories);
	found->partitions = DatumGetInt32(es_spi_value(1, 4, &isnull));
	found->ack_timeout = microseconds_in(5);
	found->max_retries = DatumGetInt32(es_spi_value(1, 6, &isnull));
	MemoryContextSwitchTo(inner);
	es_spi_end(&spi);
	return found;
}
