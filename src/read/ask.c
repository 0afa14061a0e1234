/*
 * ask.c
 *		Questions about the log and its streams whose answer is no event.
 *
 * Locks: AccessShare on event_log.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat/compat.h"
#include "core/args.h"
#include "log/event.h"
#include "log/head.h"
#include "log/version.h"

PG_FUNCTION_INFO_V1(es_category);
PG_FUNCTION_INFO_V1(es_stream_version);
PG_FUNCTION_INFO_V1(es_position_at);

/*
 * es_category(stream text) → text
 */
Datum
es_category(PG_FUNCTION_ARGS)
{
	EsName		category = es_name_category(es_arg_name(fcinfo, 0, "stream"));

	PG_RETURN_TEXT_P(es_name_to_text(category));
}

/*
 * es_stream_version(stream text) → bigint, as the caller's snapshot sees it
 */
Datum
es_stream_version(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	EsStream	stream = {.name = es_arg_name(fcinfo, 0, "stream")};

	PG_RETURN_INT64(es_version_look_up(cat, GetActiveSnapshot(), &stream));
}

/* The first event beyond a position: its time, and its position. */
static bool
event_after(IndexScanDesc scan, TupleTableSlot *slot, int64 position,
			int64 *found, TimestampTz *created_at)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(position));
	index_rescan(scan, &key, 1, NULL, 0);
	if (!index_getnext_slot(scan, ForwardScanDirection, slot))
		return false;
	*found = es_log_number(slot, ES_LOG_COL_POSITION);
	*created_at = es_log_number(slot, ES_LOG_COL_CREATED_AT);
	return true;
}

/*
 * es_position_at(at timestamptz) → bigint
 *
 * The position to read after, to begin with the events of that moment.  Found by halving
 * the range of positions, so it is exact where created_at rises with the positions.
 */
Datum
es_position_at(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	TimestampTz at;
	Snapshot	snapshot;
	int64		low = 0;		/* events at or below are before the moment */
	int64		high;			/* events beyond are not */
	Relation	log;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;

	es_arg_require(fcinfo, 0, "at");
	at = PG_GETARG_TIMESTAMPTZ(0);

	high = es_head_read(cat, &snapshot);
	log = table_open(cat->event_log, AccessShareLock);
	index = index_open(cat->event_log_position, AccessShareLock);
	scan = es_compat_index_beginscan(log, index, snapshot, 1);
	slot = table_slot_create(log, NULL);
	while (low < high)
	{
		int64		middle = low + (high - low) / 2;
		int64		position;
		TimestampTz created_at;

		CHECK_FOR_INTERRUPTS();
		if (!event_after(scan, slot, middle, &position, &created_at) ||
			position > high || created_at >= at)
			high = middle;
		else
			low = position;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, NoLock);
	table_close(log, NoLock);
	PG_RETURN_INT64(high);
}
