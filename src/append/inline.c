/*
 * inline.c
 *		Projections that are applied in the transaction that appends.
 *
 * After the events are stored, before es_append returns, each live inline projection
 * is given those of the call that it wants.  An append takes no lock of a projection:
 * what its code writes is locked as by any statement.  How a projection becomes live,
 * and ceases to be, is in projections/switch.c.
 *
 * Invariants
 * 1. The list of live projections is looked at with event_log locked RowExclusive.
 * 2. The projections of a call are applied in the order of their ids, each to all
 *    events of the call: appenders lock the rows of read models in the same order of
 *    projections.
 *
 * Locks: those of the projections' code.
 * Crash: everything belongs to the appending transaction.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "append/inline.h"
#include "log/event.h"
#include "log/event_id.h"
#include "log/secret.h"
#include "projections/call.h"
#include "read/wanted.h"

static void
put_event(const EsCatalog *cat, EsBatch *batch, const EsAppend *call, const EsEvent *event)
{
	pg_uuid_t	id = event->id;
	Datum		values[ES_EVENT_COLS] = {
		Int64GetDatum(event->position),
		PointerGetDatum(call->streams[event->stream].name),
		Int64GetDatum(event->version),
		PointerGetDatum(es_name_to_text(event->type)),
		Int32GetDatum(event->schema_version),
		event->data,
		event->metadata,
		event->tags,
		UUIDPGetDatum(&id),
		TimestampTzGetDatum(event->created_at),
		PointerGetDatum(es_name_to_text(event->content_type)),
		event->payload
	};
	bool		isnull[ES_EVENT_COLS] = {false};

	if (event->has_derived_id)
	{
		EsSecret	secret = es_secret_read(cat);

		es_event_id_derive(&secret, event->position, event->created_at, &id);
	}
	isnull[ES_EVENT_COL_METADATA - 1] = event->metadata == 0;
	isnull[ES_EVENT_COL_TAGS - 1] = event->tags == 0;
	isnull[ES_EVENT_COL_CONTENT_TYPE - 1] = event->content_type.len == 0;
	isnull[ES_EVENT_COL_PAYLOAD - 1] = event->payload == 0;
	tuplestore_putvalues(batch->store, batch->desc, values, isnull);
	pfree(DatumGetPointer(values[ES_EVENT_COL_TYPE - 1]));
	pfree(DatumGetPointer(values[ES_EVENT_COL_CONTENT_TYPE - 1]));
	batch->count++;
	batch->upto = event->position;
}

/* Does the projection take this event of the call? */
static bool
takes_event(const EsFilter *filter, const EsUpcasts *upcasts, const EsAppend *call, const EsEvent *event)
{
	EsTraits	traits = {
		.type = event->type,
		.schema_version = event->schema_version,
		.category = call->streams[event->stream].category,
		.tags = event->tags
	};

	return es_wanted_takes(filter, upcasts, &traits);
}

/* The projection's events among those of the call; NULL: none. */
static EsBatch *
batch_of_call(const EsCatalog *cat, const EsProjection *projection, const EsUpcasts *upcasts,
			  const EsAppend *call)
{
	EsBatch    *batch = NULL;

	for (int i = 0; i < call->nevents; i++)
	{
		const EsEvent *event = &call->events[i];

		if (!takes_event(&projection->filter, upcasts, call, event))
			continue;
		if (batch == NULL)
			batch = es_batch_empty(cat);
		put_event(cat, batch, call, event);
	}
	return batch;
}

static void
apply_to(const EsCatalog *cat, int id, const EsAppend *call)
{
	/* users' code has run since the last look */
	const EsProjection *projection = es_definition_by_id(cat, id);
	EsBatch    *batch;

	if (projection == NULL || !projection->live)
		return;
	batch = batch_of_call(cat, projection, es_upcasts_begin(cat), call);
	if (batch == NULL)
		return;
	es_call_apply(projection, cat, batch);
	es_batch_free(batch);
}

/*
 * Apply the call's events, which are stored and visible to the next command.
 * Assumes event_log locked by es_seal_lock_log, and that no statement about
 * projections has run since (es_change_begin).
 */
void
es_inline_apply(const EsCatalog *cat, const EsAppend *call)
{
	const EsProjections *all = es_definitions(cat);
	MemoryContext context;
	MemoryContext old;
	int			n = all->nlive;
	int		   *ids;

	if (n == 0)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "eventstore inline", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	ids = palloc(sizeof(int) * n);
	for (int i = 0; i < n; i++)
		ids[i] = all->live[i]->id;
	for (int i = 0; i < n; i++)
		apply_to(cat, ids[i], call);	/* (2) */
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
