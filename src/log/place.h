/*
 * place.h
 *		Where the rows of streams were seen last.
 */
#ifndef ES_PLACE_H
#define ES_PLACE_H

#include "postgres.h"

#include "core/name.h"
#include "storage/itemptr.h"

extern uint64 es_place_hash(Oid table, EsName name);
extern bool es_place_recall(uint64 hash, ItemPointer place);
extern void es_place_remember(uint64 hash, const ItemPointerData *place);
extern void es_place_init(void);

#endif							/* ES_PLACE_H */
