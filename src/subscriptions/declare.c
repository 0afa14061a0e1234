/*
 * declare.c
 *		Statements about a subscription: create, alter, seek, drop.
 *
 * A seek, and a drop, lock all partitions: they wait for whoever is fetching or acking
 * in an open transaction.  Afterwards no lease is left, so a consumer that does not know
 * is told by its next ack.
 *
 * Lock order: event_log, subscription_partition, subscription_event.  So nothing is added
 * to a subscription that is being removed.
 * Crash: rows belong to the caller's transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "core/args.h"
#include "core/existing.h"
#include "core/spi.h"
#include "log/change.h"
#include "log/head.h"
#include "read/kept.h"
#include "subscriptions/held.h"
#include "subscriptions/partition.h"

PG_FUNCTION_INFO_V1(es_create_subscription);
PG_FUNCTION_INFO_V1(es_alter_subscription);
PG_FUNCTION_INFO_V1(es_seek_subscription);
PG_FUNCTION_INFO_V1(es_drop_subscription);

#define MAX_RETRIES			1000

/* Arguments of es_create_subscription */
enum
{
	ARG_NAME, ARG_TYPES, ARG_CATEGORIES, ARG_START_AFTER, ARG_PARTITIONS, ARG_ACK_TIMEOUT,
	ARG_MAX_RETRIES, ARG_IF_NOT_EXISTS, ARG_FILTER
};

/* In microseconds.  1 ms to 1 day; an interval of months or several days has no fixed length. */
static int64
ack_timeout_argument(FunctionCallInfo fcinfo, int argno)
{
	const Interval *length = PG_GETARG_INTERVAL_P(argno);
	bool		in_days = length->month == 0 && (length->day == 0 || length->day == 1);
	bool		in_range = in_days && length->time >= -USECS_PER_DAY && length->time <= USECS_PER_DAY;
	int64		total = in_range ? length->day * USECS_PER_DAY + length->time : 0;

	if (total < 1000 || total > USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ack_timeout must be from 1 ms to 1 day")));
	return total;
}

static int
max_retries_argument(FunctionCallInfo fcinfo, int argno)
{
	es_arg_check_range("max_retries", PG_GETARG_INT32(argno), 0, MAX_RETRIES);
	return PG_GETARG_INT32(argno);
}

/* ---- es_create_subscription ---- */

/* What the arguments say, checked; without what a subscription gets when it is stored. */
static EsSubscription
parse_subscription(FunctionCallInfo fcinfo)
{
	EsName		name = es_arg_name(fcinfo, ARG_NAME, "name");
	EsSubscription new = {0};

	es_name_check(name, "subscription");
	new.filter = es_kept_arguments(fcinfo, ARG_TYPES, ARG_CATEGORIES, ARG_FILTER);
	es_arg_require(fcinfo, ARG_START_AFTER, "start_after");
	new.start_after = es_arg_place(fcinfo, ARG_START_AFTER, "start_after", 0);
	es_arg_require(fcinfo, ARG_PARTITIONS, "partitions");
	new.partitions = PG_GETARG_INT32(ARG_PARTITIONS);
	es_arg_check_range("partitions", new.partitions, 1, ES_MAX_PARTITIONS);
	es_arg_require(fcinfo, ARG_ACK_TIMEOUT, "ack_timeout");
	new.ack_timeout = ack_timeout_argument(fcinfo, ARG_ACK_TIMEOUT);
	es_arg_require(fcinfo, ARG_MAX_RETRIES, "max_retries");
	new.max_retries = max_retries_argument(fcinfo, ARG_MAX_RETRIES);
	es_arg_require(fcinfo, ARG_IF_NOT_EXISTS, "if_not_exists");
	return new;
}

/* In which arguments a subscription that there is differs from what was asked for. */
static List *
subscription_differences(const EsSubscription *existing, const EsSubscription *new)
{
	List	   *differing = NIL;

	es_kept_compare(&existing->filter, &new->filter, &differing);
	es_existing_differs(&differing, existing->start_after != new->start_after, "start_after");
	es_existing_differs(&differing, existing->partitions != new->partitions, "partitions");
	es_existing_differs(&differing, existing->ack_timeout != new->ack_timeout, "ack_timeout");
	es_existing_differs(&differing, existing->max_retries != new->max_retries, "max_retries");
	return differing;
}

/* There is one of that name; "existing" is NULL if it has been dropped meanwhile. */
static void
tell_subscription_exists(FunctionCallInfo fcinfo, const EsSubscription *existing, const EsSubscription *new)
{
	bool		if_not_exists = PG_GETARG_BOOL(ARG_IF_NOT_EXISTS);

	es_existing_tell("subscription", es_name_from_text(PG_GETARG_DATUM(ARG_NAME)), if_not_exists,
					 if_not_exists && existing != NULL ? subscription_differences(existing, new) : NIL);
}

/*
 * Insert the row.  Waits for whoever is making one of the same name.  0: there is one.
 */
static int
insert_subscription(FunctionCallInfo fcinfo)
{
	static EsStatement insert = {
		"INSERT INTO eventstore.subscription"
		" (subscription_id, name, types, categories, start_after, partitions, ack_timeout, max_retries, filter, created_at)"
		" SELECT nextval('eventstore.subscription_ids'), $1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp()"
		" ON CONFLICT (name) DO NOTHING RETURNING subscription_id",
		{TEXTOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID, INT4OID, INTERVALOID, INT4OID, JSONBOID}
	};
	static const int arguments[] = {
		ARG_NAME, ARG_TYPES, ARG_CATEGORIES, ARG_START_AFTER, ARG_PARTITIONS, ARG_ACK_TIMEOUT, ARG_MAX_RETRIES, ARG_FILTER
	};
	Datum		values[lengthof(arguments)];
	bool		isnull[lengthof(arguments)];
	EsSpi		spi;
	bool		null;
	int			id = 0;

	for (int i = 0; i < lengthof(arguments); i++)
	{
		values[i] = PG_GETARG_DATUM(arguments[i]);
		isnull[i] = PG_ARGISNULL(arguments[i]);
	}
	es_spi_begin(&spi);
	if (es_spi_run(&insert, values, isnull) > 0)
		id = DatumGetInt32(es_spi_value(1, 1, &null));
	es_spi_end(&spi);
	return id;
}

/*
 * es_create_subscription(name, types, categories, start_after, partitions, ack_timeout,
 *						  max_retries, if_not_exists, filter)
 */
Datum
es_create_subscription(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_create_subscription()");
	EsSubscription new = parse_subscription(fcinfo);
	EsName		name = es_name_from_text(PG_GETARG_DATUM(ARG_NAME));
	const EsSubscription *existing = es_subscription_find(cat, name);

	if (existing != NULL)
	{
		tell_subscription_exists(fcinfo, existing, &new);
		PG_RETURN_VOID();
	}
	es_head_refuse_ahead(cat, new.start_after);
	new.id = insert_subscription(fcinfo);
	if (new.id == 0)
	{
		tell_subscription_exists(fcinfo, es_subscription_find(cat, name), &new);
		PG_RETURN_VOID();
	}
	es_kept_tell_doubts(cat, &new.filter);
	es_partitions_create(new.id, new.partitions, new.start_after);
	CommandCounterIncrement();
	PG_RETURN_VOID();
}

/* ---- alter, seek, drop ---- */

/*
 * es_alter_subscription(name, ack_timeout, max_retries)
 */
Datum
es_alter_subscription(PG_FUNCTION_ARGS)
{
	static EsStatement alter = {
		"UPDATE eventstore.subscription SET"
		" ack_timeout = coalesce($2, ack_timeout), max_retries = coalesce($3, max_retries)"
		" WHERE subscription_id = $1",
		{INT4OID, INTERVALOID, INT4OID}
	};
	const EsCatalog *cat = es_control_begin("es_alter_subscription()");
	EsName		name = es_arg_name(fcinfo, 0, "name");
	Datum		values[3] = {0, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2)};
	bool		isnull[3] = {false, PG_ARGISNULL(1), PG_ARGISNULL(2)};
	EsSpi		spi;

	if (!PG_ARGISNULL(1))
		(void) ack_timeout_argument(fcinfo, 1);
	if (!PG_ARGISNULL(2))
		(void) max_retries_argument(fcinfo, 2);
	values[0] = Int32GetDatum(es_subscription_require(cat, name)->id);
	es_spi_begin(&spi);
	if (es_spi_run(&alter, values, isnull) == 0)
		es_subscription_refuse_missing(name);
	es_spi_end(&spi);
	CommandCounterIncrement();
	PG_RETURN_VOID();
}

/*
 * es_seek_subscription(name, after_position)
 */
Datum
es_seek_subscription(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_seek_subscription()");
	EsName		name = es_arg_name(fcinfo, 0, "name");
	const EsSubscription *subscription;
	int64		position;
	int			n;

	es_arg_require(fcinfo, 1, "after_position");
	position = es_arg_place(fcinfo, 1, "after_position", 0);
	subscription = es_subscription_require(cat, name);
	es_head_refuse_ahead(cat, position);
	(void) es_partitions_lock_all(subscription, &n);
	es_held_remove_all(subscription, false);
	es_partitions_seek(subscription, position);
	CommandCounterIncrement();
	PG_RETURN_VOID();
}

/*
 * es_drop_subscription(name)
 */
Datum
es_drop_subscription(PG_FUNCTION_ARGS)
{
	static EsStatement drop = {
		"DELETE FROM eventstore.subscription WHERE subscription_id = $1", {INT4OID}
	};
	const EsCatalog *cat = es_control_begin("es_drop_subscription()");
	const EsSubscription *subscription = es_subscription_require(cat, es_arg_name(fcinfo, 0, "name"));
	Datum		values[1] = {Int32GetDatum(subscription->id)};
	int			n;
	EsSpi		spi;

	(void) es_partitions_lock_all(subscription, &n);
	es_held_remove_all(subscription, true);
	es_partitions_remove(subscription);
	es_spi_begin(&spi);
	(void) es_spi_run(&drop, values, NULL);
	es_spi_end(&spi);
	CommandCounterIncrement();
	PG_RETURN_VOID();
}
