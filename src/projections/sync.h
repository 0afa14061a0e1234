/*
 * sync.h
 *		Copying which projections there are, and how far they have come, to shared memory.
 */
#ifndef ES_SYNC_H
#define ES_SYNC_H

#include "core/catalog.h"

extern int	es_projections_sync(const EsCatalog *cat);

#endif							/* ES_SYNC_H */
