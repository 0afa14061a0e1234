/*
 * load.h
 *		The events of a stream after a kept state.
 */
#ifndef ES_LOAD_H
#define ES_LOAD_H

#include "read/batch.h"
#include "streams/snapshot.h"

extern EsBatch *es_load_events(const EsCatalog *cat, const EsStream *stream, int64 last,
							   Snapshot snapshot, EsKept *kept);

#endif							/* ES_LOAD_H */
