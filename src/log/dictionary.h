/*
 * dictionary.h
 *		The numbers that stand for category, type, schema version and content type.
 */
#ifndef ES_DICTIONARY_H
#define ES_DICTIONARY_H

#include "core/catalog.h"
#include "core/name.h"
#include "utils/snapshot.h"

/* Columns of eventstore.event_type */
#define ES_TYPE_COL_KEY				1
#define ES_TYPE_COL_CATEGORY		2
#define ES_TYPE_COL_BUCKET			3
#define ES_TYPE_COL_TYPE			4
#define ES_TYPE_COL_SCHEMA_VERSION	5
#define ES_TYPE_COL_CONTENT_TYPE	6
#define ES_TYPE_COLS				6

/* What a type key stands for. */
typedef struct EsEventType
{
	int64		key;			/* first: the hash key of caches */
	bool		shared;			/* category is one of many in this bucket */
	int32		bucket;
	EsName		category;
	EsName		type;
	int32		schema_version;
	EsName		content_type;	/* .len 0: none */
} EsEventType;

extern int64 es_dictionary_key(const EsCatalog *cat, EsName category,
							   EsName type, int32 schema_version, EsName content_type);
extern const EsEventType *es_dictionary_entry(const EsCatalog *cat, int64 key);

/* A list of entries, growing. */
typedef struct EsEventTypes
{
	int			n;
	int			capacity;
	EsEventType *types;
} EsEventTypes;

extern void es_dictionary_of_category(const EsCatalog *cat, Snapshot snapshot,
									  EsName category, EsEventTypes *found);
extern void es_dictionary_of_type(const EsCatalog *cat, Snapshot snapshot,
								  EsName type, EsEventTypes *found);
extern bool es_dictionary_has_type(const EsCatalog *cat, EsName type);
extern bool es_dictionary_is_empty(const EsCatalog *cat);

#endif							/* ES_DICTIONARY_H */
