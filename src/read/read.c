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

#include "access/genam.h"
#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/args.h"
#include "log/event.h"
#include "log/head.h"
#include "log/registry.h"
#include "read/filter.h"
#include "read/query.h"
#include "read/rows.h"
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
	const EsQuery *query;		/* instead of the filter; NULL: none */
	int64		after;			/* forwards: events beyond */
	int64		before;			/* backwards: events below */
	bool		backwards;
	bool		from_end;		/* backwards: from the head on */
	int64		max_count;
	TimestampTz deadline;		/* of waiting; 0: do not wait */
} EsRead;

/*
 * Return the events of the read up to the head; how many there were.
 */
static int64
read_up_to(EsRead *read, int64 head, Snapshot snapshot)
{
	EsSelection selection = es_filter_select(&read->filter, read->cat, snapshot);
	EsRange		range = {read->after, head, read->backwards};
	EsCursor   *cursor;
	int64		count = 0;

	if (read->backwards && !read->from_end)
		range.upto = Min(head, read->before - 1);
	cursor = es_filter_open(&selection, read->cat, snapshot, range);
	es_rows_open(read->rows, snapshot);
	while (count < read->max_count)
	{
		TupleTableSlot *event = es_cursor_next(cursor);

		if (event == NULL)
			break;
		if (selection.by_key &&
			!es_filter_takes_key(&selection, es_log_number(event, ES_LOG_COL_TYPE_KEY)))
			continue;
		if (selection.by_stream &&
			!es_filter_takes_stream(&read->filter,
									es_rows_stream_name(read->rows, es_log_number(event, ES_LOG_COL_STREAM_KEY))))
			continue;
		if (!es_rows_shows(read->rows, event))
			continue;
		es_rows_put(read->rows, event, ES_NAME_UNKNOWN);
		count++;
	}
	es_rows_close(read->rows);
	es_cursor_close(cursor);
	return count;
}

/* The same for a query. */
static int64
query_up_to(EsRead *read, int64 head, Snapshot snapshot)
{
	EsMatches  *matches = es_matches_open(read->cat, read->query, snapshot, read->after, head);
	TupleTableSlot *event;
	int64		count = 0;

	es_rows_open(read->rows, snapshot);
	while (count < read->max_count && (event = es_matches_next(matches)) != NULL)
	{
		if (!es_rows_shows(read->rows, event))
			continue;
		es_rows_put(read->rows, event, ES_NAME_UNKNOWN);
		count++;
	}
	es_rows_close(read->rows);
	es_matches_close(matches);
	return count;
}

/*
 * Carry out a read by position, waiting for events if it may.
 */
static void
read_positions(EsRead *read)
{
	bool		first = true;
	MemoryContext look = AllocSetContextCreate(CurrentMemoryContext, "eventstore look",
											   ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(look);
		Snapshot	snapshot;
		int64		head = es_head_read(read->cat, &snapshot);
		int64		count;

		if (first)
			es_head_refuse_ahead(read->cat, read->backwards ? read->before : read->after);
		first = false;
		count = read->query != NULL ? query_up_to(read, head, snapshot) :
			read_up_to(read, head, snapshot);
		UnregisterSnapshot(snapshot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(look);

		if (count > 0 || read->max_count == 0 || read->deadline == 0 ||
			GetCurrentTimestamp() >= read->deadline)
			break;
		/* Nothing can come before this transaction's own events. */
		es_head_refuse_own(head + 1);
		read->after = Max(read->after, head);
		es_head_wait(read->cat, head, read->deadline);
	}
	MemoryContextDelete(look);
}

static TimestampTz
wait_argument(FunctionCallInfo fcinfo, int argno)
{
	return es_arg_deadline(fcinfo, argno, "wait", MAX_WAIT_SECONDS);
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
		es_rows_put(rows, event, stream.name);
		count++;
	}
	es_cursor_close(cursor);
	PG_RETURN_NULL();
}

/*
 * es_read_all(after_position, max_count, types, categories, backwards, wait)
 */
Datum
es_read_all(PG_FUNCTION_ARGS)
{
	EsRead		read = {0};

	read.cat = es_catalog_lock(AccessShareLock);
	es_registry_require();
	es_arg_require(fcinfo, 4, "backwards");
	read.backwards = PG_GETARG_BOOL(4);
	read.from_end = read.backwards && PG_ARGISNULL(0);
	if (read.backwards)
		read.before = es_arg_place(fcinfo, 0, "after_position", 0);
	else
		read.after = es_arg_place(fcinfo, 0, "after_position", 0);
	read.max_count = es_arg_count(fcinfo, 1, "max_count");
	read.filter.types = es_arg_name_array(fcinfo, 2, "types", &read.filter.ntypes);
	read.filter.categories = es_arg_name_array(fcinfo, 3, "categories", &read.filter.ncategories);
	read.deadline = wait_argument(fcinfo, 5);
	if (read.backwards && read.deadline != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a backwards read cannot wait")));

	read.rows = es_rows_begin(fcinfo, read.cat);
	read_positions(&read);
	PG_RETURN_NULL();
}

/* The two arguments of a consumer group, both or neither. */
static void
group_arguments(FunctionCallInfo fcinfo, int member, EsFilter *filter)
{
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
 *					consumer_group_size, wait)
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
	read.after = es_arg_place(fcinfo, 1, "after_position", 0);
	read.max_count = es_arg_count(fcinfo, 2, "max_count");
	group_arguments(fcinfo, 3, &read.filter);
	read.deadline = wait_argument(fcinfo, 5);

	read.rows = es_rows_begin(fcinfo, read.cat);
	read_positions(&read);
	PG_RETURN_NULL();
}

/*
 * es_query(query, after_position, max_count, wait)
 */
Datum
es_query(PG_FUNCTION_ARGS)
{
	EsRead		read = {0};

	read.cat = es_catalog_lock(AccessShareLock);
	es_registry_require();
	es_arg_require(fcinfo, 0, "query");
	read.query = es_query_parse(&PG_GETARG_JSONB_P(0)->root);
	read.after = es_arg_place(fcinfo, 1, "after_position", 0);
	read.max_count = es_arg_count(fcinfo, 2, "max_count");
	read.deadline = wait_argument(fcinfo, 3);

	read.rows = es_rows_begin(fcinfo, read.cat);
	read_positions(&read);
	PG_RETURN_NULL();
}

/* Is this the event's correlation id?  The index only knows its hash. */
static bool
has_correlation(TupleTableSlot *event, text *wanted)
{
	LOCAL_FCINFO(call, 2);
	bool		isnull;
	Datum		metadata;
	Datum		found;
	bool		same;

	InitFunctionCallInfoData(*call, NULL, 2, InvalidOid, NULL, NULL);
	metadata = slot_getattr(event, ES_LOG_COL_METADATA, &isnull);
	if (isnull)
		return false;
	call->args[0].value = JsonbPGetDatum(DatumGetJsonbP(metadata));
	call->args[0].isnull = false;
	call->args[1].value = PointerGetDatum(cstring_to_text("correlation_id"));
	call->args[1].isnull = false;
	found = jsonb_object_field_text(call);
	same = !call->isnull && DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID,
												found, PointerGetDatum(wanted)));
	pfree(DatumGetPointer(call->args[1].value));
	if (!call->isnull)
		pfree(DatumGetPointer(found));
	if (call->args[0].value != metadata)
		pfree(DatumGetPointer(call->args[0].value));
	return same;
}

/*
 * es_read_correlation(correlation_id, max_count)
 */
Datum
es_read_correlation(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	EsRange		range = {0, 0, false};
	text	   *wanted;
	int64		max_count;
	Snapshot	snapshot;
	EsRows	   *rows;
	EsCursor   *cursor;
	TupleTableSlot *event;
	int64		count = 0;

	es_registry_require();
	es_arg_require(fcinfo, 0, "correlation_id");
	wanted = PG_GETARG_TEXT_PP(0);
	max_count = es_arg_count(fcinfo, 1, "max_count");

	rows = es_rows_begin(fcinfo, cat);
	range.upto = es_head_read(cat, &snapshot);
	cursor = es_cursor_open(cat, snapshot, range, 1);
	es_cursor_add_correlation(cursor,
							  DatumGetInt64(DirectFunctionCall2Coll(hashtextextended, C_COLLATION_OID,
																	PointerGetDatum(wanted),
																	Int64GetDatum(0))));
	es_rows_open(rows, snapshot);
	while (count < max_count && (event = es_cursor_next(cursor)) != NULL)
	{
		if (!has_correlation(event, wanted) || !es_rows_shows(rows, event))
			continue;
		es_rows_put(rows, event, ES_NAME_UNKNOWN);
		count++;
	}
	es_rows_close(rows);
	es_cursor_close(cursor);
	UnregisterSnapshot(snapshot);
	PG_RETURN_NULL();
}
