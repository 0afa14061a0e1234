/*
 * partition.h
 *		How far each partition of a subscription has come, and who has it.
 */
#ifndef ES_PARTITION_H
#define ES_PARTITION_H

#include "storage/itemptr.h"
#include "subscriptions/subscription.h"

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

#endif							/* ES_PARTITION_H */
