/*
 * ack.c
 *		es_ack: events have been handled, and the consumer is alive.
 *
 * Locks: the rows of the partitions that the consumer has a lease of, rising.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/xact.h"

#include "core/args.h"
#include "log/change.h"
#include "subscriptions/claim.h"
#include "subscriptions/held.h"

PG_FUNCTION_INFO_V1(es_ack);

/*
 * es_ack(subscription, consumer, positions) → bigint
 */
Datum
es_ack(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_ack()");
	EsName		name = es_arg_name(fcinfo, 0, "subscription");
	char	   *consumer = es_subscription_consumer(fcinfo, 1);
	const EsSubscription *subscription;
	int64	   *positions;
	int			n;
	EsClaim		claim;
	int64		acked = 0;

	es_arg_require(fcinfo, 2, "positions");
	positions = es_arg_positions(fcinfo, 2, "positions", &n);
	subscription = es_subscription_require(cat, name);
	es_claim(cat, subscription, consumer, positions, n, &claim);
	for (int i = 0; i < claim.npartitions; i++)
	{
		EsPartition *partition = &claim.partitions[i];

		es_partition_remove_pending(partition, claim.found[i], claim.nfound[i]);
		if (partition->held > 0)
			es_held_remove(subscription, claim.found[i], claim.nfound[i]);
		es_claim_renew(subscription, partition, claim.nfound[i] > 0 || n == 0);
		acked += claim.nfound[i];
	}
	CommandCounterIncrement();
	PG_RETURN_INT64(acked);
}
