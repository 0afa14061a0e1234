/*
 * wanted.c
 *		The events that a filter takes: by types and categories (filter.c), or by a query
 *		(query.c).
 *
 * Reads, projections and subscriptions find the events of the log here; an inline
 * projection asks for each event of an append.
 *
 * Invariant: es_wanted_takes and es_wanted_next agree on every event, for both rest on
 * the same three rules: es_filter_takes_type (there, for the entries of the dictionary
 * that the events have), es_filter_takes_category and es_query_item_bears.
 *
 * Locks: those of a read (cursor.c).
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "log/event.h"
#include "read/wanted.h"

struct EsWanted
{
	const EsCatalog *cat;
	const EsFilter *filter;
	const EsUpcasts *upcasts;	/* that events are shown with */
	Snapshot	snapshot;
	EsSelection selection;		/* without a query */
	EsCursor   *cursor;			/* NULL: not reading, or a query: */
	EsMatches  *matches;
	bool		by_entries;		/* only what indexes hold is wanted of an event */
};

/* ---- one event ---- */

static bool
query_takes(const EsQuery *query, const EsUpcasts *upcasts, const EsTraits *event)
{
	for (int i = 0; i < query->nitems; i++)
	{
		const EsQueryItem *item = &query->items[i];
		EsFilter	types = {.types = item->types, .ntypes = item->ntypes};

		if (es_filter_takes_type(&types, upcasts, event->type, event->schema_version) &&
			es_query_item_bears(item, event->tags))
			return true;
	}
	return false;
}

/*
 * Does the filter take an event that is stored with these traits?  "upcasts" may be NULL:
 * there are none.
 */
bool
es_wanted_takes(const EsFilter *filter, const EsUpcasts *upcasts, const EsTraits *event)
{
	if (filter->query != NULL)
		return query_takes(filter->query, upcasts, event);
	return es_filter_takes_type(filter, upcasts, event->type, event->schema_version) &&
		es_filter_takes_category(filter, event->category);
}

/* ---- the events of the log ---- */

/*
 * Begin to look for events, as the snapshot sees them, which stays registered meanwhile.
 * "upcasts", NULL for none, are those that the events are going to be shown with.
 */
EsWanted *
es_wanted_begin(const EsCatalog *cat, const EsFilter *filter, const EsUpcasts *upcasts, Snapshot snapshot)
{
	EsWanted   *wanted = palloc0(sizeof(EsWanted));

	wanted->cat = cat;
	wanted->filter = filter;
	wanted->upcasts = upcasts;
	wanted->snapshot = snapshot;
	if (filter->query == NULL)
		wanted->selection = es_filter_select(filter, upcasts, cat, snapshot);
	return wanted;
}

static void
stop_reading(EsWanted *wanted)
{
	if (wanted->cursor != NULL)
		es_cursor_close(wanted->cursor);
	if (wanted->matches != NULL)
		es_matches_close(wanted->matches);
	wanted->cursor = NULL;
	wanted->matches = NULL;
}

/* Go on with the events of these positions. */
void
es_wanted_read(EsWanted *wanted, EsRange positions)
{
	stop_reading(wanted);
	if (wanted->filter->query != NULL)
		wanted->matches = es_matches_open(wanted->cat, wanted->filter, wanted->upcasts, wanted->snapshot, positions);
	else
		wanted->cursor = es_filter_open(&wanted->selection, wanted->cat, wanted->snapshot, positions,
										wanted->by_entries);
}

static bool
wanted_passes(const EsWanted *wanted, TupleTableSlot *event)
{
	const EsSelection *selection = &wanted->selection;

	if (selection->by_key &&
		!es_filter_takes_key(selection, es_log_number(event, ES_LOG_COL_TYPE_KEY)))
		return false;
	return !selection->by_stream ||
		es_filter_takes_stream(wanted->filter, es_log_stream(event));
}

/*
 * The next event, or NULL.  Valid until the next call.
 */
TupleTableSlot *
es_wanted_next(EsWanted *wanted)
{
	TupleTableSlot *event;

	if (wanted->matches != NULL)
		return es_matches_next(wanted->matches);
	while ((event = es_cursor_next(wanted->cursor)) != NULL)
	{
		if (wanted_passes(wanted, event))
			return event;
	}
	return NULL;
}

/*
 * Go by the entries of indexes alone from the next es_wanted_read on, if they tell what the filter
 * asks: then es_wanted_next leaves out what else there is in an event.  False: they do not.
 */
bool
es_wanted_by_entries(EsWanted *wanted)
{
	const EsSelection *selection = &wanted->selection;

	wanted->by_entries = wanted->filter->query == NULL && !selection->by_key && !selection->by_stream &&
		selection->nstream_keys < 0;
	return wanted->by_entries;
}

/* The cursor over these entries, which may be used in place of es_wanted_next. */
EsCursor *
es_wanted_cursor(const EsWanted *wanted)
{
	Assert(wanted->by_entries);
	return wanted->cursor;
}

/* The position of the event that es_wanted_next has given. */
int64
es_wanted_position(const EsWanted *wanted)
{
	return wanted->matches != NULL ? es_matches_position(wanted->matches) : es_cursor_place(wanted->cursor);
}

/* The indexes that are gone along. */
List *
es_wanted_indexes(const EsWanted *wanted)
{
	return wanted->matches != NULL ? es_matches_indexes(wanted->matches) : es_cursor_indexes(wanted->cursor);
}

void
es_wanted_end(EsWanted *wanted)
{
	stop_reading(wanted);
	pfree(wanted);
}
