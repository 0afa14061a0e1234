/*
 * event.c
 *		es_read_event: the event of an id.
 *
 * Found as an append finds it (log/event_id.c), and shown as every reader is shown it: not if
 * it was taken away, and in its newest shape.
 *
 * Locks: AccessShare on event_log, held to the end of the transaction, and on its indexes.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/table.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "core/args.h"
#include "log/event_id.h"
#include "read/batch.h"
#include "read/rows.h"

PG_FUNCTION_INFO_V1(es_read_event);

/* Put the event of an id into a batch, if there is one and it is shown. */
static void
put_event_of_id(EsBatch *batch, const EsCatalog *cat, const pg_uuid_t *id, Snapshot snapshot)
{
	Relation	log = table_open(cat->event_log, AccessShareLock);
	EsIdLookup *lookup = es_id_lookup_open(cat, log, snapshot);
	EsRows	   *rows = es_rows_into(cat, batch->store, batch->desc, false);
	TupleTableSlot *event = es_id_lookup(lookup, id);

	es_rows_open(rows, snapshot);
	if (event != NULL && es_rows_shows(rows, event))
		es_rows_put(rows, event);
	es_rows_close(rows);
	es_id_lookup_close(lookup);
	table_close(log, NoLock);
}

/*
 * es_read_event(event_id) → es_event
 */
Datum
es_read_event(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	EsBatch    *batch;
	TupleTableSlot *slot;
	Datum		event = 0;

	es_rows_refuse_row_security(cat);
	es_arg_require(fcinfo, 0, "event_id");
	batch = es_batch_empty(cat);
	put_event_of_id(batch, cat, PG_GETARG_UUID_P(0), GetActiveSnapshot());
	slot = es_batch_slot(batch);
	if (es_batch_next(batch, slot))
		event = ExecFetchSlotHeapTupleDatum(slot);
	ExecDropSingleTupleTableSlot(slot);
	es_batch_free(batch);
	if (event == 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(event);
}
