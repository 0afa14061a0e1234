/*
 * tags.c
 *		Where the events of a tag are: eventstore.event_tag.
 *
 * An append stores a row for each different tag of its events (append/tag_rows.c), so that
 * an index on (tag, position) leads to them in order: a query by tags costs in proportion to
 * what it returns, however long the log is.  A tag is kept as a hash of 64 bits (core/hash.h);
 * whoever follows it to an event compares the event's own tags.
 *
 * Invariants
 * 1. A row is stored, and removed, in the transaction of its event.  So whether it
 *    counts is seen from the event: a scan here looks at index entries only.
 * 2. A tag has one row an event, even if the event bears it twice.
 *
 * Lock order: event_log, stream, event_tag.
 * Crash: rows belong to the appending transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "compat/compat.h"
#include "core/args.h"
#include "core/hash.h"
#include "core/numbers.h"
#include "log/tags.h"

struct EsTagScan
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	int64		tag;
	bool		backwards;
};

int64
es_tag_hash(EsName tag)
{
	return (int64) es_hash_name(tag, 0);
}

/*
 * The hashes of tags, values of type text: rising, each once (2).  "nulls" may be NULL.
 * A null among them, which only a restore can bring, has none.
 */
static int64 *
hash_values(const Datum *values, const bool *nulls, int n, int *nhashes)
{
	int64	   *hashes = palloc(sizeof(int64) * Max(n, 1));

	*nhashes = 0;
	for (int i = 0; i < n; i++)
	{
		if (nulls == NULL || !nulls[i])
			hashes[(*nhashes)++] = es_tag_hash(es_name_from_text(values[i]));
	}
	*nhashes = es_numbers_unique(hashes, *nhashes);
	return hashes;
}

/*
 * May an event bear these tags?  Their hashes, if so; else an error.
 */
int64 *
es_tags_check(const Datum *values, const bool *nulls, int n, int *nhashes)
{
	for (int i = 0; i < n; i++)
	{
		if (nulls != NULL && nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("tags must not contain null")));
		es_name_check(es_name_from_text(values[i]), "tag");
	}
	return hash_values(values, nulls, n, nhashes);
}

/* ---- removing ---- */

/*
 * Remove the rows of the tags of an event that is removed.
 */
void
es_tags_remove(const EsCatalog *cat, Snapshot snapshot, Datum tags, int64 position)
{
	Relation	rel = table_open(cat->event_tag, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Datum	   *values;
	bool	   *nulls;
	int			nvalues;
	int64	   *hashes;
	int			n;
	Relation	index;
	IndexScanDesc scan;

	es_array_read(DatumGetArrayTypeP(tags), TEXTOID, "tags", &values, &nulls, &nvalues);
	hashes = hash_values(values, nulls, nvalues, &n);
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
es_tag_scan_open(const EsCatalog *cat, Snapshot snapshot, int64 tag, bool backwards)
{
	EsTagScan  *scan = palloc(sizeof(EsTagScan));

	scan->rel = table_open(cat->event_tag, AccessShareLock);
	es_catalog_refresh();
	scan->index = index_open(cat->event_tag_tag, AccessShareLock);
	scan->scan = es_compat_index_beginscan(scan->rel, scan->index, snapshot, 2);
	scan->scan->xs_want_itup = true;
	scan->tag = tag;
	scan->backwards = backwards;
	return scan;
}

/* Go on with the first position at or beyond this one; backwards: at or below it. */
void
es_tag_scan_seek(EsTagScan *scan, int64 position)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(scan->tag));
	if (scan->backwards)
		ScanKeyInit(&keys[1], 2, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(position));
	else
		ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(position));
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

/* The next position whose event may bear the tag (1); false: there is none. */
bool
es_tag_scan_next(EsTagScan *scan, int64 *position)
{
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	if (index_getnext_tid(scan->scan, scan->backwards ? BackwardScanDirection : ForwardScanDirection) == NULL)
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
