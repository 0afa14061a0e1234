/*
 * read.c
 *		The SQL functions that read events, as functions: a call reads to its end.
 *
 * In FROM, as a rule, a scan node takes their place (event_scan.c).
 *
 * Locks: those of a reader (reader.c).
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "log/event.h"
#include "read/read.h"
#include "read/reader.h"

PG_FUNCTION_INFO_V1(es_read_stream);
PG_FUNCTION_INFO_V1(es_read_all);
PG_FUNCTION_INFO_V1(es_read_category);
PG_FUNCTION_INFO_V1(es_read_correlation);
PG_FUNCTION_INFO_V1(es_query);

/* The whole result of a call. */
static Datum
read_to_end(FunctionCallInfo fcinfo, const EsReadHow *how)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EsConditions none = ES_NO_CONDITIONS;
	EsRequest	request = {0};
	EsReader   *reader;

	how->arguments(fcinfo, &request);
	InitMaterializedSRF(fcinfo, 0);
	reader = es_reader_begin(&request, GetActiveSnapshot(), &none, false);
	while (es_reader_next(reader, true))
	{
		Datum		values[ES_EVENT_COLS];
		bool		isnull[ES_EVENT_COLS];

		es_rows_make(es_reader_rows(reader), es_reader_event(reader), ES_ROWS_ALL_COLUMNS, values, isnull);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	es_reader_end(reader);
	PG_RETURN_NULL();
}

/* es_read_stream(stream, from_version, max_count, backwards, types) */
Datum
es_read_stream(PG_FUNCTION_ARGS)
{
	return read_to_end(fcinfo, &es_how_stream);
}

/* es_read_all(after_position, max_count, types, categories, backwards, wait, up_to) */
Datum
es_read_all(PG_FUNCTION_ARGS)
{
	return read_to_end(fcinfo, &es_how_all);
}

/*
 * es_read_category(category, after_position, max_count, consumer_group_member,
 *					consumer_group_size, wait, group_by)
 */
Datum
es_read_category(PG_FUNCTION_ARGS)
{
	return read_to_end(fcinfo, &es_how_category);
}

/* es_query(query, after_position, max_count, wait, backwards, up_to) */
Datum
es_query(PG_FUNCTION_ARGS)
{
	return read_to_end(fcinfo, &es_how_query);
}

/* es_read_correlation(correlation_id, max_count, after_position, key) */
Datum
es_read_correlation(PG_FUNCTION_ARGS)
{
	return read_to_end(fcinfo, &es_how_correlation);
}
