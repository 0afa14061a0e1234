/*
 * query.c
 *		Events by types and tags, across streams: [{"types": […], "tags": […]}, …].
 *
 * An item with tags goes along the positions of its tags in eventstore.event_tag.
 * With several tags, these are walked together, each skipping to where the others are: the
 * rarest tag decides what the item costs.  An item without tags is a read by types, or of the
 * whole log.  The items' events are merged by position; one that several match comes
 * once.
 *
 * Reading forwards and backwards are the same code: a "place" is a position, negated when
 * reading backwards, so that places always rise.
 *
 * Invariants
 * 1. A hash only leads to an event; the event's own tags decide.
 * 2. Types are taken by the names that events are stored and shown with (filter.c).
 *
 * Locks: AccessShare on event_log, event_tag and their indexes.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/tupmacs.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "core/json.h"
#include "log/event.h"
#include "log/tags.h"
#include "read/filter.h"
#include "read/query.h"

/* Each tag, or item without any, is a scan that takes some 25 kB. */
#define MAX_ITEMS		1000
#define MAX_TAGS		1000

/* ---- parsing ---- */

#define USUAL_HINT	"A query is like [{\"types\": [\"OrderCreated\"], \"tags\": [\"order:7\"]}]; [{}] matches all."

/* Why a JSON value is no query; .message NULL: it is one, so far. */
typedef struct Refusal
{
	const char *message;
	const char *hint;
} Refusal;

static Refusal
refusal(const char *message)
{
	return (Refusal) {message, USUAL_HINT};
}

/* An array of strings; their bytes are those of the JSON value. */
static Refusal
parse_names(const JsonbValue *value, const char *what, EsName **names, int *n)
{
	*names = es_json_strings(value, n);
	if (*names == NULL)
		return refusal(psprintf("\"%s\" of a query must be an array of strings", what));
	return (Refusal) {NULL, NULL};
}

static Refusal
parse_key(const JsonbValue *key, const JsonbValue *value, EsQueryItem *item)
{
	Refusal		why;

	if (!es_json_key_is(key, "types") && !es_json_key_is(key, "tags"))
		return refusal(psprintf("unknown key \"%.*s\" in a query", key->val.string.len, key->val.string.val));
	if (value->type == jbvNull)
		return (Refusal) {NULL, NULL};
	if (es_json_key_is(key, "tags"))
		return parse_names(value, "tags", &item->tags, &item->ntags);
	why = parse_names(value, "types", &item->types, &item->ntypes);
	if (why.message == NULL && item->ntypes == 0)
		return (Refusal) {"\"types\" of a query must not be empty", "Leave the key out for events of any type."};
	return why;
}

static Refusal
parse_item(JsonbContainer *container, EsQueryItem *item)
{
	JsonbIterator *iterator = JsonbIteratorInit(container);
	Refusal		why = {NULL, NULL};
	JsonbValue	key;
	JsonbValue	value;

	(void) JsonbIteratorNext(&iterator, &key, true);	/* the object's begin */
	while (why.message == NULL && JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		why = parse_key(&key, &value, item);
	}
	if (why.message != NULL)
		return why;
	item->hashes = palloc(sizeof(int64) * Max(item->ntags, 1));
	for (int i = 0; i < item->ntags; i++)
		item->hashes[i] = es_tag_hash(item->tags[i]);
	return why;
}

static Refusal
parse_query(JsonbContainer *container, EsQuery *query)
{
	JsonbIterator *iterator = JsonbIteratorInit(container);
	JsonbValue	element;
	int			ntags = 0;

	if (!JsonContainerIsArray(container) || JsonContainerIsScalar(container))
		return refusal("a query must be a JSON array");
	if (JsonContainerSize(container) == 0)
		return refusal("a query must have at least one item");
	if (JsonContainerSize(container) > MAX_ITEMS)
		return refusal(psprintf("a query must not have more than %d items", MAX_ITEMS));
	query->items = palloc0(sizeof(EsQueryItem) * JsonContainerSize(container));
	(void) JsonbIteratorNext(&iterator, &element, true);	/* the array's begin */
	while (JsonbIteratorNext(&iterator, &element, true) == WJB_ELEM)
	{
		Refusal		why;

		if (element.type != jbvBinary || !JsonContainerIsObject(element.val.binary.data))
			return refusal("an item of a query must be a JSON object");
		why = parse_item(element.val.binary.data, &query->items[query->nitems]);
		if (why.message != NULL)
			return why;
		ntags += query->items[query->nitems++].ntags;
	}
	if (ntags > MAX_TAGS)
		return refusal(psprintf("a query must not have more than %d tags", MAX_TAGS));
	return (Refusal) {NULL, NULL};
}

/*
 * The query in a JSON value, to which it points, so that must stay.  Raises 22023 if the
 * value is no query.
 */
EsQuery *
es_query_parse(JsonbContainer *container)
{
	EsQuery    *query = palloc0(sizeof(EsQuery));
	Refusal		why = parse_query(container, query);

	if (why.message != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", why.message),
				 errhint("%s", why.hint)));
	return query;
}

/* The same; NULL if the value is no query. */
EsQuery *
es_query_parse_if(JsonbContainer *container)
{
	EsQuery    *query = palloc0(sizeof(EsQuery));

	return parse_query(container, query).message == NULL ? query : NULL;
}

/* ---- the events of one item ---- */

typedef struct Source
{
	const EsQueryItem *item;
	EsSelection selection;		/* of its types */
	EsCursor   *cursor;			/* of an item without tags; else NULL: */
	EsTagScan **tags;
	int64	   *at;				/* the place where each of them stands */
	EsLookup   *events;			/* by position */
	int64		next;			/* first place not looked at */

	TupleTableSlot *event;		/* its next event; NULL: none is left */
	int64		place;			/* of that */
} Source;

/* In Source.at: the tag has not been looked for yet. */
#define NOT_BEGUN	PG_INT64_MIN

struct EsMatches
{
	const EsCatalog *cat;
	EsRange		range;
	int64		last;			/* the last place of the range */
	int			nsources;
	Source	   *sources;
	MemoryContext per_event;
	int64		given;			/* place of the last event */
};

/* From a position to its place, and back. */
static int64
query_place(const EsMatches *matches, int64 position)
{
	return matches->range.backwards ? -position : position;
}

/* Is the tag among the elements of a text[]?  Compares in the array, without a copy. */
static bool
is_borne(EsName tag, ArrayType *tags)
{
	int			n = ArrayGetNItems(ARR_NDIM(tags), ARR_DIMS(tags));
	bits8	   *bitmap = ARR_NULLBITMAP(tags);
	char	   *element = ARR_DATA_PTR(tags);

	for (int i = 0; i < n; i++)
	{
		if (bitmap != NULL && !(bitmap[i / 8] & (1 << (i % 8))))
			continue;
		if (es_name_equal(tag, es_name_from_text(PointerGetDatum(element))))
			return true;
		element = att_addlength_pointer(element, -1, element);
		element = (char *) att_align_nominal(element, TYPALIGN_INT);
	}
	return false;
}

/* Does an event with these tags, a text[], or 0, bear all of the item's (1)? */
bool
es_query_item_bears(const EsQueryItem *item, Datum tags)
{
	ArrayType  *array;

	if (item->ntags == 0)
		return true;
	if (tags == 0)
		return false;
	array = DatumGetArrayTypeP(tags);
	for (int i = 0; i < item->ntags; i++)
	{
		if (!is_borne(item->tags[i], array))
			return false;
	}
	return true;
}

static bool
next_of_tag(const EsMatches *matches, Source *source, int tag)
{
	int64		position;

	if (!es_tag_scan_next(source->tags[tag], &position))
		return false;
	source->at[tag] = query_place(matches, position);
	return true;
}

/*
 * Bring a tag to its first place at or beyond the given one; false: there is none.  The next
 * entry is tried before a new descent of the index.
 */
static bool
reach_place(const EsMatches *matches, Source *source, int tag, int64 place)
{
	if (source->at[tag] >= place)
		return true;
	if (source->at[tag] != NOT_BEGUN)
	{
		if (!next_of_tag(matches, source, tag))
			return false;
		if (source->at[tag] >= place)
			return true;
	}
	es_tag_scan_seek(source->tags[tag], query_place(matches, place));
	return next_of_tag(matches, source, tag);
}

/*
 * The first place at or beyond source->next where all tags may be; false: nowhere.  Each
 * tag in turn is sent to where the one before it stands.
 */
static bool
meet_tags(const EsMatches *matches, Source *source)
{
	int64		place = source->next;
	int			agreed = 0;

	for (int i = 0; agreed < source->item->ntags; i = (i + 1) % source->item->ntags)
	{
		if (!reach_place(matches, source, i, place) || source->at[i] > matches->last)
			return false;
		agreed = source->at[i] == place ? agreed + 1 : 1;
		place = source->at[i];
	}
	source->next = place;
	return true;
}

static bool
source_takes(EsMatches *matches, const Source *source, TupleTableSlot *event)
{
	MemoryContext old;
	Datum		tags;
	bool		isnull;
	bool		takes;

	if (!source->selection.everything &&
		!es_filter_takes_key(&source->selection, es_log_number(event, ES_LOG_COL_TYPE_KEY)))
		return false;
	old = MemoryContextSwitchTo(matches->per_event);
	tags = slot_getattr(event, ES_LOG_COL_TAGS, &isnull);
	takes = es_query_item_bears(source->item, isnull ? 0 : tags);
	MemoryContextSwitchTo(old);
	MemoryContextReset(matches->per_event);
	return takes;
}

static TupleTableSlot *
next_by_tags(EsMatches *matches, Source *source)
{
	while (meet_tags(matches, source))
	{
		TupleTableSlot *event = es_lookup_number(source->events, query_place(matches, source->next++));

		CHECK_FOR_INTERRUPTS();
		if (event != NULL && source_takes(matches, source, event))
			return event;
	}
	return NULL;
}

static TupleTableSlot *
next_by_types(Source *source)
{
	TupleTableSlot *event;

	while ((event = es_cursor_next(source->cursor)) != NULL)
	{
		if (!source->selection.by_key ||
			es_filter_takes_key(&source->selection, es_log_number(event, ES_LOG_COL_TYPE_KEY)))
			return event;
	}
	return NULL;
}

static void
advance_source(EsMatches *matches, Source *source)
{
	source->event = source->cursor != NULL ? next_by_types(source) : next_by_tags(matches, source);
	if (source->event != NULL)
		source->place = query_place(matches, es_log_number(source->event, ES_LOG_COL_POSITION));
}

static void
open_source(EsMatches *matches, Source *source, const EsQueryItem *item, const EsFilter *among,
			const EsUpcasts *upcasts, Snapshot snapshot)
{
	EsFilter	filter = {.types = item->types, .ntypes = item->ntypes,
	.shown_types = among->shown_types, .nshown_types = among->nshown_types};

	source->item = item;
	source->selection = es_filter_select(&filter, upcasts, matches->cat, snapshot);
	if (item->ntags == 0)
	{
		source->cursor = es_filter_open(&source->selection, matches->cat, snapshot, matches->range, false);
		return;
	}
	source->tags = palloc(sizeof(EsTagScan *) * item->ntags);
	source->at = palloc(sizeof(int64) * item->ntags);
	for (int i = 0; i < item->ntags; i++)
	{
		source->tags[i] = es_tag_scan_open(matches->cat, snapshot, item->hashes[i], matches->range.backwards);
		source->at[i] = NOT_BEGUN;
	}
	source->events = es_log_lookup(matches->cat, snapshot);
	source->next = matches->range.backwards ? -matches->range.upto : matches->range.after + 1;
}

static void
close_source(Source *source)
{
	if (source->cursor != NULL)
	{
		es_cursor_close(source->cursor);
		return;
	}
	for (int i = 0; i < source->item->ntags; i++)
		es_tag_scan_close(source->tags[i]);
	es_lookup_close(source->events);
}

/* ---- all items ---- */

/*
 * The events of the positions that the filter's query matches, as the snapshot sees them,
 * which stays registered meanwhile.
 */
EsMatches *
es_matches_open(const EsCatalog *cat, const EsFilter *filter, const EsUpcasts *upcasts,
				Snapshot snapshot, EsRange positions)
{
	const EsQuery *query = filter->query;
	EsMatches  *matches = palloc0(sizeof(EsMatches));

	matches->cat = cat;
	matches->range = positions;
	matches->last = positions.backwards ? -positions.after - 1 : positions.upto;
	matches->given = PG_INT64_MIN;
	matches->per_event = AllocSetContextCreate(CurrentMemoryContext, "eventstore matching event",
											   ALLOCSET_SMALL_SIZES);
	if (positions.after >= positions.upto)
		return matches;
	matches->nsources = query->nitems;
	matches->sources = palloc0(sizeof(Source) * query->nitems);
	for (int i = 0; i < query->nitems; i++)
	{
		open_source(matches, &matches->sources[i], &query->items[i], filter, upcasts, snapshot);
		advance_source(matches, &matches->sources[i]);
	}
	return matches;
}

/*
 * The next event, or NULL.  Valid until the next call.
 */
TupleTableSlot *
es_matches_next(EsMatches *matches)
{
	Source	   *first = NULL;

	for (int i = 0; i < matches->nsources; i++)
	{
		Source	   *source = &matches->sources[i];

		while (source->event != NULL && source->place <= matches->given)
			advance_source(matches, source);
		if (source->event != NULL && (first == NULL || source->place < first->place))
			first = source;
	}
	if (first == NULL)
		return NULL;
	matches->given = first->place;
	return first->event;
}

/* The position of the event that es_matches_next has given. */
int64
es_matches_position(const EsMatches *matches)
{
	return query_place(matches, matches->given);
}

/* The indexes that are gone along. */
List *
es_matches_indexes(const EsMatches *matches)
{
	List	   *indexes = NIL;

	for (int i = 0; i < matches->nsources; i++)
	{
		const Source *source = &matches->sources[i];

		if (source->cursor != NULL)
			indexes = list_concat_unique_oid(indexes, es_cursor_indexes(source->cursor));
		else
		{
			indexes = list_append_unique_oid(indexes, matches->cat->event_tag_tag);
			indexes = list_append_unique_oid(indexes, matches->cat->event_log_position);
		}
	}
	return indexes;
}

void
es_matches_close(EsMatches *matches)
{
	for (int i = 0; i < matches->nsources; i++)
		close_source(&matches->sources[i]);
	MemoryContextDelete(matches->per_event);
	pfree(matches);
}
