/*
 * seal.h
 *		Whether the log may still be restored by direct INSERTs.
 */
#ifndef ES_SEAL_H
#define ES_SEAL_H

#include "core/catalog.h"
#include "utils/snapshot.h"

extern const EsCatalog *es_seal_lock_log(void);
extern bool es_seal_allows_insert(void);
extern bool es_seal_allows_restore(void);
extern bool es_seal_lock_unwritten(const EsCatalog *cat);
extern bool es_seal_is_open(const EsCatalog *cat);
extern void es_seal_refuse_unrestored(const EsCatalog *cat);
extern int64 es_seal_greatest_position(const EsCatalog *cat, Snapshot snapshot);

#endif							/* ES_SEAL_H */
