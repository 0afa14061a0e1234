/*
 * lag.c
 *		The lag of a subscription: how many events are not handled yet, by partition.
 *
 * These are the pending and held events, and the new ones beyond "delivered", which are
 * counted in one pass over the index ranges of the filter, for all partitions together.
 * Parked events do not count: nobody is to handle them.  Events that are committed but
 * beyond a head that is held back count, too.
 *
 * Locks: AccessShare on the tables.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "log/event.h"
#include "log/registry.h"
#include "read/count.h"
#include "subscriptions/held.h"
#include "subscriptions/partition.h"

PG_FUNCTION_INFO_V1(subscription_lag);

/* The lag of a partition. */
typedef struct Lag
{
	EsPartition row;
	int64		events;
	int64		first;			/* position of the first; 0: none */
	TimestampTz first_at;
} Lag;

/* The subscription and partitions that the pass over the log counts for. */
typedef struct LagCount
{
	const EsSubscription *subscription;
	Lag		   *lags;			/* by number of the partition */
} LagCount;

static bool
count_new(TupleTableSlot *event, void *arg)
{
	LagCount   *count = arg;
	int64		position = es_log_number(event, ES_LOG_COL_POSITION);
	Lag		   *lag = &count->lags[es_subscription_partition_of(count->subscription,
																es_log_number(event, ES_LOG_COL_STREAM_KEY))];

	if (position <= lag->row.delivered)
		return false;
	lag->events++;
	if (lag->first == 0)
	{
		lag->first = position;
		lag->first_at = es_log_number(event, ES_LOG_COL_CREATED_AT);
	}
	return true;
}

/* Count the pending and held events; they come before any new one. */
static void
count_delivered(const EsSubscription *subscription, Lag *lag, EsLookup *events)
{
	EsPartition *row = &lag->row;
	int64		first = row->npending > 0 ? row->pending[0] : 0;
	TupleTableSlot *event;

	lag->events += row->npending;
	if (row->held > 0)
	{
		int			n;
		EsHeld	   *held = es_held_read(subscription, row->number, &n);

		for (int i = 0; i < n; i++)
		{
			if (es_partition_is_pending(row, held[i].position))
				continue;
			lag->events++;
			first = first == 0 ? held[i].position : Min(first, held[i].position);
		}
	}
	event = first != 0 ? es_lookup_number(events, first) : NULL;
	if (event != NULL)
	{
		lag->first = first;
		lag->first_at = es_log_number(event, ES_LOG_COL_CREATED_AT);
	}
}

/*
 * eventstore.subscription_lag(name) → SETOF record, one for each partition
 */
Datum
subscription_lag(PG_FUNCTION_ARGS)
{
	static const EsCountLimits limits = {.events = ES_LAG_EVENTS, .looked_at = ES_LAG_LOOKED_AT};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	const EsSubscription *subscription = NULL;
	LagCount	count;
	EsRange		range = {PG_INT64_MAX, PG_INT64_MAX, false};
	EsCounted	counted;
	Snapshot	snapshot;
	EsLookup   *events;

	InitMaterializedSRF(fcinfo, 0);
	if (es_registry_loaded() && !PG_ARGISNULL(0))
		subscription = es_subscription_find(cat, es_name_from_text(PG_GETARG_DATUM(0)));
	if (subscription == NULL)
		return (Datum) 0;
	count.subscription = subscription;
	count.lags = palloc0(sizeof(Lag) * subscription->partitions);
	for (int i = 0; i < subscription->partitions; i++)
	{
		if (!es_partition_look(subscription, i, &count.lags[i].row))
			return (Datum) 0;	/* dropped meanwhile */
		range.after = Min(range.after, count.lags[i].row.delivered);
	}
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	counted = es_count_events(cat, &subscription->filter, range, snapshot, limits, count_new, &count);
	events = es_log_lookup(cat, snapshot);
	for (int i = 0; i < subscription->partitions; i++)
	{
		Lag		   *lag = &count.lags[i];
		Datum		values[5];
		bool		isnull[5] = {false};

		count_delivered(subscription, lag, events);
		values[0] = Int32GetDatum(i);
		values[1] = Int64GetDatum(lag->events);
		values[2] = BoolGetDatum(!counted.complete);
		values[3] = Int64GetDatum(lag->first);
		values[4] = TimestampTzGetDatum(lag->first_at);
		isnull[3] = isnull[4] = lag->first == 0;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	es_lookup_close(events);
	UnregisterSnapshot(snapshot);
	return (Datum) 0;
}
