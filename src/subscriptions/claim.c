/*
 * claim.c
 *		Finding the events that a consumer acks or nacks among those that it has.
 *
 * The consumer may ack what is pending with it.  For a position that is not, the row of its
 * partition decides: if another consumer has the lease, the whole call is an error; if the
 * event was acked before, or taken back when an earlier one of its stream was nacked, the
 * position is passed over and not counted.
 *
 * Locks: the rows of the partitions that the consumer has a lease of, rising.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/numbers.h"
#include "log/event.h"
#include "log/head.h"
#include "subscriptions/claim.h"

/* Each batch that was acked doubles the limit; above this there is no limit any more. */
#define MOST_BATCH_LIMIT	1000

static void
refuse_undelivered(const EsSubscription *subscription, int64 position)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("position %lld of subscription \"%s\" has not been fetched",
					(long long) position, subscription->name)));
}

/*
 * A position that is not pending with the consumer: may it be passed over?
 */
static void
check_missing(const EsSubscription *subscription, const char *consumer, int64 position,
			  EsLookup *lookup, int64 head)
{
	int64		stream_key;
	int			number;
	EsPartition row;

	if (position > head)
		refuse_undelivered(subscription, position);
	stream_key = es_log_stream_at(lookup, position);
	if (stream_key == 0)
		return;					/* it has gone from the log */
	number = es_subscription_partition_of(subscription, stream_key);
	if (!es_partition_look(subscription, number, &row))
		es_subscription_refuse_missing(es_name_from_string(subscription->name));
	if (row.consumer == NULL || strcmp(row.consumer, consumer) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the lease of partition %d of subscription \"%s\" has moved on",
						number, subscription->name),
				 errdetail("Position %lld is not with consumer \"%s\".", (long long) position, consumer),
				 errhint("Its events have been or will be given to another consumer. Fetch again.")));
	if (position > row.delivered)
		refuse_undelivered(subscription, position);
	/* fetched after this transaction's snapshot was taken */
	if (IsolationUsesXactSnapshot() && es_partition_is_pending(&row, position))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errhint("The transaction might succeed if retried.")));
}

/*
 * Which of the positions, rising, are pending in a partition; they are marked as claimed.
 * The work is in proportion to what is pending there: there may be many partitions.
 */
static int
find_pending(const EsPartition *partition, const int64 *positions, int n,
			 int64 *found, bool *claimed)
{
	int			nfound = 0;

	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < partition->npending; i++)
	{
		const int64 *at = es_numbers_find(positions, n, partition->pending[i]);

		if (at == NULL)
			continue;
		found[nfound++] = *at;
		claimed[at - positions] = true;
	}
	return nfound;
}

/*
 * Lock what the consumer has, and find the given positions in it.  An error if one of
 * them is not the consumer's to ack.
 */
void
es_claim(const EsCatalog *cat, const EsSubscription *subscription, const char *consumer,
		 int64 *positions, int n, EsClaim *claim)
{
	bool	   *claimed;
	int			nclaimed = 0;

	n = es_numbers_unique(positions, n);
	claimed = palloc0(sizeof(bool) * Max(n, 1));
	claim->partitions = es_partitions_lock_leased(subscription, consumer, &claim->npartitions);
	claim->found = palloc(sizeof(int64 *) * Max(claim->npartitions, 1));
	claim->nfound = palloc0(sizeof(int) * Max(claim->npartitions, 1));
	for (int i = 0; i < claim->npartitions; i++)
	{
		claim->found[i] = palloc(sizeof(int64) * Max(Min(n, claim->partitions[i].npending), 1));
		claim->nfound[i] = find_pending(&claim->partitions[i], positions, n, claim->found[i], claimed);
		nclaimed += claim->nfound[i];
	}

	if (nclaimed < n)
	{
		Snapshot	snapshot;
		int64		head = es_head_read(cat, &snapshot);
		EsLookup   *lookup = es_log_lookup(cat, snapshot);

		for (int i = 0; i < n; i++)
		{
			if (!claimed[i])
				check_missing(subscription, consumer, positions[i], lookup, head);
		}
		es_lookup_close(lookup);
		UnregisterSnapshot(snapshot);
	}
}

/*
 * The consumer is alive: renew the lease of a partition, and store its row.  Unless "at_once",
 * that is put off until an eighth of the time is over, for a partition of which nothing was
 * acked.
 */
void
es_claim_renew(const EsSubscription *subscription, EsPartition *partition, bool at_once)
{
	TimestampTz until = GetCurrentTimestamp() + subscription->ack_timeout;

	if (!at_once && until - partition->leased_until < subscription->ack_timeout / 8)
		return;
	if (partition->npending > 0)
		partition->leased_until = until;
	else
	{
		partition->leased_until = 0;
		if (partition->batch_limit > 0)
			partition->batch_limit *= 2;
		if (partition->batch_limit > MOST_BATCH_LIMIT)
			partition->batch_limit = 0;
	}
	es_partition_settle(subscription, partition);
	es_partition_store(subscription, partition);
}
