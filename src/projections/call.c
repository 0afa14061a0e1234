/*
 * call.c
 *		Running the code of a projection: a query once a batch, a handler or a
 *		reducer once an event.
 *
 * It runs as the owner of the projection (core/role.c), with the search_path of the
 * session that created it.  Whatever it sets ends with it.
 *
 * Invariants
 * 1. A frame is on the stack while code runs.  It says which event is being applied:
 *    to the error message, to whoever catches the error (es_call_failed_position),
 *    and to the events that the code appends (es_call_cause).
 * 2. A projection's code may append, and an inline projection may be run by that: at
 *    most MAX_DEPTH frames nest.
 * 3. Each event sees what the one before has written: the command counter moves on
 *    in between.
 * 4. No plan or function is used that was looked up for another definition: an entry
 *    of the plan cache is compared before use.
 *
 * Locks: those of the code.
 * Crash: everything belongs to the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "log/change.h"
#include "log/event.h"
#include "projections/call.h"
#include "projections/code.h"
#include "projections/figures.h"
#include "projections/state.h"
#include "projections/turn.h"
#include "read/rows.h"

#define MAX_DEPTH			16

/* A batch smaller than this shares a plan with the next one of its size. */
#define SMALL_BATCH			100
#define MAX_PLANS			256

typedef struct Frame
{
	const EsProjection *projection;
	const EsBatch *batch;		/* NULL: its reset is run */
	int64		position;		/* of the event being applied; 0: none alone */
	TupleTableSlot *event;		/* the same; NULL: none alone */
	struct Frame *below;
	int			depth;
} Frame;

static Frame *top = NULL;
static int64 failed_position = 0;

/* The position of the event whose application raised the last error; 0: no single one. */
int64
es_call_failed_position(void)
{
	return failed_position;
}

/* From here on an error is about no event, until one is applied. */
void
es_call_forget_failure(void)
{
	failed_position = 0;
}

static void
frame_context(void *arg)
{
	const Frame *frame = arg;

	if (frame->event != NULL)
	{
		bool		isnull;
		Datum		stream = slot_getattr(frame->event, ES_EVENT_COL_STREAM, &isnull);

		errcontext("projection \"%s\", event at position %lld of stream \"%s\"",
				   frame->projection->name, (long long) frame->position,
				   TextDatumGetCString(stream));
	}
	else if (frame->batch != NULL)
		errcontext("projection \"%s\", %lld events up to position %lld", frame->projection->name,
				   (long long) frame->batch->count, (long long) frame->batch->upto);
	else
		errcontext("reset of projection \"%s\"", frame->projection->name);
}

/* A JSON object of one text value. */
static Datum
object_of(const char *key, Datum text_value)
{
	LOCAL_FCINFO(call, 2);
	Datum		keys[1] = {CStringGetTextDatum(key)};
	Datum		values[1] = {text_value};

	InitFunctionCallInfoData(*call, NULL, 2, InvalidOid, NULL, NULL);
	call->args[0].value = PointerGetDatum(construct_array(keys, 1, TEXTOID, -1, false, TYPALIGN_INT));
	call->args[0].isnull = false;
	call->args[1].value = PointerGetDatum(construct_array(values, 1, TEXTOID, -1, false, TYPALIGN_INT));
	call->args[1].isnull = false;
	return jsonb_object_two_arg(call);
}

/*
 * What an event appended by the projection that is running carries in its
 * metadata: which event caused it, and the correlation id of that.  NULL: no
 * projection is running, or no single event is the cause.
 */
Jsonb *
es_call_cause(void)
{
	bool		isnull;
	Datum		metadata;
	Datum		cause;
	JsonbValue *correlation;
	Datum		id;

	if (top == NULL || top->event == NULL)
		return NULL;
	id = slot_getattr(top->event, ES_EVENT_COL_EVENT_ID, &isnull);
	cause = object_of("causation_id",
					  CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(uuid_out, id))));
	metadata = slot_getattr(top->event, ES_EVENT_COL_METADATA, &isnull);
	if (!isnull)
	{
		correlation = getKeyJsonValueFromContainer(&DatumGetJsonbP(metadata)->root,
												   "correlation_id", strlen("correlation_id"), NULL);
		if (correlation != NULL && correlation->type == jbvString)
			cause = DirectFunctionCall2(jsonb_concat, cause,
										object_of("correlation_id",
												  PointerGetDatum(cstring_to_text_with_len(correlation->val.string.val,
																						   correlation->val.string.len))));
	}
	return DatumGetJsonbP(cause);
}

/* ---- as whom ---- */

static void
enter_owner(const EsProjection *projection, EsRoleScope *scope)
{
	es_definition_require_owner(projection);
	es_role_enter_for_code(scope, projection->carrier.owner, projection->search_path);
}

/* ---- the query form ---- */

typedef struct PlanKey
{
	Oid			table;			/* which store's projection */
	int			id;
} PlanKey;

typedef struct CachedQuery
{
	PlanKey		key;
	char	   *code;			/* what the plan is of (4) */
	char	   *search_path;
	SPIPlanPtr	plan;
} CachedQuery;

static HTAB *queries = NULL;

static void
forget_query(CachedQuery *entry)
{
	if (entry->plan != NULL)
		SPI_freeplan(entry->plan);
	if (entry->code != NULL)
		pfree(entry->code);
	if (entry->search_path != NULL)
		pfree(entry->search_path);
	(void) hash_search(queries, &entry->key, HASH_REMOVE, NULL);
}

static void
forget_queries(void)
{
	HASH_SEQ_STATUS all;
	CachedQuery *entry;

	hash_seq_init(&all, queries);
	while ((entry = hash_seq_search(&all)) != NULL)
		forget_query(entry);
}

static SPIPlanPtr
prepare_query(const char *code)
{
	SPIPlanPtr	plan = SPI_prepare(code, 0, NULL);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	return plan;
}

/* A plan for small batches, kept. */
static SPIPlanPtr
kept_plan(const EsProjection *projection, const EsCatalog *cat)
{
	PlanKey		key = {cat->projection, projection->id};
	CachedQuery *entry;
	SPIPlanPtr	plan;
	char	   *code;
	char	   *search_path;

	if (queries == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(PlanKey), .entrysize = sizeof(CachedQuery),
		.hcxt = TopMemoryContext};

		queries = hash_create("eventstore queries", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(queries, &key, HASH_FIND, NULL);
	if (entry != NULL && strcmp(entry->code, projection->code) == 0 &&
		strcmp(entry->search_path, projection->search_path) == 0)
		return entry->plan;

	plan = prepare_query(projection->code);
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_keepplan failed");
	if (entry != NULL)
		forget_query(entry);
	else if (hash_get_num_entries(queries) >= MAX_PLANS && top->below == NULL)
		forget_queries();		/* not those that are running */
	code = MemoryContextStrdup(TopMemoryContext, projection->code);
	search_path = MemoryContextStrdup(TopMemoryContext, projection->search_path);
	entry = hash_search(queries, &key, HASH_ENTER, NULL);
	entry->code = code;
	entry->search_path = search_path;
	entry->plan = plan;
	return plan;
}

static void
run_query(const EsProjection *projection, const EsCatalog *cat, EsBatch *batch)
{
	EphemeralNamedRelationData relation = {
		.md = {
			.name = "es_batch",
			.reliddesc = InvalidOid,
			.tupdesc = batch->desc,
			.enrtype = ENR_NAMED_TUPLESTORE,
			.enrtuples = batch->count
		},
		.reldata = batch->store
	};
	SPIPlanPtr	plan;
	int			result;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	result = SPI_register_relation(&relation);
	if (result != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed: %s", SPI_result_code_string(result));
	plan = batch->count < SMALL_BATCH ? kept_plan(projection, cat) : prepare_query(projection->code);
	result = SPI_execute_plan(plan, NULL, NULL, false, 0);
	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the query of a projection cannot be run: %s", SPI_result_code_string(result))));
	SPI_finish();
}

/* ---- the forms of a function ---- */

static FmgrInfo *
look_up_function(const EsProjection *projection, const EsCatalog *cat)
{
	FmgrInfo   *function = palloc0(sizeof(FmgrInfo));
	Oid			oid = es_code_function(projection->code, projection->form, cat->event, false);
	AclResult	allowed = es_compat_function_acl(oid, ACL_EXECUTE);

	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_FUNCTION, projection->code);
	fmgr_info(oid, function);
	return function;
}

static void
call_handler(FmgrInfo *handler, Datum event)
{
	LOCAL_FCINFO(call, 1);

	InitFunctionCallInfoData(*call, handler, 1, InvalidOid, NULL, NULL);
	call->args[0].value = event;
	call->args[0].isnull = false;
	(void) FunctionCallInvoke(call);
}

/* Is the projection of this frame being run by a frame below? */
static bool
is_running_below(const Frame *frame)
{
	for (const Frame *below = frame->below; below != NULL; below = below->below)
	{
		if (below->projection->id == frame->projection->id)
			return true;
	}
	return false;
}

static void
set_event(TupleTableSlot *event, void *arg)
{
	Frame	   *frame = arg;
	bool		isnull;

	frame->position = DatumGetInt64(slot_getattr(event, ES_EVENT_COL_POSITION, &isnull));
	frame->event = event;
}

/* Bring the whole batch to its newest shape. */
static void
upcast_all(const EsCatalog *cat, EsBatch *batch, Frame *frame)
{
	EsUpcasts  *upcasts = es_upcasts_begin(cat);

	if (upcasts == NULL)
		return;
	PushCopiedSnapshot(GetTransactionSnapshot());
	es_batch_upcast(batch, upcasts, set_event, frame);
	PopActiveSnapshot();
	frame->event = NULL;
	frame->position = 0;
}

static void
run_function(const EsProjection *projection, const EsCatalog *cat, EsBatch *batch, Frame *frame)
{
	FmgrInfo   *function = look_up_function(projection, cat);
	TupleTableSlot *slot = es_batch_slot(batch);
	EsStates   *states = NULL;
	EsUpcasts  *upcasts = es_upcasts_begin(cat);
	MemoryContext per_event = AllocSetContextCreate(CurrentMemoryContext, "eventstore event",
													ALLOCSET_DEFAULT_SIZES);

	if (projection->form == ES_FORM_REDUCER && is_running_below(frame))
		ereport(ERROR,
				(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
				 errmsg("reducer of projection \"%s\" has appended an event that it would fold itself",
						projection->name)));
	if (projection->form == ES_FORM_REDUCER)
	{
		upcast_all(cat, batch, frame);	/* keys are those of the newest shape */
		upcasts = NULL;
		states = es_states_load(projection, batch, projection->live);
	}
	PushCopiedSnapshot(GetTransactionSnapshot());
	while (es_batch_next(batch, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(per_event);
		TupleTableSlot *shown;
		Datum		event;
		int			level;

		CHECK_FOR_INTERRUPTS();
		set_event(slot, frame);
		shown = upcasts != NULL ? es_upcast_slot(upcasts, slot) : slot;
		event = ExecFetchSlotHeapTupleDatum(shown);
		level = NewGUCNestLevel();
		if (states != NULL)
			es_states_fold(states, function, shown, event);
		else
			call_handler(function, event);
		AtEOXact_GUC(false, level); /* where batches end must not matter */
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_event);
		CommandCounterIncrement();	/* (3) */
		UpdateActiveSnapshotCommandId();
		if (frame->depth == 1)
			es_turn_note_event(batch->count);
	}
	frame->event = NULL;
	if (batch->count > 1)
		frame->position = 0;	/* from here on it is about all of them */
	PopActiveSnapshot();
	if (states != NULL)
		es_states_store(states);
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextDelete(per_event);
}

/* A query over one event is about that event. */
static TupleTableSlot *
only_event(EsBatch *batch, Frame *frame)
{
	TupleTableSlot *slot;

	if (batch->count != 1)
		return NULL;
	slot = es_batch_slot(batch);
	(void) es_batch_next(batch, slot);
	ExecMaterializeSlot(slot);
	es_batch_rewind(batch);
	set_event(slot, frame);
	return slot;
}

static void
apply_batch(const EsCatalog *cat, EsBatch *batch, Frame *frame)
{
	const EsProjection *projection = frame->projection;
	EsRoleScope scope;

	enter_owner(projection, &scope);
	es_rows_refuse_row_security(cat);	/* the code sees all events */
	if (projection->form == ES_FORM_QUERY)
	{
		TupleTableSlot *slot;

		upcast_all(cat, batch, frame);
		slot = only_event(batch, frame);

		run_query(projection, cat, batch);
		frame->event = NULL;
		if (slot != NULL)
			ExecDropSingleTupleTableSlot(slot);
	}
	else
		run_function(projection, cat, batch, frame);
	es_role_leave(&scope);
}

static void
empty_read_model(const EsCatalog *cat, EsBatch *batch, Frame *frame)
{
	const EsProjection *projection = frame->projection;
	EsRoleScope scope;
	int			result = SPI_OK_UTILITY;

	enter_owner(projection, &scope);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (projection->reset != NULL && projection->reset[0] != '\0')
		result = SPI_execute(projection->reset, false, 0);
	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the reset of a projection cannot be run: %s", SPI_result_code_string(result))));
	SPI_finish();
	es_role_leave(&scope);
}

/*
 * Run a projection's code with a frame on the stack (1).  Assumes that no projection was
 * looked up since this one.
 */
static void
run_framed(const EsProjection *projection, const EsCatalog *cat, EsBatch *batch,
		   void (*run) (const EsCatalog *, EsBatch *, Frame *))
{
	Frame		frame = {projection, batch, 0, NULL, top, top == NULL ? 1 : top->depth + 1};
	ErrorContextCallback callback = {error_context_stack, frame_context, &frame};

	if (frame.depth > MAX_DEPTH)
		ereport(ERROR,
				(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
				 errmsg("projections that append run each other without end"),
				 errdetail("Projection \"%s\" would be run %d levels deep.", projection->name, frame.depth)));
	check_stack_depth();
	es_definitions_pin();

	error_context_stack = &callback;
	top = &frame;
	es_activity_begin(ES_PROJECTING);
	PG_TRY();
	{
		run(cat, batch, &frame);
		frame.position = 0;
	}
	PG_FINALLY();
	{
		failed_position = frame.position;
		top = frame.below;
		es_activity_end(ES_PROJECTING);
	}
	PG_END_TRY();
	error_context_stack = callback.previous;
}

/*
 * Apply a batch.  Assumes a transaction.  The caller has locked what keeps others from
 * applying the same.
 */
void
es_call_apply(const EsProjection *projection, const EsCatalog *cat, EsBatch *batch)
{
	run_framed(projection, cat, batch, apply_batch);
}

/*
 * Run the statements that empty the read model.
 */
void
es_call_reset(const EsProjection *projection)
{
	run_framed(projection, NULL, NULL, empty_read_model);
}
