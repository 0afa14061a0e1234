/*
 * scan.c
 *		Finding new events, of any partitions that a fetch can take.
 *
 * The log is read once for all partitions, from the position that the one furthest behind
 * has reached.  The partition of the first event that can be taken is taken (locked), and
 * its events are handed out until there are enough.  So the partition that waits longest
 * comes first, two fetches at once take different partitions, and a partition without events
 * costs neither a lock nor a write.  Events of other partitions are passed by the stream's
 * key.
 *
 * Where many partitions have few events each, that would read many events to hand out few.
 * So a round ends after a number of events, or at the head.  It has counted the events that
 * it passed, by partition; the next round takes as many more partitions as are likely to fill
 * the batch, again those that wait longest.
 *
 * Invariants
 * 1. An offer's "looked" rises; between "delivered" as it was read and "looked" there
 *	  is no event of the partition that is neither handed out nor held by this fetch.
 * 2. New events of a stream with a held event become held, too (subscription.c, 3).
 *
 * Locks: those of a read (read/cursor.c), then rows of subscription_partition.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "log/event.h"
#include "read/wanted.h"
#include "subscriptions/scan.h"

/* Events that a round looks at after taking a partition: the least, and for each wanted event. */
#define ROUND_LEAST		1000
#define ROUND_PER_EVENT	10

/* Hold an event back, behind an earlier one of its stream. */
static void
hold_back(EsOffer *offer, int64 position, int64 stream_key)
{
	if (offer->waiting == NULL)
	{
		offer->waiting = palloc(sizeof(int64) * ES_MAX_HELD);
		offer->waiting_keys = palloc(sizeof(int64) * ES_MAX_HELD);
	}
	offer->waiting[offer->nwaiting] = position;
	offer->waiting_keys[offer->nwaiting++] = stream_key;
	offer->row.held++;
	if (offer->row.held >= ES_MAX_HELD)
		offer->open = false;
}

/* An event of a partition that was taken. */
static void
deal_with(EsFetch *fetch, EsOffer *offer, TupleTableSlot *event, int64 position)
{
	int64		stream_key = es_log_number(event, ES_LOG_COL_STREAM_KEY);

	if (es_offer_is_blocked(offer, stream_key))
		hold_back(offer, position, stream_key);
	else
		es_offer_give(fetch, offer, event, position);
	offer->row.delivered = offer->looked = position;
	offer->changed = true;
	if (!es_offer_has_room(fetch, offer))
		offer->open = false;
}

/*
 * Where the next round begins: at the partitions that were taken, as long as there is more to
 * read of them, then at the one furthest behind.
 */
static bool
begin_of_round(EsFetch *fetch, int64 *begin, int *ntaken)
{
	*ntaken = 0;
	for (int i = 0; i < fetch->noffers; i++)
	{
		EsOffer    *offer = &fetch->offers[i];

		offer->first = offer->count = 0;
		*ntaken += offer->open && offer->taken && offer->looked < fetch->head;
	}
	*begin = fetch->head;
	for (int i = 0; i < fetch->noffers; i++)
	{
		EsOffer    *offer = &fetch->offers[i];

		if (offer->open && (*ntaken == 0 || offer->taken))
			*begin = Min(*begin, offer->looked);
	}
	return *begin < fetch->head;
}

/*
 * Read on from a position until there are enough events, or the round is over.  Returns the
 * position up to which it has read.
 */
static int64
read_round(EsFetch *fetch, EsWanted *wanted, int64 begin, int ntaken)
{
	const EsSubscription *subscription = fetch->subscription;
	EsRange		range = {begin, fetch->head, false};
	int64		most = ROUND_LEAST + ROUND_PER_EVENT * Min(fetch->max_count, ES_MAX_PENDING);
	int64		looked_at = 0;
	int64		upto = begin;
	TupleTableSlot *event;

	es_wanted_read(wanted, range);
	while ((event = es_wanted_next(wanted)) != NULL)
	{
		int64		stream_key = es_log_number(event, ES_LOG_COL_STREAM_KEY);
		EsOffer    *offer = &fetch->offers[es_subscription_partition_of(subscription, stream_key)];

		upto = es_log_number(event, ES_LOG_COL_POSITION);
		looked_at++;
		if (offer->open && upto > offer->looked && es_rows_shows(fetch->rows, event))
		{
			if (!offer->taken && ntaken == 0)
			{
				/* if not, the others may be far ahead: do not read up to there */
				if (!es_offer_take(fetch, offer))
					break;
				ntaken++;
				looked_at = 0;
			}
			if (offer->open && offer->taken)
			{
				deal_with(fetch, offer, event, upto);
				if (fetch->given >= fetch->max_count)
					break;
				if (!offer->open && --ntaken == 0)
					break;
			}
			else if (offer->open && offer->count++ == 0)
				offer->first = upto;
		}
		if (ntaken > 0 && looked_at >= most)
			break;
	}
	return event == NULL ? fetch->head : upto;
}

/* Note what the round has found out about each partition. */
static void
note_round(EsFetch *fetch, int64 begin, int64 upto)
{
	for (int i = 0; i < fetch->noffers; i++)
	{
		EsOffer    *offer = &fetch->offers[i];

		/* a partition further behind than where the round began */
		if (!offer->open || offer->looked < begin)
			continue;
		offer->looked = Max(offer->looked, offer->first > 0 ? offer->first - 1 : upto);
		if (offer->taken && offer->looked > offer->row.delivered)
		{
			offer->row.delivered = offer->looked;
			offer->changed = true;
		}
	}
}

static int
compare_first(const void *a, const void *b)
{
	const EsOffer *x = *(EsOffer *const *) a;
	const EsOffer *y = *(EsOffer *const *) b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/*
 * Take more partitions, for the events that the round has passed.
 */
static void
take_more(EsFetch *fetch)
{
	EsOffer   **passed = palloc(sizeof(EsOffer *) * fetch->noffers);
	int			n = 0;
	int64		promised = fetch->given;

	for (int i = 0; i < fetch->noffers; i++)
	{
		if (fetch->offers[i].open && !fetch->offers[i].taken && fetch->offers[i].first > 0)
			passed[n++] = &fetch->offers[i];
	}
	qsort(passed, n, sizeof(EsOffer *), compare_first);
	for (int i = 0; i < n && promised < fetch->max_count; i++)
	{
		if (es_offer_take(fetch, passed[i]))
			promised += passed[i]->count;
	}
	pfree(passed);
}

/*
 * Hand out new events of the partitions that are open, up to the head.
 */
void
es_scan_new(EsFetch *fetch)
{
	EsWanted   *wanted;
	int64		begin;
	int			ntaken;

	if (fetch->given >= fetch->max_count || !begin_of_round(fetch, &begin, &ntaken))
		return;
	wanted = es_wanted_begin(fetch->cat, &fetch->subscription->filter, es_rows_upcasters(fetch->rows),
							 fetch->snapshot);
	do
	{
		int64		upto;

		CHECK_FOR_INTERRUPTS();
		upto = read_round(fetch, wanted, begin, ntaken);
		note_round(fetch, begin, upto);
		if (fetch->given >= fetch->max_count || (fetch->alone && fetch->given > 0))
			break;
		take_more(fetch);
	} while (begin_of_round(fetch, &begin, &ntaken));
	es_wanted_end(wanted);
}
