/*
 * mark.c
 *		The mark: the head as the last recorded, in a one-row table.
 *
 * The scheduler writes it when the head has moved.  The head is read before the
 * writing transaction begins; so every event at or below it was committed before
 * that transaction, and whoever sees the row, in any snapshot, on a standby too,
 * sees them all: WAL replays commits in their order.
 *
 * The row also holds the identity that es_epoch() is made from.  It is made by
 * CREATE EXTENSION and not part of a dump.
 *
 * Crash: the row belongs to the scheduler's transaction, which commits
 * asynchronously: an older mark is still true.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat/compat.h"
#include "log/mark.h"

/* Columns of eventstore.mark */
#define COL_HEAD		1
#define COL_IDENTITY	2
#define COL_MOVED_AT	3

static bool
fetch_row(Relation rel, Snapshot snapshot, TupleTableSlot *slot)
{
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	if (found)
	{
		ExecMaterializeSlot(slot);	/* the scan's page goes */
		slot_getallattrs(slot);
	}
	table_endscan(scan);
	return found;
}

/*
 * The recorded head, and the store's identity if the caller wants it.
 */
int64
es_mark_read(const EsCatalog *cat, Snapshot snapshot, pg_uuid_t *identity)
{
	Relation	rel = table_open(cat->mark, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int64		head;

	if (!fetch_row(rel, snapshot, slot))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the row of eventstore.mark is missing")));
	head = DatumGetInt64(slot->tts_values[COL_HEAD - 1]);
	if (identity != NULL)
		*identity = *DatumGetUUIDP(slot->tts_values[COL_IDENTITY - 1]);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return head;
}

/*
 * Record the head, which was read before this transaction began.  The mark never
 * goes back; false if it stays.  Only the scheduler calls this, one per database.
 */
bool
es_mark_move(const EsCatalog *cat, int64 head)
{
	Relation	rel = table_open(cat->mark, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		moves;

	moves = fetch_row(rel, snapshot, slot) &&
		DatumGetInt64(slot->tts_values[COL_HEAD - 1]) < head;
	if (moves)
	{
		int			columns[2] = {COL_HEAD, COL_MOVED_AT};
		Datum		values[2] = {Int64GetDatum(head), TimestampTzGetDatum(GetCurrentTimestamp())};
		bool		isnull[2] = {false, false};
		bool		should_free;
		HeapTuple	old = ExecFetchSlotHeapTuple(slot, true, &should_free);
		HeapTuple	row = heap_modify_tuple_by_cols(old, RelationGetDescr(rel), 2, columns, values, isnull);

		es_compat_heap_update(rel, &slot->tts_tid, row);
		heap_freetuple(row);
	}
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return moves;
}
