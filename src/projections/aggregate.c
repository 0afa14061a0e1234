/*
 * aggregate.c
 *		A stream folded on demand: es_aggregate.
 *
 * With the caller's rights and snapshot, its own uncommitted events included, from the
 * newest usable snapshot of the stream on.  "as_of" folds the events up to the last one
 * that was created at or before that moment; the clock may have gone back, but not the
 * stream.  A snapshot saved after that moment is not used: it may hold later events.
 *
 * Locks: those of es_read_stream.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "compat/compat.h"
#include "core/args.h"
#include "log/event.h"
#include "log/version.h"
#include "projections/code.h"
#include "projections/state.h"
#include "read/load.h"
#include "read/rows.h"

PG_FUNCTION_INFO_V1(es_aggregate);

/*
 * What to begin with: the snapshot whose kind is the reducer's name, else the one of
 * the kind that es_save_snapshot() gives by itself.
 */
static EsKept
usable_snapshot(const EsStream *stream, const char *reducer, EsKeptLimit limit)
{
	EsKept	found = {0};

	if (stream->key == 0)
		return found;
	found = es_snapshot_find(stream, reducer, limit);
	return found.version > 0 ? found : es_snapshot_find(stream, "default", limit);
}

static int64
last_version_at(EsBatch *batch, TimestampTz moment)
{
	TupleTableSlot *slot = es_batch_slot(batch);
	int64		version = 0;

	while (es_batch_next(batch, slot))
	{
		bool		isnull;

		if (DatumGetTimestampTz(slot_getattr(slot, ES_EVENT_COL_CREATED_AT, &isnull)) <= moment)
			version = DatumGetInt64(slot_getattr(slot, ES_EVENT_COL_VERSION, &isnull));
	}
	ExecDropSingleTupleTableSlot(slot);
	es_batch_rewind(batch);
	return version;
}

/* Was the event of a version created after a moment?  One that is gone was not. */
static bool
was_later(const EsCatalog *cat, const EsStream *stream, int64 version, TimestampTz moment, Snapshot snapshot)
{
	EsBatch    *batch = es_batch_of_stream(cat, stream, version - 1, version, snapshot);
	TupleTableSlot *slot = es_batch_slot(batch);
	bool		isnull;
	bool		later = es_batch_next(batch, slot) &&
		DatumGetTimestampTz(slot_getattr(slot, ES_EVENT_COL_CREATED_AT, &isnull)) > moment;

	ExecDropSingleTupleTableSlot(slot);
	es_batch_free(batch);
	return later;
}

static FmgrInfo *
look_up_reducer(const char *name, Oid event_type)
{
	FmgrInfo   *function = palloc0(sizeof(FmgrInfo));
	char	   *qualified = es_code_qualify(name, ES_FORM_REDUCER, event_type);
	Oid			oid = es_code_function(qualified, ES_FORM_REDUCER, event_type, false);
	AclResult	allowed = es_compat_function_acl(oid, ACL_EXECUTE);

	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_FUNCTION, name);
	fmgr_info(oid, function);
	return function;
}

/*
 * es_aggregate(stream, reducer, initial, up_to_version, as_of) → jsonb
 */
Datum
es_aggregate(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	EsStream	stream = {.name = es_arg_name(fcinfo, 0, "stream")};
	EsKept	kept;
	EsKeptLimit limit = {PG_INT64_MAX, DT_NOEND};
	Snapshot	snapshot = GetActiveSnapshot();
	FmgrInfo   *reducer;
	EsBatch    *batch;
	TupleTableSlot *slot;
	MemoryContext step;
	int64		up_to;
	Datum		state;
	bool		own_state = false;	/* allocated here */
	bool		isnull = PG_ARGISNULL(2);

	es_arg_require(fcinfo, 1, "reducer");
	up_to = es_arg_place(fcinfo, 3, "up_to_version", PG_INT64_MAX);
	if (!PG_ARGISNULL(4))
		limit.saved_at = PG_GETARG_TIMESTAMPTZ(4);
	es_rows_refuse_row_security(cat);
	reducer = look_up_reducer(text_to_cstring(PG_GETARG_TEXT_PP(1)), cat->event);
	state = isnull ? 0 : JsonbPGetDatum(PG_GETARG_JSONB_P(2));

	up_to = limit.version = Min(up_to, es_version_look_up(cat, snapshot, &stream));
	kept = usable_snapshot(&stream, text_to_cstring(PG_GETARG_TEXT_PP(1)), limit);
	if (kept.version > 0 && !PG_ARGISNULL(4) &&
		was_later(cat, &stream, kept.version, PG_GETARG_TIMESTAMPTZ(4), snapshot))
		kept.version = 0;
	batch = es_load_events(cat, &stream, up_to, snapshot, &kept);
	if (kept.version > 0)
	{
		state = kept.state;
		isnull = false;
	}
	if (!PG_ARGISNULL(4))
		up_to = Min(up_to, last_version_at(batch, PG_GETARG_TIMESTAMPTZ(4)));
	slot = es_batch_slot(batch);
	step = AllocSetContextCreate(CurrentMemoryContext, "eventstore fold", ALLOCSET_DEFAULT_SIZES);
	while (es_batch_next(batch, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(step);
		bool		none;
		Datum		next;

		CHECK_FOR_INTERRUPTS();
		if (DatumGetInt64(slot_getattr(slot, ES_EVENT_COL_VERSION, &none)) > up_to)
		{
			MemoryContextSwitchTo(old);
			break;
		}
		next = es_state_fold(reducer, state, &isnull, ExecFetchSlotHeapTupleDatum(slot));
		MemoryContextSwitchTo(old);
		next = isnull ? 0 : PointerGetDatum(PG_DETOAST_DATUM_COPY(next));
		if (own_state)
			pfree(DatumGetPointer(state));
		state = next;
		own_state = !isnull;
		MemoryContextReset(step);
	}
	ExecDropSingleTupleTableSlot(slot);
	es_batch_free(batch);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(state);
}
