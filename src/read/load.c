/*
 * load.c
 *		A stream in one row: es_load.
 *
 * Invariants
 * 1. es_load reads snapshot, events and version with one snapshot of the database, the
 *    caller's: the version is that of the last event it gives, and what the next append
 *    expects.
 * 2. A kept state is used if all events after it are shown: else it would lead to a
 *    state that the stream never had.
 *
 * Locks: AccessShare on event_log.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/base64.h"
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
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/args.h"
#include "log/version.h"
#include "read/load.h"
#include "read/rows.h"

PG_FUNCTION_INFO_V1(es_load);

/*
 * The events after a kept state, up to the stream's version "last".  If some are
 * missing (2), all that there are, and *kept is none.
 */
EsBatch *
es_load_events(const EsCatalog *cat, const EsStream *stream, int64 last,
			   Snapshot snapshot, EsKept *kept)
{
	EsBatch    *batch = es_batch_of_stream(cat, stream, kept->version, last, snapshot);

	if (kept->version == 0 || batch->count == last - kept->version)
		return batch;
	es_batch_free(batch);
	kept->version = 0;
	return es_batch_of_stream(cat, stream, 0, last, snapshot);
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

/* Bytes in base64, without line breaks. */
static void
push_bytes(JsonbParseState **state, Datum bytes)
{
	bytea	   *value = DatumGetByteaPP(bytes);
	int			max = pg_b64_enc_len(VARSIZE_ANY_EXHDR(value));
	char	   *base64 = palloc(max);
	int			len = pg_b64_encode((void *) VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), base64, max);

	if (len < 0)
		elog(ERROR, "could not encode a payload as base64");
	push_string(state, WJB_VALUE, base64, len);
}

/* A column of es_event, as to_jsonb() would have it; but bytes are in base64. */
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
		case BYTEAOID:
			push_bytes(state, value);
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
	char	   *kind = es_snapshot_kind(fcinfo, 1);
	Snapshot	snapshot = GetActiveSnapshot();	/* (1) */
	EsKept	kept = {0};
	EsBatch    *batch;
	int64		version;
	TupleDesc	desc;
	Datum		values[4];
	bool		isnull[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	es_rows_refuse_row_security(cat);
	version = es_version_look_up(cat, snapshot, &stream);
	if (stream.key != 0)
		kept = es_snapshot_find(&stream, kind, (EsKeptLimit) {version, DT_NOEND});
	batch = es_load_events(cat, &stream, version, snapshot, &kept);
	isnull[0] = isnull[1] = kept.version == 0;
	values[0] = Int64GetDatum(kept.version);
	values[1] = kept.state;
	values[2] = Int64GetDatum(version);
	values[3] = events_as_json(batch);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull)));
}
