/*
 * waiting_rows.c
 *		Rows written to eventstore.new_events, on their way into appends.
 *
 * Each row counts as a call of its own.  But many of them are carried out as one
 * (EsAppend.separate), which is what makes COPY fast: locks, positions and index
 * descriptors once for all.  Rows wait in a call under construction, checked as
 * arguments are (build.c), and the call is carried out when it is full, or before a row
 * that it cannot take:
 *
 * - one that has an event id where the waiting rows have none, or the other way round,
 *   for a call has ids for all of its events or for none;
 * - one whose id a waiting row has.  Once that is stored, the second one is found to be
 *   its duplicate, or not, as in any later call (idempotency.c);
 * - one that expects a version, where what the waiting rows bring about can change that
 *   otherwise than by the rows themselves: inline projections and triggers on the log may
 *   append, and rules of retention may hide what has just been stored (-4).
 *
 * With BEFORE triggers for rows on the log none waits: the writer stores one at a time then,
 * too (writer.c).
 *
 * Invariants
 * 1. Rows are stored in the order in which they come, so their positions rise in it.
 * 2. A row that is alone in its call is given back with what became of it.  Of others
 *    nobody asks that: where somebody could, the handler lets no row wait.
 * 3. No more waits than MAX_ROWS and about MAX_BYTES: a statement may have any number of
 *    rows, of any size.
 *
 * An error says which row of the statement it is about: each event carries its row's
 * number, and the call names the event that it deals with (EsAppend.current).
 *
 * Memory: a context of the call under construction, reset when it has been carried out.
 * Locks: those of an append (execute.c).
 * Crash: rows that wait are gone, with their transaction.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "append/build.h"
#include "append/execute.h"
#include "append/payload.h"
#include "append/waiting_rows.h"
#include "append/writer.h"
#include "core/args.h"
#include "log/version.h"
#include "projections/definition.h"

#define MAX_ROWS	4000
#define MAX_BYTES	(1024 * 1024)

/* Columns of eventstore.new_events, and their types. */
enum
{
	NEW_STREAM,
	NEW_TYPE,
	NEW_DATA,
	NEW_EXPECTED_VERSION,
	NEW_METADATA,
	NEW_EVENT_ID,
	NEW_TAGS,
	NEW_SCHEMA_VERSION,
	NEW_CREATED_AT,
	NEW_CONTENT_TYPE,
	NEW_PAYLOAD,
	NEW_VERSION,				/* the rest is given back */
	NEW_POSITION,
	NEW_DUPLICATE,
	NEW_COLS
};

static const struct
{
	const char *name;
	Oid			type;
}			new_columns[NEW_COLS] = {
	[NEW_STREAM] = {"stream", TEXTOID},
	[NEW_TYPE] = {"type", TEXTOID},
	[NEW_DATA] = {"data", JSONBOID},
	[NEW_EXPECTED_VERSION] = {"expected_version", INT8OID},
	[NEW_METADATA] = {"metadata", JSONBOID},
	[NEW_EVENT_ID] = {"event_id", UUIDOID},
	[NEW_TAGS] = {"tags", TEXTARRAYOID},
	[NEW_SCHEMA_VERSION] = {"schema_version", INT4OID},
	[NEW_CREATED_AT] = {"created_at", TIMESTAMPTZOID},
	[NEW_CONTENT_TYPE] = {"content_type", TEXTOID},
	[NEW_PAYLOAD] = {"payload", BYTEAOID},
	[NEW_VERSION] = {"version", INT8OID},
	[NEW_POSITION] = {"position", INT8OID},
	[NEW_DUPLICATE] = {"duplicate", BOOLOID},
};

struct EsWaitingRows
{
	AttrNumber	columns[NEW_COLS];	/* where each stands in the table */
	TupleTableSlot *given_back; /* NULL: not made yet */
	int64		count;			/* rows so far */

	/* the call under construction */
	MemoryContext context;
	EsAppend	call;
	int			room;			/* for so many events */
	bool		copies;			/* a row does not outlive its addition */
	bool		runs_code;		/* code of users runs when rows are stored */
	Size		bytes;
	EsStreamTable streams;
	uint32		id_mask;
	int		   *ids;			/* events by their ids: index + 1; 0: free */
};

/* ---- the table ---- */

static void
refuse_columns(const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("eventstore.new_events does not have the columns that the extension gave it"),
			 errdetail("This concerns the column \"%s\".", column),
			 errhint("Undo what ALTER FOREIGN TABLE has changed, by its name and type.")));
}

/* Find the columns; somebody may have altered the table, or made it a partition. */
static void
find_columns(EsWaitingRows *rows, TupleDesc desc)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		int			which = 0;

		if (column->attisdropped)
			continue;
		while (which < NEW_COLS && strcmp(new_columns[which].name, NameStr(column->attname)) != 0)
			which++;
		if (which == NEW_COLS || column->atttypid != new_columns[which].type)
			refuse_columns(NameStr(column->attname));
		rows->columns[which] = i + 1;
	}
	for (int which = 0; which < NEW_COLS; which++)
	{
		if (rows->columns[which] == 0)
			refuse_columns(new_columns[which].name);
	}
}

/* A statement begins to write rows.  They belong to the current memory context. */
EsWaitingRows *
es_waiting_begin(Relation rel)
{
	EsWaitingRows *rows = palloc0(sizeof(EsWaitingRows));

	find_columns(rows, RelationGetDescr(rel));
	rows->context = AllocSetContextCreate(CurrentMemoryContext, "eventstore rows", ALLOCSET_DEFAULT_SIZES);
	return rows;
}

/* ---- the call under construction ---- */

static void
begin_waiting_call(EsWaitingRows *rows, int room, bool copies)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	Relation	log = table_open(cat->event_log, NoLock);

	if (es_writer_fires_before_row(log))
		room = 1;
	rows->runs_code = es_writer_fires(log) || es_definitions(cat)->nlive > 0;
	table_close(log, NoLock);
	rows->call = (EsAppend) {.function = "INSERT into eventstore.new_events"};
	rows->call.separate = room > 1;
	rows->room = room;
	rows->copies = copies;
	rows->bytes = 0;
	es_build_room(&rows->call, room);
	es_build_streams(&rows->call, &rows->streams, room);
	rows->ids = NULL;
}

/* Where the table of ids has this one, or would have it. */
static int *
id_place(EsWaitingRows *rows, const pg_uuid_t *id)
{
	uint32		at = hash_bytes(id->data, UUID_LEN) & rows->id_mask;

	while (rows->ids[at] != 0 &&
		   memcmp(&rows->call.events[rows->ids[at] - 1].id, id, sizeof(pg_uuid_t)) != 0)
		at = (at + 1) & rows->id_mask;
	return &rows->ids[at];
}

/* Note the id of the event that is added. */
static void
add_id(EsWaitingRows *rows, EsEvent *event, const pg_uuid_t *id)
{
	rows->call.has_ids = true;
	event->id = *id;
	if (rows->ids == NULL)
	{
		rows->id_mask = pg_nextpower2_32(2 * rows->room) - 1;
		rows->ids = palloc0(sizeof(int) * (rows->id_mask + 1));
	}
	*id_place(rows, id) = (int) (event - rows->call.events) + 1;
}

/* Can the call take a row with this id, NULL for none? */
static bool
takes_id(EsWaitingRows *rows, const pg_uuid_t *id)
{
	if (rows->call.nevents == 0)
		return true;
	if (rows->call.has_ids != (id != NULL))
		return false;
	return id == NULL || *id_place(rows, id) == 0;
}

/* ---- a row ---- */

static bool
has_column(EsWaitingRows *rows, TupleTableSlot *row, int which)
{
	return !row->tts_isnull[rows->columns[which] - 1];
}

static Datum
column_value(EsWaitingRows *rows, TupleTableSlot *row, int which)
{
	return row->tts_values[rows->columns[which] - 1];
}

/* Can what the waiting rows bring about change the version that a row expects? */
static bool
expects_what_may_change(EsWaitingRows *rows, TupleTableSlot *row)
{
	return has_column(rows, row, NEW_EXPECTED_VERSION) &&
		(rows->runs_code || DatumGetInt64(column_value(rows, row, NEW_EXPECTED_VERSION)) == ES_EXPECT_EXISTS);
}

/* ---- adding it ---- */

/* A value of variable length, at hand as long as the call; 0: null. */
static Datum
lasting_value(EsWaitingRows *rows, TupleTableSlot *row, int which)
{
	Datum		value = column_value(rows, row, which);
	Datum		flat;

	if (!has_column(rows, row, which))
		return 0;
	flat = PointerGetDatum(new_columns[which].type == JSONBOID ?
						   PG_DETOAST_DATUM(value) : PG_DETOAST_DATUM_PACKED(value));
	return rows->copies && flat == value ? datumCopy(flat, false, -1) : flat;
}

static void
require_column(EsWaitingRows *rows, TupleTableSlot *row, int which)
{
	if (!has_column(rows, row, which))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", new_columns[which].name)));
}

static Jsonb *
json_column(EsWaitingRows *rows, TupleTableSlot *row, int which)
{
	return (Jsonb *) DatumGetPointer(lasting_value(rows, row, which));
}

/* The parts of an event, in the order in which es_append() looks at them. */
static void
set_event(EsWaitingRows *rows, EsEvent *event, TupleTableSlot *row)
{
	EsAppend   *call = &rows->call;
	Datum		tags;
	EsName		stream;

	require_column(rows, row, NEW_STREAM);
	stream = es_name_from_text(lasting_value(rows, row, NEW_STREAM));
	require_column(rows, row, NEW_TYPE);
	event->type = es_name_from_text(lasting_value(rows, row, NEW_TYPE));
	require_column(rows, row, NEW_DATA);
	event->data = lasting_value(rows, row, NEW_DATA);
	if (has_column(rows, row, NEW_EXPECTED_VERSION))
		es_build_expected_version(event, DatumGetInt64(column_value(rows, row, NEW_EXPECTED_VERSION)));
	es_build_metadata(call, event, json_column(rows, row, NEW_METADATA));
	if (has_column(rows, row, NEW_EVENT_ID))
		add_id(rows, event, DatumGetUUIDP(column_value(rows, row, NEW_EVENT_ID)));
	tags = lasting_value(rows, row, NEW_TAGS);
	if (tags != 0)
	{
		Datum	   *values;
		bool	   *nulls;
		int			n;

		es_array_read(DatumGetArrayTypeP(tags), TEXTOID, "tags", &values, &nulls, &n);
		es_build_tags(event, values, nulls, n);
	}
	require_column(rows, row, NEW_SCHEMA_VERSION);
	es_build_schema_version(event, DatumGetInt32(column_value(rows, row, NEW_SCHEMA_VERSION)));
	if (has_column(rows, row, NEW_CREATED_AT))
		es_build_created_at(event, DatumGetTimestampTz(column_value(rows, row, NEW_CREATED_AT)));
	es_payload_set(event, lasting_value(rows, row, NEW_PAYLOAD), lasting_value(rows, row, NEW_CONTENT_TYPE));
	es_build_check(event);
	es_build_link(call, (int) (event - call->events), es_build_find_stream(call, &rows->streams, stream));
}

static Size
size_of(Datum value)
{
	return value == 0 ? 0 : VARSIZE_ANY(DatumGetPointer(value));
}

static void
row_context(void *arg)
{
	const EsAppend *call = arg;
	const EsEvent *event = call->current;

	/* a row that is alone in its call is what all of that is about */
	if (event == NULL && !call->separate)
		event = call->events;
	if (event != NULL)
		errcontext("row %lld of eventstore.new_events", (long long) event->row);
}

/* Add a row to the call, which has room for it. */
static void
add_row(EsWaitingRows *rows, TupleTableSlot *row)
{
	ErrorContextCallback callback = {error_context_stack, row_context, &rows->call};
	EsEvent    *event = es_build_event(&rows->call);

	event->row = ++rows->count;
	rows->call.current = event;
	error_context_stack = &callback;
	set_event(rows, event, row);
	error_context_stack = callback.previous;
	rows->call.current = NULL;
	rows->bytes += size_of(event->data) + size_of(event->metadata) + size_of(event->tags) + size_of(event->payload);
}

/* Carry the call out. */
static void
store_rows(EsWaitingRows *rows)
{
	ErrorContextCallback callback = {error_context_stack, row_context, &rows->call};

	error_context_stack = &callback;
	es_append_execute(&rows->call);
	error_context_stack = callback.previous;
}

/* The call is done with: it is as if there had been none. */
static void
forget_rows(EsWaitingRows *rows)
{
	rows->call.nevents = 0;
	rows->room = 0;
	MemoryContextReset(rows->context);
}

/*
 * Take a row, which waits until enough have come, "room" of them; of 1 the caller asks what
 * has become of it.
 */
static void
take_row(EsWaitingRows *rows, TupleTableSlot *row, int room, bool copies)
{
	MemoryContext old = MemoryContextSwitchTo(rows->context);
	const pg_uuid_t *id;

	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(row);
	id = has_column(rows, row, NEW_EVENT_ID) ? DatumGetUUIDP(column_value(rows, row, NEW_EVENT_ID)) : NULL;
	if (rows->room > 0 && (!takes_id(rows, id) || expects_what_may_change(rows, row)))
	{
		store_rows(rows);
		forget_rows(rows);
	}
	if (rows->room == 0)
		begin_waiting_call(rows, room, copies);
	add_row(rows, row);
	if (room > 1 && (rows->call.nevents == rows->room || rows->bytes >= MAX_BYTES))
	{
		store_rows(rows);
		forget_rows(rows);
	}
	MemoryContextSwitchTo(old);
}

/* ---- for the handler ---- */

static void
give_back(EsWaitingRows *rows, int which, Datum value)
{
	rows->given_back->tts_values[rows->columns[which] - 1] = value;
	rows->given_back->tts_isnull[rows->columns[which] - 1] = false;
}

/*
 * Store a row.  It is given back with its version, its position, and whether it is a
 * duplicate; its other columns are as they were, and as long at hand.
 */
TupleTableSlot *
es_waiting_store_one(EsWaitingRows *rows, TupleTableSlot *row)
{
	const EsAppendStream *stream;
	MemoryContext old;

	if (rows->given_back == NULL)
		rows->given_back = MakeSingleTupleTableSlot(row->tts_tupleDescriptor, &TTSOpsVirtual);
	take_row(rows, row, 1, false);
	old = MemoryContextSwitchTo(rows->context);
	store_rows(rows);
	MemoryContextSwitchTo(old);
	stream = &rows->call.streams[0];

	ExecClearTuple(rows->given_back);
	memcpy(rows->given_back->tts_values, row->tts_values, sizeof(Datum) * row->tts_tupleDescriptor->natts);
	memcpy(rows->given_back->tts_isnull, row->tts_isnull, sizeof(bool) * row->tts_tupleDescriptor->natts);
	give_back(rows, NEW_VERSION, Int64GetDatum(stream->version));
	give_back(rows, NEW_POSITION, Int64GetDatum(stream->position));
	give_back(rows, NEW_DUPLICATE, BoolGetDatum(rows->call.duplicate));
	forget_rows(rows);
	return ExecStoreVirtualTuple(rows->given_back);
}

/* Store rows, in their order. */
void
es_waiting_store_all(EsWaitingRows *rows, TupleTableSlot **slots, int n)
{
	for (int i = 0; i < n; i++)
		take_row(rows, slots[i], Min(n - i, MAX_ROWS), false);
	es_waiting_store_kept(rows);
}

/* Keep a row, to be stored later. */
void
es_waiting_keep(EsWaitingRows *rows, TupleTableSlot *row)
{
	take_row(rows, row, MAX_ROWS, true);
}

/* Store the rows that still wait. */
void
es_waiting_store_kept(EsWaitingRows *rows)
{
	MemoryContext old;

	if (rows->room == 0)
		return;
	old = MemoryContextSwitchTo(rows->context);
	store_rows(rows);
	MemoryContextSwitchTo(old);
	forget_rows(rows);
}

void
es_waiting_end(EsWaitingRows *rows)
{
	if (rows->given_back != NULL)
		ExecDropSingleTupleTableSlot(rows->given_back);
	MemoryContextDelete(rows->context);
	pfree(rows);
}
