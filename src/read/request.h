/*
 * request.h
 *		What a call of a reading function asks for.
 */
#ifndef ES_REQUEST_H
#define ES_REQUEST_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "read/filter.h"
#include "read/query.h"

typedef struct EsRequest
{
	EsName		stream;			/* of es_read_stream, which goes by version; .bytes NULL: by
								 * position */
	EsFilter	filter;
	text	   *key;			/* of metadata, instead of the filter; NULL: none */
	text	   *value;			/* under that key */
	int64		start;			/* position that the read begins after or, backwards,
								 * before; 0: not given */
	EsRange		range;			/* what is wanted, whether the head is there or not */
	int64		max_count;
	TimestampTz deadline;		/* of waiting; 0: do not wait */
} EsRequest;

/* Fills in a request, which is zero, from the arguments of a call. */
typedef void (*EsRequestArguments) (FunctionCallInfo fcinfo, EsRequest *request);

extern void es_request_stream(FunctionCallInfo fcinfo, EsRequest *request);
extern void es_request_all(FunctionCallInfo fcinfo, EsRequest *request);
extern void es_request_category(FunctionCallInfo fcinfo, EsRequest *request);
extern void es_request_query(FunctionCallInfo fcinfo, EsRequest *request);
extern void es_request_correlation(FunctionCallInfo fcinfo, EsRequest *request);

#endif							/* ES_REQUEST_H */
