/*
 * tags.c
 *		Where the events of a tag are: eventstore.event_tag.
 *
 * An append stores a row for each different tag of its events, so that an index on
 * (tag, position) leads to them in order: a query by tags costs in proportion to what
 * it returns, however long the log is.  A tag is kept as a hash of 64 bits; whoever
 * follows it to an event compares the event's own tags.
 *
 * Without SQL underneath, as the events themselves (writer.c): rows by multi-insert,
 * index entries through the executor.
 *
 * Invariants
 * 1. A row is stored, and removed, in the transaction of its event.  So whether it
 *    counts is seen from the event: a scan here looks at index entries only.
 * 2. A tag has one row an event, even if the event bears it twice.
 *
 * Locks: RowExclusive on event_tag, after event_log and stream.
 * Crash: rows belong to the appending transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "compat/compat.h"
#include "core/args.h"
#include "core/numbers.h"
#include "core/target.h"
#include "log/append.h"
#include "log/tags.h"

/* Most rows in one multi-insert. */
#define MAX_ROWS	1000

struct EsTagScan
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	int64		tag;
};

int64
es_tag_hash(EsName tag)
{
	return (int64) hash_bytes_extended((const unsigned char *) tag.bytes, tag.len, 0);
}

/* The hashes of an event's tags, a text[], sorted, each once (2). */
int64 *
es_tag_hashes(Datum tags, int *n)
{
	Datum	   *values;
	bool	   *nulls;
	int			given;
	int64	   *hashes;

	es_array_read(DatumGetArrayTypeP(tags), TEXTOID, "tags", &values, &nulls, &given);
	hashes = palloc(sizeof(int64) * Max(given, 1));
	*n = 0;
	for (int i = 0; i < given; i++)
	{
		if (!nulls[i])			/* a restore may bring what no append takes */
			hashes[(*n)++] = es_tag_hash(es_name_from_text(values[i]));
	}
	*n = es_numbers_unique(hashes, *n);
	return hashes;
}

/* May an event bear these tags, a text[]? */
void
es_tags_check(Datum tags)
{
	Datum	   *values;
	bool	   *nulls;
	int			n;

	es_array_read(DatumGetArrayTypeP(tags), TEXTOID, "tags", &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("tags must not contain null")));
		es_name_check(es_name_from_text(values[i]), "tag");
	}
}

/* ---- storing ---- */

typedef struct Store
{
	Relation	rel;
	EsTarget	target;
	TupleTableSlot **slots;
	int			nslots;
	int			nused;
} Store;

static void
store_waiting(Store *store)
{
	if (store->nused == 0)
		return;
	table_multi_insert(store->rel, store->slots, store->nused, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < store->nused; i++)
	{
		(void) es_compat_index_inserted(store->target.relinfo, store->slots[i],
										store->target.estate, NULL, NIL);
		ExecClearTuple(store->slots[i]);
	}
	store->nused = 0;
}

static void
add_row(Store *store, int64 tag, int64 position)
{
	TupleTableSlot *slot;

	if (store->nused == store->nslots)
		store->slots[store->nslots++] = MakeSingleTupleTableSlot(RelationGetDescr(store->rel),
																  table_slot_callbacks(store->rel));
	slot = ExecClearTuple(store->slots[store->nused++]);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	slot->tts_values[ES_TAG_COL_TAG - 1] = Int64GetDatum(tag);
	slot->tts_isnull[ES_TAG_COL_TAG - 1] = false;
	slot->tts_values[ES_TAG_COL_POSITION - 1] = Int64GetDatum(position);
	slot->tts_isnull[ES_TAG_COL_POSITION - 1] = false;
	ExecStoreVirtualTuple(slot);
	if (store->nused == MAX_ROWS)
		store_waiting(store);
}

static bool
has_tags(const EsAppend *call)
{
	for (int i = 0; i < call->nevents; i++)
	{
		if (call->events[i].tags != 0)
			return true;
	}
	return false;
}

/*
 * Store where the tags of the call's events are.
 */
void
es_tags_store(const EsAppend *call, const EsCatalog *cat)
{
	Store		store = {0};

	if (!has_tags(call))
		return;
	store.rel = table_open(cat->event_tag, RowExclusiveLock);
	store.target = es_target_open(store.rel);
	store.slots = palloc(sizeof(TupleTableSlot *) * MAX_ROWS);
	ExecOpenIndices(store.target.relinfo, false);
	for (int i = 0; i < call->nevents; i++)
	{
		const EsEvent *event = &call->events[i];
		int64	   *hashes;
		int			n;

		CHECK_FOR_INTERRUPTS();
		if (event->tags == 0)
			continue;
		hashes = es_tag_hashes(event->tags, &n);
		for (int j = 0; j < n; j++)
			add_row(&store, hashes[j], event->position);
		pfree(hashes);
	}
	store_waiting(&store);
	for (int i = 0; i < store.nslots; i++)
		ExecDropSingleTupleTableSlot(store.slots[i]);
	ExecCloseIndices(store.target.relinfo);
	es_target_close(&store.target);
	table_close(store.rel, NoLock);
	pfree(store.slots);
}

/* ---- removing ---- */

/*
 * Forget where the tags of an event were that is removed.
 */
void
es_tags_remove(const EsCatalog *cat, Snapshot snapshot, Datum tags, int64 position)
{
	Relation	rel = table_open(cat->event_tag, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int			n;
	int64	   *hashes = es_tag_hashes(tags, &n);
	Relation	index;
	IndexScanDesc scan;

	es_catalog_refresh();
	index = index_open(cat->event_tag_tag, RowExclusiveLock);
	scan = es_compat_index_beginscan(rel, index, snapshot, 2);
	for (int i = 0; i < n; i++)
	{
		ScanKeyData keys[2];

		ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(hashes[i]));
		ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(position));
		index_rescan(scan, keys, 2, NULL, 0);
		while (index_getnext_slot(scan, ForwardScanDirection, slot))
			simple_table_tuple_delete(rel, &slot->tts_tid, snapshot);
	}
	pfree(hashes);
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
	index_close(index, NoLock);
	table_close(rel, NoLock);
}

/* ---- reading ---- */

/* The snapshot stays registered until the scan is closed.  Seek first. */
EsTagScan *
es_tag_scan_open(const EsCatalog *cat, Snapshot snapshot, int64 tag)
{
	EsTagScan  *scan = palloc(sizeof(EsTagScan));

	scan->rel = table_open(cat->event_tag, AccessShareLock);
	es_catalog_refresh();
	scan->index = index_open(cat->event_tag_tag, AccessShareLock);
	scan->scan = es_compat_index_beginscan(scan->rel, scan->index, snapshot, 2);
	scan->scan->xs_want_itup = true;
	scan->tag = tag;
	return scan;
}

/* Go on with the first position at or beyond this one. */
void
es_tag_scan_seek(EsTagScan *scan, int64 position)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(scan->tag));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(position));
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

/* Where an event may bear the tag (1); false: nowhere any more. */
bool
es_tag_scan_next(EsTagScan *scan, int64 *position)
{
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	if (index_getnext_tid(scan->scan, ForwardScanDirection) == NULL)
		return false;
	*position = DatumGetInt64(index_getattr(scan->scan->xs_itup, 2, scan->scan->xs_itupdesc, &isnull));
	return true;
}

void
es_tag_scan_close(EsTagScan *scan)
{
	index_endscan(scan->scan);
	index_close(scan->index, AccessShareLock);
	table_close(scan->rel, AccessShareLock);
	pfree(scan);
}
