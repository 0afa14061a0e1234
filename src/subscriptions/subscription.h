/*
 * subscription.h
 *		What a subscription is.
 */
#ifndef ES_SUBSCRIPTION_H
#define ES_SUBSCRIPTION_H

#include "core/catalog.h"
#include "core/name.h"
#include "fmgr.h"
#include "read/filter.h"

/* Most events of a partition that are pending, and that are held. */
#define ES_MAX_PENDING		10000
#define ES_MAX_HELD			10000

/*
 * Most held events that a fetch looks at, the first ones: es_replay_parked may leave more.  A
 * fetch takes no new events then, so none is given before an earlier event of its stream.
 */
#define ES_HELD_LOOKED_AT	20000	/* at least both of the above together */

#define ES_MAX_PARTITIONS	1024

typedef struct EsSubscription
{
	const EsCatalog *cat;
	int			id;
	char	   *name;
	EsFilter	filter;
	int64		start_after;
	int			partitions;
	int64		ack_timeout;	/* microseconds */
	int			max_retries;
} EsSubscription;

extern const EsSubscription *es_subscription_find(const EsCatalog *cat, EsName name);
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

#endif							/* ES_SUBSCRIPTION_H */
