/*
 * wanted.h
 *		The events that a filter takes: by types and categories, or by a query.
 */
#ifndef ES_WANTED_H
#define ES_WANTED_H

#include "read/filter.h"
#include "read/query.h"
#include "read/rows.h"

/* What decides whether a filter takes an event. */
typedef struct EsTraits
{
	EsName		type;			/* as it is stored */
	int32		schema_version;
	EsName		category;
	Datum		tags;			/* text[]; 0: none */
} EsTraits;

extern bool es_wanted_takes(const EsFilter *filter, const EsUpcasts *upcasts, const EsTraits *event);

/* Those of the log, in order. */
typedef struct EsWanted EsWanted;

extern EsWanted *es_wanted_begin(const EsCatalog *cat, const EsFilter *filter, const EsUpcasts *upcasts,
								 Snapshot snapshot);
extern void es_wanted_read(EsWanted *wanted, EsRange positions);
extern TupleTableSlot *es_wanted_next(EsWanted *wanted);
extern bool es_wanted_by_entries(EsWanted *wanted);
extern EsCursor *es_wanted_cursor(const EsWanted *wanted);
extern int64 es_wanted_position(const EsWanted *wanted);
extern List *es_wanted_indexes(const EsWanted *wanted);
extern void es_wanted_end(EsWanted *wanted);

#endif							/* ES_WANTED_H */
