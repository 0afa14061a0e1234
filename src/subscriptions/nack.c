/*
 * nack.c
 *		es_nack, es_replay_parked and es_discard_parked: events that could not be handled.
 *
 * retry: the event is held, to be handed out again after 0.1, 0.2, 0.4 ... seconds; once it
 *	has failed more often than max_retries allows, it is parked.  Later events of its
 *	stream that the consumer has are taken back, to be handed out after it.
 * park: the event is parked at once; later events of its stream go on.
 * skip: the event counts as handled.
 *
 * A consumer that goes on with later events of the stream after a retry handles them
 * twice: its ack of them is not counted.
 *
 * A parked event that was taken away from its stream cannot be delivered any more: its row is
 * removed when that is noticed.
 *
 * Locks: as an ack; es_replay_parked and es_discard_parked lock all partitions, rising.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "core/args.h"
#include "core/numbers.h"
#include "log/change.h"
#include "log/event.h"
#include "log/head.h"
#include "streams/visible.h"
#include "subscriptions/claim.h"
#include "subscriptions/held.h"

PG_FUNCTION_INFO_V1(es_nack);
PG_FUNCTION_INFO_V1(es_replay_parked);
PG_FUNCTION_INFO_V1(es_discard_parked);

typedef enum EsAction
{
	ES_ACTION_RETRY,
	ES_ACTION_PARK,
	ES_ACTION_SKIP
} EsAction;

static EsAction
action_argument(FunctionCallInfo fcinfo, int argno)
{
	static const char *const names[] = {"retry", "park", "skip"};
	char	   *given;

	es_arg_require(fcinfo, argno, "action");
	given = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(given, names[i]) == 0)
			return (EsAction) i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("action \"%s\" is not valid", given),
			 errhint("Use 'retry', 'park' or 'skip'.")));
}

/* The streams of events; events that have gone from the log are left out. */
static int
streams_of(EsLookup *lookup, int64 *positions, int64 *stream_keys, int n)
{
	int			kept = 0;

	for (int i = 0; i < n; i++)
	{
		int64		stream_key = es_log_stream_at(lookup, positions[i]);

		if (stream_key == 0)
			continue;
		positions[kept] = positions[i];
		stream_keys[kept++] = stream_key;
	}
	return kept;
}

/* Is one of these an earlier event of the event's stream? */
static bool
stands_behind(int64 position, int64 stream_key,
			  const int64 *positions, const int64 *stream_keys, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (stream_keys[i] == stream_key && positions[i] < position)
			return true;
	}
	return false;
}

/* Take back the events that the consumer has behind events that are to be retried. */
static void
take_back(const EsSubscription *subscription, EsPartition *partition, EsLookup *lookup,
		  const int64 *retried, const int64 *retried_keys, int nretried)
{
	int64	   *positions = palloc(sizeof(int64) * Max(partition->npending, 1));
	int64	   *stream_keys = palloc(sizeof(int64) * Max(partition->npending, 1));
	int			n = 0;

	for (int i = 0; nretried > 0 && i < partition->npending; i++)
	{
		int64		stream_key = es_log_stream_at(lookup, partition->pending[i]);

		if (!stands_behind(partition->pending[i], stream_key, retried, retried_keys, nretried))
			continue;
		positions[n] = partition->pending[i];
		stream_keys[n++] = stream_key;
	}
	es_partition_remove_pending(partition, positions, n);
	es_held_wait(subscription, partition->number, positions, stream_keys, n);
	partition->held += n;		/* counted anew before it is stored */
}

/* Retry or park events of a partition.  They are no longer pending. */
static void
fail_events(const EsSubscription *subscription, EsPartition *partition, EsLookup *lookup,
			int64 *positions, int n, const EsFailure *failure)
{
	int64	   *stream_keys = palloc(sizeof(int64) * Max(n, 1));

	n = streams_of(lookup, positions, stream_keys, n);
	partition->held += n;
	n = es_held_fail(subscription, partition->number, positions, stream_keys, n, failure);
	take_back(subscription, partition, lookup, positions, stream_keys, n);
}

/*
 * es_nack(subscription, consumer, positions, action, reason) → bigint
 */
Datum
es_nack(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_nack()");
	EsName		name = es_arg_name(fcinfo, 0, "subscription");
	char	   *consumer = es_subscription_consumer(fcinfo, 1);
	EsAction	action;
	EsFailure	failure = {.delay_ms = ES_FIRST_DELAY_MS, .consumer = consumer};
	const EsSubscription *subscription;
	int64	   *positions;
	int			n;
	EsClaim		claim;
	Snapshot	snapshot;
	EsLookup   *lookup;
	int64		nacked = 0;

	es_arg_require(fcinfo, 2, "positions");
	positions = es_arg_positions(fcinfo, 2, "positions", &n);
	action = action_argument(fcinfo, 3);
	failure.park = action == ES_ACTION_PARK;
	failure.reason = es_arg_text(fcinfo, 4);
	subscription = es_subscription_require(cat, name);
	es_claim(cat, subscription, consumer, positions, n, &claim);

	(void) es_head_read(cat, &snapshot);
	lookup = es_log_lookup(cat, snapshot);
	for (int i = 0; i < claim.npartitions; i++)
	{
		EsPartition *partition = &claim.partitions[i];

		nacked += claim.nfound[i];
		es_partition_remove_pending(partition, claim.found[i], claim.nfound[i]);
		if (action == ES_ACTION_SKIP && partition->held > 0)
			es_held_remove(subscription, claim.found[i], claim.nfound[i]);
		if (action != ES_ACTION_SKIP && claim.nfound[i] > 0)
			fail_events(subscription, partition, lookup, claim.found[i], claim.nfound[i], &failure);
		es_claim_renew(subscription, partition, claim.nfound[i] > 0 || n == 0);
	}
	es_lookup_close(lookup);
	UnregisterSnapshot(snapshot);
	CommandCounterIncrement();
	PG_RETURN_INT64(nacked);
}

/*
 * The events that are parked in a partition and still shown.  The rows of those that were
 * taken away from their streams are removed.
 */
static int64 *
deliverable_positions(const EsSubscription *subscription, int partition, const int64 *wanted, int nwanted, int *n)
{
	int			nparked;
	int64	   *parked = es_held_parked(subscription, partition, wanted, nwanted, &nparked);
	bool	   *shown = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(bool) * Max(nparked, 1));
	int64	   *gone = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * Max(nparked, 1));
	int			ngone = 0;

	*n = 0;
	es_visible_look_at(subscription->cat, parked, nparked, shown);
	for (int i = 0; i < nparked; i++)
	{
		if (shown[i])
			parked[(*n)++] = parked[i];
		else
			gone[ngone++] = parked[i];
	}
	(void) es_held_discard(subscription, gone, ngone);
	return parked;
}

/* A bigint[] argument as a set; NULL gives NULL. */
static int64 *
set_of_positions(FunctionCallInfo fcinfo, int argno, int *n)
{
	int64	   *positions = es_arg_positions(fcinfo, argno, "positions", n);

	if (positions != NULL)
		*n = es_numbers_unique(positions, *n);
	return positions;
}

/*
 * es_replay_parked(subscription, positions) → bigint
 */
Datum
es_replay_parked(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_replay_parked()");
	EsName		name = es_arg_name(fcinfo, 0, "subscription");
	int			nwanted;
	int64	   *wanted = set_of_positions(fcinfo, 1, &nwanted);
	const EsSubscription *subscription = es_subscription_require(cat, name);
	int			npartitions;
	EsPartition *partitions = es_partitions_lock_all(subscription, &npartitions);
	int64		total = 0;

	for (int i = 0; i < npartitions; i++)
	{
		int			n;
		int64	   *positions = deliverable_positions(subscription, partitions[i].number, wanted, nwanted, &n);

		if (n == 0)
			continue;
		es_held_replay(subscription, positions, n, partitions[i].delivered);
		total += n;
		partitions[i].held += n;	/* counted anew */
		es_partition_settle(subscription, &partitions[i]);
		es_partition_store(subscription, &partitions[i]);
	}
	CommandCounterIncrement();
	PG_RETURN_INT64(total);
}

/*
 * es_discard_parked(subscription, positions) → bigint
 */
Datum
es_discard_parked(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_discard_parked()");
	EsName		name = es_arg_name(fcinfo, 0, "subscription");
	const EsSubscription *subscription;
	int64	   *positions;
	int			npartitions;
	int			n;
	int64		discarded;

	es_arg_require(fcinfo, 1, "positions");
	positions = set_of_positions(fcinfo, 1, &n);
	subscription = es_subscription_require(cat, name);
	(void) es_partitions_lock_all(subscription, &npartitions);
	discarded = es_held_discard(subscription, positions, n);
	CommandCounterIncrement();
	PG_RETURN_INT64(discarded);
}
