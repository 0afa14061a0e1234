/*
 * kept.h
 *		The filters that projections and subscriptions keep.
 */
#ifndef ES_KEPT_H
#define ES_KEPT_H

#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "read/filter.h"
#include "read/query.h"

extern EsFilter es_kept_arguments(FunctionCallInfo fcinfo, int types, int categories, int filter);
extern const EsQuery *es_kept_query(TupleTableSlot *row, int column);
extern void es_kept_compare(const EsFilter *existing, const EsFilter *new, List **differing);
extern void es_kept_tell_doubts(const EsCatalog *cat, const EsFilter *filter);

#endif							/* ES_KEPT_H */
