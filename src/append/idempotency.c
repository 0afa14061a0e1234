/*
 * idempotency.c
 *		The same call twice stores its events once.
 *
 * A client that does not know whether its append was committed sends it again
 * with the same event ids.  If all ids stand in the log, in the streams the call
 * names, at consecutive versions in the call's order, with the same types, data and
 * payloads, then the call has been carried out, and its old result is returned.  If
 * only some do, or differently, an id has been used for another event: SE003.
 *
 * Events that were taken away since are remembered for some time, whether they still stand
 * in the log, hidden, or have been removed (streams/removed.c): the answer is the same.
 * Afterwards their ids are forgotten, and hidden events that have them count as removed.  A
 * call of which nothing is remembered is a new one, and such events give way.  Where an id is
 * missing before others that are known, it may have been forgotten: the call was carried out
 * if the version is missing, too, that the event would have.
 *
 * An id can be one that the server has derived (log/event_id.c): who has read an event may
 * send its id.  It is known as a stored one is.
 *
 * Where each event is a call of its own (rows of eventstore.new_events), each is looked up
 * alone, and the call goes on with those that are new.
 *
 * Ids that race are decided at the unique index.  The insertion only asks whether
 * there may be another entry (UNIQUE_CHECK_PARTIAL), so that it raises no 23505;
 * then es_idempotency_resolve waits for the owner of that entry.  The owner of a derived id
 * is waited for before it is looked up.
 *
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/detoast.h"
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

#include "append/build.h"
#include "append/idempotency.h"
#include "compat/compat.h"
#include "core/digest.h"
#include "core/errors.h"
#include "log/dictionary.h"
#include "log/event.h"
#include "log/event_id.h"
#include "log/version.h"
#include "streams/hidden.h"
#include "streams/removed.h"
#include "streams/scavenge.h"

static void
raise_taken(const EsEvent *event, const char *detail)
{
	ereport(ERROR,
			(errcode(ES_EVENT_ID_TAKEN),
			 errmsg("event id %s belongs to another event",
					DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&event->id)))),
			 detail != NULL ? errdetail_internal("%s", detail) : 0));
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

/* Are two payloads the same?  0 stands for none. */
static bool
same_payload(Datum a, Datum b)
{
	bytea	   *x;
	bytea	   *y;
	bool		same;

	if (a == 0 || b == 0)
		return a == b;
	if (toast_raw_datum_size(a) != toast_raw_datum_size(b))
		return false;
	x = DatumGetByteaPP(a);
	y = DatumGetByteaPP(b);
	same = memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) == 0;
	if ((Pointer) x != DatumGetPointer(a))
		pfree(x);
	return same;
}

/* Are two digests the same?  NULL is the digest of nothing.  The second one is freed. */
static bool
same_digest(const bytea *digest, bytea *other)
{
	bool		same = digest == NULL ? other == NULL : es_digest_equal(digest, other);

	if (other != NULL)
		pfree(other);
	return same;
}

/* ---- what is known of an id ---- */

typedef enum EsIdState
{
	ES_ID_UNKNOWN,
	ES_ID_KNOWN,				/* stored, or remembered */
	ES_ID_FORGOTTEN				/* unknown, though a hidden event has it */
} EsIdState;

typedef struct EsKnownId
{
	EsIdState	state;
	int64		version;
	int64		position;
	const char *differs;		/* how it is not the call's event; NULL: it is */
} EsKnownId;

/* To look ids up in. */
typedef struct EsIds
{
	const EsCatalog *cat;
	Relation	log;
	EsIdLookup *lookup;
	TupleTableSlot *stored;		/* the event that was found last */
	bool		hidden_opened;
	EsLookup   *hidden;			/* NULL: nothing is */
	bool		removed_opened;
	EsLookup   *removed;		/* NULL: nothing is remembered */
} EsIds;

static void
open_ids(EsIds *ids, const EsCatalog *cat, Relation log)
{
	memset(ids, 0, sizeof(EsIds));
	ids->cat = cat;
	ids->log = log;
	ids->lookup = es_id_lookup_open(cat, log, SnapshotSelf);
}

static EsLookup *
hidden_streams(EsIds *ids)
{
	if (!ids->hidden_opened)
		ids->hidden = es_lookup_open_unless_empty(ids->cat->hidden, &ids->cat->hidden_pkey, SnapshotSelf);
	ids->hidden_opened = true;
	return ids->hidden;
}

static EsLookup *
removed_ids(EsIds *ids)
{
	if (!ids->removed_opened)
		ids->removed = es_removed_lookup(ids->cat, SnapshotSelf);
	ids->removed_opened = true;
	return ids->removed;
}

static void
close_ids(EsIds *ids)
{
	es_lookup_close(ids->removed);
	es_lookup_close(ids->hidden);
	es_id_lookup_close(ids->lookup);
}

/* How the call's event is another one than that which has its id; NULL: it is not. */
static const char *
event_difference(const EsAppend *call, const EsCatalog *cat, const EsEvent *event,
				 int64 stream_key, int64 type_key)
{
	const EsEventType *type;

	if (stream_key != call->streams[event->stream].head.key)
		return "It stands in another stream.";
	type = es_dictionary_entry(cat, type_key);
	if (!es_name_equal(type->type, event->type))
		return "It was stored with another type.";
	if (!es_name_equal(type->content_type, event->content_type))
		return "It was stored with another content type.";
	return NULL;
}

static const char other_data[] = "It was stored with other data.";
static const char other_payload[] = "It was stored with another payload.";

/* Is an event that stands in the log one that was taken away, and whose time is over? */
static bool
is_forgotten(EsIds *ids, int64 stream_key, int64 version)
{
	EsHidden	hidden = es_hidden_find(hidden_streams(ids), stream_key);

	return version < hidden.before && es_removed_is_forgotten(hidden.at);
}

/* What is known of an id whose event stands in the log. */
static EsKnownId
known_of_stored(const EsAppend *call, EsIds *ids, const EsEvent *event)
{
	Datum	   *values = ids->stored->tts_values;
	EsKnownId	known = {.state = ES_ID_KNOWN};
	int64		stream_key;

	slot_getallattrs(ids->stored);
	stream_key = DatumGetInt64(values[ES_LOG_COL_STREAM_KEY - 1]);
	known.version = DatumGetInt64(values[ES_LOG_COL_VERSION - 1]);
	known.position = DatumGetInt64(values[ES_LOG_COL_POSITION - 1]);
	if (is_forgotten(ids, stream_key, known.version))
	{
		known.state = ES_ID_FORGOTTEN;
		return known;
	}
	known.differs = event_difference(call, ids->cat, event, stream_key, DatumGetInt64(values[ES_LOG_COL_TYPE_KEY - 1]));
	if (known.differs == NULL && !same_data(values[ES_LOG_COL_DATA - 1], event->data))
		known.differs = other_data;
	if (known.differs == NULL && !same_payload(es_log_payload(ids->stored), event->payload))
		known.differs = other_payload;
	return known;
}

/*
 * What is known of the id of an event.  In the log first: whoever removes it there has
 * written down what is remembered (streams/removed.c).  That can be after the log was
 * looked at, and then is looked at here.
 */
static EsKnownId
look_up_id(const EsAppend *call, EsIds *ids, const EsEvent *event)
{
	EsKnownId	known = {.state = ES_ID_UNKNOWN};
	EsRemoved	removed;

	es_id_lookup_await(ids->lookup, &event->id);
	ids->stored = es_id_lookup(ids->lookup, &event->id);
	if (ids->stored != NULL)
		return known_of_stored(call, ids, event);
	if (!es_removed_find(removed_ids(ids), &event->id, &removed))
		return known;
	known.state = ES_ID_KNOWN;
	known.version = removed.version;
	known.position = removed.position;
	known.differs = event_difference(call, ids->cat, event, removed.stream_key, removed.type_key);
	if (known.differs == NULL && !same_digest(removed.digest, es_digest_json(event->data)))
		known.differs = other_data;
	if (known.differs == NULL && !same_digest(removed.payload_digest, es_digest_bytes(event->payload)))
		known.differs = other_payload;
	pfree(removed.digest);
	if (removed.payload_digest != NULL)
		pfree(removed.payload_digest);
	return known;
}

/* ---- what is known of the call ---- */

/* Where the events of one of the call's streams were stored. */
typedef struct EsSpan
{
	int64		base;			/* version of the first; 0: not known */
	int			n;				/* events so far */
	int			known;			/* which of them is the first that is known */
} EsSpan;

/*
 * Find where each stream's events were stored.  Raises SE003 where an id is known, or was,
 * of another event.
 */
static EsSpan *
find_spans(const EsAppend *call, const EsKnownId *known)
{
	EsSpan	   *spans = palloc0(sizeof(EsSpan) * Max(call->nstreams, 1));

	for (int i = 0; i < call->nevents; i++)
	{
		EsSpan	   *span = &spans[call->events[i].stream];
		int			nth = span->n++;

		if (known[i].state != ES_ID_KNOWN)
			continue;
		if (known[i].differs != NULL)
			raise_taken(&call->events[i], known[i].differs);
		if (span->base == 0)
		{
			span->base = known[i].version - nth;
			span->known = nth;
		}
		if (span->base < 1 || known[i].version != span->base + nth)
			raise_taken(&call->events[i], "The events of the call were not stored one after another in this order.");
	}
	return spans;
}

/* Does an event that is not forgotten stand in the log at a version of a stream? */
static bool
stands_at(EsIds *ids, int64 stream_key, int64 version)
{
	Relation	index = index_open(ids->cat->event_log_stream, AccessShareLock);
	IndexScanDesc scan = es_compat_index_beginscan(ids->log, index, SnapshotSelf, 2);
	TupleTableSlot *event = table_slot_create(ids->log, NULL);
	ScanKeyData keys[2];
	bool		found;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream_key));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(version));
	index_rescan(scan, keys, 2, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, event) &&
		!is_forgotten(ids, stream_key, version);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(event);
	index_close(index, NoLock);
	return found;
}

/* The version of a stream of the call. */
static int64
latest_version(EsIds *ids, const EsStream *stream)
{
	EsVersions *versions = es_versions_open(ids->cat, ids->log, AccessShareLock, SnapshotSelf);
	int64		version = es_version_of(versions, stream);

	es_versions_close(versions);
	return version;
}

/*
 * Can the nth event of a stream in the call have been taken away so long ago that its id is
 * forgotten?  Then it comes before those that are known, for a stream loses its first events
 * first; its version has been used, and nothing stands there.  Where nothing is known of its
 * stream: if that has lost its first event.
 */
static bool
may_be_forgotten(EsIds *ids, const EsStream *stream, const EsSpan *span, int nth)
{
	int64		version = span->base == 0 ? 1 : span->base + nth;

	return (span->base == 0 || nth < span->known) &&
		version <= latest_version(ids, stream) && !stands_at(ids, stream->key, version);
}

/*
 * Say that the call has been carried out, with its old result.  "anchor" is one of its events
 * of which something is known; the positions of a call follow each other.
 */
static void
set_result(EsAppend *call, EsIds *ids, const EsKnownId *known, const EsSpan *spans, int anchor)
{
	int		   *nth = palloc0(sizeof(int) * call->nstreams);

	for (int i = 0; i < call->nevents; i++)
	{
		const EsEvent *event = &call->events[i];
		EsAppendStream *stream = &call->streams[event->stream];
		const EsSpan *span = &spans[event->stream];
		bool		is_known = known[i].state == ES_ID_KNOWN;

		CHECK_FOR_INTERRUPTS();
		if (!is_known && !may_be_forgotten(ids, &stream->head, span, nth[event->stream]))
			raise_taken(&call->events[anchor], "The call repeats only some of its event ids.");
		stream->version = span->base == 0 ? 0 : span->base + nth[event->stream];
		stream->position = is_known ? known[i].position : known[anchor].position + (i - anchor);
		nth[event->stream]++;
	}
	pfree(nth);
}

/*
 * The event is a new one: a hidden event that has its id goes.  One that has gone already,
 * while we waited for whoever removed it, may have been stored anew by him.
 */
static void
make_way(const EsAppend *call, EsIds *ids, const EsEvent *event, const EsKnownId *known)
{
	EsKnownId	now;

	while (known->state == ES_ID_FORGOTTEN &&
		   (now = look_up_id(call, ids, event)).state != ES_ID_UNKNOWN)
	{
		CHECK_FOR_INTERRUPTS();
		if (now.state == ES_ID_KNOWN)
			raise_taken(event, now.differs);
		es_scavenge_give_way(ids->cat, ids->log, ids->stored);
	}
}

/*
 * Has this call been carried out and committed before?  Then its old result is set.  Raises
 * SE003 if its ids were used otherwise.
 */
bool
es_idempotency_is_duplicate(EsAppend *call, const EsCatalog *cat, Relation log)
{
	EsKnownId  *known = MemoryContextAllocHuge(CurrentMemoryContext,
											   sizeof(EsKnownId) * Max(call->nevents, 1));
	EsIds		ids;
	int			anchor = -1;

	open_ids(&ids, cat, log);
	for (int i = 0; i < call->nevents; i++)
	{
		CHECK_FOR_INTERRUPTS();
		known[i] = look_up_id(call, &ids, &call->events[i]);
		if (known[i].state == ES_ID_KNOWN && anchor < 0)
			anchor = i;
	}
	if (anchor >= 0)
		set_result(call, &ids, known, find_spans(call, known), anchor);
	for (int i = 0; anchor < 0 && i < call->nevents; i++)
		make_way(call, &ids, &call->events[i], &known[i]);
	close_ids(&ids);
	pfree(known);
	return anchor >= 0;
}

/*
 * The same where each event is a call of its own: those that were stored before are taken
 * out of the call.  No two of its events have the same id.
 */
void
es_idempotency_drop_duplicates(EsAppend *call, const EsCatalog *cat, Relation log)
{
	EsIds		ids;
	int			kept = 0;

	open_ids(&ids, cat, log);
	for (int i = 0; i < call->nevents; i++)
	{
		EsEvent    *event = &call->events[i];
		EsKnownId	known;

		CHECK_FOR_INTERRUPTS();
		call->current = event;
		known = look_up_id(call, &ids, event);
		if (known.state == ES_ID_KNOWN && known.differs != NULL)
			raise_taken(event, known.differs);
		make_way(call, &ids, event, &known);
		if (known.state != ES_ID_KNOWN)
			call->events[kept++] = *event;
	}
	call->current = NULL;
	close_ids(&ids);
	es_build_keep(call, kept);
}

/*
 * Is one of the call's ids used, or remembered?  Then es_idempotency_is_duplicate must decide,
 * under the streams' locks, whether the call is repeated.
 */
bool
es_idempotency_may_repeat(const EsAppend *call, const EsCatalog *cat, Relation log)
{
	EsIds		ids;
	bool		found = false;

	if (!call->has_ids)
		return false;
	open_ids(&ids, cat, log);
	for (int i = 0; i < call->nevents && !found; i++)
	{
		EsRemoved	removed;

		CHECK_FOR_INTERRUPTS();
		found = es_id_lookup(ids.lookup, &call->events[i].id) != NULL ||
			es_removed_find(removed_ids(&ids), &call->events[i].id, &removed);
	}
	close_ids(&ids);
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
		ScanKeyData key;

		CHECK_FOR_INTERRUPTS();
		wait_for = InvalidTransactionId;
		InitDirtySnapshot(dirty);
		scan = es_compat_index_beginscan(log, id_index, &dirty, 1);
		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&event->id));
		index_rescan(scan, &key, 1, NULL, 0);
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
