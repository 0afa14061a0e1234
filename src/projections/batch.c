/*
 * batch.c
 *		Events on their way to a projection: from the log, or from an append.
 *
 * A batch is a tuplestore of es_event: what a query reads as es_batch, and what
 * handlers and reducers are called for one by one.  It spills to disk beyond
 * work_mem.
 *
 * Invariants
 * 1. A batch from the log ends at the head or at its last event; "upto" is how far
 *    it looked, also past events that the filter leaves out.
 * 2. The events of a stream that is parked are not in the batch, but in its list.
 * 3. A batch for a projection holds events as they are stored.  They are upcast where
 *    an error is known to be about one of them (call.c).
 *
 * Locks: those of a read (read/cursor.c).
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "core/args.h"
#include "projections/batch.h"
#include "read/cursor.h"
#include "read/filter.h"
#include "read/rows.h"
#include "streams/visible.h"

static const EsName unknown_name = {NULL, 0};

EsBatch *
es_batch_empty(const EsCatalog *cat)
{
	EsBatch    *batch = palloc0(sizeof(EsBatch));

	batch->desc = lookup_rowtype_tupdesc_copy(cat->event, -1);
	batch->store = tuplestore_begin_heap(false, false, work_mem);
	return batch;
}

static bool
is_parked(HTAB *parked_streams, EsName stream)
{
	char		key[ES_NAME_MAX_BYTES + 1] = {0};

	if (parked_streams == NULL)
		return false;
	memcpy(key, stream.bytes, Min(stream.len, ES_NAME_MAX_BYTES));
	return hash_search(parked_streams, key, HASH_FIND, NULL) != NULL;
}

static EsParked *
make_parked(int64 position, EsName stream)
{
	EsParked   *parked = palloc(sizeof(EsParked));

	parked->position = position;
	parked->stream = pnstrdup(stream.bytes, stream.len);
	return parked;
}

/*
 * The projection's events beyond "after", up to "upto", limit of them at most.  The
 * snapshot sees all up to there and is registered.
 */
EsBatch *
es_batch_read(const EsCatalog *cat, const EsProjection *projection, int64 after, int64 upto,
			  Snapshot snapshot, int64 limit, HTAB *parked_streams)
{
	EsBatch    *batch = es_batch_empty(cat);
	EsSelection selection = es_filter_select(&projection->filter, cat, snapshot);
	EsRange		range = {after, upto, false};
	EsCursor   *cursor = es_filter_open(&selection, cat, snapshot, range);
	EsRows	   *rows = es_rows_into(cat, batch->store, batch->desc, true);
	TupleTableSlot *event = NULL;
	int64		looked_at = 0;

	es_rows_open(rows, snapshot);
	while (looked_at < limit && (event = es_cursor_next(cursor)) != NULL)
	{
		EsName		stream;

		if (selection.by_key &&
			!es_filter_takes_key(&selection, es_log_number(event, ES_LOG_COL_TYPE_KEY)))
			continue;
		batch->upto = es_log_number(event, ES_LOG_COL_POSITION);
		if (selection.by_stream || parked_streams != NULL)
		{
			stream = es_rows_stream_name(rows, es_log_number(event, ES_LOG_COL_STREAM_KEY));
			if (selection.by_stream && !es_filter_takes_stream(&projection->filter, stream))
				continue;
			if (is_parked(parked_streams, stream))
			{
				batch->parked = lappend(batch->parked, make_parked(batch->upto, stream));
				looked_at++;
				continue;
			}
		}
		looked_at++;
		if (!es_rows_shows(rows, event))
			continue;
		es_rows_put(rows, event, unknown_name);
		batch->count++;
	}
	batch->complete = event == NULL;
	if (batch->complete)
		batch->upto = Max(upto, after);
	es_rows_close(rows);
	es_cursor_close(cursor);
	return batch;
}

/*
 * The events of a stream beyond a version, up to another, as a snapshot sees them and
 * readers are shown them: upcast.
 */
EsBatch *
es_batch_of_stream(const EsCatalog *cat, const EsStream *stream, int64 after, int64 upto,
				   Snapshot snapshot)
{
	EsBatch    *batch = es_batch_empty(cat);
	EsRows	   *rows = es_rows_into(cat, batch->store, batch->desc, false);
	EsRange		versions = {after, upto, false};
	EsShown		shown;
	EsCursor   *cursor;
	TupleTableSlot *event;

	if (stream->key == 0)
		return batch;
	shown = es_visible_of_stream(cat, snapshot, stream);
	versions.after = Max(after, shown.first_version - 1);
	cursor = es_cursor_open(cat, snapshot, versions, 1);
	es_cursor_add_versions(cursor, stream->key);
	while ((event = es_cursor_next(cursor)) != NULL)
	{
		if (es_log_number(event, ES_LOG_COL_CREATED_AT) < shown.since)
			continue;
		es_rows_put(rows, event, stream->name);
		batch->count++;
	}
	es_cursor_close(cursor);
	return batch;
}

/*
 * Bring the events of a batch to their newest shape.  "about" is told which one comes,
 * before its upcasters are called.
 */
void
es_batch_upcast(EsBatch *batch, EsUpcasts *upcasts, void (*about) (TupleTableSlot *event, void *arg), void *arg)
{
	Tuplestorestate *upcast = tuplestore_begin_heap(false, false, work_mem);
	TupleTableSlot *slot = es_batch_slot(batch);

	while (es_batch_next(batch, slot))
	{
		CHECK_FOR_INTERRUPTS();
		about(slot, arg);
		tuplestore_puttupleslot(upcast, es_upcast_slot(upcasts, slot));
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(batch->store);
	batch->store = upcast;
}

static bool
takes_name(const EsName *names, int n, EsName name)
{
	if (names == NULL)
		return true;
	for (int i = 0; i < n; i++)
	{
		if (es_name_equal(names[i], name))
			return true;
	}
	return false;
}

static bool
takes_type(const EsFilter *filter, const EsUpcasts *upcasts, const EsEvent *event)
{
	if (takes_name(filter->types, filter->ntypes, event->type))
		return true;
	for (int i = 0; upcasts != NULL && i < filter->ntypes; i++)
	{
		if (es_upcast_gives(upcasts, event->type, event->schema_version, filter->types[i]))
			return true;
	}
	return false;
}

static bool
takes_event(const EsFilter *filter, const EsUpcasts *upcasts, const EsAppend *call, const EsEvent *event)
{
	return takes_type(filter, upcasts, event) &&
		takes_name(filter->categories, filter->ncategories,
				   es_name_category(call->streams[event->stream].head.name));
}

static void
put_event(EsBatch *batch, const EsAppend *call, const EsEvent *event)
{
	EsName		stream = call->streams[event->stream].head.name;
	Datum		values[ES_EVENT_COLS] = {
		Int64GetDatum(event->position),
		PointerGetDatum(cstring_to_text_with_len(stream.bytes, stream.len)),
		Int64GetDatum(event->version),
		PointerGetDatum(cstring_to_text_with_len(event->type.bytes, event->type.len)),
		Int32GetDatum(event->schema_version),
		event->data,
		event->metadata,
		event->tags,
		UUIDPGetDatum(&event->id),
		TimestampTzGetDatum(event->created_at)
	};
	bool		isnull[ES_EVENT_COLS] = {false};

	isnull[6] = event->metadata == 0;
	isnull[7] = event->tags == 0;
	tuplestore_putvalues(batch->store, batch->desc, values, isnull);
	pfree(DatumGetPointer(values[1]));
	pfree(DatumGetPointer(values[3]));
	batch->count++;
	batch->upto = event->position;
}

/* The projection's events among those just appended; NULL: none. */
EsBatch *
es_batch_of_call(const EsCatalog *cat, const EsProjection *projection, const EsAppend *call)
{
	EsBatch    *batch = NULL;
	EsUpcasts  *upcasts = es_upcasts_begin(cat);

	for (int i = 0; i < call->nevents; i++)
	{
		const EsEvent *event = &call->events[i];

		if (!takes_event(&projection->filter, upcasts, call, event))
			continue;
		if (batch == NULL)
			batch = es_batch_empty(cat);
		put_event(batch, call, event);
	}
	return batch;
}

/* A slot to read the batch's events into. */
TupleTableSlot *
es_batch_slot(const EsBatch *batch)
{
	return MakeSingleTupleTableSlot(batch->desc, &TTSOpsMinimalTuple);
}

bool
es_batch_next(EsBatch *batch, TupleTableSlot *slot)
{
	return tuplestore_gettupleslot(batch->store, true, false, slot);
}

void
es_batch_rewind(EsBatch *batch)
{
	tuplestore_rescan(batch->store);
}

void
es_batch_free(EsBatch *batch)
{
	tuplestore_end(batch->store);
	FreeTupleDesc(batch->desc);
	pfree(batch);
}
