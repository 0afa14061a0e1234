/*
 * upcast.c
 *		Showing events of an old shape in a newer one.
 *
 * What is stored never changes; the upcasters (upcaster.c) are applied to what reads,
 * aggregates and projections are given, inline ones too, one after the other until
 * there is none for the event's present type and schema version.  Filters by type take an
 * event by each type that it has on the way: the stored one, those in between, the one shown.
 *
 * The function runs as the owner of the upcaster, restricted (core/role.c), and is
 * looked up once by each call that upcasts.
 *
 * Invariants
 * 1. Around a circle, which registering refuses but other means can make, a chain is
 *    followed no further than there are upcasters.
 * 2. An error names the event.  What follows from it is the reader's business: for a
 *    projection, that of on_error (projections/call.c upcasts within its frame).
 *
 * Locks: none of its own.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "log/change.h"
#include "log/event.h"
#include "streams/upcast.h"

/* ---- filters ---- */

/* Is there an upcaster for events that are stored with this type and schema version? */
bool
es_upcast_is_for(const EsUpcasts *upcasts, EsName type, int32 schema_version)
{
	return es_upcaster_find(upcasts, type, schema_version) != NULL;
}

/*
 * Does an event that is stored with this type and schema version have one of the wanted
 * types on its way?  "upcasts" may be NULL: it has only the type that it is stored with.
 */
bool
es_upcast_passes(const EsUpcasts *upcasts, EsName type, int32 schema_version,
				 const EsName *wanted, int n)
{
	const EsUpcaster *upcaster;

	for (int steps = 0;; steps++)
	{
		for (int i = 0; i < n; i++)
		{
			if (es_name_equal(wanted[i], type))
				return true;
		}
		if (upcasts == NULL || steps == upcasts->n ||
			(upcaster = es_upcaster_find(upcasts, type, schema_version)) == NULL)
			return false;
		type = upcaster->to_type;
		schema_version = upcaster->to_schema;
	}
}

/* The stored types that upcasters are for. */
EsName *
es_upcast_sources(const EsUpcasts *upcasts, int *n)
{
	EsName	   *types = palloc(sizeof(EsName) * upcasts->n);

	for (int i = 0; i < upcasts->n; i++)
		types[i] = upcasts->list[i].type;
	*n = upcasts->n;
	return types;
}

/* ---- calling ---- */

/* The function of an upcaster, looked up once a call; as its owner. */
static FmgrInfo *
function_of(EsUpcasts *upcasts, const EsUpcaster *upcaster)
{
	FmgrInfo  **known = &upcasts->calls[upcaster - upcasts->list];
	Oid			function;

	if (*known != NULL)
		return *known;
	function = es_upcaster_function(upcaster->function);
	es_upcaster_require_execute(function, upcaster->function);
	*known = MemoryContextAllocZero(upcasts->context, sizeof(FmgrInfo));
	fmgr_info_cxt(function, *known, upcasts->context);
	return *known;
}

/* What the function makes of the data, as its owner. */
static Datum
call_upcaster(EsUpcasts *upcasts, const EsUpcaster *upcaster, Datum data, Datum metadata, bool no_metadata)
{
	LOCAL_FCINFO(arguments, 2);
	EsRoleScope scope;
	FmgrInfo   *function;
	volatile Datum result = 0;

	es_role_enter_for_code(&scope, upcaster->carrier.owner, upcaster->search_path);
	function = function_of(upcasts, upcaster);
	InitFunctionCallInfoData(*arguments, function, 2, InvalidOid, NULL, NULL);
	arguments->args[0].value = data;
	arguments->args[0].isnull = false;
	arguments->args[1].value = metadata;
	arguments->args[1].isnull = no_metadata;
	es_activity_begin(ES_UPCASTING);
	PG_TRY();
	{
		if (function->fn_strict && no_metadata)
			arguments->isnull = true;
		else
			result = FunctionCallInvoke(arguments);
	}
	PG_FINALLY();
	{
		es_activity_end(ES_UPCASTING);
	}
	PG_END_TRY();
	es_role_leave(&scope);
	if (arguments->isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("upcaster %s returned null", upcaster->function)));
	return result;
}

static void
upcast_context(void *arg)
{
	const Datum *values = arg;

	errcontext("upcasting the event at position %lld of stream \"%s\"",
			   (long long) DatumGetInt64(values[ES_EVENT_COL_POSITION - 1]),
			   TextDatumGetCString(values[ES_EVENT_COL_STREAM - 1]));
}

static EsName
stored_type(const Datum *values)
{
	return es_name_from_text(values[ES_EVENT_COL_TYPE - 1]);
}

/*
 * Bring an event to its newest shape: "values" are the columns of es_event.  What they
 * become lasts until the next event.
 */
void
es_upcast_event(EsUpcasts *upcasts, Datum *values, bool *isnull)
{
	EsName		type = stored_type(values);
	int32		schema_version = DatumGetInt32(values[ES_EVENT_COL_SCHEMA_VERSION - 1]);
	const EsUpcaster *upcaster = es_upcaster_find(upcasts, type, schema_version);
	ErrorContextCallback callback = {error_context_stack, upcast_context, values};
	MemoryContext old;

	if (upcaster == NULL)
		return;
	if (upcasts->per_event == NULL)
		upcasts->per_event = AllocSetContextCreate(upcasts->context, "eventstore upcast", ALLOCSET_SMALL_SIZES);
	else
		MemoryContextReset(upcasts->per_event);
	old = MemoryContextSwitchTo(upcasts->per_event);
	error_context_stack = &callback;
	for (int steps = 0; steps < upcasts->n && upcaster != NULL; steps++)	/* (1) */
	{
		CHECK_FOR_INTERRUPTS();
		values[ES_EVENT_COL_DATA - 1] = call_upcaster(upcasts, upcaster, values[ES_EVENT_COL_DATA - 1],
											 values[ES_EVENT_COL_METADATA - 1],
											 isnull[ES_EVENT_COL_METADATA - 1]);
		type = upcaster->to_type;
		schema_version = upcaster->to_schema;
		upcaster = es_upcaster_find(upcasts, type, schema_version);
	}
	values[ES_EVENT_COL_TYPE - 1] = PointerGetDatum(cstring_to_text_with_len(type.bytes, type.len));
	values[ES_EVENT_COL_SCHEMA_VERSION - 1] = Int32GetDatum(schema_version);
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old);
}

/*
 * The same for a row of es_event: the row itself, or one that lasts until the next.
 */
TupleTableSlot *
es_upcast_slot(EsUpcasts *upcasts, TupleTableSlot *event)
{
	MemoryContext old;

	slot_getallattrs(event);
	if (es_upcaster_find(upcasts, stored_type(event->tts_values),
			 DatumGetInt32(event->tts_values[ES_EVENT_COL_SCHEMA_VERSION - 1])) == NULL)
		return event;
	if (upcasts->slot == NULL)
	{
		old = MemoryContextSwitchTo(upcasts->context);
		upcasts->slot = MakeSingleTupleTableSlot(event->tts_tupleDescriptor, &TTSOpsVirtual);
		MemoryContextSwitchTo(old);
	}
	ExecClearTuple(upcasts->slot);
	memcpy(upcasts->slot->tts_values, event->tts_values, sizeof(Datum) * ES_EVENT_COLS);
	memcpy(upcasts->slot->tts_isnull, event->tts_isnull, sizeof(bool) * ES_EVENT_COLS);
	es_upcast_event(upcasts, upcasts->slot->tts_values, upcasts->slot->tts_isnull);
	return ExecStoreVirtualTuple(upcasts->slot);
}
