/*
 * query.h
 *		Events by types and tags, across streams.
 */
#ifndef ES_QUERY_H
#define ES_QUERY_H

#include "core/catalog.h"
#include "core/name.h"
#include "executor/tuptable.h"
#include "read/cursor.h"
#include "streams/upcast.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"

struct EsFilter;

/* Matches an event of one of the types (NULL: of any) that bears all the tags. */
typedef struct EsQueryItem
{
	EsName	   *types;
	int			ntypes;
	EsName	   *tags;
	int64	   *hashes;			/* of the tags */
	int			ntags;
} EsQueryItem;

/* Matches what any item matches. */
typedef struct EsQuery
{
	EsQueryItem *items;
	int			nitems;
} EsQuery;

extern EsQuery *es_query_parse(JsonbContainer *container);
extern EsQuery *es_query_parse_if(JsonbContainer *container);
extern bool es_query_item_bears(const EsQueryItem *item, Datum tags);

/* The matching events of a range of positions, each once, in order. */
typedef struct EsMatches EsMatches;

extern EsMatches *es_matches_open(const EsCatalog *cat, const struct EsFilter *filter, const EsUpcasts *upcasts,
								  Snapshot snapshot, EsRange positions);
extern TupleTableSlot *es_matches_next(EsMatches *matches);
extern int64 es_matches_position(const EsMatches *matches);
extern List *es_matches_indexes(const EsMatches *matches);
extern void es_matches_close(EsMatches *matches);

#endif							/* ES_QUERY_H */
