/*
 * claim.h
 *		Finding the events that a consumer acks or nacks among those that it has.
 */
#ifndef ES_CLAIM_H
#define ES_CLAIM_H

#include "subscriptions/partition.h"

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

#endif							/* ES_CLAIM_H */
