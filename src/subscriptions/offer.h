/*
 * offer.h
 *		A fetch while it looks for events, and what it knows of each partition.
 */
#ifndef ES_OFFER_H
#define ES_OFFER_H

#include "read/rows.h"
#include "subscriptions/partition.h"
#include "utils/hsearch.h"

/* An offer: a partition in one look of the fetch. */
typedef struct EsOffer
{
	EsGlance	glance;
	int64		looked;			/* the fetch knows of no event beyond delivered, up
								 * to there, that is not handed out */
	bool		open;			/* may have events for us */
	bool		expired;		/* somebody has let the lease expire */

	/* from es_offer_take on */
	bool		taken;
	EsPartition row;
	int			capacity;		/* of row.pending; 0: as it was read */
	bool		changed;		/* row is to be stored */
	bool		given;			/* something was handed out */
	HTAB	   *blocked;		/* streams with a held event; NULL: none */
	int64	   *waiting;		/* new events of these, */
	int64	   *waiting_keys;	/* their streams */
	int			nwaiting;

	/* in a round of the scan: */
	int64		first;			/* its first event that was passed; 0: none */
	int64		count;			/* how many were */
} EsOffer;

typedef struct EsFetch
{
	const EsCatalog *cat;
	const EsSubscription *subscription;
	const char *consumer;
	EsRows	   *rows;
	int64		max_count;
	bool		ran_code;		/* of an upcaster */

	/* of the present look */
	int64		head;
	Snapshot	snapshot;
	TimestampTz now;
	EsOffer    *offers;			/* by their numbers */
	int			noffers;
	int64		given;
	bool		alone;			/* the batch goes alone: no other partition's events with it */
	bool		taken;			/* something was locked, */
	bool		changed;		/* and changed */
	bool		busy;			/* others hold partitions that we would take */
	TimestampTz next;			/* something is due then; 0: not known */
} EsFetch;

extern bool es_offer_take(EsFetch *fetch, EsOffer *offer);
extern bool es_offer_is_blocked(const EsOffer *offer, int64 stream_key);
extern bool es_offer_has_room(const EsFetch *fetch, const EsOffer *offer);
extern void es_offer_give(EsFetch *fetch, EsOffer *offer, TupleTableSlot *event, int64 position);

#endif							/* ES_OFFER_H */
