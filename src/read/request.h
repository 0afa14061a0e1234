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

/*
 * What there is to know of a reading function.  Arguments are given by their numbers; -1: it
 * has no such.
 */
typedef struct EsReadHow
{
	EsRequestArguments arguments;
	int			place_column;	/* of es_event: its events come in the order of it */
	bool		takes_types;	/* can it use conditions on types, on streams? */
	bool		takes_stream;
	int			after;			/* the place to start from */
	int			up_to;
	int			max_count;
	int			backwards;
	int			wait;
	int			types;			/* text[] */
	int			categories;
	int			category;		/* text */
	int			group_size;
	int			query;
} EsReadHow;

extern const EsReadHow es_how_stream;
extern const EsReadHow es_how_all;
extern const EsReadHow es_how_category;
extern const EsReadHow es_how_query;
extern const EsReadHow es_how_correlation;

#endif							/* ES_REQUEST_H */
