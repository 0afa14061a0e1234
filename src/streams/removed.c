/*
 * removed.c
 *		The ids of events that were taken away and removed: they tell a repeated append.
 *
 * A client that has lost the answer to its append sends it again, perhaps after the events
 * were taken away.  As long as these stand in the log, hidden, their ids are found there; the
 * scavenger leaves a row in eventstore.removed_id for each event that it removes.  Both are
 * remembered for eventstore.remember_ids, counted from the statement that took them away,
 * or, where a rule of retention did, from the pass that removed them: when a rule began to
 * hide an event is not known for certain, for created_at may be given by the caller.
 * Afterwards the id is free: a repeated append is a new one (append/idempotency.c).
 *
 * Invariants
 * 1. The row commits with the removal: whoever does not find an id in the log any more finds
 *    it here, looking afterwards, with SnapshotSelf or a newer snapshot.
 * 2. An id can have several rows; at most one of them is remembered, unless
 *    eventstore.remember_ids has been raised since.  The one of the greatest position counts.
 *
 * Locks: RowExclusive or AccessShare on removed_id, after event_log.
 * Crash: rows belong to their transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat/compat.h"
#include "core/digest.h"
#include "core/settings.h"
#include "core/spi.h"
#include "core/target.h"
#include "log/event.h"
#include "log/event_id.h"
#include "streams/removed.h"

/* Columns of eventstore.removed_id */
enum
{
	COL_EVENT_ID = 1, COL_STREAM_KEY, COL_VERSION, COL_POSITION, COL_TYPE_KEY, COL_TAKEN_AT, COL_DIGEST,
	COL_PAYLOAD_DIGEST
};

struct EsRemovals
{
	const EsCatalog *cat;
	Relation	rel;
	EsTarget	target;
	TupleTableSlot *row;
};

/* ---- adding ---- */

EsRemovals *
es_removals_open(const EsCatalog *cat)
{
	EsRemovals *removals = palloc(sizeof(EsRemovals));

	removals->cat = cat;
	removals->rel = table_open(cat->removed_id, RowExclusiveLock);
	removals->target = es_target_open(removals->rel);
	removals->row = table_slot_create(removals->rel, NULL);
	ExecOpenIndices(removals->target.relinfo, false);
	return removals;
}

static void
set_column(TupleTableSlot *row, int column, Datum value)
{
	row->tts_values[column - 1] = value;
	row->tts_isnull[column - 1] = false;
}

/* Remember an event of the log that is being removed. */
void
es_removals_add(EsRemovals *removals, TupleTableSlot *event, TimestampTz taken_at)
{
	TupleTableSlot *row = ExecClearTuple(removals->row);
	bytea	   *digest;
	bytea	   *payload_digest;
	pg_uuid_t	id;

	if (es_removed_is_forgotten(taken_at))
		return;
	slot_getallattrs(event);
	digest = es_digest_json(event->tts_values[ES_LOG_COL_DATA - 1]);
	payload_digest = es_digest_bytes(es_log_payload(event));
	memset(row->tts_isnull, true, sizeof(bool) * row->tts_tupleDescriptor->natts);
	es_event_id_of(removals->cat, event, &id);
	set_column(row, COL_EVENT_ID, UUIDPGetDatum(&id));
	set_column(row, COL_STREAM_KEY, event->tts_values[ES_LOG_COL_STREAM_KEY - 1]);
	set_column(row, COL_VERSION, event->tts_values[ES_LOG_COL_VERSION - 1]);
	set_column(row, COL_POSITION, event->tts_values[ES_LOG_COL_POSITION - 1]);
	set_column(row, COL_TYPE_KEY, event->tts_values[ES_LOG_COL_TYPE_KEY - 1]);
	set_column(row, COL_TAKEN_AT, TimestampTzGetDatum(taken_at));
	set_column(row, COL_DIGEST, PointerGetDatum(digest));
	if (payload_digest != NULL)
		set_column(row, COL_PAYLOAD_DIGEST, PointerGetDatum(payload_digest));
	ExecStoreVirtualTuple(row);
	simple_table_tuple_insert(removals->rel, row);
	list_free(es_compat_index_inserted(removals->target.relinfo, row, removals->target.estate, NULL, NIL));
	ResetPerTupleExprContext(removals->target.estate);
	pfree(digest);
	if (payload_digest != NULL)
		pfree(payload_digest);
}

void
es_removals_close(EsRemovals *removals)
{
	if (removals == NULL)
		return;
	ExecDropSingleTupleTableSlot(removals->row);
	ExecCloseIndices(removals->target.relinfo);
	es_target_close(&removals->target);
	table_close(removals->rel, NoLock);
	pfree(removals);
}

/* ---- looking ---- */

/* Was an event taken away longer ago than eventstore.remember_ids, so that its id is free? */
bool
es_removed_is_forgotten(TimestampTz taken_at)
{
	return taken_at + (int64) es_guc_remember_ids * USECS_PER_SEC <= GetCurrentTimestamp();
}

/* Begin to look for ids.  NULL: none is remembered. */
EsLookup *
es_removed_lookup(const EsCatalog *cat, Snapshot snapshot)
{
	return es_lookup_open_unless_empty(cat->removed_id, &cat->removed_id_event, snapshot);
}

/* What is remembered of the event of an id. */
bool
es_removed_find(EsLookup *lookup, const pg_uuid_t *id, EsRemoved *found)
{
	TupleTableSlot *row = lookup == NULL ? NULL : es_lookup_uuid(lookup, id);
	bool		any = false;

	for (; row != NULL; row = es_lookup_next(lookup))
	{
		Datum	   *values = row->tts_values;

		slot_getallattrs(row);
		if (es_removed_is_forgotten(DatumGetTimestampTz(values[COL_TAKEN_AT - 1])) ||
			(any && DatumGetInt64(values[COL_POSITION - 1]) < found->position))
			continue;			/* (2) */
		any = true;
		*found = (EsRemoved) {
			.stream_key = DatumGetInt64(values[COL_STREAM_KEY - 1]),
			.version = DatumGetInt64(values[COL_VERSION - 1]),
			.position = DatumGetInt64(values[COL_POSITION - 1]),
			.type_key = DatumGetInt64(values[COL_TYPE_KEY - 1]),
			.digest = DatumGetByteaPCopy(values[COL_DIGEST - 1]),
			.payload_digest = row->tts_isnull[COL_PAYLOAD_DIGEST - 1] ? NULL :
				DatumGetByteaPCopy(values[COL_PAYLOAD_DIGEST - 1])
		};
	}
	return any;
}

/* ---- forgetting ---- */

static Datum
oldest_remembered(void)
{
	return TimestampTzGetDatum(GetCurrentTimestamp() - (int64) es_guc_remember_ids * USECS_PER_SEC);
}

/* Remove rows whose time is over, "max" of them at most; how many were removed. */
int64
es_removed_forget(int max)
{
	static EsStatement forget = {
		"DELETE FROM eventstore.removed_id WHERE ctid IN"
		" (SELECT ctid FROM eventstore.removed_id WHERE taken_at <= $1"
		"  ORDER BY taken_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
		{TIMESTAMPTZOID, INT4OID}
	};
	Datum		values[2] = {oldest_remembered(), Int32GetDatum(max)};
	EsSpi		spi;
	int64		n;

	es_spi_begin(&spi);
	n = (int64) es_spi_run(&forget, values, NULL);
	es_spi_end(&spi);
	return n;
}

/* Are there rows whose time is over? */
bool
es_removed_are_due(void)
{
	static EsStatement look = {
		"SELECT 1 FROM eventstore.removed_id WHERE taken_at <= $1 LIMIT 1", {TIMESTAMPTZOID}
	};
	Datum		values[1] = {oldest_remembered()};
	EsSpi		spi;
	bool		due;

	es_spi_begin(&spi);
	due = es_spi_look(&look, values) > 0;
	es_spi_end(&spi);
	return due;
}

/* When the time of the next row will be over; 0: there is none. */
TimestampTz
es_removed_next_at(void)
{
	static EsStatement look = {
		"SELECT taken_at FROM eventstore.removed_id ORDER BY taken_at LIMIT 1", {InvalidOid}
	};
	EsSpi		spi;
	TimestampTz at = 0;
	bool		isnull;

	es_spi_begin(&spi);
	if (es_spi_look(&look, NULL) > 0)
		at = DatumGetTimestampTz(es_spi_value(1, 1, &isnull)) + (int64) es_guc_remember_ids * USECS_PER_SEC;
	es_spi_end(&spi);
	return at;
}
