/*
 * call.c
 *		The SQL functions that append: from arguments to an EsAppend, and from its
 *		result to rows.
 *
 * All arguments are checked, here and in build.c, before any lock is taken.  An error says
 * which event of the call it is about in its CONTEXT.
 *
 * Memory: everything lives in the caller's context, for the length of the call.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/tuplestore.h"

#include "append/build.h"
#include "append/call.h"
#include "append/condition.h"
#include "append/execute.h"
#include "append/json.h"
#include "append/payload.h"
#include "core/args.h"
#include "core/call_scan.h"
#include "log/version.h"

PG_FUNCTION_INFO_V1(es_append);
PG_FUNCTION_INFO_V1(es_append_events);
PG_FUNCTION_INFO_V1(es_append_batch);
PG_FUNCTION_INFO_V1(es_check_version);

/* Which event an error is about. */
typedef struct EventContext
{
	const char *function;
	int			event;			/* from 0; -1: none in particular */
} EventContext;

static void
event_context(void *arg)
{
	EventContext *context = arg;

	if (context->event >= 0)
		errcontext("event %d of %s", context->event + 1, context->function);
}

/* The stream of a call that has only one: its name is checked before anything else. */
static void
set_only_stream(EsAppend *call, EsName name)
{
	call->streams = palloc(sizeof(EsAppendStream));
	es_build_stream(call, name);
}

/* All events of the call belong to its only stream. */
static void
link_all_events(EsAppend *call)
{
	for (int i = 0; i < call->nevents; i++)
		es_build_link(call, i, 0);
}

/* ---- results ---- */

/* (version, position, duplicate) of the call's only stream. */
static void
result_columns(const EsAppend *call, Datum *values, bool *isnull)
{
	values[0] = Int64GetDatum(call->streams[0].version);
	values[1] = Int64GetDatum(call->streams[0].position);
	values[2] = BoolGetDatum(call->duplicate);
	isnull[0] = isnull[1] = isnull[2] = call->nevents == 0;
}

/* The result of a function as a row. */
static Datum
result_row(FunctionCallInfo fcinfo, EsCallRow function)
{
	static TupleDesc desc = NULL;
	Datum		values[ES_CALL_ROW_COLUMNS];
	bool		isnull[ES_CALL_ROW_COLUMNS];

	/* The same for every call: made once a backend. */
	if (desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		TupleDesc	made = CreateTemplateTupleDesc(3);

		TupleDescInitEntry(made, 1, "version", INT8OID, -1, 0);
		TupleDescInitEntry(made, 2, "position", INT8OID, -1, 0);
		TupleDescInitEntry(made, 3, "duplicate", BOOLOID, -1, 0);
		desc = BlessTupleDesc(made);
		MemoryContextSwitchTo(old);
	}
	function(fcinfo, values, isnull);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, isnull));
}

/* ---- es_append ---- */

/*
 * es_append(stream, type, data, expected_version, metadata, event_id, tags,
 *			 schema_version, condition, payload, content_type)
 *		→ (version, position, duplicate)
 */
static void
append_event(FunctionCallInfo fcinfo, Datum *values, bool *isnull)
{
	EsAppend	call = {.function = "es_append()"};
	EsEvent    *event;

	set_only_stream(&call, es_arg_name(fcinfo, 0, "stream"));
	event = es_build_events(&call, 1);
	event->type = es_arg_name(fcinfo, 1, "type");
	es_arg_require(fcinfo, 2, "data");
	event->data = JsonbPGetDatum(PG_GETARG_JSONB_P(2));
	if (!PG_ARGISNULL(3))
		es_build_expected_version(event, PG_GETARG_INT64(3));
	es_build_metadata(&call, event, PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4));
	call.has_ids = !PG_ARGISNULL(5);
	if (call.has_ids)
		event->id = *PG_GETARG_UUID_P(5);
	if (!PG_ARGISNULL(6))
	{
		Datum	   *tags;
		bool	   *nulls;
		int			n;

		es_array_read(PG_GETARG_ARRAYTYPE_P(6), TEXTOID, "tags", &tags, &nulls, &n);
		es_build_tags(event, tags, nulls, n);
	}
	es_arg_require(fcinfo, 7, "schema_version");
	es_build_schema_version(event, PG_GETARG_INT32(7));
	call.condition = es_condition_argument(fcinfo, 8);
	es_payload_set(event, PG_ARGISNULL(9) ? 0 : PG_GETARG_DATUM(9),
				PG_ARGISNULL(10) ? 0 : PG_GETARG_DATUM(10));
	es_build_check(event);
	link_all_events(&call);

	es_append_execute(&call);
	result_columns(&call, values, isnull);
}

Datum
es_append(PG_FUNCTION_ARGS)
{
	return result_row(fcinfo, append_event);
}

/* ---- es_append_events ---- */

static void
set_event_from_json(EsAppend *call, EsEvent *event, const EsJsonEvent *json)
{
	if (json->type.bytes == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("an event needs a \"type\"")));
	event->type = json->type;
	event->data = JsonbPGetDatum(json->data);
	es_build_metadata(call, event, json->metadata);
	es_build_tags(event, json->tags, NULL, json->ntags);
	es_build_schema_version(event, json->schema_version);
	es_payload_set(event, json->payload, json->content_type);
	event->id = json->id;
	es_build_check(event);
}

/*
 * es_append_events(stream, events, expected_version, condition)
 *		→ (version, position, duplicate)
 */
static void
append_events(FunctionCallInfo fcinfo, Datum *values, bool *isnull)
{
	EsAppend	call = {.function = "es_append_events()"};
	EventContext context = {"es_append_events()", -1};
	ErrorContextCallback callback = {error_context_stack, event_context, &context};
	EsJsonEvents *json;
	int			with_id = 0;

	set_only_stream(&call, es_arg_name(fcinfo, 0, "stream"));
	es_arg_require(fcinfo, 1, "events");
	json = es_json_events_begin(PG_GETARG_JSONB_P(1));
	if (!PG_ARGISNULL(2))
	{
		call.expects = true;
		call.expected_version = PG_GETARG_INT64(2);
		es_version_check_expected(call.expected_version);
	}
	call.condition = es_condition_argument(fcinfo, 3);
	es_build_events(&call, es_json_events_count(json));

	error_context_stack = &callback;
	for (context.event = 0; context.event < call.nevents; context.event++)
	{
		EsJsonEvent event;

		CHECK_FOR_INTERRUPTS();
		es_json_events_next(json, &event);
		set_event_from_json(&call, &call.events[context.event], &event);
		with_id += event.has_id;
	}
	error_context_stack = callback.previous;

	call.has_ids = with_id > 0;
	if (with_id != 0 && with_id != call.nevents)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("either all events of a call have an event_id or none")));
	link_all_events(&call);

	/* Without events and without a version to check there is nothing to do. */
	if (call.nevents > 0 || call.expects || call.condition != NULL)
		es_append_execute(&call);
	result_columns(&call, values, isnull);
}

Datum
es_append_events(PG_FUNCTION_ARGS)
{
	return result_row(fcinfo, append_events);
}

/* ---- es_append_batch ---- */

/* An array argument of es_append_batch. */
typedef struct BatchColumn
{
	Datum	   *values;
	bool	   *nulls;
	bool		given;
} BatchColumn;

static BatchColumn
read_column(FunctionCallInfo fcinfo, int argno, Oid element, const char *name,
			bool required, int *n)
{
	BatchColumn column = {0};
	int			length;

	if (required)
		es_arg_require(fcinfo, argno, name);
	if (PG_ARGISNULL(argno))
		return column;
	es_array_read(PG_GETARG_ARRAYTYPE_P(argno), element, name,
				  &column.values, &column.nulls, &length);
	column.given = true;
	if (argno == 0)
		*n = length;
	else if (length != *n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has %d elements, streams has %d", name, length, *n)));
	return column;
}

static bool
has_value(const BatchColumn *column, int i)
{
	return column->given && !column->nulls[i];
}

static Datum
required_value(const BatchColumn *column, int i, const char *name)
{
	if (column->nulls[i])
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not contain null", name)));
	return column->values[i];
}

static void
set_batch_event(const EsAppend *call, EsEvent *event, int i, const BatchColumn *types, const BatchColumn *data,
				const BatchColumn *expected, const BatchColumn *metadata,
				const BatchColumn *created_at, const BatchColumn *tags,
				const BatchColumn *schema_versions, const BatchColumn *payloads,
				const BatchColumn *content_types)
{
	event->type = es_name_from_text(required_value(types, i, "types"));
	event->data = JsonbPGetDatum(DatumGetJsonbP(required_value(data, i, "data")));
	if (has_value(expected, i))
		es_build_expected_version(event, DatumGetInt64(expected->values[i]));
	es_build_metadata(call, event, has_value(metadata, i) ? DatumGetJsonbP(metadata->values[i]) : NULL);
	if (has_value(created_at, i))
		es_build_created_at(event, DatumGetTimestampTz(created_at->values[i]));
	if (has_value(tags, i))
	{
		int			n;
		Datum	   *texts = es_json_tags(DatumGetJsonbP(tags->values[i]), &n);

		es_build_tags(event, texts, NULL, n);
	}
	if (has_value(schema_versions, i))
		es_build_schema_version(event, DatumGetInt32(schema_versions->values[i]));
	es_payload_set(event, has_value(payloads, i) ? payloads->values[i] : 0,
				has_value(content_types, i) ? content_types->values[i] : 0);
	es_build_check(event);
}

static void
return_streams(FunctionCallInfo fcinfo, const EsAppend *call)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	for (int i = 0; i < call->nstreams; i++)
	{
		const EsAppendStream *stream = &call->streams[i];
		Datum		values[4] = {
			PointerGetDatum(cstring_to_text_with_len(stream->head.name.bytes, stream->head.name.len)),
			Int64GetDatum(stream->version), Int64GetDatum(stream->position),
		BoolGetDatum(call->duplicate)};
		bool		isnull[4] = {false, stream->version == 0};	/* forgotten: idempotency.c */

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
		pfree(DatumGetPointer(values[0]));
	}
}

/*
 * es_append_batch(streams, types, data, expected_versions, metadata, event_ids,
 *				   created_at, tags, schema_versions, condition, payloads, content_types)
 *		→ SETOF (stream, version, position, duplicate)
 */
Datum
es_append_batch(PG_FUNCTION_ARGS)
{
	EsAppend	call = {.function = "es_append_batch()"};
	EventContext context = {"es_append_batch()", -1};
	ErrorContextCallback callback = {error_context_stack, event_context, &context};
	EsStreamTable table;
	int			n = 0;
	int			with_id = 0;
	BatchColumn streams = read_column(fcinfo, 0, TEXTOID, "streams", true, &n);
	BatchColumn types = read_column(fcinfo, 1, TEXTOID, "types", true, &n);
	BatchColumn data = read_column(fcinfo, 2, JSONBOID, "data", true, &n);
	BatchColumn expected = read_column(fcinfo, 3, INT8OID, "expected_versions", false, &n);
	BatchColumn metadata = read_column(fcinfo, 4, JSONBOID, "metadata", false, &n);
	BatchColumn ids = read_column(fcinfo, 5, UUIDOID, "event_ids", false, &n);
	BatchColumn created_at = read_column(fcinfo, 6, TIMESTAMPTZOID, "created_at", false, &n);
	BatchColumn tags = read_column(fcinfo, 7, JSONBOID, "tags", false, &n);
	BatchColumn schema_versions = read_column(fcinfo, 8, INT4OID, "schema_versions", false, &n);
	BatchColumn payloads = read_column(fcinfo, 10, BYTEAOID, "payloads", false, &n);
	BatchColumn content_types = read_column(fcinfo, 11, TEXTOID, "content_types", false, &n);

	call.condition = es_condition_argument(fcinfo, 9);
	InitMaterializedSRF(fcinfo, 0);
	es_build_events(&call, n);
	es_build_streams(&call, &table, n);

	error_context_stack = &callback;
	for (int i = context.event = 0; i < n; context.event = ++i)
	{
		EsEvent    *event = &call.events[i];

		CHECK_FOR_INTERRUPTS();
		set_batch_event(&call, event, i, &types, &data, &expected, &metadata, &created_at,
						&tags, &schema_versions, &payloads, &content_types);
		if (has_value(&ids, i))
		{
			event->id = *DatumGetUUIDP(ids.values[i]);
			with_id++;
		}
		es_build_link(&call, i, es_build_find_stream(&call, &table,
													 es_name_from_text(required_value(&streams, i, "streams"))));
	}
	error_context_stack = callback.previous;

	call.has_ids = with_id > 0;
	if (with_id != 0 && with_id != n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("either all events of a call have an event id or none")));
	if (n > 0 || call.condition != NULL)
		es_append_execute(&call);
	return_streams(fcinfo, &call);
	PG_RETURN_NULL();
}

/* ---- es_check_version ---- */

/*
 * es_check_version(stream, expected_version) → bigint
 */
Datum
es_check_version(PG_FUNCTION_ARGS)
{
	EsAppend	call = {.function = "es_check_version()"};

	set_only_stream(&call, es_arg_name(fcinfo, 0, "stream"));
	call.expects = !PG_ARGISNULL(1);
	if (call.expects)
	{
		call.expected_version = PG_GETARG_INT64(1);
		es_version_check_expected(call.expected_version);
	}
	es_append_execute(&call);
	PG_RETURN_INT64(call.streams[0].version);
}

/* ---- as nodes ---- */

void
es_append_init(void)
{
	static const EsCallHow event = {append_event};
	static const EsCallHow events = {append_events};
	static const EsCallHow batch = {NULL};
	static const EsFromFunction functions[] = {
		{"es_append", es_append, true, es_call_scan_paths, &event},
		{"es_append_events", es_append_events, true, es_call_scan_paths, &events},
		{"es_append_batch", es_append_batch, true, es_call_scan_paths, &batch},
	};

	es_from_register(functions, lengthof(functions));
}
