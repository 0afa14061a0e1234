/*
 * rows.c
 *		From rows of the log to rows of es_event: the names behind the keys.
 *
 * The stream's name is looked up by its key and kept in a cache of the backend:
 * a page of the log names the same streams again and again.  Names never change,
 * so what a committed row says holds as long as the store is the same.  Only reads
 * below the head use the cache, and those see committed streams only; of a log that
 * is being restored nothing is kept.
 *
 * The cache is a plain array indexed by the key: keys are handed out in order, so
 * streams that are young together do not displace each other.
 *
 * RLS: these functions read without SQL, so policies on event_log would not be
 * applied.  A caller to whom a policy applies is refused; SELECT from the view
 * eventstore.events applies it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/tuplestore.h"

#include "log/dictionary.h"
#include "log/event.h"
#include "log/seal.h"
#include "read/rows.h"
#include "streams/upcast.h"
#include "streams/visible.h"

#define CACHE_SIZE	8192

typedef struct CachedName
{
	int64		key;			/* 0: empty */
	EsName		name;
	text	   *datum;			/* the same, as a value to return */
} CachedName;

static MemoryContext cache_context = NULL;
static uint64 cache_generation = 0;
static CachedName *cache = NULL;

struct EsRows
{
	const EsCatalog *cat;
	Tuplestorestate *store;
	TupleDesc	desc;
	Datum		type_datum;		/* of the last event, as stored */
	Datum		content_type;	/* likewise; 0: none */
	int64		type_key;
	int32		schema_version;
	bool		as_stored;		/* never upcast */
	EsUpcasts  *upcasts;		/* NULL: there are none */

	/* open while a snapshot is in use */
	EsLookup   *streams;		/* by key */
	EsVisible  *visible;		/* NULL: all events are shown */
};

static void
check_cache(void)
{
	if (cache != NULL && cache_generation == es_catalog_generation())
		return;
	if (cache_context == NULL)
		cache_context = AllocSetContextCreate(TopMemoryContext, "eventstore stream names",
											  ALLOCSET_DEFAULT_SIZES);
	else
		MemoryContextReset(cache_context);
	cache = MemoryContextAllocZero(cache_context, sizeof(CachedName) * CACHE_SIZE);
	cache_generation = es_catalog_generation();
}

/* These functions read without SQL: see above. */
void
es_rows_refuse_row_security(const EsCatalog *cat)
{
	if (check_enable_rls(cat->event_log, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row-level security on eventstore.event_log applies to role \"%s\"",
						GetUserNameFromId(GetUserId(), false)),
				 errhint("Read from the view eventstore.events instead.")));
}

/* Put rows into a tuplestore of es_event, upcast unless wanted as they are stored. */
EsRows *
es_rows_into(const EsCatalog *cat, Tuplestorestate *store, TupleDesc desc, bool as_stored)
{
	EsRows	   *rows = palloc0(sizeof(EsRows));

	rows->cat = cat;
	rows->store = store;
	rows->desc = desc;
	rows->as_stored = as_stored;
	rows->upcasts = as_stored ? NULL : es_upcasts_begin(cat);
	return rows;
}

/*
 * Begin the result of a set-returning function.
 */
EsRows *
es_rows_begin(FunctionCallInfo fcinfo, const EsCatalog *cat)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	es_rows_refuse_row_security(cat);
	InitMaterializedSRF(fcinfo, 0);
	return es_rows_into(cat, rsinfo->setResult, rsinfo->setDesc, false);
}

/* Look names up with this snapshot until es_rows_close. */
void
es_rows_open(EsRows *rows, Snapshot snapshot)
{
	check_cache();
	/* these lived as long as the last look's memory, and there may be others */
	rows->type_datum = rows->content_type = 0;
	rows->upcasts = rows->as_stored ? NULL : es_upcasts_begin(rows->cat);
	/* of an unsealed log a stream may be this transaction's own: keep nothing */
	if (es_seal_is_open(rows->cat))
		cache_generation = 0;
	rows->streams = es_lookup_open(rows->cat->stream, &rows->cat->stream_key, snapshot);
	rows->visible = es_visible_open(rows->cat, snapshot);
}

void
es_rows_close(EsRows *rows)
{
	es_visible_close(rows->visible);
	es_lookup_close(rows->streams);
}

static void
fill_cache(EsRows *rows, CachedName *entry, int64 stream_key)
{
	TupleTableSlot *row = es_lookup_number(rows->streams, stream_key);
	text	   *name;
	bool		isnull;

	if (row == NULL)
	{
		es_seal_refuse_unrestored(rows->cat);
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the log refers to a stream that is missing: %lld", (long long) stream_key),
				 errhint("A row of eventstore.stream has been removed, or was not restored.")));
	}
	name = DatumGetTextPP(slot_getattr(row, ES_STREAM_COL_NAME, &isnull));

	entry->key = 0;
	if (entry->datum != NULL)
		pfree(entry->datum);
	entry->datum = NULL;
	entry->datum = MemoryContextAlloc(cache_context, VARSIZE_ANY(name));
	memcpy(entry->datum, name, VARSIZE_ANY(name));
	entry->name.bytes = VARDATA_ANY(entry->datum);
	entry->name.len = VARSIZE_ANY_EXHDR(entry->datum);
	entry->key = stream_key;
}

static CachedName *
cached_name(EsRows *rows, int64 stream_key)
{
	CachedName *entry = &cache[(uint64) stream_key % CACHE_SIZE];

	if (entry->key != stream_key)
		fill_cache(rows, entry, stream_key);
	return entry;
}

/* The name of a stream; valid until the next call. */
EsName
es_rows_stream_name(EsRows *rows, int64 stream_key)
{
	return cached_name(rows, stream_key)->name;
}

/* Is the event shown, or has it been taken away? */
bool
es_rows_shows(EsRows *rows, TupleTableSlot *event)
{
	return rows->visible == NULL || es_visible_shows(rows->visible, event);
}

static void
look_up_type(EsRows *rows, int64 type_key)
{
	const EsEventType *type;

	if (rows->type_key == type_key && rows->type_datum != 0)
		return;
	type = es_dictionary_entry(rows->cat, type_key);
	if (rows->type_datum != 0)
		pfree(DatumGetPointer(rows->type_datum));
	rows->type_datum = PointerGetDatum(cstring_to_text_with_len(type->type.bytes, type->type.len));
	if (rows->content_type != 0)
		pfree(DatumGetPointer(rows->content_type));
	rows->content_type = type->content_type.len == 0 ? 0 : PointerGetDatum(es_name_to_text(type->content_type));
	rows->type_key = type_key;
	rows->schema_version = type->schema_version;
}

/* Will putting the event run users' code? */
bool
es_rows_upcasts(EsRows *rows, TupleTableSlot *event)
{
	if (rows->upcasts == NULL)
		return false;
	look_up_type(rows, es_log_number(event, ES_LOG_COL_TYPE_KEY));
	return es_upcast_is_for(rows->upcasts, es_name_from_text(rows->type_datum), rows->schema_version);
}

/*
 * Return an event of the log.  "stream" is its stream's name if the caller knows
 * it, else .bytes is NULL.
 */
void
es_rows_put(EsRows *rows, TupleTableSlot *event, EsName stream)
{
	Datum		values[ES_EVENT_COLS];
	bool		isnull[ES_EVENT_COLS] = {false};
	Datum	   *log = event->tts_values;
	text	   *known = NULL;

	slot_getallattrs(event);
	look_up_type(rows, DatumGetInt64(log[ES_LOG_COL_TYPE_KEY - 1]));
	if (stream.bytes == NULL && rows->upcasts != NULL)	/* which may read, and fill the cache */
		stream = es_rows_stream_name(rows, DatumGetInt64(log[ES_LOG_COL_STREAM_KEY - 1]));
	if (stream.bytes != NULL)
		known = cstring_to_text_with_len(stream.bytes, stream.len);

	values[ES_EVENT_COL_POSITION - 1] = log[ES_LOG_COL_POSITION - 1];
	values[ES_EVENT_COL_STREAM - 1] = PointerGetDatum(known != NULL ? known :
								cached_name(rows, DatumGetInt64(log[ES_LOG_COL_STREAM_KEY - 1]))->datum);
	values[ES_EVENT_COL_VERSION - 1] = log[ES_LOG_COL_VERSION - 1];
	values[ES_EVENT_COL_TYPE - 1] = rows->type_datum;
	values[ES_EVENT_COL_SCHEMA_VERSION - 1] = Int32GetDatum(rows->schema_version);
	values[ES_EVENT_COL_DATA - 1] = log[ES_LOG_COL_DATA - 1];
	values[ES_EVENT_COL_METADATA - 1] = log[ES_LOG_COL_METADATA - 1];
	isnull[ES_EVENT_COL_METADATA - 1] = event->tts_isnull[ES_LOG_COL_METADATA - 1];
	values[ES_EVENT_COL_TAGS - 1] = log[ES_LOG_COL_TAGS - 1];
	isnull[ES_EVENT_COL_TAGS - 1] = event->tts_isnull[ES_LOG_COL_TAGS - 1];
	values[ES_EVENT_COL_EVENT_ID - 1] = log[ES_LOG_COL_EVENT_ID - 1];
	values[ES_EVENT_COL_CREATED_AT - 1] = log[ES_LOG_COL_CREATED_AT - 1];
	values[ES_EVENT_COL_CONTENT_TYPE - 1] = rows->content_type;
	isnull[ES_EVENT_COL_CONTENT_TYPE - 1] = rows->content_type == 0;
	values[ES_EVENT_COL_PAYLOAD - 1] = log[ES_LOG_COL_PAYLOAD - 1];
	isnull[ES_EVENT_COL_PAYLOAD - 1] = event->tts_isnull[ES_LOG_COL_PAYLOAD - 1];
	if (rows->upcasts != NULL)
		es_upcast_event(rows->upcasts, values, isnull);
	tuplestore_putvalues(rows->store, rows->desc, values, isnull);
	if (known != NULL)
		pfree(known);
}
