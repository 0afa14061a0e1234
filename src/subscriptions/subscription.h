/*
 * subscription.h
 *		What a subscription is, and the rows that say how far it has come.
 */
#ifndef ES_SUBSCRIPTION_H
#define ES_SUBSCRIPTION_H

#include "eventstore.h"
#include "core/catalog.h"
#include "executor/tuptable.h"
#include "read/filter.h"
#include "utils/snapshot.h"

/* Most events of a partition that are pending, and that are held. */
#define ES_MAX_PENDING		10000
#define ES_MAX_HELD			10000

/*
 * es_replay_parked may let more be held: then a fetch looks at so many of them, the first.
 * It takes no new events meanwhile, so nothing is given before an earlier event of its stream.
 */
#define ES_HELD_LOOKED_AT	20000	/* at least both of the above together */

#define ES_MAX_PARTITIONS	1024

typedef struct EsSubscription
{
	const EsCatalog *cat;
	int			id;
	char	   *name;
	EsFilter	filter;
	int			partitions;
	int64		ack_timeout;	/* microseconds */
	int			max_retries;
} EsSubscription;

/* A row of subscription_partition. */
typedef struct EsPartition
{
	ItemPointerData tid;
	int			number;
	int64		checkpoint;
	int64		delivered;
	int			npending;
	int64	   *pending;		/* rising */
	int			held;
	int			batch_limit;	/* 0: none */
	char	   *consumer;		/* NULL: none yet */
	TimestampTz leased_until;	/* 0: nothing is pending */
	TimestampTz fetched_at;		/* 0: never */
} EsPartition;

/* What a fetch must know of a partition before it takes it. */
typedef struct EsGlance
{
	int			number;
	int64		delivered;
	int			npending;
	bool		mine;			/* the asking consumer's, if anything is pending */
	TimestampTz leased_until;
	int			held;
	int			batch_limit;
	TimestampTz fetched_at;
	bool		has_due;		/* a held event could be handed out, */
	TimestampTz due;			/* from then on */
} EsGlance;

/* A held event: a row of subscription_event that is not parked. */
typedef struct EsHeld
{
	int64		position;
	int64		stream_key;
	TimestampTz not_before;		/* DT_NOBEGIN: at once */
} EsHeld;

#define ES_FIRST_DELAY_MS	100

/* Why deliveries have failed, and what follows. */
typedef struct EsFailure
{
	bool		park;			/* at once, whatever max_retries says */
	int			delay_ms;		/* before the first retry; it doubles */
	const char *reason;			/* NULL: none given */
	const char *consumer;
} EsFailure;

/* subscription.c */
extern const EsSubscription *es_subscription_require(const EsCatalog *cat, EsName name);
extern char *es_subscription_consumer(FunctionCallInfo fcinfo, int argno);
extern void es_subscription_refuse_missing(EsName name);

/* Streams are dealt out by a hash that is the same on every server, for ever. */
static inline int
es_subscription_partition_of(const EsSubscription *subscription, int64 stream_key)
{
	uint64		h = (uint64) stream_key;

	if (subscription->partitions == 1)
		return 0;
	h ^= h >> 33;
	h *= UINT64CONST(0xff51afd7ed558ccd);
	h ^= h >> 33;
	h *= UINT64CONST(0xc4ceb9fe1a85ec53);
	h ^= h >> 33;
	return (int) (h % (uint64) subscription->partitions);
}

/* partition.c */
extern void es_partitions_create(int subscription, int partitions, int64 start_after);
extern EsGlance *es_partitions_glance(const EsSubscription *subscription, const char *consumer,
									  int *n);
extern bool es_partition_try_lock(const EsSubscription *subscription, int number,
								  EsPartition *partition);
extern EsPartition *es_partitions_lock_leased(const EsSubscription *subscription,
											  const char *consumer, int *n);
extern EsPartition *es_partitions_lock_all(const EsSubscription *subscription, int *n);
extern bool es_partition_look(const EsSubscription *subscription, int number,
							  EsPartition *partition);
extern bool es_partition_is_pending(const EsPartition *partition, int64 position);
extern void es_partition_remove_pending(EsPartition *partition, const int64 *positions, int n);
extern void es_partition_settle(const EsSubscription *subscription, EsPartition *partition);
extern void es_partition_store(const EsSubscription *subscription, EsPartition *partition);
extern void es_partitions_advance(const EsSubscription *subscription, const int *numbers,
								  const int64 *from, const int64 *upto, int n);
extern void es_partitions_seek(const EsSubscription *subscription, int64 position);
extern void es_partitions_remove(const EsSubscription *subscription);

/* held.c */
extern bool es_held_due(const EsSubscription *subscription, int partition, Datum pending,
						TimestampTz *due);
extern EsHeld *es_held_read(const EsSubscription *subscription, int partition, int *n);
extern int	es_held_count(const EsSubscription *subscription, int partition, int64 *first);
extern void es_held_wait(const EsSubscription *subscription, int partition,
						 const int64 *positions, const int64 *stream_keys, int n);
extern int	es_held_fail(const EsSubscription *subscription, int partition,
						 int64 *positions, int64 *stream_keys, int n, const EsFailure *failure);
extern void es_held_remove(const EsSubscription *subscription, const int64 *positions, int n);
extern void es_held_remove_all(const EsSubscription *subscription, bool parked);
extern int64 es_held_replay(const EsSubscription *subscription, int partition, int64 delivered);

/* lookup.c */
typedef struct EsLookup EsLookup;

extern EsLookup *es_lookup_open(const EsCatalog *cat, Snapshot snapshot);
extern TupleTableSlot *es_lookup_find(EsLookup *lookup, int64 position);
extern int64 es_lookup_stream(EsLookup *lookup, int64 position);
extern void es_lookup_close(EsLookup *lookup);

/* ack.c: the events that a consumer is done with, of those it has. */
typedef struct EsClaim
{
	EsPartition *partitions;	/* locked: all that are leased to it */
	int			npartitions;
	int64	  **found;			/* of each, the given positions that are pending */
	int		   *nfound;
} EsClaim;

extern void es_claim(const EsCatalog *cat, const EsSubscription *subscription,
					 const char *consumer, int64 *positions, int n, EsClaim *claim);
extern void es_claim_renew(const EsSubscription *subscription, EsPartition *partition,
						   bool at_once);

#endif							/* ES_SUBSCRIPTION_H */
