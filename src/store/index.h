/*
 * index.h
 *		Whether the store's indexes have an entry for each row.
 */
#ifndef ES_INDEX_H
#define ES_INDEX_H

#include "core/catalog.h"
#include "utils/snapshot.h"

typedef void (*EsIndexProblem) (void *arg, const char *index, const char *problem);

extern void es_index_check(const EsCatalog *cat, Snapshot snapshot, EsIndexProblem problem, void *arg);

#endif							/* ES_INDEX_H */
