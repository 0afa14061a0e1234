/*
 * batch.c
 *		Events as a tuplestore, in order.
 *
 * A batch is a tuplestore of es_event: what the query of a projection reads as es_batch,
 * what handlers and reducers are called for one by one, and what es_load gives.  It
 * spills to disk beyond work_mem.
 *
 * Locks: those of a read (cursor.c).
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "log/event.h"
#include "read/batch.h"
#include "read/cursor.h"
#include "read/rows.h"
#include "streams/visible.h"

EsBatch *
es_batch_empty(const EsCatalog *cat)
{
	EsBatch    *batch = palloc0(sizeof(EsBatch));

	batch->desc = lookup_rowtype_tupdesc_copy(cat->event, -1);
	batch->store = tuplestore_begin_heap(false, false, work_mem);
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
	cursor = es_cursor_open(cat, snapshot, versions, 1, false);
	es_cursor_add_versions(cursor, stream->key);
	while ((event = es_cursor_next(cursor)) != NULL)
	{
		if (es_log_number(event, ES_LOG_COL_CREATED_AT) < shown.since)
			continue;
		es_rows_put(rows, event);
		batch->count++;
	}
	es_cursor_close(cursor);
	return batch;
}

/*
 * Bring the events of a batch to their newest shape.  "about" is called with each event
 * before its upcasters are.
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
