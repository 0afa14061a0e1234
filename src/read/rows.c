/*
 * rows.c
 *		From rows of the log to rows of es_event: the type behind its key, the id that is not
 *		stored.
 *
 * RLS: these functions read without SQL, so policies on event_log would not be
 * applied.  A caller to whom a policy applies is refused; SELECT from the view
 * eventstore.events applies it.
 *
 * Locks: those of the dictionary, of upcasters and of what readers are shown.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "log/dictionary.h"
#include "log/event.h"
#include "log/event_id.h"
#include "log/secret.h"
#include "read/rows.h"
#include "streams/upcast.h"
#include "streams/visible.h"

struct EsRows
{
	const EsCatalog *cat;
	MemoryContext context;
	Tuplestorestate *store;		/* NULL: the caller takes the rows himself */
	TupleDesc	desc;
	Datum		type_datum;		/* of the last event, as stored */
	Datum		content_type;	/* likewise; 0: none */
	int64		type_key;
	int32		schema_version;
	bool		as_stored;		/* never upcast */
	EsUpcasts  *upcasts;		/* NULL: there are none */
	uint32		columns;		/* last asked for, and how far they go in the log's */
	int			log_columns;

	EsIdSeries	ids;			/* those that are derived */
	bool		has_secret;		/* their secret has been read */
	pg_uuid_t	id;				/* of the last event, if derived */

	/* open while a snapshot is in use */
	EsVisible  *visible;		/* NULL: all events are shown */
};

/* Does a policy apply to the caller? */
bool
es_rows_under_row_security(const EsCatalog *cat)
{
	return check_enable_rls(cat->event_log, InvalidOid, true) == RLS_ENABLED;
}

/* These functions read without SQL: see above. */
void
es_rows_refuse_row_security(const EsCatalog *cat)
{
	if (es_rows_under_row_security(cat))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row-level security on eventstore.event_log applies to role \"%s\"",
						GetUserNameFromId(GetUserId(), false)),
				 errhint("Read from the view eventstore.events instead.")));
}

/* Begin to make rows of es_event, upcast unless wanted as they are stored. */
EsRows *
es_rows_begin(const EsCatalog *cat, bool as_stored)
{
	EsRows	   *rows = palloc0(sizeof(EsRows));

	rows->cat = cat;
	rows->context = CurrentMemoryContext;
	rows->as_stored = as_stored;
	rows->upcasts = as_stored ? NULL : es_upcasts_begin(cat);
	return rows;
}

/* The same, to be put into a tuplestore. */
EsRows *
es_rows_into(const EsCatalog *cat, Tuplestorestate *store, TupleDesc desc, bool as_stored)
{
	EsRows	   *rows = es_rows_begin(cat, as_stored);

	rows->store = store;
	rows->desc = desc;
	return rows;
}

/* The same, to be the result of a set-returning function. */
EsRows *
es_rows_returned(FunctionCallInfo fcinfo, const EsCatalog *cat)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	es_rows_refuse_row_security(cat);
	InitMaterializedSRF(fcinfo, 0);
	return es_rows_into(cat, rsinfo->setResult, rsinfo->setDesc, false);
}

/* Look up what is shown with this snapshot until es_rows_close. */
void
es_rows_open(EsRows *rows, Snapshot snapshot)
{
	rows->upcasts = rows->as_stored ? NULL : es_upcasts_begin(rows->cat);	/* there may be others */
	rows->visible = es_visible_open(rows->cat, snapshot);
}

void
es_rows_close(EsRows *rows)
{
	es_visible_close(rows->visible);
	rows->visible = NULL;
}

/* What events are shown with; NULL: as they are stored. */
const EsUpcasts *
es_rows_upcasters(const EsRows *rows)
{
	return rows->upcasts;
}

/* May there be events that are not shown? */
bool
es_rows_hide(const EsRows *rows)
{
	return rows->visible != NULL;
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
	MemoryContext old;

	if (rows->type_key == type_key && rows->type_datum != 0)
		return;
	type = es_dictionary_entry(rows->cat, type_key);
	if (rows->type_datum != 0)
		pfree(DatumGetPointer(rows->type_datum));
	if (rows->content_type != 0)
		pfree(DatumGetPointer(rows->content_type));
	old = MemoryContextSwitchTo(rows->context);
	rows->type_datum = PointerGetDatum(es_name_to_text(type->type));
	rows->content_type = type->content_type.len == 0 ? 0 : PointerGetDatum(es_name_to_text(type->content_type));
	MemoryContextSwitchTo(old);
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

/* The id of an event, as a value that holds until the next one. */
static Datum
id_of_event(EsRows *rows, TupleTableSlot *event)
{
	Datum	   *log = event->tts_values;

	if (!event->tts_isnull[ES_LOG_COL_EVENT_ID - 1])
		return log[ES_LOG_COL_EVENT_ID - 1];
	if (!rows->has_secret)
		rows->ids.secret = es_secret_read(rows->cat);
	rows->has_secret = true;
	es_event_id_next(&rows->ids, DatumGetInt64(log[ES_LOG_COL_POSITION - 1]),
					 DatumGetTimestampTz(log[ES_LOG_COL_CREATED_AT - 1]), &rows->id);
	return UUIDPGetDatum(&rows->id);
}

/* Columns of es_event that upcasters change. */
#define UPCAST_COLUMNS \
	(ES_ROWS_COLUMN(ES_EVENT_COL_TYPE) | ES_ROWS_COLUMN(ES_EVENT_COL_SCHEMA_VERSION) | \
	 ES_ROWS_COLUMN(ES_EVENT_COL_DATA))
/* Those that the dictionary has. */
#define TYPE_COLUMNS \
	(ES_ROWS_COLUMN(ES_EVENT_COL_TYPE) | ES_ROWS_COLUMN(ES_EVENT_COL_SCHEMA_VERSION) | \
	 ES_ROWS_COLUMN(ES_EVENT_COL_CONTENT_TYPE))

/* How many columns of the log the columns of es_event come from. */
static int
log_columns(uint32 columns)
{
	static const int from[ES_EVENT_COLS + 1] = {
		[ES_EVENT_COL_POSITION] = ES_LOG_COL_POSITION,
		[ES_EVENT_COL_STREAM] = ES_LOG_COL_STREAM,
		[ES_EVENT_COL_VERSION] = ES_LOG_COL_VERSION,
		[ES_EVENT_COL_TYPE] = ES_LOG_COL_TYPE_KEY,
		[ES_EVENT_COL_SCHEMA_VERSION] = ES_LOG_COL_TYPE_KEY,
		[ES_EVENT_COL_DATA] = ES_LOG_COL_DATA,
		[ES_EVENT_COL_METADATA] = ES_LOG_COL_METADATA,
		[ES_EVENT_COL_TAGS] = ES_LOG_COL_TAGS,
		[ES_EVENT_COL_EVENT_ID] = ES_LOG_COL_EVENT_ID,
		[ES_EVENT_COL_CREATED_AT] = ES_LOG_COL_CREATED_AT,
		[ES_EVENT_COL_CONTENT_TYPE] = ES_LOG_COL_TYPE_KEY,
		[ES_EVENT_COL_PAYLOAD] = ES_LOG_COL_PAYLOAD,
	};
	int			n = 0;

	for (int column = 1; column <= ES_EVENT_COLS; column++)
	{
		if (columns & ES_ROWS_COLUMN(column))
			n = Max(n, from[column]);
	}
	return n;
}

/*
 * Make columns of es_event for an event of the log, valid until the next event, or until the
 * event's slot is cleared.  What the others become means nothing.
 */
void
es_rows_make(EsRows *rows, TupleTableSlot *event, uint32 columns, Datum *values, bool *isnull)
{
	Datum	   *log = event->tts_values;
	bool	   *log_isnull = event->tts_isnull;
	bool		upcast = rows->upcasts != NULL && (columns & UPCAST_COLUMNS) != 0;

	if (upcast)
		columns |= UPCAST_COLUMNS | ES_ROWS_COLUMN(ES_EVENT_COL_METADATA) |
			ES_ROWS_COLUMN(ES_EVENT_COL_POSITION) | ES_ROWS_COLUMN(ES_EVENT_COL_STREAM);
	if (columns != rows->columns)
	{
		rows->columns = columns;
		rows->log_columns = log_columns(columns);
	}
	slot_getsomeattrs(event, rows->log_columns);
	if (columns & TYPE_COLUMNS)
		look_up_type(rows, DatumGetInt64(log[ES_LOG_COL_TYPE_KEY - 1]));

#define COPY(column, from) \
	if (columns & ES_ROWS_COLUMN(column)) \
		values[(column) - 1] = log[(from) - 1], isnull[(column) - 1] = log_isnull[(from) - 1]

	memset(isnull, 0, sizeof(bool) * ES_EVENT_COLS);
	COPY(ES_EVENT_COL_POSITION, ES_LOG_COL_POSITION);
	COPY(ES_EVENT_COL_STREAM, ES_LOG_COL_STREAM);
	COPY(ES_EVENT_COL_VERSION, ES_LOG_COL_VERSION);
	COPY(ES_EVENT_COL_DATA, ES_LOG_COL_DATA);
	COPY(ES_EVENT_COL_METADATA, ES_LOG_COL_METADATA);
	COPY(ES_EVENT_COL_TAGS, ES_LOG_COL_TAGS);
	COPY(ES_EVENT_COL_CREATED_AT, ES_LOG_COL_CREATED_AT);
	COPY(ES_EVENT_COL_PAYLOAD, ES_LOG_COL_PAYLOAD);
#undef COPY
	values[ES_EVENT_COL_TYPE - 1] = rows->type_datum;
	values[ES_EVENT_COL_SCHEMA_VERSION - 1] = Int32GetDatum(rows->schema_version);
	values[ES_EVENT_COL_CONTENT_TYPE - 1] = rows->content_type;
	isnull[ES_EVENT_COL_CONTENT_TYPE - 1] = rows->content_type == 0;
	if (columns & ES_ROWS_COLUMN(ES_EVENT_COL_EVENT_ID))
		values[ES_EVENT_COL_EVENT_ID - 1] = id_of_event(rows, event);
	if (upcast)
		es_upcast_event(rows->upcasts, values, isnull);
}

/*
 * Put an event of the log into the tuplestore.
 */
void
es_rows_put(EsRows *rows, TupleTableSlot *event)
{
	Datum		values[ES_EVENT_COLS];
	bool		isnull[ES_EVENT_COLS];

	es_rows_make(rows, event, ES_ROWS_ALL_COLUMNS, values, isnull);
	tuplestore_putvalues(rows->store, rows->desc, values, isnull);
}
