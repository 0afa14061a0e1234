/*
 * filter.h
 *		Which events a reader wants, and the index ranges that hold them.
 */
#ifndef ES_FILTER_H
#define ES_FILTER_H

#include "core/catalog.h"
#include "core/name.h"
#include "fmgr.h"
#include "read/cursor.h"
#include "streams/upcast.h"

struct EsQuery;

/* What the caller asked for; NULL arrays do not restrict. */
typedef struct EsFilter
{
	const struct EsQuery *query;	/* instead of all others; NULL: none */
	EsName	   *types;
	int			ntypes;
	EsName	   *categories;
	int			ncategories;
	bool		grouped;		/* only one member's share of the streams */
	int32		group_member;
	int32		group_size;
	EsName		group_by;		/* a character: streams alike up to it share a
								 * member; .bytes NULL: none */

	/* What the reader will leave out by himself, so that it need not be found (conditions.c). */
	EsName	   *shown_types;	/* all that is not shown with one of these types */
	int			nshown_types;
	EsName		stream;			/* all other streams; .bytes NULL: none; not with a query */
} EsFilter;

/* The filter against a snapshot of the dictionary: what a cursor goes over. */
typedef struct EsSelection
{
	bool		everything;		/* no type key is left out */
	int64	   *type_keys;		/* sorted, each once */
	int			ntype_keys;
	int64	   *stream_keys;	/* instead: all streams of the categories */
	int			nstream_keys;	/* -1: go by type keys */
	bool		by_key;			/* es_filter_takes_key is to be asked */
	bool		by_stream;		/* es_filter_takes_stream is to be asked */
} EsSelection;

extern EsSelection es_filter_select(const EsFilter *filter, const EsUpcasts *upcasts,
									const EsCatalog *cat, Snapshot snapshot);
extern EsCursor *es_filter_open(const EsSelection *selection, const EsCatalog *cat,
								Snapshot snapshot, EsRange positions, bool by_entries);
extern void es_filter_check_names(FunctionCallInfo fcinfo, int argno, const char *name,
								  const char *what);
extern bool es_filter_takes_type(const EsFilter *filter, const EsUpcasts *upcasts, EsName type,
								 int32 schema_version);
extern bool es_filter_takes_category(const EsFilter *filter, EsName category);
extern bool es_filter_takes_key(const EsSelection *selection, int64 type_key);
extern bool es_filter_takes_stream(const EsFilter *filter, EsName stream);

#endif							/* ES_FILTER_H */
