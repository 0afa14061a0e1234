/*
 * scavenge.h
 *		Removing the events that truncation, deletion and retention hide.
 */
#ifndef ES_SCAVENGE_H
#define ES_SCAVENGE_H

#include "core/catalog.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"

/* A pass over what is hidden, in steps. */
typedef struct EsScavenge EsScavenge;

/* Called with the positions of removed events, in the transaction that removes them. */
typedef void (*EsRemovedListener) (const int64 *positions, int n);

extern void es_scavenge_add_listener(EsRemovedListener listener);
extern EsScavenge *es_scavenge_begin(MemoryContext context);
extern bool es_scavenge_step(EsScavenge *scavenge, const EsCatalog *cat, int max_events, int64 *removed);
extern bool es_scavenge_is_complete(const EsScavenge *scavenge);
extern TimestampTz es_scavenge_again_at(const EsScavenge *scavenge);
extern void es_scavenge_end(EsScavenge *scavenge);
extern void es_scavenge_give_way(const EsCatalog *cat, Relation log, TupleTableSlot *event);
extern bool es_scavenge_is_wanted(void);
extern bool es_scavenge_lock(const EsCatalog *cat, bool wait);

#endif							/* ES_SCAVENGE_H */
