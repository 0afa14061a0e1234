/*
 * sync.h
 *		Taking in which projections there are, and how far they have come.
 */
#ifndef ES_SYNC_H
#define ES_SYNC_H

#include "core/catalog.h"

extern void es_projections_sync(const EsCatalog *cat);

#endif							/* ES_SYNC_H */
