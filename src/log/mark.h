/*
 * mark.h
 *		The head as last recorded in a table.
 */
#ifndef ES_MARK_H
#define ES_MARK_H

#include "core/catalog.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

extern int64 es_mark_read(const EsCatalog *cat, Snapshot snapshot, pg_uuid_t *identity);
extern bool es_mark_move(const EsCatalog *cat, int64 head);

#endif							/* ES_MARK_H */
