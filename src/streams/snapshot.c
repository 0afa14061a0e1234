/*
 * snapshot.c
 *		The states of streams that were kept: es_save_snapshot, es_load.
 *
 * A stream has one snapshot of each kind: the newest that was saved.  It is a shortcut
 * and nothing else: whatever is loaded with it must be the same without.
 *
 * Invariants
 * 1. A snapshot is that of a version which the stream had when it was saved, and is
 *    replaced by none of an older version, however savers race.
 * 2. What was deleted does not come back by a snapshot: it is saved under the stream's
 *    lock, which the deletion, that removes it, has to take as well.
 * 3. es_load reads snapshot, events and version with one snapshot of the database, the
 *    caller's: the version is that of the last event it gives, and what the next append
 *    expects.
 * 4. A snapshot is used if all events after it are shown: else it would lead to a
 *    state that the stream never had.
 *
 * Locks: AccessShare on event_log to load; to save, those of lifecycle.c.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/args.h"
#include "core/spi.h"
#include "read/rows.h"
#include "streams/lifecycle.h"
#include "streams/snapshot.h"

PG_FUNCTION_INFO_V1(es_save_snapshot);
PG_FUNCTION_INFO_V1(es_load);

static EsStatement save = {
	"INSERT INTO eventstore.snapshot AS s (stream_key, kind, version, state, saved_at)"
	" VALUES ($1, $2, $3, $4, pg_catalog.clock_timestamp())"
	" ON CONFLICT (stream_key, kind) DO UPDATE"
	" SET version = excluded.version, state = excluded.state, saved_at = excluded.saved_at"
	" WHERE s.version <= excluded.version",		/* (1) */
	{INT8OID, TEXTOID, INT8OID, JSONBOID}
};

static EsStatement find = {
	"SELECT version, state FROM eventstore.snapshot"
	" WHERE stream_key = $1 AND kind = $2 AND version > $3 AND version <= $4 AND saved_at <= $5",
	{INT8OID, TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID}
};

/* Snapshots up to this version are of events that were deleted (2). */
static int64
deleted_up_to(const EsStream *stream)
{
	if (stream->tombstoned)
		return PG_INT64_MAX;
	return stream->deleted ? stream->used_version : 0;
}

/*
 * The snapshot of a kind, as the active snapshot of the database sees it.
 */
EsSnapshot
es_snapshot_find(const EsStream *stream, const char *kind, EsSnapshotLimit limit)
{
	Datum		values[5] = {
		Int64GetDatum(stream->key), CStringGetTextDatum(kind), Int64GetDatum(deleted_up_to(stream)),
		Int64GetDatum(limit.version), TimestampTzGetDatum(limit.saved_at)
	};
	MemoryContext context = CurrentMemoryContext;
	EsSnapshot	found = {0};
	EsSpi		spi;

	es_spi_begin(&spi);
	if (es_spi_see(&find, values) > 0)
	{
		bool		isnull;
		MemoryContext old;

		found.version = DatumGetInt64(es_spi_value(1, 1, &isnull));
		old = MemoryContextSwitchTo(context);
		found.state = PointerGetDatum(PG_DETOAST_DATUM_COPY(es_spi_value(1, 2, &isnull)));
		MemoryContextSwitchTo(old);
	}
	es_spi_end(&spi);
	return found;
}

/*
 * The events after a kept state, up to the stream's version "last".  If some are
 * missing (4), all that there are, and *kept is none.
 */
EsBatch *
es_snapshot_events(const EsCatalog *cat, const EsStream *stream, int64 last,
				   Snapshot snapshot, EsSnapshot *kept)
{
	EsBatch    *batch = es_batch_of_stream(cat, stream, kept->version, last, snapshot);

	if (kept->version == 0 || batch->count == last - kept->version)
		return batch;
	es_batch_free(batch);
	kept->version = 0;
	return es_batch_of_stream(cat, stream, 0, last, snapshot);
}

/*
 * Look a stream up, and its version, as a snapshot of the database sees them; 0: none.
 */
int64
es_snapshot_stream(const EsCatalog *cat, Snapshot snapshot, EsStream *stream)
{
	EsStreams  *streams = es_streams_open(cat, AccessShareLock, snapshot);
	int64		version = 0;

	if (es_stream_find(streams, stream))
	{
		Relation	log = table_open(cat->event_log, AccessShareLock);
		EsVersions *versions = es_versions_open(cat, log, AccessShareLock, snapshot);

		version = es_version_of(versions, stream);
		es_versions_close(versions);
		table_close(log, NoLock);
	}
	es_streams_close(streams);
	return version;
}

static char *
kind_argument(FunctionCallInfo fcinfo, int argno)
{
	EsName		kind = es_arg_name(fcinfo, argno, "kind");

	es_name_check(kind, "kind");
	return pnstrdup(kind.bytes, kind.len);
}

/*
 * es_save_snapshot(stream, version, state, kind)
 */
Datum
es_save_snapshot(PG_FUNCTION_ARGS)
{
	EsName		name = es_arg_name(fcinfo, 0, "stream");
	EsHeldStream held = {0};
	char	   *kind;
	int64		version;
	Datum		values[4];
	EsSpi		spi;

	es_arg_require(fcinfo, 1, "version");
	version = PG_GETARG_INT64(1);
	if (version < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("version must be at least 1")));
	es_arg_require(fcinfo, 2, "state");
	kind = kind_argument(fcinfo, 3);

	es_lifecycle_hold(&held, "es_save_snapshot()", name);	/* (2) */
	es_streams_close(held.streams);
	if (held.stream.tombstoned)
		es_stream_refuse_tombstoned(&held.stream);
	if (version > held.version)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("version %lld is beyond the end of stream \"" ES_NAME_FORMAT "\"",
						(long long) version, ES_NAME_ARGS(name)),
				 errdetail("Its version is %lld.", (long long) held.version)));
	if (version <= deleted_up_to(&held.stream))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the events of stream \"" ES_NAME_FORMAT "\" up to version %lld have been deleted",
						ES_NAME_ARGS(name), (long long) held.stream.used_version)));

	values[0] = Int64GetDatum(held.stream.key);
	values[1] = CStringGetTextDatum(kind);
	values[2] = Int64GetDatum(version);
	values[3] = PG_GETARG_DATUM(2);
	es_spi_begin(&spi);
	(void) es_spi_run(&save, values, NULL);
	es_spi_end(&spi);
	PG_RETURN_VOID();
}

/* ---- events as JSON ---- */

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = (char *) key;
	value.val.string.len = strlen(key);
	(void) pushJsonbValue(state, WJB_KEY, &value);
}

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, const char *bytes, int len)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = (char *) bytes;
	value.val.string.len = len;
	(void) pushJsonbValue(state, token, &value);
}

static void
push_null(JsonbParseState **state)
{
	JsonbValue	value = {.type = jbvNull};

	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_number(JsonbParseState **state, int64 number)
{
	JsonbValue	value = {.type = jbvNumeric};

	value.val.numeric = int64_to_numeric(number);
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_text(JsonbParseState **state, Datum text)
{
	EsName		name = es_name_from_text(text);

	push_string(state, WJB_VALUE, name.bytes, name.len);
}

static void
push_json(JsonbParseState **state, Datum json)
{
	Jsonb	   *jsonb = DatumGetJsonbP(json);
	JsonbValue	value = {.type = jbvBinary};

	value.val.binary.data = &jsonb->root;
	value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_tags(JsonbParseState **state, Datum tags)
{
	Datum	   *values;
	bool	   *nulls;
	int			n;

	es_array_read(DatumGetArrayTypeP(tags), TEXTOID, "tags", &values, &nulls, &n);
	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
	{
		EsName		tag = es_name_from_text(values[i]);

		push_string(state, WJB_ELEM, tag.bytes, tag.len);
	}
	(void) pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

/* A column of es_event, as to_jsonb() would have it. */
static void
push_column(JsonbParseState **state, Oid type, Datum value)
{
	char		moment[MAXDATELEN + 1];
	char	   *uuid;

	switch (type)
	{
		case INT8OID:
			push_number(state, DatumGetInt64(value));
			break;
		case INT4OID:
			push_number(state, DatumGetInt32(value));
			break;
		case JSONBOID:
			push_json(state, value);
			break;
		case TEXTARRAYOID:
			push_tags(state, value);
			break;
		case UUIDOID:
			uuid = DatumGetCString(DirectFunctionCall1(uuid_out, value));
			push_string(state, WJB_VALUE, uuid, strlen(uuid));
			break;
		case TIMESTAMPTZOID:
			(void) JsonEncodeDateTime(moment, value, TIMESTAMPTZOID, NULL);
			push_string(state, WJB_VALUE, pstrdup(moment), strlen(moment));
			break;
		default:
			push_text(state, value);
	}
}

static void
push_event(JsonbParseState **state, TupleTableSlot *event)
{
	TupleDesc	desc = event->tts_tupleDescriptor;

	slot_getallattrs(event);
	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		push_key(state, NameStr(column->attname));
		if (event->tts_isnull[i])
			push_null(state);
		else
			push_column(state, column->atttypid, event->tts_values[i]);
	}
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static Datum
events_as_json(EsBatch *batch)
{
	JsonbParseState *state = NULL;
	TupleTableSlot *event = es_batch_slot(batch);

	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	while (es_batch_next(batch, event))
	{
		TupleTableSlot *row = MakeSingleTupleTableSlot(batch->desc, &TTSOpsMinimalTuple);

		CHECK_FOR_INTERRUPTS();
		ExecCopySlot(row, event);	/* pushed values point into it */
		push_event(&state, row);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

/*
 * es_load(stream, kind) → (snapshot_version, state, version, events)
 */
Datum
es_load(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	EsStream	stream = {.name = es_arg_name(fcinfo, 0, "stream")};
	char	   *kind = kind_argument(fcinfo, 1);
	Snapshot	snapshot = GetActiveSnapshot();	/* (3) */
	EsSnapshot	kept = {0};
	EsBatch    *batch;
	int64		version;
	TupleDesc	desc;
	Datum		values[4];
	bool		isnull[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	es_rows_refuse_row_security(cat);
	version = es_snapshot_stream(cat, snapshot, &stream);
	if (stream.key != 0)
		kept = es_snapshot_find(&stream, kind, (EsSnapshotLimit) {version, DT_NOEND});
	batch = es_snapshot_events(cat, &stream, version, snapshot, &kept);
	isnull[0] = isnull[1] = kept.version == 0;
	values[0] = Int64GetDatum(kept.version);
	values[1] = kept.state;
	values[2] = Int64GetDatum(version);
	values[3] = events_as_json(batch);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull)));
}
