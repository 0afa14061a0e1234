/*
 * aggregate.c
 *		A stream folded on demand: es_aggregate.
 *
 * With the caller's rights and snapshot, its own uncommitted events included, from the
 * newest usable snapshot of the stream on: one whose kind is the reducer's name, and that was
 * saved since the reducer was last replaced (streams/reducer.c).  "as_of" folds the events up
 * to the last one that was created at or before that moment, including those before it that
 * have a later time because the clock went back.  A snapshot saved after that moment is not
 * used: it may hold later events.
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
#include "core/digest.h"
#include "log/event.h"
#include "log/version.h"
#include "projections/code.h"
#include "projections/state.h"
#include "read/load.h"
#include "read/rows.h"
#include "streams/reducer.h"

PG_FUNCTION_INFO_V1(es_aggregate);

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

/* Was the event of a version created after a moment?  False if the event is gone. */
static bool
was_later(const EsCatalog *cat, const EsStream *stream, int64 version, TimestampTz moment, Snapshot snapshot)
{
	EsBatch    *batch;
	TupleTableSlot *slot;
	bool		isnull;
	bool		later;

	if (moment == DT_NOEND)
		return false;
	batch = es_batch_of_stream(cat, stream, version - 1, version, snapshot);
	slot = es_batch_slot(batch);
	later = es_batch_next(batch, slot) &&
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

/* What is folded, and how far it has come. */
typedef struct Fold
{
	const EsCatalog *cat;
	Snapshot	snapshot;
	EsStream	stream;
	const char *name;			/* of the reducer, as given */
	FmgrInfo   *reducer;
	int64		up_to;			/* version */
	TimestampTz as_of;			/* DT_NOEND: no such limit */
	Datum		state;
	bool		isnull;
	bool		own_state;		/* allocated here */
} Fold;

/*
 * The snapshot to begin with: its kind is the reducer's name, it was made by the reducer as
 * defined now, and neither its last event is later than "as_of" nor was it saved later.
 */
static EsKept
usable_snapshot(const Fold *fold)
{
	EsKept		none = {0};
	EsKept		found;

	if (fold->stream.key == 0)
		return none;
	found = es_snapshot_find(&fold->stream, fold->name, (EsKeptLimit) {fold->up_to, fold->as_of});
	if (found.version == 0 ||
		!es_digest_equal(found.made_by, es_reducer_digest(fold->reducer->fn_oid)) ||
		was_later(fold->cat, &fold->stream, found.version, fold->as_of, fold->snapshot))
		return none;
	return found;
}

/* The events to be folded; the state is that before the first of them. */
static EsBatch *
begin_fold(Fold *fold)
{
	EsKept		kept;
	EsBatch    *batch;

	fold->up_to = Min(fold->up_to, es_version_look_up(fold->cat, fold->snapshot, &fold->stream));
	kept = usable_snapshot(fold);
	batch = es_load_events(fold->cat, &fold->stream, fold->up_to, fold->snapshot, &kept);
	if (kept.version > 0)
	{
		fold->state = kept.state;
		fold->isnull = false;
	}
	if (fold->as_of != DT_NOEND)
		fold->up_to = Min(fold->up_to, last_version_at(batch, fold->as_of));
	return batch;
}

/* Apply the reducer to an event.  "step" is the memory of one application. */
static void
fold_event(Fold *fold, TupleTableSlot *event, MemoryContext step)
{
	MemoryContext old = MemoryContextSwitchTo(step);
	Datum		next = es_state_fold(fold->reducer, fold->state, &fold->isnull,
									 ExecFetchSlotHeapTupleDatum(event));

	MemoryContextSwitchTo(old);
	next = fold->isnull ? 0 : PointerGetDatum(PG_DETOAST_DATUM_COPY(next));
	if (fold->own_state)
		pfree(DatumGetPointer(fold->state));
	fold->state = next;
	fold->own_state = !fold->isnull;
	MemoryContextReset(step);
}

static void
fold_events(Fold *fold, EsBatch *batch)
{
	TupleTableSlot *event = es_batch_slot(batch);
	MemoryContext step = AllocSetContextCreate(CurrentMemoryContext, "eventstore fold",
											   ALLOCSET_DEFAULT_SIZES);

	while (es_batch_next(batch, event))
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (DatumGetInt64(slot_getattr(event, ES_EVENT_COL_VERSION, &isnull)) > fold->up_to)
			break;
		fold_event(fold, event, step);
	}
	ExecDropSingleTupleTableSlot(event);
}

/*
 * es_aggregate(stream, reducer, initial, up_to_version, as_of) → jsonb
 */
Datum
es_aggregate(PG_FUNCTION_ARGS)
{
	Fold		fold = {.cat = es_catalog_lock(AccessShareLock), .snapshot = GetActiveSnapshot(),
	.as_of = DT_NOEND, .isnull = PG_ARGISNULL(2)};
	EsBatch    *batch;

	fold.stream.name = es_arg_name(fcinfo, 0, "stream");
	es_arg_require(fcinfo, 1, "reducer");
	fold.up_to = es_arg_place(fcinfo, 3, "up_to_version", PG_INT64_MAX);
	if (!PG_ARGISNULL(4))
		fold.as_of = PG_GETARG_TIMESTAMPTZ(4);
	es_rows_refuse_row_security(fold.cat);
	fold.name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	fold.reducer = look_up_reducer(fold.name, fold.cat->event);
	fold.state = fold.isnull ? 0 : JsonbPGetDatum(PG_GETARG_JSONB_P(2));

	batch = begin_fold(&fold);
	fold_events(&fold, batch);
	es_batch_free(batch);
	if (fold.isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(fold.state);
}
