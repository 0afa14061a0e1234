/*
 * lookup.c
 *		Events by their positions, one by one.
 *
 * For what a fetch hands out again, and for the streams of what an ack or nack names.
 * Without SQL: these are read with the snapshot of a head, which may be newer than the
 * transaction's.
 *
 * Locks: AccessShare on event_log and its index.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "compat/compat.h"
#include "log/append.h"
#include "subscriptions/subscription.h"

struct EsLookup
{
	Relation	log;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
};

/* The snapshot stays registered until the lookup is closed. */
EsLookup *
es_lookup_open(const EsCatalog *cat, Snapshot snapshot)
{
	EsLookup   *lookup = palloc(sizeof(EsLookup));

	lookup->log = table_open(cat->event_log, AccessShareLock);
	lookup->index = index_open(cat->event_log_position, AccessShareLock);
	lookup->scan = es_compat_index_beginscan(lookup->log, lookup->index, snapshot, 1);
	lookup->slot = table_slot_create(lookup->log, NULL);
	return lookup;
}

/* The event at a position, or NULL.  Valid until the next call. */
TupleTableSlot *
es_lookup_find(EsLookup *lookup, int64 position)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(position));
	index_rescan(lookup->scan, &key, 1, NULL, 0);
	return index_getnext_slot(lookup->scan, ForwardScanDirection, lookup->slot) ?
		lookup->slot : NULL;
}

/* The key of its stream; 0: there is no such event. */
int64
es_lookup_stream(EsLookup *lookup, int64 position)
{
	TupleTableSlot *event = es_lookup_find(lookup, position);

	return event == NULL ? 0 : es_log_number(event, ES_LOG_COL_STREAM_KEY);
}

void
es_lookup_close(EsLookup *lookup)
{
	index_endscan(lookup->scan);
	ExecDropSingleTupleTableSlot(lookup->slot);
	index_close(lookup->index, AccessShareLock);
	table_close(lookup->log, AccessShareLock);
	pfree(lookup);
}
