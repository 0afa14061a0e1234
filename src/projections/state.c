/*
 * state.c
 *		The states of reducers: one for each key.
 *
 * The states that a batch touches are loaded at once, folded in memory, and stored
 * at once.  A reducer that returns NULL removes the key.
 *
 * Invariants
 * 1. Nobody else changes the states between load and store.  In the worker the lock
 *    on the projection's progress sees to that.  Inline, the rows themselves are
 *    locked, in the order of their keys; a key that is new gets a row first, or two
 *    appends could both begin with nothing.
 * 2. A key has all events of its partition or none: an event without the key, a
 *    path that leads nowhere or to JSON null, is skipped.
 *
 * Locks: rows of projection_state by key.
 * Crash: rows belong to the transaction that applies the batch.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "core/args.h"
#include "core/spi.h"
#include "log/event.h"
#include "projections/state.h"

PG_FUNCTION_INFO_V1(es_projection_state);

typedef struct StateEntry
{
	char	   *key;			/* hash key: first */
	Datum		state;			/* jsonb */
	bool		isnull;			/* there is none */
	bool		stored;			/* a row is there */
	bool		changed;
} StateEntry;

struct EsStates
{
	const EsProjection *projection;
	MemoryContext context;
	HTAB	   *entries;
	Datum		path;			/* text[]; 0: the key is not in the event's JSON */
	int			column;			/* of the event that the key is in */
};

static uint32
hash_key(const void *key, Size size)
{
	const char *s = *(char *const *) key;

	return DatumGetUInt32(hash_any((const unsigned char *) s, strlen(s)));
}

static int
match_key(const void *a, const void *b, Size size)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* ---- keys ---- */

static bool
is_path(const char *partition_by)
{
	return strncmp(partition_by, "data.", 5) == 0 || strncmp(partition_by, "metadata.", 9) == 0;
}

void
es_state_check_partition(const char *partition_by)
{
	bool		path = is_path(partition_by);

	if (strcmp(partition_by, "stream") == 0 || strcmp(partition_by, "category") == 0 ||
		strcmp(partition_by, "type") == 0 || strcmp(partition_by, "all") == 0)
		return;
	if (!path || partition_by[strlen(partition_by) - 1] == '.' || strstr(partition_by, "..") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partition_by \"%s\" is not valid", partition_by),
				 errhint("Use 'stream', 'category', 'type', 'all', or a path such as 'data.customer_id' or 'metadata.tenant'.")));
}

/* The path below "data." or "metadata.". */
static Datum
parse_path(const char *path)
{
	char	   *copy = pstrdup(strchr(path, '.') + 1);
	ArrayBuildState *parts = NULL;
	char	   *rest = NULL;

	for (char *part = strtok_r(copy, ".", &rest); part != NULL; part = strtok_r(NULL, ".", &rest))
		parts = accumArrayResult(parts, CStringGetTextDatum(part), false, TEXTOID, CurrentMemoryContext);
	return makeArrayResult(parts, CurrentMemoryContext);
}

static char *
key_at_path(const EsStates *states, TupleTableSlot *event)
{
	LOCAL_FCINFO(call, 2);
	bool		isnull;
	Datum		document = slot_getattr(event, states->column, &isnull);
	Datum		found;

	if (isnull)
		return NULL;
	InitFunctionCallInfoData(*call, NULL, 2, InvalidOid, NULL, NULL);
	call->args[0].value = document;
	call->args[0].isnull = false;
	call->args[1].value = states->path;
	call->args[1].isnull = false;
	found = jsonb_extract_path_text(call);
	return call->isnull ? NULL : TextDatumGetCString(found);
}

/* The key of an event; NULL: it has none (2). */
static char *
key_of_event(const EsStates *states, TupleTableSlot *event)
{
	const char *by = states->projection->partition_by;
	bool		isnull;

	if (states->path != 0)
		return key_at_path(states, event);
	if (strcmp(by, "all") == 0)
		return pstrdup("all");
	if (strcmp(by, "type") == 0)
		return TextDatumGetCString(slot_getattr(event, ES_EVENT_COL_TYPE, &isnull));
	if (strcmp(by, "category") == 0)
	{
		EsName		category = es_name_category(es_name_from_text(slot_getattr(event, ES_EVENT_COL_STREAM, &isnull)));

		return pnstrdup(category.bytes, category.len);
	}
	return TextDatumGetCString(slot_getattr(event, ES_EVENT_COL_STREAM, &isnull));
}

static StateEntry *
find_state(EsStates *states, char *key, bool add)
{
	bool		found;
	StateEntry *entry = hash_search(states->entries, &key, add ? HASH_ENTER : HASH_FIND, &found);

	if (add && !found)
	{
		entry->key = MemoryContextStrdup(states->context, key);
		entry->state = 0;
		entry->isnull = true;
		entry->stored = entry->changed = false;
	}
	return entry;
}

static Datum
copy_state(EsStates *states, Datum state)
{
	MemoryContext old = MemoryContextSwitchTo(states->context);
	Datum		copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(state));

	MemoryContextSwitchTo(old);
	return copy;
}

static void
set_state(EsStates *states, StateEntry *entry, Datum state, bool isnull)
{
	Datum		copy = isnull ? 0 : copy_state(states, state);

	if (!entry->isnull)
		pfree(DatumGetPointer(entry->state));
	entry->state = copy;
	entry->isnull = isnull;
}

/* ---- load ---- */

/* All keys, as text[]. */
static Datum
all_keys(EsStates *states)
{
	HASH_SEQ_STATUS all;
	StateEntry *entry;
	ArrayBuildState *keys = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	hash_seq_init(&all, states->entries);
	while ((entry = hash_seq_search(&all)) != NULL)
		accumArrayResult(keys, CStringGetTextDatum(entry->key), false, TEXTOID, CurrentMemoryContext);
	return makeArrayResult(keys, CurrentMemoryContext);
}

static void
load_rows(EsStates *states, bool lock)
{
	static EsStatement make_rows = {
		"INSERT INTO eventstore.projection_state (projection_id, key, state)"
		" SELECT $1, k, '{}' FROM unnest($2) k ORDER BY k COLLATE \"C\""
		" ON CONFLICT (projection_id, key) DO NOTHING",
		{INT4OID, TEXTARRAYOID}
	};
	static EsStatement lock_rows = {
		"SELECT key, state FROM eventstore.projection_state"
		" WHERE projection_id = $1 AND key = ANY ($2) ORDER BY key FOR UPDATE",
		{INT4OID, TEXTARRAYOID}
	};
	static EsStatement read_rows = {
		"SELECT key, state FROM eventstore.projection_state"
		" WHERE projection_id = $1 AND key = ANY ($2)",
		{INT4OID, TEXTARRAYOID}
	};
	Datum		values[2] = {Int32GetDatum(states->projection->id), all_keys(states)};
	EsSpi		spi;
	uint64		n;

	es_spi_begin(&spi);
	if (lock)
		(void) es_spi_run(&make_rows, values, NULL);	/* (1) */
	n = es_spi_run(lock ? &lock_rows : &read_rows, values, NULL);
	for (uint64 i = 1; i <= n; i++)
	{
		StateEntry *entry = find_state(states, es_spi_text(i, 1), false);
		bool		isnull;
		Datum		state = es_spi_value(i, 2, &isnull);

		entry->stored = true;
		set_state(states, entry, state, false);
	}
	es_spi_end(&spi);
}

/*
 * Load the states that the batch's events belong to, and leave the batch at its
 * beginning.
 */
EsStates *
es_states_load(const EsProjection *projection, EsBatch *batch, bool lock)
{
	EsStates   *states = palloc0(sizeof(EsStates));
	TupleTableSlot *slot = es_batch_slot(batch);
	HASHCTL		ctl = {.keysize = sizeof(char *), .entrysize = sizeof(StateEntry),
	.hash = hash_key, .match = match_key};

	states->projection = projection;
	states->context = AllocSetContextCreate(CurrentMemoryContext, "eventstore states",
											ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = states->context;
	states->entries = hash_create("eventstore states", 256, &ctl,
								  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	if (is_path(projection->partition_by))
	{
		states->path = parse_path(projection->partition_by);
		states->column = projection->partition_by[0] == 'd' ? ES_EVENT_COL_DATA : ES_EVENT_COL_METADATA;
	}
	while (es_batch_next(batch, slot))
	{
		char	   *key = key_of_event(states, slot);

		CHECK_FOR_INTERRUPTS();
		if (key == NULL)
			continue;
		(void) find_state(states, key, true);
		pfree(key);
	}
	ExecDropSingleTupleTableSlot(slot);
	es_batch_rewind(batch);
	if (hash_get_num_entries(states->entries) > 0)
		load_rows(states, lock);
	return states;
}

/* ---- fold ---- */

/*
 * One step of a reducer; NULL in, NULL out where it is STRICT.
 */
Datum
es_state_fold(FmgrInfo *reducer, Datum state, bool *isnull, Datum event)
{
	LOCAL_FCINFO(call, 2);
	Datum		result;

	if (*isnull && reducer->fn_strict)
		return 0;
	InitFunctionCallInfoData(*call, reducer, 2, InvalidOid, NULL, NULL);
	call->args[0].value = state;
	call->args[0].isnull = *isnull;
	call->args[1].value = event;
	call->args[1].isnull = false;
	result = FunctionCallInvoke(call);
	*isnull = call->isnull;
	return result;
}

/* Fold an event into the state of its key.  A key begins with an empty object. */
void
es_states_fold(EsStates *states, FmgrInfo *reducer, TupleTableSlot *event, Datum composite)
{
	char	   *key = key_of_event(states, event);
	StateEntry *entry;
	bool		isnull = false;
	Datum		state;

	if (key == NULL)
		return;
	entry = find_state(states, key, true);
	state = entry->isnull ? DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")) : entry->state;
	state = es_state_fold(reducer, state, &isnull, composite);
	set_state(states, entry, state, isnull);
	entry->changed = true;
}

/* ---- store ---- */

static void
store_rows(const EsProjection *projection, Datum keys, Datum kept)
{
	static EsStatement store = {
		"INSERT INTO eventstore.projection_state (projection_id, key, state)"
		" SELECT $1, k, s FROM unnest($2, $3) AS u (k, s) ORDER BY k COLLATE \"C\""
		" ON CONFLICT (projection_id, key) DO UPDATE SET state = excluded.state",
		{INT4OID, TEXTARRAYOID, JSONBARRAYOID}
	};
	Datum		values[3] = {Int32GetDatum(projection->id), keys, kept};

	(void) es_spi_run(&store, values, NULL);
}

void
es_states_store(EsStates *states)
{
	static EsStatement remove = {
		"DELETE FROM eventstore.projection_state WHERE projection_id = $1 AND key = ANY ($2)",
		{INT4OID, TEXTARRAYOID}
	};
	HASH_SEQ_STATUS all;
	StateEntry *entry;
	ArrayBuildState *keys = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	ArrayBuildState *kept = initArrayResult(JSONBOID, CurrentMemoryContext, false);
	ArrayBuildState *gone = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	EsSpi		spi;

	hash_seq_init(&all, states->entries);
	while ((entry = hash_seq_search(&all)) != NULL)
	{
		if (entry->isnull && (entry->changed || entry->stored))
			accumArrayResult(gone, CStringGetTextDatum(entry->key), false, TEXTOID, CurrentMemoryContext);
		else if (entry->changed)
		{
			accumArrayResult(keys, CStringGetTextDatum(entry->key), false, TEXTOID, CurrentMemoryContext);
			accumArrayResult(kept, entry->state, false, JSONBOID, CurrentMemoryContext);
		}
	}
	es_spi_begin(&spi);
	if (keys->nelems > 0)
		store_rows(states->projection, makeArrayResult(keys, CurrentMemoryContext),
				   makeArrayResult(kept, CurrentMemoryContext));
	if (gone->nelems > 0)
	{
		Datum		values[2] = {Int32GetDatum(states->projection->id),
		makeArrayResult(gone, CurrentMemoryContext)};

		(void) es_spi_run(&remove, values, NULL);
	}
	es_spi_end(&spi);
	MemoryContextDelete(states->context);
}

/* Remove all states of a projection. */
void
es_states_remove(const EsProjection *projection)
{
	static EsStatement remove = {
		"DELETE FROM eventstore.projection_state WHERE projection_id = $1", {INT4OID}
	};
	Datum		values[1] = {Int32GetDatum(projection->id)};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&remove, values, NULL);
	es_spi_end(&spi);
}

/*
 * es_projection_state(name, key) → jsonb
 */
Datum
es_projection_state(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	static EsStatement read = {
		"SELECT state FROM eventstore.projection_state WHERE projection_id = $1 AND key = $2",
		{INT4OID, TEXTOID}
	};
	const EsProjection *projection = es_definition_require(cat, es_arg_name(fcinfo, 0, "name"));
	Datum		values[2] = {Int32GetDatum(projection->id)};
	MemoryContext caller = CurrentMemoryContext;
	EsSpi		spi;
	Datum		state = 0;
	bool		isnull = true;

	es_arg_require(fcinfo, 1, "key");
	values[1] = PG_GETARG_DATUM(1);
	es_spi_begin(&spi);
	if (es_spi_run(&read, values, NULL) > 0)
	{
		state = es_spi_value(1, 1, &isnull);
		if (!isnull)
		{
			MemoryContext old = MemoryContextSwitchTo(caller);

			state = PointerGetDatum(PG_DETOAST_DATUM_COPY(state));
			MemoryContextSwitchTo(old);
		}
	}
	es_spi_end(&spi);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(state);
}
