/*
 * filter.c
 *		Which events a reader wants by types and categories, and the index ranges that
 *		hold them.
 *
 * A filter takes an event by any of its names: the type that it is stored with, and those
 * that its upcasters give it, one after the other (streams/upcast.c).
 *
 * The names that a reader filters by are looked up in the dictionary with the
 * snapshot of the read: an event visible in it has its row there too.  What comes
 * out is a sorted list of type keys, each of which becomes a branch of a cursor.
 *
 * Keys of a shared bucket (dictionary.c) stand for many categories.  A category
 * that may be in one has, as a rule, few streams, for there are over a thousand
 * others: then the cursor goes over these streams, found by their names, instead
 * of the type keys.  If there are many, the bucket is read and filtered by the
 * events' streams: at most its 256th part of what lies in shared buckets.
 *
 * With more keys than MAX_BRANCHES, that is with thousands of types asked for at
 * once, the log is read in order and filtered instead.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "core/args.h"
#include "core/hash.h"
#include "core/numbers.h"
#include "log/dictionary.h"
#include "log/stream.h"
#include "read/filter.h"

/* Each branch keeps a page pinned, and some 30 kB. */
#define MAX_BRANCHES	1024

static bool
is_among(EsName name, const EsName *names, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (es_name_equal(names[i], name))
			return true;
	}
	return false;
}

/*
 * All streams of the categories, unless there are more than MAX_BRANCHES: then
 * go by type keys.
 */
static void
select_streams(EsSelection *selection, const EsFilter *filter, const EsCatalog *cat, Snapshot snapshot)
{
	selection->stream_keys = palloc(sizeof(int64) * MAX_BRANCHES);
	selection->nstream_keys = 0;
	for (int i = 0; i < filter->ncategories; i++)
	{
		int			n = es_streams_of_category(cat, snapshot, filter->categories[i],
											   selection->stream_keys + selection->nstream_keys,
											   MAX_BRANCHES - selection->nstream_keys);

		if (n < 0)
		{
			selection->nstream_keys = -1;
			return;
		}
		selection->nstream_keys += n;
	}
	/* a category asked for twice */
	selection->nstream_keys = es_numbers_unique(selection->stream_keys, selection->nstream_keys);
}

/*
 * Does the filter take events that are stored with this type and schema version?
 * "upcasts" may be NULL: there are none.
 */
bool
es_filter_takes_type(const EsFilter *filter, const EsUpcasts *upcasts, EsName type, int32 schema_version)
{
	if (filter->types != NULL &&
		!es_upcast_passes(upcasts, type, schema_version, filter->types, filter->ntypes))
		return false;
	return filter->shown_types == NULL ||
		es_upcast_passes(upcasts, type, schema_version, filter->shown_types, filter->nshown_types);
}

/* Does the filter take events of this category? */
bool
es_filter_takes_category(const EsFilter *filter, EsName category)
{
	return filter->categories == NULL || is_among(category, filter->categories, filter->ncategories);
}

/* The dictionary's entries of the wanted types, and of types that upcasters may turn into one. */
static void
add_types(const EsName *types, int ntypes, const EsUpcasts *upcasts, const EsCatalog *cat,
		  Snapshot snapshot, EsEventTypes *found)
{
	int			n = 0;
	EsName	   *sources = upcasts != NULL ? es_upcast_sources(upcasts, &n) : NULL;

	for (int i = 0; i < ntypes; i++)
		es_dictionary_of_type(cat, snapshot, types[i], found);
	for (int i = 0; i < n; i++)
		es_dictionary_of_type(cat, snapshot, sources[i], found);
}

/* The only stream that is wanted. */
static void
select_stream(EsSelection *selection, EsName name, const EsCatalog *cat, Snapshot snapshot)
{
	EsStream	stream = {.name = name};
	EsStreams  *streams = es_streams_open(cat, AccessShareLock, snapshot);

	es_stream_find(streams, &stream);
	es_streams_close(streams);
	selection->stream_keys = palloc(sizeof(int64));
	selection->stream_keys[0] = stream.key;
	selection->nstream_keys = stream.key != 0 ? 1 : 0;
}

/* The dictionary's entries that events wanted by type or category can have, and others. */
static EsEventTypes
find_types(const EsFilter *filter, const EsUpcasts *upcasts, const EsCatalog *cat, Snapshot snapshot)
{
	EsEventTypes found = {0};

	for (int i = 0; filter->categories != NULL && i < filter->ncategories; i++)
		es_dictionary_of_category(cat, snapshot, filter->categories[i], &found);
	if (filter->categories == NULL && filter->types != NULL)
		add_types(filter->types, filter->ntypes, upcasts, cat, snapshot, &found);
	else if (filter->categories == NULL)
		add_types(filter->shown_types, filter->nshown_types, upcasts, cat, snapshot, &found);
	return found;
}

/*
 * The filter against the dictionary.  "upcasts", NULL for none, are those that events are shown
 * with.
 */
EsSelection
es_filter_select(const EsFilter *filter, const EsUpcasts *upcasts, const EsCatalog *cat, Snapshot snapshot)
{
	EsSelection selection = {0};
	EsEventTypes all;
	bool		by_type = filter->types != NULL || filter->shown_types != NULL;
	bool		shared = false;

	selection.by_stream = filter->grouped;
	selection.nstream_keys = -1;
	if (!by_type && (filter->categories == NULL || filter->stream.bytes != NULL))
		selection.everything = true;
	else
	{
		all = find_types(filter, upcasts, cat, snapshot);
		selection.type_keys = palloc(sizeof(int64) * Max(all.n, 1));
		for (int i = 0; i < all.n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (!es_filter_takes_type(filter, upcasts, all.types[i].type, all.types[i].schema_version))
				continue;
			selection.type_keys[selection.ntype_keys++] = all.types[i].key;
			shared |= all.types[i].shared && filter->categories != NULL;
		}
		selection.ntype_keys = es_numbers_unique(selection.type_keys, selection.ntype_keys);
	}

	if (filter->stream.bytes != NULL)
	{
		select_stream(&selection, filter->stream, cat, snapshot);
		selection.by_stream |= filter->categories != NULL;
	}
	else if (shared)
		select_streams(&selection, filter, cat, snapshot);
	if (selection.nstream_keys >= 0)
		selection.by_key = by_type;
	else if (!selection.everything)
	{
		selection.by_key = selection.ntype_keys > MAX_BRANCHES;
		selection.by_stream |= shared;
	}
	return selection;
}

/*
 * A cursor over the selection.  Its events must still pass es_filter_takes_key if
 * by_key, and es_filter_takes_stream if by_stream.  "by_entries": only positions are wanted; not
 * with stream keys.
 */
EsCursor *
es_filter_open(const EsSelection *selection, const EsCatalog *cat,
			   Snapshot snapshot, EsRange positions, bool by_entries)
{
	EsCursor   *cursor;

	if (selection->nstream_keys >= 0)
	{
		cursor = es_cursor_open(cat, snapshot, positions, selection->nstream_keys, false);
		for (int i = 0; i < selection->nstream_keys; i++)
			es_cursor_add_stream(cursor, selection->stream_keys[i]);
	}
	else if (selection->everything || selection->by_key)
	{
		cursor = es_cursor_open(cat, snapshot, positions, 1, by_entries);
		es_cursor_add_log(cursor);
	}
	else
	{
		cursor = es_cursor_open(cat, snapshot, positions, selection->ntype_keys, by_entries);
		for (int i = 0; i < selection->ntype_keys; i++)
			es_cursor_add_type(cursor, selection->type_keys[i]);
	}
	return cursor;
}

bool
es_filter_takes_key(const EsSelection *selection, int64 type_key)
{
	return es_numbers_find(selection->type_keys, selection->ntype_keys, type_key) != NULL;
}

/* The part of a stream's name that decides which member of the group gets the stream. */
static EsName
filter_group_of(const EsFilter *filter, EsName stream)
{
	for (int i = 0; filter->group_by.bytes != NULL && i < stream.len; i += pg_mblen(stream.bytes + i))
	{
		if (stream.len - i >= filter->group_by.len &&
			memcmp(stream.bytes + i, filter->group_by.bytes, filter->group_by.len) == 0)
			stream.len = i;
	}
	return stream;
}

/*
 * The share of a consumer group's member: streams are dealt out by a hash of
 * their names, so that the events of a stream stay with one member.
 */
bool
es_filter_takes_stream(const EsFilter *filter, EsName stream)
{
	if (!es_filter_takes_category(filter, es_name_category(stream)))
		return false;
	stream = filter_group_of(filter, stream);
	if (filter->grouped &&
		es_hash_name(stream, 0) % filter->group_size != filter->group_member)
		return false;
	return true;
}

/* An argument of types or categories: a name that no event can have is an error. */
void
es_filter_check_names(FunctionCallInfo fcinfo, int argno, const char *name, const char *what)
{
	int			n;
	EsName	   *names = es_arg_name_array(fcinfo, argno, name, &n);

	for (int i = 0; i < n; i++)
	{
		/* the category of bare UUIDs */
		if (names[i].len > 0 || strcmp(what, "category") != 0)
			es_name_check(names[i], what);
	}
}
