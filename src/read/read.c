/*
 * read.c
 *		The SQL functions that read events.
 *
 * es_read_stream gives what the caller's snapshot sees, the caller's own
 * uncommitted events included.  All others read by position: they take the head,
 * then a snapshot, then the events up to the head (log/head.c), so that a
 * consumer who remembers the last position can never miss an event.
 *
 * Invariant: a read by position never returns an event above the head that it
 * took, and takes the head again for every look while it waits.
 *
 * Locks: AccessShare on event_log, held to the end of the transaction, and on
 * the tables and indexes read.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/args.h"
#include "log/event.h"
#include "log/head.h"
#include "log/registry.h"
#include "read/metadata.h"
#include "read/wanted.h"
#include "streams/visible.h"

PG_FUNCTION_INFO_V1(es_read_stream);
PG_FUNCTION_INFO_V1(es_read_all);
PG_FUNCTION_INFO_V1(es_read_category);
PG_FUNCTION_INFO_V1(es_read_correlation);
PG_FUNCTION_INFO_V1(es_query);

/* A wait holds a snapshot, and so holds vacuum back. */
#define MAX_WAIT_SECONDS	60

/* A read by position. */
typedef struct EsRead
{
	const EsCatalog *cat;
	EsRows	   *rows;
	EsFilter	filter;
	text	   *key;			/* of metadata, instead of the filter; NULL: none */
	text	   *value;			/* under that key */
	int64		start;			/* position that the read begins after or, backwards,
								 * before; 0: not given */
	EsRange		range;			/* what is wanted, whether the head is there or not */
	int64		max_count;
	TimestampTz deadline;		/* of waiting; 0: do not wait */
} EsRead;

/* Return an event if it is shown: 1, else 0. */
static int
put_shown(EsRead *read, TupleTableSlot *event)
{
	if (!es_rows_shows(read->rows, event))
		return 0;
	es_rows_put(read->rows, event);
	return 1;
}

/* Return the events that the filter takes; how many there were. */
static int64
read_wanted(EsRead *read, EsRange range, Snapshot snapshot)
{
	EsWanted   *wanted = es_wanted_begin(read->cat, &read->filter, snapshot);
	TupleTableSlot *event;
	int64		count = 0;

	es_wanted_read(wanted, range);
	while (count < read->max_count && (event = es_wanted_next(wanted)) != NULL)
		count += put_shown(read, event);
	es_wanted_end(wanted);
	return count;
}

/* The same for the events that have the value under the key of metadata. */
static int64
read_metadata(EsRead *read, EsRange range, Snapshot snapshot)
{
	EsCursor   *cursor = es_cursor_open(read->cat, snapshot, range, 1);
	TupleTableSlot *event;
	int64		count = 0;

	es_cursor_add_metadata(cursor, es_metadata_index(read->cat, read->key), es_metadata_hash(read->value));
	while (count < read->max_count && (event = es_cursor_next(cursor)) != NULL)
	{
		if (es_metadata_has(event, read->key, read->value))
			count += put_shown(read, event);
	}
	es_cursor_close(cursor);
	return count;
}

/* Look once, up to the head. */
static int64
read_look(EsRead *read, int64 head, Snapshot snapshot)
{
	EsRange		range = read->range;
	int64		count;

	range.upto = Min(range.upto, head);
	es_rows_open(read->rows, snapshot);
	count = read->key != NULL ? read_metadata(read, range, snapshot) : read_wanted(read, range, snapshot);
	es_rows_close(read->rows);
	return count;
}

/*
 * Carry out a read by position, waiting for events if it may.
 */
static void
read_positions(EsRead *read)
{
	bool		first = true;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore look",
												  ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Snapshot	snapshot;
		int64		head = es_head_read(read->cat, &snapshot);
		int64		count;

		if (first)
			es_head_refuse_ahead(read->cat, read->start);
		first = false;
		count = read_look(read, head, snapshot);
		UnregisterSnapshot(snapshot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);

		if (count > 0 || read->max_count == 0 || read->deadline == 0 ||
			head >= read->range.upto || GetCurrentTimestamp() >= read->deadline)
			break;
		/* Nothing can come before this transaction's own events. */
		es_head_refuse_own(head + 1);
		read->range.after = Max(read->range.after, head);
		es_head_wait(read->cat, head, read->deadline);
	}
	MemoryContextDelete(context);
}

/* The arguments after_position, backwards and up_to; -1: the function has no such. */
static void
range_arguments(FunctionCallInfo fcinfo, int after, int backwards, int up_to, EsRead *read)
{
	EsRange		range = {0, PG_INT64_MAX, false};
	bool		bounded = up_to >= 0 && !PG_ARGISNULL(up_to);

	if (backwards >= 0)
	{
		es_arg_require(fcinfo, backwards, "backwards");
		range.backwards = PG_GETARG_BOOL(backwards);
	}
	read->start = es_arg_place(fcinfo, after, "after_position", 0);
	if (!range.backwards)
		range.after = read->start;
	else if (!PG_ARGISNULL(after))
		range.upto = read->start - 1;
	if (bounded)
	{
		int64		bound = es_arg_place(fcinfo, up_to, "up_to", 0);

		if (range.backwards)
			range.after = Max(bound, 1) - 1;
		else
			range.upto = bound;
	}
	read->range = range;
}

/* The argument wait; reading backwards there is nothing to wait for. */
static TimestampTz
wait_argument(FunctionCallInfo fcinfo, int argno, const EsRead *read)
{
	TimestampTz deadline = es_arg_deadline(fcinfo, argno, "wait", MAX_WAIT_SECONDS);

	if (read->range.backwards && deadline != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a backwards read cannot wait")));
	return deadline;
}

/*
 * es_read_stream(stream, from_version, max_count, backwards, types)
 */
Datum
es_read_stream(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	EsStream	stream = {0};
	EsFilter	filter = {0};
	EsSelection selection;
	int64		from;
	int64		max_count = es_arg_count(fcinfo, 2, "max_count");
	EsRange		versions = {0, PG_INT64_MAX, false};
	EsShown		shown;
	EsStreams  *streams;
	EsRows	   *rows;
	EsCursor   *cursor;
	TupleTableSlot *event;
	int64		count = 0;
	Snapshot	snapshot = GetActiveSnapshot();

	stream.name = es_arg_name(fcinfo, 0, "stream");
	es_arg_require(fcinfo, 3, "backwards");
	versions.backwards = PG_GETARG_BOOL(3);
	from = es_arg_place(fcinfo, 1, "from_version", versions.backwards ? PG_INT64_MAX : 1);
	if (versions.backwards)
		versions.upto = from == PG_INT64_MAX ? from : from - 1;
	else
		versions.after = from > 0 ? from - 1 : 0;
	filter.types = es_arg_name_array(fcinfo, 4, "types", &filter.ntypes);

	rows = es_rows_begin(fcinfo, cat);
	streams = es_streams_open(cat, AccessShareLock, snapshot);
	es_stream_find(streams, &stream);
	es_streams_close(streams);
	if (stream.key == 0)
		PG_RETURN_NULL();

	selection = es_filter_select(&filter, cat, snapshot);
	shown = es_visible_of_stream(cat, snapshot, &stream);
	versions.after = Max(versions.after, shown.first_version - 1);
	cursor = es_cursor_open(cat, snapshot, versions, 1);
	es_cursor_add_versions(cursor, stream.key);
	while (count < max_count && (event = es_cursor_next(cursor)) != NULL)
	{
		if (es_log_number(event, ES_LOG_COL_CREATED_AT) < shown.since)
			continue;
		if (!selection.everything &&
			!es_filter_takes_key(&selection, es_log_number(event, ES_LOG_COL_TYPE_KEY)))
			continue;
		es_rows_put(rows, event);
		count++;
	}
	es_cursor_close(cursor);
	PG_RETURN_NULL();
}

/*
 * es_read_all(after_position, max_count, types, categories, backwards, wait, up_to)
 */
Datum
es_read_all(PG_FUNCTION_ARGS)
{
	EsRead		read = {0};

	read.cat = es_catalog_lock(AccessShareLock);
	es_registry_require();
	range_arguments(fcinfo, 0, 4, 6, &read);
	read.max_count = es_arg_count(fcinfo, 1, "max_count");
	read.filter.types = es_arg_name_array(fcinfo, 2, "types", &read.filter.ntypes);
	read.filter.categories = es_arg_name_array(fcinfo, 3, "categories", &read.filter.ncategories);
	read.deadline = wait_argument(fcinfo, 5, &read);

	read.rows = es_rows_begin(fcinfo, read.cat);
	read_positions(&read);
	PG_RETURN_NULL();
}

/* The arguments of a consumer group: member and size, both or neither; what to group by. */
static void
group_arguments(FunctionCallInfo fcinfo, int member, int group_by, EsFilter *filter)
{
	if (!PG_ARGISNULL(group_by))
	{
		filter->group_by = es_name_from_text(PG_GETARG_DATUM(group_by));
		if (filter->group_by.len == 0 || filter->group_by.len != pg_mblen(filter->group_by.bytes))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("group_by must be a single character")));
		if (PG_ARGISNULL(member) && PG_ARGISNULL(member + 1))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("group_by needs consumer_group_member and consumer_group_size")));
	}
	if (PG_ARGISNULL(member) && PG_ARGISNULL(member + 1))
		return;
	es_arg_require(fcinfo, member, "consumer_group_member");
	es_arg_require(fcinfo, member + 1, "consumer_group_size");
	filter->grouped = true;
	filter->group_member = PG_GETARG_INT32(member);
	filter->group_size = PG_GETARG_INT32(member + 1);
	if (filter->group_size < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("consumer_group_size must be at least 1")));
	if (filter->group_member < 0 || filter->group_member >= filter->group_size)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("consumer_group_member must be from 0 to consumer_group_size - 1")));
}

/*
 * es_read_category(category, after_position, max_count, consumer_group_member,
 *					consumer_group_size, wait, group_by)
 */
Datum
es_read_category(PG_FUNCTION_ARGS)
{
	EsRead		read = {0};
	EsName		category;

	read.cat = es_catalog_lock(AccessShareLock);
	es_registry_require();
	category = es_arg_name(fcinfo, 0, "category");
	read.filter.categories = &category;
	read.filter.ncategories = 1;
	range_arguments(fcinfo, 1, -1, -1, &read);
	read.max_count = es_arg_count(fcinfo, 2, "max_count");
	group_arguments(fcinfo, 3, 6, &read.filter);
	read.deadline = wait_argument(fcinfo, 5, &read);

	read.rows = es_rows_begin(fcinfo, read.cat);
	read_positions(&read);
	PG_RETURN_NULL();
}

/*
 * es_query(query, after_position, max_count, wait, backwards, up_to)
 */
Datum
es_query(PG_FUNCTION_ARGS)
{
	EsRead		read = {0};

	read.cat = es_catalog_lock(AccessShareLock);
	es_registry_require();
	es_arg_require(fcinfo, 0, "query");
	read.filter.query = es_query_parse(&PG_GETARG_JSONB_P(0)->root);
	range_arguments(fcinfo, 1, 4, 5, &read);
	read.max_count = es_arg_count(fcinfo, 2, "max_count");
	read.deadline = wait_argument(fcinfo, 3, &read);

	read.rows = es_rows_begin(fcinfo, read.cat);
	read_positions(&read);
	PG_RETURN_NULL();
}

/*
 * es_read_correlation(correlation_id, max_count, after_position, key)
 */
Datum
es_read_correlation(PG_FUNCTION_ARGS)
{
	EsRead		read = {0};

	read.cat = es_catalog_lock(AccessShareLock);
	es_registry_require();
	es_arg_require(fcinfo, 0, "correlation_id");
	read.value = PG_GETARG_TEXT_PP(0);
	read.max_count = es_arg_count(fcinfo, 1, "max_count");
	range_arguments(fcinfo, 2, -1, -1, &read);
	es_arg_require(fcinfo, 3, "key");
	read.key = PG_GETARG_TEXT_P(3);

	read.rows = es_rows_begin(fcinfo, read.cat);
	read_positions(&read);
	PG_RETURN_NULL();
}
