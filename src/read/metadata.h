/*
 * metadata.h
 *		Events by a key of their metadata.
 */
#ifndef ES_METADATA_H
#define ES_METADATA_H

#include "core/catalog.h"
#include "executor/tuptable.h"

extern Oid	es_metadata_index(const EsCatalog *cat, text *key);
extern int64 es_metadata_hash(text *value);
extern bool es_metadata_has(TupleTableSlot *event, text *key, text *value);

#endif							/* ES_METADATA_H */
