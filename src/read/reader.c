/*
 * reader.c
 *		Carrying out a read: one event after the other, in either direction.
 *
 * es_read_stream gives what the caller's snapshot sees, the caller's own uncommitted events
 * included.  All others read by position: they take the head, then a snapshot, then the events
 * up to the head (log/head.c), so that a consumer who remembers the last position can never
 * miss an event.  That is done once, when the reader begins; a reader that waits does it again
 * for each of its looks, until there is an event.
 *
 * A reader stands before the first event, on an event, or after the last one.  It goes back
 * by opening its source (index ranges) anew, in the other direction, from where it stands.
 *
 * Invariants
 * 1. A read by position never returns an event above the head that it took.
 * 2. Head, snapshot, moment (of rules by age) and upcasters stay the same for the reader's life,
 *    so whatever is read again is the same.  (Unless it began in a subtransaction that took
 *    events away and was rolled back since.)
 * 3. Memory does not grow with the number of events: one row, the scans, and what is known of
 *    streams (streams/visible.c), which is bounded.
 * 4. max_count is the number of events from the first one on, whichever way the reader went.
 * 5. event_log, and the index of a key of metadata, are in use from the beginning to the end, also
 *    where no source is open: else the same session could drop or empty them under a cursor
 *    (CheckTableNotInUse in commands/tablecmds.c).
 *
 * Locks: AccessShare on event_log, held to the end of the transaction, and on the tables and
 * indexes read.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "log/event.h"
#include "log/head.h"
#include "read/metadata.h"
#include "read/reader.h"
#include "read/wanted.h"
#include "streams/visible.h"

typedef enum
{
	BEFORE_FIRST,
	ON_EVENT,
	AFTER_LAST
} Standing;

struct EsReader
{
	const EsCatalog *cat;
	Relation	log;			/* open as long as the reader, so that it stays in use (5) */
	Relation	key_index;		/* likewise, of metadata; NULL: not needed */
	EsRequest	request;
	EsConditions conditions;
	bool		places_only;	/* nothing but the place of an event is asked for */
	MemoryContext context;		/* of all that follows */
	MemoryContext source_context;	/* of what opening a source allocates */
	MemoryContext look_context; /* of what taking a head and a snapshot does */

	int64		head;			/* -1: none is needed */
	Snapshot	snapshot;
	bool		registered;		/* by the reader */
	EsRange		range;			/* what there is to read: up to the head */
	EsRows	   *rows;
	EsStream	stream;			/* of es_read_stream; key 0: there is none */
	EsShown		shown;			/* of it */

	/* where it stands */
	Standing	standing;
	int64		place;			/* of the last event; not if BEFORE_FIRST */
	int64		rank;			/* of that event, from 1; 0: there was none */
	bool		ahead_of_caller;	/* the caller has not been given it yet */
	TupleTableSlot *event;

	/* the source: index ranges from there, open or not */
	bool		open;
	bool		ahead;			/* its direction: that of the request */
	EsFilter	filter;			/* the request's, with the conditions */
	EsSelection selection;		/* of es_read_stream */
	EsWanted   *wanted;			/* unless by version or by metadata */
	EsCursor   *cursor;			/* of these; or of wanted, by entries */
	bool		by_entries;

	EsReaderFigures figures;
};

/* ---- the source ---- */

/* What is left to read in a direction from where the reader stands. */
static EsRange
range_left(const EsReader *reader, bool ahead)
{
	EsRange		range = reader->range;
	int64		again = reader->standing == AFTER_LAST ? 1 : 0; /* the last event itself */

	range.after = Max(range.after, reader->conditions.after);
	range.upto = Min(range.upto, reader->conditions.upto);
	if (!ahead)
		range.backwards = !range.backwards;
	if (reader->standing == BEFORE_FIRST)
		return range;
	if (range.backwards)
		range.upto = Min(range.upto, reader->place - 1 + again);
	else
		range.after = Max(range.after, reader->place - again);
	return range;
}

/* Do entries of the index tell all that is asked of an event? */
static bool
may_go_by_entries(const EsReader *reader)
{
	if (!reader->places_only || reader->request.key != NULL || es_rows_hide(reader->rows))
		return false;
	if (reader->request.stream.bytes != NULL)
		return reader->selection.everything && reader->shown.since == DT_NOBEGIN;
	return es_wanted_by_entries(reader->wanted);
}

/* The events of the stream, by version. */
static void
open_stream(EsReader *reader, EsRange range)
{
	reader->filter.stream.bytes = NULL;
	reader->selection = es_filter_select(&reader->filter, es_rows_upcasters(reader->rows), reader->cat,
										 reader->snapshot);
	reader->by_entries = may_go_by_entries(reader);
	range.after = Max(range.after, reader->shown.first_version - 1);
	reader->cursor = es_cursor_open(reader->cat, reader->snapshot, range, 1, reader->by_entries);
	es_cursor_add_versions(reader->cursor, reader->stream.key);
}

/* The events with the value under the key of metadata. */
static void
open_metadata(EsReader *reader, EsRange range)
{
	reader->by_entries = false;
	reader->cursor = es_cursor_open(reader->cat, reader->snapshot, range, 1, false);
	es_cursor_add_metadata(reader->cursor, RelationGetRelid(reader->key_index),
						   es_metadata_hash(reader->request.value));
}

/* Those that the filter takes. */
static void
open_wanted(EsReader *reader, EsRange range)
{
	reader->wanted = es_wanted_begin(reader->cat, &reader->filter, es_rows_upcasters(reader->rows),
									 reader->snapshot);
	reader->by_entries = may_go_by_entries(reader);
	es_wanted_read(reader->wanted, range);
	if (reader->by_entries)
		reader->cursor = es_wanted_cursor(reader->wanted);
}

static void
open_source(EsReader *reader, bool ahead)
{
	EsRange		range = range_left(reader, ahead);
	MemoryContext old = MemoryContextSwitchTo(reader->source_context);

	reader->filter = reader->request.filter;
	reader->filter.shown_types = reader->conditions.types;
	reader->filter.nshown_types = reader->conditions.ntypes;
	reader->filter.stream = reader->conditions.stream;
	if (reader->request.stream.bytes != NULL)
		open_stream(reader, range);
	else if (reader->request.key != NULL)
		open_metadata(reader, range);
	else
		open_wanted(reader, range);
	reader->open = true;
	reader->ahead = ahead;
	MemoryContextSwitchTo(old);
}

static List *
source_indexes(const EsReader *reader)
{
	if (!reader->open)
		return NIL;
	return reader->wanted != NULL ? es_wanted_indexes(reader->wanted) : es_cursor_indexes(reader->cursor);
}

static void
close_source(EsReader *reader)
{
	MemoryContext old;

	if (!reader->open)
		return;
	old = MemoryContextSwitchTo(reader->context);
	list_free(reader->figures.indexes);
	reader->figures.indexes = source_indexes(reader);
	reader->figures.by_entries = reader->by_entries;
	MemoryContextSwitchTo(old);
	if (reader->wanted != NULL)
		es_wanted_end(reader->wanted);	/* and its cursor */
	else
		es_cursor_close(reader->cursor);
	reader->wanted = NULL;
	reader->cursor = NULL;
	reader->event = NULL;
	reader->open = false;
	MemoryContextReset(reader->source_context);
}

/* Is the event to be returned, as far as the indexes that led to it do not tell? */
static bool
takes_event(EsReader *reader, TupleTableSlot *event)
{
	bool		shown;

	if (reader->request.stream.bytes != NULL && !reader->selection.everything &&
		!es_filter_takes_key(&reader->selection, es_log_number(event, ES_LOG_COL_TYPE_KEY)))
		return false;
	if (reader->request.key != NULL &&
		!es_metadata_has(event, reader->request.key, reader->request.value))
		return false;
	if (reader->request.stream.bytes != NULL)
		shown = reader->shown.since == DT_NOBEGIN ||
			es_log_number(event, ES_LOG_COL_CREATED_AT) >= reader->shown.since;
	else
		shown = es_rows_shows(reader->rows, event);
	reader->figures.hidden += !shown;
	return shown;
}

/* The source's next event, and its place; NULL: there is none. */
static TupleTableSlot *
next_of_source(EsReader *reader, int64 *place)
{
	TupleTableSlot *event;

	for (;;)
	{
		event = reader->cursor != NULL ? es_cursor_next(reader->cursor) : es_wanted_next(reader->wanted);
		if (event == NULL)
			return NULL;
		reader->figures.looked_at++;
		if (reader->by_entries || takes_event(reader, event))
			break;
	}
	*place = reader->cursor != NULL ? es_cursor_place(reader->cursor) : es_wanted_position(reader->wanted);
	return event;
}

/* ---- going on ---- */

/* Is there an end in sight, whatever the log holds? */
static bool
is_at_end(const EsReader *reader, bool ahead)
{
	if (ahead)
		return reader->standing == AFTER_LAST || reader->rank >= reader->request.max_count;
	return reader->standing == BEFORE_FIRST || reader->rank == (reader->standing == ON_EVENT ? 1 : 0);
}

/*
 * Go one event on, or back; false: there is none, and the reader stands after the last, or
 * before the first.
 */
bool
es_reader_next(EsReader *reader, bool ahead)
{
	MemoryContext old;
	TupleTableSlot *event = NULL;
	int64		place = 0;

	if (reader->ahead_of_caller)
	{
		if (!ahead)
			es_reader_restart(reader, &reader->conditions);
		reader->ahead_of_caller = false;
		return ahead;
	}
	old = MemoryContextSwitchTo(reader->context);
	if (!is_at_end(reader, ahead))
	{
		if (reader->open && reader->ahead != ahead)
			close_source(reader);
		if (!reader->open)
			open_source(reader, ahead);
		event = next_of_source(reader, &place);
	}
	if (event != NULL)
	{
		if (ahead)
			reader->rank++;
		else if (reader->standing == ON_EVENT)
			reader->rank--;
		reader->standing = ON_EVENT;
		reader->place = place;
	}
	else
	{
		if (reader->standing != (ahead ? AFTER_LAST : BEFORE_FIRST))
			close_source(reader);
		reader->standing = ahead ? AFTER_LAST : BEFORE_FIRST;
		if (!ahead)
			reader->rank = 0;
	}
	reader->event = event;
	MemoryContextSwitchTo(old);
	return event != NULL;
}

/* The position of the event that the reader stands on, or for es_read_stream its version. */
int64
es_reader_place(const EsReader *reader)
{
	return reader->place;
}

/* The event itself, unless only its place is asked for.  Valid until the reader goes on. */
TupleTableSlot *
es_reader_event(const EsReader *reader)
{
	return reader->event;
}

/* What makes rows of its events. */
EsRows *
es_reader_rows(const EsReader *reader)
{
	return reader->rows;
}

/* ---- beginning and ending ---- */

static void
begin_stream(EsReader *reader)
{
	EsStreams  *streams = es_streams_open(reader->cat, AccessShareLock, reader->snapshot);

	reader->head = -1;
	reader->range = reader->request.range;
	reader->stream.name = reader->request.stream;
	es_stream_find(streams, &reader->stream);
	es_streams_close(streams);
	if (reader->stream.key == 0)
		reader->standing = AFTER_LAST;
	else
		reader->shown = es_visible_of_stream(reader->cat, reader->snapshot, &reader->stream);
}

/* Take the head, then a snapshot. */
static void
begin_look(EsReader *reader)
{
	MemoryContext old = MemoryContextSwitchTo(reader->look_context);

	reader->head = es_head_read(reader->cat, &reader->snapshot);
	reader->registered = true;
	reader->range.upto = Min(reader->request.range.upto, reader->head);
	es_rows_open(reader->rows, reader->snapshot);
	MemoryContextSwitchTo(old);
}

static void
end_look(EsReader *reader)
{
	if (!reader->registered)
		return;
	es_rows_close(reader->rows);
	UnregisterSnapshot(reader->snapshot);
	reader->registered = false;
	MemoryContextReset(reader->look_context);
}

/* Look until there is an event, or nothing more to be waited for. */
static void
begin_positions(EsReader *reader)
{
	const EsRequest *request = &reader->request;
	int64		upto = Min(request->range.upto, reader->conditions.upto);

	reader->range = request->range;
	begin_look(reader);
	es_head_refuse_ahead(reader->cat, request->start);
	if (request->key != NULL)
		reader->key_index = index_open(es_metadata_index(reader->cat, request->key), AccessShareLock);
	if (request->deadline == 0 || request->max_count == 0)
		return;
	while (!es_reader_next(reader, true) && reader->head < upto && GetCurrentTimestamp() < request->deadline)
	{
		/* Nothing can come before this transaction's own events. */
		es_head_refuse_own(reader->head + 1);
		end_look(reader);
		reader->range.after = Max(reader->range.after, reader->head);
		es_head_wait(reader->cat, reader->head, request->deadline);
		begin_look(reader);
		reader->standing = BEFORE_FIRST;
	}
	reader->ahead_of_caller = reader->standing == ON_EVENT;
}

/*
 * Begin to read.  The snapshot is the caller's; only es_read_stream uses it, and it stays
 * registered while the reader is in use.  What is allocated goes with the current memory
 * context.
 */
EsReader *
es_reader_begin(const EsRequest *request, Snapshot snapshot, const EsConditions *conditions,
				bool places_only)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore reader",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EsReader   *reader = palloc0(sizeof(EsReader));

	es_rows_refuse_row_security(cat);
	reader->cat = cat;
	reader->log = table_open(cat->event_log, NoLock);
	reader->request = *request;
	reader->conditions = *conditions;
	reader->places_only = places_only;
	reader->context = context;
	reader->source_context = AllocSetContextCreate(context, "eventstore source", ALLOCSET_DEFAULT_SIZES);
	reader->look_context = AllocSetContextCreate(context, "eventstore look", ALLOCSET_SMALL_SIZES);
	reader->snapshot = snapshot;
	reader->rows = es_rows_begin(cat, false);
	if (request->stream.bytes != NULL)
		begin_stream(reader);
	else
		begin_positions(reader);
	MemoryContextSwitchTo(old);
	return reader;
}

/* Begin again with the same events, and perhaps other conditions. */
void
es_reader_restart(EsReader *reader, const EsConditions *conditions)
{
	close_source(reader);
	reader->conditions = *conditions;
	reader->ahead_of_caller = false;
	reader->rank = 0;
	reader->standing = reader->request.stream.bytes != NULL && reader->stream.key == 0 ?
		AFTER_LAST : BEFORE_FIRST;
}

EsReaderFigures
es_reader_figures(const EsReader *reader)
{
	EsReaderFigures figures = reader->figures;

	figures.head = reader->head;
	if (reader->open)
	{
		figures.indexes = source_indexes(reader);
		figures.by_entries = reader->by_entries;
	}
	return figures;
}

void
es_reader_end(EsReader *reader)
{
	close_source(reader);
	end_look(reader);
	if (reader->key_index != NULL)
		index_close(reader->key_index, NoLock);
	table_close(reader->log, NoLock);
	MemoryContextDelete(reader->context);
}
