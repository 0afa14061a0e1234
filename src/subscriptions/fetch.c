/*
 * fetch.c
 *		es_fetch: the next events of a subscription, leased to a consumer.
 *
 *	1 head, then snapshot (log/head.c), then a glance at all partitions, without locks:
 *	  which of them may have events for this consumer;
 *	2 events to be handed out again: of expired leases, and held events that are due;
 *	3 new events (scan.c);
 *	4 the rows of the partitions that something was taken from are stored.
 *
 * A partition is locked when there are events to hand out.  Its lock is never waited for, and
 * what the glance saw is compared under the lock.  While it finds no events, a fetch that may
 * wait sleeps until the head moves, or something is due.  It does not sleep with a lock: each
 * of its looks is a subtransaction, which is rolled back if it locked in vain.  If a look had
 * to change something, to park an event for example, the fetch ends.
 *
 * Invariants
 * 1. A lease begins when something is handed out and nothing was pending; a fetch while
 *	  something is pending does not renew it.  Else a process that was started anew under
 *	  its old name would for ever keep the events that its predecessor had.
 * 2. That a partition has no events up to a position is written when the fetch comes back
 *	  empty, or when it saves others from reading far: not each time the head moves.
 * 3. Of a log that is being restored nothing is handed out: its rows need not come in
 *	  order, and a position that was passed is never handed out.  The first append ends
 *	  that state (log/seal.c).
 *
 * Lock order: event_log, subscription_partition.  Rows in any order, none of them waited
 * for.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/args.h"
#include "core/call_scan.h"
#include "core/numbers.h"
#include "core/subxact.h"
#include "log/change.h"
#include "log/head.h"
#include "log/seal.h"
#include "subscriptions/commit.h"
#include "subscriptions/fetch.h"
#include "subscriptions/held.h"
#include "subscriptions/scan.h"

PG_FUNCTION_INFO_V1(es_fetch);

/* Longest wait, as of reads: it holds a snapshot. */
#define MAX_WAIT_SECONDS	60

/* Interval of looks while waiting: for partitions that others hold it grows from least to most. */
#define LEAST_PAUSE_MS		10
#define MOST_PAUSE_MS		1000

/* Passed positions that are worth a write even if events were handed out. */
#define ADVANCE_LEAST		1000

/* Most looks while a lock is held that cannot be given back. */
#define MAX_VAIN_LOOKS		3

/* What the fetch knows of a partition from one look to the next. */
typedef struct EsKnown
{
	int64		delivered;
	int64		looked;			/* it has no event beyond delivered, up to this position */
	bool		taken;
} EsKnown;

static void
note_time(EsFetch *fetch, TimestampTz time)
{
	if (fetch->next == 0 || time < fetch->next)
		fetch->next = time;
}

/* Is there something to hand out again, so that the partition is to be taken first? */
static bool
judge_offer(EsFetch *fetch, EsOffer *offer)
{
	const EsGlance *glance = &offer->glance;
	int			limit = glance->batch_limit > 0 ? glance->batch_limit : ES_MAX_PENDING;

	offer->expired = glance->npending > 0 && glance->leased_until <= fetch->now;
	offer->open = true;
	if (offer->expired)
		return true;
	if (glance->npending > 0)
	{
		note_time(fetch, glance->leased_until);
		offer->open = glance->mine && glance->npending < limit;
		fetch->busy |= !glance->mine && (glance->delivered < fetch->head || glance->held > 0);
	}
	if (!offer->open || !glance->has_due)
		return false;
	if (glance->due > fetch->now)
		note_time(fetch, glance->due);
	return glance->due <= fetch->now;
}

/* Order: batches that go alone, then our own, then the partition that was served longest ago. */
static int
compare_due(const void *a, const void *b)
{
	const EsOffer *x = *(EsOffer *const *) a;
	const EsOffer *y = *(EsOffer *const *) b;
	bool		x_alone = x->expired || x->glance.batch_limit > 0;
	bool		y_alone = y->expired || y->glance.batch_limit > 0;

	if (x_alone != y_alone)
		return x_alone ? -1 : 1;
	if (x->glance.mine != y->glance.mine)
		return x->glance.mine ? -1 : 1;
	if (x->glance.fetched_at != y->glance.fetched_at)
		return x->glance.fetched_at < y->glance.fetched_at ? -1 : 1;
	return x->glance.number - y->glance.number;
}

static void
give_again(EsFetch *fetch, EsOffer **due, int ndue)
{
	qsort(due, ndue, sizeof(EsOffer *), compare_due);
	for (int i = 0; i < ndue && fetch->given < fetch->max_count; i++)
		(void) es_offer_take(fetch, due[i]);
}

/* Store what has become of a partition. */
static void
store_offer(EsFetch *fetch, EsOffer *offer)
{
	EsPartition *row = &offer->row;

	if (!offer->changed)
		return;
	es_held_wait(fetch->subscription, row->number, offer->waiting, offer->waiting_keys, offer->nwaiting);
	if (offer->given)
	{
		row->npending = es_numbers_unique(row->pending, row->npending);
		row->fetched_at = GetCurrentTimestamp();
		row->consumer = pstrdup(fetch->consumer);
		if (row->leased_until == 0)
			row->leased_until = row->fetched_at + fetch->subscription->ack_timeout;	/* (1) */
	}
	es_partition_settle(fetch->subscription, row);
	es_partition_store(fetch->subscription, row);
}

/*
 * Look once for events.  "known" is from the last look, unless this is the first.
 */
static void
look_for_events(EsFetch *fetch, EsKnown *known, bool first)
{
	bool		restoring = es_seal_is_open(fetch->cat);
	EsGlance   *glances;
	EsOffer   **due;
	int			ndue = 0;
	int64		furthest = 0;

	fetch->given = 0;
	fetch->alone = fetch->taken = fetch->changed = fetch->busy = false;
	fetch->next = 0;
	fetch->head = es_head_read(fetch->cat, &fetch->snapshot);
	glances = es_partitions_glance(fetch->subscription, fetch->consumer, &fetch->noffers);
	if (fetch->noffers == 0)
		es_subscription_refuse_missing(es_name_from_string(fetch->subscription->name));
	if (fetch->noffers != fetch->subscription->partitions)
		ereport(ERROR,
				(errcode(restoring ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_DATA_CORRUPTED),
				 errmsg("subscription \"%s\" has %d of its %d partitions",
						fetch->subscription->name, fetch->noffers, fetch->subscription->partitions),
				 errhint("Rows of eventstore.subscription_partition have been removed, or were not restored.")));
	fetch->now = GetCurrentTimestamp();
	fetch->offers = palloc0(sizeof(EsOffer) * fetch->noffers);
	due = palloc(sizeof(EsOffer *) * fetch->noffers);
	for (int i = 0; i < fetch->noffers; i++)
	{
		EsOffer    *offer = &fetch->offers[i];

		offer->glance = glances[i];
		offer->looked = glances[i].delivered;
		if (!first && known[i].delivered <= glances[i].delivered)
			offer->looked = Max(offer->looked, known[i].looked);
		furthest = Max(furthest, glances[i].delivered);
		if (!restoring && judge_offer(fetch, offer))	/* (3) */
			due[ndue++] = offer;
	}
	if (first)
		es_head_refuse_ahead(fetch->cat, furthest);

	es_rows_open(fetch->rows, fetch->snapshot);
	give_again(fetch, due, ndue);
	es_scan_new(fetch);
	es_rows_close(fetch->rows);
	for (int i = 0; i < fetch->noffers; i++)
	{
		EsOffer    *offer = &fetch->offers[i];

		store_offer(fetch, offer);
		fetch->changed |= offer->changed;
		known[i] = (EsKnown) {offer->glance.delivered, offer->looked, offer->taken};
	}
	UnregisterSnapshot(fetch->snapshot);
}

/* A look of a fetch that may go on to wait. */
typedef struct Look
{
	EsFetch    *fetch;
	EsKnown    *known;
	bool		first;
} Look;

static bool
run_look(void *arg)
{
	Look	   *this = arg;

	look_for_events(this->fetch, this->known, this->first);
	return this->fetch->given > 0 || this->fetch->changed;
}

/* Look once; a lock that was taken in vain is given back. */
static void
look_and_let_go(EsFetch *fetch, EsKnown *known, bool first)
{
	Look		this = {fetch, known, first};
	ErrorData  *error = es_subxact_try("eventstore_fetch", run_look, &this);

	if (error != NULL)
		ReThrowError(error);
}

/* Store how far partitions are known to have no events. */
static void
advance_empty_partitions(EsFetch *fetch, const EsKnown *known)
{
	int			partitions = fetch->subscription->partitions;
	int		   *numbers = palloc(sizeof(int) * partitions);
	int64	   *from = palloc(sizeof(int64) * partitions);
	int64	   *upto = palloc(sizeof(int64) * partitions);
	int			n = 0;

	for (int i = 0; i < partitions; i++)
	{
		int64		passed = known[i].looked - known[i].delivered;

		if (known[i].taken || passed < (fetch->given > 0 ? ADVANCE_LEAST : 1))	/* (2) */
			continue;
		numbers[n] = i;
		from[n] = known[i].delivered;
		upto[n++] = known[i].looked;
	}
	if (n > 0)
		es_partitions_advance(fetch->subscription, numbers, from, upto, n);
}

/* Sleep until there may be events; false: time is up. */
static bool
wait_for_more(EsFetch *fetch, TimestampTz deadline, int *pause_ms)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;

	if (now >= deadline)
		return false;
	/* Nothing can come before this transaction's own events. */
	es_head_refuse_own(fetch->head + 1);
	*pause_ms = fetch->busy ? Min(*pause_ms * 2, MOST_PAUSE_MS) : MOST_PAUSE_MS;
	until = Min(deadline, now + *pause_ms * INT64CONST(1000));
	if (fetch->next != 0)
		until = Min(until, Max(fetch->next, now + 1000));
	es_head_wait(fetch->cat, fetch->head, until);
	return true;
}

/*
 * es_fetch(subscription, consumer, max_count, wait)
 */
Datum
es_fetch(PG_FUNCTION_ARGS)
{
	EsFetch		fetch = {0};
	EsName		name;
	TimestampTz deadline;
	EsKnown    *known;
	int			pause_ms = LEAST_PAUSE_MS;
	int			vain = 0;
	int64		last_head = -1;
	MemoryContext context;
	bool		is_first = es_fetch_is_first();

	fetch.cat = es_control_begin("es_fetch()");
	name = es_arg_name(fcinfo, 0, "subscription");
	fetch.consumer = es_subscription_consumer(fcinfo, 1);
	fetch.max_count = es_arg_count(fcinfo, 2, "max_count");
	deadline = es_arg_deadline(fcinfo, 3, "wait", MAX_WAIT_SECONDS);
	fetch.rows = es_rows_returned(fcinfo, fetch.cat);
	fetch.subscription = es_subscription_require(fetch.cat, name);
	known = palloc0(sizeof(EsKnown) * fetch.subscription->partitions);
	if (fetch.max_count == 0)
		PG_RETURN_NULL();

	context = AllocSetContextCreate(CurrentMemoryContext, "eventstore look", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		if (deadline == 0)
			look_for_events(&fetch, known, last_head < 0);
		else
			look_and_let_go(&fetch, known, last_head < 0);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		if (fetch.given > 0)
			break;
		if ((deadline == 0 ? fetch.taken : fetch.changed) && vain++ < MAX_VAIN_LOOKS)
			continue;
		if (fetch.head > last_head)
			pause_ms = LEAST_PAUSE_MS;
		last_head = fetch.head;
		if (vain > 0 || deadline == 0 || !wait_for_more(&fetch, deadline, &pause_ms))
			break;
	}
	MemoryContextDelete(context);
	advance_empty_partitions(&fetch, known);
	CommandCounterIncrement();
	if (is_first && !fetch.ran_code)
		es_fetch_was_all();
	PG_RETURN_NULL();
}

void
es_fetch_init(void)
{
	static const EsCallHow set = {NULL};
	static const EsFromFunction functions[] = {
		{"es_fetch", es_fetch, true, es_call_scan_paths, &set},
	};

	es_from_register(functions, lengthof(functions));
}
