/*
 * lookup.c
 *		Single rows of a table by an index of the store, one after the other.
 *
 * Without SQL: with any snapshot, also one that is newer than the transaction's.
 *
 * Locks: AccessShare on the table and the index, given back at the end.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "compat/compat.h"
#include "core/catalog.h"
#include "core/lookup.h"

static EsLookup *
begin_lookup(Relation rel, const Oid *index, Snapshot snapshot)
{
	EsLookup   *lookup = palloc(sizeof(EsLookup));

	lookup->rel = rel;
	es_catalog_refresh();
	lookup->index = index_open(*index, AccessShareLock);
	lookup->scan = es_compat_index_beginscan(rel, lookup->index, snapshot, 1);
	lookup->row = table_slot_create(rel, NULL);
	return lookup;
}

/*
 * Begin to look rows up by the first column of an index.  The snapshot stays registered
 * until the lookup is closed.  "index" points into the catalog, where the OID may change
 * until the table is locked.
 */
EsLookup *
es_lookup_open(Oid table, const Oid *index, Snapshot snapshot)
{
	return begin_lookup(table_open(table, AccessShareLock), index, snapshot);
}

/*
 * The same.  NULL: the table has no pages, so it holds no row for any snapshot that is in
 * use, for vacuum gives pages back only if what was on them is dead to all.
 */
EsLookup *
es_lookup_open_unless_empty(Oid table, const Oid *index, Snapshot snapshot)
{
	Relation	rel = table_open(table, AccessShareLock);

	if (RelationGetNumberOfBlocks(rel) == 0)
	{
		table_close(rel, AccessShareLock);
		return NULL;
	}
	return begin_lookup(rel, index, snapshot);
}

static TupleTableSlot *
find_by_key(EsLookup *lookup, ScanKey key)
{
	CHECK_FOR_INTERRUPTS();		/* thousands may be looked up in a row */
	index_rescan(lookup->scan, key, 1, NULL, 0);
	return index_getnext_slot(lookup->scan, ForwardScanDirection, lookup->row) ? lookup->row : NULL;
}

/* The row with a bigint as key, or NULL.  Valid until the next call. */
TupleTableSlot *
es_lookup_number(EsLookup *lookup, int64 key)
{
	ScanKeyData scankey;

	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key));
	return find_by_key(lookup, &scankey);
}

/* The row with a name as key, or NULL.  Valid until the next call. */
TupleTableSlot *
es_lookup_name(EsLookup *lookup, EsName key)
{
	ScanKeyData scankey;
	text	   *name = es_name_to_text(key);
	TupleTableSlot *row;

	ScanKeyEntryInitialize(&scankey, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   lookup->index->rd_indcollation[0], F_TEXTEQ, PointerGetDatum(name));
	row = find_by_key(lookup, &scankey);
	pfree(name);
	return row;
}

/* The first row with a uuid as key, or NULL.  Valid until the next call. */
TupleTableSlot *
es_lookup_uuid(EsLookup *lookup, const pg_uuid_t *key)
{
	ScanKeyData scankey;

	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(key));
	return find_by_key(lookup, &scankey);
}

/* The next row with the same key, where the index is not unique. */
TupleTableSlot *
es_lookup_next(EsLookup *lookup)
{
	return index_getnext_slot(lookup->scan, ForwardScanDirection, lookup->row) ? lookup->row : NULL;
}

/* NULL may be given. */
void
es_lookup_close(EsLookup *lookup)
{
	if (lookup == NULL)
		return;
	index_endscan(lookup->scan);
	ExecDropSingleTupleTableSlot(lookup->row);
	index_close(lookup->index, AccessShareLock);
	table_close(lookup->rel, AccessShareLock);
	pfree(lookup);
}
