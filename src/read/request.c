/*
 * request.c
 *		What a call of a reading function asks for.
 *
 * One entry for each function: how its arguments are read, and whether it goes by position,
 * as all but es_read_stream do.  The SQL functions (read.c) and the scan node (event_scan.c)
 * both begin here, so that a call means the same in either.
 *
 * A request refers to its arguments, which stay where they are while it is in use.
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/jsonb.h"

#include "core/args.h"
#include "log/event.h"
#include "read/request.h"

/* A wait holds a snapshot, and so holds vacuum back. */
#define MAX_WAIT_SECONDS	60

/* The arguments after_position, backwards and up_to; -1: the function has no such. */
static void
range_arguments(FunctionCallInfo fcinfo, int after, int backwards, int up_to, EsRequest *request)
{
	EsRange		range = {0, PG_INT64_MAX, false};
	bool		bounded = up_to >= 0 && !PG_ARGISNULL(up_to);

	if (backwards >= 0)
	{
		es_arg_require(fcinfo, backwards, "backwards");
		range.backwards = PG_GETARG_BOOL(backwards);
	}
	request->start = es_arg_place(fcinfo, after, "after_position", 0);
	if (!range.backwards)
		range.after = request->start;
	else if (!PG_ARGISNULL(after))
		range.upto = request->start - 1;
	if (bounded)
	{
		int64		bound = es_arg_place(fcinfo, up_to, "up_to", 0);

		if (range.backwards)
			range.after = Max(bound, 1) - 1;
		else
			range.upto = bound;
	}
	request->range = range;
}

/* The argument wait; reading backwards there is nothing to wait for. */
static TimestampTz
wait_argument(FunctionCallInfo fcinfo, int argno, const EsRequest *request)
{
	TimestampTz deadline = es_arg_deadline(fcinfo, argno, "wait", MAX_WAIT_SECONDS);

	if (request->range.backwards && deadline != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a backwards read cannot wait")));
	return deadline;
}

/* es_read_stream(stream, from_version, max_count, backwards, types) */
static void
request_stream(FunctionCallInfo fcinfo, EsRequest *request)
{
	int64		from;

	request->max_count = es_arg_count(fcinfo, 2, "max_count");
	request->stream = es_arg_name(fcinfo, 0, "stream");
	es_arg_require(fcinfo, 3, "backwards");
	request->range = (EsRange) {0, PG_INT64_MAX, PG_GETARG_BOOL(3)};
	from = es_arg_place(fcinfo, 1, "from_version", request->range.backwards ? PG_INT64_MAX : 1);
	if (request->range.backwards)
		request->range.upto = from == PG_INT64_MAX ? from : from - 1;
	else
		request->range.after = from > 0 ? from - 1 : 0;
	request->filter.types = es_arg_name_array(fcinfo, 4, "types", &request->filter.ntypes);
}

/* es_read_all(after_position, max_count, types, categories, backwards, wait, up_to) */
static void
request_all(FunctionCallInfo fcinfo, EsRequest *request)
{
	range_arguments(fcinfo, 0, 4, 6, request);
	request->max_count = es_arg_count(fcinfo, 1, "max_count");
	request->filter.types = es_arg_name_array(fcinfo, 2, "types", &request->filter.ntypes);
	request->filter.categories = es_arg_name_array(fcinfo, 3, "categories", &request->filter.ncategories);
	request->deadline = wait_argument(fcinfo, 5, request);
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
static void
request_category(FunctionCallInfo fcinfo, EsRequest *request)
{
	request->filter.categories = palloc(sizeof(EsName));
	request->filter.categories[0] = es_arg_name(fcinfo, 0, "category");
	request->filter.ncategories = 1;
	range_arguments(fcinfo, 1, -1, -1, request);
	request->max_count = es_arg_count(fcinfo, 2, "max_count");
	group_arguments(fcinfo, 3, 6, &request->filter);
	request->deadline = wait_argument(fcinfo, 5, request);
}

/* es_query(query, after_position, max_count, wait, backwards, up_to) */
static void
request_query(FunctionCallInfo fcinfo, EsRequest *request)
{
	es_arg_require(fcinfo, 0, "query");
	request->filter.query = es_query_parse(&PG_GETARG_JSONB_P(0)->root);
	range_arguments(fcinfo, 1, 4, 5, request);
	request->max_count = es_arg_count(fcinfo, 2, "max_count");
	request->deadline = wait_argument(fcinfo, 3, request);
}

/* es_read_correlation(correlation_id, max_count, after_position, key) */
static void
request_correlation(FunctionCallInfo fcinfo, EsRequest *request)
{
	es_arg_require(fcinfo, 0, "correlation_id");
	request->value = PG_GETARG_TEXT_PP(0);
	request->max_count = es_arg_count(fcinfo, 1, "max_count");
	range_arguments(fcinfo, 2, -1, -1, request);
	es_arg_require(fcinfo, 3, "key");
	request->key = PG_GETARG_TEXT_P(3);
}

/* ---- the functions ---- */

const EsReadHow es_how_stream = {
	.arguments = request_stream, .place_column = ES_EVENT_COL_VERSION,
	.takes_types = true,
	.after = 1, .up_to = -1, .max_count = 2, .backwards = 3, .wait = -1,
	.types = 4, .categories = -1, .category = -1, .group_size = -1, .query = -1,
};

const EsReadHow es_how_all = {
	.arguments = request_all, .place_column = ES_EVENT_COL_POSITION,
	.takes_types = true, .takes_stream = true,
	.after = 0, .up_to = 6, .max_count = 1, .backwards = 4, .wait = 5,
	.types = 2, .categories = 3, .category = -1, .group_size = -1, .query = -1,
};

const EsReadHow es_how_category = {
	.arguments = request_category, .place_column = ES_EVENT_COL_POSITION,
	.takes_types = true, .takes_stream = true,
	.after = 1, .up_to = -1, .max_count = 2, .backwards = -1, .wait = 5,
	.types = -1, .categories = -1, .category = 0, .group_size = 4, .query = -1,
};

const EsReadHow es_how_query = {
	.arguments = request_query, .place_column = ES_EVENT_COL_POSITION,
	.takes_types = true,
	.after = 1, .up_to = 5, .max_count = 2, .backwards = 4, .wait = 3,
	.types = -1, .categories = -1, .category = -1, .group_size = -1, .query = 0,
};

const EsReadHow es_how_correlation = {
	.arguments = request_correlation, .place_column = ES_EVENT_COL_POSITION,
	.after = 2, .up_to = -1, .max_count = 1, .backwards = -1, .wait = -1,
	.types = -1, .categories = -1, .category = -1, .group_size = -1, .query = -1,
};
