/*
 * offer.c
 *		An offer: a partition in one look of a fetch.  Taking it, and handing its events
 *		out.
 *
 * When a lease has expired with one event pending, that event is to blame: its attempt is
 * counted, and in the end it is parked.  With several pending, nobody knows which is to
 * blame, so the partition hands out half as many at once, until a batch has been acked.  A
 * batch that kills its consumer is halved down to the one event that does.  Such a batch goes
 * alone, or events of other partitions would be counted with it; a consumer that is healthy
 * but slow only gets smaller batches.
 *
 * If the upcaster of an event fails, that counts as a failed delivery: the event is held and
 * tried again, and in the end parked, with the upcaster's error; others go on.
 *
 * Locks: rows of subscription_partition, none of them waited for.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/subxact.h"
#include "log/event.h"
#include "subscriptions/held.h"
#include "subscriptions/offer.h"

/* May the consumer get more of a partition that was taken? */
bool
es_offer_has_room(const EsFetch *fetch, const EsOffer *offer)
{
	int			limit = ES_MAX_PENDING;

	if (offer->row.batch_limit > 0)
		limit = Min(limit, offer->row.batch_limit);
	return offer->row.npending < limit && fetch->given < fetch->max_count;
}

/* Keep the later events of a stream back. */
static void
block_stream(EsOffer *offer, int64 stream_key)
{
	HASHCTL		ctl = {.keysize = sizeof(int64), .entrysize = sizeof(int64),
	.hcxt = CurrentMemoryContext};

	if (offer->blocked == NULL)
		offer->blocked = hash_create("eventstore blocked streams", 256, &ctl,
									 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	(void) hash_search(offer->blocked, &stream_key, HASH_ENTER, NULL);
}

bool
es_offer_is_blocked(const EsOffer *offer, int64 stream_key)
{
	return offer->blocked != NULL &&
		hash_search(offer->blocked, &stream_key, HASH_FIND, NULL) != NULL;
}

/* An event whose upcaster must run. */
typedef struct Upcast
{
	EsRows	   *rows;
	TupleTableSlot *event;
} Upcast;

static bool
run_upcast(void *arg)
{
	Upcast	   *upcast = arg;

	es_rows_put(upcast->rows, upcast->event);
	return true;
}

/*
 * Put an event whose upcaster must run among the rows.  In a subtransaction: an error of the
 * upcaster is returned, and nothing else is lost.  NULL: the event is there.
 */
static ErrorData *
put_upcast(EsFetch *fetch, TupleTableSlot *event)
{
	Upcast		upcast = {fetch->rows, event};
	ErrorData  *error = es_subxact_try("eventstore_upcast", run_upcast, &upcast);

	if (error == NULL)
		return NULL;
	/* to cancel the upcaster is to cancel the fetch */
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION))
		ReThrowError(error);
	return error;
}

/* An event could not be upcast: its delivery has failed, as by es_nack(). */
static void
hold_failed(EsFetch *fetch, EsOffer *offer, int64 position, int64 stream_key, const ErrorData *said)
{
	EsError		error = es_error_of(said);
	EsFailure	failure = {.delay_ms = ES_FIRST_DELAY_MS, .error = &error, .consumer = fetch->consumer};

	if (es_held_fail(fetch->subscription, offer->row.number, &position, &stream_key, 1, &failure) > 0)
		block_stream(offer, stream_key);
	offer->row.held++;			/* counted anew before it is stored */
	offer->changed = true;
}

/*
 * Hand an event out.
 */
void
es_offer_give(EsFetch *fetch, EsOffer *offer, TupleTableSlot *event, int64 position)
{
	EsPartition *row = &offer->row;

	if (row->npending >= offer->capacity)
	{
		int64	   *pending;

		offer->capacity = Max(128, 2 * row->npending);
		pending = palloc(sizeof(int64) * offer->capacity);
		memcpy(pending, row->pending, sizeof(int64) * row->npending);
		row->pending = pending;
	}
	if (es_rows_upcasts(fetch->rows, event))
	{
		ErrorData  *said = put_upcast(fetch, event);

		fetch->ran_code = true;
		if (said != NULL)
		{
			hold_failed(fetch, offer, position, es_log_number(event, ES_LOG_COL_STREAM_KEY), said);
			return;
		}
	}
	else
		es_rows_put(fetch->rows, event);
	row->pending[row->npending++] = position;
	offer->given = offer->changed = true;
	fetch->given++;
}

/*
 * The lease has expired: hold what was pending.
 */
static void
take_over(EsFetch *fetch, EsOffer *offer)
{
	EsPartition *row = &offer->row;
	int64	   *positions = palloc(sizeof(int64) * row->npending);
	int64	   *stream_keys = palloc(sizeof(int64) * row->npending);
	int			n = 0;
	EsLookup   *lookup = es_log_lookup(fetch->cat, fetch->snapshot);

	for (int i = 0; i < row->npending; i++)
	{
		positions[n] = row->pending[i];
		stream_keys[n] = es_log_stream_at(lookup, row->pending[i]);
		if (stream_keys[n] != 0)
			n++;				/* else it has gone from the log */
	}
	es_lookup_close(lookup);

	if (row->npending == 1)
	{
		EsFailure	failure = {.consumer = row->consumer};

		failure.reason = psprintf("the lease of consumer \"%s\" has expired", row->consumer);
		(void) es_held_fail(fetch->subscription, row->number, positions, stream_keys, n, &failure);
	}
	else
	{
		int			half = row->npending / 2;

		row->batch_limit = row->batch_limit > 0 ? Min(row->batch_limit, half) : half;
		es_held_wait(fetch->subscription, row->number, positions, stream_keys, n);
	}
	row->held += n;				/* counted anew before it is stored */
	row->npending = 0;
	row->leased_until = 0;
	row->consumer = NULL;		/* an ack that comes too late is an error */
	offer->changed = true;
}

/*
 * Hand out the held events that are due, and find the streams that must wait.
 */
static void
give_held(EsFetch *fetch, EsOffer *offer)
{
	EsPartition had = offer->row;	/* events given below are added to row.pending */
	int			n;
	EsHeld	   *held = es_held_read(fetch->subscription, had.number, &n);
	int64	   *gone = palloc(sizeof(int64) * Max(n, 1));
	int			ngone = 0;
	TimestampTz now = GetCurrentTimestamp();
	EsLookup   *lookup = es_log_lookup(fetch->cat, fetch->snapshot);

	/* without room no new events follow either, so the rest of "blocked" does not matter */
	for (int i = 0; i < n && es_offer_has_room(fetch, offer); i++)
	{
		TupleTableSlot *event;

		CHECK_FOR_INTERRUPTS();
		if (es_partition_is_pending(&had, held[i].position))
			continue;
		if (es_offer_is_blocked(offer, held[i].stream_key))
			continue;
		if (held[i].not_before > now)
		{
			block_stream(offer, held[i].stream_key);
			continue;
		}
		event = es_lookup_number(lookup, held[i].position);
		if (event != NULL && es_rows_shows(fetch->rows, event))
			es_offer_give(fetch, offer, event, held[i].position);
		else
			gone[ngone++] = held[i].position;
	}
	es_lookup_close(lookup);
	es_held_remove(fetch->subscription, gone, ngone);
	offer->changed |= ngone > 0;
}

/*
 * Lock a partition and hand out what is held and due.  True: new events of it can follow.
 */
bool
es_offer_take(EsFetch *fetch, EsOffer *offer)
{
	EsPartition *row = &offer->row;
	bool		company = fetch->taken;

	if (offer->taken)
		return offer->open;
	offer->open = false;
	if (fetch->alone || (company && (offer->expired || offer->glance.batch_limit > 0)))
		return false;
	if (!es_partition_try_lock(fetch->subscription, offer->glance.number, row))
	{
		fetch->busy = true;
		return false;
	}
	fetch->taken = offer->taken = true;
	if (row->delivered != offer->glance.delivered || (company && row->batch_limit > 0) ||
		(row->npending > 0 && row->leased_until > fetch->now && strcmp(row->consumer, fetch->consumer) != 0))
	{
		fetch->busy = true;		/* somebody has it, or has changed it since the glance */
		return false;
	}
	if (row->npending > 0 && row->leased_until <= fetch->now)
		take_over(fetch, offer);
	fetch->alone = row->batch_limit > 0;
	if (row->held > 0)
		give_held(fetch, offer);
	offer->open = es_offer_has_room(fetch, offer) && row->held < ES_MAX_HELD;
	return offer->open;
}
