/*
 * idempotency.c
 *		The same call twice stores its events once.
 *
 * A client that does not know whether its append was committed sends it again
 * with the same event ids.  If all ids stand in the log, in the streams the call
 * names, at consecutive versions in the call's order, with the same types and
 * data, then the call has been carried out, and its old result is returned.  If
 * only some do, or differently, an id has been used for another event: SE003.
 *
 * Ids that race are decided at the unique index.  The insertion only asks whether
 * there may be another entry (UNIQUE_CHECK_PARTIAL), so that it raises no 23505;
 * then es_idempotency_resolve waits for the owner of that entry.
 *
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "append/idempotency.h"
#include "compat/compat.h"
#include "core/errors.h"
#include "log/dictionary.h"
#include "log/event.h"

static void
raise_taken(const EsEvent *event, const char *detail)
{
	ereport(ERROR,
			(errcode(ES_EVENT_ID_TAKEN),
			 errmsg("event id %s belongs to another event",
					DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&event->id)))),
			 detail != NULL ? errdetail_internal("%s", detail) : 0));
}

static IndexScanDesc
begin_id_scan(Relation log, Relation id_index, Snapshot snapshot)
{
	return es_compat_index_beginscan(log, id_index, snapshot, 1);
}

static void
look_for(IndexScanDesc scan, const EsEvent *event)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&event->id));
	index_rescan(scan, &key, 1, NULL, 0);
}

static bool
same_data(Datum a, Datum b)
{
	Jsonb	   *x = DatumGetJsonbP(a);
	Jsonb	   *y = DatumGetJsonbP(b);

	bool		same = compareJsonbContainers(&x->root, &y->root) == 0;

	/* of the stored event, which may have been compressed */
	if ((Pointer) x != DatumGetPointer(a))
		pfree(x);
	return same;
}

/*
 * Compare an event of the call with the stored one of the same id.  Sets the
 * call's result for its stream.  "previous" is the version of the event before
 * it in the same stream, 0 for the first.
 */
static void
compare_event(EsAppend *call, const EsCatalog *cat, const EsEvent *event,
			  TupleTableSlot *stored, int64 previous)
{
	EsAppendStream *stream = &call->streams[event->stream];
	const EsEventType *type;
	Datum	   *values = stored->tts_values;
	int64		version;

	slot_getallattrs(stored);
	if (DatumGetInt64(values[ES_LOG_COL_STREAM_KEY - 1]) != stream->head.key)
		raise_taken(event, "It stands in another stream.");

	version = DatumGetInt64(values[ES_LOG_COL_VERSION - 1]);
	type = es_dictionary_entry(cat, DatumGetInt64(values[ES_LOG_COL_TYPE_KEY - 1]));
	if (!es_name_equal(type->type, event->type))
		raise_taken(event, "It was stored with another type.");
	if (!same_data(values[ES_LOG_COL_DATA - 1], event->data))
		raise_taken(event, "It was stored with other data.");
	if (previous != 0 && version != previous + 1)
		raise_taken(event, "The events of the call were not stored one after another in this order.");

	stream->version = version;
	stream->position = DatumGetInt64(values[ES_LOG_COL_POSITION - 1]);
}

/*
 * Has this call been carried out and committed before?  Raises SE003 if its ids
 * were used otherwise.
 */
bool
es_idempotency_is_duplicate(EsAppend *call, const EsCatalog *cat, Relation log)
{
	Relation	id_index = index_open(cat->event_log_id, AccessShareLock);
	IndexScanDesc scan = begin_id_scan(log, id_index, SnapshotSelf);
	TupleTableSlot *stored = table_slot_create(log, NULL);
	int64	   *previous = palloc0(sizeof(int64) * Max(call->nstreams, 1));
	const EsEvent *found = NULL;
	bool		missing = false;

	for (int i = 0; i < call->nevents; i++)
	{
		const EsEvent *event = &call->events[i];

		CHECK_FOR_INTERRUPTS();
		look_for(scan, event);
		if (!index_getnext_slot(scan, ForwardScanDirection, stored))
			missing = true;
		else
		{
			compare_event(call, cat, event, stored, previous[event->stream]);
			previous[event->stream] = call->streams[event->stream].version;
			found = event;
		}
		if (found != NULL && missing)
			raise_taken(found, "The call repeats only some of its event ids.");
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(stored);
	index_close(id_index, NoLock);
	pfree(previous);
	return found != NULL;
}

/*
 * Is one of the call's ids used?  Then es_idempotency_is_duplicate must decide, under the
 * streams' locks, whether the call is repeated.
 */
bool
es_idempotency_may_repeat(const EsAppend *call, const EsCatalog *cat, Relation log)
{
	Relation	id_index;
	IndexScanDesc scan;
	TupleTableSlot *stored;
	bool		found = false;

	if (!call->has_ids)
		return false;
	id_index = index_open(cat->event_log_id, AccessShareLock);
	scan = begin_id_scan(log, id_index, SnapshotSelf);
	stored = table_slot_create(log, NULL);
	for (int i = 0; i < call->nevents && !found; i++)
	{
		CHECK_FOR_INTERRUPTS();
		look_for(scan, &call->events[i]);
		found = index_getnext_slot(scan, ForwardScanDirection, stored);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(stored);
	index_close(id_index, NoLock);
	return found;
}

/*
 * The index says that another entry may have the id of the event just inserted
 * at own_tid.  Wait until that is decided: SE003, or the other one rolled back.
 */
void
es_idempotency_resolve(Relation log, Relation id_index, const EsEvent *event,
					   ItemPointer own_tid)
{
	TupleTableSlot *other = table_slot_create(log, NULL);
	TransactionId wait_for;

	do
	{
		SnapshotData dirty;
		IndexScanDesc scan;

		CHECK_FOR_INTERRUPTS();
		wait_for = InvalidTransactionId;
		InitDirtySnapshot(dirty);
		scan = begin_id_scan(log, id_index, &dirty);
		look_for(scan, event);
		while (index_getnext_slot(scan, ForwardScanDirection, other))
		{
			if (ItemPointerEquals(&other->tts_tid, own_tid))
				continue;
			if (!TransactionIdIsValid(dirty.xmin))
				raise_taken(event, NULL);
			wait_for = dirty.xmin;
			break;
		}
		index_endscan(scan);
		ExecClearTuple(other);
		if (TransactionIdIsValid(wait_for))
			XactLockTableWait(wait_for, log, own_tid, XLTW_InsertIndex);
	} while (TransactionIdIsValid(wait_for));
	ExecDropSingleTupleTableSlot(other);
}
