/*
 * idempotency.h
 *		The same call twice stores its events once.
 */
#ifndef ES_IDEMPOTENCY_H
#define ES_IDEMPOTENCY_H

#include "append/append.h"
#include "utils/relcache.h"

extern bool es_idempotency_is_duplicate(EsAppend *call, const EsCatalog *cat, Relation log);
extern void es_idempotency_drop_duplicates(EsAppend *call, const EsCatalog *cat, Relation log);
extern bool es_idempotency_may_repeat(const EsAppend *call, const EsCatalog *cat, Relation log);
extern void es_idempotency_resolve(Relation log, Relation id_index,
								   const EsEvent *event, ItemPointer own_tid);

#endif							/* ES_IDEMPOTENCY_H */
